"""One table of all tasks: made, read back, refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.baselines.multitask.data import TaskData
from metagym.baselines.multitask.stacked import check_stacked, split_column, stack_tasks
from metagym.errors import DataError, InvalidArgumentError

X = np.array([[1.0, 2.0, 7.0], [3.0, 4.0, 5.0], [5.0, 6.0, 7.0], [7.0, 8.0, 5.0]])


class Frame:
    """What is used of a DataFrame: columns, and numpy's view of it."""

    def __init__(self, columns, rows):
        self.columns, self.rows = columns, rows

    def __array__(self, dtype=None, copy=None):
        return np.array(self.rows, dtype=dtype or object)


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5), seed=st.integers(0, 10**6))
def test_what_is_stacked_comes_back(sizes, seed):
    rng = np.random.default_rng(seed)
    tasks = [(rng.normal(size=(n, 3)), rng.normal(size=n)) for n in sizes]
    table, y = stack_tasks(tasks)
    shuffled = rng.permutation(len(table))
    data = check_stacked(table[shuffled], y[shuffled], -1, classify=False)
    assert data.names.tolist() == list(range(len(sizes)))
    for number, (x, labels) in enumerate(tasks):
        mine = data.task == number
        assert sorted(data.y[mine]) == sorted(labels)
        np.testing.assert_array_equal(np.sort(data.X[mine], axis=0), np.sort(x, axis=0))


def test_task_data_and_pairs_stack_alike():
    pair = (np.ones((2, 3), np.float32), np.array([0, 1]))
    one = stack_tasks([pair])
    other = stack_tasks([TaskData("t", "binary", *pair)])
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("column", [2, -1, np.int64(2)])
def test_the_column_is_taken_out(column):
    table, tasks = split_column(X, column)
    np.testing.assert_array_equal(table, X[:, :2])
    np.testing.assert_array_equal(tasks, X[:, 2])


def test_names_of_tasks_and_of_columns():
    frame = Frame(["a", "task", "b"], [[1, "left", 2], [3, "right", 4], [5, "left", 6]])
    data = check_stacked(frame, [1.0, 2.0, 3.0], "task", classify=False)
    assert data.names.tolist() == ["left", "right"]
    np.testing.assert_array_equal(data.X, [[1, 2], [5, 6], [3, 4]])
    np.testing.assert_array_equal(data.y, [1, 3, 2])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X, np.zeros(4), 3), InvalidArgumentError, "task_column=3 is not one of the 3"),
        ((X, np.zeros(4), True), InvalidArgumentError, "index or a name"),
        ((X, np.zeros(4), 0.5), InvalidArgumentError, "index or a name"),
        ((X, np.zeros(4), "task"), InvalidArgumentError, "DataFrame"),
        ((X, np.zeros(3), -1), InvalidArgumentError, "4 labels"),
        ((X[:, :1], np.zeros(4), -1), InvalidArgumentError, r"\(4, 1\)"),
        ((X[0], np.zeros(3), -1), InvalidArgumentError, "stack_tasks"),
        ((X[:0], np.zeros(0), -1), InvalidArgumentError, r"\(0, 3\)"),
        ((np.where(X == 4, np.nan, X), np.zeros(4), -1), DataError, r"X\[1, 1\] is nan"),
        ((np.where(X == 5, np.nan, X), np.zeros(4), -1), DataError, "task of X.1. is nan"),
        ((X, [0, 1, np.inf, 1], -1), DataError, r"y\[2\] is inf"),
    ],
)
def test_bad_tables(arguments, error, message):
    with pytest.raises(error, match=message):
        check_stacked(*arguments, classify=False)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1, 2, 0], "classes 0, 1, 2"),
        ([1, 1, 1, 1], "classes 1;"),
        ([0, 1, 0, 0], r"task 7\.0 are 0"),
        ([0, 1, 1, 1], r"task 5\.0 are 1"),
    ],
)
def test_every_task_needs_both_classes(y, message):
    with pytest.raises(InvalidArgumentError, match=message):
        check_stacked(X, y, -1, classify=True)


@pytest.mark.parametrize(
    ("tasks", "error", "message"),
    [
        ([], InvalidArgumentError, "at least one task"),
        ([(X, np.zeros(4)), (X[:0], np.zeros(0))], InvalidArgumentError, "X of task 1"),
        ([(X, np.zeros(4)), (X[:, :2], np.zeros(4))], InvalidArgumentError, r"\[2, 3\] features"),
        ([(X, np.zeros(3))], InvalidArgumentError, "y of task 0"),
        ([(X * np.nan, np.zeros(4))], DataError, "X of task 0"),
    ],
)
def test_bad_lists_of_tasks(tasks, error, message):
    with pytest.raises(error, match=message):
        stack_tasks(tasks)
