"""SB3VecEnv: a Gymnasium vector environment as a Stable-Baselines3 ``VecEnv``.

SB3 has a vector interface of its own, older than Gymnasium's, and takes lists of single
environments only. This adapter hands it a native batch as it is: no Python loop over the rows
except over those whose episode has just ended.

    env = gym.make_vec("LearnToOptimize-v0", num_envs=1024, autoreset_mode="SameStep")
    model = PPO("MlpPolicy", SB3VecEnv(env))
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from metagym.errors import InvalidArgumentError


class SB3VecEnv(VecEnv):
    """``env`` (B rows, autoreset SAME_STEP) behind the interface of SB3.

    **Rows.** The info of a row whose episode ended holds ``terminal_observation``,
    ``TimeLimit.truncated`` (truncated and not terminated, so that SB3 adds the value of the last
    observation), ``episode`` with its return ``r``, length ``l`` and seconds ``t`` as SB3's
    ``Monitor`` writes it, and every scalar of ``final_info``, such as ``score``. All other rows
    have an empty info, the same dict at every step: read it, do not write into it.

    **Seeds.** ``seed(s)`` takes effect at the next ``reset()``, as everywhere in SB3. The batch is
    seeded with ``s`` itself; it has one stream for all rows.

    **Masks.** Where the environment's info holds an ``action_mask``, ``action_masks()`` and
    ``env_method("action_masks")`` give it as bool, which is what sb3-contrib's MaskablePPO asks.

    **Attributes and methods** belong to the batch: ``get_attr`` repeats its value for each row,
    ``set_attr`` sets it for all rows, ``env_method`` calls once and splits a result that has one
    entry per row. Gymnasium's SyncVectorEnv and AsyncVectorEnv are asked row by row.

    Args:
        env: the vector environment, made with ``autoreset_mode="SameStep"``.

    Raises:
        InvalidArgumentError: ``env`` is no vector environment, or its autoreset mode is another.
    """

    def __init__(self, env: VectorEnv) -> None:
        if not isinstance(env, VectorEnv):
            raise InvalidArgumentError(
                f"env is a {type(env).__name__}; SB3VecEnv takes a Gymnasium VectorEnv, e.g. "
                "gym.make_vec('LearnToOptimize-v0', num_envs=8, autoreset_mode='SameStep')."
            )
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise InvalidArgumentError(
                f"The environment has autoreset_mode={getattr(mode, 'value', mode)!r}; SB3 needs "
                "rows that are reset in the step that ends them. Make it with "
                "gym.make_vec(id, num_envs=..., autoreset_mode='SameStep')."
            )
        self.env = env
        self._actions: Any = None
        self._action_masks: Any = None
        self._no_news: list[dict[str, Any]] = [{} for _ in range(env.num_envs)]
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)
        self._batch_options: dict[str, Any] | None = None
        self._started = time.time()
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    # -- running ---------------------------------------------------------------------------------

    def reset(self) -> Any:
        """Start new episodes in all rows; return their observations [B, ...]."""
        observations, infos = self.env.reset(seed=self._seeds[0], options=self._batch_options)
        self._reset_seeds()
        self._reset_options()
        self._batch_options = None
        self._returns[:] = 0.0
        self._lengths[:] = 0
        self._action_masks = infos.get("action_mask")
        self.reset_infos = [_row_info(infos, row) for row in range(self.num_envs)]
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions [B, ...] for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Observations, rewards [B] (float32), dones [B] and one info per row."""
        observations, rewards, terminated, truncated, infos = self.env.step(self._actions)
        self._action_masks = infos.get("action_mask")
        self._returns += rewards
        self._lengths += 1
        dones = terminated | truncated
        row_infos = self._no_news.copy()
        if dones.any():
            rows = np.flatnonzero(dones)
            cut = truncated & ~terminated
            for row, info in zip(rows, self._end_infos(rows, infos), strict=True):
                info["TimeLimit.truncated"] = bool(cut[row])
                row_infos[row] = info
            self._returns[rows] = 0.0
            self._lengths[rows] = 0
        return observations, rewards.astype(np.float32), dones, row_infos

    def _end_infos(self, rows: np.ndarray, infos: dict[str, Any]) -> list[dict[str, Any]]:
        """The infos of the rows that ended: scalars of ``final_info``, then SB3's own keys."""
        final_obs, final_info = infos["final_obs"], infos.get("final_info", {})
        seconds = round(time.time() - self._started, 6)
        scalars = {
            name: (values[rows].tolist(), final_info["_" + name][rows].tolist())
            for name, values in final_info.items()
            if name[0] != "_" and isinstance(values, np.ndarray) and values.ndim == 1
        }
        ends = []
        for i, row in enumerate(rows):
            end = {name: values[i] for name, (values, there) in scalars.items() if there[i]}
            end["terminal_observation"] = final_obs[row]
            end["episode"] = {
                "r": round(float(self._returns[row]), 6),
                "l": int(self._lengths[row]),
                "t": seconds,
            }
            ends.append(end)
        return ends

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One frame [height, width, 3] (uint8) per row, or Nones without a render mode."""
        frames: Any = self.env.render()
        return [None] * self.num_envs if frames is None else list(frames)

    # -- seeds, options and masks ----------------------------------------------------------------

    def set_options(self, options: Any = None) -> None:
        """Options of the next ``reset()``: one dict for the batch, e.g. ``{"task": arrays}``."""
        if options is not None and not isinstance(options, dict):
            raise InvalidArgumentError(
                f"options is a {type(options).__name__}; a batch takes one dict for all rows, "
                "with arrays of leading axis num_envs."
            )
        self._batch_options = options

    def action_masks(self) -> np.ndarray:
        """Which actions are legal now, bool [B, ...]; AttributeError where there are no masks."""
        if self._action_masks is None:
            raise AttributeError(
                f"{self.env} gives no info['action_mask'] (it comes with reset())."
            )
        return np.array(self._action_masks, dtype=bool)

    # -- attributes and methods of the environment -----------------------------------------------

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute, once per row of ``indices`` (None: all rows)."""
        rows = list(self._get_indices(indices))
        if attr_name == "action_masks":
            masks = self.action_masks()
            return [masks[row] for row in rows]
        if self._has_rows:
            values = self._vector.get_attr(attr_name)
            return [values[row] for row in rows]
        return [getattr(self._owner_of(attr_name), attr_name)] * len(rows)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set the attribute for all rows; one row of a batch cannot differ from the others."""
        if indices is not None and len(set(self._get_indices(indices))) < self.num_envs:
            raise InvalidArgumentError(
                f"set_attr({attr_name!r}, indices={indices!r}): the rows share their attributes; "
                "leave indices out to set it for all of them."
            )
        if self._has_rows:
            self._vector.set_attr(attr_name, value)
        else:
            setattr(self._vector, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call the batch's method once; an entry of its result, or all of it, for each row."""
        rows = list(self._get_indices(indices))
        if method_name == "action_masks":
            masks = self.action_masks()
            return [masks[row] for row in rows]
        if self._has_rows:
            result: Any = self._vector.call(method_name, *method_args, **method_kwargs)
            return [result[row] for row in rows]
        result = getattr(self._owner_of(method_name), method_name)(*method_args, **method_kwargs)
        if isinstance(result, (tuple, list, np.ndarray)) and len(result) == self.num_envs:
            return [result[row] for row in rows]
        return [result] * len(rows)

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Any = None) -> list[bool]:
        """True for ``Monitor``, whose work is done here; a batch has no other row wrappers."""
        return [wrapper_class is Monitor] * len(list(self._get_indices(indices)))

    @property
    def _vector(self) -> Any:
        return self.env.unwrapped

    @property
    def _has_rows(self) -> bool:
        """Whether the environment consists of single ones (Sync- and AsyncVectorEnv)."""
        return hasattr(self._vector, "get_attr")

    def _owner_of(self, name: str) -> Any:
        """The outermost wrapper that has the attribute, or the environment inside."""
        env: Any = self.env
        while isinstance(env, VectorWrapper) and not hasattr(env, name):
            env = env.env
        return env


def _row_info(infos: dict[str, Any], row: int) -> dict[str, Any]:
    """What ``infos`` says of one row, nested dicts included."""
    info: dict[str, Any] = {}
    for name, value in infos.items():
        mask = infos.get("_" + name)
        if name[0] == "_" or (mask is not None and not mask[row]):
            continue
        info[name] = _row_info(value, row) if isinstance(value, dict) else value[row]
    return info
