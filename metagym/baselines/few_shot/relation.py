"""Relation networks (Sung et al. 2018): the comparison of two embeddings is learned as well.

The embedding of an image keeps its positions, and a small network reads the maps of a class and
of a query, laid on one another, as one image. The first layer of that network is linear, and its
sum over a pair is a sum of two parts; each part is computed once for a class or a query, not
once a pair.

Lecture topic: meta-learning, learning to compare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.nn import functional as F

from metagym.baselines.few_shot.base import TaskShape
from metagym.baselines.few_shot.embedding import EmbeddingConfig, report
from metagym.baselines.few_shot.functional import choose, map_tasks
from metagym.baselines.few_shot.metric import MetricMethod, class_means
from metagym.baselines.few_shot.networks import Norm
from metagym.errors import check_choice
from metagym.tasks.few_shot import Tasks


@dataclass(frozen=True)
class RelationConfig(EmbeddingConfig):
    """Relation networks.

    Args:
        norm: of all convolutions. "support" has no meaning here: a pair is half a query.
        units: of the layer before the relation score.
    """

    norm: Literal["batch", "running", "none"] = "running"  # type: ignore[assignment]
    units: int = 8


class RelationNetwork(MetricMethod):
    """A learned score of how well a query fits to the mean of a class's embeddings.

    (The paper takes their sum; with the mean a network may be tested with other shots than it was
    trained with.) The score is pulled towards 1 and 0 by squared error, as in the paper.
    """

    name = "relation"
    Config = RelationConfig
    config: RelationConfig

    def __init__(self, shape: TaskShape, config: RelationConfig | None = None) -> None:
        super().__init__(shape, config)
        maps = self.embedding.output_shape if isinstance(self.embedding, Maps) else None
        self.relation = Relation(self.embedding.width, maps, self.config)

    def _make_embedding(self) -> Any:
        check_choice("norm", self.config.norm, ("batch", "running", "none"))
        network = super()._make_embedding()
        return Maps(network.image_shape, self.config) if network.convolutional else network

    def compare(
        self, support: torch.Tensor, members: torch.Tensor, query: torch.Tensor
    ) -> torch.Tensor:
        classes = class_means(support.flatten(2), members).unflatten(2, support.shape[2:])
        if not self.transductive:
            return cast(torch.Tensor, self.relation(classes, query))
        how = choose("auto", query.device, on_cpu="loop")
        one = lambda *task: self.relation(*(x[None] for x in task))[0]  # noqa: E731
        return cast(torch.Tensor, map_tasks(one, [classes, query], how))

    def meta_loss(
        self, tasks: Tasks, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logits = self.predict(tasks)
        targets = F.one_hot(tasks.query_y, logits.shape[-1]).to(logits.dtype)
        return report((logits.sigmoid() - targets).square().mean(), logits, tasks)


class Maps(nn.Module):
    """Conv-4 that pools in its first two blocks only and keeps the positions.

    Attributes:
        width: numbers in an embedding.
        output_shape: of an embedding: filters, height, width.
    """

    convolutional = True

    def __init__(self, image_shape: tuple[int, ...], config: RelationConfig) -> None:
        super().__init__()
        self.norm, self.image_shape, filters = config.norm, image_shape, config.filters
        inputs = (image_shape[0], filters, filters, filters)
        self.blocks = nn.ModuleList(
            _Block(n, config, shrink=index < 2) for index, n in enumerate(inputs)
        )
        self.output_shape = (filters, *(-(-side // 4) for side in image_shape[1:]))
        self.width = math.prod(self.output_shape)
        if config.norm == "running":
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: torch.Tensor, context: int | None = None) -> torch.Tensor:
        """Images [n, *input_shape] to maps [n, *output_shape]."""
        x = x.reshape(-1, *self.image_shape)
        for block in self.blocks:
            x = block(x)
        return x


class Relation(nn.Module):
    """The score of every pair of a class and a query, before the sigmoid.

    Args:
        width: numbers in an embedding.
        maps: its shape if it is an image's (filters, height, width); None: a vector.
        config: filters, norm, pooling and units.
    """

    def __init__(self, width: int, maps: tuple[int, ...] | None, config: RelationConfig) -> None:
        super().__init__()
        self.of_class: nn.Module
        self.of_query: nn.Module
        self.pair: nn.Module
        if maps is None:
            self.of_class, self.of_query = nn.Linear(width, width), nn.Linear(width, width)
            self.pair = nn.ReLU()
        else:
            filters = config.filters
            self.of_class, self.of_query = (
                nn.Conv2d(maps[0], filters, 3, padding=1, bias=config.norm == "none")
                for _ in range(2)
            )
            self.pair = nn.Sequential(
                *_after_convolution(filters, config, pool=True), _Block(filters, config, True)
            )
            sides = (-(-side // 4) for side in maps[1:])
            width = filters * math.prod(sides)
        self.score = nn.Sequential(
            nn.Linear(width, config.units), nn.ReLU(), nn.Linear(config.units, 1)
        )

    def forward(self, classes: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """[B, ways, …] and [B, Q, …] to [B, Q, ways]."""
        of_class = self.of_class(classes.flatten(0, 1)).unflatten(0, classes.shape[:2])
        of_query = self.of_query(query.flatten(0, 1)).unflatten(0, query.shape[:2])
        pairs = of_class[:, None] + of_query[:, :, None]
        scores = self.score(self.pair(pairs.flatten(0, 2)).flatten(1))
        return cast(torch.Tensor, scores.view(pairs.shape[:3]))


class _Block(nn.Sequential):
    """3 × 3 convolution, normalisation, pooling, ReLU; ``shrink`` halves the sides, rounded up."""

    def __init__(self, inputs: int, config: RelationConfig, shrink: bool) -> None:
        strided = shrink and config.pooling == "stride"
        convolution = nn.Conv2d(
            inputs, config.filters, 3, stride=2 if strided else 1, padding=1,
            bias=config.norm == "none",
        )  # fmt: skip
        pool = shrink and not strided
        super().__init__(convolution, *_after_convolution(config.filters, config, pool))


def _after_convolution(filters: int, config: RelationConfig, pool: bool) -> list[nn.Module]:
    norm = nn.Identity() if config.norm == "none" else Norm(filters, config.norm)
    return [norm, *([nn.MaxPool2d(2, ceil_mode=True)] if pool else []), nn.ReLU()]
