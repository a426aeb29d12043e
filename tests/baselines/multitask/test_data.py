"""The contract of tasks: what is checked, what is counted, what is described."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metagym.baselines.multitask.data import KINDS, TaskData, TasksShape
from metagym.errors import DataError, InvalidArgumentError

X = np.arange(12.0).reshape(6, 2)


def _task(name="a", kind="binary", x=X, y=(0, 1, 0, 1, 1, 0), **kwargs):
    return TaskData(name, kind, x, y, **kwargs)


def test_arrays_get_the_types_that_networks_take():
    assert _task().x.dtype == np.float32
    assert _task().y.dtype == np.int64
    assert _task(kind="regression", y=[0.5] * 6).y.dtype == np.float32
    assert _task(y=np.array([True, False] * 3)).y.tolist() == [1, 0] * 3
    assert TaskData("b", "binary", X.tolist(), [0] * 6).x.shape == (6, 2)


@pytest.mark.parametrize(
    ("kind", "y", "classes", "outputs"),
    [
        ("regression", [0.5] * 6, None, 1),
        ("binary", [0] * 6, None, 1),
        ("multiclass", [0, 1, 2, 0, 1, 2], None, 3),
        ("multiclass", [0, 1, 2, 0, 1, 2], 5, 5),
        ("multiclass", [0] * 6, None, 2),
    ],
)
def test_outputs_are_counted(kind, y, classes, outputs):
    assert _task(kind=kind, y=y, classes=classes).outputs == outputs


@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(1, 20))
def test_classes_hold_all_labels(seed, classes, count):
    y = np.random.default_rng(seed).integers(classes, size=count)
    task = TaskData("t", "multiclass", np.zeros((count, 1)), y)
    assert task.outputs == max(2, y.max() + 1)
    np.testing.assert_array_equal(task.y, y)
    with pytest.raises(InvalidArgumentError, match="class numbers" if y.max() else "at least 1"):
        TaskData("t", "multiclass", np.zeros((count, 1)), y, classes=int(y.max()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "Binary"}, "Did you mean 'binary'"),
        ({"x": X[:, 0]}, "examples × features"),
        ({"x": X[:0], "y": []}, "at least one"),
        ({"x": X[:, :0]}, "at least one"),
        ({"y": [0, 1]}, "6 rows"),
        ({"y": [0, 1, 2, 0, 1, 0]}, "from 0 to 1"),
        ({"y": [-1, 1, 1, 0, 1, 0]}, "from 0 to 1"),
        ({"y": [0.5] * 6}, "class numbers"),
        ({"x": [["a", "b"]] * 6}, "array of numbers"),
        ({"y": ["a", "b"] * 3}, "array of numbers"),
        ({"kind": "multiclass", "classes": 2.5}, "classes of task 'a'=2.5"),
        ({"kind": "multiclass", "classes": "3"}, "classes of task 'a'='3'"),
        ({"classes": 3}, "only kind 'multiclass'"),
        ({"kind": "regression", "classes": 2}, "only kind 'multiclass'"),
    ],
)
def test_bad_tasks_are_named(change, words):
    with pytest.raises(InvalidArgumentError, match=words):
        _task(**change)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_number_is_refused(kind, bad):
    x, y = X.copy(), np.zeros(6)
    x[2, 1] = bad
    with pytest.raises(DataError, match="x of task 'a' has NaN"):
        _task(kind=kind, x=x, y=y)
    y[0] = bad
    with pytest.raises(DataError, match="y of task 'a' has NaN"):
        _task(kind=kind, y=y)


def test_what_single_precision_cannot_hold_is_refused():
    with pytest.raises(DataError, match="y of task 'a' has NaN or infinity"):
        _task(kind="regression", y=[1e39] * 6)
    with pytest.raises(DataError, match="x of task 'a' has NaN or infinity"):
        _task(x=[[1e39, 0.0]] * 6)
    with pytest.raises(DataError, match="y of task 'a' has NaN"):
        _task(y=[None] * 6)


def test_the_shape_of_tasks():
    tasks = [_task(), _task("b", "multiclass"), _task("c", "regression")]
    shape = TasksShape.of(tasks)
    assert shape.inputs == 2
    assert shape.kinds == ("binary", "multiclass", "regression")
    assert shape.outputs == (1, 2, 1)
    assert shape.descriptors == ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    described = [_task(descriptor=np.array([0.5])), _task("b", descriptor=[2])]
    assert TasksShape.of(described).descriptors == ((0.5,), (2.0,))


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([], "at least one task"),
        ([_task(), _task()], "have to differ"),
        ([_task(), _task("b", x=X[:, :1])], "a: 2, b: 1"),
        ([_task(descriptor=[1, 2]), _task("b", descriptor=[1])], "\\[2, 1\\]"),
        ([_task(descriptor=[1]), _task("b")], "none of them"),
    ],
)
def test_tasks_that_do_not_fit_together_are_named(tasks, words):
    with pytest.raises(InvalidArgumentError, match=words):
        TasksShape.of(tasks)
