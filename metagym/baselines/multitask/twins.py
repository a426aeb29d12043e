"""Negative transfer, measured: a network for all tasks against one network for each of them.

A single-task twin is a network of the same widths that is trained on its task alone, with as many
steps as the shared network gives that task, the same order of examples, and early stopping and
gradient clipping of its own. The gain of a task is its score minus its twin's, example by example,
so that both differences between seeds and between test examples are in the interval: a bootstrap
over seeds and over examples (crossed where all seeds are judged on the same examples, else nested).
Below 0 is negative transfer. Lecture topic: when multi-task learning hurts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from metagym.baselines.multitask.data import TaskData
from metagym.baselines.multitask.learner import Learner, score_name
from metagym.baselines.multitask.network import make_learner
from metagym.baselines.multitask.train import TrainConfig, train_multitask
from metagym.checkpoint import CONFIG
from metagym.errors import InvalidArgumentError, check_choice
from metagym.evaluation.results import Result, machine
from metagym.evaluation.statistics import CONFIDENCE, RESAMPLES, Estimate, estimate, iqm

TWIN = "single"
_LAYERS = ("widths", "trunk_widths", "tower_widths", "task_widths")  # in the order of the layers
_CHUNK = 4_000_000  # differences drawn at once, so that memory stays below about 100 MB


class Judged(Protocol):
    """What gains are measured of: a ``Learner``, or ``Twins``."""

    def example_scores(self, tasks: Sequence[TaskData]) -> dict[str, np.ndarray]:
        """See ``Learner.example_scores``."""


@dataclass(frozen=True)
class Twins:
    """A network for each task, which knows of no other.

    Attributes:
        learners: by the name of their one task.
    """

    learners: dict[str, Learner]

    def example_scores(self, tasks: Sequence[TaskData]) -> dict[str, np.ndarray]:
        """See ``Learner.example_scores``."""
        found: dict[str, np.ndarray] = {}
        for task in tasks:
            learner = self.learners[check_choice("task", task.name, self.learners)]
            found |= learner.example_scores([task])
        return found


def train_twins(
    learner: Learner,
    tasks: Sequence[TaskData],
    validation: Sequence[TaskData] | None = None,
    out: str | Path | None = None,
    config: TrainConfig | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    resume: bool = False,
    **kwargs: Any,
) -> Twins:
    """The single-task twins of ``learner``, each trained on its own.

    Args:
        learner: whose hidden layers the twins have: from the input to an output of one task, if
            the architecture has several in a row (encoder, trunk, tower) all of them.
        tasks, validation, config, seed: as it was trained with. Where only ``tasks_per_step`` of
            the tasks take part in a step, twins take that share of steps, in all and between two
            looks at validation examples.
        out: folder of checkpoints, in which every task has one, task0 and so on.
        steps: of the learner; ``config.steps`` by default.
        resume: go on from the checkpoints in ``out``, as far as there are any.
        **kwargs: further ones of ``train_multitask``.
    """
    of, config = learner.architecture.config, config or TrainConfig()
    widths = [x for name in _LAYERS for x in getattr(of, name, None) or ()]
    share = (config.tasks_per_step or len(tasks)) / len(tasks)
    config = replace(
        config, tasks_per_step=None, eval_every=math.ceil(share * config.eval_every),
        steps=math.ceil(share * (config.steps if steps is None else steps)),
    )  # fmt: skip
    found = {}
    for number, task in enumerate(tasks):
        folder = None if out is None else Path(out) / f"task{number}"
        found[task.name] = train_multitask(
            make_learner([task], TWIN, architecture_kwargs={"widths": widths}, seed=seed),
            [task], None if validation is None else [validation[number]], folder, config,
            seed=seed, resume=resume and folder is not None and (folder / CONFIG).is_file(),
            **kwargs,
        )  # fmt: skip
    return Twins(found)


@dataclass(frozen=True)
class Gains:
    """Scores of test examples of a network and of its twins.

    Attributes:
        kinds: of the tasks, by name.
        ours: what the score of each task is the mean of, by name [seeds, examples].
        twins: likewise, of the twins.
        groups: tasks with equal numbers are judged on the same examples.
        crossed: all seeds are judged on the same examples.
    """

    kinds: dict[str, str]
    ours: dict[str, np.ndarray]
    twins: dict[str, np.ndarray]
    groups: tuple[int, ...]
    crossed: bool

    @classmethod
    def of(
        cls,
        learners: Sequence[Judged],
        twins: Sequence[Judged],
        tests: Sequence[Sequence[TaskData]],
    ) -> Gains:
        """Judge learners and twins, one of each per seed.

        Args:
            learners, twins: by seed.
            tests: test examples of the tasks, by seed.
        """
        first = tests[0]
        return cls.from_scores(
            [x.example_scores(test) for x, test in zip(learners, tests, strict=True)],
            [x.example_scores(test) for x, test in zip(twins, tests, strict=True)],
            first,
            all(
                np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y)
                for test in tests
                for a, b in zip(test, first, strict=True)
            ),
        )

    @classmethod
    def from_scores(
        cls,
        ours: Sequence[Mapping[str, np.ndarray]],
        twins: Sequence[Mapping[str, np.ndarray]],
        tasks: Sequence[TaskData],
        crossed: bool,
    ) -> Gains:
        """Of what ``Learner.example_scores`` gave, by seed.

        Args:
            ours, twins: by seed.
            tasks: the test examples of a seed.
            crossed: all seeds are judged on these.
        """
        inputs = [task.x.tobytes() for task in tasks]
        names = [task.name for task in tasks]
        try:
            stacks = [
                {n: np.stack([scores[n] for scores in side]) for n in names}
                for side in (ours, twins)
            ]
        except ValueError:
            raise InvalidArgumentError(
                "Every seed needs as many test examples of a task as every other."
            ) from None
        return cls(
            {task.name: task.kind for task in tasks}, stacks[0], stacks[1],
            tuple(inputs.index(x) for x in inputs), crossed,
        )  # fmt: skip

    def gain(self, *names: str) -> Estimate:
        """The mean gain over ``names``, all tasks by default, with its 95 % interval.

        Raises:
            InvalidArgumentError: some gain accuracy and others R², which have no common scale.
        """
        chosen = names or tuple(self.kinds)
        if len({score_name(self.kinds[name]) for name in chosen}) > 1:
            raise InvalidArgumentError(
                "Gains in accuracy and in R² have no mean; name tasks of one kind: "
                f"{', '.join(f'{name!r} ({score_name(self.kinds[name])})' for name in chosen)}."
            )
        differences = [self.ours[name] - self.twins[name] for name in chosen]
        order = list(self.kinds)
        groups = [self.groups[order.index(name)] for name in chosen]
        return gain_estimate(differences, groups=groups, crossed=self.crossed)

    def results(
        self,
        agent: str,
        seeds: Sequence[int],
        tasks_name: str,
        tasks_kwargs: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        seconds: float = 0.0,
        training: dict[str, Any] | None = None,
        device: str = "cpu",
    ) -> list[Result]:
        """One per task: the gains of the seeds, with the scores of both in ``extras``.

        Args:
            agent: a label.
            seeds: in the order of the scores; they stand in ``extras``, the first as the Result's.
            tasks_name, tasks_kwargs: where the tasks came from; the task's name is added.
            config: hyperparameters.
            seconds: of wall time, all tasks together.
            training: what it cost.
            device: where it ran.

        Raises:
            InvalidArgumentError: not as many seeds as there are scores.
        """
        if len(seeds) != (count := len(next(iter(self.ours.values())))):
            raise InvalidArgumentError(f"There are scores of {count} seeds, not of {list(seeds)}.")
        found = []
        for name, kind in self.kinds.items():
            ours, twin = self.ours[name].mean(1), self.twins[name].mean(1)
            gains, center, middle = ours - twin, self.gain(name), estimate(ours - twin, iqm)
            result = Result(
                env_id=tasks_name, env_kwargs={**(tasks_kwargs or {}), "task": name},
                split="test", agent=agent, agent_config=config or {}, privileged=False,
                training=training, seed=seeds[0], num_envs=1,
                metric=f"gain in {score_name(kind)} over the single-task twin",
                minimize=False, scores=gains.tolist(), mean=float(gains.mean()),
                iqm=middle.value, interval=(center.low, center.high),
                iqm_interval=(middle.low, middle.high), returns=gains.tolist(),
                lengths=[self.ours[name].shape[1]] * len(gains),
                extras={"seed": list(seeds), "score": ours.tolist(), "twin": twin.tolist()},
                curves=None,
                env_steps=self.ours[name].size, wall_time_s=seconds, finished=True,
                device=f"{device}, {machine()}",
            )  # fmt: skip
            found.append(result)
        return found

    def table(self) -> str:
        """Markdown: score, the twin's, and the gain with its interval, for each task."""
        lines = ["| task | score | single-task twin | gain |", "|:--|:--|:--|:--|"]
        for name, kind in self.kinds.items():
            lines.append(
                f"| {name} ({score_name(kind)}) | {self.ours[name].mean():.3f} | "
                f"{self.twins[name].mean():.3f} | {cell(self.gain(name))} |"
            )
        if len(self.kinds) > 1 and len({score_name(kind) for kind in self.kinds.values()}) == 1:
            means = [np.mean([x.mean() for x in side.values()]) for side in (self.ours, self.twins)]
            lines.append(f"| mean | {means[0]:.3f} | {means[1]:.3f} | {cell(self.gain())} |")
        return "\n".join(lines)


def gain_estimate(
    differences: Sequence[np.ndarray],
    *,
    groups: Sequence[int] | None = None,
    crossed: bool = True,
    seed: int = 0,
) -> Estimate:
    """The mean of paired differences over tasks, seeds and examples, with a 95 % interval.

    A bootstrap of two levels. Seeds are drawn with replacement, the same for all tasks. Examples
    are drawn too: once for all seeds where those are judged on the same ones, anew for each drawn
    seed where they are not. With one seed the interval is over examples alone.

    Args:
        differences: by task [seeds, examples].
        groups: tasks with equal numbers have the same examples, which are drawn once for all of
            them; None: each its own.
        crossed: all seeds are judged on the same examples.
        seed: of the resampling.

    Raises:
        InvalidArgumentError: no task, different numbers of seeds, or a difference that is not
            finite.
    """
    arrays = [np.asarray(x, np.float64) for x in differences]
    if not arrays or any(x.ndim != 2 or not x.size or len(x) != len(arrays[0]) for x in arrays):
        raise InvalidArgumentError(
            f"Gains need [seeds, examples] of the same seeds for each task; the shapes are "
            f"{[x.shape for x in arrays]}."
        )
    if not all(np.isfinite(x).all() for x in arrays):
        raise InvalidArgumentError("A score is not finite: training diverged.")
    groups = list(range(len(arrays))) if groups is None else list(groups)
    seeds, rng = len(arrays[0]), np.random.default_rng(seed)
    size = max(1, _CHUNK // max(x.size for x in arrays))
    drawn = []
    for start in range(0, RESAMPLES, size):
        count = min(size, RESAMPLES - start)
        rows = rng.integers(seeds, size=(count, seeds))
        weights: dict[int, np.ndarray] = {}  # how often each example is drawn, by group
        total = np.zeros(count)
        for x, group in zip(arrays, groups, strict=True):
            if group not in weights:
                n = x.shape[1]
                shape = (count, 1) if crossed else (count, seeds)
                weights[group] = rng.multinomial(n, np.full(n, 1 / n), size=shape) / n
            total += (x[rows] * weights[group]).sum(-1).mean(-1)
        drawn.append(total / len(arrays))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(drawn), (tail, 1 - tail))
    return Estimate(float(np.mean([x.mean() for x in arrays])), float(low), float(high))


def cell(found: Estimate, digits: int = 3) -> str:
    """An estimate with its sign and its interval."""
    return f"{found.value:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"
