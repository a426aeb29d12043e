"""Pieces that several multi-task networks are made of.

All are plain perceptrons: what the lectures compare is what tasks share, not the layers. Batches
of several tasks pass a shared module as one batch, so that its cost is one pass, not one per task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from metagym.baselines.multitask.data import TasksShape
from metagym.errors import InvalidArgumentError, check_positive


def mlp(inputs: int, widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of ``widths``, each behind a rectifier: [n, inputs] to [n, widths[-1]].

    No width: the identity.
    """
    layers: list[nn.Module] = []
    for before, width in zip([inputs, *widths], widths, strict=False):
        layers += [nn.Linear(before, width), nn.ReLU()]
    return nn.Sequential(*layers)


def heads(width: int, shape: TasksShape) -> nn.ModuleList:
    """A linear layer for each task: [n, width] to [n, outputs]."""
    return nn.ModuleList(nn.Linear(width, outputs) for outputs in shape.outputs)


class ParallelLinear(nn.Module):
    """Several linear layers of one size as one array program, each initialised as ``nn.Linear``.

    Attributes:
        weight: [count, outputs, inputs].
        bias: [count, outputs].
    """

    def __init__(self, count: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(count, outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(count, outputs).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, inputs] for all, or [count, n, inputs], to [count, n, outputs]."""
        return torch.matmul(x, self.weight.transpose(1, 2)) + self.bias[:, None]


class ParallelMLP(nn.Module):
    """Several perceptrons of one size: [n, inputs] to [count, n, widths[-1]]."""

    def __init__(self, count: int, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = zip([inputs, *widths], widths, strict=False)
        self.layers = nn.ModuleList(ParallelLinear(count, *size) for size in sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


def apply_once(
    module: Callable[[torch.Tensor], torch.Tensor], inputs: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """``module`` of every task's batch in one pass; a tensor given to several tasks passes once.

    The latter is the case of one input and many outputs (SIMO), where tasks are several labels of
    the same examples.
    """
    distinct = {id(x): x for x in inputs}
    rows = module(torch.cat(list(distinct.values())))
    parts = rows.split([len(x) for x in distinct.values()])
    found = dict(zip(distinct, parts, strict=True))
    return [found[id(x)] for x in inputs]


def zero_penalty(inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """The penalty of a network that has none."""
    return inputs[0].new_zeros(())


def check_inputs(shape: TasksShape, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The batches as a list, if there is one [n, features] for every task.

    Raises:
        InvalidArgumentError: another number of batches, or of features.
    """
    sizes = [tuple(x.shape) for x in inputs]
    if len(sizes) != len(shape.kinds):
        raise InvalidArgumentError(
            f"The network has {len(shape.kinds)} tasks and was given {len(sizes)} batches; give "
            "an empty batch [0, features] for a task without examples."
        )
    if any(len(size) != 2 or size[1] != shape.inputs for size in sizes):
        raise InvalidArgumentError(
            f"Batches have to be [n, {shape.inputs}]; their shapes are {sizes}."
        )
    return list(inputs)


def check_widths(argument: str, widths: Sequence[int], *, empty: bool = False) -> tuple[int, ...]:
    """The widths of hidden layers as a tuple.

    Raises:
        InvalidArgumentError: a width that is no whole number of at least 1, or none at all
            unless ``empty`` allows it.
    """
    try:
        found = tuple(check_positive(argument, width) for width in widths)
    except TypeError:
        raise InvalidArgumentError(
            f"{argument}={widths!r} has to be a tuple of widths, such as (64, 64)."
        ) from None
    if not found and not empty:
        raise InvalidArgumentError(f"{argument}=() has to name at least one hidden layer.")
    return found
