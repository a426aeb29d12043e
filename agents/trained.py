"""What a checkpoint of ours becomes in an environment, and the picture of how it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from matplotlib.figure import Figure

from metagym.agents.optimizers import AGENTS, RuleAgent
from metagym.checkpoint import Checkpoint, load_checkpoint
from metagym.core import Agent
from metagym.core.optimization import OptimizationEnv
from metagym.errors import CheckpointError
from metagym.evaluation.compare import Comparison, compare, figure
from metagym.optim.learned import actor_of, rule_of
from metagym.wrappers.symlog import symlog

BASELINES = ("sgd", "momentum", "adam", "barzilai_borwein")


class PolicyAgent:
    """A trained policy that acts as its environment does, on symlog observations."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.name = checkpoint.config["agent"]
        self.config: dict[str, Any] = {"checkpoint": checkpoint.folder.name}
        self._actor = actor_of(checkpoint)

    def bind(self, env: VectorEnv) -> None:
        """Check that the policy fits.

        Raises:
            CheckpointError: it was trained on observations of another shape.
        """
        shape = env.single_observation_space.shape
        if shape != (self._actor.num_inputs,):
            raise CheckpointError(
                f"The policy takes observations of shape ({self._actor.num_inputs},), the "
                f"environment gives {shape}; make it with the arguments of training."
            )

    def reset(self, mask: np.ndarray) -> None:
        """A policy without memory has nothing to forget."""

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        """The policy's mean actions."""
        return self._actor(symlog(observations))


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


class Progress:
    """Optimisation curves of a run so far beside the tuned baselines, on the validation split.

    Args:
        env_id, env_kwargs: the environment; for one that does not optimise there is no figure.
        episodes: of each curve.
    """

    def __init__(self, env_id: str, env_kwargs: dict[str, Any], episodes: int = 128) -> None:
        self.env_id, self.env_kwargs, self.episodes = env_id, env_kwargs, episodes
        self._baselines: Comparison | None = None

    def figure(self, env: VectorEnv, folder: Path, label: str) -> Figure | None:
        """The figure for the checkpoint in ``folder``, or None."""
        base = env.unwrapped
        if not isinstance(base, OptimizationEnv) or not hasattr(base, "action_scale"):
            return None
        run = {"split": "validation", "episodes": self.episodes, **self.env_kwargs}
        if self._baselines is None:
            self._baselines = compare({n: AGENTS[n]() for n in BASELINES}, self.env_id, **run)
        now = compare({label: load(folder)}, self.env_id, **run)
        return figure([Comparison((*now.results, *self._baselines.results))])
