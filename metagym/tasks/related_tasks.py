"""Synthetic tasks that are related as much as one says: the knob of multi-task experiments.

Task m answers inputs x ~ N(0, I) with g(w^m·x) + noise. The vectors w^m have length 1 and the same
cosine, ``similarity``, between any two of them: at 1 all tasks are one, at 0 knowing some says
nothing about another. g is the identity or, ``nonlinear``, a random network of one input that all
tasks have in common, z + Σ_j sin(a_j z + b_j), standardised for z ~ N(0, 1); that is the family of
Ma et al., "Modeling task relationships in multi-task learning with multi-gate mixture-of-experts"
(2018), section 3. Labels of classes say whether the noisy answer is above 0.

Lecture topic: multi-task learning, when sharing helps and when it hurts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from metagym.baselines.multitask.data import TaskData
from metagym.errors import InvalidArgumentError, check_choice, check_positive

KINDS = ("regression", "binary")
HIDDEN = 6  # units of the random network


class RelatedTasks(NamedTuple):
    """Examples of the same tasks in the same order, three disjoint sets.

    Attributes:
        train: to fit.
        validation: to choose hyperparameters.
        test: to report.
    """

    train: list[TaskData]
    validation: list[TaskData]
    test: list[TaskData]


def related_tasks(
    rng: np.random.Generator,
    *,
    tasks: int = 4,
    similarity: float = 0.5,
    train: int | Sequence[int] = 20,
    validation: int | Sequence[int] | None = None,
    test: int | Sequence[int] = 500,
    features: int = 16,
    kind: str = "regression",
    noise: float = 0.5,
    nonlinear: bool = False,
) -> RelatedTasks:
    """Draw tasks and examples of them.

    Generators in the same state give the same inputs and noise at every ``similarity``, so that
    comparisons along the knob are paired.

    Args:
        rng: of everything.
        tasks: how many, M.
        similarity: cosine between the vectors of any two tasks, in [0, 1].
        train: training examples of each task, or a number per task.
        validation: likewise; None: as many as for training.
        test: likewise.
        features: of an example, at least ``tasks``.
        kind: "regression", or "binary" for classes 0 and 1.
        noise: standard deviation of what is added to the answer, which has variance 1. A linear
            classifier that knows w^m is right with probability 1 - arctan(noise) / π.
        nonlinear: answer through the random network.

    Returns:
        Tasks "task 0", "task 1", …

    Raises:
        InvalidArgumentError: a similarity outside [0, 1], fewer features than tasks, a negative
            noise, or sizes that are no whole numbers of at least 1, one per task.
    """
    check_choice("kind", kind, KINDS)
    if not 0.0 <= noise < math.inf:
        raise InvalidArgumentError(f"noise={noise!r} has to be a number of at least 0.")
    vectors = related_vectors(rng, tasks=tasks, similarity=similarity, features=features)
    answer = _random_network(rng)  # drawn in any case: inputs are those of the linear family
    if not nonlinear:
        answer = np.asarray
    counts = [
        _sizes("train", train, tasks),
        _sizes("validation", train if validation is None else validation, tasks),
        _sizes("test", test, tasks),
    ]

    def draw(m: int, count: int) -> TaskData:
        x = rng.standard_normal((count, features))
        y = answer(x @ vectors[m]) + noise * rng.standard_normal(count)
        return TaskData(f"task {m}", kind, x, y if kind == "regression" else y > 0.0)

    return RelatedTasks(*([draw(m, n) for m, n in enumerate(sizes)] for sizes in counts))


def related_vectors(
    rng: np.random.Generator, *, tasks: int, similarity: float, features: int
) -> np.ndarray:
    """[tasks, features]: vectors of length 1, cosine ``similarity`` between any two.

    W = G^½ Q where G holds the cosines and the rows of Q are random orthonormal directions.

    Raises:
        InvalidArgumentError: see ``related_tasks``.
    """
    check_positive("tasks", tasks)
    check_positive("features", features)
    if not 0.0 <= similarity <= 1.0:
        raise InvalidArgumentError(
            f"similarity={similarity!r} is a cosine between 0 (unrelated) and 1 (the same task)."
        )
    if features < tasks:
        raise InvalidArgumentError(
            f"{tasks} tasks with {features} features: vectors at equal angles need at least as "
            "many features as there are tasks."
        )
    directions = np.linalg.qr(rng.standard_normal((features, tasks)))[0].T
    # G = (1-s) I + s 11ᵀ has the root a I + (b - a)/M 11ᵀ.
    a, b = math.sqrt(1.0 - similarity), math.sqrt(1.0 + (tasks - 1) * similarity)
    vectors: np.ndarray = a * directions + (b - a) / tasks * directions.sum(axis=0)
    return vectors


def _random_network(rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """z + Σ_j sin(a_j z + b_j), scaled to mean 0 and variance 1 for z ~ N(0, 1)."""
    slope = rng.uniform(1.0, 3.0, size=HIDDEN)
    phase = rng.uniform(0.0, 2.0 * np.pi, size=HIDDEN)

    def network(z: np.ndarray) -> np.ndarray:
        value: np.ndarray = z + np.sin(np.multiply.outer(z, slope) + phase).sum(axis=-1)
        return value

    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    weights = weights / weights.sum()
    values = network(nodes)
    mean = float(weights @ values)
    deviation = math.sqrt(float(weights @ (values - mean) ** 2))
    return lambda z: (network(z) - mean) / deviation


def _sizes(argument: str, value: int | Sequence[int], tasks: int) -> list[int]:
    sizes = [value] * tasks if isinstance(value, int | np.integer) else list(value)
    if len(sizes) != tasks:
        raise InvalidArgumentError(f"{argument} has {len(sizes)} sizes for {tasks} tasks.")
    return [check_positive(argument, size) for size in sizes]
