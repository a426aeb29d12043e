"""SingleEnv: the B=1 view of a BatchedEnv, which is what ``gym.make`` returns.

There is no second hand-written path: a single environment is a batch of one with the batch axis
taken off, so whatever holds for the batch holds here.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from metagym.core.batch import BatchedEnv
from metagym.errors import InvalidActionError, InvalidArgumentError


class SingleEnv(gym.Env):
    """One episode at a time of the dynamics in ``batched``.

    A subclass names the batched class and nothing else:

        class LearnToOptimizeEnv(SingleEnv):
            batched = LearnToOptimizeVectorEnv

    Args:
        render_mode: ``None`` or ``"rgb_array"``.
        **kwargs: arguments of the batched class, but for ``num_envs`` and ``autoreset_mode``.
    """

    batched: ClassVar[type[BatchedEnv]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__doc__ = cls.batched.__doc__
        cls.metadata = cls.batched.metadata

    def __init__(self, render_mode: str | None = None, **kwargs: Any) -> None:
        for name in ("num_envs", "autoreset_mode"):
            if name in kwargs:
                raise InvalidArgumentError(
                    f"{name} is of a batch: gym.make gives one environment that never resets "
                    f"itself. Use gym.make_vec(id, {name}={kwargs[name]!r})."
                )
        self._batch = self.batched(
            num_envs=1, autoreset_mode=AutoresetMode.DISABLED, render_mode=render_mode, **kwargs
        )
        self.render_mode = render_mode
        self.metadata = {k: v for k, v in self._batch.metadata.items() if k != "autoreset_mode"}
        self.observation_space = self._batch.single_observation_space
        self.action_space = self._batch.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; ``options={"task": info["task"]}`` repeats a task of one row."""
        super().reset(seed=seed)
        # One stream of random numbers, owned by this environment and used by the batch of one.
        self._batch._np_random = self.np_random
        if seed is not None:
            self._batch.seed_streams()
        if options is not None and "task" in options:
            task = options["task"]
            batched = (
                {name: np.asarray(value)[None] for name, value in task.items()}
                if hasattr(task, "items")
                else task
            )
            options = {**options, "task": batched}
        observations, infos = self._batch.reset(options=options)
        return observations[0], _unbatch(infos)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advance by one action; after the end of an episode it repeats the last observation."""
        try:
            actions = np.asarray(action)[None]
        except ValueError as error:
            raise InvalidActionError(f"The action is not one array: {error}.") from None
        observations, rewards, terminated, truncated, infos = self._batch.step(actions)
        return (
            observations[0],
            float(rewards[0]),
            bool(terminated[0]),
            bool(truncated[0]),
            _unbatch(infos),
        )

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """The frame [height, width, 3] (uint8), or None without a render mode."""
        frames = self._batch.render()
        return None if frames is None else frames[0]

    def close(self) -> None:
        """Release what rendering holds."""
        self._batch.close()

    def get_state(self) -> dict[str, Any]:
        """The whole state of the running episode, random streams included; see BatchedEnv."""
        return self._batch.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from ``state``, which ``get_state`` of an equal environment returned."""
        self._batch.set_state(state)

    def __getattr__(self, name: str) -> Any:
        # What describes the dynamics (problem, horizon, action_scale, ...) is the batch's.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._batch, name)


def _unbatch(infos: dict[str, Any]) -> dict[str, Any]:
    """The info of row 0: masked-out keys are left out, numpy scalars become Python's."""
    info: dict[str, Any] = {}
    for key, value in infos.items():
        if key[0] == "_":
            continue
        if isinstance(value, dict):
            info[key] = _unbatch(value)
            continue
        mask = infos.get("_" + key)
        if mask is not None and not mask[0]:
            continue
        item = value[0]
        info[key] = item.item() if isinstance(item, np.generic) else item
    return info
