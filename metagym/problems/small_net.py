"""The 2-2-2 network of Li & Malik (2016), section 4.3: twelve parameters and many poor minima."""

from __future__ import annotations

import numpy as np

from metagym.core.task import Task
from metagym.problems.base import ProblemFamily
from metagym.problems.checks import check_scale
from metagym.problems.networks import Network
from metagym.problems.regression import CLUSTERS, POINTS, clusters


class SmallNet(ProblemFamily):
    """f(x) = mean cross-entropy of a 2-2-2 ReLU net on 100 points + l2/2 ||weights||^2.

    - Task: ``inputs`` [n, 100, 2] and ``labels`` [n, 100] (int64, 0 or 1): 25 points from each of
      four Gaussians with means ~ N(0, I) and identity covariance; a Gaussian's points share one
      random label, and both labels occur.
    - x [12]: weights [2, 2], biases [2], weights [2, 2], biases [2]; biases are not regularised.
    - Start: He's Gaussian for the weights, 0 for the biases.
    - Splits: the environment's stream of tasks carries the split.
    - Source: Li & Malik (2016), 4.3 (l2 = 5e-4). Non-convex; ``lower`` is 0.

    Args:
        l2: weight of the regulariser.
    """

    def __init__(self, l2: float = 5e-4) -> None:
        self.l2 = check_scale("l2", l2, zero=True)
        self.network = Network(2, 2, 2)
        self.dim = self.network.dim
        self._decay = np.repeat([1.0, 0.0, 1.0, 0.0], [4, 2, 4, 2]) * self.l2

    def sample(self, rng: np.random.Generator, n: int, split: str) -> Task:
        inputs = clusters(rng, n, 2).reshape(n, POINTS, 2)
        # Of the 16 labellings of four Gaussians all but 0000 and 1111, equally likely.
        code = rng.integers(1, 2**CLUSTERS - 1, n)
        labels = (code[:, None] >> np.arange(CLUSTERS)) & 1
        return {"inputs": inputs, "labels": np.repeat(labels, POINTS // CLUSTERS, axis=1)}

    def initial(self, task: Task, rng: np.random.Generator) -> np.ndarray:
        return self.network.initial(rng, len(task["labels"]))

    def value_and_grad(
        self, task: Task, x: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        value, gradient = self.network.loss_and_grad(x, task["inputs"], task["labels"])
        decay = x * self._decay.astype(x.dtype)
        gradient /= POINTS
        gradient += decay
        return value / POINTS + np.vecdot(x, decay) / 2, gradient
