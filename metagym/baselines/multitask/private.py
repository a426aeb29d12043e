"""Shared and private features, kept apart by an adversary and by orthogonality.

Each task reads shared features S_t = s(x_t) and private ones P_t = p_t(x_t) side by side, and
training minimises

    Σ_t L_t + adversary + γ · mean_t ‖Ŝ_tᵀ P̂_t‖²_F / n_t².

========================  ==========================================  ==========================
part                      what it is                                  source
========================  ==========================================  ==========================
two encoders              head_t([s(x_t), p_t(x_t)])                  Liu, Qiu & Huang (2017)
adversary                 max over d, min over s of the accuracy of   Ganin & Lempitsky (2015)
                          d at naming the task of s(x)
orthogonality             rows Ŝ, P̂ scaled to length 1, so that it   Bousmalis et al. (2016)
                          cannot be bought by small features; over
                          n² it lies in [0, 1] for any batch
========================  ==========================================  ==========================

The adversary is the cross-entropy of a discriminator d behind a gradient reversal: the
discriminator descends it at full rate, the shared encoder ascends it at λ. Tasks that are labels
of the very same examples have the same shared features whatever is learned, and the adversary
teaches nothing there.

Lecture topic: adversarial shared-private networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from metagym.baselines.gradient_reversal import reverse_gradient
from metagym.baselines.multitask.architecture import Architecture, Output
from metagym.baselines.multitask.data import TasksShape
from metagym.baselines.multitask.layers import (
    apply_once,
    check_inputs,
    check_widths,
    mlp,
)
from metagym.errors import check_not_negative


@dataclass(frozen=True)
class SharedPrivateConfig:
    """Hyperparameters of ``SharedPrivate``.

    Args:
        widths: hidden layers of the shared encoder.
        private_widths: hidden layers of each private encoder.
        discriminator_widths: hidden layers of the discriminator; () for a linear one.
        adversary: λ, by which the discriminator's gradient is reversed; 0 leaves it a spectator.
        orthogonality: γ, the weight of the orthogonality penalty.
    """

    widths: tuple[int, ...] = (64, 64)
    private_widths: tuple[int, ...] = (32, 32)
    discriminator_widths: tuple[int, ...] = (32,)
    adversary: float = 0.05
    orthogonality: float = 0.1

    def __post_init__(self) -> None:
        for name in ("widths", "private_widths", "discriminator_widths"):
            found = check_widths(name, getattr(self, name), empty=name.startswith("disc"))
            object.__setattr__(self, name, found)
        check_not_negative("adversary", self.adversary)
        check_not_negative("orthogonality", self.orthogonality)


class SharedPrivate(Architecture):
    """A shared encoder, a private one for each task, and a discriminator of tasks."""

    name = "shared_private"
    Config = SharedPrivateConfig

    def __init__(self, shape: TasksShape, config: Any = None) -> None:
        super().__init__(shape, config)
        config = self.config
        shared, private = config.widths[-1], config.private_widths[-1]
        self.trunk = mlp(shape.inputs, config.widths)
        self.own = nn.ModuleList(
            nn.ModuleDict(
                {
                    "encoder": mlp(shape.inputs, config.private_widths),
                    "head": nn.Linear(shared + private, outputs),
                }
            )
            for outputs in shape.outputs
        )
        widths = config.discriminator_widths
        self.discriminator = nn.Sequential(
            mlp(shared, widths), nn.Linear([shared, *widths][-1], len(shape.outputs))
        )

    def forward(self, inputs: Sequence[torch.Tensor]) -> Output:
        """See ``Architecture.forward``."""
        inputs = check_inputs(self.shape, inputs)
        shared = apply_once(self.trunk, inputs)
        predictions, private = [], []
        for module, x, s in zip(self.own, inputs, shared, strict=True):
            parts = cast(nn.ModuleDict, module)
            private.append(parts["encoder"](x))
            predictions.append(parts["head"](torch.cat([s, private[-1]], dim=1)))
        penalty = self.config.orthogonality * orthogonality(shared, private)
        return Output(predictions, penalty + self.discriminate(shared))

    def discriminate(self, shared: Sequence[torch.Tensor]) -> torch.Tensor:
        """Cross-entropy of the discriminator, every task that has examples counting the same.

        Its gradient comes to ``shared`` reversed and multiplied by ``config.adversary``.
        """
        rows = reverse_gradient(torch.cat(list(shared)), self.config.adversary)
        sizes = torch.tensor([len(s) for s in shared], device=rows.device)
        tasks = torch.repeat_interleave(torch.arange(len(sizes), device=rows.device), sizes)
        losses = nn.functional.cross_entropy(self.discriminator(rows), tasks, reduction="none")
        return (losses / sizes[tasks]).sum() / (sizes > 0).sum().clamp(min=1)

    def shared_parameters(self) -> list[nn.Parameter]:
        """The shared encoder: no task's loss reaches the discriminator."""
        return list(self.trunk.parameters())


def orthogonality(shared: Sequence[torch.Tensor], private: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean over tasks with examples of ‖ŜᵀP̂‖²_F / n², in [0, 1].

    Args:
        shared: by task S [n, a].
        private: by task P [n, b].
    """
    total = shared[0].new_zeros(())
    for s, p in zip(shared, private, strict=True):
        s, p = nn.functional.normalize(s), nn.functional.normalize(p)
        total = total + (s.T @ p / max(1, len(s))).square().sum()
    return total / max(1, sum(len(s) > 0 for s in shared))
