"""Shortest ways through known mazes: breadth-first search over poses, all mazes at once.

A pose is a room and a heading: 4 · (row · size + column) + heading. Going forward, turning left and
turning right cost one action each, so that the fewest actions, not the fewest rooms, are counted.
"""

from __future__ import annotations

import numpy as np

from metagym.core.task import Task
from metagym.envs.meta_maze import GOAL_REWARD, STEP_REWARD
from metagym.mazes.grid import HEADINGS

FAR = np.int16(30_000)  # no way leads there, or the search ended before
_HEADING = np.arange(4)


def shortest_return(task: Task, n: int, inner_horizon: int) -> np.ndarray:
    """The highest return of a trial of ``n`` inner episodes, [B]: the ceiling.

    It takes knowing the maze from the first step on. A target too far for the horizon is not worth
    a walk, and no wall a bump.
    """
    lengths = shortest_lengths(task)
    found = lengths <= inner_horizon
    return n * (STEP_REWARD * np.minimum(lengths, inner_horizon) + GOAL_REWARD * found)


def shortest_lengths(task: Task) -> np.ndarray:
    """The fewest actions from start to target, [B]."""
    walls, start, target = task["walls"], task["start"], task["target"]
    every, size = np.arange(len(walls)), (walls.shape[1] - 1) // 2
    goals = np.zeros((len(walls), size * size), dtype=bool)
    goals[every, target @ [size, 1]] = True
    return steps_to(walls, goals)[every, start @ [4 * size, 4, 1]].astype(np.int64)


def steps_to(walls: np.ndarray, goals: np.ndarray, until: np.ndarray | None = None) -> np.ndarray:
    """The fewest actions from every pose to any of the goals.

    Args:
        walls: bool [n, side, side], see ``metagym.mazes.grid``.
        goals: rooms, bool [n, rooms].
        until: poses [n]; the search may end as soon as it knows the numbers of these.

    Returns:
        int16 [n, poses]; FAR where there is no way or the search has not been.
    """
    count, size = len(walls), (walls.shape[1] - 1) // 2
    side = 2 * size + 1
    row, column = np.divmod(np.arange(size * size), size)
    room_tile = (2 * row + 1) * side + 2 * column + 1
    tile_ahead = room_tile + (HEADINGS @ [side, 1])[:, None]
    opened = ~walls.reshape(count, -1)[:, tile_ahead].transpose(1, 0, 2)  # [4, n, rooms]
    steps = np.where(goals, np.int16(0), FAR)[None].repeat(4, axis=0)  # [4, n, rooms]
    room_ahead = HEADINGS @ [size, 1]
    every, here = np.arange(count), None if until is None else np.divmod(until, 4)
    while True:
        best = np.minimum(steps[_HEADING - 1], steps[(_HEADING + 1) % 4])
        for heading in range(4):
            # What rolls over an edge comes through a closed outer wall.
            ahead = np.roll(steps[heading], -room_ahead[heading], axis=1)
            np.copyto(ahead, FAR, where=~opened[heading])
            np.minimum(best[heading], ahead, out=best[heading])
        following = np.minimum(steps, np.minimum(best, FAR - 1) + np.int16(1))
        unchanged = np.array_equal(following, steps)
        steps = following
        if unchanged or (here is not None and (steps[here[1], every, here[0]] < FAR).all()):
            return steps.transpose(1, 2, 0).reshape(count, -1)


def poses_after(walls: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """The poses after each of the actions forward, left and right, [n, 3], from ``poses`` [n]."""
    size = (walls.shape[1] - 1) // 2
    room, heading = np.divmod(poses, 4)
    tile = np.stack([2 * (room // size) + 1, 2 * (room % size) + 1], axis=1) + HEADINGS[heading]
    way = ~walls[np.arange(len(walls)), tile[:, 0], tile[:, 1]]
    forward = poses + way * 4 * (HEADINGS @ [size, 1])[heading]
    left, right = (4 * room + (heading + turn) % 4 for turn in (-1, 1))
    return np.stack([forward, left, right], axis=1)


def best_actions(steps: np.ndarray, walls: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """The actions [n] that lead down ``steps`` [n, poses] from ``poses`` [n] fastest."""
    following = poses_after(walls, poses)
    actions: np.ndarray = np.take_along_axis(steps, following, axis=1).argmin(axis=1)
    return actions
