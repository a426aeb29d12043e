"""The torch modules of NAS-Bench-201: its operations, its cell, and the network around the cell.

Every module can be several networks side by side (``replicas``): they share nothing but the call,
their channels lie behind each other and every convolution is grouped. At the size of small images
most of a training is overhead of calls, so that several seeds at once cost little more than one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from metagym.architectures.cell201 import AVG_POOL, CONV_1X1, CONV_3X3, EDGES, NONE, SKIP
from metagym.errors import InvalidArgumentError, check_positive


class ReLUConvBN(nn.Sequential):
    """ReLU, convolution without bias, batch normalisation; the size stays but for the stride."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, replicas: int = 1
    ) -> None:
        super().__init__(nn.ReLU(), *_conv_bn(inputs, outputs, kernel, stride, replicas))


class Cell(nn.Module):
    """Four nodes; node 3 is the sum of what its edges bring, zeros where they bring nothing.

    Args:
        operations: of the six edges, with ``none`` wherever nothing flows.
        channels: per replica, of the input and the output.
        replicas: networks side by side.
    """

    def __init__(self, operations: Sequence[int], channels: int, replicas: int = 1) -> None:
        super().__init__()
        self.edges = [
            (edge, *EDGES[edge]) for edge, token in enumerate(operations) if token != NONE
        ]
        self.operations = nn.ModuleDict(
            {
                str(edge): _operation(operations[edge], channels, replicas)
                for edge, _, _ in self.edges
                if operations[edge] != SKIP
            }
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        nodes: list[torch.Tensor | None] = [inputs, None, None, None]
        for edge, source, target in self.edges:
            value, name = nodes[source], str(edge)
            if value is None:
                raise InvalidArgumentError(f"Edge {edge} of the cell starts where nothing arrives.")
            if name in self.operations:
                value = self.operations[name](value)
            before = nodes[target]
            nodes[target] = value if before is None else before + value
        return torch.zeros_like(inputs) if nodes[3] is None else nodes[3]


class Reduction(nn.Module):
    """A residual block of stride 2 that doubles the channels; odd sizes are rounded up."""

    def __init__(self, channels: int, replicas: int = 1) -> None:
        super().__init__()
        inputs, outputs = channels, 2 * channels
        self.residual = nn.Sequential(
            ReLUConvBN(inputs, outputs, 3, stride=2, replicas=replicas),
            ReLUConvBN(outputs, outputs, 3, replicas=replicas),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True),
            nn.Conv2d(inputs * replicas, outputs * replicas, 1, groups=replicas, bias=False),
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.residual(inputs) + self.shortcut(inputs)
        return output


class CellNetwork(nn.Module):
    """Stem, ``stages`` × ``cells`` cells with reductions between the stages, average, linear map.

    Images [N, C, H, W] become logits [N, outputs]. With more than one replica, images
    [N, replicas · C, H, W] become logits [N, replicas, outputs].

    Raises:
        InvalidArgumentError: a size is no whole number of at least 1.
    """

    def __init__(
        self,
        operations: Sequence[int],
        input_shape: tuple[int, int, int],
        outputs: int,
        *,
        channels: int = 16,
        cells: int = 5,
        stages: int = 3,
        replicas: int = 1,
    ) -> None:
        super().__init__()
        sizes = {"outputs": outputs, "channels": channels, "cells": cells, "stages": stages}
        for name, size in (sizes | {"replicas": replicas}).items():
            check_positive(name, size)
        if len(input_shape) != 3:
            raise InvalidArgumentError(
                f"input_shape={input_shape!r} has to be (channels, height, width)."
            )
        layers = _conv_bn(
            check_positive("input_shape[0]", input_shape[0]), channels, 3, 1, replicas
        )
        for stage in range(stages):
            if stage:
                layers.append(Reduction(channels, replicas))
                channels *= 2
            layers.extend(Cell(operations, channels, replicas) for _ in range(cells))
        self.body = nn.Sequential(*layers)
        self.normalise = nn.BatchNorm2d(channels * replicas)
        # A linear map per replica is a 1×1 convolution in groups.
        self.head = nn.Conv2d(channels * replicas, outputs * replicas, 1, groups=replicas)
        self.replicas = replicas

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.normalise(self.body(images))).mean(dim=(2, 3), keepdim=True)
        logits: torch.Tensor = self.head(features).flatten(1)
        return logits.unflatten(1, (self.replicas, -1)) if self.replicas > 1 else logits


def _operation(token: int, channels: int, replicas: int) -> nn.Module:
    if token == AVG_POOL:
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    kernel = {CONV_1X1: 1, CONV_3X3: 3}[token]
    return ReLUConvBN(channels, channels, kernel, replicas=replicas)


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int, replicas: int) -> list[nn.Module]:
    convolution = nn.Conv2d(
        inputs * replicas, outputs * replicas, kernel, stride=stride, padding=kernel // 2,
        groups=replicas, bias=False,
    )  # fmt: skip
    return [convolution, nn.BatchNorm2d(outputs * replicas)]
