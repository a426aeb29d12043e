"""Few-shot methods on the command line: ``metagym train maml sinusoid --out runs/maml``.

``Face(name)`` has what the command asks of a module that trains: ``Config``, ``recipe``,
``check``, ``train`` and ``load``. Its Config is flat: the fields of the loop and of the method.
"""

from __future__ import annotations

import inspect
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from metagym.baselines.few_shot import make_method, method_class
from metagym.baselines.few_shot.base import FewShotMethod, TaskShape
from metagym.baselines.few_shot.judge import evaluate_few_shot
from metagym.baselines.few_shot.recipes import Recipe, recipe
from metagym.baselines.few_shot.train import TrainConfig, load_method, train_few_shot
from metagym.baselines.few_shot.training_tasks import AllClasses, TrainOn, training_tasks
from metagym.baselines.merged_config import merge_configs, pick
from metagym.checkpoint import read_config
from metagym.evaluation.results import Result
from metagym.tasks import make_tasks
from metagym.tasks.few_shot import TaskDistribution


class Face:
    """What ``metagym train`` needs to know of one few-shot method.

    Args:
        name: one of ``METHODS``, or ``module:Class``.

    Attributes:
        Config: a frozen dataclass of all settings of the loop and of the method.

    Raises:
        InvalidArgumentError: there is no such method.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.method = method_class(name)
        self.Config = merge_configs(
            f"{self.method.name}_config",
            inspect.getdoc(self.method) or name,
            (self.method.Config, TrainConfig),
        )

    def recipe(self, tasks_name: str, tasks_kwargs: dict[str, Any] | None = None) -> Any:
        """The settings of the paper for these tasks; the defaults elsewhere.

        Args:
            tasks_name: one of ``metagym.tasks.TASKS``, in any case.
            tasks_kwargs: of the tasks; ways and shots count.
        """
        found = self._recipe(tasks_name, tasks_kwargs or {})
        return self.Config(**found.fields, **found.loop)

    def check(self, tasks_name: str, tasks_kwargs: dict[str, Any]) -> None:
        """Raise now what would be wrong with the tasks later."""
        make_tasks(tasks_name.lower(), **tasks_kwargs)

    def train(
        self,
        tasks_name: str,
        out: str | Path,
        config: Any = None,
        *,
        seed: int = 0,
        steps: int | None = None,
        seconds: float | None = None,
        resume: bool = False,
        env_kwargs: dict[str, Any] | None = None,
        progress: bool = True,
    ) -> Path:
        """Meta-train on the tasks called ``tasks_name``; arguments as of any ``train`` of ours.

        Training tasks are those of the recipe: many ways for prototypical networks, ordinary
        classification of all training classes for the controls.

        Args:
            tasks_name: one of ``metagym.tasks.TASKS``, in any case.
            out: the folder.
            config: of ``Config``; ``recipe(tasks_name, env_kwargs)`` by default.
            seed: of weights, tasks and the method's randomness.
            steps: outer steps.
            seconds: stop after so many seconds.
            resume: go on from the checkpoint in ``out``.
            env_kwargs: of the tasks.
            progress: show a progress bar.

        Returns:
            ``out``.
        """
        kwargs = dict(env_kwargs or {})
        settings = asdict(self.recipe(tasks_name, kwargs) if config is None else config)
        found = self._recipe(tasks_name, kwargs)
        if "queries" in kwargs:  # who says how many means training too
            found = replace(found, tasks={k: v for k, v in found.tasks.items() if k != "queries"})
        tasks = training_tasks(found, make_tasks(tasks_name.lower(), **kwargs))
        if isinstance(tasks, TrainOn) and isinstance(tasks.train, AllClasses):
            settings["classes"] = tasks.train.classes
        loop = TrainConfig(**pick(TrainConfig, settings))
        method = self.make(tasks, settings, seed)
        train_few_shot(
            method, tasks, out, loop, seed=seed, iterations=steps, seconds=seconds,
            resume=resume, tasks_name=tasks_name, tasks_kwargs=kwargs, progress=progress,
        )  # fmt: skip
        return Path(out)

    def _recipe(self, tasks_name: str, tasks_kwargs: dict[str, Any]) -> Recipe:
        kind = "sinusoid" if tasks_name.lower() == "sinusoid" else "images"
        # What is no number is refused with the tasks, by name.
        numbers = {k: tasks_kwargs[k] for k in ("ways", "shots")
                   if isinstance(tasks_kwargs.get(k), int)}  # fmt: skip
        return recipe(self.method.name, kind, **numbers)

    def make(
        self, tasks: TaskDistribution | TaskShape, settings: dict[str, Any], seed: int
    ) -> FewShotMethod:
        """The method with what ``settings`` says of it."""
        kind = self.method.Config
        return make_method(self.method, tasks, kind(**pick(kind, settings)), seed=seed)

    def load(self, folder: str | Path) -> FewShotMethod:
        """The method of a checkpoint; it is judged by ``evaluate_few_shot``."""
        return load_method(folder, of=self.method)


def evaluate_checkpoint(
    folder: str | Path,
    tasks_name: str,
    split: str = "test",
    count: int = 1000,
    seed: int = 0,
    *,
    num_envs: int | None = None,
    of: type[FewShotMethod] | None = None,
    **tasks_kwargs: Any,
) -> Result:
    """``evaluate_few_shot`` for the command line: a checkpoint on the tasks of a name.

    Args:
        folder: of the checkpoint.
        tasks_name: one of ``metagym.tasks.TASKS``, in any case.
        split, count, seed: of the tasks.
        num_envs: tasks at a time; 100 by default.
        of: the class of the method, if it is none of ``METHODS``.
        **tasks_kwargs: of the tasks; those of training by default, if their name is the same.

    Raises:
        CheckpointError: there is no such checkpoint.
        InvalidArgumentError: no such tasks or split, or tasks that do not fit the method.
    """
    saved = read_config(folder)
    if saved["env_id"].lower() == tasks_name.lower():
        tasks_kwargs = {**saved["env_kwargs"], **tasks_kwargs}
    tasks = make_tasks(tasks_name.lower(), **tasks_kwargs)
    return evaluate_few_shot(
        load_method(folder, of=of), tasks, split, count, seed,
        batch=min(count, 100) if num_envs is None else num_envs, tasks_kwargs=tasks_kwargs,
    )  # fmt: skip
