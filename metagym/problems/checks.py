"""Argument checks that several problem families share."""

from __future__ import annotations

from typing import Any

import numpy as np

from metagym.errors import InvalidArgumentError, check_positive


def check_scale(argument: str, value: Any, *, zero: bool = False) -> float:
    """Return ``value`` as a float if it is finite and positive, or 0 where ``zero``; else raise."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not (0.0 < value < np.inf or (zero and value == 0.0)):
        raise InvalidArgumentError(
            f"{argument}={value!r} has to be a finite number "
            + ("of at least 0." if zero else "above 0.")
        )
    return float(value)


def check_dim(family: str, dim: Any, least: int) -> int:
    """Return ``dim`` if it is a whole number of at least ``least``, else raise."""
    if check_positive("dim", dim) < least:
        raise InvalidArgumentError(f"dim={dim!r}: {family} needs at least {least} dimensions.")
    return int(dim)
