"""MetaNavigation2D-v0: rewards, ends and bounds in closed form; bad input."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.envs.meta_navigation import MetaNavigation2DVectorEnv
from metagym.errors import InvalidArgumentError
from metagym.evaluation import check_vector_env


def _env(goal, **kwargs):
    env = gym.make("MetaNavigation2D-v0", **kwargs).unwrapped
    env.reset(seed=0, options={"task": {"goal": np.array(goal)}})
    return env


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_steps_rewards_and_observations_are_those_of_the_paper(seed):
    rng = np.random.default_rng(seed)
    goal = rng.uniform(-0.5, 0.5, 2)
    env = _env(goal, n=2, inner_horizon=5)
    place, total = np.zeros(2), 0.0
    for step in range(1, 11):
        action = rng.uniform(-2, 2, 2).astype(np.float32)
        taken = np.clip(action, -1, 1)
        observation, reward, terminated, truncated, info = env.step(action)
        place = place + 0.1 * taken
        away = place - goal
        total += reward
        shown = env.layout.split(observation)
        assert reward == pytest.approx(-(away @ away))
        assert shown.reward == pytest.approx(reward)
        np.testing.assert_allclose(shown.action, taken)
        ended = step % 5 == 0
        assert shown.done == ended
        np.testing.assert_allclose(shown.final, place if ended else 0.0, atol=1e-6)
        place = np.zeros(2) if step == 5 else place
        np.testing.assert_allclose(shown.state, place, atol=1e-6)
        assert (terminated, truncated) == (step == 10, False)
    assert info["score"] == pytest.approx(total)
    np.testing.assert_array_equal(info["inner_lengths"], [5, 5])
    assert info["inner_returns"].sum() == pytest.approx(total)


@pytest.mark.parametrize(("offset", "found"), [(0.0099, True), (0.0101, False)])
def test_an_inner_episode_ends_within_the_tolerance(offset, found):
    env = _env((0.1 + offset / np.sqrt(2), offset / np.sqrt(2)))
    observation, _, terminated, _, info = env.step(np.array([1, 0], np.float32))
    assert info["success"] == found
    assert env.layout.split(observation).done == found
    assert info["inner_episode"] == found
    assert not terminated


def test_it_ends_after_n_walks_and_tells_which_found_the_goal():
    env = _env((0.1, 0.0), n=3, inner_horizon=2)
    for action in ([1, 0], [0, 1], [0, 1], [1, 0]):
        *_, terminated, truncated, info = env.step(np.array(action, np.float32))
    assert terminated and not truncated
    np.testing.assert_array_equal(info["inner_success"], [True, False, True])
    np.testing.assert_array_equal(info["inner_lengths"], [1, 2, 1])


def test_goals_are_uniform_in_the_square_and_splits_differ():
    goals = {}
    for split in ("train", "validation", "test"):
        env = gym.make_vec("MetaNavigation2D-v0", num_envs=20_000, split=split)
        goals[split] = env.reset(seed=0)[1]["task"]["goal"]
        assert np.abs(goals[split]).max() <= 0.5
        shares = np.histogram2d(*goals[split].T, bins=4, range=[(-0.5, 0.5)] * 2)[0] / 1250
        np.testing.assert_allclose(shares, 1.0, atol=0.12)
    assert not np.isin(goals["train"], goals["test"]).any()


def test_observations_stay_in_their_space_at_full_speed():
    env = gym.make_vec("MetaNavigation2D-v0", num_envs=4, inner_horizon=30)
    env.reset(seed=0)
    actions = np.array([[1, 1], [-1, -1], [1, -1], [-1, 1]], np.float32)
    for _ in range(91):
        observations = env.step(actions)[0]
        assert env.observation_space.contains(observations)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_batch_keeps_its_promises(mode):
    kwargs = {"inner_horizon": 4}
    env = gym.make_vec("MetaNavigation2D-v0", num_envs=3, autoreset_mode=mode, **kwargs)
    check_vector_env(
        env, steps=30, make_single=lambda: gym.make("MetaNavigation2D-v0", **kwargs).unwrapped
    )


def test_a_single_environment_passes_gymnasiums_check():
    check_env(gym.make("MetaNavigation2D-v0").unwrapped, skip_render_check=True)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"inner_horizon": -1}, "inner_horizon=-1"),
        ({"action_scale": 0.0}, "action_scale=0.0 has to be a positive number"),
        ({"goal_range": float("inf")}, "goal_range=inf"),
        ({"tolerance": "small"}, "tolerance='small'"),
        ({"horizon": 3}, "no argument 'horizon'"),
    ],
)
def test_bad_arguments_are_typed_errors(kwargs, message):
    with pytest.raises(InvalidArgumentError, match=message):
        MetaNavigation2DVectorEnv(2, **kwargs)


def test_a_goal_outside_of_the_square_is_refused():
    with pytest.raises(InvalidArgumentError, match=r"holds 0\.6.*goal_range"):
        _env((0.6, 0.0))
    assert _env((0.6, 0.0), goal_range=0.7) is not None
