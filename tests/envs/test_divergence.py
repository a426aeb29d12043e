"""Divergence: it ends the episode, nothing non-finite leaves, and quitting does not pay."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

import metagym  # noqa: F401
from metagym.core.optimization import DIVERGENCE
from metagym.core.task import Task
from metagym.problems import ProblemFamily


class Cliff(ProblemFamily):
    """|x| up to a cliff: beyond ``edge`` the value is ``beyond``, whatever the slope."""

    dim = 1

    def __init__(self, edge: float = DIVERGENCE, beyond: float = np.inf) -> None:
        self.edge, self.beyond = edge, beyond

    def sample(self, rng, n, split) -> Task:
        return {"unused": rng.random((n, 1))}

    def initial(self, task, rng):
        return np.ones((len(task["unused"]), 1))

    def value_and_grad(self, task, x, rng=None):
        value = np.abs(x[:, 0])
        return np.where(value > self.edge, x.dtype.type(self.beyond), value), np.sign(x)


def _return(reward, actions, horizon=10):
    """The return of playing actions (in units of the threshold) on the cliff."""
    env = gym.make(
        "LearnToOptimize-v0",
        problem=Cliff(),
        reward=reward,
        action_scale=2 * DIVERGENCE,
        horizon=horizon,
        dtype="float64",
    ).unwrapped
    env.reset(seed=0)
    total, done = 0.0, False
    for action in actions:
        if not done:
            _, r, terminated, truncated, _ = env.step(np.array([action / 2], np.float32))
            total, done = total + r, terminated or truncated
    assert done
    return total, terminated


@pytest.mark.parametrize("reward", ["negative_loss", "log_improvement"])
@pytest.mark.parametrize("when", [0, 3, 9])
def test_quitting_does_not_pay(reward, when):
    """Falling off the cliff is never better than living next to it until the horizon."""
    # The first step leads to 0.999 of the threshold, where the others stay.
    stay, over = [0.999] + [0.0] * 9, [0.0] * when + [2.0]
    stayed, ended = _return(reward, stay)
    assert not ended
    if when:
        over[0] = 0.999
    quitted, ended = _return(reward, over)
    assert ended
    assert quitted <= stayed


@pytest.mark.parametrize("when", [1, 5, 10])
def test_the_penalty_is_the_threshold_for_every_step_that_is_left(when):
    total, _ = _return("negative_loss", [0.0] * (when - 1) + [2.0])
    assert total == pytest.approx(-(when - 1) - DIVERGENCE * (10 - when + 1))


@pytest.mark.parametrize("beyond", [np.inf, -np.inf, np.nan, 1e30])
def test_a_value_that_is_no_number_ends_the_episode_with_finite_numbers(beyond):
    env = gym.make("LearnToOptimize-v0", problem=Cliff(edge=5.0, beyond=beyond)).unwrapped
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(np.ones(1, np.float32))
    assert terminated and not truncated
    assert env.observation_space.contains(observation)
    assert reward == -1e8 * 100
    assert info["loss"] == DIVERGENCE
    assert info["score"] == pytest.approx(8.0)
    assert info["diverged"]


@pytest.mark.parametrize("env_id", ["LearningRateControl-v0", "LearningRateControlAdam-v0"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), top=st.sampled_from([1.0, 1e10, 1e30]))
def test_nothing_but_finite_numbers_leaves_however_wild_the_learning_rate(env_id, seed, top):
    env = gym.make_vec(env_id, num_envs=4, horizon=8, lr_range=(top / 10, top))
    env.action_space.seed(seed)
    observations, _ = env.reset(seed=seed)
    for _ in range(20):
        observations, rewards, _, _, infos = env.step(env.action_space.sample())
        assert env.observation_space.contains(observations)
        assert np.isfinite(rewards).all()
        assert all(np.isfinite(infos[name]).all() for name in ("loss", "best_loss"))


@pytest.mark.parametrize("beyond", [np.inf, -np.inf, np.nan, 1e30])
def test_a_query_off_the_cliff_costs_the_threshold_and_ends_nothing(beyond):
    env = gym.make("BlackBoxOptimize-v0", problem=Cliff(edge=2.0, beyond=beyond)).unwrapped
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(np.ones(1, np.float32))
    assert not terminated and not truncated
    assert reward == -DIVERGENCE and observation[-3] == DIVERGENCE
    assert info["best_loss"] == 0.0  # the centre


def test_a_diverged_row_leaves_the_others_alone():
    env = gym.make_vec(
        "LearnToOptimize-v0",
        num_envs=2,
        problem=Cliff(edge=5.0),
        autoreset_mode=AutoresetMode.DISABLED,
    )
    env.reset(seed=0)
    _, _, terminated, _, infos = env.step(np.array([[1.0], [0.1]], np.float32))
    assert terminated.tolist() == [True, False]
    assert infos["loss"].tolist() == [DIVERGENCE, 2.0]
    assert infos["_score"].tolist() == [True, False]
