"""What a checkpoint of ours becomes in an environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from metagym.agents.optimizers import RuleAgent
from metagym.checkpoint import Checkpoint, load_checkpoint
from metagym.core import Agent
from metagym.errors import CheckpointError
from metagym.optim.learned import actor_of, rule_of
from metagym.optim.policy import num_outputs
from metagym.wrappers.symlog import symlog


class PolicyAgent:
    """A trained policy that acts as its environment does, on symlog observations.

    Deterministic: its mean actions, or the likeliest of discrete ones.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.name = checkpoint.config["agent"]
        self.config: dict[str, Any] = {"checkpoint": checkpoint.folder.name}
        self._actor = actor_of(checkpoint)
        # Only a Gaussian has a spread.
        self._acts_in = gym.spaces.Box if "log_std" in checkpoint.weights else gym.spaces.Discrete

    def bind(self, env: VectorEnv) -> None:
        """Check that the policy fits.

        Raises:
            CheckpointError: it was trained on observations or actions of another shape.
        """
        shape = env.single_observation_space.shape
        if shape != (self._actor.num_inputs,):
            raise CheckpointError(
                f"The policy takes observations of shape ({self._actor.num_inputs},), the "
                f"environment gives {shape}; make it with the arguments of training."
            )
        actions = env.single_action_space
        outputs = self._actor.num_outputs
        if not isinstance(actions, self._acts_in) or num_outputs(actions) != outputs:
            raise CheckpointError(
                f"The policy acts in a {self._acts_in.__name__} by {outputs} numbers, the "
                f"environment has the actions {actions}; make it with the arguments of training."
            )

    def reset(self, mask: np.ndarray) -> None:
        """A policy without memory has nothing to forget."""

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        """The policy's actions [B, ...]."""
        heads = self._actor(symlog(observations))
        return heads.argmax(axis=1) if self._acts_in is gym.spaces.Discrete else heads


def load(folder: str | Path, agent: str | None = None) -> Agent:
    """The agent of a checkpoint folder.

    Raises:
        CheckpointError: it is missing, damaged, or of another agent than ``agent``.
    """
    checkpoint = load_checkpoint(folder, agent)
    trained: RuleAgent | PolicyAgent
    if checkpoint.config.get("rule") is None:
        trained = PolicyAgent(checkpoint)
    else:
        trained = RuleAgent(rule_of(checkpoint), name=checkpoint.config["agent"])
    trained.config["training"] = checkpoint.config.get("training")
    return trained
