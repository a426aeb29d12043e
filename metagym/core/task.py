"""A task is data: named arrays with a leading axis, one entry per episode.

The helpers here are all that the core needs to know of a task: copy it, pick rows of it, write
rows of it, and check one that a user hands in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from metagym.errors import InvalidArgumentError, nearest

Task = dict[str, np.ndarray]

SPLITS = ("train", "validation", "test")


def copy_task(task: Task, rows: Any = slice(None)) -> Task:
    """A copy of the given rows of ``task``."""
    return {name: np.array(values[rows]) for name, values in task.items()}


def write_rows(task: Task, rows: np.ndarray, new: Task) -> None:
    """Overwrite the given rows of ``task`` in place with ``new`` (leading axis ``len(rows)``)."""
    for name, values in task.items():
        values[rows] = new[name]


def check_task(given: Any, like: Task, num_envs: int) -> Task:
    """Return ``given`` as arrays of ``like``'s names, shapes and dtypes, or say what is wrong.

    Args:
        given: what the user passed as ``options["task"]``: a mapping from name to an array of
            shape [num_envs, ...].
        like: any task of the same family.
        num_envs: the length that the leading axis must have.

    Raises:
        InvalidArgumentError: a name is missing or unknown, a shape is wrong, a value not finite.
    """
    if not isinstance(given, Mapping):
        raise InvalidArgumentError(
            f"options['task'] is a {type(given).__name__}; it has to be a mapping of the arrays "
            f"{sorted(like)}, as info['task'] of an earlier reset."
        )
    for name in given:
        if name not in like and not str(name).startswith("_"):
            raise InvalidArgumentError(
                f"options['task'] has an unknown array {name!r}.{nearest(str(name), like)}"
                f" Known: {sorted(like)}."
            )
    task: Task = {}
    for name, example in like.items():
        if name not in given:
            raise InvalidArgumentError(f"options['task'] lacks the array {name!r}.")
        values = _as_array(name, given[name])
        expected = (num_envs, *example.shape[1:])
        if values.shape != expected:
            raise InvalidArgumentError(
                f"options['task'][{name!r}] has shape {values.shape}; expected {expected}."
            )
        with np.errstate(over="ignore", invalid="ignore"):
            cast = values.astype(example.dtype)
        if cast.dtype.kind == "f" and not np.isfinite(cast).all():
            raise InvalidArgumentError(f"options['task'][{name!r}] holds a non-finite value.")
        if cast.dtype.kind in "iub" and not np.array_equal(cast, values):
            raise InvalidArgumentError(
                f"options['task'][{name!r}] holds a value that {example.dtype} cannot."
            )
        task[name] = cast
    return task


def _as_array(name: str, given: Any) -> np.ndarray:
    try:
        values = np.array(given)
    except ValueError as error:
        message = f"options['task'][{name!r}] is not one array: {error}."
        raise InvalidArgumentError(message) from None
    if values.dtype.kind not in "fiub":
        raise InvalidArgumentError(
            f"options['task'][{name!r}] has dtype {values.dtype}; numbers are needed."
        )
    return values
