"""What transfer has to beat, and its simplest form: one domain alone, or both mixed.

``SourceOnly`` and ``TargetOnly`` are the two ends; ``Joint`` is the lectures'
α L_S + (1 − α) L_T with one network for both domains.

Lecture topic: parameter transfer, joint training of source and target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from metagym.baselines.transfer.deep import DeepConfig, DeepTransfer
from metagym.baselines.transfer.networks import weighted_cross_entropy
from metagym.baselines.transfer.train_deep import Batch, Data, Model, Phase
from metagym.errors import InvalidArgumentError


class SourceOnly(DeepTransfer):
    """Trains on the source, and looks at nothing of the target: the control of every table."""

    name, label = "source_only", "source only"

    def loss(
        self, phase: Phase, model: Model, batch: Batch, progress: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """L_S."""
        return weighted_cross_entropy(model.network(batch.x), batch.y), {}


class TargetOnly(DeepTransfer):
    """Trains on the labels of the target, and on nothing of the source but what its classes are.

    All examples of the target, labelled or not, say how inputs are standardised. Given all labels
    of the target's training part, it is the skyline: label it so.
    """

    name, label = "target_only", "target only"

    @property
    def needs_labels(self) -> bool:
        return True

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train", self.settings.iterations, ("labelled",), self.settings.rate),)

    def scaled_by(self, data: Data) -> torch.Tensor:
        return data.xt

    def loss(
        self, phase: Phase, model: Model, batch: Batch, progress: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """L_T."""
        return weighted_cross_entropy(model.network(batch.xl), batch.yl), {}


@dataclass(frozen=True)
class JointConfig(DeepConfig):
    """Settings of ``Joint``.

    Args:
        alpha: α, what the source counts; 1: source only, 0: target only.
    """

    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.alpha <= 1.0:
            raise InvalidArgumentError(f"alpha={self.alpha!r} has to be in [0, 1].")


class Joint(DeepTransfer):
    """α L_S + (1 − α) L_T, as many examples of either in each minibatch.

    So the few labels of the target count as much as the many of the source, whatever their
    numbers.
    """

    name, label = "transfer_joint", "joint"
    Config: ClassVar[type[DeepConfig]] = JointConfig

    @property
    def needs_labels(self) -> bool:
        return True

    def phases(self) -> tuple[Phase, ...]:
        s = self.settings
        return (Phase("train", s.iterations, ("source", "labelled"), s.rate),)

    def loss(
        self, phase: Phase, model: Model, batch: Batch, progress: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """α L_S + (1 − α) L_T."""
        logits = model.network(torch.cat([batch.x, batch.xl]))
        source = weighted_cross_entropy(logits[: len(batch.x)], batch.y)
        target = weighted_cross_entropy(logits[len(batch.x) :], batch.yl)
        alpha = self.settings.alpha
        return alpha * source + (1.0 - alpha) * target, {
            "source_loss": source, "target_loss": target,
        }  # fmt: skip
