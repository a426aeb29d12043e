"""Negative transfer, measured: a network for all tasks against one network for each of them.

The single-task twins are the architecture "single": the same widths, steps, seed and order of
examples, nothing shared. The gain of a task is its score minus its twin's, example by example, so
that both differences between seeds and between test examples are in the interval: a bootstrap over
seeds and over examples (crossed where all seeds are judged on the same examples, else nested).
Below 0 is negative transfer. Lecture topic: when multi-task learning hurts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metagym.baselines.multitask.data import TaskData
from metagym.baselines.multitask.learner import Learner, score_name
from metagym.baselines.multitask.network import make_learner
from metagym.baselines.multitask.train import TrainConfig, train_multitask
from metagym.errors import InvalidArgumentError
from metagym.evaluation.results import Result, machine
from metagym.evaluation.statistics import CONFIDENCE, RESAMPLES, Estimate, estimate, iqm

TWIN = "single"
_LAYERS = ("widths", "trunk_widths", "tower_widths", "task_widths")  # in the order of the layers
_CHUNK = 4_000_000  # differences drawn at once, so that memory stays below about 100 MB


def train_twins(
    learner: Learner,
    tasks: Sequence[TaskData],
    validation: Sequence[TaskData] | None = None,
    config: TrainConfig | None = None,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    **kwargs: Any,
) -> Learner:
    """The single-task twins of ``learner``, all in one learner that shares nothing.

    Args:
        learner: whose hidden layers the twins have: from the input to an output of one task, if
            the architecture has several in a row (encoder, trunk, tower) all of them.
        tasks, validation, config, seed, out: as it was trained with.
        **kwargs: further ones of ``train_multitask``.
    """
    config_of = learner.architecture.config
    widths = [x for name in _LAYERS for x in getattr(config_of, name, None) or ()]
    twins = make_learner(tasks, TWIN, "uniform", architecture_kwargs={"widths": widths}, seed=seed)
    return train_multitask(twins, tasks, validation, out, config, seed=seed, **kwargs)


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
        learners: Sequence[Learner],
        twins: Sequence[Learner],
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
        """The mean gain over ``names``, all tasks by default, with its 95 % interval."""
        chosen = names or tuple(self.kinds)
        differences = [self.ours[name] - self.twins[name] for name in chosen]
        order = list(self.kinds)
        groups = [self.groups[order.index(name)] for name in chosen]
        return gain_estimate(differences, groups=groups, crossed=self.crossed)

    def results(
        self,
        agent: str,
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
            tasks_name, tasks_kwargs: where the tasks came from; the task's name is added.
            config: hyperparameters.
            seconds: of wall time, all tasks together.
            training: what it cost.
            device: where it ran.
        """
        found = []
        for name, kind in self.kinds.items():
            ours, twin = self.ours[name].mean(1), self.twins[name].mean(1)
            gains, center, middle = ours - twin, self.gain(name), estimate(ours - twin, iqm)
            result = Result(
                env_id=tasks_name, env_kwargs={**(tasks_kwargs or {}), "task": name},
                split="test", agent=agent, agent_config=config or {}, privileged=False,
                training=training, seed=0, num_envs=1,
                metric=f"gain in {score_name(kind)} over the single-task twin",
                minimize=False, scores=gains.tolist(), mean=float(gains.mean()),
                iqm=middle.value, interval=(center.low, center.high),
                iqm_interval=(middle.low, middle.high), returns=gains.tolist(),
                lengths=[self.ours[name].shape[1]] * len(gains),
                extras={"score": ours.tolist(), "twin": twin.tolist()}, curves=None,
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
