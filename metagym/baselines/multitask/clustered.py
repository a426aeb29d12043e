"""Linear tasks that fall into groups, which nobody names beforehand.

The wish is that of k-means on the weights (Jacob, Bach & Vert, "Clustered multi-task learning: a
convex formulation", 2008): with w̄_c the mean of group c,

    min over W and k groups:   Σ_m a_m L_m(w^m) + λ Σ_c Σ_{m in c} ‖w^m - w̄_c‖² + λ₁ ‖W‖²

Groups are a projection P [M, M] (1 / size of the group where two tasks share one). The penalty is
λ η (1 + η) tr(Wᵀ (η I + P)⁻¹ W) with η = λ₁ / λ, and becomes convex in W and P together when P may
be any matrix with 0 ≼ P ≼ I and trace k (Zhou, Chen & Ye, "Clustered multi-task learning via
alternating structure optimization", 2011). The minimum is a lower bound of that over groups. The
best P for a W has the eigenvectors of W Wᵀ, and eigenvalues in closed form.

Lecture topic: multi-task learning, clusters of tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.cluster import KMeans

from metagym.baselines.multitask.linear import LinearTasks, TasksClassifier, TasksRegressor
from metagym.baselines.multitask.losses import TaskLosses
from metagym.baselines.multitask.solvers import Solution, minimize_learned
from metagym.errors import InvalidArgumentError, check_above_zero, check_positive


def clustered_coupling(projection: np.ndarray, strength: float, ridge: float) -> np.ndarray:
    """λ η (1 + η) (η I + P)⁻¹ [M, M], η = λ₁ / λ; both have to be above 0.

    For the projection of groups, tr(Wᵀ A W) is the penalty of k-means.
    """
    eta = ridge / strength
    inverse = np.linalg.inv(eta * np.eye(len(projection)) + projection)
    return ridge * (1.0 + eta) * (inverse + inverse.T) / 2.0


def best_projection(weights: np.ndarray, clusters: int, eta: float) -> np.ndarray:
    """P [M, M], 0 ≼ P ≼ I and tr P = k, with the smallest tr(Wᵀ (η I + P)⁻¹ W) for W [M, d].

    With singular values σ of W its eigenvalues are clip(c σ - η, 0, 1), c such that they sum to k.
    """
    values, vectors = np.linalg.eigh(weights @ weights.T)
    sigma = np.sqrt(np.maximum(values, 0.0))
    largest = float(sigma.max())
    if largest <= 0.0:
        return np.eye(len(weights)) * (clusters / len(weights))
    sigma = np.maximum(sigma / largest, 1e-9)  # directions without weights share what is left
    # The sum is piecewise linear in c; its kinks are where an eigenvalue leaves 0 or reaches 1.
    kinks = np.unique(np.concatenate([eta / sigma, (1.0 + eta) / sigma]))
    sums = np.clip(np.outer(kinks, sigma) - eta, 0.0, 1.0).sum(axis=1)
    scale = np.interp(clusters, sums, kinks)
    projection: np.ndarray = (vectors * np.clip(scale * sigma - eta, 0.0, 1.0)) @ vectors.T
    return projection


class _Clustered(LinearTasks):
    """What ``ClusteredRegressor`` and ``ClusteredClassifier`` minimise."""

    def __init__(
        self,
        clusters: int = 2,
        strength: float = 1.0,
        *,
        ridge: float = 0.1,
        task_column: int | str = -1,
        reduction: str = "mean",
        task_weights: Sequence[float] | None = None,
        fit_intercept: bool = True,
        tol: float = 1e-6,
        max_iter: int = 500,
        random_state: int = 0,
    ) -> None:
        self.clusters = clusters
        self.strength = strength
        self.ridge = ridge
        self.task_column = task_column
        self.reduction = reduction
        self.task_weights = task_weights
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def _solve(self, losses: TaskLosses) -> Solution:
        strength = check_above_zero("strength", self.strength)
        ridge = check_above_zero("ridge", self.ridge)
        clusters = check_positive("clusters", self.clusters)
        if clusters > losses.tasks:
            raise InvalidArgumentError(
                f"clusters={clusters} is more than there are tasks, {losses.tasks}."
            )

        def couple(weights: np.ndarray) -> tuple[np.ndarray, float]:
            projection = best_projection(weights, clusters, ridge / strength)
            return clustered_coupling(projection, strength, ridge), 0.0

        solution, self.objectives_ = minimize_learned(
            losses, couple, tol=self.tol, max_iter=self.max_iter
        )
        weights = solution.parameters[:, : losses.features]
        self.task_projection_ = best_projection(weights, clusters, ridge / strength)
        means = KMeans(clusters, n_init=10, random_state=self.random_state)
        self.cluster_labels_ = means.fit_predict(weights)
        return solution


class ClusteredRegressor(TasksRegressor, _Clustered):
    """Linear regression of tasks whose weights lie near k centres.

    Args:
        clusters: k.
        strength: λ, of the squared distances to the centres, above 0.
        ridge: λ₁, of the squared lengths of weights, above 0.
        task_column, reduction, task_weights, fit_intercept: as of ``MultiTaskRegressor``.
        tol: the objective's relative fall in the last round.
        max_iter: rounds; a ConvergenceWarning says that they were not enough.
        random_state: of k-means, which only reads groups off the weights.

    Attributes:
        task_projection_: P [M, M].
        cluster_labels_: [M], of k-means on the rows of ``coef_``.
        objectives_: after each round.
    """


class ClusteredClassifier(TasksClassifier, _Clustered):
    """Logistic regression of tasks whose weights lie near k centres.

    Args:
        clusters: k.
        strength: λ, of the squared distances to the centres, above 0.
        ridge: λ₁, of the squared lengths of weights, above 0.
        task_column, reduction, task_weights, fit_intercept: as of ``MultiTaskClassifier``.
        tol: the objective's relative fall in the last round.
        max_iter: rounds; a ConvergenceWarning says that they were not enough.
        random_state: of k-means, which only reads groups off the weights.

    Attributes:
        task_projection_: P [M, M].
        cluster_labels_: [M], of k-means on the rows of ``coef_``.
        objectives_: after each round.
    """
