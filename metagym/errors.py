"""The typed errors of metagym. Each message names the value, the choices and the fix."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any


class MetagymError(Exception):
    """Base of every error that metagym raises on purpose; the command line prints one line."""


class InvalidArgumentError(MetagymError, ValueError):
    """An argument has a value that cannot work."""


class InvalidActionError(MetagymError, ValueError):
    """An action has the wrong shape or type, is not a number, or lies outside a discrete space."""


class ResetNeededError(MetagymError, RuntimeError):
    """The environment was stepped before its first reset."""


class DataError(MetagymError, OSError):
    """A data file is missing, truncated, or not what its name says."""


class CheckpointError(MetagymError, OSError):
    """A checkpoint is missing, corrupt, or belongs to another agent or environment."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` for the choice closest to ``name``, or an empty string."""
    close = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def check_choice(argument: str, value: Any, choices: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``choices``, else raise an error that lists them."""
    choices = list(choices)
    if value in choices:
        return str(value)
    raise InvalidArgumentError(
        f"{argument}={value!r} is not one of {', '.join(map(repr, choices))}."
        + nearest(str(value), choices)
    )


def check_positive(argument: str, value: Any) -> int:
    """Return ``value`` as an int if it is a whole number of at least 1, else raise."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < 1:
        raise InvalidArgumentError(f"{argument}={value!r} has to be a whole number of at least 1.")
    return int(value)


def check_bool(argument: str, value: Any) -> bool:
    """Return ``value`` if it is True or False, else raise: a string such as "no" would be true."""
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"{argument}={value!r} has to be True or False.")
    return value


def check_above_zero(argument: str, value: Any) -> float:
    """Return ``value`` as a float if it is a finite number above 0, else raise."""
    try:
        number = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0.0 < number < float("inf"):
        raise InvalidArgumentError(f"{argument}={value!r} has to be a positive number.")
    return number


def check_not_negative(argument: str, value: Any) -> float:
    """Return ``value`` as a float if it is a finite number of at least 0, else raise."""
    try:
        number = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0.0 <= number < float("inf"):
        raise InvalidArgumentError(f"{argument}={value!r} has to be a number of at least 0.")
    return number


def check_kwargs(argument: str, value: Any) -> dict[str, Any]:
    """Return ``value`` as a dict if it holds keyword arguments or is None, else raise."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidArgumentError(
            f"{argument}={value!r} has to be a dict of arguments by name, such as {{'epochs': 5}}."
        )
    return dict(value)


def reject_unknown_kwargs(owner: type, unknown: dict[str, Any]) -> None:
    """Raise for keyword arguments that ``owner`` does not have, naming the nearest right one."""
    if not unknown:
        return
    parameters = inspect.signature(owner).parameters.values()
    known = sorted(p.name for p in parameters if p.kind is not p.VAR_KEYWORD)
    name = next(iter(unknown))
    raise InvalidArgumentError(
        f"{owner.__name__} has no argument {name!r}.{nearest(name, known)}"
        f" Its arguments: {', '.join(known)}."
    )
