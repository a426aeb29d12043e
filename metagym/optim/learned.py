"""Learned update rules: from a checkpoint, or from those that ship with the package."""

from __future__ import annotations

from pathlib import Path

import metagym
from metagym.checkpoint import CONFIG, Checkpoint, load_checkpoint
from metagym.errors import CheckpointError, InvalidArgumentError, nearest
from metagym.optim.base import UpdateRule
from metagym.optim.gains import GainRule
from metagym.optim.policy import MLPPolicy

PRETRAINED = Path(metagym.__file__).parent / "pretrained"
DEFAULT = "quadratics"


def pretrained_names() -> list[str]:
    """The names of the checkpoints that ship with the package."""
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{CONFIG}"))


def find_checkpoint(checkpoint: str | Path) -> Path:
    """The folder of a checkpoint that is named or is a folder already.

    Raises:
        CheckpointError: it is neither.
    """
    folder = Path(checkpoint)
    if (folder / CONFIG).is_file():
        return folder
    if str(checkpoint) in pretrained_names():
        return PRETRAINED / str(checkpoint)
    if folder.is_dir():
        return folder  # reading it says what is missing
    raise CheckpointError(
        f"{str(checkpoint)!r} is neither a checkpoint folder nor one of the shipped "
        f"{', '.join(pretrained_names()) or '(none)'}."
        f"{nearest(str(checkpoint), pretrained_names())}"
    )


def load_rule(checkpoint: str | Path = DEFAULT) -> UpdateRule:
    """The trained update rule of a checkpoint.

    Args:
        checkpoint: a folder that an agent wrote, or a shipped name such as ``"quadratics"``.

    Raises:
        CheckpointError: there is none, it is damaged, or what it holds is no update rule.
    """
    return rule_of(load_checkpoint(find_checkpoint(checkpoint)))


def rule_of(checkpoint: Checkpoint) -> UpdateRule:
    """The update rule that a loaded checkpoint describes.

    Raises:
        CheckpointError: it describes none, or one that this version does not know.
    """
    if checkpoint.config["agent"] == "l2l":
        from metagym.baselines.learned_optimizers.train import rule_of as lstm_rule_of

        return lstm_rule_of(checkpoint)
    arguments = checkpoint.config.get("rule")
    if not isinstance(arguments, dict):
        raise CheckpointError(
            f"{checkpoint.folder} holds a policy for {checkpoint.config['env_id']}, not an update "
            "rule; train on LearnToOptimize with the view 'problem' or 'coordinate'."
        )
    policy = actor_of(checkpoint)
    try:
        rule = GainRule(**arguments, policy=policy)
    except (TypeError, InvalidArgumentError) as error:
        raise CheckpointError(f"{checkpoint.folder}: its update rule is unknown: {error}") from None
    features = rule.feature_shape(1)[-1]
    if policy.num_inputs != features:
        raise CheckpointError(
            f"{checkpoint.folder}: its policy takes {policy.num_inputs} features, the rule gives "
            f"{features}; it was trained with another version of metagym."
        )
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
