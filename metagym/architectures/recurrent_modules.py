"""Recurrent cells as torch modules: trees, ENAS's graphs, and torch's own RNN, GRU and LSTM.

All read a sequence with one call and hand back the state behind it, so that one language model
holds any of them. What depends on x alone is one matrix product for all time steps.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from metagym.architectures.recurrent_tree import Tree
from metagym.errors import check_choice, check_positive

State = tuple[Tensor, ...]  # each [batch, width]; the first is h
Function = Callable[[Tensor], Tensor]

_ACTIVATIONS: dict[str, Function] = {
    "identity": lambda x: x,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
}
_COMBINATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"add": torch.add, "mult": torch.mul}
BASELINES = ("rnn", "gru", "lstm")


class RecurrentCell(nn.Module, ABC):
    """A cell that reads sequences.

    Attributes:
        inputs: features of x(t).
        width: features of h(t).
        states: how many tensors the state has.
    """

    states: int

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.inputs = check_positive("inputs", inputs)
        self.width = check_positive("width", width)

    @abstractmethod
    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Read [T, batch, inputs]; the outputs [T, batch, width] and the state behind the last.

        ``state`` is what an earlier call gave back; None: zeros.
        """

    def initial(self, x: Tensor) -> State:
        """The state before the sequences [T, batch, inputs]: zeros."""
        return tuple(x.new_zeros(x.shape[1], self.width) for _ in range(self.states))


class TreeCell(RecurrentCell):
    """The cell of a ``Tree``; ``recurrent_tree`` says what it computes.

    Attributes:
        input_weight: W of all leaves, [leaves, width, inputs].
        hidden_weight: U of all leaves, [leaves, width, width].
        bias: b of all leaves, [leaves, width], or None.
    """

    states = 2

    def __init__(self, tree: Tree, inputs: int, width: int, bias: bool = True) -> None:
        super().__init__(inputs, width)
        self.tree = tree
        self.leaves = leaves = (len(tree.nodes) + 1) // 2
        self.input_weight = nn.Parameter(torch.empty(leaves, width, inputs))
        self.hidden_weight = nn.Parameter(torch.empty(leaves, width, width))
        self.bias = nn.Parameter(torch.empty(leaves, width)) if bias else None
        _initialise(self)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        h, c = self.initial(x) if state is None else state
        size = self.leaves * self.width
        weight = self.hidden_weight.reshape(size, self.width)
        bias = None if self.bias is None else self.bias.reshape(size)
        read = functional.linear(x, self.input_weight.reshape(size, self.inputs))
        outputs = []
        for now in read.unbind(0):  # [batch, leaves · width]
            h, c = self._step(now, functional.linear(h, weight, bias), c)
            outputs.append(h)
        return torch.stack(outputs), (h, c)

    def _step(self, now: Tensor, before: Tensor, c: Tensor) -> State:
        values: list[Tensor] = []
        memory = c
        leaves = list(zip(now.chunk(self.leaves, 1), before.chunk(self.leaves, 1), strict=True))
        for node, (combination, activation) in enumerate(self.tree.nodes):
            first = 2 * (node - self.leaves)
            pair = leaves[node] if first < 0 else (values[first], values[first + 1])
            combined = _COMBINATIONS[combination](*pair)
            if node == self.tree.memory:
                memory = combined
            value = _ACTIVATIONS[activation](combined)
            if node == self.tree.injected:
                combination, activation = self.tree.inject
                value = _ACTIVATIONS[activation](_COMBINATIONS[combination](value, c))
            values.append(value)
        return values[-1], memory


class ENASCell(RecurrentCell):
    """The cell of ENAS's graph; ``enas_rnn`` says what it computes.

    Args:
        nodes: for each node the index of the node that it reads (-1 for node 0), and its
            activation.
        inputs, width, bias: see ``RecurrentSpace.build``.

    Attributes:
        input_weight: what node 0 does to x(t), [2 width, inputs]: W, then V.
        weights: what each node does to the node that it reads, [2 width, width] each.
        biases: [2 width] each; empty without.
    """

    states = 1

    def __init__(
        self, nodes: tuple[tuple[int, str], ...], inputs: int, width: int, bias: bool = True
    ) -> None:
        super().__init__(inputs, width)
        self.nodes = nodes
        self.readers: dict[int, list[int]] = {}
        for node, (source, _) in enumerate(nodes):
            self.readers.setdefault(source, []).append(node)
        self.readers = dict(sorted(self.readers.items()))  # each node before what reads it
        self.loose = [node for node in range(len(nodes)) if node not in self.readers]
        self.input_weight = nn.Parameter(torch.empty(2 * width, inputs))
        self.weights = nn.ParameterList(torch.empty(2 * width, width) for _ in nodes)
        self.biases = nn.ParameterList(torch.empty(2 * width) for _ in nodes if bias)
        _initialise(self)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        (h,) = self.initial(x) if state is None else state
        read = functional.linear(x, self.input_weight)
        joined = {source: self._joined(readers) for source, readers in self.readers.items()}
        outputs = []
        for now in read.unbind(0):  # [batch, 2 width]
            h = self._step(now, h, joined)
            outputs.append(h)
        return torch.stack(outputs), (h,)

    def _step(self, now: Tensor, h: Tensor, joined: dict[int, Function]) -> Tensor:
        values = {-1: h}
        for source, readers in self.readers.items():
            both = joined[source](values[source])
            if source == -1:
                both = both + now
            candidates, gates = both.chunk(2, 1)
            for reader, candidate, gate in zip(
                readers,
                candidates.chunk(len(readers), 1),
                torch.sigmoid(gates).chunk(len(readers), 1),
                strict=True,
            ):
                value = _ACTIVATIONS[self.nodes[reader][1]](candidate)
                values[reader] = torch.lerp(values[source], value, gate)
        return torch.stack([values[node] for node in self.loose]).mean(0)

    def _joined(self, readers: list[int]) -> Function:
        """One product for all ``readers`` of a node: their W, then their V."""

        def join(parameters: nn.ParameterList) -> Tensor:
            halves = [parameters[reader].chunk(2) for reader in readers]
            return torch.cat([half[i] for i in range(2) for half in halves])

        bias = join(self.biases) if len(self.biases) else None
        return functools.partial(functional.linear, weight=join(self.weights), bias=bias)


class TorchCell(RecurrentCell):
    """torch's RNN (tanh), GRU or LSTM of one layer.

    Args:
        kind: "rnn", "gru" or "lstm".
        inputs, width, bias: see ``RecurrentSpace.build``; torch has two biases for one.
    """

    def __init__(self, kind: str, inputs: int, width: int, bias: bool = True) -> None:
        super().__init__(inputs, width)
        kinds = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
        self.module = kinds[check_choice("kind", kind, BASELINES)](inputs, width, bias=bias)
        self.states = 2 if kind == "lstm" else 1

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        layers = tuple(part[None] for part in (self.initial(x) if state is None else state))
        out, last = self.module(x, layers if self.states == 2 else layers[0])
        parts = last if self.states == 2 else (last,)
        return out, tuple(part[0] for part in parts)


def baseline(kind: str) -> Callable[[int, int], RecurrentCell]:
    """``build(inputs, width)`` of torch's cell ``kind``: "rnn", "gru" or "lstm".

    Raises:
        InvalidArgumentError: no such cell.
    """
    return functools.partial(TorchCell, check_choice("kind", kind, BASELINES))


def _initialise(cell: RecurrentCell) -> None:
    """Uniform within 1 / √width, as torch's cells."""
    for parameter in cell.parameters():
        nn.init.uniform_(parameter, -(cell.width**-0.5), cell.width**-0.5)
