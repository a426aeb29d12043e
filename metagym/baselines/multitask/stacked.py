"""Examples of all tasks in one table: the task is a column of X.

That is the one form that scikit-learn's tools pass on untouched: rows stay rows when a Pipeline
transforms them, when GridSearchCV splits them and when ``predict`` gets new ones. In a Pipeline a
``ColumnTransformer([("scale", StandardScaler(), features)], remainder="passthrough")`` prepares the
features and leaves the task as the last column. Folds should hold every task: give GridSearchCV
``cv=list(StratifiedKFold().split(X, X[:, -1]))``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from metagym.baselines.multitask.data import TaskData
from metagym.baselines.transfer.base import check_examples, check_labels
from metagym.errors import DataError, InvalidArgumentError


class Stacked(NamedTuple):
    """Checked examples of all tasks, in order of their tasks.

    Attributes:
        X: [n, d], float64, without the column of tasks.
        y: [n], values, or classes as they were given.
        task: [n], numbers from 0, not decreasing.
        names: [M], of the tasks as they stood in the column, sorted.
    """

    X: np.ndarray
    y: np.ndarray
    task: np.ndarray
    names: np.ndarray


def stack_tasks(
    tasks: Sequence[TaskData] | Sequence[tuple[Any, Any]],
) -> tuple[np.ndarray, np.ndarray]:
    """One table of the examples of several tasks.

    Args:
        tasks: ``TaskData``, or pairs (X_m [n_m, d], y_m [n_m]).

    Returns:
        X [n, d + 1] of which the last column is the number of the task from 0, and y [n].

    Raises:
        InvalidArgumentError: no task, a task without examples, or different numbers of features.
        DataError: NaN or infinity.
    """
    pairs = [(task.x, task.y) if isinstance(task, TaskData) else task for task in tasks]
    if not pairs:
        raise InvalidArgumentError("Multi-task learning needs at least one task.")
    tables, labels = [], []
    for number, (x, y) in enumerate(pairs):
        table = check_examples(f"X of task {number}", x)
        values = np.asarray(y)
        classify = values.dtype.kind != "f"
        labels.append(check_labels(f"y of task {number}", values, len(table), classify=classify))
        tables.append(np.column_stack([table, np.full(len(table), float(number))]))
    widths = {table.shape[1] - 1 for table in tables}
    if len(widths) > 1:
        raise InvalidArgumentError(
            f"Tasks have {sorted(widths)} features; they learn together on the same ones."
        )
    return np.concatenate(tables), np.concatenate(labels)


def check_stacked(X: Any, y: Any, task_column: int | str, *, classify: bool) -> Stacked:
    """The arguments of ``fit``.

    Args:
        X: array or DataFrame [n, d + 1].
        y: [n].
        task_column: where the task is: an index, or a name in a DataFrame.
        classify: ``y`` holds two classes, and every task has examples of both.

    Raises:
        InvalidArgumentError: shapes that do not fit, no such column, or classes that are not two.
        DataError: NaN or infinity.
    """
    table, tasks = split_column(X, task_column)
    labels = check_labels("y", y, len(table), classify=classify)
    names, number = np.unique(tasks, return_inverse=True)
    order = np.argsort(number, kind="stable")
    stacked = Stacked(table[order], labels[order], number[order], names)
    if classify:
        classes = np.unique(labels)
        if len(classes) != 2:
            raise InvalidArgumentError(
                f"y has the classes {', '.join(map(repr, classes[:10].tolist()))}; these "
                "classifiers tell two apart, the same two in every task."
            )
        upper = np.bincount(number, labels == classes[1]) / np.bincount(number)
        if (single := (upper == 0.0) | (upper == 1.0)).any():
            first = int(np.argmax(single))
            raise InvalidArgumentError(
                f"All labels of task {names.tolist()[first]!r} are "
                f"{classes.tolist()[int(upper[first])]!r}; every task needs examples of both "
                "classes."
            )
    return stacked


def split_column(X: Any, task_column: int | str) -> tuple[np.ndarray, np.ndarray]:
    """Features [n, d], float64, and tasks [n] as they stand in the column.

    Raises:
        InvalidArgumentError: not a table, or no such column.
        DataError: NaN or infinity.
    """
    index: Any = task_column
    if isinstance(task_column, str):
        columns = list(getattr(X, "columns", ()))
        if task_column not in columns:
            raise InvalidArgumentError(
                f"task_column={task_column!r} is not a column of X; names need a DataFrame, its "
                f"columns are {columns[:10]}. Without one give an index, such as -1."
            )
        index = columns.index(task_column)
    table = np.asarray(X)
    if table.ndim != 2 or table.shape[1] < 2 or not len(table):
        raise InvalidArgumentError(
            "X has to be examples × columns, at least one of features and one that says which "
            f"task an example belongs to; its shape is {table.shape}. stack_tasks makes it."
        )
    if isinstance(index, bool) or not hasattr(index, "__index__"):
        raise InvalidArgumentError(f"task_column={task_column!r} has to be an index or a name.")
    if not -table.shape[1] <= index < table.shape[1]:
        raise InvalidArgumentError(
            f"task_column={task_column!r} is not one of the {table.shape[1]} columns of X."
        )
    tasks = table[:, index]
    missing = np.array([task is None or task != task for task in tasks.tolist()])
    if missing.any():
        row = int(np.argmax(missing))
        raise DataError(f"The task of X[{row}] is {tasks[row]}; drop such rows.")
    if tasks.dtype == object:  # of strings, or numbers that have strings beside them
        tasks = np.array(tasks.tolist())
    return check_examples("X", np.delete(table, index, axis=1)), tasks
