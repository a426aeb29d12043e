"""KLIEP, LSIF and uLSIF: their programs against generic solvers, their scores by brute force."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from metagym.baselines.transfer.convex import most_likely_shares, nonnegative_minimum
from metagym.baselines.transfer.fitted_ratio import KLIEP, splits
from metagym.baselines.transfer.least_squares_ratio import (
    LINEAR,
    LSIF,
    QUADRATIC,
    ULSIF,
    leave_one_out,
)
from metagym.baselines.transfer.widths import MULTIPLES, gaussian_kernel, median_width
from metagym.errors import InvalidArgumentError


def _domains(n=30, m=20, d=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), 0.5 + 0.8 * rng.normal(size=(m, d))


def _generic(objective, gradient, size, constraints=()):
    return scipy.optimize.minimize(
        objective, np.full(size, 0.5), jac=gradient, method="SLSQP", bounds=[(0, None)] * size,
        constraints=constraints, options={"maxiter": 2000, "ftol": 1e-14},
    )  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(b=st.integers(2, 8), rows=st.integers(2, 12), seed=st.integers(0, 10**6))
def test_nonnegative_quadratics_are_as_low_as_a_generic_solver_gets(b, rows, seed):
    rng = np.random.default_rng(seed)
    features = rng.random((rows, b))  # fewer rows than unknowns: singular
    H, c = features.T @ features / rows, rng.normal(size=b)
    alpha = nonnegative_minimum(H, c)
    assert (alpha >= 0.0).all()

    def value(a):
        return 0.5 * a @ H @ a - c @ a

    best = _generic(value, lambda a: H @ a - c, b)
    assert value(alpha) <= best.fun + 1e-5 * (1.0 + abs(best.fun))
    # The conditions of Karush, Kuhn and Tucker.
    slopes = H @ alpha - c
    assert slopes.min() > -1e-3 and abs(slopes @ alpha) < 1e-3 * (1.0 + np.abs(alpha).sum())


@settings(max_examples=15, deadline=None)
@given(m=st.integers(3, 20), b=st.integers(2, 8), seed=st.integers(0, 10**6))
def test_the_shares_of_a_mixture_are_as_likely_as_a_generic_solver_finds(m, b, seed):
    rng = np.random.default_rng(seed)
    components = rng.gamma(0.3, size=(m, b)) + 1e-3
    shares, missing = most_likely_shares(components, 1e-6, 100)
    assert missing <= 1e-6
    assert shares.sum() == pytest.approx(1.0) and (shares >= 0.0).all()
    best = _generic(
        lambda s: s.sum() - np.log(np.maximum(components @ s, 1e-12)).mean(),
        lambda s: 1.0 - (components / (components @ s)[:, None]).mean(axis=0),
        b,
    )
    assert np.log(components @ shares).mean() >= 1.0 - best.fun - 2e-6


def test_shares_that_cannot_be_found_in_time_say_what_is_missing():
    rng = np.random.default_rng(0)
    components = rng.gamma(0.1, size=(50, 20)) + 1e-6
    shares, missing = most_likely_shares(components, 1e-9, 2)
    best, _ = most_likely_shares(components, 1e-9, 100)
    short = np.log(components @ best).mean() - np.log(components @ shares).mean()
    assert 0.0 < short <= missing
    source, target = _domains()
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        KLIEP(width=0.3, tol=1e-9, max_iter=1).fit(source, target)


def test_kliep_solves_its_program():
    source, target = _domains()
    kliep = KLIEP(width=0.7, tol=1e-7).fit(source, target)
    assert kliep.source_mean_ == pytest.approx(1.0)  # its constraint
    in_source = gaussian_kernel(source, kliep.centres_, 0.7).mean(axis=0)
    in_target = gaussian_kernel(target, kliep.centres_, 0.7)
    best = _generic(
        lambda a: -np.log(in_target @ a).mean(),
        lambda a: -(in_target / (in_target @ a)[:, None]).mean(axis=0),
        len(target),
        {"type": "eq", "fun": lambda a: in_source @ a - 1.0, "jac": lambda a: in_source},
    )
    assert np.log(in_target @ kliep.coef_).mean() == pytest.approx(-best.fun, abs=1e-5)


def test_kliep_takes_the_width_of_the_best_held_out_likelihood():
    source, target = _domains(100, 80)
    kliep = KLIEP().fit(source, target)
    assert list(kliep.scores_) == [x * median_width(source, target) for x in MULTIPLES]
    assert kliep.scores_[kliep.width_] == max(kliep.scores_.values())
    assert not KLIEP(width=1.0).fit(source, target).scores_


def test_lsif_solves_its_program():
    source, target = _domains()
    lsif = LSIF(width=0.7, regularization=0.01).fit(source, target)
    k = gaussian_kernel(source, lsif.centres_, 0.7)
    H, h = k.T @ k / len(source), gaussian_kernel(target, lsif.centres_, 0.7).mean(axis=0)

    def value(a):
        return 0.5 * a @ H @ a - h @ a + 0.01 * a.sum()

    best = _generic(value, lambda a: H @ a - h + 0.01, len(h))
    assert value(lsif.coef_) == pytest.approx(best.fun, abs=1e-6)


def test_ulsif_is_one_linear_system_with_negative_coefficients_cut():
    source, target = _domains()
    ulsif = ULSIF(width=0.7, regularization=0.1).fit(source, target)
    k = gaussian_kernel(source, ulsif.centres_, 0.7)
    h = gaussian_kernel(target, ulsif.centres_, 0.7).mean(axis=0)
    plain = np.linalg.inv(k.T @ k / len(source) + 0.1 * np.eye(len(h))) @ h
    np.testing.assert_allclose(ulsif.coef_, np.maximum(0.0, plain), atol=1e-12)
    assert (plain < 0.0).any()


@pytest.mark.parametrize(("n", "m"), [(12, 9), (7, 15), (10, 10)])
@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_leaving_one_out_is_what_leaving_each_out_gives(n, m, penalty):
    source, target = _domains(n, m, seed=n)
    in_source, in_target = (gaussian_kernel(X, target, 0.8) for X in (source, target))
    scores = []
    for i in range(min(n, m)):
        k = np.delete(in_source, i, axis=0)
        H = k.T @ k / (n - 1)
        h = np.delete(in_target, i, axis=0).mean(axis=0)
        alpha = np.maximum(0.0, np.linalg.solve(H + penalty * np.eye(len(h)), h))
        scores.append(0.5 * (in_source[i] @ alpha) ** 2 - in_target[i] @ alpha)
    assert leave_one_out(in_source, in_target, penalty) == pytest.approx(np.mean(scores))


@pytest.mark.parametrize(("kind", "penalties"), [(LSIF, LINEAR), (ULSIF, QUADRATIC)])
def test_least_squares_choose_width_and_regularisation_of_the_best_score(kind, penalties):
    source, target = _domains(60, 50)
    ratio = kind().fit(source, target)
    assert len(ratio.scores_) == len(MULTIPLES) * len(penalties)
    chosen = ratio.scores_[ratio.width_, ratio.regularization_]
    assert chosen == max(ratio.scores_.values())
    same = kind(ratio.width_, ratio.regularization_).fit(source, target)
    np.testing.assert_array_equal(same.coef_, ratio.coef_)


def test_lsif_judges_by_the_mean_over_folds_and_its_standard_error():
    source, target = _domains(40, 40)
    lsif = LSIF(folds=4).fit(source, target)
    width, penalty = 0.5 * median_width(source, target), 0.01
    scores = []
    for learn, judge in splits(40, 4, 0):
        part = gaussian_kernel(source[learn], lsif.centres_, width)
        h = gaussian_kernel(target[learn], lsif.centres_, width).mean(axis=0)
        coef = nonnegative_minimum(part.T @ part / len(learn), h - penalty)
        on_source, on_target = (gaussian_kernel(x[judge], lsif.centres_, width) @ coef
                                for x in (source, target))  # fmt: skip
        scores.append(0.5 * (on_source**2).mean() - on_target.mean())
    wanted = np.mean(scores) + np.std(scores, ddof=1) / 2.0
    assert lsif.scores_[width, penalty] == pytest.approx(-wanted)


def test_lsif_is_not_taken_in_by_a_lucky_fold():
    """In this sample the mean alone prefers weights of which one has all: an error of 20."""
    rng = np.random.default_rng((8, 3, 500))
    middle = np.full(3, 3**-0.5)
    source, target = rng.normal(size=(500, 3)), middle + 0.7 * rng.normal(size=(500, 3))
    truth = np.exp(0.5 * (source**2).sum(axis=1) - ((source - middle) ** 2).sum(axis=1) / 0.98)
    truth /= truth.mean()
    found = LSIF().fit(source, target).weights(source)
    assert ((found - truth) ** 2).mean() < 0.3 * truth.var()


@pytest.mark.parametrize("kind", [KLIEP, LSIF, ULSIF])
def test_few_centres_are_target_examples_drawn_by_the_seed(kind):
    source, target = _domains(60, 50)
    first, again, other = (
        kind(width=1.0, centres=10, random_state=seed).fit(source, target) for seed in (0, 0, 1)
    )
    assert len(np.unique(first.centres_, axis=0)) == 10
    assert all((row == target).all(axis=1).any() for row in first.centres_)
    np.testing.assert_array_equal(first.coef_, again.coef_)
    assert (first.centres_ != other.centres_).any()


def test_the_median_width_is_the_median_distance():
    X, Xt = np.array([[0.0], [1.0]]), np.array([[3.0]])
    assert median_width(X, Xt) == pytest.approx(2.0)
    assert median_width(np.zeros((9, 1)), Xt) == pytest.approx(3.0)  # repeated examples aside


@pytest.mark.parametrize("kind", [KLIEP, LSIF, ULSIF])
def test_what_kernels_cannot_do_is_said(kind):
    source, target = _domains()
    with pytest.raises(InvalidArgumentError, match="are the same; a kernel cannot tell"):
        kind().fit(np.ones((5, 2)), np.ones((4, 2)))
    with pytest.raises(InvalidArgumentError, match="do not overlap"):
        kind(width=0.1).fit(source, target + 1e3)
    with pytest.raises(InvalidArgumentError, match="width=-1"):
        kind(width=-1).fit(source, target)
    with pytest.raises(InvalidArgumentError, match="centres=0"):
        kind(centres=0).fit(source, target)
    with pytest.raises(InvalidArgumentError, match="too few examples"):
        kind().fit(source, target[:1])
    assert kind(width=1.0).fit(source, target).weights([[1e3, 1e3]]) == [0.0]


def test_a_regularisation_that_leaves_the_system_singular_is_named():
    repeated = np.zeros((20, 1))
    with pytest.raises(InvalidArgumentError, match="regularization=1e-300 is too small"):
        ULSIF(width=1.0, regularization=1e-300).fit(repeated, repeated)
    with pytest.raises(InvalidArgumentError, match="regularization=0"):
        ULSIF(width=1.0, regularization=0).fit(repeated, repeated)
