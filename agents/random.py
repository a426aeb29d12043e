"""The random agent: uniform actions, the floor of every table.

Lecture topic: meta-reinforcement learning, the floor of its tables.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv


class RandomAgent:
    """Uniform actions: masked where the environment says so.

    Args:
        seed: of its own random stream, restarted by every ``bind``.
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.config = {"seed": seed}
        self._space: Any = None

    def bind(self, env: VectorEnv) -> None:
        """Take the action space of ``env`` and restart the random stream."""
        self._space = env.action_space
        self._space.seed(self.seed)

    def reset(self, mask: np.ndarray) -> None:
        """Nothing to forget."""

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        """One uniform sample of the batched action space (masks are honoured where given)."""
        if action_masks is not None:
            return np.asarray(self._space.sample(mask=tuple(action_masks.astype(np.int8))))
        return np.asarray(self._space.sample())
