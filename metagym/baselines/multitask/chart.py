"""What TensorBoard shows of a look at validation examples: every task beside a constant answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from metagym.baselines.multitask.data import TaskData
from metagym.monitoring import RunLogger

CONSTANT = "constant"  # the baseline


class ScoreChart:
    """Writes the looks of one run: a chart of the mean over tasks, and one of each task.

    The baseline answers what is best without looking at an example: the commonest class or the
    mean target of training.

    Args:
        tasks: training examples.
        validation: of the same tasks.
    """

    def __init__(self, tasks: Sequence[TaskData], validation: Sequence[TaskData]) -> None:
        self.baselines = {
            task.name: _constant(task, held_out)
            for task, held_out in zip(tasks, validation, strict=True)
        }

    def look(self, scores: Mapping[str, float], log: RunLogger, step: int) -> None:
        """Write the scores of all tasks, by name, after so many steps."""
        for name, score in scores.items():
            log.evaluation(step, score, baselines={CONSTANT: self.baselines[name]}, task=name)
        log.evaluation(
            step, float(np.mean(list(scores.values()))),
            baselines={CONSTANT: float(np.mean(list(self.baselines.values())))},
            figure=self._figure(scores),
        )  # fmt: skip

    def _figure(self, scores: Mapping[str, float]) -> Figure:
        """A bar for each task, and its baseline."""
        drawing = Figure(figsize=(5.5, 1.5 + 0.25 * len(scores)), dpi=100, layout="constrained")
        axes = drawing.subplots()
        axes.barh(list(scores), list(scores.values()))
        axes.plot(
            [self.baselines[name] for name in scores], list(scores), "k|", markersize=12,
            label=f"{CONSTANT} answer",
        )  # fmt: skip
        axes.invert_yaxis()
        axes.set_xlabel("accuracy or R² of validation examples")
        axes.legend(fontsize=8)
        return drawing


def _constant(task: TaskData, held_out: TaskData) -> float:
    """The accuracy or R² on ``held_out`` of the best constant answer to ``task``."""
    if task.kind != "regression":
        return float((held_out.y == np.bincount(task.y).argmax()).mean())
    errors = np.square(held_out.y - task.y.mean(dtype=np.float64))
    return float(1.0 - errors.mean() / held_out.y.var(dtype=np.float64))
