"""GainActions: LearnToOptimize seen through a GainRule, for agents that explore in gains."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from metagym.errors import InvalidArgumentError
from metagym.optim.gains import BOUND, GainRule


class GainActions(VectorWrapper):
    """An action view: the agent sees scale-free features and acts with gains.

    The wrapped environment is unchanged and still receives Δx. Unwrap the view by giving the
    trained policy to the rule: ``GainRule(..., policy=policy)`` is an update rule.

    Args:
        env: a batch of LearnToOptimize environments in any autoreset mode.
        rule: the rule whose gains are the action; its policy is not used here.

    Raises:
        InvalidArgumentError: the environment's action is not a parameter update.
    """

    def __init__(self, env: VectorEnv, rule: GainRule) -> None:
        super().__init__(env)
        if not hasattr(env.unwrapped, "action_scale"):
            raise InvalidArgumentError(
                f"GainActions needs an environment whose action is a parameter update, as "
                f"LearnToOptimize-v0; got {env}."
            )
        self.rule = rule
        self._dim: int = env.unwrapped.dim
        self._scale: float = env.unwrapped.action_scale
        self.single_observation_space = gym.spaces.Box(
            -BOUND, BOUND, rule.feature_shape(self._dim), np.float32
        )
        self.single_action_space = gym.spaces.Box(
            -1.0, 1.0, rule.gain_shape(self._dim), np.float32
        )
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._waiting = np.zeros(self.num_envs, dtype=bool)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """As the environment's; features are of the rows' first iterates."""
        mask = (options or {}).get("reset_mask")
        observations, infos = self.env.reset(seed=seed, options=options)
        fresh = np.ones(self.num_envs, dtype=bool) if mask is None else np.asarray(mask)
        self._waiting[fresh] = False
        return self.rule.restart(fresh, *newest_entry(observations, self._dim)), infos

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Combine the gains [num_envs, ...] into Δx and advance."""
        update = self.rule.combine(np.asarray(actions))
        observations, rewards, terminated, truncated, infos = self.env.step(update / self._scale)
        mode = self.env.metadata["autoreset_mode"]
        done = terminated | truncated
        if mode is AutoresetMode.NEXT_STEP:
            self.rule.reset(self._waiting)  # these rows were reset in this step
            self._waiting = done
        if mode is not AutoresetMode.SAME_STEP or not done.any():
            return self._observe(observations), rewards, terminated, truncated, infos
        final = observations.copy()
        final[done] = np.stack(list(infos["final_obs"][done]))
        features = self._observe(final)
        infos["final_obs"] = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(done):
            infos["final_obs"][row] = features[row].copy()
        features[done] = self.rule.restart(done, *newest_entry(observations, self._dim))[done]
        return features, rewards, terminated, truncated, infos

    def _observe(self, observations: np.ndarray) -> np.ndarray:
        return self.rule.observe(*newest_entry(observations, self._dim))


def newest_entry(observations: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loss [B], gradient [B, d] and last update [B, d] (float64) of LearnToOptimize's newest step."""
    newest = observations[:, -(1 + 2 * dim) :].astype(np.float64)
    return newest[:, 0], newest[:, 1 : 1 + dim], newest[:, 1 + dim :]
