"""Random quadratics, f(x) = ||Wx - y||^2: the first problem of Andrychowicz et al. (2016), 3.1."""

from __future__ import annotations

import numpy as np

from metagym.core.task import Task
from metagym.errors import check_choice, check_positive
from metagym.problems.base import ProblemFamily


class Quadratic(ProblemFamily):
    """f(x) = ||Wx - y||^2 with W [d, d] and y [d]; the minimum is 0 (W is almost surely regular).

    Args:
        dim: d.
        variant: ``"gaussian"``: W, y and the start are standard normal, as the paper describes.
            ``"uniform"``: W, y ~ U[0, 1) and start ~ N(0, 0.01^2), as DeepMind's published code
            (learning-to-learn, problems.py) does.
    """

    def __init__(self, dim: int = 10, variant: str = "gaussian") -> None:
        self.dim = check_positive("dim", dim)
        self.variant = check_choice("variant", variant, ("gaussian", "uniform"))

    def sample(self, rng: np.random.Generator, n: int, split: str) -> Task:
        draw = rng.standard_normal if self.variant == "gaussian" else rng.random
        return {"W": draw((n, self.dim, self.dim)), "y": draw((n, self.dim))}

    def initial(self, task: Task, rng: np.random.Generator) -> np.ndarray:
        start = rng.standard_normal(task["y"].shape)
        return start if self.variant == "gaussian" else 0.01 * start

    def value_and_grad(
        self, task: Task, x: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        W = task["W"]
        residual = np.matvec(W, x)
        residual -= task["y"]
        gradient = np.vecmat(residual, W)
        gradient *= 2
        return np.vecdot(residual, residual), gradient
