"""What every classical agent of ``MetaBandit`` does: read the observation and count.

All are vectorised over trials: what they know is one array of pulls and one of rewards, [B, k],
in which a step changes one entry per row. They know the prior of the arms and, of Gaussian arms,
the noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from metagym.envs.meta_bandit import MetaBanditVectorEnv
from metagym.errors import InvalidArgumentError


class BanditAgent(ABC):
    """Base: counts pulls and rewards from the observations.

    A subclass implements ``_choose() -> arms`` for all rows, and overrides ``_forget(rows)`` and
    ``_learn(entries)`` if it keeps more than posterior means.

    Args:
        seed: of the agent's own random stream, restarted by every ``bind``.
        **hyperparameters: go into ``config``.
    """

    name = "bandit"
    needs_bernoulli = False

    def __init__(self, seed: int = 0, **hyperparameters: Any) -> None:
        self.seed = seed
        self.config = {**hyperparameters, "seed": seed}

    def bind(self, env: VectorEnv) -> None:
        """Learn the sizes and the prior of ``env``, a MetaBandit vector environment; start over.

        Raises:
            InvalidArgumentError: another environment, or arms that this agent cannot model.
        """
        base = env.unwrapped
        if not isinstance(base, MetaBanditVectorEnv):
            raise InvalidArgumentError(
                f"{self.name} acts in MetaBandit environments, made with gym.make_vec; "
                f"{type(base).__name__} is none."
            )
        if self.needs_bernoulli and base.arms != "bernoulli":
            raise InvalidArgumentError(
                f"{self.name} is computed for Bernoulli arms; with arms={base.arms!r} use "
                "thompson, ucb1, epsilon_greedy or greedy."
            )
        self.n, self.k, self.arms = base.n, base.k, base.arms
        self.alpha, self.beta, self.noise = base.alpha, base.beta, base.noise
        # The prior is worth ``_strength`` pulls that paid ``_prior_sum`` in all.
        self._strength, self._prior_sum = base.noise**2, 0.0
        if self.arms == "bernoulli":
            self._strength, self._prior_sum = base.alpha + base.beta, base.alpha
        self._layout = base.layout
        self.rng = np.random.default_rng(self.seed)
        shape = (env.num_envs, self.k)
        self._offsets = np.arange(env.num_envs) * self.k
        self._elapsed = np.zeros(env.num_envs, dtype=np.int64)
        self.pulls, self.rewards, self._means = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self._flat_pulls, self._flat_rewards = self.pulls.ravel(), self.rewards.ravel()
        self._flat_means = self._means.ravel()

    def reset(self, mask: np.ndarray) -> None:
        """Forget the rows where ``mask`` (bool [num_envs]) is True."""
        rows: Any = slice(None) if mask.all() else np.flatnonzero(mask)
        self._elapsed[rows] = 0
        self.pulls[rows] = self.rewards[rows] = 0.0
        self._means[rows] = self._prior_sum / self._strength
        self._forget(rows)

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        """The arms to pull next, int64 [num_envs]."""
        told = self._layout.split(observations)
        # Before its first pull a row has nothing to tell, after its last one nothing new.
        new = (told.done > 0.0) & (self._elapsed < self.n)
        entries = self._offsets + told.action.argmax(axis=1)
        rewards = told.reward
        if not new.all():
            entries, rewards = entries[new], rewards[new]
        if len(entries):
            self._elapsed += new
            self._flat_pulls[entries] += 1.0
            self._flat_rewards[entries] += rewards
            self._flat_means[entries] = (self._flat_rewards[entries] + self._prior_sum) / (
                self._flat_pulls[entries] + self._strength
            )
            self._learn(entries, rewards)
        return self._choose()

    @abstractmethod
    def _choose(self) -> np.ndarray:
        """The next arms [B]."""

    def _forget(self, rows: Any) -> None:  # noqa: B027
        """Start the given rows over."""

    def _learn(self, entries: np.ndarray, rewards: np.ndarray) -> None:  # noqa: B027
        """These entries of the flat [B, k] arrays were just pulled, one per row at most."""
