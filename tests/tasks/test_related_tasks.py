"""The synthetic family of related tasks: angles, noise, pairing, sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.errors import InvalidArgumentError
from metagym.tasks.related_tasks import related_tasks, related_vectors


@settings(max_examples=30, deadline=None)
@given(
    tasks=st.integers(1, 8),
    extra=st.integers(0, 5),
    similarity=st.floats(0.0, 1.0),
    seed=st.integers(0, 10**6),
)
def test_vectors_have_length_one_and_the_cosine_asked_for(tasks, extra, similarity, seed):
    rng = np.random.default_rng(seed)
    vectors = related_vectors(rng, tasks=tasks, similarity=similarity, features=tasks + extra)
    wanted = np.full((tasks, tasks), similarity)
    np.fill_diagonal(wanted, 1.0)
    np.testing.assert_allclose(vectors @ vectors.T, wanted, atol=1e-9)


def test_without_noise_least_squares_finds_vectors_at_the_angle():
    family = related_tasks(np.random.default_rng(1), tasks=3, similarity=0.3, train=50, noise=0.0)
    found = np.stack([np.linalg.lstsq(task.x, task.y)[0] for task in family.train])
    np.testing.assert_allclose(
        found @ found.T, [[1, 0.3, 0.3], [0.3, 1, 0.3], [0.3, 0.3, 1]], atol=1e-5
    )
    for task, vector in zip(family.test, found, strict=True):
        np.testing.assert_allclose(task.x @ vector, task.y, atol=1e-4)


@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0])
def test_the_best_classifier_is_as_good_as_stated(noise):
    family = related_tasks(
        np.random.default_rng(0), tasks=2, test=40_000, kind="binary", noise=noise, similarity=0.2
    )
    # The vectors are the first thing drawn.
    vectors = related_vectors(np.random.default_rng(0), tasks=2, similarity=0.2, features=16)
    for task, vector in zip(family.test, vectors, strict=True):
        accuracy = ((task.x @ vector > 0) == task.y).mean()
        assert accuracy == pytest.approx(1 - np.arctan(noise) / np.pi, abs=0.01)


@pytest.mark.parametrize("nonlinear", [False, True])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_answers_have_variance_one_beside_the_noise(nonlinear, noise):
    family = related_tasks(
        np.random.default_rng(2), tasks=2, test=50_000, noise=noise, nonlinear=nonlinear
    )
    for task in family.test:
        assert task.y.mean() == pytest.approx(0.0, abs=0.03)
        assert task.y.var() == pytest.approx(1.0 + noise**2, rel=0.03)


def test_the_nonlinear_family_is_a_function_of_the_projection_and_not_linear():
    family = related_tasks(
        np.random.default_rng(3), tasks=2, train=4000, noise=0.0, nonlinear=True, similarity=1.0
    )
    first, second = family.train
    vector = related_vectors(np.random.default_rng(3), tasks=2, similarity=1.0, features=16)[0]
    z = np.concatenate([first.x, second.x]) @ vector
    y = np.concatenate([first.y, second.y])[np.argsort(z)]
    # One smooth curve for both tasks, so that neighbours in z have nearly the same answer.
    assert np.median(np.abs(np.diff(y))) < 0.01
    residual = y - np.polyval(np.polyfit(np.sort(z), y, 1), np.sort(z))
    assert residual.var() > 0.05


def test_along_the_knob_inputs_and_noise_stay_the_same():
    low, high = (related_tasks(np.random.default_rng(4), similarity=s) for s in (0.0, 1.0))
    curved = related_tasks(np.random.default_rng(4), similarity=0.0, nonlinear=True)
    for one, other, bent in zip(low.train, high.train, curved.train, strict=True):
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.x, bent.x)
        assert np.abs(one.y - other.y).max() > 0.1


def test_sizes_and_names():
    family = related_tasks(
        np.random.default_rng(0), tasks=3, train=(5, 9, 2), test=np.int64(7), kind="binary"
    )
    assert [len(task.y) for task in family.train] == [5, 9, 2]
    assert [len(task.y) for task in family.validation] == [5, 9, 2]
    assert [len(task.y) for task in family.test] == [7, 7, 7]
    assert [task.name for task in family.validation] == ["task 0", "task 1", "task 2"]
    assert {task.kind for task in family.test} == {"binary"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"similarity": 1.5}, "between 0"),
        ({"similarity": float("nan")}, "between 0"),
        ({"similarity": -0.1}, "between 0"),
        ({"tasks": 0}, "tasks=0"),
        ({"features": 3}, "as many features"),
        ({"noise": -1.0}, "noise=-1.0"),
        ({"kind": "multiclass"}, "'regression', 'binary'"),
        ({"train": (1, 2)}, "2 sizes for 4 tasks"),
        ({"train": 0}, "train=0"),
        ({"validation": (3, 3, 3, 1.5)}, "validation=1.5"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        related_tasks(np.random.default_rng(0), **arguments)
