"""GainActions: LearnToOptimize seen through a GainRule, for agents that explore in gains."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from metagym.core.optimization import acts_by_updates
from metagym.errors import InvalidActionError, InvalidArgumentError
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
        base: Any = env.unwrapped
        if not acts_by_updates(base):
            raise InvalidArgumentError(
                f"GainActions needs an environment whose action is a parameter update, as "
                f"LearnToOptimize-v0; got {env}."
            )
        self.rule = rule
        self._dim: int = base.dim
        self._scale: float = base.action_scale
        self.single_observation_space = gym.spaces.Box(
            -BOUND, BOUND, rule.feature_shape(self._dim), np.float32
        )
        self.single_action_space = gym.spaces.Box(-1.0, 1.0, rule.gain_shape(self._dim), np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._waiting = np.zeros(self.num_envs, dtype=bool)  # rows whose episode is over
        self._features = np.zeros(self.observation_space.shape or (), np.float32)  # last returned

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """As the environment's; features are of the rows' first iterates."""
        mask = (options or {}).get("reset_mask")
        observations, infos = self.env.reset(seed=seed, options=options)
        fresh = np.ones(self.num_envs, dtype=bool) if mask is None else np.asarray(mask)
        self._waiting[fresh] = False
        features = self.rule.restart(fresh, *newest_entry(observations, self._dim))
        self._features[fresh] = features[fresh]
        return self._features.copy(), infos

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Combine the gains [num_envs, ...] into Δx and advance.

        Raises:
            InvalidActionError: the gains have the wrong shape or contain NaN.
        """
        gains = np.asarray(actions)
        if gains.shape != self.action_space.shape:
            raise InvalidActionError(
                f"The gains have shape {gains.shape}; this view takes {self.action_space.shape}."
            )
        if np.isnan(gains).any():
            raise InvalidActionError("The gains contain NaN.")
        update = self.rule.combine(gains)
        observations, rewards, terminated, truncated, infos = self.env.step(update / self._scale)
        mode = self.env.metadata["autoreset_mode"]
        done = terminated | truncated
        if mode is AutoresetMode.NEXT_STEP:
            self.rule.reset(self._waiting)  # these rows were reset in this step
        if mode is not AutoresetMode.SAME_STEP or not done.any():
            features = self._observe(observations)
            if mode is AutoresetMode.DISABLED:
                features[self._waiting] = self._features[self._waiting]  # these are frozen
            self._waiting, self._features = done, features.copy()
            return features, rewards, terminated, truncated, infos
        final = observations.copy()
        final[done] = np.stack(list(infos["final_obs"][done]))
        features = self._observe(final)
        infos["final_obs"] = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(done):
            infos["final_obs"][row] = features[row].copy()
        features[done] = self.rule.restart(done, *newest_entry(observations, self._dim))[done]
        self._features = features.copy()
        return features, rewards, terminated, truncated, infos

    def _observe(self, observations: np.ndarray) -> np.ndarray:
        return self.rule.observe(*newest_entry(observations, self._dim))


def newest_entry(observations: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loss [B], gradient [B, d] and last update [B, d] (float64) of the newest step."""
    newest = observations[:, -(1 + 2 * dim) :].astype(np.float64)
    return newest[:, 0], newest[:, 1 : 1 + dim], newest[:, 1 + dim :]
