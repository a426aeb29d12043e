"""Shortest ways against a plain search, one pose at a time."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.mazes.grid import generate_mazes
from metagym.mazes.lists import frozen_mazes
from metagym.planning.mazes import (
    FAR,
    best_actions,
    poses_after,
    shortest_lengths,
    shortest_return,
    steps_to,
)

STEPS = ((-1, 0), (0, 1), (1, 0), (0, -1))


def _search(walls, start, target):
    """The fewest actions, by breadth-first search over (row, column, heading)."""
    todo, known = deque([(*start, 0)]), {tuple(start)}
    while todo:
        row, column, heading, steps = todo.popleft()
        if (row, column) == tuple(target):
            return steps
        down, right = STEPS[heading]
        following = [(row, column, (heading + turn) % 4) for turn in (1, 3)]
        if not walls[2 * row + 1 + down, 2 * column + 1 + right]:
            following.append((row + down, column + right, heading))
        for pose in following:
            if pose not in known:
                known.add(pose)
                todo.append((*pose, steps + 1))
    raise AssertionError("unreachable")


def _with_loops(mazes, rng):
    """Some more openings: shortest ways are then a choice."""
    walls = mazes["walls"]
    more = rng.random(walls.shape) < 0.3
    more[:, ::2, ::2] = False
    more[:, [0, -1]] = more[:, :, [0, -1]] = False
    walls &= ~more
    return mazes


@settings(max_examples=25, deadline=None)
@given(size=st.integers(3, 8), seed=st.integers(0, 10**6), loops=st.booleans())
def test_lengths_are_those_of_a_plain_search(size, seed, loops):
    rng = np.random.default_rng(seed)
    mazes = generate_mazes(size, 4, rng)
    if loops:
        mazes = _with_loops(mazes, rng)
    expected = [
        _search(mazes["walls"][i], mazes["start"][i].tolist(), mazes["target"][i].tolist())
        for i in range(4)
    ]
    np.testing.assert_array_equal(shortest_lengths(mazes), expected)


def test_following_the_steps_takes_as_many():
    mazes = frozen_mazes(9, "validation")
    walls, every = mazes["walls"][:200], np.arange(200)
    target = mazes["target"][:200] @ [9, 1]
    goals = np.zeros((200, 81), dtype=bool)
    goals[every, target] = True
    steps = steps_to(walls, goals)
    pose = mazes["start"][:200] @ [36, 4, 1]
    left = steps[every, pose].astype(int)
    np.testing.assert_array_equal(left, shortest_lengths(mazes)[:200])
    while (left > 0).any():
        going = left > 0
        actions = best_actions(steps, walls, pose)
        pose = np.where(going, poses_after(walls, pose)[every, actions], pose)
        assert (steps[every, pose][going] == left[going] - 1).all()
        left -= going
    np.testing.assert_array_equal(pose // 4, target)


def test_a_search_that_may_end_early_is_right_where_it_was_asked():
    mazes = frozen_mazes(5, "train")
    every = np.arange(1000)
    goals = np.zeros((1000, 25), dtype=bool)
    goals[every, mazes["target"] @ [5, 1]] = True
    all_steps = steps_to(mazes["walls"], goals)
    pose = mazes["start"] @ [20, 4, 1]
    few = steps_to(mazes["walls"], goals, until=pose)
    np.testing.assert_array_equal(few[every, pose], all_steps[every, pose])
    known = few < FAR
    np.testing.assert_array_equal(few[known], all_steps[known])
    near = all_steps[:1, :].argsort()[:, 1]  # a pose next to the goal needs hardly any search
    assert (steps_to(mazes["walls"][:1], goals[:1], until=near) == FAR).any()


def test_the_nearest_of_several_goals_counts_and_no_goal_is_far():
    mazes = generate_mazes(4, 6, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    goals = rng.random((6, 16)) < 0.2
    goals[0] = False
    together = steps_to(mazes["walls"], goals)
    assert (together[0] == FAR).all()
    apart = np.full(together.shape, FAR)
    for room in range(16):
        only = goals & (np.arange(16) == room)
        apart = np.minimum(apart, steps_to(mazes["walls"], only))
    np.testing.assert_array_equal(together, apart)


def test_walled_off_goals_are_far():
    walls = np.ones((1, 7, 7), dtype=bool)
    walls[0, 1::2, 1::2] = False
    goals = np.zeros((1, 9), dtype=bool)
    goals[0, 4] = True
    steps = steps_to(walls, goals).reshape(9, 4)
    assert (steps[4] == 0).all()
    assert (np.delete(steps, 4, axis=0) == FAR).all()


def test_the_ceiling_is_the_shortest_ways_reward():
    mazes = frozen_mazes(5, "test")
    lengths = shortest_lengths(mazes)
    np.testing.assert_allclose(shortest_return(mazes, 2, 250), 2 * (1 - 0.04 * lengths))
    # Who cannot get there in time cannot do better than not to bump.
    short = shortest_return(mazes, 3, 12)
    np.testing.assert_allclose(
        short, np.where(lengths <= 12, 3 * (1 - 0.04 * lengths), -3 * 0.04 * 12)
    )
    assert 0 < (lengths > 12).sum() < 1000


@pytest.mark.parametrize("heading", range(4))
def test_poses_after_each_action(heading):
    walls = np.ones((1, 7, 7), dtype=bool)
    walls[0, 1:-1, 1:-1] = False  # one hall
    pose = np.array([4 * 4 + heading])
    ahead = {0: 1, 1: 5, 2: 7, 3: 3}[heading]
    expected = [[4 * ahead + heading, 16 + (heading - 1) % 4, 16 + (heading + 1) % 4]]
    np.testing.assert_array_equal(poses_after(walls, pose), expected)
    np.testing.assert_array_equal(
        poses_after(np.ones_like(walls), pose)[0], [pose[0], *expected[0][1:]]
    )
