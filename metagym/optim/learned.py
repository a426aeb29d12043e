"""Learned update rules: from a checkpoint, or from those that ship with the package."""

from __future__ import annotations

from pathlib import Path

import metagym
from metagym.checkpoint import Checkpoint, load_checkpoint
from metagym.errors import CheckpointError, nearest
from metagym.optim.gains import GainRule
from metagym.optim.policy import MLPPolicy

PRETRAINED = Path(metagym.__file__).parent / "pretrained"
DEFAULT = "quadratics"


def pretrained_names() -> list[str]:
    """The names of the checkpoints that ship with the package."""
    return sorted(path.name for path in PRETRAINED.iterdir() if (path / "config.json").is_file())


def find_checkpoint(checkpoint: str | Path) -> Path:
    """The folder of a checkpoint that is named or is a folder already.

    Raises:
        CheckpointError: it is neither.
    """
    folder = Path(checkpoint)
    if folder.is_dir():
        return folder
    if str(checkpoint) in pretrained_names():
        return PRETRAINED / str(checkpoint)
    raise CheckpointError(
        f"{str(checkpoint)!r} is neither a checkpoint folder nor one of the shipped "
        f"{', '.join(pretrained_names())}.{nearest(str(checkpoint), pretrained_names())}"
    )


def load_rule(checkpoint: str | Path = DEFAULT) -> GainRule:
    """The trained update rule of a checkpoint.

    Args:
        checkpoint: a folder that an agent wrote, or a shipped name such as ``"quadratics"``.

    Raises:
        CheckpointError: there is none, it is damaged, or what it holds is no update rule.
    """
    return rule_of(load_checkpoint(find_checkpoint(checkpoint)))


def rule_of(checkpoint: Checkpoint) -> GainRule:
    """The update rule that a loaded checkpoint describes."""
    arguments = checkpoint.config.get("rule")
    if not isinstance(arguments, dict):
        raise CheckpointError(
            f"{checkpoint.folder} holds a policy for {checkpoint.config['env_id']}, not an update "
            "rule; train on LearnToOptimize with the view 'problem' or 'coordinate'."
        )
    rule = GainRule(**arguments, policy=actor_of(checkpoint))
    rule.config["checkpoint"] = checkpoint.folder.name
    return rule


def actor_of(checkpoint: Checkpoint) -> MLPPolicy:
    """The deterministic policy of a loaded checkpoint: its weights named ``actor.*``."""
    prefix = "actor."
    return MLPPolicy(
        {
            name.removeprefix(prefix): values
            for name, values in checkpoint.weights.items()
            if name.startswith(prefix)
        }
    )
