"""The Agent protocol: whatever acts in our environments, batched.

Hand-designed optimisers, Stable-Baselines3 models and our own networks are all Agents, so the
evaluation and the tables are the same code for everybody.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Agent(Protocol):
    """What ``evaluate`` asks of an agent.

    Optional attributes: ``name`` (a label for tables), ``config`` (a JSON-able dict that goes
    into the Result), ``privileged`` (True for oracles: they receive the task through
    ``observe_task(task, mask)`` and are labelled in every table), and ``bind(env)``, called once
    with the vector environment before the first reset.
    """

    def reset(self, mask: np.ndarray) -> None:
        """Forget the episodes of the rows where ``mask`` (bool, [num_envs]) is True."""
        ...

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        """Actions [num_envs, ...] for observations [num_envs, ...]."""
        ...
