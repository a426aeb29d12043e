"""Pairs of domains: what is split from what, and the two that come from a formula."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.errors import InvalidArgumentError
from metagym.tasks.domains import gaussians, make_domains, moons, split_target


def numbered(classes=3, each=20):
    """Rows that know who they are: the source from 0, the target from 1000."""
    labels = np.arange(classes * each) % classes
    ids = np.arange(len(labels), dtype=float)[:, None]
    return (ids, labels), (ids + 1000, labels)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5), st.integers(0, 4), st.integers(0, 1000))
def test_splits_are_disjoint_and_labels_belong_to_the_first_rows(classes, shots, seed):
    source, target = numbered(classes)
    pair = split_target("pair", source, target, shots, seed)
    train, test = pair.Xt[:, 0], pair.X_test[:, 0]
    assert sorted([*train, *test]) == sorted(target[0][:, 0])
    np.testing.assert_array_equal(pair.y_test, target[1][(test - 1000).astype(int)])
    np.testing.assert_array_equal(pair.yt_all, target[1][(train - 1000).astype(int)])
    if not shots:
        assert pair.yt is None
    else:
        np.testing.assert_array_equal(np.bincount(pair.yt), np.full(classes, shots))
        np.testing.assert_array_equal(pair.yt, pair.yt_all[: len(pair.yt)])


def test_the_test_part_is_that_of_every_seed_and_the_labelled_rows_are_not():
    pairs = [split_target("pair", *numbered(), 2, seed) for seed in (0, 1, 0)]
    np.testing.assert_array_equal(pairs[0].X_test, pairs[1].X_test)
    assert set(pairs[0].Xt[:6, 0]) != set(pairs[1].Xt[:6, 0])
    np.testing.assert_array_equal(pairs[0].Xt, pairs[2].Xt)


@pytest.mark.parametrize("shots", [-1, 1.5, True, 11])
def test_bad_shots(shots):
    with pytest.raises(InvalidArgumentError, match="shots"):
        split_target("pair", *numbered(), shots, 0)


def test_gaussians_move_by_the_shift():
    for shift in (0.0, 3.0):
        pair = gaussians(shift=shift, examples=4000, dim=3)
        x, y = np.concatenate([pair.Xt, pair.X_test]), np.concatenate([pair.yt_all, pair.y_test])
        moved = [x[y == c].mean(0) - pair.X[pair.y == c].mean(0) for c in range(4)]
        np.testing.assert_allclose(np.linalg.norm(moved, axis=1), shift, atol=0.08)
        np.testing.assert_allclose(moved, np.tile(moved[0], (4, 1)), atol=0.1)


def test_gaussians_turn():
    pair = gaussians(shift=0.0, rotation=90.0, noise=0.0)
    corners = {c: pair.X[pair.y == c][0] for c in range(4)}
    for c in range(4):  # a quarter turn of a square is the next corner
        np.testing.assert_allclose(pair.X_test[pair.y_test == c][0], corners[(c + 1) % 4],
                                   atol=1e-12)  # fmt: skip


def test_moons_are_half_circles_that_turn():
    pair = moons(rotation=35.0, noise=0.0)
    angle = np.deg2rad(-35.0)
    back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for x, y in ((pair.X, pair.y), (pair.X_test @ back, pair.y_test)):
        for label, sign in ((0, 1.0), (1, -1.0)):
            arc = x[y == label] + sign * np.array([0.5, 0.25])
            np.testing.assert_allclose(np.linalg.norm(arc, axis=1), 1.0)
            assert (sign * arc[:, 1] >= -1e-12).all()


def test_the_seed_draws_other_examples():
    one, other, again = (make_domains(seed=seed) for seed in (0, 1, 0))
    assert not np.array_equal(one.X, other.X)
    np.testing.assert_array_equal(one.X, again.X)
    assert not np.array_equal(one.X, one.Xt)


@pytest.mark.parametrize(
    ("name", "kwargs", "said"),
    [
        ("gausians", {}, "gaussians"),
        ("moons", {"shift": 1.0}, "no argument 'shift'"),
        ("gaussians", {"classes": 1}, "two classes"),
        ("gaussians", {"noise": -1.0}, "noise"),
        ("moons", {"rotation": float("nan")}, "rotation"),
        ("moons", {"examples": 0}, "examples"),
    ],
)
def test_bad_arguments(name, kwargs, said):
    with pytest.raises(InvalidArgumentError, match=said):
        make_domains(name, **kwargs)


def test_office_caltech():
    if importlib.util.find_spec("metagym.tasks.office_caltech") is None:
        pytest.skip("there is no loader of Office+Caltech")
    folder = Path(os.environ.get("METAGYM_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (folder / "office_caltech").is_dir():
        pytest.skip(f"no Office+Caltech files in {folder}; set METAGYM_DATA")
    pair = make_domains("office_caltech", source="caltech", target="amazon", folder=folder)
    assert pair.X.shape[1] == pair.Xt.shape[1] == 800 and len(pair.yt) == 30
    with pytest.raises(InvalidArgumentError, match="both"):
        make_domains("office_caltech", source="amazon", target="amazon", folder=folder)
