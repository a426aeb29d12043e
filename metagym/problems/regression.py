"""Logistic and robust regression on random point clouds: Li & Malik (2016), section 4.

The paper leaves the distributions of its random means and covariances open; the docstrings say
what is drawn here.
"""

from __future__ import annotations

import numpy as np

from metagym.core.task import Task
from metagym.problems.base import ProblemFamily
from metagym.problems.checks import check_dim, check_scale

POINTS = 100
CLUSTERS = 4


class LogisticRegression(ProblemFamily):
    """f(x) = mean_i log(1 + exp(-s_i x.z_i)) + l2/2 ||w||^2, where x = (w, b), z_i = (point, 1).

    - Task: ``inputs`` [n, 100, dim], whose last column is 1, and ``labels`` [n, 100], the s_i in
      {-1, 1}: the first 50 points come from one Gaussian, the others from a second. Both have a
      mean ~ N(0, I) and a covariance A A'/(dim - 1) with A standard normal, drawn per task.
    - Start: standard normal.
    - Splits: the environment's stream of tasks carries the split.
    - Source: Li & Malik (2016), 4.1 (dim 3, 100 points, l2 = 5e-4). Convex; the bias is not
      regularised. The minimum has no closed form; ``lower`` is 0.

    Args:
        dim: parameters, the bias among them; at least 2.
        l2: weight of the regulariser.
    """

    def __init__(self, dim: int = 3, l2: float = 5e-4) -> None:
        self.dim = check_dim("logistic regression", dim, 2)
        self.l2 = check_scale("l2", l2, zero=True)

    def sample(self, rng: np.random.Generator, n: int, split: str) -> Task:
        features = self.dim - 1
        means = rng.standard_normal((n, 2, 1, features))
        factors = rng.standard_normal((n, 2, features, features)) / np.sqrt(features)
        points = means + rng.standard_normal((n, 2, POINTS // 2, features)) @ factors
        labels = np.repeat([1.0, -1.0], POINTS // 2)
        return {"inputs": with_constant(points), "labels": np.tile(labels, (n, 1))}

    def value_and_grad(
        self, task: Task, x: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        z, signs = task["inputs"], task["labels"]
        t = -signs * np.matvec(z, x)  # [n, points]
        e = np.exp(-np.abs(t))
        # log(1 + e^t) and its derivative, from e^-|t|, which never overflows.
        losses = np.maximum(t, 0) + np.log1p(e)
        slopes = np.where(t >= 0, 1, e) / (1 + e)
        gradient = np.vecmat(slopes * (-signs / signs.shape[1]), z)
        w = x[:, :-1]
        gradient[:, :-1] += self.l2 * w
        return losses.mean(axis=1) + (self.l2 / 2) * np.vecdot(w, w), gradient


class RobustRegression(ProblemFamily):
    """f(x) = mean_i r_i^2 / (1 + r_i^2) with r_i = y_i - x.z_i: Geman-McClure's loss with c = 1.

    - Task: ``inputs`` [n, 100, dim], whose last column is 1, and ``targets`` [n, 100]. There are
      25 points from each of four Gaussians with means ~ N(0, I) and identity covariance. Within
      a Gaussian y = a.point + beta + N(0, 1), with a and beta standard normal, drawn per
      Gaussian: one line cannot fit all of them, so that f has several minima.
    - Start: standard normal.
    - Splits: the environment's stream of tasks carries the split.
    - Source: Li & Malik (2016), 4.2 (dim 3, c = 1, 4 x 25 points). Non-convex, 0 <= f < 1.

    Args:
        dim: parameters, the bias among them; at least 2.
    """

    def __init__(self, dim: int = 3) -> None:
        self.dim = check_dim("robust regression", dim, 2)

    def sample(self, rng: np.random.Generator, n: int, split: str) -> Task:
        points = clusters(rng, n, self.dim - 1)
        slopes = rng.standard_normal((n, CLUSTERS, self.dim - 1))
        targets = np.matvec(points, slopes) + rng.standard_normal((n, CLUSTERS, 1))
        targets += rng.standard_normal(targets.shape)
        return {"inputs": with_constant(points), "targets": targets.reshape(n, POINTS)}

    def value_and_grad(
        self, task: Task, x: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        z = task["inputs"]
        residual = task["targets"] - np.matvec(z, x)  # [n, points]
        weight = 1 / (1 + residual * residual)
        # r^2 / (1 + r^2) = 1 - weight, but written without its cancellation at small r.
        value = (residual * residual * weight).mean(axis=1)
        residual *= weight
        residual *= weight
        residual *= -2 / residual.shape[1]
        return value, np.vecmat(residual, z)


def clusters(rng: np.random.Generator, n: int, features: int) -> np.ndarray:
    """Points [n, 4, 25, features] of four Gaussians, means ~ N(0, I), identity covariance."""
    means = rng.standard_normal((n, CLUSTERS, 1, features))
    return means + rng.standard_normal((n, CLUSTERS, POINTS // CLUSTERS, features))


def with_constant(points: np.ndarray) -> np.ndarray:
    """Groups of points [n, groups, k, d] as one array [n, groups * k, d + 1], the last column 1."""
    n, groups, size, features = points.shape
    flat = points.reshape(n, groups * size, features)
    return np.concatenate([flat, np.ones((n, groups * size, 1))], axis=2)
