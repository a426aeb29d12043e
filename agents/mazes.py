"""Agents that were written, not trained, for ``MetaMaze-v0``: the ceiling and two explorers.

``ShortestPath`` is an oracle, it sees the task. The explorers see what a learner sees, and draw a
map of it; what they lack is knowledge of how mazes are made.

Lecture topic: meta-reinforcement learning, mazes: the agents beside RL².
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from metagym.core.task import Task
from metagym.core.trial import TrialView
from metagym.envs.meta_maze import FORWARD, LEFT, RIGHT, MetaMazeVectorEnv
from metagym.errors import InvalidArgumentError
from metagym.mazes.view import DEPTH, WIDTH, window
from metagym.planning.mazes import FAR, best_actions, poses_after, steps_to

_AHEAD, _RIGHT = (3, 2), (4, 3)  # pixels of the view: the ways ahead and to the right


class _MazeAgent:
    """Base: reads the blocks of the observation and keeps count of the agent's pose.

    A subclass sets ``_walls`` [B, side, side], what it takes for walls, and ``_start_pose`` [B].
    """

    name = "maze_agent"

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}

    def bind(self, env: VectorEnv) -> None:
        """Take the sizes of ``env``, a MetaMaze vector environment with flat observations.

        Raises:
            InvalidArgumentError: another environment.
        """
        base: Any = env.unwrapped
        if not isinstance(base, MetaMazeVectorEnv) or base.observation != "flat":
            raise InvalidArgumentError(
                f"{self.name} reads the flat observations of MetaMaze environments; "
                f"{type(base).__name__} has others."
            )
        self._layout = base.layout
        self.size: int = base.size
        self._rows = np.arange(env.num_envs)
        self._fresh = np.ones(env.num_envs, dtype=bool)
        self._pose = np.zeros(env.num_envs, dtype=np.int64)
        self._start_pose = np.zeros(env.num_envs, dtype=np.int64)
        self._walls = np.zeros((env.num_envs, 0, 0), dtype=bool)

    def reset(self, mask: np.ndarray) -> None:
        """Forget the trials of the rows where ``mask`` (bool [num_envs]) is True."""
        self._fresh |= mask

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        """The next actions [num_envs]."""
        seen = self._layout.split(observations)
        again = self._fresh | (seen.done > 0)
        self._pose[again] = self._start_pose[again]
        actions = self._choose(seen)
        self._pose = poses_after(self._walls, self._pose)[self._rows, actions]
        self._fresh[:] = False
        return actions

    @abstractmethod
    def _choose(self, seen: TrialView) -> np.ndarray:
        """The actions [B]; ``_pose`` is up to date."""


class ShortestPath(_MazeAgent):
    """The oracle: it knows the maze and walks the shortest way in every inner episode."""

    name = "shortest_path"
    privileged = True

    def observe_task(self, task: Task, mask: np.ndarray) -> None:
        """Receive the tasks of the rows where ``mask`` is True."""
        if not self._walls.size:
            self._walls = np.ones_like(task["walls"])
            self._steps = np.zeros((len(mask), 4 * self.size**2), dtype=np.int16)
        goals = np.zeros((len(mask), self.size**2), dtype=bool)
        goals[self._rows, task["target"] @ [self.size, 1]] = True
        self._walls[mask] = task["walls"][mask]
        self._start_pose[mask] = task["start"][mask] @ [4 * self.size, 4, 1]
        self._steps[mask] = steps_to(task["walls"][mask], goals[mask])

    def _choose(self, seen: TrialView) -> np.ndarray:
        return best_actions(self._steps, self._walls, self._pose)


class _MapMaker(_MazeAgent):
    """Base of the explorers: a map in a frame whose origin is the start, whose north is ahead.

    What has not been seen open counts as wall. Once the target has been seen, the agent goes there
    by the shortest way on its map: in later inner episodes too.
    """

    def bind(self, env: VectorEnv) -> None:
        super().bind(env)
        # The start may lie in any corner, so that the map has room for the maze on all sides.
        self._span = 2 * self.size - 1
        middle = self.size - 1
        side = 2 * self._span + 1
        self._start_pose[:] = 4 * (middle * self._span + middle)
        self._walls = np.ones((env.num_envs, side, side), dtype=bool)
        self._seen = np.zeros((env.num_envs, side, side), dtype=bool)
        self._target = np.full(env.num_envs, -1, dtype=np.int64)  # its tile, once it is known
        self._steps = np.full((env.num_envs, 4 * self._span**2), FAR, dtype=np.int16)

    def _choose(self, seen: TrialView) -> np.ndarray:
        self._walls[self._fresh] = True
        self._seen[self._fresh] = False
        self._target[self._fresh] = -1
        view = seen.state.reshape(len(self._rows), -1, DEPTH, WIDTH) > 0
        # A plan holds until the map grows; it ends where the search for the last one did.
        stale = self._draw(view) | (self._steps[self._rows, self._pose] == FAR)
        actions = self._explore(seen, view, stale)
        known = np.flatnonzero(self._target >= 0)
        replan = known[stale[known]]
        if len(replan):
            goals = self._target[replan, None] == self._room_tiles()
            self._plan(replan, self._walls[replan], goals)
        actions[known] = self._follow(known)
        return actions

    def _draw(self, view: np.ndarray) -> np.ndarray:
        """Write what is seen into the map; True where any of it is new, [B]."""
        wall, way, target = view[:, 0], view[:, 1], view[:, 2]
        tiles = window(self._span)[self._pose]  # [B, 5, 5]
        rows, *pixel = np.nonzero(wall | way)
        at = tiles[rows, *pixel]
        seen, walls = (array.reshape(len(view), -1) for array in (self._seen, self._walls))
        news = np.zeros(len(view), dtype=bool)
        news[rows[~seen[rows, at]]] = True
        seen[rows, at] = True
        walls[rows, at] = wall[rows, *pixel]
        rows, *pixel = np.nonzero(target)
        self._target[rows] = tiles[rows, *pixel]
        return news

    def _room_tiles(self) -> np.ndarray:
        row, column = np.divmod(np.arange(self._span**2), self._span)
        return (2 * row + 1) * (2 * self._span + 1) + 2 * column + 1

    def _plan(self, rows: np.ndarray, walls: np.ndarray, goals: np.ndarray) -> None:
        self._steps[rows] = steps_to(walls, goals, until=self._pose[rows])

    def _follow(self, rows: np.ndarray) -> np.ndarray:
        return best_actions(self._steps[rows], self._walls[rows], self._pose[rows])

    @abstractmethod
    def _explore(self, seen: TrialView, view: np.ndarray, stale: np.ndarray) -> np.ndarray:
        """The actions [B] of rows that do not know the target yet."""


class WallFollower(_MapMaker):
    """Keeps its right hand on the wall until it sees the target, and remembers the way."""

    name = "wall_follower"

    def _explore(self, seen: TrialView, view: np.ndarray, stale: np.ndarray) -> np.ndarray:
        way = view[:, 1]
        # After a right turn the opening lies ahead: go through, or it would turn on the spot.
        turned = (seen.action[:, RIGHT] > 0) & (seen.done == 0)
        right = way[:, *_RIGHT] & ~turned
        return np.where(right, RIGHT, np.where(way[:, *_AHEAD], FORWARD, LEFT))


class NearestFrontier(_MapMaker):
    """Goes to the nearest room that it has not seen, until it sees the target.

    Greedy frontier exploration (Yamauchi 1997), nearest in actions. It hopes that what it has not
    seen is open, and plans again whenever it sees more.
    """

    name = "nearest_frontier"

    def _explore(self, seen: TrialView, view: np.ndarray, stale: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero(stale & (self._target < 0))
        if len(rows):
            walls = self._walls[rows] & self._seen[rows]
            walls[:, [0, -1]] = walls[:, :, [0, -1]] = True
            unseen = ~self._seen[rows, 1::2, 1::2]
            self._plan(rows, walls, unseen.reshape(len(rows), -1))
        return self._follow(self._rows)
