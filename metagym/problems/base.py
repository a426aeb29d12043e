"""ProblemFamily: a distribution over functions to minimise, as array programs.

The contract is small on purpose. A task is data (named arrays with a leading axis n), and the
methods are pure: they read the task, never the object's history.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from metagym.core.task import Task


class ProblemFamily(ABC):
    """A family of functions f: R^d -> R, drawn per episode and evaluated in batches.

    Attributes:
        dim: d, the number of parameters.
        stochastic: True where ``value_and_grad`` with a generator sees a minibatch; rewards and
            scores then use ``value``, the full loss.
    """

    dim: int
    stochastic: bool = False

    @abstractmethod
    def sample(self, rng: np.random.Generator, n: int, split: str) -> Task:
        """Draw n tasks of ``split`` ("train", "validation" or "test"): arrays [n, ...]."""

    @abstractmethod
    def value_and_grad(
        self, task: Task, x: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """f [n] and its gradient [n, d] at x [n, d], in the dtype of x and the task.

        Args:
            task: n tasks.
            x: one point per task.
            rng: draws the minibatch of a stochastic family; None means the full loss.
        """

    def value(self, task: Task, x: np.ndarray) -> np.ndarray:
        """The full loss [n] at x [n, d]."""
        return self.value_and_grad(task, x)[0]

    def initial(self, task: Task, rng: np.random.Generator) -> np.ndarray:
        """Starting points [n, d]; standard normal unless a family says otherwise."""
        return rng.standard_normal((len(next(iter(task.values()))), self.dim))

    def lower(self, task: Task) -> np.ndarray:
        """A lower bound [n] of f, so that log(f - lower + eps) is defined; 0 by default."""
        return np.zeros(len(next(iter(task.values()))))
