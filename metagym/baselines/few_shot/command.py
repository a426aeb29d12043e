"""Few-shot methods on the command line: ``metagym train maml sinusoid --out runs/maml``.

``Face(name)`` has what the command asks of a module that trains: ``Config``, ``recipe``,
``check``, ``train`` and ``load``. Its Config is flat: the fields of the loop and of the method.
"""

from __future__ import annotations

import inspect
from dataclasses import asdict
from pathlib import Path
from typing import Any

from metagym.baselines.few_shot import make_method, method_class
from metagym.baselines.few_shot.base import FewShotMethod, TaskShape
from metagym.baselines.few_shot.judge import evaluate_few_shot
from metagym.baselines.few_shot.train import TrainConfig, load_method, train_few_shot
from metagym.baselines.merged_config import merge_configs, pick
from metagym.evaluation.results import Result
from metagym.tasks import make_tasks
from metagym.tasks.few_shot import TaskDistribution

_IMAGES = {"meta_batch": 32, "iterations": 60_000, "inner_rate": 0.4, "eval_every": 2000}

# What the papers took, by (method, tasks); "images" stands for all image sets.
RECIPES: dict[tuple[str, str], dict[str, Any]] = {
    **{
        (name, "images"): _IMAGES
        for name in ("maml", "fomaml", "anil", "meta_sgd", "maml_plus_plus")
    },
    ("reptile", "sinusoid"): {"optimizer": "sgd", "outer_rate": 1.0, "schedule": "linear"},
    ("reptile", "images"): {
        "optimizer": "sgd", "outer_rate": 1.0, "schedule": "linear", "meta_batch": 5,
        "iterations": 100_000, "inner_optimizer": "adam", "inner_rate": 1e-3, "test_steps": 50,
    },
}  # fmt: skip


class Face:
    """What ``metagym train`` needs to know of one few-shot method.

    Args:
        name: one of ``METHODS``.

    Attributes:
        Config: a frozen dataclass of all settings of the loop and of the method.

    Raises:
        InvalidArgumentError: there is no such method.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.method = method_class(name)
        self.Config = merge_configs(
            f"{name}_config", inspect.getdoc(self.method) or name, (self.method.Config, TrainConfig)
        )

    def recipe(self, tasks_name: str) -> Any:
        """The settings of the paper for these tasks; the defaults elsewhere."""
        kind = "sinusoid" if tasks_name.lower() == "sinusoid" else "images"
        return self.Config(**RECIPES.get((self.name, kind), {}))

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

        Args:
            tasks_name: one of ``metagym.tasks.TASKS``, in any case.
            out: the folder.
            config: of ``Config``; ``recipe(tasks_name)`` by default.
            seed: of weights, tasks and the method's randomness.
            steps: outer steps.
            seconds: stop after so many seconds.
            resume: go on from the checkpoint in ``out``.
            env_kwargs: of the tasks.
            progress: show a progress bar.

        Returns:
            ``out``.
        """
        settings = asdict(self.recipe(tasks_name) if config is None else config)
        tasks = make_tasks(tasks_name.lower(), **(env_kwargs or {}))
        loop = TrainConfig(**pick(TrainConfig, settings))
        method = self.make(tasks, settings, seed)
        train_few_shot(
            method, tasks, out, loop, seed=seed, iterations=steps, seconds=seconds,
            resume=resume, tasks_name=tasks_name, tasks_kwargs=env_kwargs, progress=progress,
        )  # fmt: skip
        return Path(out)

    def make(
        self, tasks: TaskDistribution | TaskShape, settings: dict[str, Any], seed: int
    ) -> FewShotMethod:
        """The method with what ``settings`` says of it."""
        kind = self.method.Config
        return make_method(self.name, tasks, kind(**pick(kind, settings)), seed=seed)

    def load(self, folder: str | Path) -> FewShotMethod:
        """The method of a checkpoint; it is judged by ``evaluate_few_shot``."""
        return load_method(folder)


def evaluate_checkpoint(
    folder: str | Path,
    tasks_name: str,
    split: str = "test",
    count: int = 1000,
    seed: int = 0,
    *,
    num_envs: int | None = None,
    **tasks_kwargs: Any,
) -> Result:
    """``evaluate_few_shot`` for the command line: a checkpoint on the tasks of a name.

    Args:
        folder: of the checkpoint.
        tasks_name: one of ``metagym.tasks.TASKS``, in any case.
        split, count, seed: of the tasks.
        num_envs: tasks at a time; 100 by default.
        **tasks_kwargs: of the tasks.
    """
    tasks = make_tasks(tasks_name.lower(), **tasks_kwargs)
    return evaluate_few_shot(
        load_method(folder), tasks, split, count, seed,
        batch=min(count, 100) if num_envs is None else num_envs, tasks_kwargs=tasks_kwargs,
    )  # fmt: skip
