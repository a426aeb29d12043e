"""The contract of all few-shot methods: a loss to meta-train on, predictions to be judged by.

A method is an ``nn.Module`` whose parameters are what meta-training learns. The training loop
(``train.py``) and ``evaluate_few_shot`` know nothing else of it; what it does with a support set,
gradient steps, distances or one forward pass, is its own business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from metagym.errors import InvalidArgumentError, check_choice, check_positive
from metagym.tasks.few_shot import TaskDistribution, Tasks

KINDS = ("classification", "regression")


@dataclass(frozen=True)
class TaskShape:
    """What a network has to know of a distribution before it sees a task; JSON-able.

    Attributes:
        kind: "classification" or "regression".
        input_shape: of one example.
        outputs: ways, or numbers to predict.
        support: examples to learn from in a task.

    Raises:
        InvalidArgumentError: no such kind, or a size below 1.
    """

    kind: str
    input_shape: tuple[int, ...]
    outputs: int
    support: int

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        for size in (*self.input_shape, self.outputs, self.support):
            check_positive("a size of the tasks", size)

    @classmethod
    def of(cls, distribution: TaskDistribution) -> TaskShape:
        """The shape of the tasks of ``distribution``."""
        return cls(
            distribution.kind, tuple(distribution.input_shape), distribution.outputs,
            distribution.support,
        )  # fmt: skip


class FewShotMethod(nn.Module, ABC):
    """Something that was meta-trained to learn from a support set.

    Subclasses set ``name``, and ``Config``: a frozen dataclass of hyperparameters, all with
    defaults. Their ``__init__(shape, config=None)`` calls this one and builds the networks;
    torch initialises those from its global generator, so ``make_method`` forks and seeds it.

    Args:
        shape: of the tasks it is built for.
        config: hyperparameters; ``Config()`` by default.

    Attributes:
        shape, config: as given.
        transductive: True where a prediction for one query example depends on the others, as
            with batch-norm statistics of the query batch. It is part of ``label``.
        progress: the share of meta-training that is done, in [0, 1]; the training loop sets it
            before every ``meta_loss``, for methods that anneal something. After training, and
            for predictions, it is 1.
        privileged: True for an oracle, which knows what no method may know.
        training_record: what meta-training cost; None if there was none.
    """

    name: ClassVar[str]
    Config: ClassVar[type]
    transductive: bool = False
    privileged: ClassVar[bool] = False
    progress: float = 1.0
    training_record: dict[str, Any] | None = None
    config: Any

    def __init__(self, shape: TaskShape, config: Any = None) -> None:
        super().__init__()
        if isinstance(shape, TaskDistribution):
            raise InvalidArgumentError(
                f"{type(self).__name__} takes TaskShape.of(distribution), not the distribution."
            )
        config = self.Config() if config is None else config
        if not isinstance(config, self.Config):
            raise InvalidArgumentError(
                f"{type(self).__name__} takes a {self.Config.__qualname__}, not a "
                f"{type(config).__qualname__}."
            )
        self.shape, self.config = shape, config

    @property
    def label(self) -> str:
        """The name for tables, which says if the method is transductive."""
        return f"{self.name} (transductive)" if self.transductive else self.name

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @abstractmethod
    def meta_loss(
        self, tasks: Tasks, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """What an outer optimiser descends on, in train mode.

        Args:
            tasks: training tasks, on the device of the parameters.
            generator: of any randomness, on the same device.

        Returns:
            A scalar whose ``backward()`` gives the meta-gradient (its value need not mean
            anything: a surrogate is fine), and detached scalars to log, such as
            ``{"loss": …, "accuracy": …}`` of the query set.
        """

    @abstractmethod
    def predict(self, tasks: Tasks) -> torch.Tensor:
        """What the method says of the query sets after it has seen the support sets.

        It is called in eval mode and below ``torch.no_grad()``; whoever needs gradients to adapt
        enables them (``torch.func.grad`` ignores an outer ``no_grad``). It reads neither
        ``query_y`` nor another task of the batch, and has no randomness. Methods that adapt step
        by step take ``predict(tasks, steps=…)`` besides.

        Returns:
            Logits or values [B, Q, outputs], without a gradient to anything.
        """


# -- scores ------------------------------------------------------------------------------------


def check_tasks(tasks: Tasks, shape: TaskShape) -> None:
    """Refuse tasks that a method of this shape cannot take; ways and shots may differ.

    Raises:
        InvalidArgumentError: inputs or targets of another shape or kind.
    """
    for part, x, y in (("support", *tasks[:2]), ("query", *tasks[2:])):
        if x.ndim != 2 + len(shape.input_shape) or tuple(x.shape[2:]) != shape.input_shape:
            raise InvalidArgumentError(
                f"{part}_x has the shape {tuple(x.shape)}; it has to be [tasks, examples, "
                f"{', '.join(map(str, shape.input_shape))}]."
            )
        whole = not y.is_floating_point()
        expected = x.shape[:2] if shape.kind == "classification" else (*x.shape[:2], shape.outputs)
        if y.shape != expected or whole != (shape.kind == "classification"):
            raise InvalidArgumentError(
                f"{part}_y is {y.dtype} {tuple(y.shape)}; {shape.kind} needs "
                f"{'int64' if shape.kind == 'classification' else 'floats'} {tuple(expected)}."
            )


def check_ways(tasks: Tasks, shape: TaskShape, name: str) -> None:
    """``check_tasks`` for a method with one output for each class, which sets its ways.

    Raises:
        InvalidArgumentError: as ``check_tasks``, or a class that the method has no output for.
    """
    check_tasks(tasks, shape)
    if shape.kind == "classification":
        highest = max(int(y.max()) for y in (tasks.support_y, tasks.query_y) if y.numel())
        if highest >= shape.outputs:
            raise InvalidArgumentError(
                f"{name} was built for {shape.outputs} ways and met the class {highest}; train it "
                "with as many ways as it has to tell apart."
            )


def per_task_loss(kind: str, predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean loss of each task, differentiable: cross entropy, or squared error.

    Args:
        kind: "classification" or "regression".
        predictions: logits or values [..., Q, outputs].
        targets: classes [..., Q], or values [..., Q, outputs].

    Returns:
        [...]: one number a task.
    """
    if kind == "classification":
        picked = F.log_softmax(predictions, -1).gather(-1, targets.unsqueeze(-1))
        return -picked.squeeze(-1).mean(-1)
    return (predictions - targets).square().mean((-2, -1))


def accuracy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The share of right classes per task: [..., Q, ways] and [..., Q] give [...].

    NaN for a task with an example whose largest logit is no finite number: that predicts nothing.
    """
    share = (logits.argmax(-1) == targets).to(logits.dtype).mean(-1)
    return share.where(logits.amax(-1).isfinite().all(-1), torch.nan)


def mse(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean squared error per task: [..., Q, outputs] twice give [...]."""
    return (values - targets).square().mean((-2, -1))


def score_name(kind: str) -> str:
    """What ``scores`` gives: "accuracy" (more is better) or "mse" (less is better)."""
    return "accuracy" if kind == "classification" else "mse"


def scores(kind: str, predictions: torch.Tensor, tasks: Tasks) -> torch.Tensor:
    """The score of each task on its query set, [B]: accuracy or mean squared error."""
    score = accuracy if kind == "classification" else mse
    return score(predictions, tasks.query_y)
