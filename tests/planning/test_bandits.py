"""Optimal values, bounds and Gittins indices of bandits, against enumeration and closed forms."""

from __future__ import annotations

import functools
import itertools
import math
from fractions import Fraction

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.envs.meta_bandit import MetaBanditVectorEnv
from metagym.errors import InvalidArgumentError
from metagym.planning import Ceiling, bandit_bounds, ceiling
from metagym.planning.bandits import MAX_STATES, bayes_optimal, feasible, layer_sizes
from metagym.planning.gittins import gittins_table


def optimum(n: int, k: int, alpha: Fraction, beta: Fraction) -> Fraction:
    """By recursion over ordered histories, in exact arithmetic."""

    @functools.cache
    def value(left: int, counts: tuple[tuple[int, int], ...]) -> Fraction:
        if left == 0:
            return Fraction(0)
        options = []
        for arm, (wins, losses) in enumerate(counts):
            p = (alpha + wins) / (alpha + beta + wins + losses)
            won, lost = (
                (*counts[:arm], pair, *counts[arm + 1 :])
                for pair in ((wins + 1, losses), (wins, losses + 1))
            )
            options.append(p * (1 + value(left - 1, won)) + (1 - p) * value(left - 1, lost))
        return max(options)

    return value(n, ((0, 0),) * k)


# -- the exact optimum -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "k", "value"), [(10, 5, 6.65999), (10, 10, 6.71395), (10, 50, 6.71395)]
)
def test_the_known_optima_at_ten_pulls(n, k, value):
    assert bayes_optimal(n, k).value == pytest.approx(value, abs=5e-6)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 3),
    st.fractions(Fraction(1, 5), 4, max_denominator=5),
    st.fractions(Fraction(1, 5), 4, max_denominator=5),
)  # fmt: skip
def test_the_optimum_is_that_of_enumeration(n, k, alpha, beta):
    expected = float(optimum(n, k, alpha, beta))
    assert bayes_optimal(n, k, float(alpha), float(beta)).value == pytest.approx(expected, rel=1e-9)


def test_the_policy_earns_its_value():
    n, k = 4, 3
    plan = bayes_optimal(n, k)

    def earned(t: int, pairs: tuple[int, ...]) -> float:
        """The expected reward from step t on of the policy, which knows keys only."""
        if t == n:
            return 0.0
        key = sum(int(plan.weights[pair]) for pair in pairs) % 2**64
        chosen = int(plan.choose(np.array([key], np.uint64))[0])
        arm, m = pairs.index(chosen), int(plan.pulls[chosen])
        p = (chosen - m * (m + 1) // 2 + 1) / (m + 2)
        won, lost = (
            (*pairs[:arm], chosen + m + step, *pairs[arm + 1 :]) for step in (2, 1)
        )  # fmt: skip
        return p * (1 + earned(t + 1, won)) + (1 - p) * earned(t + 1, lost)

    assert earned(0, (0,) * k) == pytest.approx(plan.value, abs=1e-12)


def test_the_number_of_states_is_that_of_enumeration():
    n, k = 6, 3
    states = [set() for _ in range(n)]
    states[0] = {((0, 0),) * k}
    for t in range(1, n):
        for state in states[t - 1]:
            for arm, (wins, losses) in enumerate(state):
                for pair in ((wins + 1, losses), (wins, losses + 1)):
                    states[t].add(tuple(sorted((*state[:arm], pair, *state[arm + 1 :]))))
    np.testing.assert_array_equal(layer_sizes(n, k), [len(layer) for layer in states])
    assert len(bayes_optimal(n, k).keys) == sum(map(len, states))


def test_one_arm_is_worth_its_mean_and_more_arms_are_worth_more():
    assert bayes_optimal(7, 1, 2.0, 3.0).value == pytest.approx(7 * 0.4)
    values = [bayes_optimal(8, k).value for k in range(1, 10)]
    assert np.all(np.diff(values[:8]) > 0) and values[7] == values[8]


def test_an_optimum_out_of_reach_is_refused_and_says_what_to_do():
    assert feasible(10, 50) and not feasible(100, 5)
    with pytest.raises(InvalidArgumentError, match=rf"3.63e\+11 states.*{MAX_STATES:,}.*gittins"):
        bayes_optimal(100, 5)
    with pytest.raises(InvalidArgumentError, match="n=0"):
        bayes_optimal(0, 5)


# -- the bounds --------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k"), [(2, 2), (6, 3), (10, 5), (10, 10)])
def test_the_bound_lies_between_the_optimum_and_the_looser_bounds(n, k):
    bound = bandit_bounds.bernoulli_bound(n, k, samples=4000)
    noise = 4 * bound.standard_error + 1e-9
    assert bayes_optimal(n, k).value <= bound.value + noise
    assert bound.value <= bandit_bounds.lagrangian(n, k)[0] + noise
    assert bound.value + noise < n * k / (k + 1)  # the best arm known


def test_a_bound_for_another_prior():
    bound = bandit_bounds.bernoulli_bound(8, 4, 2.0, 0.5, samples=4000)
    exact = bayes_optimal(8, 4, 2.0, 0.5).value
    assert exact <= bound.value + 4 * bound.standard_error < exact * 1.05


def test_with_one_arm_there_is_nothing_to_gain_from_seeing_the_future():
    for bound, value in (
        (bandit_bounds.bernoulli_bound(20, 1, samples=4000), 10.0),
        (bandit_bounds.gaussian_bound(20, 1, samples=4000), 0.0),
    ):
        assert abs(bound.value - value) <= 4 * bound.standard_error


def test_the_bound_is_the_same_again_and_sharper_with_more_samples():
    few = bandit_bounds.bernoulli_bound(12, 4, samples=400)
    bandit_bounds.bernoulli_bound.cache_clear()
    assert few == bandit_bounds.bernoulli_bound(12, 4, samples=400)
    many = bandit_bounds.bernoulli_bound(12, 4, samples=6400)
    assert many.standard_error == pytest.approx(few.standard_error / 4, rel=0.3)


def test_where_sampling_would_take_too_long_the_best_arm_is_the_bound():
    assert bandit_bounds.bernoulli_bound(3000, 9) == pytest.approx((2700.0, 0.0))
    assert bandit_bounds.bernoulli_bound(3000, 3, 2.0, 1.0) == pytest.approx((3000 * 6 / 7, 0.0))
    assert bandit_bounds.gaussian_bound(5000, 5) == pytest.approx((5000 * 1.16296, 0.0), rel=1e-5)


def test_gaussian_arms_are_bounded_below_the_best_arm():
    bound = bandit_bounds.gaussian_bound(20, 5, noise=2.0, samples=4000)
    expected_best = 1.16296  # of five standard normals
    assert 0 < bound.value + 4 * bound.standard_error < 20 * expected_best


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_best_allocation_is_that_of_enumeration(k, n, seed):
    payments = np.random.default_rng(seed).standard_normal((3, k, n))
    sums = np.pad(payments.cumsum(axis=2), ((0, 0), (0, 0), (1, 0)))
    ways = [way for way in itertools.product(range(n + 1), repeat=k) if sum(way) == n]
    each = [sum(sums[:, arm, pulls] for arm, pulls in enumerate(way)) for way in ways]
    np.testing.assert_allclose(bandit_bounds.best_allocation(payments), np.max(each, axis=0))


@settings(max_examples=20, deadline=None)
@given(st.floats(0.3, 3.0), st.floats(0.3, 3.0), st.integers(0, 2**32 - 1))
def test_penalties_cost_nothing_on_average(alpha, beta, seed):
    """Over all sequences of one arm, m pulls pay m times the mean, whatever g is."""
    n = 5
    penalty = np.random.default_rng(seed).standard_normal((n + 1, n + 1))
    sequences = np.array(list(itertools.product((0, 1), repeat=n)))[None]  # as 2^n arms
    sample = bandit_bounds._sample(np.zeros((1, 2**n)), sequences, alpha, alpha + beta)
    paid = bandit_bounds._payments(sample, penalty, alpha, alpha + beta)[0]
    chance = np.where(sequences[0] == 1, sample.means[0], 1 - sample.means[0]).prod(axis=1)
    assert chance.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(chance @ paid, alpha / (alpha + beta), atol=1e-9)


# -- Gittins indices ---------------------------------------------------------------------------


def index(wins: int, losses: int, left: int) -> float:
    """The price at which a single arm with so many pulls left is worth nothing, by bisection."""

    def worth(price: float) -> float:
        @functools.cache
        def value(s: int, f: int, left: int) -> float:
            if left == 0:
                return 0.0
            p = (s + 1) / (s + f + 2)
            return max(
                0.0,
                p - price + p * value(s + 1, f, left - 1) + (1 - p) * value(s, f + 1, left - 1),
            )

        return value(wins, losses, left)

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if worth(middle) > 0 else (low, middle)
    return low


def test_finite_horizon_indices_are_those_of_the_retirement_problem():
    n = 7
    table = gittins_table(n, prices=1024)
    assert table.indices[table.row[2], 0, 0] == pytest.approx(5 / 9, abs=1e-5)
    for m in range(n):
        for s in range(m + 1):
            for left in range(1, n - m + 1):
                expected = index(s, m - s, left)
                assert table.indices[table.row[left], m, s] == pytest.approx(expected, abs=1e-4)


def test_the_default_grid_of_prices_is_fine_enough():
    coarse, fine = gittins_table(40), gittins_table(40, prices=1024)
    known = np.arange(40) <= np.arange(40)[:, None]
    for row, left in enumerate(fine.horizons):
        here = known & (np.arange(40)[:, None] <= 40 - left)
        error = np.abs(coarse.indices[row] - fine.indices[row])[here]
        assert error.mean() < 2e-3 and error.max() < 8e-3


@pytest.mark.parametrize(
    ("m", "s", "discount", "published"),
    [(0, 0, 0.5, 0.5590), (0, 0, 0.9, 0.7029), (1, 1, 0.9, 0.8001), (1, 0, 0.9, 0.5001)],
)
def test_discounted_indices_are_those_in_print(m, s, discount, published):
    """Gittins (1989), tables for the Bernoulli process."""
    table = gittins_table(110, discount=discount, prices=128)
    assert table.indices[table.row[105], m, s] == pytest.approx(published, abs=5e-4)


def test_indices_grow_with_the_horizon_and_long_horizons_round_down():
    table = gittins_table(60)
    fresh = table.indices[:, 0, 0]
    assert fresh[0] == pytest.approx(0.5) and (np.diff(fresh) > 0).all()
    assert table.horizons[0] == 1 and table.horizons[-1] == 60
    assert all(table.horizons[table.row[left]] <= left for left in range(1, 61))
    assert (table.horizons[table.row[1:33]] == np.arange(1, 33)).all()


@pytest.mark.parametrize("discount", [0.0, 1.1, -1.0, math.nan])
def test_a_discount_that_is_none_is_refused(discount):
    with pytest.raises(InvalidArgumentError, match="discount"):
        gittins_table(5, discount=discount)


def test_a_table_that_would_take_hours_is_refused():
    with pytest.raises(InvalidArgumentError, match=r"n=5000: .*at most 1000.*ucb1"):
        gittins_table(5000)


# -- ceiling() ---------------------------------------------------------------------------------


def test_the_ceiling_of_short_bandits_is_exact():
    expected = Ceiling(bayes_optimal(10, 5).value, "exact", 0.0)
    assert ceiling("MetaBandit-v0") == expected
    assert ceiling(gym.make_vec("MetaBandit-v0", num_envs=3)) == expected
    prior = ceiling("MetaBandit-v0", alpha=2.0, beta=3.0)
    assert prior is not None and prior.value == bayes_optimal(10, 5, 2.0, 3.0).value


def test_the_ceiling_of_long_bandits_is_a_bound_and_says_so():
    found = ceiling("MetaBandit-n100-k5-v0", samples=500)
    assert found is not None and found.kind == "upper bound"
    assert 78.7 < found.value < 81 and 0 < found.standard_error < 0.3
    gaussian = ceiling("MetaBandit-v0", arms="gaussian", samples=500)
    assert gaussian is not None and gaussian.kind == "upper bound"


def test_the_ceiling_of_tabular_processes_is_a_mean_over_tasks():
    found = ceiling("MetaTabularMDP-v0", samples=300)
    assert found is not None and found.kind == "monte carlo"
    assert abs(found.value - 218.6) < 4 * found.standard_error + 0.5


def test_no_ceiling_is_made_up():
    class Other(MetaBanditVectorEnv):
        """Its rewards may be anything."""

    assert ceiling("CartPole-v1") is None
    assert ceiling(Other()) is None
    with pytest.raises(InvalidArgumentError, match="samples=0"):
        ceiling("MetaBandit-v0", samples=0)
