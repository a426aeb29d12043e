"""Toys that the tests of the core share."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from metagym.core import BatchedEnv, SingleEnv


class Drift(BatchedEnv):
    """x += a * gain + noise; terminates beyond ±2, is truncated after 7 steps."""

    _state_names = ("_x",)

    def __init__(self, num_envs: int = 3, noise: float = 0.0, discrete: bool = False, **kw: Any):
        space = gym.spaces.Discrete(3) if discrete else gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
        super().__init__(
            num_envs,
            single_observation_space=gym.spaces.Box(-9.0, 9.0, (2,), np.float32),
            single_action_space=space,
            horizon=kw.pop("horizon", 7),
            **kw,
        )
        self.noise = noise
        self.taken: list[np.ndarray] = []  # the actions that reached the dynamics
        self._x = np.zeros(num_envs)

    def _sample_tasks(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        return {"gain": rng.uniform(0.5, 1.5, n), "kind": rng.integers(0, 1000, n)}

    def _start(self, rows: Any) -> None:
        self._x[rows] = 0.0

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        assert self._noise_rng is not None
        self.taken.append(actions.copy())
        draw = self._noise_rng.standard_normal(self.num_envs)
        move = actions.reshape(self.num_envs).astype(float)
        self._x = self._x + move * self._task["gain"] + self.noise * draw
        np.clip(self._x, -9.0, 9.0, out=self._x)
        return self._x.copy(), np.abs(self._x) > 2.0, {"x": self._x.copy()}

    def _observe(self, rows: Any = slice(None)) -> np.ndarray:
        return np.stack([self._x[rows], self._elapsed[rows]], axis=1).astype(np.float32)

    def _start_info(self) -> dict[str, np.ndarray]:
        return {"x": self._x}

    def _end_info(self) -> dict[str, np.ndarray]:
        return {"score": 10.0 * self._x}


class DriftSingle(SingleEnv):
    batched = Drift


@pytest.fixture
def drift() -> type[Drift]:
    """The batched toy: x += a * gain + noise; terminates beyond ±2, truncated after 7 steps."""
    return Drift


@pytest.fixture
def drift_single() -> type[DriftSingle]:
    """Its single view."""
    return DriftSingle
