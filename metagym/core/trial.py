"""TrialEnv: several inner episodes on one hidden task are one episode of ours (RL²'s trial).

Duan et al. (2016), RL²: fast reinforcement learning via slow reinforcement learning. An agent
that keeps its memory through the trial, and is paid for all of it, learns how to learn.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np

from metagym.core.batch import ALL, BatchedEnv
from metagym.errors import check_positive


class TrialView(NamedTuple):
    """The blocks of a batch of observations, as views of it: numpy arrays or torch tensors."""

    state: Any  # [..., S]
    action: Any  # [..., A]
    reward: Any  # [...]
    done: Any  # [...], 1.0 or 0.0
    final: Any  # [..., S], or [..., 0] where the environment has no such block


@dataclass(frozen=True)
class TrialLayout:
    """Where the blocks of a trial's observation lie: ``[s, a, r, d, s']``.

    Attributes:
        state: length of s, the state in which the next action is taken.
        action: length of a, the previous action: one-hot for discrete actions. Zero at the start
            of a trial, as r and d are; behind it come r, the previous reward, and d, 1 where the
            previous step ended an inner episode, by its end or by a time limit.
        final: length of s', the state to which that step led; zero wherever d is 0, where s is
            that state. 0 in environments whose inner episodes have no such state.
    """

    state: int
    action: int
    final: int = 0

    @property
    def size(self) -> int:
        """Length of the whole observation."""
        return self.state + self.action + 2 + self.final

    def split(self, observations: Any) -> TrialView:
        """The blocks of observations [..., size], an array or a tensor."""
        a, r = self.state, self.state + self.action
        return TrialView(
            observations[..., :a], observations[..., a:r], observations[..., r],
            observations[..., r + 1], observations[..., r + 2 :],
        )  # fmt: skip


class TrialEnv(BatchedEnv):
    """Base of the environments whose episode is a trial: what an agent is shown of the last step.

    A subclass calls ``self._show`` in its ``_advance`` and writes s and s' itself, if it has any;
    ``InnerEpisodesEnv`` does both. A trial ends ``terminated``: its length is part of the task.

    Args:
        num_envs: number of rows B.
        state_space: a Box [S] of s.
        action_space: the space of one action, Discrete or Box.
        reward_range: rewards are shown to agents clipped to it.
        final_state: whether the observation has the block s'.
        **kwargs: of BatchedEnv.
    """

    _state_names: ClassVar[tuple[str, ...]] = ("_shown",)

    def __init__(
        self,
        num_envs: int,
        *,
        state_space: gym.spaces.Box,
        action_space: gym.spaces.Discrete | gym.spaces.Box,
        reward_range: tuple[float, float],
        final_state: bool,
        **kwargs: Any,
    ) -> None:
        self.reward_range = reward_range
        self.layout, space = trial_space(state_space, action_space, reward_range, final_state)
        super().__init__(
            num_envs, single_observation_space=space, single_action_space=action_space,
            horizon=None, **kwargs,
        )  # fmt: skip
        self._every_row = np.arange(self.num_envs)
        self._discrete = isinstance(action_space, gym.spaces.Discrete)
        self._shown = np.zeros((self.num_envs, self.layout.size), np.float32)
        self._blocks = self.layout.split(self._shown)

    def _show(self, actions: np.ndarray, rewards: np.ndarray, ended: np.ndarray | float) -> None:
        """Write the blocks a, r and d of all rows."""
        if self._discrete:
            self._blocks.action[:] = 0.0
            self._blocks.action[self._every_row, actions] = 1.0
        else:
            self._blocks.action[:] = actions
        np.clip(rewards, *self.reward_range, out=self._blocks.reward, casting="same_kind")
        self._blocks.done[:] = ended

    def _observe(self, rows: Any = ALL) -> np.ndarray:
        return np.array(self._shown[rows])

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from ``state``, which ``get_state`` of an equal environment returned."""
        super().set_state(state)
        self._blocks = self.layout.split(self._shown)


class InnerEpisodesEnv(TrialEnv):
    """Base of the trials of ``episodes`` inner episodes, each with states, a start and an end.

    A subclass implements ``_sample_tasks(rng, n)`` and

    - ``_start_episode(rows)``: put the rows at the start of an inner episode;
    - ``_inner_step(actions) -> (rewards, ended, info)``: advance *all* rows; ``ended`` [B] says
      whose inner episode is over, by its end or by a time limit;
    - ``_states(rows) -> [n, S]``: what an agent sees of the rows' states.

    No step goes to waste: the observation after the last step of an inner episode holds the next
    one's first state s, the tuple (a, r, d = 1) of that step, and, in a block of its own, the
    state s' to which it led.

    ``info`` tells ``inner_episode`` (how many are over) at every step, and ``inner_returns`` and
    ``inner_lengths`` ([episodes]) at the trial's end; ``score`` is the return unless a subclass
    says otherwise.

    Args:
        num_envs: number of rows B.
        episodes: inner episodes of a trial.
        **kwargs: of TrialEnv and BatchedEnv.
    """

    _state_names: ClassVar[tuple[str, ...]] = (
        *TrialEnv._state_names, "_episode", "_inner_returns", "_inner_lengths"
    )  # fmt: skip

    def __init__(self, num_envs: int, *, episodes: int, **kwargs: Any) -> None:
        self.episodes = check_positive("episodes", episodes)
        super().__init__(num_envs, final_state=True, **kwargs)
        self._episode = np.zeros(self.num_envs, dtype=np.int64)
        self._inner_returns = np.zeros((self.num_envs, self.episodes))
        self._inner_lengths = np.zeros((self.num_envs, self.episodes), dtype=np.int64)

    # -- what a subclass implements ------------------------------------------------------------

    @abstractmethod
    def _start_episode(self, rows: Any) -> None:
        """Start an inner episode in the given rows (an index array or ``slice(None)``)."""

    @abstractmethod
    def _inner_step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance all rows; return rewards [B], ended [B] (bool) and info arrays [B, ...]."""

    @abstractmethod
    def _states(self, rows: Any = ALL) -> np.ndarray:
        """The states [n, S] of the given rows as agents see them, a fresh array."""

    # -- the trial -----------------------------------------------------------------------------

    def _start(self, rows: Any) -> None:
        self._episode[rows] = 0
        self._inner_returns[rows] = 0.0
        self._inner_lengths[rows] = 0
        self._start_episode(rows)
        self._shown[rows] = 0.0
        self._blocks.state[rows] = self._states(rows)

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        rewards, ended, info = self._inner_step(actions)
        going = self._episode < self.episodes  # a frozen row counts no further
        current = np.minimum(self._episode, self.episodes - 1)
        self._inner_returns[self._every_row, current] += rewards * going
        self._inner_lengths[self._every_row, current] += going
        self._show(actions, rewards, ended)
        states = self._states()
        self._blocks.final[:] = 0.0
        if ended.any():
            self._blocks.final[ended] = states[ended]
            self._episode += ended
            again = np.flatnonzero(ended & (self._episode < self.episodes))
            if len(again):
                self._start_episode(again)
                states[again] = self._states(again)
        self._blocks.state[:] = states
        info["inner_episode"] = np.minimum(self._episode, self.episodes)
        return rewards, self._episode >= self.episodes, info

    def _end_info(self) -> dict[str, np.ndarray]:
        return {
            "score": self._inner_returns.sum(axis=1),
            "inner_returns": self._inner_returns,
            "inner_lengths": self._inner_lengths,
        }


def trial_space(
    state_space: gym.spaces.Box,
    action_space: gym.spaces.Discrete | gym.spaces.Box,
    reward_range: tuple[float, float],
    final_state: bool,
) -> tuple[TrialLayout, gym.spaces.Box]:
    """The layout of ``[s, a, r, d, s']`` and its Box (float32)."""
    low: np.ndarray
    high: np.ndarray
    if isinstance(action_space, gym.spaces.Discrete):
        low, high = np.zeros(int(action_space.n)), np.ones(int(action_space.n))
    else:
        low, high = action_space.low.ravel(), action_space.high.ravel()
    state_low, state_high = state_space.low.ravel(), state_space.high.ravel()
    final = len(state_low) if final_state else 0
    layout = TrialLayout(len(state_low), len(low), final)
    # Blocks that have not been written yet are zero, whatever the bounds of their space.
    parts_low = (state_low, np.minimum(low, 0.0), [min(reward_range[0], 0.0), 0.0])
    parts_high = (state_high, np.maximum(high, 0.0), [max(reward_range[1], 0.0), 1.0])
    return layout, gym.spaces.Box(
        np.concatenate([*parts_low, np.minimum(state_low, 0.0)[:final]]).astype(np.float32),
        np.concatenate([*parts_high, np.maximum(state_high, 0.0)[:final]]).astype(np.float32),
    )


def inner_return_curve(
    done: np.ndarray, rewards: np.ndarray, alive: np.ndarray, parts: int = 10
) -> np.ndarray:
    """How trials get better from their first inner episodes to their last.

    Args:
        done: [T, B], the block d of the observations in which the steps were taken.
        rewards: [T, B].
        alive: [T, B] bool, False behind a trial's end.
        parts: the most entries of the curve.

    Returns:
        The mean return of an inner episode in each of at most ``parts`` equal parts of a trial.
    """
    episode = np.cumsum(done > 0.5, axis=0)
    episodes = int(episode[alive].max()) + 1
    parts = min(parts, episodes)
    part = episode[alive] * parts // episodes
    began = np.zeros_like(alive)  # the steps that are the first of an inner episode
    began[0], began[1:] = alive[0], (done[1:] > 0.5) & alive[1:]
    totals = np.bincount(part, rewards[alive], minlength=parts)
    counts = np.bincount(part, began[alive], minlength=parts)
    return totals / np.maximum(counts, 1.0)
