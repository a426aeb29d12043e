"""Planning in tabular MDPs, against brute force and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.errors import InvalidArgumentError
from metagym.planning import mdp
from metagym.planning.posterior import TabularPosterior


def process(batch, states, actions, seed=0):
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.ones(states), (batch, states, actions))
    return transitions, rng.normal(1.0, 1.0, (batch, states, actions))


def every_policy(horizon, states, actions):
    """All of them, [P, T, S]."""
    return np.array(list(itertools.product(range(actions), repeat=horizon * states))).reshape(
        -1, horizon, states
    )


@pytest.mark.parametrize("discount", [1.0, 0.7])
def test_value_iteration_finds_the_best_of_all_policies(discount):
    transitions, rewards = process(3, 2, 2)
    plan = mdp.value_iteration(transitions, rewards, 3, discount)
    policies = every_policy(3, 2, 2)
    for row in range(3):
        copies = (
            np.repeat(x[row : row + 1], len(policies), axis=0) for x in (transitions, rewards)
        )
        values = mdp.evaluate_policy(*copies, policies, discount)
        np.testing.assert_allclose(plan.values[row, 0], values[:, 0].max(axis=0))
    own = mdp.evaluate_policy(transitions, rewards, plan.policy, discount)
    np.testing.assert_allclose(own, plan.values)


def test_a_policys_value_is_what_simulation_makes():
    transitions, rewards = process(1, 4, 3)
    policy = np.random.default_rng(1).integers(3, size=(1, 5, 4))
    value = mdp.evaluate_policy(transitions, rewards, policy)[0, 0, 0]
    rng, states, total = np.random.default_rng(2), np.zeros(20_000, dtype=int), 0.0
    for t in range(5):
        actions = policy[0, t, states]
        total += rewards[0, states, actions].mean()
        cumulative = transitions[0, states, actions].cumsum(axis=1)
        states = (rng.random((20_000, 1)) > cumulative).sum(axis=1).clip(max=3)
    assert value == pytest.approx(total, abs=0.03)


def test_without_noise_in_the_transitions_the_best_path_is_taken():
    # A chain 0 -> 1 -> 2: the prize at its end is worth the three steps only if there is time.
    transitions = np.zeros((1, 3, 2, 3))
    transitions[0, :, 0, 0] = 1.0
    transitions[0, [0, 1, 2], 1, [1, 2, 2]] = 1.0
    rewards = np.zeros((1, 3, 2))
    rewards[0, :, 0], rewards[0, 2, 1] = 1.0, 10.0
    plan = mdp.value_iteration(transitions, rewards, 4)
    assert plan.values[0, :, 0].tolist() == [20.0, 10.0, 2.0, 1.0, 0.0]
    assert plan.policy[0, :, 0].tolist() == [1, 1, 0, 0]
    optimum = mdp.trial_optimum({"transitions": transitions, "reward_means": rewards}, 4, 7)
    assert optimum.tolist() == [140.0]


def test_rewards_may_differ_by_step():
    transitions, rewards = process(2, 3, 2)
    by_step = np.repeat(rewards[:, None], 4, axis=1)
    same = mdp.action_values(transitions, rewards, 4)
    np.testing.assert_array_equal(mdp.action_values(transitions, by_step, 4), same)
    by_step[:, 3] += 1.0  # at the last step, whatever one does
    np.testing.assert_allclose(mdp.action_values(transitions, by_step, 4), same + 1.0)


@given(seed=st.integers(0, 10**6), states=st.integers(1, 6), size=st.floats(0.0, 2.5))
@settings(max_examples=60, deadline=None)
def test_the_best_expectation_is_a_linear_programs(seed, states, size):
    from scipy.optimize import linprog

    transitions, _ = process(1, states, 1, seed)
    values = np.random.default_rng(seed).normal(size=(1, states))
    radius = np.full((1, states, 1), size)
    found = mdp.best_expectation(transitions, radius, values)[0, 0, 0]
    # p = P + up - down, |p - P| <= up + down.
    p = transitions[0, 0, 0]
    program = linprog(
        np.concatenate([-values[0], values[0]]),
        A_ub=np.vstack([np.ones(2 * states), np.hstack([-np.eye(states), np.eye(states)])]),
        b_ub=np.concatenate([[size], p]),
        A_eq=[np.concatenate([np.ones(states), -np.ones(states)])], b_eq=[0.0],
    )  # fmt: skip
    assert found == pytest.approx(p @ values[0] - program.fun, abs=1e-7)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_optimism_bounds_every_process_in_the_set(seed):
    transitions, rewards = process(2, 4, 2, seed)
    other, other_rewards = process(2, 4, 2, seed + 1)
    other = 0.7 * transitions + 0.3 * other
    radius = np.abs(other - transitions).sum(axis=-1)
    rewards_above = np.maximum(rewards, other_rewards)
    bound = mdp.optimistic_action_values(transitions, rewards_above, radius, 5)
    assert (bound >= mdp.action_values(other, other_rewards, 5) - 1e-9).all()
    exact = mdp.optimistic_action_values(transitions, rewards, np.zeros_like(rewards), 5)
    np.testing.assert_allclose(exact, mdp.action_values(transitions, rewards, 5))


def test_knowing_the_process_is_worth_more_than_acting_on_the_next_reward():
    """The expected optimum per inner episode of the published tasks; 10 steps at random make 10,
    at the best next reward 10 times the expected maximum of five N(1, 1), 2.163."""
    transitions, rewards = process(4000, 10, 5)
    optimum = mdp.value_iteration(transitions, rewards, 10).values[:, 0, 0]
    myopic = np.repeat(rewards.argmax(axis=-1)[:, None], 10, axis=1)
    value = mdp.evaluate_policy(transitions, rewards, myopic)[:, 0, 0]
    assert value.mean() == pytest.approx(21.63, abs=0.15)
    assert (optimum >= value - 1e-9).all()
    assert 0.1 < (optimum - value).mean() < 0.4


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((np.ones((2, 3, 2)), np.ones((2, 3)), 2), r"transitions has shape \(2, 3, 2\)"),
        ((np.ones((2, 3, 2, 4)), np.ones((2, 3, 2)), 2), "transitions has shape"),
        ((np.ones((2, 3, 2, 3)), np.ones((2, 3, 3)), 2), "rewards has shape"),
        ((np.ones((2, 3, 2, 3)), np.ones((2, 4, 3, 2)), 2), "rewards has shape"),
        ((np.ones((2, 3, 2, 3)), np.ones((2, 3, 2)), 0), "horizon=0"),
    ],
)
def test_what_does_not_fit_is_said(arguments, told):
    for solve in (mdp.action_values, mdp.value_iteration):
        with pytest.raises(InvalidArgumentError, match=told):
            solve(*arguments)


def test_a_policy_of_another_shape_is_refused():
    with pytest.raises(InvalidArgumentError, match="policy has shape"):
        mdp.evaluate_policy(*process(2, 3, 2), np.zeros((2, 4, 2), dtype=int))
    with pytest.raises(InvalidArgumentError, match="n=0"):
        transitions, means = process(1, 2, 2)
        mdp.trial_optimum({"transitions": transitions, "reward_means": means}, 3, 0)


# -- the posterior -----------------------------------------------------------------------------


def test_the_posterior_is_that_of_the_textbook():
    posterior = TabularPosterior(2, 3, 2, prior_mean=0.5, prior_precision=2.0, concentration=0.5)
    row, state, action = np.array([1]), np.array([2]), np.array([0])
    for reward, following in ((1.0, 0), (2.0, 0), (6.0, 1)):
        posterior.observe(row, state, action, np.array([reward]), np.array([following]))
    assert posterior.reward_mean()[1, 2, 0] == pytest.approx((2.0 * 0.5 + 9.0) / 5.0)
    assert posterior.reward_precision()[1, 2, 0] == 5.0
    np.testing.assert_allclose(posterior.transition_mean()[1, 2, 0], [2.5 / 4.5, 1.5 / 4.5, 1 / 9])
    untouched = np.ones((2, 3, 2), dtype=bool)
    untouched[1, 2, 0] = False
    assert (posterior.reward_mean()[untouched] == 0.5).all()
    np.testing.assert_allclose(posterior.transition_mean()[untouched], 1 / 3)
    np.testing.assert_allclose(posterior.transition_mean().sum(axis=-1), 1.0)
    posterior.forget(np.array([False, True]))
    assert not posterior.visits.any() and not posterior.transitions.any()
    assert (posterior.reward_mean() == 0.5).all()


def test_samples_of_the_posterior_have_its_moments():
    posterior = TabularPosterior(4000, 2, 1)
    rows = np.arange(4000)
    for following in (0, 0, 1):
        zeros = np.zeros(4000, dtype=int)
        posterior.observe(rows, zeros, zeros, np.full(4000, 3.0), np.full(4000, following))
    transitions, rewards = posterior.sample(np.random.default_rng(0))
    np.testing.assert_allclose(transitions.sum(axis=-1), 1.0)
    # Beta(3, 2) and N((1 + 9) / 4, 1 / 4)
    assert transitions[:, 0, 0, 0].mean() == pytest.approx(0.6, abs=0.015)
    assert transitions[:, 0, 0, 0].var() == pytest.approx(0.04, abs=0.004)
    assert rewards[:, 0, 0].mean() == pytest.approx(2.5, abs=0.04)
    assert rewards[:, 0, 0].std() == pytest.approx(0.5, abs=0.03)
    assert rewards[:, 1, 0].std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("name", ["prior_precision", "concentration"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, "much"])
def test_a_prior_that_is_none_is_refused(name, value):
    with pytest.raises(InvalidArgumentError, match=name):
        TabularPosterior(1, 2, 2, **{name: value})
