"""The 48-48-10 network on randomly projected digit images: Li & Malik (2017)."""

from __future__ import annotations

import os

import numpy as np

from metagym.core.task import Task
from metagym.errors import InvalidArgumentError, check_choice, check_positive
from metagym.problems.classification import Classification, smallest_split
from metagym.problems.datasets import Dataset, load_dataset
from metagym.problems.networks import Network

MOST_EXAMPLES = 1000


class ProjectedDigitsNet(Classification):
    """f(x) = mean cross-entropy of a ReLU net on projected images z = image P - shift.

    - Task: ``examples`` [n, m] (int32), a random subset of the split's images; ``projection``
      [n, pixels, projected_dim] (Gaussian) and ``shift`` [n, projected_dim], chosen so that every
      coordinate of z has mean 0 and variance 1 over the *training* images. With ``fixed`` all
      tasks of a split share one projection and one subset, which the family holds; a task is
      then ``examples`` alone, and episodes differ in their initial weights and minibatches.
    - x: weights [hidden, projected_dim], biases, weights [10, hidden], biases; d = 2842 for
      48-48-10.
    - Start: He's Gaussian for the weights, 0 for the biases.
    - Splits: half of the images train, a quarter each validates and tests, by a fixed
      permutation; a task's images all come from its split. MNIST means the 10,000 images of the
      official test files.
    - The full loss is over the task's m images, at most 1,000, so that rewards stay affordable;
      the minibatches are drawn from the same images.
    - Source: Li & Malik (2017), "Learning to optimize neural nets", section 4 (batch 64; meta-
      trained on ONE net). No regulariser; ``lower`` is 0.

    Memory: a task of MNIST holds 147 KiB in float32 unless the projection is ``fixed``.

    Args:
        dataset: ``"digits"`` (8x8 images of scikit-learn) or ``"mnist"``.
        hidden: width of the hidden layer.
        projected_dim: coordinates after the projection.
        batch_size: minibatch drawn with replacement, or None for the full batch (no noise).
        fixed: seed of the one projection and subset that all tasks of a split share; None draws
            them per task.
        examples: m; None means 1,000, or the smallest split's size where that is less (449).
        folder: where MNIST's files are; None means METAGYM_DATA.
    """

    def __init__(
        self,
        dataset: str = "digits",
        hidden: int = 48,
        projected_dim: int = 48,
        batch_size: int | None = 64,
        fixed: int | None = None,
        examples: int | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        data = load_dataset(check_choice("dataset", dataset, ("digits", "mnist")), folder)
        self.projected_dim = check_positive("projected_dim", projected_dim)
        network = Network(self.projected_dim, check_positive("hidden", hidden), data.classes)
        m = min(MOST_EXAMPLES, smallest_split(data)) if examples is None else examples
        if m > MOST_EXAMPLES:
            raise InvalidArgumentError(f"examples={m}: the full loss sees at most {MOST_EXAMPLES}.")
        super().__init__(data, network, batch_size, m, l2=0.0)
        train = data.inputs[self._splits["train"]].astype(np.float64)
        self._mean, self._covariance = train.mean(axis=0), np.cov(train.T, bias=True)
        self.fixed = fixed
        if fixed is not None:
            self._fix(data, fixed)

    def sample(self, rng: np.random.Generator, n: int, split: str) -> Task:
        if self.fixed is not None:
            return {"examples": np.tile(self._subsets[split], (n, 1))}
        return super().sample(rng, n, split) | self._projections(rng, n)

    def _projections(self, rng: np.random.Generator, n: int) -> Task:
        P = rng.standard_normal((n, len(self._mean), self.projected_dim), dtype=np.float32)
        variance = (P * (self._covariance.astype(np.float32) @ P)).sum(axis=1, keepdims=True)
        P /= np.sqrt(variance)
        return {"projection": P, "shift": self._mean @ P.astype(np.float64)}

    def _fix(self, data: Dataset, seed: int) -> None:
        """Draw the one projection and one subset per split; keep the projected images."""
        if isinstance(seed, bool) or not hasattr(seed, "__index__") or int(seed) < 0:
            raise InvalidArgumentError(f"fixed={seed!r} has to be a seed, 0 or above, or None.")
        rng = np.random.default_rng(int(seed))
        task = self._projections(rng, 1)
        self._subsets = {
            split: super(ProjectedDigitsNet, self).sample(rng, 1, split)["examples"][0]
            for split in self._splits
        }
        self._inputs = (data.inputs @ task["projection"][0] - task["shift"][0]).astype(np.float32)

    def _features(self, task: Task, examples: np.ndarray) -> np.ndarray:
        inputs = self._inputs[examples]
        if self.fixed is not None:
            return inputs
        z = inputs.astype(task["projection"].dtype, copy=False) @ task["projection"]
        z -= task["shift"][:, None]
        return z
