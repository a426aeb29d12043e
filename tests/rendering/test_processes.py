"""Frames of unknown Markov decision processes: the walk, and what it says of each action."""

from __future__ import annotations

from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest

from metagym.rendering.canvas import BLUE, HEIGHT, ORANGE, SKY, WIDTH
from metagym.rendering.processes import draw_process

ID = "MetaTabularMDP-v0"
CIRCLE, RETURNS = np.s_[20:390, 20:400], np.s_[400:, 150:]
TRUE = "#C4C0B6"


def _pixels(frame, colour):
    """Where the frame has exactly this colour, bool [height, width]."""
    value = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (frame == value).all(axis=2)


def _place(frame, colour):
    """The middle of a colour's pixels on the circle: x and y."""
    y, x = np.nonzero(_pixels(frame, colour)[CIRCLE])
    return np.array([x.mean(), y.mean()]) + 20


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"n": 100, "inner_horizon": 3},
        {"states": 1, "actions": 1, "n": 1},
        {"states": 2, "actions": 60, "inner_horizon": 40},
        {"states": 150, "actions": 3},
    ],
    ids=str,
)
def test_every_frame_is_a_picture_from_the_first_to_the_last(kwargs):
    env = gym.make(ID, render_mode="rgb_array", **kwargs).unwrapped
    env.action_space.seed(0)
    env.reset(seed=0)
    over = False
    while not over:
        frame = env.render()
        assert frame.shape == (HEIGHT, WIDTH, 3) and frame.dtype == np.uint8
        assert len(np.unique(frame @ np.array([1, 256, 65536]))) > 50  # colours
        for _ in range(97):
            *_, over, _, _ = env.step(env.action_space.sample()) if not over else (over, 0, 0)
    env.render()


def test_the_current_state_is_marked_and_steps_are_drawn():
    env = gym.make_vec(ID, num_envs=1, render_mode="rgb_array", inner_horizon=3, n=3)
    env.reset(seed=4)
    frames, states = [env.render()[0]], [0]
    for step in range(8):
        observation, *_ = env.step(np.array([step % 5]))
        frames.append(env.render()[0])
        states.append(int(env.unwrapped.layout.split(observation).state[0].argmax()))
    for frame, state in zip(frames, states, strict=True):
        angle = 2 * np.pi * state / 10 - np.pi / 2
        expected = 210 + 158 * np.array([np.cos(angle), np.sin(angle)])
        assert np.abs(_place(frame, ORANGE) - expected).max() < 3
    assert all((a != b).any() for a, b in pairwise(frames))
    earlier = [_pixels(frame, SKY)[CIRCLE].any() for frame in frames]
    assert earlier == [False] * 3 + [True] * 6


def test_a_row_that_is_over_is_drawn_as_it_ended():
    env = gym.make_vec(
        ID, num_envs=2, render_mode="rgb_array", n=2, inner_horizon=2, autoreset_mode="Disabled"
    )
    env.reset(seed=0)
    for _ in range(4):
        env.step(np.array([1, 1]))
    last = env.render()
    env.step(np.array([0, 0]))
    for before, after in zip(last, env.render(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert (last[0] != last[1]).any()
    env.reset(options={"reset_mask": np.array([True, False])})
    again = env.render()
    assert not _pixels(again[0], SKY)[CIRCLE].any()
    np.testing.assert_array_equal(again[1], last[1])


def test_a_restored_trial_is_drawn_as_it_was():
    env = gym.make_vec(ID, num_envs=1, render_mode="rgb_array")
    env.reset(seed=0)
    for _ in range(13):
        env.step(np.array([2]))
    other = gym.make_vec(ID, num_envs=1, render_mode="rgb_array")
    other.reset(seed=1)
    other.unwrapped.set_state(env.unwrapped.get_state())
    np.testing.assert_array_equal(other.render()[0], env.render()[0])


def test_bars_are_as_long_as_what_they_stand_for():
    transitions = np.array([[[0.5, 0.5], [0.25, 0.75]], [[1.0, 0.0], [0.0, 1.0]]])
    means = np.array([[2.0, 1.0], [0.0, 0.0]])
    states = np.array([[0, 0, 1], [0, -1, -1]])
    actions = np.array([[0, 0], [-1, -1]])
    rewards = np.array([[3.0, 1.0], [0.0, 0.0]])
    frame = draw_process(transitions, means, states, actions, rewards, finished=1)
    reward = np.s_[:, 541:637]
    rows = [int(190 + 44 * (action + 0.5)) for action in range(2)]
    true = [_pixels(frame, TRUE)[reward][y + 14].sum() for y in rows]
    assert true[0] == pytest.approx(2 * true[1], abs=2)
    seen = [_pixels(frame, BLUE)[reward][y].sum() for y in rows]
    assert seen == pytest.approx([true[0], 0], abs=2)  # 3 and 1 are 2; the other was never taken
    floor = [y + 1.2 * 0.36 * 44 for y in rows]
    heights = [
        [_pixels(frame, TRUE)[int(floor[a]) - 37 : int(floor[a]) - 1, x].sum() for x in (670, 750)]
        for a in range(2)
    ]
    assert heights[0][0] == pytest.approx(2 * heights[1][0], abs=2)
    assert heights[1][1] == pytest.approx(3 * heights[1][0], abs=2)
    seen = [
        _pixels(frame, BLUE)[int(floor[0]) - 37 : int(floor[0]) - 1, x].sum() for x in (696, 776)
    ]
    assert seen[0] == pytest.approx(seen[1], abs=1) and seen[0] > 10  # half and half


def test_each_inner_episode_has_its_reward():
    shape = (4, 3)
    states, actions = np.zeros((4, 4), int), np.zeros(shape, int)
    states[3:, 1:] = actions[3:] = -1
    rewards = np.array([[1.0, 1, 1], [2, 2, 2], [-1, 0, 0], [0, 0, 0]])
    frame = draw_process(np.ones((1, 1, 1)), np.ones((1, 1)), states, actions, rewards, finished=3)
    bars = _pixels(frame, SKY)[RETURNS]
    x = [int(148 + (WIDTH - 16 - 148) / 4 * (episode + 0.5)) - 150 for episode in range(4)]
    heights = [bars[:, place].sum() for place in x]
    assert heights[1] == pytest.approx(2 * heights[0], abs=2)
    assert heights[2] == pytest.approx(heights[0] / 3, abs=2)
    assert np.nonzero(bars[:, x[2]])[0].min() >= np.nonzero(bars[:, x[0]])[0].max()  # below zero
    assert heights[3] == 0


def test_without_a_render_mode_nothing_is_kept():
    env = gym.make_vec(ID, num_envs=2).unwrapped
    assert env._visited.size == env._taken.size == env._earned.size == 0
