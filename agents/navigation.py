"""Agents that were written, not trained, for ``MetaNavigation2D-v0``.

``StraightToGoal`` is the exact ceiling and sees the goal. ``Trilateration`` sees what a learner
sees: three rewards at places that are not in a line determine the goal.

Lecture topic: meta-reinforcement learning, navigation: the agents beside what is learned.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from metagym.core.task import Task
from metagym.envs.meta_navigation import MetaNavigation2DVectorEnv
from metagym.errors import InvalidArgumentError

# The first steps, in units of the greatest velocity: small enough to cost little, large enough for
# float32, and any three places that they lead to form a triangle.
_PROBES = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], np.float32)


class _NavigationAgent:
    """Base: takes the sizes of the environment."""

    name = "navigation_agent"

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}

    def bind(self, env: VectorEnv) -> None:
        """Take the sizes of ``env``.

        Raises:
            InvalidArgumentError: it is no MetaNavigation2D vector environment.
        """
        base: Any = env.unwrapped
        if not isinstance(base, MetaNavigation2DVectorEnv):
            raise InvalidArgumentError(
                f"{self.name} reads the observations of MetaNavigation2D environments; "
                f"{type(base).__name__} has others."
            )
        self._layout = base.layout
        self._scale = base.action_scale
        self._goal = np.zeros((env.num_envs, 2))

    def _towards_goal(self, position: np.ndarray) -> np.ndarray:
        """The actions that lead nearest to the goal, each coordinate for itself."""
        wanted = (self._goal - position) / self._scale
        return np.clip(wanted, -1.0, 1.0).astype(np.float32)


class StraightToGoal(_NavigationAgent):
    """The oracle: no other agent is nearer to the goal at any step, nor there earlier."""

    name = "straight_to_goal"
    privileged = True

    def observe_task(self, task: Task, mask: np.ndarray) -> None:
        """Receive the goals of the rows where ``mask`` is True."""
        self._goal[mask] = task["goal"][mask]

    def reset(self, mask: np.ndarray) -> None:
        """Nothing to forget: ``observe_task`` overwrites."""

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        """Actions [num_envs, 2]."""
        return self._towards_goal(self._layout.split(observations).state)


class Trilateration(_NavigationAgent):
    """Takes three steps around, solves for the goal and goes there; later it goes at once.

    With r = -|p - g|² each step gives r + |p|² = 2 p·g - |g|², which is linear in g and |g|².
    """

    name = "trilateration"

    def bind(self, env: VectorEnv) -> None:
        super().bind(env)
        self._count = np.zeros(env.num_envs, dtype=np.int64)
        self._equations = np.zeros((env.num_envs, len(_PROBES), 3))
        self._values = np.zeros((env.num_envs, len(_PROBES)))
        self._fresh = np.ones(env.num_envs, dtype=bool)

    def reset(self, mask: np.ndarray) -> None:
        """Forget the trials of the rows where ``mask`` (bool [num_envs]) is True."""
        self._fresh |= mask

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        """Actions [num_envs, 2]."""
        seen = self._layout.split(observations)
        self._count[self._fresh] = 0
        news = np.flatnonzero(~self._fresh & (self._count < len(_PROBES)))
        self._fresh[:] = False
        if len(news):
            done = seen.done[news, None] > 0
            place = np.where(done, seen.final[news], seen.state[news]).astype(np.float64)
            row = self._count[news]
            self._equations[news, row] = np.column_stack([2.0 * place, -np.ones(len(news))])
            self._values[news, row] = seen.reward[news] + np.square(place).sum(axis=1)
            self._count[news] += 1
            ready = news[self._count[news] == len(_PROBES)]
            solved = np.linalg.solve(self._equations[ready], self._values[ready, :, None])
            self._goal[ready] = solved[:, :2, 0]
        actions = self._towards_goal(seen.state)
        probing = self._count < len(_PROBES)
        actions[probing] = _PROBES[self._count[probing]]
        return actions
