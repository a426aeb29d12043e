"""The table of experiments/nasbench201.py on the benchmark that is part of the package.

    python experiments/digits201.py
    python experiments/digits201.py --tune

A search sees the validation accuracy of one training on scikit-learn's digits and pays the seconds
that it is charged; reported is the mean test accuracy of the best architecture by validation. The
methods have the settings of NAS-Bench-201: nothing is tuned here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from metagym.architectures.digits201 import Digits201
from tabular_search import METHODS, Row, describe, markdown, rows, tune

ARCHITECTURES = (110, 180)  # that a random search can pay for, as on NAS-Bench-201


@dataclass(frozen=True)
class Config:
    """The evaluation.

    Args:
        out: folder for results.json.
        methods: a selection; all by default.
        runs: searches of each method.
        seed: of all of them.
        tune: print validation accuracies of settings, and nothing else.
    """

    out: Path = Path("results/digits201_search")
    methods: tuple[str, ...] = tuple(METHODS)
    runs: int = 500
    seed: int = 0
    tune: bool = False


def main(config: Config) -> None:
    """Search, print; write results.json."""
    table = Digits201()
    average = table.table.cost()[table.table.rows].mean()
    budgets = tuple(round(average * count) for count in ARCHITECTURES)
    if config.tune:
        tune(table, budgets, config.runs, config.seed)
        return
    print(
        f"Test accuracy of the best by validation, {config.runs} runs: mean±standard deviation "
        f"[95 % interval of the mean]. The best there is: {100 * table.optimum:.2f}."
    )
    head = (
        "method", "duplicates", *(f"test, {budget} s" for budget in budgets),
        f"below the best, {budgets[-1]} s", f"validation, {budgets[-1]} s", "architectures",
        "wall seconds",
    )  # fmt: skip
    print(f"{markdown(head)}\n{markdown('---' for _ in head)}")
    records = [
        report(row, budgets, table.optimum)
        for row in rows(config.methods, table, budgets[-1], config.runs, config.seed)
    ]
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "results.json").write_text(json.dumps(records))
    print(f"Written to {config.out}.")


def report(row: Row, budgets: tuple[int, ...], optimum: float) -> dict[str, Any]:
    """Print what the searches found, and return it."""
    found = {budget: row.history.at(budget) for budget in budgets}
    last = found[budgets[-1]]
    cells = (
        row.method, row.duplicates, *(describe(found[budget].test) for budget in budgets),
        describe(optimum - last.test), describe(last.reward),
        f"{row.history.evaluations[-1].mean():.0f}", f"{row.seconds:.1f}",
    )  # fmt: skip
    print(markdown(cells), flush=True)
    return {
        "method": row.method, "free_duplicates": row.free, "wall_seconds": row.seconds,
        "test": {budget: found[budget].test.tolist() for budget in budgets},
        "validation": {budget: found[budget].reward.tolist() for budget in budgets},
    }  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
