"""The networks that NASNet's cells are stacked to.

Convolutions are preceded by ReLU and followed by batch normalisation, depthwise-separable ones are
applied twice, as in Zoph et al. (2018), appendix A.4. In a reduction cell the operations on the
cell's inputs have stride 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from metagym.architectures.images import check_images
from metagym.architectures.nasnet_blocks import Block, loose_ends

Pair = tuple[int, int]


class CellNetwork(nn.Module):
    """Images [B, channels, height, width] to outputs [B, K].

    Args:
        cells_of: the blocks of the normal cell and of the reduction cell.
        input_shape: (channels, height, width) of an image.
        outputs: K.
        channels: of each state in the first stack.
        cells: normal cells of a stack.
        reductions: reduction cells.
    """

    def __init__(
        self,
        cells_of: tuple[Sequence[Block], Sequence[Block]],
        input_shape: Sequence[int],
        outputs: int,
        *,
        channels: int,
        cells: int,
        reductions: int,
    ) -> None:
        super().__init__()
        (image, _, _), outputs = check_images(input_shape, outputs)
        self.stem = nn.Sequential(
            nn.Conv2d(image, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        normal, reduction = cells_of
        self.cells = nn.ModuleList()
        read, halved = (channels, channels), False
        plan = ([False] * cells + [True]) * reductions + [False] * cells
        for reduces in plan:
            channels *= 1 + reduces
            blocks = reduction if reduces else normal
            cell = Cell(blocks, read, channels, stride=1 + reduces, halve_older=halved)
            self.cells.append(cell)
            read, halved = (read[1], cell.channels), reduces
        self.head = nn.Linear(read[1], outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        older = last = self.stem(images)
        for cell in self.cells:
            older, last = last, cell(older, last)
        result: torch.Tensor = self.head(torch.relu(last).mean(dim=(2, 3)))
        return result


class Cell(nn.Module):
    """A cell; its inputs are brought to its own number of channels, and to one size, first.

    Args:
        blocks: of the cell.
        read: channels of the output of the cell before the last one, and of the last one's.
        channels: of each state.
        stride: of the operations on the cell's inputs, 1 or 2.
        halve_older: the output of the cell before the last one is twice as large as the last one's.
    """

    def __init__(
        self, blocks: Sequence[Block], read: Pair, channels: int, stride: int, halve_older: bool
    ) -> None:
        super().__init__()
        older = halving if halve_older else pointwise
        taken = {state for block in blocks for state in block.states}
        self.prepare = nn.ModuleList(
            make(read[i], channels) if i in taken else nn.Identity()
            for i, make in enumerate((older, pointwise))
        )
        self.operations = nn.ModuleList()
        self.merge = nn.ModuleList()
        for block in blocks:
            for state, name in zip(block.states, block.operations, strict=True):
                self.operations.append(operation(name, channels, stride if state < 2 else 1))
            joined = block.combine == "concat"
            self.merge.append(pointwise(2 * channels, channels) if joined else nn.Identity())
        self._states = [block.states for block in blocks]
        self._joined = [block.combine == "concat" for block in blocks]
        self._ends = loose_ends(blocks)
        self.channels = channels * len(self._ends)

    def forward(self, older: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        states = [self.prepare[0](older), self.prepare[1](last)]
        for b, (first, second) in enumerate(self._states):
            left = self.operations[2 * b](states[first])
            right = self.operations[2 * b + 1](states[second])
            both = torch.cat([left, right], dim=1) if self._joined[b] else left + right
            states.append(self.merge[b](both))
        return torch.cat([states[i] for i in self._ends], dim=1)


def operation(name: str, channels: int, stride: int) -> nn.Module:
    """One of ``NASNET_OPERATIONS`` on maps [B, channels, H, W]; the size is divided by the stride
    and rounded up."""
    if name == "identity":
        return nn.Identity() if stride == 1 else halving(channels, channels)
    kind, _, sizes = name.replace("_conv", "").replace("_pool", "").partition("_")
    (height, width), *rest = [tuple(map(int, size.split("x"))) for size in sizes.split("_")]
    if kind == "max":
        return nn.MaxPool2d(height, stride, height // 2)
    if kind == "avg":
        return nn.AvgPool2d(height, stride, height // 2, count_include_pad=False)
    if kind == "sep":
        first = _separable(channels, height, stride)
        return nn.Sequential(*first, *_separable(channels, height, 1))
    if kind == "dil":
        return nn.Sequential(*_separable(channels, height, stride, dilation=2))
    if rest:  # a row of weights, then a column
        parts = [
            _convolution(channels, channels, (height, width), (1, stride)),
            _convolution(channels, channels, (width, height), (stride, 1)),
        ]
        return nn.Sequential(nn.ReLU(), *parts, nn.BatchNorm2d(channels))
    square = _convolution(channels, channels, (height, width), (stride, stride))
    return nn.Sequential(nn.ReLU(), square, nn.BatchNorm2d(channels))


def pointwise(read: int, channels: int) -> nn.Module:
    """ReLU, a 1×1 convolution, batch normalisation."""
    convolution = nn.Conv2d(read, channels, 1, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(channels))


def halving(read: int, channels: int) -> nn.Module:
    """``pointwise`` with half the height and width, rounded up."""
    return nn.Sequential(nn.ReLU(), Halving(read, channels), nn.BatchNorm2d(channels))


class Halving(nn.Module):
    """1×1 convolutions of stride 2 that together read a map's two diagonals, not just a quarter.

    One reads the pixels in even rows and columns, the other those in odd ones; each gives half of
    the channels (NASNet's factorised reduction).
    """

    def __init__(self, read: int, channels: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(read, channels - channels // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(read, channels // 2, 1, stride=2, bias=False) if channels > 1 else None

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        even: torch.Tensor = self.even(maps)
        if self.odd is None:
            return even
        shifted = nn.functional.pad(maps, (0, 1, 0, 1))[:, :, 1:, 1:]
        return torch.cat([even, self.odd(shifted)], dim=1)


def _separable(channels: int, size: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    depthwise = nn.Conv2d(
        channels, channels, size, stride, dilation * (size // 2), dilation, channels, bias=False
    )
    points = nn.Conv2d(channels, channels, 1, bias=False)
    return [nn.ReLU(), depthwise, points, nn.BatchNorm2d(channels)]


def _convolution(read: int, channels: int, size: Pair, stride: Pair) -> nn.Conv2d:
    padding = (size[0] // 2, size[1] // 2)
    return nn.Conv2d(read, channels, size, stride, padding, bias=False)
