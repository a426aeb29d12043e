"""MetaBandit-v0 against closed forms."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from metagym.errors import InvalidActionError, InvalidArgumentError
from metagym.evaluation import check_vector_env

ID = "MetaBandit-v0"


def make(rows, **kwargs):
    kwargs.setdefault("autoreset_mode", AutoresetMode.DISABLED)
    return gym.make_vec(ID, num_envs=rows, **kwargs)


def test_a_trial_is_n_pulls_and_says_what_they_were_worth():
    env = make(3, k=2, n=4)
    means = np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])
    env.reset(seed=0, options={"task": {"means": means}})
    pulled = np.array([[0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 1, 0]])
    worth = np.take_along_axis(means, pulled, axis=1)
    for t in range(4):
        observation, reward, terminated, truncated, info = env.step(pulled[:, t])
        view = env.unwrapped.layout.split(observation)
        np.testing.assert_array_equal(view.action, np.eye(2)[pulled[:, t]])
        np.testing.assert_array_equal(view.reward, reward)
        np.testing.assert_array_equal(view.done, 1.0)
        np.testing.assert_allclose(info["expected_reward"], worth[:, t])
        regret = (t + 1) * means.max(axis=1) - worth[:, : t + 1].sum(axis=1)
        np.testing.assert_allclose(info["regret"], regret)
        assert (terminated == (t == 3)).all() and not truncated.any()
    np.testing.assert_allclose(info["score"], worth.sum(axis=1))


def test_certain_arms_pay_for_certain():
    env = make(2, k=2, n=1)
    env.reset(seed=0, options={"task": {"means": np.array([[0.0, 1.0], [0.0, 1.0]])}})
    np.testing.assert_array_equal(env.step(np.array([0, 1]))[1], [0.0, 1.0])


def test_bernoulli_arms_pay_with_their_probability():
    env = make(100_000, k=1, n=1)
    env.reset(seed=0, options={"task": {"means": np.full((100_000, 1), 0.3)}})
    rewards = env.step(np.zeros(100_000, dtype=np.int64))[1]
    assert set(np.unique(rewards)) == {0.0, 1.0}
    assert abs(rewards.mean() - 0.3) < 5 * (0.21 / 100_000) ** 0.5


def test_gaussian_arms_have_their_mean_and_noise():
    env = make(100_000, k=1, n=1, arms="gaussian", noise=0.5)
    env.reset(seed=0, options={"task": {"means": np.full((100_000, 1), -2.0)}})
    rewards = env.step(np.zeros(100_000, dtype=np.int64))[1]
    assert abs(rewards.mean() + 2.0) < 5 * 0.5 / 100_000**0.5
    assert abs(rewards.std() - 0.5) < 0.01


@pytest.mark.parametrize(
    ("kwargs", "mean", "variance"),
    [({}, 0.5, 1 / 12), ({"alpha": 2.0, "beta": 6.0}, 0.25, 1 / 48), ({"arms": "gaussian"}, 0, 1)],
)
def test_tasks_are_of_their_prior(kwargs, mean, variance):
    _, info = make(20_000, **kwargs).reset(seed=0)
    means = info["task"]["means"]
    assert abs(means.mean() - mean) < 5 * (variance / means.size) ** 0.5
    assert abs(means.var() / variance - 1.0) < 0.05


def test_actions_never_shift_the_luck():
    """Whoever pulls an arm in the same row at the same time gets the same."""
    got = []
    for first in (0, 1):
        env = make(1000, k=2, n=2)
        env.reset(seed=0, options={"task": {"means": np.full((1000, 2), 0.5)}})
        env.step(np.full(1000, first))
        got.append(env.step(np.zeros(1000, dtype=np.int64))[1])
    np.testing.assert_array_equal(*got)


@pytest.mark.parametrize("kwargs", [{}, {"arms": "gaussian"}, {"alpha": 2.0, "k": 3}])
def test_passes_the_vector_check(kwargs):
    check_vector_env(gym.make_vec(ID, num_envs=4, **kwargs))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"n": 0}, "n=0"),
        ({"n": 2.5}, "n=2.5"),
        ({"arms": "cauchy"}, "'bernoulli', 'gaussian'"),
        ({"alpha": 0.0}, "alpha=0.0"),
        ({"beta": float("nan")}, "beta=nan"),
        ({"alpha": True}, "alpha=True"),
        ({"noise": "much"}, "noise='much'"),
        ({"pulls": 3}, "no argument 'pulls'"),
    ],
)
def test_impossible_arguments_are_refused(kwargs, message):
    for create in (lambda: gym.make(ID, **kwargs), lambda: make(2, **kwargs)):
        with pytest.raises(InvalidArgumentError, match=message):
            create()


def test_what_is_no_probability_is_refused():
    env = make(1)
    for bad in (-0.1, 1.5, np.nan):
        means = np.array([[0.5, 0.5, bad, 0.5, 0.5]])
        with pytest.raises(InvalidArgumentError, match="means"):
            env.reset(seed=0, options={"task": {"means": means}})
    gaussian = make(1, arms="gaussian")
    gaussian.reset(seed=0, options={"task": {"means": np.array([[-0.1, 1.5, 9.0, 0.0, 0.0]])}})


def test_an_arm_that_is_not_there_is_refused():
    env = make(2)
    env.reset(seed=0)
    with pytest.raises(InvalidActionError, match="5"):
        env.step(np.array([0, 5]))
