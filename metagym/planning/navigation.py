"""The best walk of ``MetaNavigation2D-v0`` with the goal known, in closed form."""

from __future__ import annotations

import numpy as np

from metagym.core.task import Task


def straight_return(
    task: Task, n: int, inner_horizon: int, action_scale: float, tolerance: float
) -> np.ndarray:
    """The highest return of a trial of ``n`` inner episodes, [B]: the ceiling.

    The coordinates move apart from each other and the reward is a sum over them, so that no walk
    is nearer to the goal after t steps than the one on which each coordinate has come t velocities
    nearer, or arrived. It is paid until it is within the tolerance, which no walk is earlier.
    """
    away = np.abs(task["goal"])
    total = np.zeros(len(away))
    walking = np.ones(len(away), dtype=bool)
    for _ in range(inner_horizon):
        away = np.maximum(away - action_scale, 0.0)
        squared = np.square(away).sum(axis=1)
        total -= squared * walking
        walking &= squared > tolerance**2
        if not walking.any():
            break
    return n * total
