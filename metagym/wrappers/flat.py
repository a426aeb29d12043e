"""Any environment's observations and actions as flat float32 blocks, and what cannot be one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from metagym.errors import InvalidArgumentError

ACTIONS = (gym.spaces.Discrete, gym.spaces.MultiDiscrete, gym.spaces.MultiBinary, gym.spaces.Box)


def made(make_env: Callable[[], gym.Env], num_envs: int) -> tuple[gym.Env, ...]:
    envs = tuple(make_env() for _ in range(num_envs))
    for env in envs:
        if not isinstance(env, gym.Env):
            raise InvalidArgumentError(
                f"make_env made a {type(env).__name__}; it has to make one Gymnasium environment, "
                "e.g. lambda: gym.make('CartPole-v1')."
            )
    if len({id(env.unwrapped) for env in envs}) < num_envs:
        raise InvalidArgumentError(
            "make_env gave the same environment twice; it has to make a new one at every call."
        )
    return envs


def checked_spaces(envs: Sequence[gym.Env]) -> tuple[gym.Space, gym.Space]:
    states, actions = envs[0].observation_space, envs[0].action_space
    for env in envs:
        if env.observation_space != states or env.action_space != actions:
            raise InvalidArgumentError(
                f"make_env made environments with different spaces: {states}, {actions} and "
                f"{env.observation_space}, {env.action_space}. The rows of a batch share theirs."
            )
    if not isinstance(actions, ACTIONS):
        raise InvalidArgumentError(
            f"The actions are {actions}; a trial takes "
            f"{', '.join(kind.__name__ for kind in ACTIONS)}."
        )
    try:
        gym.spaces.flatdim(states)
    except (NotImplementedError, ValueError) as error:
        raise InvalidArgumentError(
            f"The observations are {states}, which no flat array can hold ({error}). Put a "
            "gymnasium.wrappers.TransformObservation around the environment first."
        ) from None
    return states, actions


def checked_range(reward_range: Any) -> tuple[float, float]:
    try:
        low, high = map(float, reward_range)
    except (TypeError, ValueError):
        low, high = np.nan, np.nan
    if not low <= high:
        raise InvalidArgumentError(
            f"reward_range={reward_range!r} has to be two numbers, the lowest and the highest "
            "reward that is shown."
        )
    return low, high


def flat_box(space: gym.Space) -> gym.spaces.Box:
    """The space's flat Box, float32."""
    flat: Any = gym.spaces.flatten_space(space)
    with np.errstate(over="ignore"):  # the largest float64 is infinite here
        low, high = flat.low.astype(np.float32), flat.high.astype(np.float32)
    return gym.spaces.Box(low, high, dtype=np.float32)


def flat_actions(actions: np.ndarray, space: gym.Space) -> np.ndarray:
    """Actions [B, ...] as the rows of a matrix [B, A], one-hot where they are choices."""
    chosen = actions.reshape(len(actions), -1)
    if isinstance(space, gym.spaces.Discrete):
        sizes, starts = np.array([space.n]), np.array([space.start])
    elif isinstance(space, gym.spaces.MultiDiscrete):
        sizes, starts = space.nvec.ravel(), space.start.ravel()
    else:
        return chosen
    flat = np.zeros((len(actions), sizes.sum()), np.float32)
    # Clipped for the rows that wait: their action is 0, whatever the space.
    places = np.clip(chosen - starts, 0, sizes - 1) + np.cumsum(sizes) - sizes
    np.put_along_axis(flat, places, 1.0, axis=1)
    return flat
