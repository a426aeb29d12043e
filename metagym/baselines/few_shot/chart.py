"""What TensorBoard shows of a look at validation tasks: the score, and what it has to beat."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from metagym.baselines.few_shot.base import FewShotMethod, mse, score_name, scores
from metagym.baselines.few_shot.gradient import GradientMethod
from metagym.baselines.few_shot.judge import few_shot_scores, to_device
from metagym.baselines.few_shot.training_tasks import TrainOn
from metagym.monitoring import RunLogger
from metagym.tasks.few_shot import TaskDistribution, Tasks
from metagym.tasks.sinusoid import Sinusoid

DRAWN = 100  # tasks that a figure is made from, at most


class ScoreChart:
    """Writes the looks of one run.

    Chance, 1 / ways, is the baseline of classification; that of regression answers with the mean
    of the support set. Sinusoids have no noise, so that their ceiling is an error of 0.

    Args:
        tasks: of the run.
        count, seed, batch: of the validation tasks, as of ``few_shot_scores``.
    """

    def __init__(self, tasks: TaskDistribution, count: int, seed: int, batch: int) -> None:
        judged = tasks.judged if isinstance(tasks, TrainOn) else tasks
        self.ceiling = 0.0 if isinstance(judged, Sinusoid) else None
        self.baselines: dict[str, float] = {}
        self._tasks, self._seed, self._drawn = judged, seed, min(count, batch, DRAWN)
        if judged.kind == "classification":
            self.baselines = {"chance": 1.0 / judged.outputs}
            return
        generator, errors = torch.Generator().manual_seed(seed), []
        for start in range(0, count, batch):
            drawn = judged.sample(min(batch, count - start), "validation", generator)
            errors.append(mse(_support_mean(drawn), drawn.query_y))
        self.baselines = {"support_mean": float(torch.cat(errors).double().mean())}

    def look(self, method: FewShotMethod, score: float, log: RunLogger, step: int) -> None:
        """Write the ``score`` of ``method`` after so many outer steps."""
        log.evaluation(
            step, score, ceiling=self.ceiling, baselines=self.baselines,
            figure=self._figure(method),
        )  # fmt: skip

    def _figure(self, method: FewShotMethod) -> Figure:
        """The score by inner step where a method has such, else its distribution over tasks."""
        drawing = Figure(figsize=(5.5, 4.2), dpi=100, layout="constrained")
        axes = drawing.subplots()
        name = score_name(method.shape.kind)
        (beside,) = self.baselines
        if isinstance(method, GradientMethod):
            curve = self._adaptation(method)
            axes.plot(curve, "o-", label=method.label)
            axes.axhline(self.baselines[beside], color="black", linestyle="--", label=beside)
            axes.set_xlabel("inner step")
            axes.set_ylabel(f"mean {name}")
        else:
            found = few_shot_scores(
                method, self._tasks, "validation", self._drawn, seed=self._seed, batch=self._drawn
            )
            axes.hist(found, bins=20, label=method.label)
            axes.axvline(self.baselines[beside], color="black", linestyle="--", label=beside)
            axes.set_xlabel(name)
            axes.set_ylabel("tasks")
        axes.set_title(f"{self._drawn} validation tasks", fontsize=10)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.25)
        return drawing

    @torch.no_grad()
    def _adaptation(self, method: GradientMethod) -> list[float]:
        """The mean score before and after every inner step."""
        generator = torch.Generator().manual_seed(self._seed)
        drawn = self._tasks.sample(self._drawn, "validation", generator)
        drawn, was_training = to_device(drawn, method.device), method.training
        method.eval()
        try:
            path = method.predict_path(drawn)
        finally:
            method.train(was_training)
        return [float(scores(method.shape.kind, outputs, drawn).mean()) for outputs in path]


def _support_mean(tasks: Tasks) -> torch.Tensor:
    """The mean target of the support set as the answer to every query, [B, Q, outputs]."""
    return tasks.support_y.mean(1, keepdim=True).expand_as(tasks.query_y)
