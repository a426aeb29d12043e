"""Samples of a Gaussian process, by random Fourier features (Rahimi & Recht 2007)."""

from __future__ import annotations

import numpy as np

from metagym.core.task import Task
from metagym.errors import check_positive
from metagym.problems.base import ProblemFamily
from metagym.problems.checks import check_scale


class GaussianProcess(ProblemFamily):
    """f(x) = sqrt(2/m) sum_j w_j cos(omega_j . x + phi_j): a draw of GP(0, RBF), variance 1.

    - Task: ``frequencies`` omega [n, m, d] ~ N(0, 1/lengthscale^2), ``phases`` phi [n, m] ~
      U[0, 2 pi), ``weights`` w [n, m] ~ N(0, 1). As m grows, the distribution of f tends to the
      Gaussian process with kernel exp(-||x - x'||^2 / (2 lengthscale^2)).
    - Start: uniform in [-radius, radius]^d, radius 5.
    - Splits: the environment's stream of tasks carries the split.
    - ``lower`` is -sqrt(2/m) sum_j |w_j|: f >= lower everywhere, but the minimum inside the
      domain lies well above it.
    - Source: Rahimi & Recht (2007), eq. 1 and algorithm 1; as objectives of a learned black-box
      optimiser: Chen et al. (2017).

    Args:
        dim: d.
        lengthscale: of the RBF kernel, in units of x.
        features: m.
    """

    radius = 5.0

    def __init__(self, dim: int = 2, lengthscale: float = 2.0, features: int = 128) -> None:
        self.dim = check_positive("dim", dim)
        self.lengthscale = check_scale("lengthscale", lengthscale)
        self.features = check_positive("features", features)

    def sample(self, rng: np.random.Generator, n: int, split: str) -> Task:
        m = self.features
        return {
            "frequencies": rng.standard_normal((n, m, self.dim)) / self.lengthscale,
            "phases": rng.uniform(0, 2 * np.pi, (n, m)),
            "weights": rng.standard_normal((n, m)),
        }

    def initial(self, task: Task, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(-self.radius, self.radius, (len(task["phases"]), self.dim))

    def value_and_grad(
        self, task: Task, x: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        angle = np.matvec(task["frequencies"], x) + task["phases"]  # [n, m]
        scale = (2 / angle.shape[1]) ** 0.5
        value = scale * np.vecdot(task["weights"], np.cos(angle))
        slopes = -scale * task["weights"] * np.sin(angle)
        return value, np.vecmat(slopes, task["frequencies"])

    def lower(self, task: Task) -> np.ndarray:
        weights = task["weights"]
        return -((2 / weights.shape[1]) ** 0.5) * np.abs(weights).sum(axis=1)
