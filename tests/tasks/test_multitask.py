"""Sets of tasks: disjoint splits, what seeds change and what they do not, honest alignment."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.datasets

from metagym.errors import InvalidArgumentError
from metagym.tasks.multitask import TASK_SETS, make_task_set


def _rows(tasks):
    return {x.tobytes() for task in tasks for x in task.x}


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("name", TASK_SETS)
def test_splits_are_disjoint_and_name_the_same_tasks(name, seed):
    sets = make_task_set(name, seed=seed)
    train, validation, test = (_rows(tasks) for tasks in sets)
    assert not train & validation
    assert not train & test
    assert not validation & test
    described = [[(task.name, task.kind, task.outputs) for task in tasks] for tasks in sets]
    assert described[0] == described[1] == described[2]


@pytest.mark.parametrize("name", ["digits_binary", "digits_three", "mixed"])
def test_seeds_choose_training_examples_and_nothing_else(name):
    one, two, again = (make_task_set(name, train=20, seed=seed) for seed in (0, 1, 0))
    for a, b, c in zip(one.train, two.train, again.train, strict=True):
        assert a.x.shape == b.x.shape == (20, a.x.shape[1])
        assert not np.array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.x, c.x)
        np.testing.assert_array_equal(a.y, c.y)
    for split in ("validation", "test"):
        for a, b in zip(getattr(one, split), getattr(two, split), strict=True):
            np.testing.assert_array_equal(a.x, b.x)
            np.testing.assert_array_equal(a.y, b.y)


def test_binary_digits_are_half_and_half():
    sizes = (4, 10, 20, 7, 2, 30, 30, 30, 30, 30)
    sets = make_task_set("digits_binary", train=sizes)
    assert [len(task.y) for task in sets.train] == list(sizes)
    assert [task.y.sum() for task in sets.train] == [size // 2 for size in sizes]
    for task in (*sets.validation, *sets.test):
        assert task.y.mean() == 0.5


def test_binary_labels_are_those_of_the_images():
    _, labels = sklearn.datasets.load_digits(return_X_y=True)
    train = make_task_set("digits_binary").train
    three = make_task_set("digits_three").train[0]
    known = {x.tobytes(): y for x, y in zip(three.x, three.y, strict=True)}
    for digit, task in enumerate(train):
        assert [int(known[x.tobytes()] == digit) for x in task.x] == task.y.tolist()
    assert (np.bincount(three.y) <= np.bincount(labels)).all()


def test_three_questions_share_their_images():
    sets = make_task_set("digits_three", train=50)
    for digit, parity, magnitude in sets:
        np.testing.assert_array_equal(digit.x, parity.x)
        np.testing.assert_array_equal(digit.x, magnitude.x)
        np.testing.assert_array_equal(parity.y, digit.y % 2)
        np.testing.assert_array_equal(magnitude.y, digit.y.astype(np.float32))
        assert digit.x is parity.x  # so that networks see an image once
        assert digit.x is magnitude.x
        assert (digit.outputs, parity.outputs, magnitude.outputs) == (10, 1, 1)


def test_features_are_standardised_by_training_examples():
    train, *_ = make_task_set("digits_three")
    spread = train[0].x.std(0)
    np.testing.assert_allclose(train[0].x.mean(0), 0, atol=1e-5)
    assert all(np.isclose(x, 1, atol=1e-4) or x == 0 for x in spread)


def test_blocks_share_no_column_and_components_share_all():
    blocks, components = (make_task_set("mixed", align=x) for x in ("blocks", "components"))
    cancer, diabetes = blocks.test
    assert cancer.x.shape[1] == diabetes.x.shape[1] == 40
    assert not cancer.x[:, 30:].any()
    assert not diabetes.x[:, :30].any()
    assert [task.kind for task in blocks.train] == ["binary", "regression"]
    for task in components.train:
        assert task.x.shape[1] == 10
        np.testing.assert_allclose(np.cov(task.x.T), np.eye(10), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("digits", {}, "Did you mean 'digits_"),
        ("digits_three", {"trian": 5}, "Did you mean 'train'"),
        ("digits_three", {"train": 10_000}, "more than the 898"),
        ("digits_binary", {"train": 1}, "between 2 and"),
        ("digits_binary", {"train": 1000}, "between 2 and"),
        ("digits_binary", {"train": (10, 10)}, "each of the 10"),
        ("mixed", {"align": "pad"}, "'blocks', 'components'"),
        ("mixed", {"train": 0}, "at least 1"),
        ("mixed", {"train": (10, 500)}, "diabetes"),
    ],
)
def test_bad_arguments_are_named(name, kwargs, words):
    with pytest.raises(InvalidArgumentError, match=words):
        make_task_set(name, **kwargs)
