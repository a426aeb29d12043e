"""Searches on a table: the methods, and the loop that nasbench201.py and digits201.py share.

A search sees validation rewards and pays simulated seconds; reported is the test accuracy of the
best architecture by validation. ``tune`` prints validation rewards of the methods' settings, in
other runs than those of the tables, by which the settings below were chosen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

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
from metagym.architectures import Evaluator
from metagym.evaluation.statistics import estimate

Factory = Callable[[], Searcher]
PUBLISHED: dict[str, Factory] = {
    "random search": RandomSearch,
    "REA": partial(RegularizedEvolution, 10, 3),
    "REINFORCE": ReinforceLogits,
}
METHODS: dict[str, Factory] = PUBLISHED | {
    "local search": LocalSearch,
    "REINFORCE, ranks": partial(ReinforceLogits, 0.1, advantage="rank"),
    "randomised values": RandomizedValues,
    "- without pairs": partial(RandomizedValues, pairs=0.0),
    "- without sampling": partial(RandomizedValues, sampled=False),
}
SETTINGS: dict[str, Factory] = {
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


class Row(NamedTuple):
    """The searches of one method; duplicates cost nothing where they are ``free``."""

    method: str
    free: bool
    history: SearchHistory
    seconds: float  # of this machine

    @property
    def duplicates(self) -> str:
        """What became of them, in a word."""
        return "free" if self.free else "charged"


def rows(
    methods: Iterable[str], table: Evaluator, seconds: float, runs: int, seed: int
) -> Iterator[Row]:
    """Every method with duplicates charged, then with free ones, within simulated ``seconds``."""
    for free in (False, True):
        for name in methods:
            if free and name.startswith("-"):
                continue  # without sampling it goes on among free duplicates for very long
            start = time.perf_counter()
            history = run(METHODS[name], table, seconds, runs, seed, free)
            yield Row(name, free, history, time.perf_counter() - start)


def run(
    make: Factory, table: Evaluator, seconds: float, runs: int, seed: int, free: bool = False
) -> SearchHistory:
    """The searches of one method on one table."""
    return search(
        make(), table, np.random.default_rng(seed),
        budget_seconds=seconds, runs=runs, free_duplicates=free,
    )  # fmt: skip


def tune(table: Evaluator, budgets: tuple[int, ...], runs: int, seed: int) -> None:
    """Validation rewards of settings, in runs of their own; test scores are not looked at."""
    print(f"Validation accuracy of the best, {runs} runs, duplicates charged.")
    for name, make in SETTINGS.items():
        history = run(make, table, max(budgets), runs, seed + 1)
        found = (f"{budget:,} s: {describe(history.at(budget).reward)}" for budget in budgets)
        print(f"{name}: {', '.join(found)}", flush=True)


def describe(scores: np.ndarray) -> str:
    """Mean, standard deviation and interval of the mean, in percent."""
    mean, low, high = (100 * value for value in estimate(scores))
    return f"{mean:.2f}±{100 * scores.std():.2f} [{low:.2f}, {high:.2f}]"


def markdown(cells: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"
