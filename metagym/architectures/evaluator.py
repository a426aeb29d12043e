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
        optimum: the highest expected ``test`` there is, or None where nobody knows.
    """

    name: str
    space: SearchSpace
    optimum: float | None = None

    @abstractmethod
    def evaluate(self, tokens: np.ndarray, rng: np.random.Generator | None = None) -> Evaluation:
        """Evaluate architectures [B, length].

        ``rng`` chooses among repeated trainings where a table holds several; None: their mean.
        """
