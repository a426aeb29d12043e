"""Linear tasks that learn how they are related (Zhang & Yeung, "A convex formulation for learning
task relationships in multi-task learning", 2010).

    min over W and Ω ≽ 0, tr Ω = 1:   Σ_m a_m L_m(w^m) + λ₁ ‖W‖² + λ₂ tr(Wᵀ Ω⁻¹ W)

with W [M, d]; their W has tasks as columns, and their penalties carry a factor ½. Ω is the
covariance of the tasks: a prior in which features are independent draws of N(0, Ω). It can be
negative, so that tasks which contradict each other help too. The objective is convex in both
together, and for a W the best Ω is (W Wᵀ)^½ / tr(W Wᵀ)^½. The paper finds them in turns;
``minimize_learned`` reaches the same minimum sooner. There tr(Wᵀ Ω⁻¹ W) is the squared trace norm.

So that Ω has an inverse, ε tr Ω⁻¹ is added to tr(Wᵀ Ω⁻¹ W): Ω is the root of W Wᵀ + ε I, and the
objective stays convex.

Lecture topic: multi-task learning, task relationships.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metagym.baselines.multitask.linear import LinearTasks, TasksClassifier, TasksRegressor
from metagym.baselines.multitask.losses import TaskLosses
from metagym.baselines.multitask.solvers import Solution, minimize_coupled, minimize_learned
from metagym.errors import check_above_zero


def best_covariance(weights: np.ndarray, epsilon: float = 0.0) -> np.ndarray:
    """Ω [M, M] of trace 1 with the smallest tr(Wᵀ Ω⁻¹ W) + ε tr Ω⁻¹ for W [M, d].

    It is (W Wᵀ + ε I)^½ over its trace; I / M where all of that is 0.
    """
    values, vectors = np.linalg.eigh(weights @ weights.T)
    roots = np.sqrt(np.maximum(values, 0.0) + epsilon)
    if roots.sum() <= 0.0:
        return np.eye(len(weights)) / len(weights)
    covariance: np.ndarray = (vectors * (roots / roots.sum())) @ vectors.T
    return covariance


def correlation(covariance: np.ndarray) -> np.ndarray:
    """[M, M], 1 on the diagonal, 0 beside it where a variance is 0."""
    deviation = np.sqrt(np.diag(covariance))
    scale = np.where(deviation > 0.0, deviation, 1.0)
    found = np.clip(covariance / np.outer(scale, scale), -1.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return found


class _Relationship(LinearTasks):
    """What ``RelationshipRegressor`` and ``RelationshipClassifier`` minimise."""

    def __init__(
        self,
        strength: float = 1.0,
        *,
        ridge: float = 0.0,
        smoothing: float = 1e-6,
        task_column: int | str = -1,
        reduction: str = "mean",
        task_weights: Sequence[float] | None = None,
        fit_intercept: bool = True,
        tol: float = 1e-6,
        max_iter: int = 500,
    ) -> None:
        self.strength = strength
        self.ridge = ridge
        self.smoothing = smoothing
        self.task_column = task_column
        self.reduction = reduction
        self.task_weights = task_weights
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    def _solve(self, losses: TaskLosses) -> Solution:
        check_above_zero("smoothing", self.smoothing)
        identity = np.eye(losses.tasks)
        first = (self.ridge + self.strength * losses.tasks) * identity  # Ω = I / M
        weights = minimize_coupled(losses, first, tol=self.tol).parameters[:, : losses.features]
        typical = float((weights**2).sum()) / losses.tasks
        epsilon = max(self.smoothing * typical, np.finfo(float).tiny)

        def couple(weights: np.ndarray) -> tuple[np.ndarray, float]:
            inverse = np.linalg.inv(best_covariance(weights, epsilon))
            constant = self.strength * epsilon * float(np.trace(inverse))
            return self.ridge * identity + self.strength * (inverse + inverse.T) / 2.0, constant

        solution, self.objectives_ = minimize_learned(
            losses, couple, tol=self.tol, max_iter=self.max_iter
        )
        weights = solution.parameters[:, : losses.features]
        self.task_covariance_ = best_covariance(weights, epsilon)
        self.task_correlation_ = correlation(self.task_covariance_)
        return solution


class RelationshipRegressor(TasksRegressor, _Relationship):
    """Linear regression of several tasks that learns their covariance.

    Args:
        strength: λ₂, of tr(Wᵀ Ω⁻¹ W).
        ridge: λ₁, of the squared lengths of weights.
        smoothing: ε, relative to the mean squared length of weights at Ω = I / M.
        task_column, reduction, task_weights, fit_intercept: as of ``MultiTaskRegressor``.
        tol: the objective's relative fall in the last round.
        max_iter: rounds; a ConvergenceWarning says that they were not enough.

    Attributes:
        task_covariance_: Ω [M, M]; I / M where all weights are 0.
        task_correlation_: Ω scaled to a diagonal of 1.
        objectives_: after each round.
    """


class RelationshipClassifier(TasksClassifier, _Relationship):
    """Logistic regression of several tasks that learns their covariance.

    Args:
        strength: λ₂, of tr(Wᵀ Ω⁻¹ W).
        ridge: λ₁, of the squared lengths of weights.
        smoothing: ε, relative to the mean squared length of weights at Ω = I / M.
        task_column, reduction, task_weights, fit_intercept: as of ``MultiTaskClassifier``.
        tol: the objective's relative fall in the last round.
        max_iter: rounds; a ConvergenceWarning says that they were not enough.

    Attributes:
        task_covariance_: Ω [M, M]; I / M where all weights are 0.
        task_correlation_: Ω scaled to a diagonal of 1.
        objectives_: after each round.
    """
