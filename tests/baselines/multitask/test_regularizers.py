"""Penalties: identities of soft sharing, proximal maps against numerical minimisation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.baselines.multitask.regularizers import (
    NORMS,
    coupling,
    l21_norm,
    l21_prox,
    quadratic,
    trace_norm,
    trace_prox,
)
from metagym.errors import InvalidArgumentError

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6))
SEEDS = st.integers(0, 10**6)


@settings(max_examples=30, deadline=None)
@given(shape=SHAPES, seed=SEEDS)
def test_couplings_are_the_sums_they_stand_for(shape, seed):
    weights = np.random.default_rng(seed).normal(size=shape)
    pairs = sum(((a - b) ** 2).sum() for a, b in itertools.combinations(weights, 2))
    to_mean = ((weights - weights.mean(axis=0)) ** 2).sum()
    assert quadratic(weights, coupling("pairwise", len(weights))) == pytest.approx(pairs, abs=1e-9)
    assert quadratic(weights, coupling("mean", len(weights))) == pytest.approx(to_mean, abs=1e-9)
    assert quadratic(weights, coupling("none", len(weights))) == 0.0
    assert pairs == pytest.approx(len(weights) * to_mean, abs=1e-9)


def test_for_two_tasks_the_distance_to_the_mean_is_half_the_distance_between_them():
    weights = np.array([[1.0, 2.0], [4.0, -2.0]])
    assert quadratic(weights, coupling("pairwise", 2)) == pytest.approx(25.0)
    assert quadratic(weights, coupling("mean", 2)) == pytest.approx(12.5)


def test_norms_of_known_matrices():
    weights = np.array([[3.0, 0.0, 1.0], [4.0, 0.0, 0.0]])
    assert l21_norm(weights) == pytest.approx(6.0)
    assert trace_norm(np.diag([2.0, -3.0])) == pytest.approx(5.0)
    assert trace_norm(np.outer([3.0, 4.0], [0.0, 2.0, 0.0])) == pytest.approx(10.0)


@pytest.mark.parametrize("name", list(NORMS))
@pytest.mark.parametrize("step", [0.3, 1.0])
def test_proximal_maps_minimise(name, step):
    weights = np.random.default_rng(0).normal(size=(3, 4))
    norm = NORMS[name]
    found = norm.prox(weights, step)

    def objective(flat):
        other = flat.reshape(weights.shape)
        return 0.5 * ((other - weights) ** 2).sum() + step * norm.value(other)

    # Of many descents from near and far none gets lower, and one gets as low.
    best = min(
        scipy.optimize.minimize(objective, start.ravel(), method="BFGS", tol=1e-10).fun
        for start in (weights, 0.1 * weights, found + 0.01)
    )
    assert objective(found.ravel()) <= best + 1e-9
    assert objective(found.ravel()) == pytest.approx(best, abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(shape=SHAPES, seed=SEEDS, step=st.floats(0.0, 3.0))
@pytest.mark.parametrize("name", list(NORMS))
def test_properties_of_proximal_maps(name, shape, seed, step):
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(2, *shape))
    norm = NORMS[name]
    # Moreau: what a map takes away lies in the ball of the dual norm, and aligned with the rest.
    kept = norm.prox(one, step)
    assert np.vdot(one - kept, kept) == pytest.approx(step * norm.value(kept), abs=1e-8)
    gap = np.linalg.norm(kept - norm.prox(other, step))
    assert gap <= np.linalg.norm(one - other) + 1e-9
    np.testing.assert_allclose(norm.prox(one, 0.0), one, atol=1e-9)
    assert not norm.prox(one, 100.0).any()


def test_proximal_maps_by_hand():
    np.testing.assert_allclose(
        l21_prox(np.array([[3.0, 0.3], [4.0, 0.4]]), 1.0), [[2.4, 0.0], [3.2, 0.0]]
    )
    np.testing.assert_allclose(
        trace_prox(np.diag([3.0, 1.0]), 2.0), np.diag([1.0, 0.0]), atol=1e-12
    )


def test_bad_arguments():
    with pytest.raises(InvalidArgumentError, match="'pairwise'"):
        coupling("pairs", 2)
    with pytest.raises(InvalidArgumentError, match="tasks=0"):
        coupling("mean", 0)
