"""Sets of tasks that are learned together, from data that comes with scikit-learn, by name.

``make_task_set(name)`` gives training, validation and test examples. The three are disjoint and
divided once and for all by ``split_indices`` (half, a quarter, a quarter of a table); ``seed``
chooses which training examples are taken where ``train`` asks for fewer than there are, so that
runs with different seeds are judged on the same test examples. Features are standardised by the
examples of the training split.

Lecture topics: multi-task learning with one input and many outputs (SIMO: "digits_three"), with
many inputs (MISO: "digits_binary", "mixed").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from metagym.baselines.multitask.data import TaskData
from metagym.core.task import SPLITS
from metagym.errors import InvalidArgumentError, check_choice, check_positive
from metagym.named import make_named
from metagym.problems.datasets import load_dataset, split_indices

TASK_SETS: dict[str, str] = {
    "digits_binary": "metagym.tasks.multitask:digits_binary",
    "digits_three": "metagym.tasks.multitask:digits_three",
    "mixed": "metagym.tasks.multitask:mixed",
    "related": "metagym.tasks.multitask:related",
}
ALIGNMENTS = ("blocks", "components")


class TaskSet(NamedTuple):
    """The same tasks, in the same order, three times.

    Attributes:
        train: examples to learn from.
        validation: to choose settings, and for early stopping.
        test: to be judged on.
    """

    train: list[TaskData]
    validation: list[TaskData]
    test: list[TaskData]


def make_task_set(name: str, **kwargs: Any) -> TaskSet:
    """The tasks called ``name``.

    Args:
        name: one of ``TASK_SETS``.
        **kwargs: of the function of that name.

    Raises:
        InvalidArgumentError: no such name or argument, or a bad value.
    """
    made: TaskSet = make_named("tasks", name, TASK_SETS, kwargs)
    return made


def digits_binary(train: int | Sequence[int] | None = None, seed: int = 0) -> TaskSet:
    """Ten binary tasks: is this image of 8 × 8 the digit k, or another one?

    Each task has as many images of other digits, spread over the nine, as of its own, so that
    guessing is right half of the time; tasks have examples of their own.

    Args:
        train: training examples of every task, or of each (even numbers are half and half); None:
            all, about 180.
        seed: of the choice.

    Raises:
        InvalidArgumentError: more examples than there are, fewer than 2, or not ten numbers.
    """
    inputs, labels, parts = _digits()
    sizes = _sizes(train, 10)
    sets = []
    for split in SPLITS:
        part, tasks = parts[split], []
        for digit in range(10):
            size = sizes[digit] if split == "train" else None
            rng = _rng(seed if split == "train" else 0, split, digit)
            rows = _half_and_half(part, labels[part] == digit, size, rng, f"digit {digit}")
            tasks.append(
                TaskData(f"is {digit}", "binary", inputs[rows], (labels[rows] == digit) * 1)
            )
        sets.append(tasks)
    return TaskSet(*sets)


def digits_three(train: int | None = None, seed: int = 0) -> TaskSet:
    """Three questions about the same images: which digit, is it odd, how large is it?

    The first has ten classes, the second two, the third is regression on the digit's value.

    Args:
        train: training examples; None: all 898.
        seed: of the choice.

    Raises:
        InvalidArgumentError: more examples than there are.
    """
    inputs, labels, parts = _digits()
    sets = []
    for split in SPLITS:
        size = _sizes(train, 1)[0] if split == "train" else None
        rows = _some(parts[split], size, _rng(seed, split, 0), "digits_three")
        x, y = inputs[rows].astype(np.float32), labels[rows]  # one array, which networks see once
        sets.append(
            [
                TaskData("digit", "multiclass", x, y, classes=10),
                TaskData("parity", "binary", x, y % 2),
                TaskData("magnitude", "regression", x, y),
            ]
        )
    return TaskSet(*sets)


def mixed(
    train: int | Sequence[int] | None = None, seed: int = 0, align: str = "blocks"
) -> TaskSet:
    """Two medical tables, a loss of another kind each: breast cancer and progress of diabetes.

    The tables have 30 and 10 features that mean different things, and networks take one kind of
    input. ``align`` says how they get one; neither makes the tasks related:

    - "blocks": 40 columns, of which a task fills its own and has 0 in the other's. The first layer
      has then weights of its own for each task, and only what comes after can be shared.
    - "components": the first 10 principal components of each table, of unit variance. All weights
      are shared though the columns mean different things: the setting for negative transfer.

    Args:
        train: training examples of both, or of each; None: all, 284 and 221.
        seed: of the choice.
        align: see above.

    Raises:
        InvalidArgumentError: no such alignment, or more examples than there are.
    """
    import sklearn.datasets

    check_choice("align", align, ALIGNMENTS)
    tables = [
        ("breast cancer", "binary", sklearn.datasets.load_breast_cancer(return_X_y=True)),
        ("diabetes", "regression", sklearn.datasets.load_diabetes(return_X_y=True, scaled=False)),
    ]
    sizes = _sizes(train, 2)
    widths = [x.shape[1] for _, _, (x, _) in tables]
    sets: dict[str, list[TaskData]] = {split: [] for split in SPLITS}
    for number, (name, kind, (x, y)) in enumerate(tables):
        parts = split_indices(len(x))
        x = _standardised(x, parts["train"])
        if align == "blocks":
            before = sum(widths[:number])
            x = np.pad(x, [(0, 0), (before, sum(widths) - before - widths[number])])
        else:
            x = _components(x, parts["train"], min(widths))
        for split in SPLITS:
            size = sizes[number] if split == "train" else None
            rows = _some(parts[split], size, _rng(seed, split, number), name)
            sets[split].append(TaskData(name, kind, x[rows], y[rows]))
    return TaskSet(*sets.values())


def related(
    tasks: int = 4,
    similarity: float = 0.5,
    train: int | Sequence[int] = 20,
    validation: int | Sequence[int] | None = None,
    test: int | Sequence[int] = 500,
    features: int = 16,
    kind: str = "regression",
    noise: float = 0.5,
    nonlinear: bool = False,
    seed: int = 0,
) -> TaskSet:
    """The synthetic family of ``metagym.tasks.related_tasks``; its arguments.

    Args:
        tasks, similarity, train, validation, test, features, kind, noise, nonlinear: see there.
        seed: of the tasks and of all examples.
    """
    from metagym.tasks.related_tasks import related_tasks

    made = related_tasks(
        np.random.default_rng(seed), tasks=tasks, similarity=similarity, train=train,
        validation=validation, test=test, features=features, kind=kind, noise=noise,
        nonlinear=nonlinear,
    )  # fmt: skip
    return TaskSet(*made)


# -- the inside --------------------------------------------------------------------------------


def _digits() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    data = load_dataset("digits")
    parts = split_indices(len(data.labels))
    return _standardised(data.inputs, parts["train"]), data.labels, parts


def _standardised(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1 over the training split; columns that are constant there become 0."""
    center, spread = x[train].mean(0, dtype=np.float64), x[train].std(0, dtype=np.float64)
    scaled: np.ndarray = np.where(spread > 0, (x - center) / np.where(spread > 0, spread, 1.0), 0.0)
    return scaled


def _components(x: np.ndarray, train: np.ndarray, count: int) -> np.ndarray:
    from sklearn.decomposition import PCA

    projected: np.ndarray = PCA(count, whiten=True).fit(x[train]).transform(x)
    return projected


def _sizes(train: int | Sequence[int] | None, tasks: int) -> list[int | None]:
    if train is None:
        return [None] * tasks
    sizes = list(train) if isinstance(train, Sequence | np.ndarray) else [train] * tasks
    if len(sizes) != tasks:
        raise InvalidArgumentError(
            f"train={train!r} has to be one number, or one for each of the {tasks} tasks."
        )
    return [check_positive("train", size) for size in sizes]


def _rng(seed: int, split: str, task: int) -> np.random.Generator:
    key = (SPLITS.index(split), task)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _some(rows: np.ndarray, size: int | None, rng: np.random.Generator, name: str) -> np.ndarray:
    if size is None:
        return rows
    if size > len(rows):
        raise InvalidArgumentError(f"train={size} is more than the {len(rows)} of {name}.")
    return rng.permutation(rows)[:size]


def _half_and_half(
    rows: np.ndarray, positive: np.ndarray, size: int | None, rng: np.random.Generator, name: str
) -> np.ndarray:
    """As many of ``rows`` that are ``positive`` as others; of an odd size one more of the others.

    Raises:
        InvalidArgumentError: fewer than one of each, or more than there are.
    """
    ours, others = rng.permutation(rows[positive]), rng.permutation(rows[~positive])
    size = 2 * len(ours) if size is None else size
    if not 2 <= size <= 2 * len(ours):
        raise InvalidArgumentError(
            f"train={size} has to be between 2 and {2 * len(ours)} for {name}."
        )
    return np.concatenate([ours[: size // 2], others[: size - size // 2]])
