"""Kernel mean matching: its program against a generic solver, its constraints, its limits."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from metagym.baselines.transfer.convex import Slab, minimise
from metagym.baselines.transfer.mean_matching import KernelMeanMatching
from metagym.baselines.transfer.widths import gaussian_kernel, median_width
from metagym.errors import InvalidArgumentError


def _domains(n=25, m=20, d=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), 0.7 + 0.8 * rng.normal(size=(m, d))


def _generic(objective, gradient, slab, start):
    n = len(start)
    limits = [
        {"type": "ineq", "fun": lambda b: b.sum() - slab.low, "jac": lambda b: np.ones(n)},
        {"type": "ineq", "fun": lambda b: slab.high - b.sum(), "jac": lambda b: -np.ones(n)},
    ]
    return scipy.optimize.minimize(
        objective, start, jac=gradient, method="SLSQP", bounds=[(0, slab.bound)] * n,
        constraints=limits, options={"maxiter": 2000, "ftol": 1e-14},
    )  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(2, 8), bound=st.floats(0.5, 4.0), low=st.floats(0.0, 0.9),
    high=st.floats(0.0, 1.0), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_projections_and_cheapest_points_are_those_of_generic_solvers(n, bound, low, high, seed):
    low = low * n * bound
    slab = Slab(bound, low, low + high * (n * bound - low))
    rng = np.random.default_rng(seed)
    point = 3.0 * rng.normal(size=n)
    projected = slab.project(point)
    assert projected.min() >= 0.0 and projected.max() <= bound
    assert slab.low - 1e-9 <= projected.sum() <= slab.high + 1e-9
    start = np.full(n, slab.low / n)
    nearest = _generic(lambda b: ((b - point) ** 2).sum(), lambda b: 2 * (b - point), slab, start)
    np.testing.assert_allclose(projected, nearest.x, atol=1e-4)
    sums = np.ones((1, n))
    program = scipy.optimize.linprog(
        point, np.concatenate([sums, -sums]), [slab.high, -slab.low], bounds=(0, bound)
    )
    assert point @ slab.lowest(point) == pytest.approx(program.fun, abs=1e-7)


@pytest.mark.parametrize(
    "arguments",
    [
        {"ridge": 0.0, "slack": 0.0, "bound": 3.0},
        {"ridge": 0.0, "slack": 0.05, "bound": 2.0},
        {"ridge": 1.0},
    ],
)
def test_it_solves_its_program(arguments):
    source, target = _domains()
    kmm = KernelMeanMatching(width=1.0, tol=1e-8, max_iter=50_000, **arguments)
    kmm.fit(source, target)
    n = len(source)
    K = gaussian_kernel(source, source, 1.0) + kmm.ridge * np.eye(n)
    kappa = n * gaussian_kernel(source, target, 1.0).mean(axis=1)
    slack = 1.0 - 1.0 / np.sqrt(n) if kmm.slack is None else kmm.slack
    slab = Slab(kmm.bound, n * (1.0 - slack), n * (1.0 + slack))
    beta = kmm.coef_
    assert beta.min() >= 0.0 and beta.max() <= kmm.bound
    assert abs(beta.sum() - n) <= n * slack + 1e-6

    def value(b):
        return 0.5 * b @ K @ b - kappa @ b

    best = _generic(value, lambda b: K @ b - kappa, slab, np.ones(n))
    assert value(beta) <= best.fun + 1e-4
    np.testing.assert_allclose(kmm.weights(source), beta / beta.mean())


def test_the_discrepancy_is_that_of_the_weights_and_smaller_than_without_them():
    source, target = _domains(60, 50)
    kmm = KernelMeanMatching(ridge=0.0, tol=1e-5).fit(source, target)
    s, t = kmm.coef_ / 60, np.full(50, 1 / 50)

    def discrepancy(s):
        cross = s @ gaussian_kernel(source, target, kmm.width_) @ t
        within = (
            s @ gaussian_kernel(source, source, kmm.width_) @ s
            + t @ gaussian_kernel(target, target, kmm.width_) @ t
        )
        return within - 2.0 * cross

    assert kmm.width_ == median_width(source, target)
    assert kmm.discrepancy_ == pytest.approx(discrepancy(s), abs=1e-9)
    assert kmm.discrepancy_ < 0.1 * discrepancy(np.full(60, 1 / 60))


def test_the_gap_bounds_what_is_missing():
    rng = np.random.default_rng(0)
    features = rng.random((30, 10))
    K, c = features @ features.T, 5.0 * rng.random(30)
    slab = Slab(2.0, 10.0, 50.0)
    best, _ = minimise(K, c, slab, 1e-9, 100_000)
    early, gap = minimise(K, c, slab, 0.0, 11)

    def value(b):
        return 0.5 * b @ K @ b - c @ b

    assert gap >= value(early) - value(best) > 1e-3
    _, gap = minimise(K, c, slab, 0.5, 1000)
    assert gap <= 0.5


def test_equal_domains_need_no_weights():
    source, _ = _domains(30)
    kmm = KernelMeanMatching(ridge=0.0, tol=1e-8).fit(source, source)
    assert kmm.discrepancy_ < 1e-7


def test_there_are_weights_for_the_source_only():
    source, target = _domains()
    kmm = KernelMeanMatching().fit(source, target)
    assert kmm.weights(source.tolist()).shape == (25,)
    for other in (target, source[:5], source[::-1]):
        with pytest.raises(InvalidArgumentError, match=r"for no others.* KLIEP, LSIF or ULSIF"):
            kmm.weights(other)


def test_a_singular_kernel_is_no_obstacle():
    source, target = _domains()
    doubled = np.concatenate([source, source])
    weights = KernelMeanMatching(ridge=0.0, tol=1e-4).fit(doubled, target).weights(doubled)
    assert np.isfinite(weights).all() and weights.mean() == pytest.approx(1.0)


def test_bad_arguments_are_named():
    source, target = _domains()
    for name, value in (("bound", 0), ("slack", -0.1), ("ridge", -1), ("width", 0), ("tol", 0)):
        with pytest.raises(InvalidArgumentError, match=f"{name}="):
            KernelMeanMatching(**{name: value}).fit(source, target)
    with pytest.raises(InvalidArgumentError, match="raise bound or slack"):
        KernelMeanMatching(bound=0.5, slack=0.1).fit(source, target)
    with pytest.raises(InvalidArgumentError, match="are the same"):
        KernelMeanMatching().fit(np.ones((4, 1)), np.ones((3, 1)))
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        KernelMeanMatching(ridge=0.0, tol=1e-12, max_iter=5).fit(source, target)
