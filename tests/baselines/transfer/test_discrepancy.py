"""The maximum mean discrepancy against sums over pairs, and its test where both samples agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from metagym.baselines.transfer.discrepancy import median_gamma, mmd_test, squared_mmd
from metagym.errors import DataError, InvalidArgumentError

KERNELS = {
    "rbf": lambda a, b: np.exp(-0.3 * ((a - b) ** 2).sum()),
    "linear": lambda a, b: a @ b,
}
seeds = st.integers(0, 10**6)
kernels = st.sampled_from(list(KERNELS))


def samples(seed=0, n=7, m=5, d=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(0.4, 1.5, size=(m, d))


def of_pairs(X, Y, k, skip_own):
    values = [
        k(a, b) for i, a in enumerate(X) for j, b in enumerate(Y) if not (skip_own and i == j)
    ]
    return np.mean(values)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, kernel=kernels, unbiased=st.booleans())
def test_it_is_the_sum_over_pairs(seed, kernel, unbiased):
    X, Y = samples(seed)
    k = KERNELS[kernel]
    wanted = (
        of_pairs(X, X, k, unbiased) + of_pairs(Y, Y, k, unbiased) - 2 * of_pairs(X, Y, k, False)
    )
    gamma = 0.3 if kernel == "rbf" else None
    found = squared_mmd(X, Y, kernel, gamma, unbiased=unbiased)
    assert found == pytest.approx(wanted, abs=1e-10)


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_the_linear_kernel_measures_the_distance_of_the_means(seed):
    X, Y = samples(seed)
    wanted = ((X.mean(axis=0) - Y.mean(axis=0)) ** 2).sum()
    assert squared_mmd(X, Y, "linear", unbiased=False) == pytest.approx(wanted, abs=1e-10)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, kernel=kernels, shift=st.floats(-5, 5))
def test_symmetric_zero_for_one_sample_and_blind_to_order_and_shifts(seed, kernel, shift):
    X, Y = samples(seed)
    assert squared_mmd(X, X, kernel, unbiased=False) == pytest.approx(0.0, abs=1e-10)
    given_ = squared_mmd(X, Y, kernel)
    shuffled = np.random.default_rng(seed).permutation(X)
    assert squared_mmd(Y, X, kernel) == pytest.approx(given_, abs=1e-9)
    assert squared_mmd(shuffled, Y, kernel) == pytest.approx(given_, abs=1e-9)
    assert squared_mmd(X + shift, Y + shift, kernel) == pytest.approx(given_, abs=1e-8)
    assert squared_mmd(X, Y, kernel, unbiased=False) >= 0.0


def test_unbiased_means_zero_on_average():
    rng = np.random.default_rng(0)
    values = [
        [squared_mmd(*rng.normal(size=(2, 8, 2)), gamma=0.5, unbiased=u) for u in (True, False)]
        for _ in range(150)
    ]
    unbiased, biased = np.mean(values, axis=0)
    error = np.std(values, axis=0)[0] / np.sqrt(150)
    assert abs(unbiased) < 4 * error < biased


def test_the_median_heuristic():
    X = np.array([[0.0], [1.0], [3.0]])  # squared distances 1, 4, 9
    assert median_gamma(X) == pytest.approx(1 / 4)
    assert median_gamma(X[:1], X[1:]) == pytest.approx(1 / 4)
    with pytest.raises(InvalidArgumentError, match="pass gamma"):
        median_gamma(np.ones((4, 2)))
    assert squared_mmd(np.ones((4, 2)), np.ones((3, 2))) == pytest.approx(0.0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_p_values_are_uniform_where_the_samples_are_of_one_distribution(kernel):
    rng = np.random.default_rng(0)
    p = [
        mmd_test(*np.split(rng.normal(size=(25, 2)), [10]), kernel, permutations=199).p_value
        for _ in range(150)
    ]
    assert kstest(p, "uniform").pvalue > 0.01
    assert 0.01 < np.mean(np.array(p) <= 0.05) < 0.11


def test_p_values_are_small_where_they_are_not():
    X, Y = samples(n=40, m=40)
    found = mmd_test(X, Y + 1.0, permutations=199)
    assert found.p_value == 1 / 200
    assert found.squared_mmd == squared_mmd(X, Y + 1.0)
    assert mmd_test(X, Y, random_state=3) == mmd_test(X, Y, random_state=3)
    # Every division of equal examples is as far apart as the given one.
    assert mmd_test(np.ones((4, 2)), np.ones((5, 2)), permutations=20).p_value == 1.0


def test_bad_input():
    X, Y = samples()
    with pytest.raises(InvalidArgumentError, match="'rbf', 'linear'"):
        squared_mmd(X, Y, "cubic")
    with pytest.raises(InvalidArgumentError, match="gamma=0"):
        squared_mmd(X, Y, gamma=0)
    with pytest.raises(InvalidArgumentError, match="two examples of each"):
        squared_mmd(X, Y[:1])
    with pytest.raises(InvalidArgumentError, match="3 features and the target 2"):
        squared_mmd(X, Y[:, :2])
    with pytest.raises(InvalidArgumentError, match="permutations=0"):
        mmd_test(X, Y, permutations=0)
    with pytest.raises(DataError, match="nan"):
        squared_mmd(X * np.nan, Y)
