"""What becomes of the actions that an agent hands in, for every environment.

Continuous: wrong shape, non-numeric type or NaN raise; what lies out of bounds, ±infinity
included, is clipped to the bounds. Discrete: wrong shape, a non-integer type or a value outside
the space raise.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from metagym.errors import InvalidActionError


def check_actions(actions: Any, space: gym.Space, single_space: gym.Space) -> np.ndarray:
    """The actions as a fresh array inside ``space``.

    Args:
        actions: of all rows.
        space: the batched action space, a Box or a MultiDiscrete.
        single_space: of one row, for the messages.

    Raises:
        InvalidActionError: see the top of this file.
    """
    assert space.shape is not None and space.dtype is not None
    try:
        given = np.asarray(actions)
    except ValueError as error:
        raise InvalidActionError(f"The actions are not one array: {error}.") from None
    if given.shape != space.shape:
        raise InvalidActionError(
            f"The actions have shape {given.shape}; this environment takes {space.shape}"
            f" ({space.shape[0]} × {single_space})."
        )
    if given.dtype.kind not in "fiub":
        raise InvalidActionError(f"The actions have dtype {given.dtype}; numbers are needed.")
    # The batch of a MultiDiscrete is a Box of integers: it follows the discrete rule.
    if isinstance(space, gym.spaces.Box) and space.dtype.kind == "f":
        if np.isnan(given).any():
            rows = np.flatnonzero(np.isnan(given).reshape(len(given), -1).any(axis=1))
            raise InvalidActionError(f"The actions of rows {rows[:8].tolist()} contain NaN.")
        with np.errstate(over="ignore"):  # 1e300 is beyond float32 and is clipped as well
            clipped = np.maximum(given, space.low, dtype=space.dtype, casting="same_kind")
        return np.minimum(clipped, space.high, out=clipped)
    if given.dtype.kind not in "iu":
        raise InvalidActionError(
            f"The actions have dtype {given.dtype}; {single_space} takes integers."
        )
    if not space.contains(given.astype(space.dtype)):
        raise InvalidActionError(
            f"The actions contain a value outside {single_space}: "
            f"minimum {given.min()}, maximum {given.max()}."
        )
    return given.astype(space.dtype)
