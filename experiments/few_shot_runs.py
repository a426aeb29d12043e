"""What the analyses of few-shot learning share: runs that resume, scores of all seeds, cells."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kept_runs import refuse_other
from metagym.baselines.few_shot.base import FewShotMethod, mse
from metagym.baselines.few_shot.gradient import GradientMethod
from metagym.baselines.few_shot.judge import to_device
from metagym.baselines.few_shot.train import TrainConfig, load_method, train_few_shot
from metagym.checkpoint import CONFIG, read_config
from metagym.evaluation.statistics import Estimate, estimate
from metagym.tasks.few_shot import TaskDistribution

_MACHINE = ("device", "threads")  # settings that do not change what is computed
_BATCH = 250  # tasks judged at a time; with the seed it determines them


def trained(
    method: FewShotMethod,
    tasks: TaskDistribution,
    out: Path,
    loop: TrainConfig,
    seed: int,
    measure: Callable[[FewShotMethod], Mapping[str, float]] | None = None,
    *,
    seconds: float | None = None,
    tasks_name: str | None = None,
    tasks_kwargs: dict[str, Any] | None = None,
) -> FewShotMethod:
    """``method`` after meta-training, of which only what is not in ``out`` yet is done.

    Args:
        method: with fresh weights.
        tasks: to train on.
        out: folder of the checkpoint.
        loop: of the training; a finished run may go on for more iterations if its outer rate is
            constant.
        seed: of the tasks.
        seconds: of training in all, in place of the loop's iterations.
        measure, tasks_name, tasks_kwargs: see ``train_few_shot``.

    Raises:
        InvalidArgumentError: the run in ``out`` has other settings or more iterations.
    """
    started = (out / CONFIG).is_file()
    if started:
        saved = read_config(out)
        done, spent = saved["training"]["iteration"], saved["training"]["seconds"]
        asked = json.loads(json.dumps(asdict(loop) | asdict(method.config)))
        longer = seconds is None and loop.schedule == "constant" and done <= loop.iterations
        refuse_other(out, asked, saved["config"], (*_MACHINE, *["iterations"] * longer))
        if done >= loop.iterations if seconds is None else spent >= seconds:
            return load_method(out, loop.device)
    return train_few_shot(
        method, tasks, out, loop, seed=seed, seconds=seconds, resume=started, measure=measure,
        tasks_name=tasks_name, tasks_kwargs=tasks_kwargs,
    )  # fmt: skip


@torch.no_grad()
def path_scores(
    method: GradientMethod,
    tasks: TaskDistribution,
    split: str,
    count: int,
    steps: Sequence[int],
    seed: int = 0,
) -> dict[int, np.ndarray]:
    """The squared error of each task after each number of inner steps: {steps: float64 [count]}.

    Args:
        method: of regression.
        tasks, split, count, seed: which tasks; the same arguments give the same ones.
        steps: numbers of steps, from 0.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[int, list[torch.Tensor]] = {number: [] for number in steps}
    for start in range(0, count, _BATCH):
        drawn = to_device(tasks.sample(min(_BATCH, count - start), split, generator), method.device)
        path = method.predict_path(drawn, max(steps))
        for number, parts in found.items():
            parts.append(mse(path[number], drawn.query_y))
    return {number: torch.cat(parts).double().cpu().numpy() for number, parts in found.items()}


@dataclass(frozen=True)
class OverSeeds:
    """The scores of one row of a table, trained several times and judged on the same tasks.

    Attributes:
        scores: [seeds, tasks].
    """

    scores: np.ndarray

    @property
    def diverged(self) -> int:
        """On how many tasks a score of any seed is not finite."""
        return int((~np.isfinite(self.scores)).any(0).sum())

    @property
    def per_task(self) -> np.ndarray:
        """The mean over seeds, [tasks]."""
        return np.asarray(self.scores.mean(0))

    @property
    def estimate(self) -> Estimate:
        """The mean over seeds and tasks, with its 95 % interval over tasks.

        Raises:
            InvalidArgumentError: a score is not finite; a mean over the others would flatter.
        """
        return estimate(self.per_task)

    def cell(self, scale: float = 1.0, digits: int = 3) -> str:
        """The mean ± half its interval, and from the worst to the best seed what they differ."""
        if self.diverged:
            return f"diverges on {self.diverged} task{'s' * (self.diverged > 1)}"
        value, low, high = (scale * x for x in self.estimate)
        text = f"{value:.{digits}f} ± {(high - low) / 2:.{digits}f}"
        if len(self.scores) == 1:
            return text
        seeds = scale * self.scores.mean(1)
        return f"{text} ({seeds.min():.{digits}f} to {seeds.max():.{digits}f})"

    def as_dict(self) -> dict[str, object]:
        """For a JSON file: the estimate (or how many tasks diverged) and the mean of each seed."""
        if self.diverged:
            return {"diverged": self.diverged}
        return {**self.estimate._asdict(), "seeds": self.scores.mean(1).tolist()}
