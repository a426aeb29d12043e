"""Evaluator: how good an architecture is, and what it costs to find out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from metagym.architectures.space import SearchSpace


class Evaluation(NamedTuple):
    """What is known of B architectures after they were evaluated; all float64 [B].

    Attributes:
        reward: what a search maximises, from validation data only; higher is better.
        test: the test score in the same direction; NaN where there is none.
        cost: seconds that the evaluation stands for (of training, not of a table's lookup).
    """

    reward: np.ndarray
    test: np.ndarray
    cost: np.ndarray


class Evaluator(ABC):
    """Scores complete architectures of one space.

    Attributes:
        name: of the evaluator.
        space: whose architectures it scores.
        reward_name: what ``Evaluation.reward`` is, in words.
        test_name: what ``Evaluation.test`` is, in words; None if there is no such thing.
        optimum: the highest ``test`` there is, or None where nobody knows.
        tabular: whether evaluations are looked up and take no time.
    """

    name: str
    space: SearchSpace
    reward_name: str = "validation accuracy"
    test_name: str | None = "test accuracy"
    optimum: float | None = None
    tabular: bool = False

    @abstractmethod
    def evaluate(self, tokens: np.ndarray, seeds: np.ndarray | None = None) -> Evaluation:
        """Evaluate architectures [B, length].

        ``seeds``, whole numbers [B], choose among repeated trainings, as luck does for one who
        trains once; None: their mean.
        """

    def close(self) -> None:  # noqa: B027
        """End the workers that train children; a table has none."""
