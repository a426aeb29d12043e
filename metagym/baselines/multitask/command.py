"""Multi-task networks on the command line: ``metagym train multitask_hard digits_binary --out …``.

``Face(name)`` has what the command asks of a module that trains: ``Config``, ``recipe``,
``check``, ``train`` and ``load``. Its Config is flat: the fields of the loop, the weighting and
the architecture. Every run trains the single-task twins too and reports the gain of each task.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from metagym.baselines.merged_config import merge_configs, pick
from metagym.baselines.multitask.architectures import architecture_class
from metagym.baselines.multitask.learner import Learner, score_name
from metagym.baselines.multitask.network import make_learner
from metagym.baselines.multitask.saving import PREFIX, load_learner
from metagym.baselines.multitask.train import TrainConfig, train_multitask
from metagym.baselines.multitask.twins import Gains, train_twins
from metagym.checkpoint import read_config
from metagym.core.task import SPLITS
from metagym.errors import check_choice
from metagym.evaluation.results import Result, jsonable, machine
from metagym.files import write_atomically
from metagym.tasks.multitask import make_task_set

TWINS, GAINS = "twins", "gains.json"  # in the folder of a run


@dataclass(frozen=True)
class Balance:
    """How tasks are balanced, and what they are compared with.

    Args:
        weighting: of the tasks' losses or gradients.
        alpha: of the weighting "fixed": a weight for each task, or one for two tasks.
        twins: train the single-task twins as well, for the gain of each task.
    """

    weighting: Literal["uniform", "fixed", "uncertainty", "pcgrad", "mgda"] = "uniform"
    alpha: tuple[float, ...] | None = None
    twins: bool = True


class Face:
    """What ``metagym train`` needs to know of one multi-task network.

    Args:
        name: "multitask_" and one of ``ARCHITECTURES``.

    Attributes:
        Config: a frozen dataclass of all settings.

    Raises:
        InvalidArgumentError: there is no such architecture.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.architecture = name.removeprefix(PREFIX)
        kind = architecture_class(self.architecture)
        self.Config = merge_configs(
            f"{name}_config", inspect.getdoc(kind) or name, (kind.Config, Balance, TrainConfig)
        )

    def recipe(self, tasks_name: str) -> Any:
        """The defaults, whatever the tasks."""
        return self.Config()

    def check(self, tasks_name: str, tasks_kwargs: dict[str, Any]) -> None:
        """Raise now what would be wrong with the tasks later."""
        make_task_set(tasks_name.lower(), **tasks_kwargs)

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
        """Train on the tasks called ``tasks_name``, then the twins; arguments as of any ``train``.

        The twins go into the folder ``twins`` below ``out``, a folder for each task, and the gains
        are printed and written to ``gains.json``, a Result per task.

        Args:
            tasks_name: one of ``metagym.tasks.multitask.TASK_SETS``, in any case.
            out: the folder.
            config: of ``Config``; its defaults by default.
            seed: of weights and of the order of examples.
            steps: of the optimiser.
            seconds: stop after so many, those before a resume included.
            resume: go on from the checkpoint in ``out``.
            env_kwargs: of the tasks.
            progress: show progress bars and the gains.

        Returns:
            ``out``.
        """
        settings = asdict(self.Config() if config is None else config)
        out, env_kwargs = Path(out), dict(env_kwargs or {})
        sets = make_task_set(tasks_name.lower(), **env_kwargs)
        loop = TrainConfig(**pick(TrainConfig, settings))
        learner = make_learner(
            sets.train, self.architecture, settings["weighting"], alpha=settings["alpha"],
            architecture_kwargs=pick(architecture_class(self.architecture).Config, settings),
            seed=seed,
        )  # fmt: skip
        common: dict[str, Any] = {
            "tasks_name": tasks_name, "tasks_kwargs": env_kwargs, "progress": progress,
        }  # fmt: skip
        start = time.perf_counter()
        train_multitask(
            learner, sets.train, sets.validation, out, loop, seed=seed, steps=steps,
            seconds=seconds, resume=resume, **common,
        )  # fmt: skip
        if not settings["twins"]:
            return out
        record = learner.training_record or {}
        # Within seconds a twin would take other steps: it gets as many as the network had.
        asked = record["step"] if seconds is not None else steps
        twins = train_twins(
            learner, sets.train, sets.validation, out / TWINS, loop, seed=seed, steps=asked,
            resume=resume, **common,
        )  # fmt: skip
        gains = Gains.of([learner], [twins], [sets.test])
        results = gains.results(
            _label(learner), [seed], tasks_name, env_kwargs, settings,
            time.perf_counter() - start, record, str(learner.device),
        )  # fmt: skip
        content = json.dumps([jsonable(asdict(result)) for result in results], indent=1)
        write_atomically(out / GAINS, (content + "\n").encode())
        if progress:
            print(gains.table())
        return out

    def load(self, folder: str | Path) -> Learner:
        """The network of a checkpoint; it is judged by ``evaluate_checkpoint``."""
        return load_learner(folder)


def evaluate_checkpoint(
    folder: str | Path,
    tasks_name: str,
    split: str = "test",
    count: int | None = None,
    seed: int = 0,
    *,
    num_envs: int | None = None,
    present: Sequence[bool] | None = None,
    **tasks_kwargs: Any,
) -> Result:
    """A checkpoint on the tasks of a name, for the command line.

    Args:
        folder: of the checkpoint.
        tasks_name: one of ``metagym.tasks.multitask.TASK_SETS``, in any case.
        split: whose examples.
        count, seed, num_envs: of other evaluations; here all examples of the split count.
        present: which sources of a "multi_source" network are there, for all examples; on the
            command line ``--env-kwargs '{"present": [true, false]}'``.
        **tasks_kwargs: of the tasks; those of training by default.

    Returns:
        A ``Result`` whose episodes are tasks: a score is the accuracy or R² of one task, a length
        is how many examples it was judged on.

    Raises:
        CheckpointError: there is no such checkpoint.
        InvalidArgumentError: no such tasks or split, other tasks than it was trained on, or
            ``present`` that does not fit.
    """
    check_choice("split", split, SPLITS)
    saved = read_config(folder)
    if saved["env_id"].lower() == tasks_name.lower():
        tasks_kwargs = saved["env_kwargs"] | tasks_kwargs
    learner = load_learner(folder)
    tasks = getattr(make_task_set(tasks_name.lower(), **tasks_kwargs), split)
    start = time.perf_counter()
    scores = list(learner.score(tasks, present).values())
    elapsed = time.perf_counter() - start
    if present is not None:
        tasks_kwargs["present"] = list(present)
    lengths = [len(task.y) for task in tasks]
    metrics = dict.fromkeys(score_name(task.kind) for task in tasks)
    return Result.of_scores(
        np.array(scores), env_id=tasks_name, env_kwargs=tasks_kwargs, split=split,
        agent=_label(learner), agent_config=saved["config"], privileged=False,
        training=learner.training_record, seed=seed, num_envs=1, metric=" or ".join(metrics),
        minimize=False, lengths=lengths, extras={"task": [task.name for task in tasks]},
        env_steps=sum(lengths), wall_time_s=elapsed, device=f"{learner.device}, {machine()}",
    )  # fmt: skip


# -- the inside --------------------------------------------------------------------------------


def _label(learner: Learner) -> str:
    return f"{learner.architecture.name}, {learner.weighting.name}"
