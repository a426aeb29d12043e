"""What the two search environments share: luck and meanings by split, and how rare a score is."""

from __future__ import annotations

import numpy as np

from metagym.architectures.evaluator import Evaluator
from metagym.core.task import SPLITS
from metagym.errors import InvalidArgumentError

SEEDS = 2**31  # how many different trainings tasks tell apart
REFERENCE = 10_000  # random architectures that rarity is counted in
SMALLEST = 4  # a vocabulary whose orders fill all splits
_ORDERS = {"train": (0, 1, 2, 3), "validation": (4,), "test": (5,)}  # by remainder


def draw_seeds(rng: np.random.Generator, n: int, split: str) -> np.ndarray:
    """Seeds [n] of trainings; each split has those with one remainder of 3.

    A table of three trainings, which takes seeds modulo 3, has a training for each split.
    """
    return len(SPLITS) * rng.integers(SEEDS // len(SPLITS), size=n) + SPLITS.index(split)


def draw_orders(rng: np.random.Generator, n: int, size: int, split: str) -> np.ndarray:
    """Random orders [n, size] of 0 … size - 1; no order is in two splits.

    The split of an order p is told by the remainder of the sum of i · p[i] by 6: 0 to 3 train, 4
    validates, 5 tests.
    """
    orders = np.tile(np.arange(size), (n, 1))
    missing = np.arange(n)
    while len(missing):
        orders[missing] = rng.permuted(orders[missing], axis=1)
        remainder = (orders[missing] @ np.arange(size)) % 6
        missing = missing[~np.isin(remainder, _ORDERS[split])]
    return orders


class Rarity:
    """log10 of how many random architectures it takes to find one that scores as high.

    Args:
        evaluator: whose random architectures are counted, once, with random luck.

    Raises:
        InvalidArgumentError: the evaluator is no table.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        if not evaluator.tabular:
            raise InvalidArgumentError(
                f"reward='rarity' needs a table to count in; the evaluator {evaluator.name!r} "
                "trains. Choose another reward."
            )
        rng = np.random.default_rng(0)
        tokens = evaluator.space.sample(rng, REFERENCE)
        found = evaluator.evaluate(tokens, rng.integers(SEEDS, size=REFERENCE))
        self._reference = np.sort(found.reward)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Of validation scores [B]."""
        worse = np.searchsorted(self._reference, scores)
        return np.asarray(np.log10((REFERENCE + 1) / (REFERENCE - worse + 1)))
