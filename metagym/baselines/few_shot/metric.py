"""Learning to compare: an embedding is meta-trained, and learning a task is one forward pass.

Siamese networks (Koch et al. 2015), matching networks (Vinyals et al. 2016) and prototypical
networks (Snell et al. 2017); ``relation.py`` has those that learn the comparison as well. All
tasks of a batch are embedded at once, and what a method does with the embeddings is a function of
arrays over tasks. The number of ways is read off the support set, so that one may train with more
ways than are tested.

Lecture topic: meta-learning, learning to compare.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional as F

from metagym.baselines.few_shot.base import FewShotMethod, TaskShape, check_tasks, per_task_loss
from metagym.baselines.few_shot.embedding import (
    EmbeddingConfig,
    embed,
    is_transductive,
    make_embedding,
    report,
    shuffle_support,
)
from metagym.errors import InvalidArgumentError, check_above_zero, check_choice, check_positive
from metagym.tasks.few_shot import Tasks

# -- functions of embeddings -------------------------------------------------------------------


def class_members(labels: torch.Tensor) -> torch.Tensor:
    """Which example is of which class: labels [B, S] to booleans [B, S, ways].

    There are as many ways as the highest label says.

    Raises:
        InvalidArgumentError: there are no labels, a negative one, or a class of a task has no
            example.
    """
    if not labels.numel():
        raise InvalidArgumentError(f"A support set of shape {tuple(labels.shape)} is empty.")
    ways = torch.arange(int(labels.max()) + 1, device=labels.device)
    members = labels.unsqueeze(-1) == ways
    if len(ways) == 0 or not bool(members.any(1).all() & members.any(-1).all()):
        raise InvalidArgumentError(
            f"The support labels of a task have to be 0 … {max(1, len(ways)) - 1}, each of them "
            f"at least once; one task has {_odd_one(labels, len(ways))}."
        )
    return members


def class_means(support: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
    """The mean of each class: [B, S, D] and [B, S, ways] to [B, ways, D]."""
    weights = members.to(support.dtype)
    weights = weights / weights.sum(1, keepdim=True)
    return torch.einsum("bsn,bsd->bnd", weights, support)


def squared_distances(query: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """|q - p|² of all pairs: [B, Q, D] and [B, N, D] to [B, Q, N], never below 0."""
    products = torch.einsum("bqd,bnd->bqn", query, points)
    lengths = query.square().sum(-1)[:, :, None] + points.square().sum(-1)[:, None]
    return (lengths - 2.0 * products).clamp(min=0.0)


def cosine_similarities(query: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """The cosine of the angle of all pairs: [B, Q, D] and [B, N, D] to [B, Q, N]."""
    return torch.einsum("bqd,bnd->bqn", F.normalize(query, dim=-1), F.normalize(points, dim=-1))


def best_of_class(scores: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
    """The highest score in each class: [B, Q, S] and [B, S, ways] to [B, Q, ways]."""
    return _spread(scores, members).amax(2)


def attention_log_probabilities(scores: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
    """The log of each class's share of a softmax over the support set.

    Args:
        scores: of the support examples for each query example, [B, Q, S].
        members: [B, S, ways].

    Returns:
        [B, Q, ways]; with one-hot labels y_i, the log of Σ_i a(x, x_i) y_i.
    """
    return _spread(F.log_softmax(scores, -1), members).logsumexp(2)


# -- the methods -------------------------------------------------------------------------------


class MetricMethod(FewShotMethod):
    """An embedding, and a comparison of embedded queries with the embedded support set.

    Raises:
        InvalidArgumentError: the tasks are no classification.
    """

    Config: ClassVar[type] = EmbeddingConfig
    config: EmbeddingConfig

    def __init__(self, shape: TaskShape, config: Any = None) -> None:
        super().__init__(shape, config)
        if shape.kind != "classification":
            raise InvalidArgumentError(
                f"{self.name} compares examples of classes; kind={shape.kind!r} needs a method "
                "that adapts or reads sequences, such as 'maml' or 'lstm'."
            )
        self.embedding = self._make_embedding()
        self.transductive = is_transductive(self.embedding)

    def _make_embedding(self) -> Any:
        """The network that embeds; it has a ``norm`` and a ``width``."""
        return make_embedding(self.shape, self.config)

    @abstractmethod
    def compare(
        self, support: torch.Tensor, members: torch.Tensor, query: torch.Tensor
    ) -> torch.Tensor:
        """Logits [B, Q, ways] of embeddings [B, S, D] and [B, Q, D]; members are [B, S, ways]."""

    def embed(self, tasks: Tasks) -> tuple[torch.Tensor, torch.Tensor]:
        """Support and query sets, embedded: [B, S, D] and [B, Q, D]."""
        check_tasks(tasks, self.shape)
        return embed(self.embedding, self.embedding.norm, tasks)

    def meta_loss(
        self, tasks: Tasks, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logits = self.predict(tasks)
        return report(per_task_loss("classification", logits, tasks.query_y).mean(), logits, tasks)

    def predict(self, tasks: Tasks) -> torch.Tensor:
        support, query = self.embed(tasks)
        return self.compare(support, class_members(tasks.support_y), query)


@dataclass(frozen=True)
class PrototypicalConfig(EmbeddingConfig):
    """Prototypical networks.

    Args:
        distance: the squared "euclidean" one, or "cosine", which the paper finds to be worse.
        scale: what cosine similarities, which are at most 1, are multiplied by.
    """

    distance: Literal["euclidean", "cosine"] = "euclidean"
    scale: float = 10.0

    def __post_init__(self) -> None:
        check_choice("distance", self.distance, ("euclidean", "cosine"))
        check_above_zero("scale", self.scale)


class PrototypicalNetwork(MetricMethod):
    """A query belongs to the class whose mean embedding is nearest (Snell et al. 2017, eq. 1-2)."""

    name = "prototypical"
    Config = PrototypicalConfig
    config: PrototypicalConfig

    def compare(
        self, support: torch.Tensor, members: torch.Tensor, query: torch.Tensor
    ) -> torch.Tensor:
        prototypes = class_means(support, members)
        if self.config.distance == "cosine":
            return self.config.scale * cosine_similarities(query, prototypes)
        return -squared_distances(query, prototypes)


@dataclass(frozen=True)
class MatchingConfig(EmbeddingConfig):
    """Matching networks.

    Args:
        full_context: embed each example in the light of the whole support set.
        reads: how often a query's LSTM reads the support set, K in the paper's appendix.
        scale: of the cosine similarities in the softmax. The paper's equation has none, and then
            no answer can be sure: a class's share of five is at most e / (e + 4/e).
    """

    full_context: bool = False
    reads: int = 5
    scale: float = 10.0

    def __post_init__(self) -> None:
        check_positive("reads", self.reads)
        check_above_zero("scale", self.scale)


class MatchingNetwork(MetricMethod):
    """Attention over the support set by cosine similarity (Vinyals et al. 2016, equation 1).

    Full-context embeddings read the support set in an order; see ``shuffle_support``.
    """

    name = "matching"
    Config = MatchingConfig
    config: MatchingConfig

    def __init__(self, shape: TaskShape, config: MatchingConfig | None = None) -> None:
        super().__init__(shape, config)
        self.context: FullContext | None = None
        if self.config.full_context:
            self.context = FullContext(self.embedding.width, self.config.reads)

    @property
    def label(self) -> str:
        label = super().label
        return label.replace(self.name, "matching + FCE") if self.context else label

    def meta_loss(
        self, tasks: Tasks, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if self.context is None:
            return super().meta_loss(tasks, generator)
        logits = super().predict(shuffle_support(tasks, generator))
        return report(per_task_loss("classification", logits, tasks.query_y).mean(), logits, tasks)

    def predict(self, tasks: Tasks) -> torch.Tensor:
        return super().predict(tasks if self.context is None else shuffle_support(tasks))

    def compare(
        self, support: torch.Tensor, members: torch.Tensor, query: torch.Tensor
    ) -> torch.Tensor:
        if self.context is not None:
            support, query = self.context(support, query)
        similarities = cosine_similarities(query, support)
        return attention_log_probabilities(self.config.scale * similarities, members)


class FullContext(nn.Module):
    """Embeddings that know the support set (Vinyals et al. 2016, appendix A.1 and A.2).

    Args:
        size: of an embedding.
        reads: how often a query reads the support set.
    """

    def __init__(self, size: int, reads: int) -> None:
        super().__init__()
        self.reads = reads
        self.both_ways = nn.LSTM(size, size, batch_first=True, bidirectional=True)
        # The paper's state [h, r] stands behind the input: the same sums, in one matrix.
        self.attend = nn.LSTMCell(2 * size, size)

    def forward(
        self, support: torch.Tensor, query: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, S, D] and [B, Q, D], each to the same shape; the query's examples stay apart."""
        forward, backward = self.both_ways(support)[0].chunk(2, dim=-1)
        support = forward + backward + support
        flat = query.flatten(0, 1)
        hidden, read, cell = flat, torch.zeros_like(flat), torch.zeros_like(flat)
        for _ in range(self.reads):
            state, cell = self.attend(torch.cat([flat, read], -1), (hidden, cell))
            hidden = state + flat
            scores = torch.einsum("bqd,bsd->bqs", hidden.view_as(query), support)
            read = torch.einsum("bqs,bsd->bqd", scores.softmax(-1), support).flatten(0, 1)
        return support, hidden.view_as(query)


class SiameseNetwork(MetricMethod):
    """Two examples are of one class, or not (Koch et al. 2015): a logistic regression on |h - h'|.

    It learns from all pairs of a support and a query example, those of one class and the others
    with equal weight; a query is given to the class of its most similar support example.
    """

    name = "siamese"

    def __init__(self, shape: TaskShape, config: EmbeddingConfig | None = None) -> None:
        super().__init__(shape, config)
        size = self.embedding.width
        self.weights = nn.Parameter(torch.full((size,), 1.0 / size))
        self.bias = nn.Parameter(torch.zeros(()))

    def similarities(self, support: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """The log odds [B, Q, S] that a pair is of one class."""
        # Σ |w| |h - h'| = Σ |w h - w h'| needs no array [B, Q, S, D].
        return self.bias - torch.cdist(query * self.weights, support * self.weights, p=1.0)

    def compare(
        self, support: torch.Tensor, members: torch.Tensor, query: torch.Tensor
    ) -> torch.Tensor:
        return best_of_class(self.similarities(support, query), members)

    def meta_loss(
        self, tasks: Tasks, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        support, query = self.embed(tasks)
        pairs = self.similarities(support, query)
        same = tasks.query_y[:, :, None] == tasks.support_y[:, None]
        loss = 0.5 * (F.softplus(-pairs[same]).mean() + F.softplus(pairs[~same]).mean())
        return report(loss, best_of_class(pairs, class_members(tasks.support_y)), tasks)


# -- the inside --------------------------------------------------------------------------------


def _spread(scores: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
    """Scores [B, Q, S] by class, [B, Q, S, ways], -inf where an example is of another one."""
    return scores.unsqueeze(-1).masked_fill(~members.unsqueeze(1), -torch.inf)


def _odd_one(labels: torch.Tensor, ways: int) -> list[int]:
    """The labels of a task that lacks one of ``ways`` classes or has a negative one."""
    return next(sorted(set(row)) for row in labels.tolist() if set(row) != set(range(max(1, ways))))
