"""Statistics on fixed numbers, against scipy, and their properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import bootstrap, mannwhitneyu, trim_mean

from metagym.errors import InvalidArgumentError
from metagym.evaluation import statistics

scores = arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e3, 1e3))


def test_iqm_of_fixed_numbers():
    assert statistics.iqm([0, 1, 2, 3, 4, 5, 6, 1000]) == 3.5  # of 2, 3, 4, 5
    assert statistics.iqm([1, 2, 6]) == 3.0  # nothing to cut
    np.testing.assert_allclose(statistics.iqm([[8, 1, 3, 1], [0, 0, 10, 20]]), [2.0, 5.0])


@settings(max_examples=50, deadline=None)
@given(scores)
def test_iqm_is_scipys_trimmed_mean(values):
    np.testing.assert_allclose(statistics.iqm(values), trim_mean(values, 0.25), atol=1e-9)


def test_interval_of_a_mean_agrees_with_scipy_and_with_the_normal_one():
    values = np.random.default_rng(3).normal(2.0, 3.0, 400)
    low, high = statistics.bootstrap_interval(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    np.testing.assert_allclose([low, high], [values.mean() - half, values.mean() + half], atol=0.04)
    other = bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=1)
    np.testing.assert_allclose([low, high], other.confidence_interval, atol=0.04)


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for i in range(200):
        low, high = statistics.bootstrap_interval(rng.normal(size=60), seed=i)
        covered += low <= 0.0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_strata_are_resampled_apart():
    # Between two tasks lies everything, within them nothing: no doubt is left about the mean.
    values, strata = [0.0] * 10 + [1.0] * 10, [0] * 10 + [1] * 10
    assert statistics.bootstrap_interval(values, strata=strata) == (0.5, 0.5)
    low, high = statistics.bootstrap_interval(values)
    assert low < 0.4 < 0.6 < high


def test_large_inputs_are_chunked_and_seeded():
    values = np.random.default_rng(1).normal(size=5_000)
    once = statistics.bootstrap_interval(values, statistics.iqm, seed=4)
    assert once == statistics.bootstrap_interval(values, statistics.iqm, seed=4)
    assert once != statistics.bootstrap_interval(values, statistics.iqm, seed=5)


def test_pairing_sees_what_the_intervals_hide():
    tasks = np.random.default_rng(2).normal(0.0, 10.0, 50)
    better = tasks - 0.1
    value, low, high = statistics.paired_difference(better, tasks)
    assert low <= value <= high < 0.0
    np.testing.assert_allclose([value, low, high], -0.1)
    assert statistics.estimate(better).low < statistics.estimate(tasks).value


def test_probability_of_improvement_of_fixed_numbers():
    assert statistics.probability_of_improvement([3, 4], [1, 2]) == 1.0
    assert statistics.probability_of_improvement([3, 4], [1, 2], minimize=True) == 0.0
    assert statistics.probability_of_improvement([1, 2, 3], [2]) == 0.5
    assert statistics.probability_of_improvement([2, 5], [1, 2, 9]) == (1.5 + 2) / 6


@settings(max_examples=50, deadline=None)
@given(scores, scores)
def test_probability_of_improvement_is_mann_whitneys(a, b):
    expected = mannwhitneyu(a, b, method="asymptotic").statistic / (len(a) * len(b))
    np.testing.assert_allclose(statistics.probability_of_improvement(a, b), expected, atol=1e-12)


@pytest.mark.parametrize("bad", [[], [1.0, np.nan], [[1.0]], [np.inf]])
def test_bad_scores_are_typed_errors(bad):
    with pytest.raises(InvalidArgumentError, match="finite score"):
        statistics.bootstrap_interval(bad)


def test_unequal_lengths_are_no_pairs():
    with pytest.raises(InvalidArgumentError, match="cannot be paired"):
        statistics.paired_difference([1.0, 2.0], [1.0])
    with pytest.raises(InvalidArgumentError, match="strata"):
        statistics.bootstrap_interval([1.0, 2.0], strata=[0])
