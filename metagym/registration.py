"""The one table of environment ids.

Each row is an id, its single class, its keyword arguments and the line that ``metagym envs``
prints. Entry points are strings: an environment's module loads when it is made.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym


class Registration(NamedTuple):
    """One id: ``entry_point`` names the single environment; its batched twin has Vector in it."""

    id: str
    entry_point: str
    summary: str
    kwargs: dict[str, Any] = {}


_LTO = "metagym.envs.learn_to_optimize:LearnToOptimizeEnv"

ENVIRONMENTS: tuple[Registration, ...] = (
    Registration("LearnToOptimize-v0", _LTO, "be the optimiser of random quadratics"),
)


def register_environments() -> None:
    """Register every id of the table with Gymnasium; a second call changes nothing."""
    for row in ENVIRONMENTS:
        if row.id not in gym.registry:
            gym.register(
                row.id,
                entry_point=row.entry_point,
                vector_entry_point=row.entry_point.removesuffix("Env") + "VectorEnv",
                kwargs=dict(row.kwargs),
            )
