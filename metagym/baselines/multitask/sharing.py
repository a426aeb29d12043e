"""Independent networks, and the two classical ways to share: hard and soft.

========  =======================================================  =============================
name      what is minimised (losses L_t, task t's network f_t)     source
========  =======================================================  =============================
single    Σ_t L_t(f_t), no parameter in common
hard      Σ_t L_t(head_t ∘ trunk)                                  Caruana (1997)
soft      Σ_t L_t(f_t) + λ D(w_1, ..., w_M)                        Duong et al. (2015)
========  =======================================================  =============================

Lecture topics: hard parameter sharing; soft parameter sharing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import nn

from metagym.baselines.multitask.architecture import Architecture, Output
from metagym.baselines.multitask.data import TasksShape
from metagym.baselines.multitask.layers import (
    apply_once,
    check_inputs,
    check_widths,
    heads,
    mlp,
    zero_penalty,
)
from metagym.errors import check_choice, check_not_negative

DISTANCES = ("pairwise", "mean")


@dataclass(frozen=True)
class Widths:
    """Hyperparameters of a network that is described by its hidden layers.

    Args:
        widths: of the hidden layers.
    """

    widths: tuple[int, ...] = (64, 64)

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", check_widths("widths", self.widths))


@dataclass(frozen=True)
class SoftConfig(Widths):
    """Hyperparameters of ``Soft``.

    Args:
        distance: "pairwise" or "mean", see ``Soft``.
        strength: λ, the weight of the distance.
    """

    distance: Literal["pairwise", "mean"] = "mean"
    strength: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("distance", self.distance, DISTANCES)
        check_not_negative("strength", self.strength)


class Single(Architecture):
    """A network of its own for each task, in one training loop.

    One decision to stop and one norm to clip are then still common to all; ``train_twins`` makes a
    ``Single`` of one task for each, against which transfer is measured.
    """

    name = "single"
    Config = Widths

    def __init__(self, shape: TasksShape, config: Any = None) -> None:
        super().__init__(shape, config)
        widths = self.config.widths
        self.own = nn.ModuleList(
            nn.Sequential(mlp(shape.inputs, widths), nn.Linear(widths[-1], outputs))
            for outputs in shape.outputs
        )

    def forward(self, inputs: Sequence[torch.Tensor]) -> Output:
        """See ``Architecture.forward``."""
        inputs = check_inputs(self.shape, inputs)
        predictions = [net(x) for net, x in zip(self.own, inputs, strict=True)]
        return Output(predictions, zero_penalty(inputs))


class Hard(Architecture):
    """One trunk for all tasks, and a linear head for each."""

    name = "hard"
    Config = Widths

    def __init__(self, shape: TasksShape, config: Any = None) -> None:
        super().__init__(shape, config)
        self.trunk = mlp(shape.inputs, self.config.widths)
        self.own = heads(self.config.widths[-1], shape)

    def forward(self, inputs: Sequence[torch.Tensor]) -> Output:
        """See ``Architecture.forward``; an ``x`` that is given to several tasks passes once."""
        inputs = check_inputs(self.shape, inputs)
        features = apply_once(self.trunk, inputs)
        predictions = [head(h) for head, h in zip(self.own, features, strict=True)]
        return Output(predictions, zero_penalty(inputs))


class Soft(Single):
    """A network for each task, of which the hidden layers w_t are drawn towards each other.

    The distance D is one of

    - "pairwise": Σ_{s<t} ‖w_s − w_t‖²,
    - "mean": Σ_t ‖w_t − w̄‖², with w̄ the mean of all.

    They are proportional, pairwise = M · mean for M tasks, so that λ decides and not the choice;
    for two tasks the second is half the first. Heads may differ in size and stay out of it.
    """

    name = "soft"
    Config = SoftConfig

    def forward(self, inputs: Sequence[torch.Tensor]) -> Output:
        """See ``Architecture.forward``."""
        predictions, _ = super().forward(inputs)
        return Output(predictions, self.config.strength * self.distance())

    def distance(self) -> torch.Tensor:
        """D of the present weights, a scalar."""
        trunks = [cast(nn.Sequential, net)[0].parameters() for net in self.own]
        weights = torch.stack([nn.utils.parameters_to_vector(trunk) for trunk in trunks])
        spread = (weights - weights.mean(dim=0)).square().sum()
        return len(weights) * spread if self.config.distance == "pairwise" else spread
