"""Unsupervised domain adaptation: the loss on the source plus a distance of the two domains.

Deep CORAL (Sun & Saenko 2016) compares covariances, ``DeepMMD`` mean embeddings (Long et al. 2015,
on one layer). DANN, whose distance is a domain classifier's success, has a file of its own.

Lecture topic: feature transfer, learning features that the domains share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from metagym.baselines.transfer.deep import DeepConfig, DeepTransfer
from metagym.baselines.transfer.networks import (
    coral_distance,
    mmd_distance,
    weighted_cross_entropy,
)
from metagym.baselines.transfer.train_deep import Batch, Model, Phase
from metagym.errors import check_choice, check_not_negative

LAYERS = ("features", "logits")


@dataclass(frozen=True)
class AlignmentConfig(DeepConfig):
    """Settings of methods that align the domains.

    Args:
        strength: what the distance of the domains counts beside the loss on the source.
        label_weight: what the loss on labels of the target counts; 0: they are not looked at, as
            in the papers, even if ``fit`` is given some.
    """

    strength: float = 1.0
    label_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("strength", "label_weight"):
            check_not_negative(name, getattr(self, name))


class Alignment(DeepTransfer):
    """Base: L_S + ``distance`` (+ label_weight · L_T)."""

    Config: ClassVar[type[DeepConfig]] = AlignmentConfig

    @property
    def needs_labels(self) -> bool:
        return bool(self.settings.label_weight)

    def phases(self) -> tuple[Phase, ...]:
        s = self.settings
        draws = ("source", "target", "labelled") if s.label_weight else ("source", "target")
        return (Phase("train", s.iterations, draws, s.rate),)

    def loss(
        self, phase: Phase, model: Model, batch: Batch, progress: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """L_S + distance (+ label_weight · L_T)."""
        n, m, network = len(batch.x), len(batch.xt), model.network
        features = network.features(torch.cat([batch.x, batch.xt, batch.xl]))
        logits = network.head(features)
        source = weighted_cross_entropy(logits[:n], batch.y)
        penalty, numbers = self.distance(model, features[: n + m], logits[: n + m], n, progress)
        total, numbers = source + penalty, {"source_loss": source, **numbers}
        if weight := self.settings.label_weight:
            numbers["target_loss"] = weighted_cross_entropy(logits[n + m :], batch.yl)
            total = total + weight * numbers["target_loss"]
        return total, numbers

    def distance(
        self, model: Model, features: torch.Tensor, logits: torch.Tensor, n: int, progress: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The penalty, its strength included, and what to log.

        Args:
            model: what is trained.
            features, logits: of a batch, the first ``n`` rows of the source, the others of the
                target.
            n: see there.
            progress: the share of training that is done.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class CORALConfig(AlignmentConfig):
    """Settings of ``DeepCORAL``.

    Args:
        layer: whose covariances: "logits" as in the paper, or "features".
    """

    layer: Literal["features", "logits"] = "logits"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("layer", self.layer, LAYERS)


class DeepCORAL(Alignment):
    """Second moments made alike: λ ‖C_S − C_T‖²_F / (4 d²) (Sun & Saenko 2016, equation 1)."""

    name, label = "deep_coral", "deep CORAL"
    Config: ClassVar[type[DeepConfig]] = CORALConfig

    def distance(
        self, model: Model, features: torch.Tensor, logits: torch.Tensor, n: int, progress: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        x = logits if self.settings.layer == "logits" else features
        found = coral_distance(x[:n], x[n:])
        return self.settings.strength * found, {"coral": found}


class DeepMMD(Alignment):
    """Mean embeddings of the features made alike: λ MMD² with five Gaussian kernels."""

    name, label = "deep_mmd", "deep MMD"

    def distance(
        self, model: Model, features: torch.Tensor, logits: torch.Tensor, n: int, progress: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        found = mmd_distance(features[:n], features[n:])
        return self.settings.strength * found, {"mmd": found}
