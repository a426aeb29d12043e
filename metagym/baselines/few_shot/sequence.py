"""A network that reads the support set as a sequence and then answers, in one forward pass.

A plain LSTM (Hochreiter et al. 2001; Santoro et al. 2016 without their offset of the labels) and
SNAIL (Mishra et al. 2018). The examples (x_i, y_i) come in a random order; the last of a sequence
is a query, whose y is left empty. All queries of a task follow the same support set, which is
therefore read once, and no query sees another.

Lecture topic: meta-learning, learning the learner: training and test data in one forward pass.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import nn
from torch.nn import functional as F

from metagym.baselines.few_shot.base import FewShotMethod, TaskShape, check_ways, per_task_loss
from metagym.baselines.few_shot.embedding import (
    EmbeddingConfig,
    embed,
    is_transductive,
    make_embedding,
    report,
    shuffle_support,
)
from metagym.errors import check_positive
from metagym.rl.memory import Attention, CausalConvolution, gate
from metagym.tasks.few_shot import Tasks


class SequenceMethod(FewShotMethod):
    """An embedding of the inputs and a reader of sequences; classification or regression.

    Ways are fixed, since a label is read and written as one of ``shape.outputs`` units; shots
    may differ from training.
    """

    Config: ClassVar[type] = EmbeddingConfig
    config: EmbeddingConfig

    def __init__(self, shape: TaskShape, config: Any = None) -> None:
        super().__init__(shape, config)
        self.embedding = make_embedding(shape, self.config)
        self.transductive = is_transductive(self.embedding)
        self._build(self.embedding.width + shape.outputs)

    @abstractmethod
    def _build(self, inputs: int) -> None:
        """Make the reader of sequences whose elements have the length ``inputs``."""

    @abstractmethod
    def read(self, support: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """What follows from each query behind the whole support set.

        Args:
            support: embedded inputs with their targets, [B, S, inputs], in the order of reading.
            query: embedded inputs with zeros in their place, [B, Q, inputs].

        Returns:
            Logits or values [B, Q, outputs].
        """

    def meta_loss(
        self, tasks: Tasks, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        predictions = self._answer(shuffle_support(tasks, generator))
        loss = per_task_loss(self.shape.kind, predictions, tasks.query_y).mean()
        return report(loss, predictions, tasks, self.shape.kind)

    def predict(self, tasks: Tasks) -> torch.Tensor:
        return self._answer(shuffle_support(tasks))

    def _answer(self, tasks: Tasks) -> torch.Tensor:
        check_ways(tasks, self.shape, self.name)
        support, query = embed(self.embedding, self.embedding.norm, tasks)
        targets = tasks.support_y
        if self.shape.kind == "classification":
            targets = F.one_hot(targets, self.shape.outputs)
        return self.read(
            torch.cat([support, targets.to(support.dtype)], -1),
            F.pad(query, (0, self.shape.outputs)),
        )


@dataclass(frozen=True)
class LSTMConfig(EmbeddingConfig):
    """A plain LSTM.

    Args:
        width: of each layer.
        layers: of the LSTM.
    """

    width: int = 128
    layers: int = 1

    def __post_init__(self) -> None:
        check_positive("width", self.width)
        check_positive("layers", self.layers)


class LSTMMethod(SequenceMethod):
    """A long short-term memory whose state, after the support set, is what has been learned."""

    name = "lstm"
    Config = LSTMConfig
    config: LSTMConfig

    def _build(self, inputs: int) -> None:
        self.lstm = nn.LSTM(inputs, self.config.width, self.config.layers, batch_first=True)
        with torch.no_grad():  # remember at first (Jozefowicz et al. 2015)
            for layer in range(self.config.layers):
                bias = getattr(self.lstm, f"bias_hh_l{layer}")
                bias[self.config.width : 2 * self.config.width] = 1.0
        self.head = nn.Linear(self.config.width, self.shape.outputs)

    def read(self, support: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        count, size = query.shape[:2]
        _, (hidden, cell) = self.lstm(support)
        hidden, cell = (state.repeat_interleave(size, dim=1) for state in (hidden, cell))
        features, _ = self.lstm(query.reshape(count * size, 1, -1), (hidden, cell))
        return cast(torch.Tensor, self.head(features)).view(count, size, -1)


@dataclass(frozen=True)
class SNAILConfig(EmbeddingConfig):
    """SNAIL with the blocks of the paper's few-shot experiments, whose widths are the defaults.

    Args:
        width: filters of each causal convolution.
        attention: length of queries, keys and values of the three attention blocks. (In the
            paper the values are 32, 128 and 256 long, and the others twice that, 64, at first.)
    """

    width: int = 128
    attention: tuple[int, int, int] = (32, 128, 256)

    def __post_init__(self) -> None:
        for size in (self.width, *self.attention):
            check_positive("width and attention", size)


class SNAILMethod(SequenceMethod):
    """Causal convolutions and attention by turns: attention first, last and in between."""

    name = "snail"
    Config = SNAILConfig
    config: SNAILConfig

    def _build(self, inputs: int) -> None:
        layers: list[CausalConvolution | Attention] = []
        dilations = [2**i for i in range(max(1, math.ceil(math.log2(self.shape.support + 1))))]
        for block, attention in enumerate(self.config.attention):
            for dilation in dilations if block else []:
                layers.append(CausalConvolution(inputs, self.config.width, dilation))
                inputs += self.config.width
            layers.append(Attention(inputs, attention))
            inputs += attention
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(inputs, self.shape.outputs)

    def read(self, support: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            follow = _convolve if isinstance(layer, CausalConvolution) else _attend
            of_query = follow(layer, support, query)  # type: ignore[arg-type]
            query = torch.cat([query, of_query], -1)
            support = torch.cat([support, layer(support)], -1)
        return cast(torch.Tensor, self.head(query))


def _convolve(layer: CausalConvolution, support: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """The layer's output for queries [B, Q, inputs], each right behind the support set."""
    both = layer.now(query)
    if layer.dilation <= support.shape[1]:
        both = both + layer.then(support[:, -layer.dilation])[:, None]
    return gate(both)


def _attend(layer: Attention, support: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """The layer's output for queries, each of which sees the support set and itself."""
    asked, own = layer.query(query), layer.key(query)
    scores = torch.cat(
        [
            torch.einsum("bqk,bsk->bqs", asked, layer.key(support)),
            (asked * own).sum(-1, keepdim=True),
        ],
        dim=-1,
    )
    weights = torch.softmax(scores / own.shape[-1] ** 0.5, dim=-1)
    read = torch.einsum("bqs,bsv->bqv", weights[..., :-1], layer.value(support))
    return read + weights[..., -1:] * layer.value(query)
