"""SymlogObservations: losses and gradients of any size, on a scale that a network can read."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from metagym.errors import InvalidArgumentError


def symlog(x: np.ndarray) -> np.ndarray:
    """sign(x) log(1 + |x|) (Hafner et al. 2023, DreamerV3), float32."""
    return (np.sign(x) * np.log1p(np.abs(x))).astype(np.float32)


class SymlogObservations(VectorWrapper):
    """symlog of every observation, ``final_obs`` included; no statistics, so nothing to save.

    Raises:
        InvalidArgumentError: the observations are not a Box.
    """

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        space = env.single_observation_space
        if not isinstance(space, gym.spaces.Box):
            raise InvalidArgumentError(
                f"SymlogObservations needs a Box of observations; got {space}."
            )
        self.single_observation_space = gym.spaces.Box(symlog(space.low), symlog(space.high))
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """As the environment's."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return symlog(observations), infos

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """As the environment's."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        if "final_obs" in infos:
            for row in np.flatnonzero(infos["_final_obs"]):
                infos["final_obs"][row] = symlog(infos["final_obs"][row])
        return symlog(observations), rewards, terminated, truncated, infos
