"""BatchedEnv: B independent episodes advanced by one array program.

Everything that is the same for all environments is written here, once: seeding, the task split,
step counts, truncation at the horizon, the three autoreset modes, final observations, action
validation, info masks, checkpoints. An environment adds its dynamics in four private hooks.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from metagym.core.actions import check_actions
from metagym.core.task import SPLITS, Task, check_task, copy_task, write_rows
from metagym.errors import (
    InvalidArgumentError,
    ResetNeededError,
    check_choice,
    check_positive,
    nearest,
)

ALL = slice(None)


class BatchedEnv(VectorEnv, ABC):
    """Base class of every environment: a Gymnasium vector environment whose tasks are data.

    A subclass calls ``super().__init__`` with its single spaces and implements

    - ``_sample_tasks(rng, n) -> task``: n tasks, a dict of arrays with leading axis n;
    - ``_start(rows)``: put the given rows at the start of an episode on ``self._task[...][rows]``;
    - ``_advance(actions) -> (rewards, terminated, info)``: advance *all* rows by one action;
    - ``_observe(rows) -> observations``: a fresh array, never a view of a buffer;

    and lists the attributes that make up its state in ``_state_names``.

    **Actions.** Continuous: wrong shape, non-numeric type or NaN raise ``InvalidActionError`` and
    change nothing; what lies out of bounds, ±infinity included, is clipped to the bounds.
    Discrete: wrong shape, a non-integer type or a value outside the space raise.

    **End of an episode.** ``terminated`` for a limit that defines the task or for divergence,
    ``truncated`` for the horizon, never both. What follows is ``autoreset_mode``'s choice:

    - NEXT_STEP: the next step ignores the row's action, resets it and returns reward 0;
    - SAME_STEP: the row is reset at once; its last observation and info are in
      ``infos["final_obs"]`` (object array) and ``infos["final_info"]``;
    - DISABLED: the row is frozen: until it is reset (``options={"reset_mask": mask}``) it returns
      its last observation, reward 0 and its last flags, and its ``info`` masks are False.

    At the end of an episode ``infos["score"]`` holds what the evaluation reports of it
    (``score_name``, smaller is better where ``score_minimize``).

    **Randomness.** Two streams derive from ``np_random``: tasks, whose seed sequence carries the
    split in its spawn key, and noise, which is drawn for all rows at every step, so that actions
    never shift it. Same seed and same ``num_envs``: the same trajectory, exactly.

    Args:
        num_envs: number of rows B.
        single_observation_space: the space of one row's observation.
        single_action_space: the space of one row's action.
        horizon: steps after which an endless process is truncated; None where the dynamics end
            every episode themselves.
        split: which tasks are drawn, ``"train"``, ``"validation"`` or ``"test"``.
        autoreset_mode: a ``gymnasium.vector.AutoresetMode`` or its value, e.g. ``"SameStep"``.
        render_mode: ``None`` or ``"rgb_array"``.

    Raises:
        InvalidArgumentError: an argument has an impossible value.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    score_name: ClassVar[str] = "return"
    score_minimize: ClassVar[bool] = False
    _state_names: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        num_envs: int,
        *,
        single_observation_space: gym.Space,
        single_action_space: gym.Space,
        horizon: int | None,
        split: str = "train",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        self.num_envs = check_positive("num_envs", num_envs)
        self.horizon = None if horizon is None else check_positive("horizon", horizon)
        self.split = check_choice("split", split, SPLITS)
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        if render_mode is not None:
            check_choice("render_mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}

        self.single_observation_space = single_observation_space
        self.single_action_space = single_action_space
        self.observation_space = batch_space(single_observation_space, self.num_envs)
        self.action_space = batch_space(single_action_space, self.num_envs)

        self._task: Task = {}
        self._task_rng: np.random.Generator | None = None
        self._noise_rng: np.random.Generator | None = None
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)
        # Rows whose episode is over and which wait for a reset, with their last flags.
        self._terminated = np.zeros(self.num_envs, dtype=bool)
        self._truncated = np.zeros(self.num_envs, dtype=bool)
        self._any_done = False
        self._last_observations: np.ndarray | None = None

    # -- what a subclass implements ------------------------------------------------------------

    @abstractmethod
    def _sample_tasks(self, rng: np.random.Generator, n: int) -> Task:
        """n tasks of ``self.split``."""

    @abstractmethod
    def _start(self, rows: Any) -> None:
        """Start an episode in the given rows (an index array or ``slice(None)``)."""

    @abstractmethod
    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance all rows; return rewards [B], terminated [B] and info arrays [B, ...]."""

    @abstractmethod
    def _observe(self, rows: Any = ALL) -> np.ndarray:
        """A fresh array with the observations of the given rows."""

    def _start_info(self) -> dict[str, np.ndarray]:
        """What ``info`` says at a reset besides the task: arrays [B, ...] of all rows."""
        return {}

    def _end_info(self) -> dict[str, np.ndarray]:
        """What ``info`` says at an episode's end, ``"score"`` above all: arrays [B] of all rows."""
        return {}

    def _check_task_values(self, task: Task) -> None:
        """Raise InvalidArgumentError for a given task whose values cannot be."""

    def _render_row(self, row: int) -> np.ndarray:
        """The frame [height, width, 3] (uint8) of one row."""
        raise InvalidArgumentError(f"{type(self).__name__} has no rendering.")

    # -- Gymnasium's interface -----------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start new episodes.

        Args:
            seed: restarts both random streams; without it they continue.
            options: ``"reset_mask"`` (bool [B]) resets only these rows; ``"task"`` (arrays
                [B, ...], as ``info["task"]``) sets the tasks instead of drawing them.

        Returns:
            Observations of all rows, and info with the tasks of the rows that were reset.
        """
        rows, mask = self._rows_to_reset(options or {})
        if seed is not None and not _is_whole(seed):
            raise InvalidArgumentError(f"seed={seed!r} has to be one whole number or None.")
        super().reset(seed=None if seed is None else int(seed))
        if seed is not None or self._task_rng is None:
            self.seed_streams()
        self._reset_rows(rows, (options or {}).get("task"))
        observations = self._observe()
        if self._any_done and self._last_observations is not None:
            frozen = self._terminated | self._truncated
            observations[frozen] = self._last_observations[frozen]
        return observations, self._reset_info({}, rows, mask)

    def step(
        self, actions: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every row by one action; see the class for the rules of actions and resets."""
        actions = self._check_actions(actions)
        if not self._task:
            raise ResetNeededError("Call reset() before the first step().")
        if self._any_done:
            return self._step_with_waiting_rows(actions)

        rewards, terminated, truncated, infos = self._advance_and_count(actions)
        observations = self._observe()
        if self._any_done:
            if self.autoreset_mode is AutoresetMode.SAME_STEP:
                infos = self._reset_same_step(observations, infos)
            elif self.autoreset_mode is AutoresetMode.DISABLED:
                self._last_observations = observations.copy()
        return observations, rewards, terminated, truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One frame [height, width, 3] (uint8) per row, or None without a render mode."""
        if self.render_mode is None:
            gym.logger.warn(
                "render() without a render mode; pass render_mode='rgb_array' to gym.make."
            )
            return None
        if not self._task:
            raise ResetNeededError("Call reset() before the first render().")
        return tuple(self._render_row(row) for row in range(self.num_envs))

    # -- checkpoints ---------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """A copy of everything that the next step depends on, random streams included.

        It is a tree of dicts, lists, numbers and arrays, so that a checkpoint can hold it.
        """
        names = ("_task", "_elapsed", "_terminated", "_truncated", "_any_done")
        state: dict[str, Any] = {}
        for name in names + self._state_names:
            value = getattr(self, name)
            own = hasattr(value, "get_state")
            state[name] = value.get_state() if own else copy.deepcopy(value)
        state["_last_observations"] = copy.deepcopy(self._last_observations)
        for name in ("_task_rng", "_noise_rng"):
            rng = getattr(self, name)
            state[name] = None if rng is None else copy.deepcopy(rng.bit_generator.state)
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from ``state``, which ``get_state`` of an equal environment returned."""
        if set(state) != set(self.get_state()):
            raise InvalidArgumentError(
                f"The state holds {sorted(state)}; it is not of a {type(self).__name__}."
            )
        if len(state["_elapsed"]) != self.num_envs:
            raise InvalidArgumentError(
                f"The state is of {len(state['_elapsed'])} environments, this batch has "
                f"{self.num_envs}; make it with the same num_envs."
            )
        for name, value in state.items():
            if name in ("_task_rng", "_noise_rng"):
                rng = None
                if value is not None:
                    rng = np.random.default_rng()
                    rng.bit_generator.state = copy.deepcopy(value)
                setattr(self, name, rng)
            elif hasattr(getattr(self, name), "set_state"):
                getattr(self, name).set_state(value)
            else:
                setattr(self, name, copy.deepcopy(value))

    # -- seeding -------------------------------------------------------------------------------

    def seed_streams(self) -> None:
        """Derive the streams of tasks and noise from ``np_random``; the split is in the key."""
        entropy = [int(word) for word in self.np_random.integers(0, 2**63, size=2)]
        key = SPLITS.index(self.split)
        tasks, noise = (np.random.SeedSequence(entropy, spawn_key=(key, i)) for i in range(2))
        self._task_rng = np.random.default_rng(tasks)
        self._noise_rng = np.random.default_rng(noise)

    # -- the inside of a step ------------------------------------------------------------------

    def _advance_and_count(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of all rows; returns copies of the flags that it also keeps."""
        rewards, terminated, infos = self._advance(actions)
        self._elapsed += 1
        if self.horizon is None:
            truncated = np.zeros(self.num_envs, dtype=bool)
        else:
            truncated = self._elapsed >= self.horizon
            if truncated.any():
                truncated &= ~terminated
        self._any_done = bool(terminated.any() or truncated.any())
        self._terminated, self._truncated = terminated.copy(), truncated
        for name in list(infos):
            infos["_" + name] = np.ones(self.num_envs, dtype=bool)
        if self._any_done:
            for name, values in self._end_info().items():
                infos[name], infos["_" + name] = values.copy(), terminated | truncated
        return rewards, terminated.copy(), truncated.copy(), infos

    def _step_with_waiting_rows(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """The step in NEXT_STEP or DISABLED mode while some rows' episodes are over."""
        waiting = self._terminated | self._truncated
        was_terminated, was_truncated = self._terminated, self._truncated
        actions[waiting] = 0
        rewards, terminated, truncated, infos = self._advance_and_count(actions)
        rewards[waiting] = 0.0
        for name in infos:
            if name[0] == "_":
                infos[name][waiting] = False

        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            terminated[waiting] = truncated[waiting] = False
            self._set_flags(terminated, truncated)
            rows = np.flatnonzero(waiting)
            self._reset_rows(rows)
            return (
                self._observe(), rewards, terminated, truncated,
                self._reset_info(infos, rows, waiting),
            )  # fmt: skip

        terminated[waiting] = was_terminated[waiting]
        truncated[waiting] = was_truncated[waiting]
        self._set_flags(terminated, truncated)
        observations = self._observe()
        if self._last_observations is not None:
            observations[waiting] = self._last_observations[waiting]
        self._last_observations = observations.copy()
        return observations, rewards, terminated, truncated, infos

    def _reset_same_step(self, observations: np.ndarray, infos: dict[str, Any]) -> dict[str, Any]:
        """Reset the rows that just ended; overwrite their observations, keep the final ones."""
        done = self._terminated | self._truncated
        rows = np.flatnonzero(done)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for row, last in zip(rows, observations[rows], strict=True):
            final_obs[row] = last
        final_info: dict[str, Any] = {}
        for name, value in infos.items():
            if name[0] != "_":
                final_info[name] = np.zeros_like(value)
                final_info[name][rows] = value[rows]
                final_info["_" + name] = done.copy()
                infos["_" + name] &= ~done
        infos.update(
            final_obs=final_obs, _final_obs=done.copy(),
            final_info=final_info, _final_info=done.copy(),
        )  # fmt: skip
        self._reset_rows(rows)
        observations[rows] = self._observe(rows)
        return self._reset_info(infos, rows, done)

    def _reset_rows(self, rows: Any, given_task: Any = None) -> None:
        """New tasks and a new start for ``rows``."""
        assert self._task_rng is not None
        if given_task is not None:
            like = self._task or self._sample_tasks(np.random.default_rng(0), 1)
            given = check_task(given_task, like, self.num_envs)
            self._check_task_values(given)
            new = copy_task(given, rows)
        else:
            new = self._sample_tasks(self._task_rng, self._count(rows))
        if isinstance(rows, slice):
            self._task = new
            self._elapsed[:] = 0
            nowhere = np.zeros(self.num_envs, dtype=bool)
            self._set_flags(nowhere, nowhere)
        else:
            write_rows(self._task, rows, new)
            self._elapsed[rows] = 0
            self._terminated[rows] = self._truncated[rows] = False
            self._any_done = bool(self._terminated.any() or self._truncated.any())
        self._start(rows)

    def _reset_info(self, infos: dict[str, Any], rows: Any, mask: np.ndarray) -> dict[str, Any]:
        """Add to ``infos`` what is told at a reset: the start's values and, once, the task."""
        for name, values in self._start_info().items():
            if name in infos:
                infos[name][rows] = values[rows]
                infos["_" + name][rows] = True
            else:
                infos[name], infos["_" + name] = values.copy(), mask.copy()
        task: dict[str, Any] = {}
        for name, values in self._task.items():
            task[name], task["_" + name] = values.copy(), mask.copy()
        infos["task"], infos["_task"] = task, mask.copy()
        return infos

    def _set_flags(self, terminated: np.ndarray, truncated: np.ndarray) -> None:
        self._terminated, self._truncated = terminated.copy(), truncated.copy()
        self._any_done = bool(terminated.any() or truncated.any())

    def _count(self, rows: Any) -> int:
        return self.num_envs if isinstance(rows, slice) else len(rows)

    def _rows_to_reset(self, options: dict[str, Any]) -> tuple[Any, np.ndarray]:
        """The rows that a call of ``reset`` is about, as an index and as a mask."""
        for name in options:
            if name not in ("reset_mask", "task"):
                raise InvalidArgumentError(
                    f"reset() has no option {name!r}.{nearest(str(name), ('reset_mask', 'task'))}"
                    " Its options: 'reset_mask', 'task'."
                )
        mask = options.get("reset_mask")
        if mask is None:
            return ALL, np.ones(self.num_envs, dtype=bool)
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            raise InvalidArgumentError(
                f"options['reset_mask'] has to be a bool array of shape ({self.num_envs},) with at "
                f"least one True; got dtype {mask.dtype}, shape {mask.shape}."
            )
        if mask.all():
            return ALL, mask.copy()
        if not self._task:
            raise ResetNeededError("The first reset() resets every row: leave reset_mask out.")
        return np.flatnonzero(mask), mask.copy()

    def _check_actions(self, actions: Any) -> np.ndarray:
        return check_actions(actions, self.action_space, self.single_action_space)


def _is_whole(seed: Any) -> bool:
    return isinstance(seed, (int, np.integer)) and not isinstance(seed, bool) and int(seed) >= 0


def _autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    choices = {choice.value: choice for choice in AutoresetMode}
    choices |= {choice.name: choice for choice in AutoresetMode}
    return choices[check_choice("autoreset_mode", mode, choices)]
