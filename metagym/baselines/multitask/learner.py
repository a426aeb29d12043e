"""What multi-task training makes: a network with its weighting and the scales of its targets.

Losses are means over a task's examples: squared errors of targets that are standardised by their
training statistics, so that no unit decides, logistic loss, cross-entropy. Answers are in the
original units. A score is larger for better: accuracy, or R² (which is 1 - MSE / variance).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from metagym.baselines.multitask.architecture import Architecture
from metagym.baselines.multitask.data import TaskData, as_numbers, check_finite
from metagym.baselines.multitask.sources import MultiSource
from metagym.baselines.multitask.weighting import GradientWeighting, Weighting
from metagym.errors import InvalidArgumentError, check_choice


class Learner(nn.Module):
    """A network for named tasks; all that a checkpoint holds.

    Args:
        architecture: of what is shared.
        weighting: of the losses; what it learns is trained together with the network.
        names: of the tasks.
        targets: training targets, for their mean and standard deviation; None: to be loaded.

    Attributes:
        center, spread: mean and standard deviation of the targets of each task of regression, 0
            and 1 of the others [tasks].
        training_record: what training cost; None if there was none.

    Raises:
        InvalidArgumentError: the weighting combines gradients of shared parameters, and the
            architecture has none.
    """

    training_record: dict[str, Any] | None = None
    center: torch.Tensor
    spread: torch.Tensor

    def __init__(
        self,
        architecture: Architecture,
        weighting: Weighting,
        names: Sequence[str],
        targets: Sequence[np.ndarray] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(weighting, GradientWeighting) and not architecture.shared_parameters():
            raise InvalidArgumentError(
                f"weighting {weighting.name!r} combines the tasks' gradients of shared parameters, "
                f"and architecture {architecture.name!r} has none: it would be 'uniform'. Choose "
                "that, or an architecture with a shared part, such as 'hard'."
            )
        self.architecture, self.weighting, self.names = architecture, weighting, tuple(names)
        kinds = architecture.shape.kinds
        center, spread = np.zeros(len(kinds)), np.ones(len(kinds))
        for task, kind in enumerate(kinds):
            if targets is not None and kind == "regression":
                center[task] = targets[task].mean(dtype=np.float64)
                spread[task] = targets[task].std(dtype=np.float64) or 1.0
        self.register_buffer("center", torch.tensor(center, dtype=torch.float32))
        self.register_buffer("spread", torch.tensor(spread, dtype=torch.float32))

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.center.device

    def targets(self, task: int, y: np.ndarray) -> torch.Tensor:
        """Labels as the loss takes them, on the device: float32 [n], or int64 for classes."""
        kind = self.architecture.shape.kinds[task]
        if kind == "multiclass":
            return torch.as_tensor(y, dtype=torch.int64, device=self.device)
        made = torch.as_tensor(y, dtype=torch.float32, device=self.device)
        return (made - self.center[task]) / self.spread[task]

    def loss(self, task: int, predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of a batch, a scalar.

        Args:
            task: its number.
            predictions: [n, outputs].
            targets: see ``targets``.
        """
        kind = self.architecture.shape.kinds[task]
        if kind == "multiclass":
            return F.cross_entropy(predictions, targets)
        if kind == "binary":
            return F.binary_cross_entropy_with_logits(predictions[:, 0], targets)
        return F.mse_loss(predictions[:, 0], targets)

    @torch.no_grad()
    def answers(
        self, inputs: Sequence[np.ndarray], present: Sequence[Any] | None = None
    ) -> list[np.ndarray]:
        """Values in original units (float64) or classes (int64), by task [n].

        Args:
            inputs: by task [n, features]; empty where nothing is asked.
            present: by task, which sources are there; see ``MultiSource``, which alone takes it.

        Raises:
            InvalidArgumentError: a mask that does not fit, or any for another architecture.
        """
        if present is not None and not isinstance(self.architecture, MultiSource):
            raise InvalidArgumentError(
                f"architecture {self.architecture.name!r} takes no present: it needs all features. "
                "'multi_source' can do without a source."
            )
        masks = () if present is None else (present,)
        was_training = self.training
        self.eval()
        try:
            tensors = [torch.as_tensor(x, dtype=torch.float32, device=self.device) for x in inputs]
            found = self.architecture(tensors, *masks).predictions
        finally:
            self.train(was_training)
        return [self._answer(task, x.double().cpu().numpy()) for task, x in enumerate(found)]

    def _answer(self, task: int, outputs: np.ndarray) -> np.ndarray:
        kind = self.architecture.shape.kinds[task]
        if kind == "regression":
            return outputs[:, 0] * float(self.spread[task]) + float(self.center[task])
        if kind == "binary":
            return (outputs[:, 0] > 0).astype(np.int64)
        return outputs.argmax(1)

    def predict(self, task: str, x: np.ndarray, present: Any = None) -> np.ndarray:
        """Answers of one task, see ``answers``.

        Args:
            task: its name.
            x: examples [n, features]; the columns of a missing source may hold anything.
            present: which sources are there, bool [sources], or [n, sources] if that differs by
                example; None: all.

        Raises:
            InvalidArgumentError: no such task, other features than it was trained on, what is no
                number, or ``present`` that does not fit.
            DataError: NaN or infinity.
        """
        number, x = self.number(task), as_numbers("x", x, np.float32)
        features = self.architecture.shape.inputs
        if x.ndim != 2 or x.shape[1] != features:
            raise InvalidArgumentError(
                f"x has shape {x.shape}; the network takes examples × {features} features."
            )
        found = self._asked({number: x}, present)[number]
        if present is None:
            check_finite("x", x)
        else:
            sources = cast(MultiSource, self.architecture)
            check_finite("x", x, sources.columns(present, len(x)))
        return found

    def example_scores(
        self, tasks: Sequence[TaskData], present: Any = None
    ) -> dict[str, np.ndarray]:
        """Of each example what the score of its task is the mean of, float64 [n] by name.

        1 or 0 for a right or wrong class; 1 - error² / variance for regression, with the variance
        of the targets that are given, so that the mean is R².

        Args:
            tasks: any of those that were trained on.
            present: which sources are there, bool [sources]; None: all.

        Raises:
            InvalidArgumentError: no such task, another kind, targets that are all the same, or
                ``present`` that does not fit.
        """
        shape = self.architecture.shape
        inputs = {}
        for task in tasks:
            number = self.number(task.name)
            if task.kind != shape.kinds[number] or task.x.shape[1] != shape.inputs:
                raise InvalidArgumentError(
                    f"Task {task.name!r} was trained as {shape.kinds[number]} on {shape.inputs} "
                    f"features, and this is {task.kind} on {task.x.shape[1]}."
                )
            inputs[number] = task.x
        answers = self._asked(inputs, present)
        return {task.name: _example_scores(task, answers[self.number(task.name)]) for task in tasks}

    def score(self, tasks: Sequence[TaskData], present: Any = None) -> dict[str, float]:
        """Accuracy or R² by name; see ``example_scores``."""
        scores = self.example_scores(tasks, present)
        return {name: float(found.mean()) for name, found in scores.items()}

    def number(self, task: str) -> int:
        """The number of a task.

        Raises:
            InvalidArgumentError: there is no such task.
        """
        return self.names.index(check_choice("task", task, self.names))

    def _asked(self, inputs: Mapping[int, np.ndarray], present: Any) -> list[np.ndarray]:
        """``answers`` to examples of some tasks, by number, with one mask for all of those."""
        nothing = np.empty((0, self.architecture.shape.inputs), np.float32)
        numbers = range(len(self.names))
        masks = None if present is None else [present if i in inputs else None for i in numbers]
        return self.answers([inputs.get(i, nothing) for i in numbers], masks)


def score_name(kind: str) -> str:
    """What a score of tasks of a kind is."""
    return "R²" if kind == "regression" else "accuracy"


def _example_scores(task: TaskData, answers: np.ndarray) -> np.ndarray:
    if task.kind != "regression":
        return (answers == task.y).astype(np.float64)
    if (task.y == task.y[0]).all():
        raise InvalidArgumentError(
            f"R² of task {task.name!r} needs targets that differ; all are {task.y[0]:g}. Give more "
            "examples."
        )
    scores: np.ndarray = 1.0 - np.square(answers - task.y) / task.y.var(dtype=np.float64)
    return scores
