"""The networks that chains of convolutions stand for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from metagym.architectures.chain_layers import Layer, unread
from metagym.architectures.images import check_images


class ChainNetwork(nn.Module):
    """Images [B, channels, height, width] to outputs [B, K].

    Args:
        layers: of a complete architecture.
        input_shape: (channels, height, width) of an image.
        outputs: K.
    """

    def __init__(self, layers: Sequence[Layer], input_shape: Sequence[int], outputs: int) -> None:
        super().__init__()
        (image, _, _), outputs = check_images(input_shape, outputs)
        self._inputs = [layer.inputs for layer in layers]
        self._last = unread(layers)
        self.layers = nn.ModuleList()
        channels: list[int] = []
        for layer in layers:
            read = sum(channels[j] for j in layer.inputs) if layer.inputs else image
            self.layers.append(_module(layer, read))
            channels.append(layer.filters if layer.type == "conv" else read)
        self.head = nn.Linear(sum(channels[i] for i in self._last), outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        states: list[torch.Tensor] = []
        for layer, inputs in zip(self.layers, self._inputs, strict=True):
            read = concatenate([states[j] for j in inputs]) if inputs else images
            states.append(layer(read))
        features: torch.Tensor = concatenate([states[i] for i in self._last]).mean(dim=(2, 3))
        result: torch.Tensor = self.head(features)
        return result


def concatenate(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Maps [B, C_i, H_i, W_i] along the channels, with zeros to the right of and below small ones.

    Returns:
        [B, sum of C_i, largest H_i, largest W_i].
    """
    if len(maps) == 1:
        return maps[0]
    height, width = (max(each.shape[axis] for each in maps) for axis in (2, 3))
    return torch.cat(
        [
            nn.functional.pad(each, (0, width - each.shape[3], 0, height - each.shape[2]))
            for each in maps
        ],
        dim=1,
    )


def _module(layer: Layer, channels: int) -> nn.Module:
    if layer.type == "batch_norm":
        return nn.BatchNorm2d(channels)
    size = (layer.height, layer.width)
    stride = (layer.stride_height or 1, layer.stride_width or 1)
    padding = (layer.height // 2, layer.width // 2)
    if layer.type == "pool":
        return nn.MaxPool2d(size, stride, padding)
    convolution = nn.Conv2d(channels, layer.filters, size, stride, padding, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(layer.filters), nn.ReLU(inplace=True))
