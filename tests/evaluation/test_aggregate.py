"""Aggregates are rliable's (Agarwal et al. 2021), on numbers that were worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from metagym.errors import InvalidArgumentError
from metagym.evaluation import aggregate

# [runs, tasks]: 4 runs of 2 tasks.
SCORES = np.array([[0.0, 0.5], [0.25, 0.75], [0.5, 1.0], [0.75, 1.75]])


def test_mean_median_iqm_and_optimality_gap_by_hand():
    assert aggregate.mean(SCORES) == pytest.approx(5.5 / 8)
    assert aggregate.median(SCORES) == pytest.approx((0.375 + 1.0) / 2)  # of the tasks' means
    # 0 .25 .5 .5 .75 .75 1 1.75: two are cut at each end.
    assert aggregate.iqm(SCORES) == pytest.approx(2.5 / 4)
    assert aggregate.iqm(SCORES) == pytest.approx(scipy.stats.trim_mean(SCORES, 0.25, axis=None))
    # Shortfalls 1 .5 .75 .25 .5 0 .25 0: the 1.75 makes up for nothing.
    assert aggregate.optimality_gap(SCORES) == pytest.approx(3.25 / 8)
    assert aggregate.optimality_gap(SCORES, gamma=0.5) == pytest.approx(0.75 / 8)


def test_median_is_over_tasks_not_over_runs():
    scores = np.array([[0.0, 0.0, 9.0], [0.0, 6.0, 9.0]])  # the tasks' means are 0, 3 and 9
    assert aggregate.median(scores) == 3.0


def test_performance_profile_counts_runs_strictly_above():
    profile = aggregate.performance_profile(SCORES, np.array([-0.1, 0.0, 0.5, 0.75, 1.75]))
    assert profile.tolist() == [1.0, 7 / 8, 4 / 8, 2 / 8, 0.0]
    assert (np.diff(aggregate.performance_profile(SCORES)) <= 0).all()


def test_probability_of_improvement_by_hand_and_as_mann_whitney():
    x = np.array([[1.0, 0.0], [3.0, 0.0]])
    y = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    # Task 1: of 6 pairs 4 are won and 1 is tied. Task 2: 2 are lost, 4 tied.
    assert aggregate.probability_of_improvement(x, y) == pytest.approx((4.5 / 6 + 2 / 6) / 2)
    by_u = [scipy.stats.mannwhitneyu(x[:, task], y[:, task]).statistic / 6 for task in range(2)]
    assert aggregate.probability_of_improvement(x, y) == pytest.approx(np.mean(by_u))
    assert aggregate.probability_of_improvement(x, x) == 0.5
    # Of means of tasks, not of pooled scores: the scale of a task does not count.
    scale = np.array([1.0, 1e6])
    assert aggregate.probability_of_improvement(x * scale, y * scale) == pytest.approx(0.5416667)


def test_the_interval_of_the_probability_resamples_both_rows():
    x = np.array([[1.0, 4.0], [3.0, 5.0], [2.0, 6.0]])
    y = np.array([[2.5, 1.0], [0.0, 2.0]])
    found = aggregate.probability_of_improvement_interval(x, y)
    # Task 1: of a resample of x a share a ~ B(3, 1/3) / 3 beats 2.5 and all beat 0. Task 2: all.
    assert found.value == aggregate.probability_of_improvement(x, y) == pytest.approx(5 / 6)
    rng = np.random.default_rng(1)
    a, upper = rng.binomial(3, 1 / 3, 100_000) / 3, rng.binomial(2, 1 / 2, 100_000) / 2
    shares = (1 + upper * a + (1 - upper)) / 2
    assert (found.low, found.high) == pytest.approx(np.quantile(shares, (0.025, 0.975)))
    assert found.low < found.value < found.high == 1.0
    same = aggregate.probability_of_improvement_interval(x, x)
    assert same.value == 0.5 and same.low < 0.5 < same.high


def test_two_rows_that_share_no_run_are_apart_for_certain():
    found = aggregate.probability_of_improvement_interval(SCORES + 10.0, SCORES)
    assert tuple(found) == (1.0, 1.0, 1.0)


def test_the_band_of_a_profile_is_that_of_resampled_runs():
    thresholds = np.array([-1.0, 0.3, 0.8, 2.0])
    low, high = aggregate.performance_profile_band(SCORES, thresholds)
    assert low[0] == high[0] == 1.0 and low[-1] == high[-1] == 0.0
    for i, threshold in enumerate(thresholds):
        found = aggregate.aggregate_interval(
            SCORES, lambda x, t=threshold: (x > t).mean(axis=(-2, -1))
        )
        assert (low[i], high[i]) == pytest.approx((found.low, found.high), abs=1 / 8)
    profile = aggregate.performance_profile(SCORES, thresholds)
    assert (low <= profile).all() and (profile <= high).all()


def test_the_interval_resamples_runs_within_each_task():
    apart = np.array([[0.0, 100.0]] * 6)  # runs agree: nothing to resample
    for statistic in (aggregate.mean, aggregate.median, aggregate.iqm, aggregate.optimality_gap):
        found = aggregate.aggregate_interval(apart, statistic)
        assert found.low == found.value == found.high == statistic(apart)
    found = aggregate.aggregate_interval(SCORES, aggregate.mean)
    assert found.value == aggregate.mean(SCORES) and found.low < found.value < found.high
    # The variance of the mean of resamples is that of each task's mean, over the squared tasks.
    error = np.sqrt((SCORES.var(axis=0) / len(SCORES)).sum()) / SCORES.shape[1]
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(error, rel=0.1)


def test_the_interval_keeps_runs_and_tasks_apart():
    rng = np.random.default_rng(0)
    scores = rng.normal(np.array([0.0, 1.0, 5.0]), 0.01, (5, 3))
    found = aggregate.aggregate_interval(scores, aggregate.median)
    assert 0.98 < found.low <= found.value <= found.high < 1.02
    assert found == aggregate.aggregate_interval(scores, aggregate.median)


@pytest.mark.parametrize(
    "scores", [np.zeros(3), np.zeros((0, 2)), np.array([[0.0, np.nan]]), np.zeros((2, 2, 2))]
)
def test_what_is_no_table_of_scores_is_refused(scores):
    for call in (
        aggregate.performance_profile,
        lambda x: aggregate.probability_of_improvement(x, SCORES),
        aggregate.performance_profile_band,
        lambda x: aggregate.probability_of_improvement_interval(x, SCORES),
        lambda x: aggregate.aggregate_interval(x, aggregate.mean),
    ):
        with pytest.raises(InvalidArgumentError, match=r"\[runs, tasks\]"):
            call(scores)
    with pytest.raises(InvalidArgumentError, match="2 tasks"):
        aggregate.probability_of_improvement_interval(SCORES, np.zeros((4, 3)))
