"""The networks of the few-shot papers, pure enough for ``torch.func``: no buffer changes unasked.

``MLP`` is MAML's 40-40 ReLU net. ``Conv4`` is the four-block convolutional net of Vinyals et al.
(2016), with max-pooling, or with strides and a mean over positions as MAML uses it on Omniglot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from metagym.baselines.few_shot.base import TaskShape
from metagym.errors import InvalidArgumentError, check_choice, check_positive

NORMS = ("batch", "support", "running", "none")
POOLINGS = ("stride", "max")
BLOCKS = 4


@dataclass(frozen=True)
class NetworkConfig:
    """Which network; the configs of methods inherit these fields.

    Args:
        network: "mlp", "conv4", or "auto": conv4 for images, mlp for vectors.
        hidden: widths of the mlp's hidden layers.
        filters: of each of the four blocks of conv4.
        pooling: of conv4: "stride" (convolutions of stride 2, then a mean over positions) or
            "max" (2 × 2 max-pooling after each block, then all positions).
        norm: of conv4: "batch" normalises whatever is passed together, so predictions for a
            query batch are transductive; "support" uses the statistics of the support set;
            "running" those of meta-training, for methods that embed without adapting; "none".
    """

    network: Literal["auto", "mlp", "conv4"] = "auto"
    hidden: tuple[int, ...] = (40, 40)
    filters: int = 64
    pooling: Literal["stride", "max"] = "stride"
    norm: Literal["batch", "support", "running", "none"] = "batch"


class MLP(nn.Module):
    """Linear layers with ReLU between them; its last layer is ``head``.

    Args:
        inputs: numbers in one example; inputs of any shape are flattened.
        outputs: None leaves the head away: the output is what it would read.
        hidden: widths; without a head at least one.

    Attributes:
        width: of the features before the head.
        on_cpu: how a batch of tasks with weights of their own is fastest there, see ``choose``.
    """

    convolutional = False
    on_cpu = "vmap"
    norm = "none"

    def __init__(self, inputs: int, outputs: int | None, hidden: tuple[int, ...] = (40, 40)):
        super().__init__()
        if not isinstance(hidden, (tuple, list)):
            raise InvalidArgumentError(
                f"hidden={hidden!r} has to be a tuple of widths, one a layer, such as (40, 40)."
            )
        widths = [check_positive("inputs", inputs), *(check_positive("hidden", n) for n in hidden)]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.width = widths[-1]
        self.head = nn.Identity() if outputs is None else nn.Linear(self.width, outputs)

    def features(self, x: torch.Tensor, context: int | None = None) -> torch.Tensor:
        """[N, ...] to [N, width]; there is no normalisation, so ``context`` says nothing."""
        x = x.flatten(1)
        for layer in self.layers:
            x = F.relu(layer(x))
        return x

    def forward(self, x: torch.Tensor, context: int | None = None) -> torch.Tensor:
        """[N, ...] to [N, outputs]."""
        output: torch.Tensor = self.head(self.features(x))
        return output


class Norm(nn.Module):
    """Batch normalisation with the statistics that ``kind`` says; see ``NetworkConfig.norm``."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        if kind == "running":
            self.register_buffer("mean", torch.zeros(channels))
            self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: torch.Tensor, context: int | None = None) -> torch.Tensor:
        """[N, C, H, W] to the same; with "support", of statistics of the first ``context``."""
        if self.kind == "running":
            return F.batch_norm(
                x, self.mean, self.variance, self.weight, self.bias, training=self.training
            )
        # Not F.batch_norm: below vmap, its second derivatives are wrong (torch 2.13).
        seen = x if self.kind == "batch" else x[:context]
        variance, mean = torch.var_mean(seen, dim=(0, 2, 3), correction=0)
        scale = self.weight * torch.rsqrt(variance + 1e-5)
        shift = self.bias - mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


class Conv4(nn.Module):
    """Four blocks of 3 × 3 convolution, normalisation and ReLU; its last layer is ``head``.

    Args:
        input_shape: of an image: (height, width), or (channels, height, width).
        outputs: None leaves the head away: the output is what it would read.
        filters, pooling, norm: see ``NetworkConfig``.

    Attributes:
        width: of the features before the head.
        on_cpu: how a batch of tasks with weights of their own is fastest there, see ``choose``.

    Raises:
        InvalidArgumentError: the shape is not an image's, or the image is too small to pool.
    """

    convolutional = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int | None,
        filters: int = 64,
        pooling: str = "stride",
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if len(input_shape) not in (2, 3):
            raise InvalidArgumentError(
                f"Conv4 takes images; input_shape={tuple(input_shape)} is not (height, width) or "
                "(channels, height, width)."
            )
        self.pooling = check_choice("pooling", pooling, POOLINGS)
        self.norm = check_choice("norm", norm, NORMS)
        self.on_cpu = "chunk" if pooling == "stride" else "loop"
        self.image_shape = (1,) * (3 - len(input_shape)) + tuple(input_shape)
        channels = [self.image_shape[0]] + [check_positive("filters", filters)] * BLOCKS
        stride = 2 if pooling == "stride" else 1
        self.convolutions = nn.ModuleList(
            # A bias before batch normalisation would have no effect.
            nn.Conv2d(a, b, 3, stride=stride, padding=1, bias=norm == "none")
            for a, b in pairwise(channels)
        )
        self.norms = nn.ModuleList(
            nn.Identity() if norm == "none" else Norm(filters, norm) for _ in range(BLOCKS)
        )
        self.width = filters
        if pooling == "max":
            sides = [side // 2**BLOCKS for side in self.image_shape[1:]]
            if not all(sides):
                raise InvalidArgumentError(
                    f"Images of {self.image_shape[1]} × {self.image_shape[2]} cannot be pooled "
                    f"{BLOCKS} times; choose pooling='stride'."
                )
            self.width *= math.prod(sides)
        self.head = nn.Identity() if outputs is None else nn.Linear(self.width, outputs)
        if norm == "running":  # one batch for all tasks: this layout is faster, twice so on a CPU
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, x: torch.Tensor, context: int | None = None) -> torch.Tensor:
        """Images [N, *input_shape] to [N, width].

        Args:
            x: the images.
            context: with ``norm="support"``, how many of them, at the front, are the support
                set; None: all.
        """
        x = x.reshape(-1, *self.image_shape)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = convolution(x)
            x = norm(x, context) if isinstance(norm, Norm) else x
            # The maximum first: the same numbers, a quarter of the ReLUs.
            x = F.relu(F.max_pool2d(x, 2) if self.pooling == "max" else x)
        return x.mean((2, 3)) if self.pooling == "stride" else x.flatten(1)

    def forward(self, x: torch.Tensor, context: int | None = None) -> torch.Tensor:
        """Images [N, *input_shape] to [N, outputs]; ``context`` as in ``features``."""
        output: torch.Tensor = self.head(self.features(x, context))
        return output


def make_network(
    shape: TaskShape, config: NetworkConfig, outputs: int | None = None
) -> MLP | Conv4:
    """The network that ``config`` describes, for the inputs of ``shape``.

    Args:
        shape: of the tasks.
        config: which network.
        outputs: None leaves the head away.
    """
    name = check_choice("network", config.network, ("auto", "mlp", "conv4"))
    is_image = len(shape.input_shape) > 1
    if name == "conv4" or (name == "auto" and is_image):
        return Conv4(shape.input_shape, outputs, config.filters, config.pooling, config.norm)
    return MLP(math.prod(shape.input_shape), outputs, config.hidden)
