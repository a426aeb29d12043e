"""Deep multi-task learning in the style of scikit-learn: architecture × weighting, fit, predict.

Lecture topic: multi-task learning, networks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from metagym.baselines.multitask.architectures import architecture_class, make_architecture
from metagym.baselines.multitask.data import TaskData, TasksShape
from metagym.baselines.multitask.learner import Learner
from metagym.baselines.multitask.saving import load_learner
from metagym.baselines.multitask.train import TrainConfig, train_multitask
from metagym.baselines.multitask.weighting import make_weighting
from metagym.errors import InvalidArgumentError, check_kwargs, reject_unknown_kwargs
from metagym.files import refuse_existing


def make_learner(
    tasks: Sequence[TaskData],
    architecture: str = "hard",
    weighting: str = "uniform",
    *,
    architecture_kwargs: Mapping[str, Any] | None = None,
    alpha: Sequence[float] | float | None = None,
    seed: int = 0,
) -> Learner:
    """A learner with fresh weights for ``tasks``; arguments as of ``MultiTaskNetwork``.

    Raises:
        InvalidArgumentError: a name, a field or an ``alpha`` that cannot work, or a weighting of
            gradients for an architecture that shares no parameters.
    """
    shape = TasksShape.of(tasks)
    fields = check_kwargs("architecture_kwargs", architecture_kwargs)
    kind = architecture_class(architecture).Config
    known = {entry.name for entry in dataclasses.fields(kind)}
    reject_unknown_kwargs(kind, {k: v for k, v in fields.items() if k not in known})
    return Learner(
        make_architecture(architecture, shape, kind(**fields), seed=seed),
        make_weighting(weighting, shape.kinds, alpha),
        [task.name for task in tasks],
        [task.y for task in tasks],
    )


class MultiTaskNetwork(BaseEstimator):  # type: ignore[misc]
    """A network for all tasks, with what is shared and how losses are balanced chosen by name.

    Args:
        architecture: one of ``ARCHITECTURES``.
        weighting: one of ``WEIGHTINGS``.
        architecture_kwargs: fields of the architecture's ``Config``.
        alpha: of the weighting "fixed".
        config: of the training loop; ``TrainConfig()`` by default.
        seed: of weights, order of examples and the weighting's randomness.
        out: folder for checkpoints and TensorBoard logs; None: nothing is written.
        progress: show a progress bar.

    Attributes:
        learner_: the trained network.

    Example:
        >>> from metagym.tasks.multitask import make_task_set
        >>> sets = make_task_set("digits_three", train=50)
        >>> network = MultiTaskNetwork("hard", "pcgrad").fit(sets.train)  # doctest: +SKIP
        >>> network.score(sets.test)  # doctest: +SKIP
    """

    def __init__(
        self,
        architecture: str = "hard",
        weighting: str = "uniform",
        *,
        architecture_kwargs: Mapping[str, Any] | None = None,
        alpha: Sequence[float] | float | None = None,
        config: TrainConfig | None = None,
        seed: int = 0,
        out: str | Path | None = None,
        progress: bool = False,
    ) -> None:
        self.architecture = architecture
        self.weighting = weighting
        self.architecture_kwargs = architecture_kwargs
        self.alpha = alpha
        self.config = config
        self.seed = seed
        self.out = out
        self.progress = progress

    def fit(
        self,
        tasks: Sequence[TaskData],
        validation: Sequence[TaskData] | None = None,
        *,
        resume: bool = False,
    ) -> MultiTaskNetwork:
        """Train on all tasks together.

        Args:
            tasks: training examples.
            validation: of the same tasks in the same order, for early stopping and the charts.
            resume: go on from the checkpoint in ``out``.

        Raises:
            InvalidArgumentError: arguments that cannot work, or ``out`` exists.
            CheckpointError: there is nothing to resume from, or it is of another network.
        """
        if not resume:
            refuse_existing("out", self.out, ", or resume=True to go on from it")
        learner = make_learner(
            tasks, self.architecture, self.weighting, alpha=self.alpha,
            architecture_kwargs=self.architecture_kwargs, seed=self.seed,
        )  # fmt: skip
        self.learner_ = train_multitask(
            learner, tasks, validation, self.out, self.config, seed=self.seed, resume=resume,
            progress=self.progress,
        )  # fmt: skip
        return self

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> MultiTaskNetwork:
        """The trained network of a checkpoint.

        Raises:
            CheckpointError: it is missing, damaged, or of something else.
        """
        learner = load_learner(folder, device)
        made = cls(learner.architecture.name, learner.weighting.name)
        made.learner_ = learner
        return made

    def predict(self, task: str, x: np.ndarray, present: Any = None) -> np.ndarray:
        """Answers of one task.

        Args:
            task: its name.
            x: examples [n, features]; the columns of a missing source may hold anything, NaN too.
            present: which sources are there, for the architecture "multi_source": bool [sources],
                or [n, sources] if that differs by example; None: all.

        Returns:
            Values in the units of the training targets, or classes [n].

        Raises:
            InvalidArgumentError: not fitted, no such task, other features, what is no number, or
                ``present`` that does not fit.
            DataError: NaN or infinity.
        """
        return self._fitted().predict(task, x, present)

    def score(self, tasks: Sequence[TaskData], present: Any = None) -> dict[str, float]:
        """The accuracy, or R² for regression, of each task by name.

        Args:
            tasks: any of those that were trained on.
            present: see ``predict``; the same for all examples.

        Raises:
            InvalidArgumentError: not fitted, a task that was not trained on, or ``present`` that
                does not fit.
        """
        return self._fitted().score(tasks, present)

    def _fitted(self) -> Learner:
        if not hasattr(self, "learner_"):
            raise InvalidArgumentError("The network is not fitted yet; call fit(tasks) first.")
        return self.learner_
