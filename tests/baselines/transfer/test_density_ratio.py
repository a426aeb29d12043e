"""Ratios of densities: closed forms between Gaussians, what each contrast gets wrong, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.svm import LinearSVC

from metagym.baselines.transfer.density_ratio import (
    ClassifierRatio,
    DensityRatio,
    KnownRatio,
    SelectionRatio,
    TwoDensities,
)
from metagym.baselines.transfer.fitted_ratio import KLIEP
from metagym.baselines.transfer.least_squares_ratio import LSIF, ULSIF
from metagym.baselines.transfer.mean_matching import KernelMeanMatching
from metagym.errors import DataError, InvalidArgumentError

GAUSSIAN = GaussianMixture(random_state=0)
ESTIMATORS = {
    "odds": ClassifierRatio(),
    "two kernel densities": TwoDensities(),
    "two Gaussians": TwoDensities(GAUSSIAN),
    "KLIEP": KLIEP(),
    "LSIF": LSIF(),
    "uLSIF": ULSIF(),
    "mean matching": KernelMeanMatching(),
}
FIXED = [
    ClassifierRatio(), SelectionRatio(), SelectionRatio(accepted="source"), TwoDensities(),
    KLIEP(width=1.0), LSIF(width=1.0, regularization=0.01), ULSIF(width=1.0, regularization=0.1),
    KernelMeanMatching(),
]  # fmt: skip


def _gaussians(n, m, d=1, seed=0, shift=1.0, spread=1.0):
    """N(0, I) and N(shift · e, spread² I), e a unit vector, and the log-ratio of the two."""
    rng = np.random.default_rng(seed)
    middle = np.full(d, shift / np.sqrt(d))
    source, target = rng.normal(size=(n, d)), middle + spread * rng.normal(size=(m, d))

    def ratio(X):
        far = ((X - middle) ** 2).sum(axis=1) / spread**2
        return np.exp(0.5 * ((X**2).sum(axis=1) - far)) / spread**d

    return source, target, ratio


def _error(weights, truth):
    """Squared error at the source, 1 for weights that are all the same."""
    weights, truth = weights / weights.mean(), truth / truth.mean()
    return ((weights - truth) ** 2).mean() / truth.var()


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_estimates_between_gaussians_are_closer_than_the_lectures_contrast(name):
    errors, contrast = [], []
    for seed in range(3):
        # A target narrower than the source: every method has a bounded ratio to find.
        source, target, ratio = _gaussians(1000, 2000, shift=1.0, spread=0.6, seed=seed)
        squares = [np.column_stack([X, X**2]) for X in (source, target)]
        given = squares if name == "odds" else (source, target)
        weights = clone(ESTIMATORS[name]).fit(*given).weights(given[0])
        errors.append(_error(weights, ratio(source)))
        probability = SelectionRatio().fit(*squares).weights(squares[0])
        contrast.append(_error(probability, ratio(source)))
    assert np.mean(errors) < 0.1 < 0.2 < np.mean(contrast)


def test_odds_are_the_closed_form_whatever_the_sizes_and_the_probability_is_not():
    source, target, ratio = _gaussians(20_000, 5_000)
    points = np.linspace(-1.0, 2.0, 7)[:, None]
    odds = ClassifierRatio().fit(source, target)
    np.testing.assert_allclose(odds.weights(points), ratio(points), rtol=0.1)
    assert odds.source_mean_ == pytest.approx(1.0, abs=0.05)
    probability = SelectionRatio().fit(source, target).weights(points)
    assert np.abs(probability / ratio(points) - 1.0).max() > 0.3
    # It estimates the ratio of the target to the mixture of both samples instead.
    share = 5_000 / 25_000
    mixture = ratio(points) / (share * ratio(points) + 1.0 - share)
    np.testing.assert_allclose(probability, mixture, rtol=0.1)
    assert probability.max() < 1.0 / share


def test_the_probability_nears_the_ratio_as_the_target_becomes_rare():
    points = np.linspace(-1.0, 2.0, 7)[:, None]
    off = []
    for m in (20_000, 4_000, 400):
        source, target, ratio = _gaussians(20_000, m)
        relative = SelectionRatio().fit(source, target).weights(points) / ratio(points)
        off.append(np.log(relative).std())
    assert off[0] > 2 * off[1] > 4 * off[2]


def _pool(n=20_000, seed=0):
    """Rejection sampling: a pool, its acceptance probabilities, and who was accepted."""
    rng = np.random.default_rng(seed)
    pool = rng.normal(size=(n, 1))
    accepts = 1.0 / (1.0 + np.exp(0.5 - 1.5 * pool[:, 0]))
    return pool, accepts, rng.random(n) < accepts


def test_p_of_s_is_right_from_a_pool_to_what_was_accepted_of_it():
    pool, accepts, accepted = _pool()
    ratio = SelectionRatio().fit(pool[~accepted], pool[accepted])
    weights = ratio.weights(pool)
    assert weights.mean() == pytest.approx(1.0)  # over the pool
    np.testing.assert_allclose(weights, accepts / accepts.mean(), rtol=0.1)
    assert np.average(pool[:, 0], weights=weights) == pytest.approx(pool[accepted].mean(), abs=0.02)
    # The odds compare the accepted to the rejected, who are not the pool.
    odds = ClassifierRatio().fit(pool[~accepted], pool[accepted]).weights(pool)
    assert _error(odds, accepts) > 0.5


def test_its_inverse_is_right_from_the_accepted_back_to_the_pool():
    pool, accepts, accepted = _pool()
    ratio = SelectionRatio(accepted="source").fit(pool[accepted], pool[~accepted])
    weights = ratio.weights(pool[accepted])
    assert weights.mean() == pytest.approx(1.0)  # over the accepted
    np.testing.assert_allclose(weights, accepts.mean() / accepts[accepted], rtol=0.15)
    seen = pool[accepted, 0]
    assert seen.mean() > 0.3
    assert np.average(seen, weights=weights) == pytest.approx(0.0, abs=0.05)
    wrong = SelectionRatio().fit(pool[~accepted], pool[accepted]).weights(pool[accepted])
    assert np.average(seen, weights=wrong) > seen.mean()


def test_one_gaussian_per_domain_is_the_formula():
    source, target, _ = _gaussians(50, 60, d=2, spread=0.8)
    ratio = TwoDensities(GaussianMixture(reg_covar=0.0, random_state=0)).fit(source, target)

    def log_density(X, sample):
        centred = X - sample.mean(axis=0)
        covariance = np.cov(sample.T, bias=True)
        mahalanobis = (centred @ np.linalg.inv(covariance) * centred).sum(axis=1)
        return -0.5 * (mahalanobis + np.linalg.slogdet(covariance)[1])

    expected = np.exp(log_density(source, target) - log_density(source, source))
    np.testing.assert_allclose(ratio.weights(source), expected / expected.mean(), rtol=1e-6)
    assert ratio.source_mean_ == pytest.approx(expected.mean())


def test_kernel_densities_do_not_overflow_far_from_the_source():
    source, target, _ = _gaussians(50, 50)
    weights = TwoDensities().fit(source, target).weights([[1e6], [-1e6]])
    assert np.isfinite(weights).all() and (weights >= 0.0).all()


@pytest.mark.parametrize("estimator", FIXED, ids=lambda x: f"{type(x).__name__}")
@settings(max_examples=8, deadline=None)
@given(n=st.integers(12, 30), m=st.integers(12, 30), seed=st.integers(0, 10**6))
def test_weights_are_not_negative_have_mean_1_and_know_no_order(estimator, n, m, seed):
    source, target, _ = _gaussians(n, m, d=2, seed=seed, shift=0.5)
    ratio = clone(estimator).fit(source, target)
    weights = ratio.weights(source)
    assert weights.shape == (n,) and (weights >= 0.0).all()
    if not isinstance(estimator, SelectionRatio) or estimator.accepted == "source":
        assert weights.mean() == pytest.approx(1.0)
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    shuffled = clone(estimator).fit(source[order], rng.permutation(target))
    atol = 0.1 if isinstance(estimator, KernelMeanMatching | KLIEP) else 1e-3
    np.testing.assert_allclose(shuffled.weights(source[order]), weights[order], atol=atol)


@pytest.mark.parametrize("estimator", FIXED, ids=lambda x: f"{type(x).__name__}")
def test_clones_forget_and_give_the_same_again(estimator):
    source, target, _ = _gaussians(40, 30)
    first = clone(estimator).fit(source, target)
    again = clone(first)
    assert not hasattr(again, "source_mean_")
    assert repr(again) == repr(estimator)
    with pytest.raises(ValueError, match="not fitted"):
        again.weights(source)
    np.testing.assert_array_equal(again.fit(source, target).weights(source), first.weights(source))


def test_known_ratios_are_scaled_and_checked():
    source, target, ratio = _gaussians(100, 1)
    known = KnownRatio(ratio).fit(source, target)
    np.testing.assert_allclose(known.weights(source), ratio(source) / ratio(source).mean())
    np.testing.assert_array_equal(KnownRatio().fit(source, target).weights(source), 1.0)
    with pytest.raises(InvalidArgumentError, match="cannot be negative"):
        KnownRatio(lambda X: X[:, 0]).fit(source, target)
    with pytest.raises(DataError, match="is nan"):
        KnownRatio(lambda X: X[:, 0] * np.nan).fit(source, target)
    with pytest.raises(InvalidArgumentError, match="do not overlap"):
        KnownRatio(lambda X: np.zeros(len(X))).fit(source, target)


@pytest.mark.parametrize("estimator", FIXED, ids=lambda x: f"{type(x).__name__}")
def test_bad_input_is_named(estimator: DensityRatio):
    source, target, _ = _gaussians(20, 20, d=2)
    ratio = clone(estimator)
    with pytest.raises(InvalidArgumentError, match="2 features and the target 1"):
        ratio.fit(source, target[:, :1])
    with pytest.raises(InvalidArgumentError, match="Xt has to be examples × features"):
        ratio.fit(source, target[:0])
    with pytest.raises(DataError, match=r"Xt\[0, 0\] is nan"):
        ratio.fit(source, target * np.nan)
    ratio.fit(source, target)
    with pytest.raises(InvalidArgumentError, match=r"X has 1 features; .* was fitted on 2"):
        ratio.weights(source[:, :1])
    with pytest.raises(DataError, match="inf"):
        ratio.weights(source + np.inf)


def test_estimators_that_cannot_serve_are_refused():
    source, target, _ = _gaussians(20, 20)
    with pytest.raises(InvalidArgumentError, match=r"LinearSVC\(\) has no predict_proba"):
        ClassifierRatio(LinearSVC()).fit(source, target)
    with pytest.raises(InvalidArgumentError, match="has no score_samples"):
        TwoDensities(LogisticRegression()).fit(source, target)
    with pytest.raises(InvalidArgumentError, match=r"'target', 'source'.*Did you mean"):
        SelectionRatio(accepted="sources").fit(source, target)
    with pytest.raises(InvalidArgumentError, match="examples of the target are the same"):
        TwoDensities().fit(source, np.ones((5, 1)))
