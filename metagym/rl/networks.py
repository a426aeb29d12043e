"""Small torch networks that agents share, and their weights as numpy arrays and back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import nn


class MLP(nn.Module):
    """tanh layers and a linear last one, over the last axis; ``MLPPolicy`` is its numpy twin.

    Orthogonal weights with gain sqrt(2), and ``output_gain`` for the last layer, as PPO's
    reference implementations start them; biases are 0.

    Args:
        sizes: widths from input to output.
        output_gain: of the last layer; 0.01 makes a policy start near its mean action.
    """

    def __init__(self, sizes: Sequence[int], output_gain: float = 1.0) -> None:
        super().__init__()
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        self.layers = nn.ModuleList(layers)
        for i, layer in enumerate(layers):
            last = i == len(layers) - 1
            nn.init.orthogonal_(layer.weight, output_gain if last else 2**0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = inputs
        for layer in self.layers[:-1]:
            hidden = torch.tanh(layer(hidden))
        output: torch.Tensor = self.layers[-1](hidden)
        return output


def to_arrays(module: nn.Module, prefix: str) -> dict[str, np.ndarray]:
    """The module's tensors as arrays named ``prefix.…``; an MLP's are ``prefix.0.weight``."""
    return {
        f"{prefix}.{name.removeprefix('layers.')}": tensor.detach().cpu().numpy().copy()
        for name, tensor in module.state_dict().items()
    }


def policy_arrays(actor: MLP, log_std: torch.Tensor | None) -> dict[str, np.ndarray]:
    """The weights of a checkpoint: the actor's, and the log std of its actions if it has one."""
    arrays = to_arrays(actor, "actor")
    if log_std is not None:
        arrays["log_std"] = log_std.detach().cpu().numpy().copy()
    return arrays
