"""Cores with a memory: what stands between an agent's observations and its heads.

A core reads a sequence in two ways that give the same numbers: ``sequence`` takes whole episodes
at once, for learning, and ``step`` takes one time step and a memory, for acting. A memory is a
dict of tensors with leading axis B, so that rows can be picked and put back by indexing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import nn

Memory = dict[str, torch.Tensor]


class Core(nn.Module, ABC):
    """Observations [..., inputs] to features [..., outputs], each of which has seen the past."""

    outputs: int

    @abstractmethod
    def initial(self, rows: int, device: torch.device) -> Memory:
        """The memory of ``rows`` episodes that have not begun."""

    @abstractmethod
    def step(self, inputs: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        """One step of all rows: inputs [B, inputs] to features [B, outputs] and a new memory."""

    @abstractmethod
    def sequence(self, inputs: torch.Tensor) -> torch.Tensor:
        """Whole episodes: inputs [T, B, inputs] to features [T, B, outputs].

        Shorter episodes are filled up with anything finite: no feature sees what comes later.
        (Torch's packed sequences cost a CPU the square of T to learn from.)
        """


class GRUCore(Core):
    """A gated recurrent unit, the memory of RL² (Duan et al. 2016)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.outputs = width
        self.cell = nn.GRU(inputs, width)
        _initialise(self.cell)

    def initial(self, rows: int, device: torch.device) -> Memory:
        return {"h": torch.zeros(rows, self.outputs, device=device)}

    def step(self, inputs: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        h = torch.gru_cell(inputs, memory["h"], *_weights(self.cell))
        return h, {"h": h}

    def sequence(self, inputs: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.cell(inputs)[0])


class LSTMCore(Core):
    """A long short-term memory, as in Wang et al. (2016), Learning to reinforcement learn."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.outputs = width
        self.cell = nn.LSTM(inputs, width)
        _initialise(self.cell)
        with torch.no_grad():  # remember at first (Jozefowicz et al. 2015)
            cast(torch.Tensor, self.cell.bias_hh_l0)[width : 2 * width] = 1.0

    def initial(self, rows: int, device: torch.device) -> Memory:
        return {name: torch.zeros(rows, self.outputs, device=device) for name in ("h", "c")}

    def step(self, inputs: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        # Half the time of ``torch.lstm_cell`` on a CPU.
        last = memory["h"][None], memory["c"][None]
        features, (h, c) = self.cell(inputs[None], last)
        return features[0], {"h": h[0], "c": c[0]}

    def sequence(self, inputs: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.cell(inputs)[0])


class SNAILCore(Core):
    """Causal convolutions and attention: SNAIL (Mishra et al. 2018), figure 2 and algorithms 1-2.

    Two temporal-convolution blocks with dilations 1, 2, 4, ... up to ``length``, each followed by
    an attention block; every block adds its features to those before it. Acting keeps each
    convolution's past inputs and the attention's keys and values, so that a step costs one
    convolution per layer and one query, never a pass over the past.

    Args:
        inputs: length of an observation.
        width: filters of each convolution, and length of queries, keys and values.
        length: steps that the convolutions have to span; a longer episode is read all the same,
            by attention.
    """

    def __init__(self, inputs: int, width: int, length: int) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        size = width
        layers: list[CausalConvolution | Attention] = []
        for _ in range(2):
            for i in range(max(1, math.ceil(math.log2(max(2, length))))):
                layers.append(CausalConvolution(size, width, 2**i))
                size += width
            layers.append(Attention(size, width))
            size += width
        self.layers = nn.ModuleList(layers)
        self.outputs = size

    def initial(self, rows: int, device: torch.device) -> Memory:
        memory = {"t": torch.zeros(rows, dtype=torch.long, device=device)}
        for i, layer in enumerate(self.layers):
            for name, width in cast(CausalConvolution | Attention, layer).remembers.items():
                memory[f"{i}.{name}"] = torch.zeros(rows, 16, width, device=device)
        return memory

    def step(self, inputs: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        t = memory["t"]
        if int(t.max()) >= memory["0.past"].shape[1]:  # room for twice as many steps
            memory = {
                name: value if name == "t" else torch.cat([value, torch.zeros_like(value)], dim=1)
                for name, value in memory.items()
            }
        features = torch.relu(self.embed(inputs))
        for i, layer in enumerate(self.layers):
            own = {name: memory[f"{i}.{name}"] for name in layer.remembers}  # type: ignore[union-attr]
            features = torch.cat([features, layer.step(features, t, own)], dim=1)  # type: ignore[operator]
        return features, {**memory, "t": t + 1}

    def sequence(self, inputs: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.embed(inputs)).transpose(0, 1)  # [B, T, width]
        for layer in self.layers:
            features = torch.cat([features, layer(features)], dim=2)
        return features.transpose(0, 1)


class CausalConvolution(nn.Module):
    """A dense block: two taps, now and ``dilation`` steps ago, and a gated activation."""

    def __init__(self, inputs: int, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.remembers = {"past": inputs}
        self.now = nn.Linear(inputs, 2 * width)
        self.then = nn.Linear(inputs, 2 * width, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, T, inputs] to [B, T, width]."""
        earlier = self.then(features[:, : -self.dilation])
        both = self.now(features)
        both = both + nn.functional.pad(earlier, (0, 0, both.shape[1] - earlier.shape[1], 0))
        return gate(both)

    def step(self, features: torch.Tensor, t: torch.Tensor, own: Memory) -> torch.Tensor:
        """[B, inputs] to [B, width]; writes ``features`` into the past at ``t``."""
        rows = torch.arange(len(t), device=t.device)
        own["past"][rows, t] = features
        earlier = own["past"][rows, (t - self.dilation).clamp(min=0)]
        earlier = earlier * (t >= self.dilation)[:, None]
        return gate(self.now(features) + self.then(earlier))


class Attention(nn.Module):
    """One head of causal attention over all steps so far."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.remembers = {"keys": width, "values": width}
        self.query, self.key, self.value = (nn.Linear(inputs, width) for _ in range(3))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, T, inputs] to [B, T, width]."""
        read = nn.functional.scaled_dot_product_attention(
            self.query(features)[:, None],
            self.key(features)[:, None],
            self.value(features)[:, None],
            is_causal=True,
        )
        return read[:, 0]

    def step(self, features: torch.Tensor, t: torch.Tensor, own: Memory) -> torch.Tensor:
        """[B, inputs] to [B, width]; writes key and value at ``t``."""
        rows = torch.arange(len(t), device=t.device)
        own["keys"][rows, t] = self.key(features)
        own["values"][rows, t] = self.value(features)
        used = int(t.max()) + 1
        keys, values = own["keys"][:, :used], own["values"][:, :used]
        scores = torch.einsum("bk,btk->bt", self.query(features), keys) / keys.shape[2] ** 0.5
        later = torch.arange(used, device=t.device) > t[:, None]
        weights = torch.softmax(scores.masked_fill(later, -torch.inf), dim=1)
        return torch.einsum("bt,btk->bk", weights, values)


def make_core(kind: str, inputs: int, width: int, length: int) -> Core:
    """A core by name: "gru", "lstm" or "snail"."""
    if kind == "snail":
        return SNAILCore(inputs, width, length)
    return {"gru": GRUCore, "lstm": LSTMCore}[kind](inputs, width)


def gate(both: torch.Tensor) -> torch.Tensor:
    """Values [..., n] that their gates let through, from both of them [..., 2 n]."""
    values, gates = both.chunk(2, dim=-1)
    return torch.tanh(values) * torch.sigmoid(gates)


def _initialise(cell: nn.RNNBase) -> None:
    """Orthogonal recurrent and Glorot input weights per gate, biases 0."""
    for name, parameter in cell.named_parameters():
        if "bias" in name:
            nn.init.zeros_(parameter)
        else:
            for gate in parameter.data.split(cell.hidden_size):
                (nn.init.orthogonal_ if "hh" in name else nn.init.xavier_uniform_)(gate)


def _weights(cell: nn.RNNBase) -> tuple[torch.Tensor, ...]:
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return tuple(cast(torch.Tensor, getattr(cell, name)) for name in names)
