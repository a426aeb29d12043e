"""The first half of every linear objective: Σ_m a_m L(X^m, y^m, w^m), its value and gradient.

L is the mean over a task's examples, so that sizes of tasks do not decide, or on request the sum.
The loss of an example is (y - w·x - b)², or log(1 + exp(-s (w·x + b))) with s = ±1.

Features are centred within each task. As intercepts are not penalised this changes no solution,
but it makes problems better conditioned, and it removes the intercept from squared error.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from metagym.baselines.multitask.stacked import Stacked
from metagym.baselines.transfer.base import check_weights
from metagym.errors import InvalidArgumentError, check_bool, check_choice

REDUCTIONS = ("mean", "sum")


class TaskLosses:
    """Σ_m a_m L(X^m, y^m, w^m) as a function of parameters [M, width].

    The first ``features`` columns of the parameters are the weights w^m, which regularisers see.
    With the logistic loss and an intercept there is one column more, for it.

    Args:
        data: of all tasks; ``y`` is [n] values, or -1 and 1.
        kind: "squared" or "logistic".
        reduction: "mean" or "sum" over the examples of a task.
        task_weights: a_m [M]; None: 1 for all.
        fit_intercept: whether there are intercepts.

    Attributes:
        tasks: M.
        features: d.
        width: of the parameters.
        quadratic: whether the losses are squared errors.

    Raises:
        InvalidArgumentError: another reduction, or weights that are negative or not M.
        DataError: a weight that is not a finite number.
    """

    def __init__(
        self,
        data: Stacked,
        kind: str,
        *,
        reduction: str = "mean",
        task_weights: Sequence[float] | None = None,
        fit_intercept: bool = True,
    ) -> None:
        check_choice("reduction", reduction, REDUCTIONS)
        check_bool("fit_intercept", fit_intercept)
        self.tasks, self.features = len(data.names), data.X.shape[1]
        self.quadratic = check_choice("kind", kind, ("squared", "logistic")) == "squared"
        counts = np.bincount(data.task, minlength=self.tasks)
        weights = np.ones(self.tasks)
        if task_weights is not None:
            if np.shape(task_weights) != (self.tasks,):
                raise InvalidArgumentError(
                    f"task_weights of shape {np.shape(task_weights)} has to hold one number for "
                    f"each of {self.tasks} tasks."
                )
            weights = check_weights("task_weights", task_weights, self.tasks)
        self._factors = (weights / counts if reduction == "mean" else weights)[data.task]  # [n]
        self._task = data.task
        self._starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self._x_mean = np.zeros((self.tasks, self.features))
        self._y_mean = np.zeros(self.tasks)
        self._x, self._y = data.X, np.asarray(data.y, dtype=np.float64)
        if fit_intercept:
            self._x_mean = self._sums(self._x) / counts[:, None]
            self._x = self._x - self._x_mean[self._task]
            if self.quadratic:
                self._y_mean = self._sums(self._y) / counts
                self._y = self._y - self._y_mean[self._task]
            else:
                self._x = np.column_stack([self._x, np.ones(len(self._x))])
        self.width = self._x.shape[1]

    def value_and_gradient(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """The sum over tasks, and its gradient [M, width]."""
        answers = np.einsum("nd,nd->n", self._x, parameters[self._task])
        if self.quadratic:
            error = answers - self._y
            value = float(self._factors @ error**2)
            slope = 2.0 * self._factors * error
        else:
            margin = self._y * answers
            value = float(self._factors @ np.logaddexp(0.0, -margin))
            slope = -self._factors * self._y * expit(-margin)
        return value, self._sums(self._x * slope[:, None])

    @functools.cached_property
    def hessians(self) -> np.ndarray:
        """[M, width, width]: second derivatives of squared errors, bounds of those of logistic."""
        scaled = self._x * (self._factors * (2.0 if self.quadratic else 0.25))[:, None]
        ends = [*self._starts[1:], len(self._x)]
        return np.stack(
            [scaled[i:j].T @ self._x[i:j] for i, j in zip(self._starts, ends, strict=True)]
        )

    @functools.cached_property
    def curvature(self) -> np.ndarray:
        """[M]: the largest second derivative in any direction, a Lipschitz constant per task."""
        largest: np.ndarray = np.linalg.eigvalsh(self.hessians)[:, -1]
        return largest

    def finish(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights [M, d] and intercepts [M] for examples that are not centred."""
        weights = parameters[:, : self.features]
        own = parameters[:, self.features :].sum(axis=1)
        return weights.copy(), own + self._y_mean - (weights * self._x_mean).sum(axis=1)

    def _sums(self, values: np.ndarray) -> np.ndarray:
        sums: np.ndarray = np.add.reduceat(values, self._starts, axis=0)
        return sums
