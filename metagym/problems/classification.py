"""Softmax regression and a small multilayer perceptron on real tables, with minibatch noise.

``Classification`` is what they share with ``ProjectedDigitsNet``: a task holds the indices of
its examples, the family holds the data.
"""

from __future__ import annotations

import numpy as np

from metagym.core.task import Task
from metagym.errors import InvalidArgumentError, check_choice, check_positive
from metagym.problems.base import ProblemFamily
from metagym.problems.checks import check_scale
from metagym.problems.datasets import TABLES, Dataset, load_dataset, split_indices
from metagym.problems.networks import Network

# Floats that the activations of one block of examples may take: about what a cache holds.
_BLOCK = 2**18


class Classification(ProblemFamily):
    """f(x) = mean cross-entropy of ``network`` on the task's examples + l2/2 ||x||^2.

    A task's ``examples`` [n, m] (int32) are distinct indices into the data set, all of one split.
    With a ``batch_size``, ``value_and_grad`` with a generator draws that many of them, with
    replacement; ``value`` and calls without a generator always use all m.

    Args:
        data: the examples.
        network: from features to classes.
        batch_size: minibatch, or None for the full batch.
        examples: m; at most as many as the smallest split has.
        l2: weight of the regulariser.
    """

    def __init__(
        self, data: Dataset, network: Network, batch_size: int | None, examples: int, l2: float
    ) -> None:
        self.network = network
        self.dim = network.dim
        self.l2 = check_scale("l2", l2, zero=True)
        self._inputs, self._labels = data.inputs, data.labels
        self._splits = split_indices(len(data.labels))
        self.examples = check_positive("examples", examples)
        if self.examples > smallest_split(data):
            raise InvalidArgumentError(
                f"examples={examples}: the smallest split has {smallest_split(data)} examples."
            )
        self.batch_size = None if batch_size is None else check_positive("batch_size", batch_size)
        self.stochastic = batch_size is not None

    def sample(self, rng: np.random.Generator, n: int, split: str) -> Task:
        part = self._splits[split].astype(np.int32)
        # The m smallest of uniform draws: a random subset per task, without a loop.
        chosen = np.argpartition(rng.random((n, len(part))), self.examples - 1, axis=1)
        return {"examples": part[chosen[:, : self.examples]]}

    def initial(self, task: Task, rng: np.random.Generator) -> np.ndarray:
        return self.network.initial(rng, len(task["examples"]))

    def value(self, task: Task, x: np.ndarray) -> np.ndarray:
        examples = task["examples"]
        value = np.zeros(len(x), x.dtype)
        for block in self._blocks(examples):
            value += self.network.loss(x, self._features(task, block), self._labels[block])
        return value / examples.shape[1] + (self.l2 / 2) * np.vecdot(x, x)

    def value_and_grad(
        self, task: Task, x: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        examples = task["examples"]
        if rng is not None and self.batch_size is not None:
            drawn = rng.integers(examples.shape[1], size=(len(x), self.batch_size))
            examples = np.take_along_axis(examples, drawn, axis=1)
        value, gradient = np.zeros(len(x), x.dtype), np.zeros_like(x)
        for block in self._blocks(examples):
            inputs, labels = self._features(task, block), self._labels[block]
            part, slope = self.network.loss_and_grad(x, inputs, labels)
            value += part
            gradient += slope
        value /= examples.shape[1]
        gradient /= examples.shape[1]
        gradient += self.l2 * x
        return value + (self.l2 / 2) * np.vecdot(x, x), gradient

    def accuracy(self, task: Task, x: np.ndarray) -> np.ndarray:
        """The share [n] of the task's examples whose class is right."""
        right = np.zeros(len(x))
        for block in self._blocks(task["examples"]):
            logits = self.network.logits(x, self._features(task, block))
            right += (logits.argmax(axis=1) == self._labels[block]).sum(axis=1)
        return right / task["examples"].shape[1]

    def _features(self, task: Task, examples: np.ndarray) -> np.ndarray:
        """What enters the network [n, k, features] for examples [n, k]."""
        return self._inputs[examples]

    def _blocks(self, examples: np.ndarray) -> list[np.ndarray]:
        """Examples [n, k] in blocks along k, so that memory does not grow with n times k."""
        n, k = examples.shape
        width = max(self._inputs.shape[1], *self.network.sizes)
        size = max(16, _BLOCK // (n * width))
        return [examples[:, start : start + size] for start in range(0, k, size)]


class SoftmaxRegression(Classification):
    """f(x) = mean cross-entropy of softmax(W z + b) on real examples + l2/2 ||x||^2.

    - Data: ``digits`` (64 features, 10 classes, d = 650), ``breast_cancer`` (30, 2, d = 62) or
      ``wine`` (13, 3, d = 42) of scikit-learn; features have mean 0 and variance 1 on the
      training split (constant ones are 0).
    - Task: ``examples`` [n, m] (int32): a random subset of the split's examples.
    - Start: weights ~ N(0, 2/features), biases 0.
    - Splits: half of the examples train, a quarter each validates and tests, by a fixed
      permutation; a task's examples all come from its split.
    - Convex; ``lower`` is 0.

    Args:
        dataset: which data.
        batch_size: minibatch drawn with replacement, or None for the full batch (no noise).
        examples: m; None means three quarters of the smallest split (336, 107 and 33).
        l2: weight of the regulariser.
    """

    def __init__(
        self,
        dataset: str = "digits",
        batch_size: int | None = 32,
        examples: int | None = None,
        l2: float = 5e-4,
    ) -> None:
        data = standardised(load_dataset(check_choice("dataset", dataset, TABLES)))
        network = Network(data.inputs.shape[1], data.classes)
        m = 3 * smallest_split(data) // 4 if examples is None else examples
        super().__init__(data, network, batch_size, m, l2)


class MLPClassifier(Classification):
    """f(x) = mean cross-entropy of a one-hidden-layer ReLU net on real examples + l2/2 ||x||^2.

    Data, tasks and splits are those of ``SoftmaxRegression``; d = 1510 on ``digits``, 662 on
    ``breast_cancer``, 343 on ``wine``. Start: He's Gaussian for the weights, biases 0. Non-convex;
    ``lower`` is 0.

    Args:
        dataset: which data.
        hidden: width of the hidden layer.
        batch_size: minibatch drawn with replacement, or None for the full batch (no noise).
        examples: m; None means three quarters of the smallest split.
        l2: weight of the regulariser.
    """

    def __init__(
        self,
        dataset: str = "digits",
        hidden: int = 20,
        batch_size: int | None = 32,
        examples: int | None = None,
        l2: float = 5e-4,
    ) -> None:
        data = standardised(load_dataset(check_choice("dataset", dataset, TABLES)))
        network = Network(data.inputs.shape[1], check_positive("hidden", hidden), data.classes)
        m = 3 * smallest_split(data) // 4 if examples is None else examples
        super().__init__(data, network, batch_size, m, l2)


def smallest_split(data: Dataset) -> int:
    """How many examples the smallest split of ``data`` has."""
    return min(len(part) for part in split_indices(len(data.labels)).values())


def standardised(data: Dataset) -> Dataset:
    """``data`` with features of training mean 0 and variance 1; constant ones are 0."""
    train = data.inputs[split_indices(len(data.labels))["train"]].astype(np.float64)
    scale = train.std(axis=0)
    constant = scale < 1e-6
    inputs = (data.inputs - train.mean(axis=0)) / np.where(constant, 1, scale)
    inputs[:, constant] = 0
    return Dataset(inputs.astype(np.float32), data.labels, data.classes)
