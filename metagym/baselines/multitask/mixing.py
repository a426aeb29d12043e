"""Networks that learn how much to share, by mixing parallel layers.

=============  ==================================================  ============================
name           what is mixed                                       source
=============  ==================================================  ============================
cross_stitch   h̃_s = Σ_t α_st h_t behind every hidden layer of     Misra et al. (2016)
               the tasks' networks; α of a layer is [M, M]
mmoe           y_t = head_t(Σ_e g_te(x) f_e(x)), with              Ma et al. (2018)
               g_t(x) = softmax(W_t x + b_t) over the experts f_e
=============  ==================================================  ============================

With α the identity, tasks have independent networks; with one expert they share a trunk.

Lecture topics: cross-stitch networks; multi-gate mixture of experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from metagym.baselines.multitask.architecture import Architecture, Output
from metagym.baselines.multitask.data import TasksShape
from metagym.baselines.multitask.layers import (
    ParallelLinear,
    ParallelMLP,
    apply_once,
    check_inputs,
    check_widths,
    heads,
    mlp,
    zero_penalty,
)
from metagym.baselines.multitask.sharing import Widths
from metagym.errors import InvalidArgumentError, check_positive


@dataclass(frozen=True)
class CrossStitchConfig(Widths):
    """Hyperparameters of ``CrossStitch``.

    Args:
        same: α_tt at first, in [0, 1]; a row of α sums to 1, the rest being the other tasks'.
    """

    same: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.same, bool) or not 0.0 <= self.same <= 1.0:
            raise InvalidArgumentError(f"same={self.same!r} has to be between 0 and 1.")


@dataclass(frozen=True)
class MMoEConfig(Widths):
    """Hyperparameters of ``MMoE``; ``widths`` are those of each expert.

    Args:
        experts: how many.
        tower_widths: hidden layers of each task's own tower behind the mixture.
    """

    experts: int = 4
    tower_widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("experts", self.experts)
        found = check_widths("tower_widths", self.tower_widths, empty=True)
        object.__setattr__(self, "tower_widths", found)


class CrossStitch(Architecture):
    """A column of layers for each task, and units that stitch the columns together.

    The units mix features that all columns have of one example: every batch passes all columns,
    and the cost is M times that of independent networks. All but the heads is shared.

    Attributes:
        stitches: α by hidden layer, [M, M].
    """

    name = "cross_stitch"
    Config = CrossStitchConfig

    def __init__(self, shape: TasksShape, config: Any = None) -> None:
        super().__init__(shape, config)
        widths, tasks = self.config.widths, len(shape.kinds)
        sizes = zip([shape.inputs, *widths], widths, strict=False)
        self.columns = nn.ModuleList(ParallelLinear(tasks, *size) for size in sizes)
        other = (1 - self.config.same) / max(1, tasks - 1)
        alpha = torch.full((tasks, tasks), other).fill_diagonal_(
            self.config.same if tasks > 1 else 1.0
        )
        self.stitches = nn.ParameterList(nn.Parameter(alpha.clone()) for _ in widths)
        self.own = heads(widths[-1], shape)

    def forward(self, inputs: Sequence[torch.Tensor]) -> Output:
        """See ``Architecture.forward``."""
        inputs = check_inputs(self.shape, inputs)
        features = apply_once(self._features, inputs)
        predictions = [
            head(h[:, task]) for task, (head, h) in enumerate(zip(self.own, features, strict=True))
        ]
        return Output(predictions, zero_penalty(inputs))

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        """[n, inputs] to [n, tasks, widths[-1]]."""
        for layer, alpha in zip(self.columns, self.stitches, strict=True):
            x = torch.einsum("st,tnw->snw", alpha, torch.relu(layer(x)))
        return x.transpose(0, 1)


class MMoE(Architecture):
    """Experts for all tasks; each has a gate that mixes them for every example, and a tower."""

    name = "mmoe"
    Config = MMoEConfig

    def __init__(self, shape: TasksShape, config: Any = None) -> None:
        super().__init__(shape, config)
        config = self.config
        self.experts = ParallelMLP(config.experts, shape.inputs, config.widths)
        width = config.widths[-1]
        self.own = nn.ModuleList(
            nn.ModuleDict(
                {
                    "gate": nn.Linear(shape.inputs, config.experts),
                    "tower": mlp(width, config.tower_widths),
                    "head": nn.Linear([width, *config.tower_widths][-1], outputs),
                }
            )
            for outputs in shape.outputs
        )

    def forward(self, inputs: Sequence[torch.Tensor]) -> Output:
        """See ``Architecture.forward``."""
        inputs = check_inputs(self.shape, inputs)
        answers = apply_once(lambda x: self.experts(x).transpose(0, 1), inputs)  # [n, experts, w]
        predictions = []
        for module, gates, answer in zip(self.own, self.gates(inputs), answers, strict=True):
            parts = cast(nn.ModuleDict, module)
            mixed = torch.einsum("ne,new->nw", gates, answer)
            predictions.append(parts["head"](parts["tower"](mixed)))
        return Output(predictions, zero_penalty(inputs))

    def gates(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """How each task mixes the experts for each of its examples: by task [n, experts]."""
        gates = [cast(nn.ModuleDict, parts)["gate"] for parts in self.own]
        return [torch.softmax(gate(x), dim=1) for gate, x in zip(gates, inputs, strict=True)]
