"""NAS-Bench-201: what a budget of 12,000 and of 20,000 simulated seconds finds.

    python experiments/nasbench201.py --folder DATA
    python experiments/nasbench201.py --folder DATA --tune

A search sees the validation accuracy on CIFAR-10 after 12 epochs and pays what that training
took; reported is the test accuracy, after 200 epochs, of the best architecture by validation.
Beside our numbers stand those that were computed on the same table before this project, and those
of the paper. CIFAR-100's column is transferred: the search saw CIFAR-10 only.

``--tune`` prints validation accuracies of the methods' settings, in other runs than those of the
table; the settings were chosen by them. Test accuracies play no part in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from metagym.architectures.nasbench201 import NASBench201
from tabular_search import METHODS, PUBLISHED, Row, describe, markdown, rows, tune

BUDGETS = (12_000, 20_000)
# Test accuracies that were computed on this table before, with duplicates charged: CIFAR-10 at
# both budgets, CIFAR-100 at the first. Then CIFAR-10 at 12,000 s in Dong & Yang (2020), as
# remembered.
KNOWN: dict[str, tuple[str, str, str, str]] = {
    "random search": ("(93.76±.35)", "(93.90±.25)", "(71.21±1.01)", "93.70±.36"),
    "REA": ("(93.93±.40)", "(94.08±.27)", "(71.86±1.19)", "93.92±.30"),
    "REINFORCE": ("(93.80±.32)", "(93.92±.25)", "(71.34±1.02)", "93.85±.37"),
    "local search": ("", "(94.27±.21)", "", ""),
}


@dataclass(frozen=True)
class Config:
    """The evaluation.

    Args:
        folder: of the table's files; None: the folder that METAGYM_DATA names.
        out: folder for results.json.
        methods: a selection; all by default.
        runs: searches of each method.
        seed: of all of them.
        tune: print validation accuracies of settings, and nothing else.
    """

    folder: Path | None = None
    out: Path = Path("results/nasbench201")
    methods: tuple[str, ...] = tuple(METHODS)
    runs: int = 500
    seed: int = 0
    tune: bool = False


def main(config: Config) -> None:
    """Search, print; write results.json."""
    tables = [NASBench201(config.folder, dataset) for dataset in ("cifar10", "cifar100")]
    if config.tune:
        tune(tables[0], BUDGETS, config.runs, config.seed)
        return
    best = [100 * table.arrays()[table.dataset].max() for table in tables]
    print(
        f"Test accuracy of the best by validation, {config.runs} runs: mean±standard deviation "
        "[95 % interval of the mean] (computed before on the same table). The best there is: "
        f"{best[0]:.2f}, CIFAR-100 {best[1]:.2f}."
    )
    head = (
        "method", "duplicates", *(f"CIFAR-10, {budget:,} s" for budget in BUDGETS),
        f"CIFAR-100 (transferred), {BUDGETS[0]:,} s", "paper (from memory), 12,000 s",
        f"validation, {BUDGETS[-1]:,} s", "architectures", "wall seconds",
    )  # fmt: skip
    print(f"{markdown(head)}\n{markdown('---' for _ in head)}")
    records, wall = [], 0.0
    for row in rows(config.methods, tables[0], BUDGETS[-1], config.runs, config.seed):
        records.append(report(row, tables))
        wall += row.seconds * (row.method in PUBLISHED and not row.free)
    print(f"The published methods, {config.runs} runs each, took {wall:.1f} s on this machine.")
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "results.json").write_text(json.dumps(records))
    print(f"Written to {config.out}.")


def report(row: Row, tables: list[NASBench201]) -> dict[str, Any]:
    """Print what the searches on CIFAR-10 found on both data sets, and return it."""
    found = {budget: row.history.at(budget) for budget in BUDGETS}
    transferred = {budget: tables[1].evaluate(found[budget].best).test for budget in BUDGETS}
    tests = [*(found[budget].test for budget in BUDGETS), transferred[BUDGETS[0]]]
    *before, paper = ("",) * 4 if row.free else KNOWN.get(row.method, ("",) * 4)
    cells = (
        row.method, row.duplicates,
        *(f"{describe(test)} {known}" for test, known in zip(tests, before, strict=True)),
        paper, describe(found[BUDGETS[-1]].reward),
        f"{row.history.evaluations[-1].mean():.0f}", f"{row.seconds:.1f}",
    )  # fmt: skip
    print(markdown(cells), flush=True)
    return {
        "method": row.method, "free_duplicates": row.free, "wall_seconds": row.seconds,
        "cifar10": {budget: found[budget].test.tolist() for budget in BUDGETS},
        "validation": {budget: found[budget].reward.tolist() for budget in BUDGETS},
        "cifar100_transferred": {budget: transferred[budget].tolist() for budget in BUDGETS},
    }  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
