"""One network for all tasks that is told which task it works on, by a descriptor z.

z is one-hot or what is known of the task beforehand (metadata), and y = f(x, z). With h_0 = x and
layers h_l = relu(W_l h_{l−1} + b_l), the ways to tell are

==============  ===========================================  =====================================
``how``         what z does                                  what it is the same as
==============  ===========================================  =====================================
"input"         h_0 = [x; z]                                 a learned bias V z at the first layer
"activations"   h_l becomes [h_l; z] behind every layer      a learned bias at every later layer
"addition"      W_l h_{l−1} + b_l + V_l z at every layer     both of them together
"gating"        h_l becomes h_l ⊙ (G_l z + c_l)              with masks for gates: "heads"
"heads"         y = Σ_k z_k (A_k h_L + a_k)                  hard sharing, if z is one-hot
"independent"   y = Σ_k z_k f_k(x)                           independent networks, if z is one-hot
==============  ===========================================  =====================================

from everything shared to nothing. The tests prove the right column by setting weights. The output
layer is one for all tasks, as wide as the widest needs; a task reads its first numbers.

Lecture topic: conditioning on a task descriptor (concatenation, addition, multi-head
architectures, multiplicative conditioning). Multiplication: Perez et al. (2018), "FiLM".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from metagym.baselines.multitask.architecture import Architecture, Output
from metagym.baselines.multitask.data import TasksShape
from metagym.baselines.multitask.layers import (
    ParallelLinear,
    ParallelMLP,
    check_inputs,
    mlp,
    zero_penalty,
)
from metagym.baselines.multitask.sharing import Widths
from metagym.errors import InvalidArgumentError, check_choice


@dataclass(frozen=True)
class ConditionedConfig(Widths):
    """Hyperparameters of ``Conditioned``.

    Args:
        how: "input", "activations", "addition", "gating", "heads" or "independent".
    """

    how: Literal["input", "activations", "addition", "gating", "heads", "independent"] = "input"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("how", self.how, HOW)


class Conditioned(Architecture):
    """y = f(x, z): all parameters are shared, and z says what a task does with them.

    Attributes:
        net: x [n, inputs] and z [n, k] to [n, outputs of the task that has most].
        z: descriptors, [tasks, k].
    """

    name = "conditioned"
    Config = ConditionedConfig

    z: torch.Tensor

    def __init__(self, shape: TasksShape, config: Any = None) -> None:
        super().__init__(shape, config)
        self.register_buffer("z", torch.tensor(shape.descriptors, dtype=torch.float32))
        net = HOW[self.config.how]
        self.net = net(shape.inputs, self.z.shape[1], self.config.widths, max(shape.outputs))

    def forward(self, inputs: Sequence[torch.Tensor]) -> Output:
        """See ``Architecture.forward``."""
        inputs = check_inputs(self.shape, inputs)
        sizes = [len(x) for x in inputs]
        z = torch.repeat_interleave(self.z, torch.tensor(sizes, device=self.z.device), dim=0)
        rows = self.net(torch.cat(inputs), z).split(sizes)
        predictions = [row[:, :n] for row, n in zip(rows, self.shape.outputs, strict=True)]
        return Output(predictions, zero_penalty(inputs))

    def answer(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Answers for a task that may be new, of which only the descriptor is known.

        Args:
            x: [n, inputs].
            z: [k].

        Returns:
            [n, outputs of the task that has most].

        Raises:
            InvalidArgumentError: a descriptor of another length.
        """
        if z.shape != self.z.shape[1:]:
            raise InvalidArgumentError(
                f"The tasks have descriptors of shape {tuple(self.z.shape[1:])}; this one has "
                f"shape {tuple(z.shape)}."
            )
        answers: torch.Tensor = self.net(x, z.expand(len(x), -1))
        return answers


class _Input(nn.Module):
    def __init__(self, inputs: int, k: int, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.body = mlp(inputs + k, widths)
        self.last = nn.Linear(widths[-1], outputs)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        answers: torch.Tensor = self.last(self.body(torch.cat([x, z], dim=1)))
        return answers


class _Activations(nn.Module):
    def __init__(self, inputs: int, k: int, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        sizes = [inputs, *(width + k for width in widths)]
        self.layers = _linear(sizes[:-1], widths)
        self.last = nn.Linear(sizes[-1], outputs)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.cat([torch.relu(layer(x)), z], dim=1)
        answers: torch.Tensor = self.last(x)
        return answers


class _Addition(nn.Module):
    def __init__(self, inputs: int, k: int, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.layers = _linear([inputs, *widths], [*widths, outputs])
        self.biases = nn.ModuleList(nn.Linear(k, w, bias=False) for w in [*widths, outputs])

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        for i, (layer, bias) in enumerate(zip(self.layers, self.biases, strict=True)):
            x = layer(torch.relu(x) if i else x) + bias(z)
        return x


class _Gating(nn.Module):
    def __init__(self, inputs: int, k: int, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.layers = _linear([inputs, *widths], widths)
        self.gates = nn.ModuleList(nn.Linear(k, width) for width in widths)
        for gate in self.gates:  # open at first
            nn.init.ones_(gate.bias)  # type: ignore[arg-type]
        self.last = nn.Linear(widths[-1], outputs)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        for layer, gate in zip(self.layers, self.gates, strict=True):
            x = torch.relu(layer(x)) * gate(z)
        answers: torch.Tensor = self.last(x)
        return answers


class _Heads(nn.Module):
    def __init__(self, inputs: int, k: int, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.body = mlp(inputs, widths)
        self.last = ParallelLinear(k, widths[-1], outputs)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nk,kno->no", z, self.last(self.body(x)))


class _Independent(nn.Module):
    def __init__(self, inputs: int, k: int, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.bodies = ParallelMLP(k, inputs, widths)
        self.last = ParallelLinear(k, widths[-1], outputs)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nk,kno->no", z, self.last(self.bodies(x)))


HOW: dict[str, type[nn.Module]] = {
    "input": _Input,
    "activations": _Activations,
    "addition": _Addition,
    "gating": _Gating,
    "heads": _Heads,
    "independent": _Independent,
}


def _linear(inputs: Sequence[int], outputs: Sequence[int]) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(i, o) for i, o in zip(inputs, outputs, strict=False))
