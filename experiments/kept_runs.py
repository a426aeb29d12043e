"""Runs that lie in an experiment's ``--out``: what was made with other settings is not taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metagym.errors import InvalidArgumentError


def refuse_other(
    out: Path, asked: Mapping[str, Any], saved: Mapping[str, Any], free: Sequence[str] = ()
) -> None:
    """Refuse to go on from what was trained with other settings.

    Args:
        out: where it lies.
        asked, saved: settings by name, as JSON.
        free: names that may differ.

    Raises:
        InvalidArgumentError: another name differs, or is missing in ``saved``.
    """
    other = [name for name in asked if asked[name] != saved.get(name) and name not in free]
    if other:
        raise InvalidArgumentError(
            f"{out} holds a run with other settings ({', '.join(other)}); choose another --out or "
            "remove it."
        )
