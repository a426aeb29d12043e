"""Controls: features of ordinary classification, with no meta-learning at all.

A network is trained to tell all training classes apart, on tasks of ``AllClasses``. What it has
learned meets a few-shot task in the two ways of Ravi & Larochelle (2017), section 5.1: by the
nearest neighbour in the space of features, or by fine-tuning on the support set.

``SinusoidOracle`` is the other end of the scale: what knowing the form of all tasks would give.

Lecture topic: meta-learning, what it has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from metagym.baselines.few_shot.base import FewShotMethod, TaskShape, check_tasks, per_task_loss
from metagym.baselines.few_shot.embedding import (
    EmbeddingConfig,
    embed,
    is_transductive,
    make_embedding,
    report,
)
from metagym.baselines.few_shot.functional import Params, adapt, choose, map_tasks
from metagym.baselines.few_shot.metric import (
    best_of_class,
    class_members,
    cosine_similarities,
    squared_distances,
)
from metagym.errors import InvalidArgumentError, check_above_zero, check_choice, check_positive
from metagym.tasks.few_shot import Tasks


@dataclass(frozen=True)
class PretrainedConfig(EmbeddingConfig):
    """A classifier of all training classes.

    Args:
        classes: how many there are: ``AllClasses.classes``, which the command line counts itself.
    """

    classes: int = 64

    def __post_init__(self) -> None:
        check_positive("classes", self.classes)


class Pretrained(FewShotMethod):
    """An embedding that was trained below a linear layer over all training classes.

    ``meta_loss`` reads classes of the data set from ``query_y`` and no support set; ``predict``
    takes few-shot tasks.
    """

    Config: ClassVar[type] = PretrainedConfig
    config: PretrainedConfig

    def __init__(self, shape: TaskShape, config: Any = None) -> None:
        super().__init__(shape, config)
        if shape.kind != "classification":
            raise InvalidArgumentError(f"{self.name} needs classes; kind={shape.kind!r}.")
        self.embedding = make_embedding(shape, self.config)
        self.transductive = is_transductive(self.embedding)
        self.head = nn.Linear(self.embedding.width, self.config.classes)

    def meta_loss(
        self, tasks: Tasks, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        check_tasks(tasks, self.shape)
        if tasks.support_x.shape[1]:
            raise InvalidArgumentError(
                f"{self.name} trains on the classes of a data set, not on few-shot tasks; give "
                "the training TrainOn(AllClasses(examples, labels), tasks)."
            )
        highest = int(tasks.query_y.max())
        if highest >= self.config.classes:
            raise InvalidArgumentError(
                f"There is a class {highest}; classes={self.config.classes} is too few."
            )
        logits = self.head(self.embedding(tasks.query_x.flatten(0, 1)))
        logits = logits.unflatten(0, tasks.query_y.shape)
        return report(per_task_loss("classification", logits, tasks.query_y).mean(), logits, tasks)

    def embed(self, tasks: Tasks) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of support and query sets, [B, S, D] and [B, Q, D]."""
        check_tasks(tasks, self.shape)
        return embed(self.embedding, self.embedding.norm, tasks)


@dataclass(frozen=True)
class NearestNeighbourConfig(PretrainedConfig):
    """Nearest neighbour on pretrained features.

    Args:
        distance: between features: "cosine" or "euclidean".
    """

    distance: Literal["cosine", "euclidean"] = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("distance", self.distance, ("cosine", "euclidean"))


class NearestNeighbour(Pretrained):
    """The class of the support example whose features are nearest."""

    name = "nearest_neighbour"
    Config = NearestNeighbourConfig
    config: NearestNeighbourConfig

    def predict(self, tasks: Tasks) -> torch.Tensor:
        support, query = self.embed(tasks)
        if self.config.distance == "cosine":
            scores = cosine_similarities(query, support)
        else:
            scores = -squared_distances(query, support)
        return best_of_class(scores, class_members(tasks.support_y))


@dataclass(frozen=True)
class FineTuningConfig(PretrainedConfig):
    """Gradient descent on the support set, from pretrained features.

    Args:
        layers: "head" trains a new linear layer on fixed features; "all" the embedding as well.
        steps: of gradient descent on the whole support set.
        lr: learning rate of "all". The head alone needs none: its loss is convex with a known
            bound of the curvature L, and a step of 1 / L always descends.
    """

    layers: Literal["head", "all"] = "head"
    steps: int = 100
    lr: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("layers", self.layers, ("head", "all"))
        check_positive("steps", self.steps)
        check_above_zero("lr", self.lr)


class FineTuning(Pretrained):
    """A new last layer, from zero, trained on the support set."""

    name = "fine_tuning"
    Config = FineTuningConfig
    config: FineTuningConfig

    def predict(self, tasks: Tasks) -> torch.Tensor:
        members = class_members(tasks.support_y)
        if self.config.layers == "head":
            support, query = self.embed(tasks)
            return fit_head(support, members, query, self.config.steps)
        check_tasks(tasks, self.shape)
        how = choose("auto", tasks.query_x.device, self.embedding.on_cpu)
        ways = members.shape[-1]

        def answer(support_x: Any, support_y: Any, query_x: Any) -> torch.Tensor:
            return self._tune_all(support_x, support_y, query_x, ways)

        predictions: torch.Tensor = map_tasks(answer, tasks[:3], how)
        return predictions

    def _tune_all(
        self, support_x: torch.Tensor, support_y: torch.Tensor, query_x: torch.Tensor, ways: int
    ) -> torch.Tensor:
        """Logits [Q, ways] of one task after the whole network was trained on its support set."""
        start: Params = {name: p.detach() for name, p in self.embedding.named_parameters()}
        start["weight"] = query_x.new_zeros(ways, self.embedding.width)
        start["bias"] = query_x.new_zeros(ways)
        context = len(support_x)

        def outputs(params: Params, x: torch.Tensor) -> torch.Tensor:
            body = {name: params[name] for name in params if name not in ("weight", "bias")}
            features = functional_call(self.embedding, body, (x,), {"context": context})
            return F.linear(features, params["weight"], params["bias"])

        def loss(params: Params) -> torch.Tensor:
            return per_task_loss("classification", outputs(params, support_x), support_y)

        rates = dict.fromkeys(start, self.config.lr)
        tuned = adapt(loss, start, [rates] * self.config.steps, first_order=True)
        return outputs(tuned, torch.cat([support_x, query_x]))[context:]


def fit_head(
    support: torch.Tensor, members: torch.Tensor, query: torch.Tensor, steps: int
) -> torch.Tensor:
    """Logits of a softmax regression that starts from zero, one for each task.

    Args:
        support: features [B, S, D].
        members: one-hot labels, [B, S, ways].
        query: features [B, Q, D].
        steps: of gradient descent with step 1 / L. The curvature is at most L = λ / 2 with λ the
            greatest eigenvalue of the mean of f fᵀ, of which the mean of |f|² is a bound.

    Returns:
        [B, Q, ways].
    """
    support, query = (F.pad(features, (0, 1), value=1.0) for features in (support, query))  # bias
    rate = 2.0 / support.square().sum(-1).mean(-1)  # [B]
    step = (rate / support.shape[1])[:, None, None]
    weights = support.new_zeros(len(support), members.shape[-1], support.shape[-1])
    for _ in range(steps):
        errors = torch.einsum("bsd,bnd->bsn", support, weights).softmax(-1) - members.to(
            support.dtype
        )
        weights = weights - step * torch.einsum("bsn,bsd->bnd", errors, support)
    return torch.einsum("bqd,bnd->bqn", query, weights)


@dataclass(frozen=True)
class OracleConfig:
    """The oracle of sinusoids, which has no settings."""


class SinusoidOracle(FewShotMethod):
    """Knows that tasks are A sin(x - φ) = a sin x + b cos x, and fits a and b by least squares.

    It is a bound and no competitor: nothing is learned, no step is taken, and results say that it
    is privileged.

    Raises:
        InvalidArgumentError: the tasks are not of one number to one number.
    """

    name = "oracle (fits a sinusoid)"
    Config = OracleConfig
    privileged = True

    def __init__(self, shape: TaskShape, config: OracleConfig | None = None) -> None:
        super().__init__(shape, config)
        if (shape.kind, shape.input_shape, shape.outputs) != ("regression", (1,), 1):
            raise InvalidArgumentError(f"{self.name}: {shape} is not the shape of sinusoids.")

    @property
    def device(self) -> torch.device:
        """The CPU: there is nothing to move."""
        return torch.device("cpu")

    def meta_loss(
        self, tasks: Tasks, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        raise InvalidArgumentError(f"{self.name} has nothing to train; judge it as it is.")

    def predict(self, tasks: Tasks) -> torch.Tensor:
        """Values [B, Q, 1] in float64, from two support examples on."""
        check_tasks(tasks, self.shape)
        support, query = (_waves(x.double()) for x in (tasks.support_x, tasks.query_x))
        weights = torch.linalg.lstsq(support, tasks.support_y.double()).solution
        return query @ weights


def _waves(x: torch.Tensor) -> torch.Tensor:
    """sin x and cos x of [..., 1], beside each other: [..., 2]."""
    return torch.cat([x.sin(), x.cos()], -1)
