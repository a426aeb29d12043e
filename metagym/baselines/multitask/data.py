"""Tasks that are learned together: each has examples, labels, a loss of its own kind, a descriptor.

Labels are numbers in every kind: values, 0 and 1, or class numbers from 0. Tasks may have any
number of examples; all have the same features. Several labels of the same examples (one input,
many outputs) are several tasks that share one ``x``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metagym.errors import DataError, InvalidArgumentError, check_choice, check_positive

KINDS = ("regression", "binary", "multiclass")


@dataclass(frozen=True, eq=False)
class TaskData:
    """Examples of one task.

    Args:
        name: of the task.
        kind: "regression" (squared error), "binary" (logistic loss, one output) or "multiclass"
            (cross-entropy, an output per class).
        x: examples [n, d], float32.
        y: [n], float32 for regression, int64 else.
        classes: of "multiclass" only; one more than the largest label by default.
        descriptor: what is known of the task beforehand, z [k]; None: a one-hot vector among its
            fellows.

    Raises:
        InvalidArgumentError: shapes that do not fit, no example, what is no number, labels of
            another kind, or ``classes`` of another kind than "multiclass".
        DataError: NaN or infinity.
    """

    name: str
    kind: str
    x: np.ndarray
    y: np.ndarray
    classes: int | None = None
    descriptor: np.ndarray | None = field(default=None)

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        regression, of = self.kind == "regression", f"of task {self.name!r}"
        x = as_numbers(f"x {of}", self.x, np.float32)
        check_finite(f"x {of}", x)
        if x.ndim != 2 or 0 in x.shape:
            raise InvalidArgumentError(
                f"x {of} has to be examples × features, at least one of each; its shape is "
                f"{x.shape}."
            )
        values = as_numbers(f"y {of}", self.y, np.float32 if regression else np.float64)
        check_finite(f"y {of}", values)
        if values.shape != (len(x),):
            raise InvalidArgumentError(f"y {of} has shape {values.shape}; x has {len(x)} rows.")
        if self.classes not in (None, 2 if self.kind == "binary" else None):
            check_positive(f"classes {of}", self.classes)
            if self.kind != "multiclass":
                raise InvalidArgumentError(
                    f"classes={self.classes} {of}: only kind 'multiclass' takes a number of them, "
                    f"and this is {self.kind!r}."
                )
        object.__setattr__(self, "x", x)
        if regression:
            object.__setattr__(self, "y", values)
            return
        labels = values.astype(np.int64)
        classes = self._count_classes(labels)
        if (labels != values).any() or labels.min() < 0 or labels.max() >= classes:
            raise InvalidArgumentError(
                f"y {of} has to hold class numbers from 0 to {classes - 1}; it reaches from "
                f"{values.min():g} to {values.max():g}."
            )
        object.__setattr__(self, "y", labels)
        object.__setattr__(self, "classes", classes)

    def _count_classes(self, labels: np.ndarray) -> int:
        if self.kind == "binary":
            return 2
        return max(2, int(labels.max()) + 1) if self.classes is None else self.classes

    @property
    def outputs(self) -> int:
        """Numbers that a network has to give for an example."""
        return int(self.classes or 2) if self.kind == "multiclass" else 1


@dataclass(frozen=True)
class TasksShape:
    """What a network has to know of tasks before it sees an example; JSON-able.

    Attributes:
        inputs: features of an example.
        kinds: of the tasks.
        outputs: of the tasks.
        descriptors: z of the tasks, [k] each.
    """

    inputs: int
    kinds: tuple[str, ...]
    outputs: tuple[int, ...]
    descriptors: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, tasks: Sequence[TaskData]) -> TasksShape:
        """The shape of ``tasks``.

        Raises:
            InvalidArgumentError: no task, features or descriptors of different lengths, or two
                tasks of one name.
        """
        if not tasks:
            raise InvalidArgumentError("Multi-task learning needs at least one task.")
        names = [task.name for task in tasks]
        if len(set(names)) < len(names):
            raise InvalidArgumentError(f"Names of tasks have to differ; they are {names}.")
        inputs = {task.x.shape[1] for task in tasks}
        if len(inputs) > 1:
            sizes = ", ".join(f"{task.name}: {task.x.shape[1]}" for task in tasks)
            raise InvalidArgumentError(
                f"Tasks have different numbers of features ({sizes}); they learn together on the "
                "same ones."
            )
        one_hot = np.eye(len(tasks))
        described = [
            one_hot[i] if task.descriptor is None else np.asarray(task.descriptor, float).ravel()
            for i, task in enumerate(tasks)
        ]
        if len({len(z) for z in described}) > 1:
            raise InvalidArgumentError(
                "Give every task a descriptor of the same length, or none of them one; the "
                f"lengths are {[len(z) for z in described]}."
            )
        return cls(
            inputs.pop(), tuple(task.kind for task in tasks),
            tuple(task.outputs for task in tasks), tuple(tuple(z.tolist()) for z in described),
        )  # fmt: skip


def as_numbers(what: str, value: Any, dtype: type) -> np.ndarray:
    """``value`` as an array, finite or not.

    Args:
        what: the value's name.
        value: numbers.
        dtype: of the array.

    Raises:
        InvalidArgumentError: what is no number, such as a string.
    """
    try:
        with np.errstate(over="ignore"):  # what is too large is infinite then
            array: np.ndarray = np.asarray(value, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"{what} has to be an array of numbers: {error}.") from None
    return array


def check_finite(what: str, array: np.ndarray, where: np.ndarray | bool = True) -> None:
    """Raise if a number is none.

    Args:
        what: the array's name.
        array: numbers.
        where: which of them count; a mask that broadcasts to the array's shape.

    Raises:
        DataError: NaN or infinity.
    """
    if not np.isfinite(array).all(where=where):
        raise DataError(f"{what} has NaN or infinity in it; impute or drop such rows.")
