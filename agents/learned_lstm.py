"""The coordinatewise LSTM optimiser (Andrychowicz et al. 2016) as an agent that can be trained.

What is trained and how is in ``metagym.baselines.learned_optimizers``; here it meets the
environments: ``Config``, ``train`` and ``load``, as of every agent that the command line trains.

Lecture topic: learning to optimise, by supervision.
"""

from __future__ import annotations

from pathlib import Path

from metagym.agents.optimizers import RuleAgent
from metagym.baselines.learned_optimizers.train import NAME, Config, rule_of, train
from metagym.checkpoint import load_checkpoint
from metagym.core import Agent

__all__ = ["NAME", "Config", "load", "train"]


def load(folder: str | Path) -> Agent:
    """The agent of a checkpoint folder.

    Raises:
        CheckpointError: it is missing, damaged, or of another agent.
    """
    checkpoint = load_checkpoint(folder, NAME)
    agent = RuleAgent(rule_of(checkpoint), name=NAME)
    agent.config["training"] = checkpoint.config.get("training")
    return agent
