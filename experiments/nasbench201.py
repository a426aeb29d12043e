"""NAS-Bench-201: what a budget of 12,000 and of 20,000 simulated seconds finds.

    python experiments/nasbench201.py --folder DATA
    python experiments/nasbench201.py --folder DATA --tune

A search sees the validation accuracy on CIFAR-10 after 12 epochs and pays what that training
took; reported is the test accuracy, after 200 epochs, of the best architecture by validation.
Beside our numbers stand those that were computed on the same table before this project, and those
of the paper. CIFAR-100's column is transferred: the search saw CIFAR-10 only.

``--tune`` prints validation accuracies of the methods' settings, in other runs than those of the
table; the settings below were chosen by them. Test accuracies play no part in it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro

from metagym.agents.architecture_search import (
    LocalSearch,
    RandomSearch,
    RegularizedEvolution,
    ReinforceLogits,
    Searcher,
    SearchHistory,
    search,
)
from metagym.agents.randomized_values import RandomizedValues
from metagym.architectures.nasbench201 import NASBench201
from metagym.evaluation.statistics import estimate

BUDGETS = (12_000, 20_000)


class Method(NamedTuple):
    """A row of the table.

    Attributes:
        make: the searcher.
        before: the test accuracies on this table that were computed before, of the columns; ""
            for none.
        paper: the test accuracy on CIFAR-10 at 12,000 s in Dong & Yang (2020), as remembered.
    """

    make: Callable[[], Searcher]
    before: tuple[str, str, str] = ("", "", "")
    paper: str = ""


PUBLISHED = {
    "random search": Method(
        RandomSearch, ("(93.76±.35)", "(93.90±.25)", "(71.21±1.01)"), "93.70±.36"
    ),
    "REA": Method(
        partial(RegularizedEvolution, 10, 3),
        ("(93.93±.40)", "(94.08±.27)", "(71.86±1.19)"),
        "93.92±.30",
    ),
    "REINFORCE": Method(
        ReinforceLogits, ("(93.80±.32)", "(93.92±.25)", "(71.34±1.02)"), "93.85±.37"
    ),
}
METHODS = PUBLISHED | {
    "local search": Method(LocalSearch, ("", "(94.27±.21)", "")),
    "REINFORCE, ranks": Method(partial(ReinforceLogits, 0.1, advantage="rank")),
    "randomised values": Method(RandomizedValues),
    "- without pairs": Method(partial(RandomizedValues, pairs=0.0)),
    "- without sampling": Method(partial(RandomizedValues, sampled=False)),
}
SETTINGS: dict[str, Callable[[], Searcher]] = {
    **{
        f"REINFORCE, ranks, learning rate {rate}": partial(ReinforceLogits, rate, advantage="rank")
        for rate in (0.01, 0.03, 0.1, 0.3)
    },
    **{
        f"randomised values, noise {noise}, pairs {pairs}": partial(RandomizedValues, noise, pairs)
        for noise in (0.02, 0.05, 0.1, 0.2, 0.4)
        for pairs in (0.2, 0.5, 1.0)
    },
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
    if config.tune:
        tune(config)
        return
    tables = [NASBench201(config.folder, dataset) for dataset in ("cifar10", "cifar100")]
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
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    rows = []
    for free in (False, True):
        for name in config.methods:
            if free and name.startswith("-"):
                continue  # without sampling it goes on among free duplicates for very long
            rows.append(compare(name, free, tables, config))
            print(f"| {' | '.join(rows[-1].pop('cells'))} |", flush=True)
    published = [row for row in rows if row["method"] in PUBLISHED and not row["free_duplicates"]]
    wall = sum(row["wall_seconds"] for row in published)
    print(f"The published methods, {config.runs} runs each, took {wall:.1f} s on this machine.")
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "results.json").write_text(json.dumps(rows))
    print(f"Written to {config.out}.")


def compare(name: str, free: bool, tables: list[NASBench201], config: Config) -> dict[str, Any]:
    """One row: the searches on CIFAR-10, and what they found on both data sets."""
    method = METHODS[name]
    start = time.perf_counter()
    history = run(method.make(), tables[0], free, config.runs, config.seed)
    wall = time.perf_counter() - start
    found = {budget: history.at(budget) for budget in BUDGETS}
    transferred = {budget: tables[1].evaluate(found[budget].best).test for budget in BUDGETS}
    tests = [*(found[budget].test for budget in BUDGETS), transferred[BUDGETS[0]]]
    # What is known from before was computed with duplicates charged.
    before = ("", "", "") if free else method.before
    cells = (
        name, "free" if free else "charged",
        *(f"{describe(test)} {known}" for test, known in zip(tests, before, strict=True)),
        "" if free else method.paper, describe(found[BUDGETS[-1]].reward),
        f"{history.evaluations[-1].mean():.0f}", f"{wall:.1f}",
    )  # fmt: skip
    return {
        "method": name, "free_duplicates": free, "wall_seconds": wall, "cells": cells,
        "cifar10": {budget: found[budget].test.tolist() for budget in BUDGETS},
        "validation": {budget: found[budget].reward.tolist() for budget in BUDGETS},
        "cifar100_transferred": {budget: transferred[budget].tolist() for budget in BUDGETS},
    }  # fmt: skip


def tune(config: Config) -> None:
    """Validation accuracy of settings, in runs of their own; test accuracies are not looked at."""
    table = NASBench201(config.folder)
    print(f"Validation accuracy of the best, {config.runs} runs, duplicates charged.")
    for name, make in SETTINGS.items():
        history = run(make(), table, False, config.runs, config.seed + 1)
        found = (f"{budget:,} s: {describe(history.at(budget).reward)}" for budget in BUDGETS)
        print(f"{name}: {', '.join(found)}", flush=True)


def run(searcher: Searcher, table: NASBench201, free: bool, runs: int, seed: int) -> SearchHistory:
    """The searches of one method on one table."""
    return search(
        searcher, table, np.random.default_rng(seed),
        budget_seconds=BUDGETS[-1], runs=runs, free_duplicates=free,
    )  # fmt: skip


def describe(scores: np.ndarray) -> str:
    """Mean, standard deviation and interval of the mean, in percent."""
    mean, low, high = (100 * value for value in estimate(scores))
    return f"{mean:.2f}±{100 * scores.std():.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
