"""Frames of trials: right shape, and they show what they should."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest

from metagym.agents.mazes import WallFollower
from metagym.agents.navigation import Trilateration
from metagym.rendering.canvas import HEIGHT, ORANGE, RED, SKY, WIDTH
from metagym.rendering.trials import draw_bandit


def _pixels(frame, colour):
    """Where the frame has exactly this colour, bool [height, width]."""
    value = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (frame == value).all(axis=2)


def _is_a_picture(frame):
    assert frame.shape == (HEIGHT, WIDTH, 3)
    assert frame.dtype == np.uint8
    assert len(np.unique(frame @ np.array([1, 256, 65536]))) > 50  # colours


def _frames(env, agent, seed=0):
    """All frames of one trial of a batch of one."""
    agent.bind(env)
    observations, _ = env.reset(seed=seed)
    agent.reset(np.array([True]))
    frames = [env.render()[0]]
    for _ in range(400):
        observations, _, terminated, _, infos = env.step(agent.act(observations))
        frames.append(env.render()[0])
        if terminated[0]:
            return frames, infos
    raise AssertionError("no end")


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("MetaMaze-v0", {}),
        ("MetaMaze-v0", {"size": 15}),
        ("MetaMaze-v0", {"size": 3, "n": 40, "observation": "image"}),
        ("MetaNavigation2D-v0", {}),
        ("MetaNavigation2D-v0", {"n": 40, "inner_horizon": 3, "goal_range": 7.0}),
    ],
    ids=str,
)
def test_every_frame_is_a_picture_from_the_first_to_the_last(env_id, kwargs):
    env = gym.make(env_id, render_mode="rgb_array", **kwargs).unwrapped
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(8):
        _is_a_picture(env.render())
        for _ in range(17):
            env.step(env.action_space.sample())
    assert len(np.unique([env.render().tobytes() for _ in range(2)])) == 1


def test_the_maze_shows_agent_target_walk_and_the_earlier_walk():
    env = gym.make_vec("MetaMaze-v0", num_envs=1, render_mode="rgb_array")
    frames, infos = _frames(env, WallFollower(), seed=11)
    first_length = int(infos["inner_lengths"][0, 0])
    picture = np.s_[:, :500]  # the legend has the colours as well
    for number, frame in enumerate(frames):
        assert _pixels(frame, ORANGE)[picture].sum() > 50  # the agent
        assert number == len(frames) - 1 or _pixels(frame, RED)[picture].sum() > 50
        assert _pixels(frame, SKY)[picture].any() == (number >= first_length)
    assert all((a != b).any() for a, b in pairwise(frames))
    # The agent is where it is: in the maze's start at first, in the target's room at last.
    size, task = 5, env._task
    for frame, room in ((frames[0], task["start"][0]), (frames[-1], task["target"][0])):
        y, x = (np.mean(axis) for axis in np.nonzero(_pixels(frame, ORANGE)[picture]))
        pitch = 480 / size
        assert abs((y - 16) / pitch - room[0] - 0.5) < 0.3
        assert abs((x - 16) / pitch - room[1] - 0.5) < 0.3


def test_a_row_that_is_over_is_drawn_as_it_ended():
    env = gym.make_vec(
        "MetaMaze-v0", num_envs=1, render_mode="rgb_array", inner_horizon=3,
        autoreset_mode="Disabled",
    )  # fmt: skip
    env.reset(seed=0)
    for _ in range(6):
        env.step(np.array([1]))
    last = env.render()[0]
    env.step(np.array([0]))
    np.testing.assert_array_equal(env.render()[0], last)


def test_the_walk_in_the_plane_ends_at_the_goal():
    env = gym.make_vec("MetaNavigation2D-v0", num_envs=1, render_mode="rgb_array")
    frames, _ = _frames(env, Trilateration())
    assert all((a != b).any() for a, b in pairwise(frames))
    star = np.argwhere(_pixels(frames[0], RED)[:, :500]).mean(axis=0)
    agent = np.argwhere(_pixels(frames[-1], ORANGE)[:, :500]).mean(axis=0)
    assert np.abs(star - agent).max() < 8
    assert _pixels(frames[-1], SKY)[:, :500].any()


def test_a_walk_far_away_stays_in_the_picture():
    env = gym.make("MetaNavigation2D-v0", render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    for _ in range(60):
        env.step(np.ones(2, np.float32))
    agent = _pixels(env.render(), ORANGE)
    assert agent.sum() > 20 and not agent[:, 500:].any()


def test_each_row_of_a_batch_has_its_own_frame():
    env = gym.make_vec("MetaMaze-v0", num_envs=3, render_mode="rgb_array")
    env.reset(seed=0)
    frames = env.render()
    assert len(frames) == 3
    assert (frames[0] != frames[1]).any() and (frames[1] != frames[2]).any()


@pytest.mark.parametrize(("k", "n"), [(1, 1), (5, 10), (10, 100), (50, 500)])
def test_the_bandits_frame(k, n):
    rng = np.random.default_rng(0)
    means = rng.random(k)
    trace = np.full(n, -1)
    frames = [draw_bandit(means, trace, n)]
    for t in range(0, n, max(1, n // 5)):
        trace[: t + 1] = rng.integers(0, k, t + 1)
        frames.append(draw_bandit(means, trace, n))
    for frame in frames:
        _is_a_picture(frame)
    assert all((a != b).any() for a, b in pairwise(frames))


def test_the_bandits_bars_are_as_long_as_the_means():
    means = np.array([0.25, 0.5, 1.0, 0.75])
    frame = draw_bandit(means, np.full(10, -1), 10)
    rows = [int(92 + (HEIGHT - 26 - 92) / 4 * (arm + 0.5) - 25) for arm in range(4)]
    lengths = np.array([
        (_pixels(frame, SKY) | _pixels(frame, ORANGE))[y, :330].sum() for y in rows
    ])  # fmt: skip
    np.testing.assert_allclose(lengths / lengths[2], means, atol=0.02)
    best = _pixels(frame, ORANGE)[rows, :330].sum(axis=1)
    np.testing.assert_array_equal(best > 0, means == 1.0)


def test_gaussian_arms_below_zero_are_drawn_to_the_left():
    frame = draw_bandit(np.array([-2.0, 1.0]), np.full(3, -1), 3)
    columns = [np.flatnonzero(_pixels(frame, c)[:, :330].any(axis=0)) for c in (SKY, ORANGE)]
    assert columns[0].max() <= columns[1].min()
    assert 1.9 < len(columns[0]) / len(columns[1]) < 2.1


def test_frames_are_drawn_without_the_slow_libraries():
    code = (
        "import sys, metagym, gymnasium as gym\n"
        "env = gym.make('MetaMaze-v0', render_mode='rgb_array')\n"
        "env.reset(seed=0)\n"
        "assert 'PIL' not in sys.modules\n"
        "env.render()\n"
        "assert not {'torch', 'scipy', 'sklearn', 'matplotlib.figure'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
