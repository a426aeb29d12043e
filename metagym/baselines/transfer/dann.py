"""DANN: features by which a classifier cannot tell the domains apart (Ganin et al. 2016).

A domain head learns to tell source from target; a layer that reverses gradients makes the features
unlearn what it found. λ_p grows from 0 to ``strength`` and the learning rate falls, both as in
section 5.2.2 of the paper.

Lecture topic: feature transfer, adversarial training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional as F

from metagym.baselines.gradient_reversal import reverse_gradient
from metagym.baselines.transfer.deep import DeepConfig
from metagym.baselines.transfer.deep_coral import Alignment, AlignmentConfig
from metagym.baselines.transfer.networks import (
    DomainHead,
    Network,
    domain_strength,
)
from metagym.baselines.transfer.train_deep import Model
from metagym.errors import check_above_zero, check_positive


@dataclass(frozen=True)
class DANNConfig(AlignmentConfig):
    """Settings of ``DANN``: optimiser, rate and schedule are those of the paper.

    Args:
        gamma: γ of λ_p, how fast the adversary gains its strength.
        domain_hidden: width of the hidden layer of the domain head.
    """

    optimizer: Literal["adam", "sgd"] = "sgd"
    rate: float = 0.01
    schedule: Literal["constant", "linear", "cosine", "dann"] = "dann"
    gamma: float = 10.0
    domain_hidden: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_zero("gamma", self.gamma)
        check_positive("domain_hidden", self.domain_hidden)


class DANN(Alignment):
    """Domain-adversarial training: L_S − λ_p L_domain for the features, +L_domain for the head.

    After ``fit``, ``model_.parts["domain"]`` is the domain head.
    """

    name, label = "dann", "DANN"
    Config: ClassVar[type[DeepConfig]] = DANNConfig
    ramps = True

    def parts(self, network: Network) -> dict[str, nn.Module]:
        return {"domain": DomainHead(network.width, self.settings.domain_hidden)}

    def distance(
        self, model: Model, features: torch.Tensor, logits: torch.Tensor, n: int, progress: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        strength = self.settings.strength * domain_strength(progress, self.settings.gamma)
        guesses = model.parts["domain"](reverse_gradient(features, strength))
        is_target = torch.ones_like(guesses)
        is_target[:n] = 0.0
        found = F.binary_cross_entropy_with_logits(guesses, is_target)
        right = ((guesses > 0) == (is_target > 0)).float().mean()
        return found, {"domain_loss": found, "domain_accuracy": right}
