"""LearnToOptimize-v0: an agent is the optimiser (Li & Malik 2016; Andrychowicz et al. 2016)."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from metagym.core.optimization import OptimizationEnv
from metagym.core.single import SingleEnv
from metagym.errors import InvalidArgumentError, reject_unknown_kwargs
from metagym.problems import ProblemFamily


class LearnToOptimizeVectorEnv(OptimizationEnv):
    """
    ## Description
    """

    rewards = ("negative_loss", "log_improvement")

    def __init__(
        self,
        num_envs: int = 1,
        *,
        problem: str | ProblemFamily = "quadratic",
        dim: int | None = None,
        problem_kwargs: dict[str, Any] | None = None,
        horizon: int = 100,
        history: int = 25,
        reward: str = "negative_loss",
        noise: float = 0.0,
        action_scale: float = 10.0,
        dtype: str = "float32",
        split: str = "train",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        reject_unknown_kwargs(type(self), unknown)
        if not 0.0 < action_scale < np.inf:
            raise InvalidArgumentError(f"action_scale={action_scale!r} has to be positive.")
        self.action_scale = float(action_scale)
        super().__init__(
            num_envs,
            problem=problem,
            dim=dim,
            problem_kwargs=problem_kwargs,
            horizon=horizon,
            history=history,
            reward=reward,
            noise=noise,
            dtype=dtype,
            split=split,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
        )

    def _make_action_space(self) -> gym.spaces.Box:
        return gym.spaces.Box(-1.0, 1.0, (self.dim,), np.float32)

    def _entry_width(self) -> int:
        return 1 + 2 * self.dim

    def _next_iterate(self, actions: np.ndarray) -> np.ndarray:
        x = actions.astype(self.dtype)
        x *= self.action_scale
        x += self._x
        return x

    def _entry(
        self, loss: np.ndarray, gradient: np.ndarray, update: np.ndarray, x: np.ndarray
    ) -> np.ndarray:
        entry = np.empty((len(x), 1 + 2 * self.dim), dtype=np.float32)
        entry[:, 0] = loss
        entry[:, 1 : 1 + self.dim] = gradient
        entry[:, 1 + self.dim :] = update
        return entry


class LearnToOptimizeEnv(SingleEnv):
    batched = LearnToOptimizeVectorEnv
