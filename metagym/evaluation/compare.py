"""``compare``: several agents on the same tasks, each beside the first."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metagym.core import Agent
from metagym.errors import InvalidArgumentError
from metagym.evaluation import statistics
from metagym.evaluation.evaluate import evaluate
from metagym.evaluation.results import Result
from metagym.files import write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Comparison:
    """The results of several agents on one environment; the first is the reference."""

    results: tuple[Result, ...]

    def difference(self, result: Result) -> statistics.Estimate:
        """The mean over tasks of ``result``'s score minus the reference's, with its interval."""
        return statistics.paired_difference(result.scores, self.results[0].scores)

    def improvement(self, result: Result) -> float:
        """The probability that ``result`` beats the reference on a random task."""
        return statistics.probability_of_improvement(
            result.scores, self.results[0].scores, minimize=result.minimize
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: the results, and each one's paired difference to the reference."""
        return {
            "env_id": self.results[0].env_id,
            "reference": self.results[0].agent,
            "differences": {
                result.agent: self.difference(result)._asdict() for result in self.results[1:]
            },
            "results": [json.loads(result.to_json()) for result in self.results],
        }

    def draw(self, axes: Axes) -> None:
        """Optimisation curves with the middle 80 % of tasks; means where there are no curves."""
        first = self.results[0]
        axes.set_title(f"{first.env_id} ({first.split or 'no'} split)", fontsize=10)
        if all(result.curves for result in self.results):
            _draw_curves(axes, self.results)
        else:
            _draw_means(axes, self.results)


def compare(
    agents: Mapping[str, Agent],
    env_id: str,
    split: str = "test",
    episodes: int = 100,
    seed: int = 0,
    *,
    num_envs: int | None = None,
    **env_kwargs: Any,
) -> Comparison:
    """Evaluate every agent on the same tasks and noise.

    Args:
        agents: by label; the first is the reference of the differences.
        env_id, split, episodes, seed, num_envs, **env_kwargs: as in ``evaluate``.

    Raises:
        InvalidArgumentError: no agents, and what ``evaluate`` raises.
    """
    if not agents:
        raise InvalidArgumentError("compare() needs at least one agent.")
    results = []
    for label, agent in agents.items():
        result = evaluate(
            agent, env_id, split, episodes, seed, num_envs=num_envs, curves=True, **env_kwargs
        )
        results.append(dataclasses.replace(result, agent=label))
    return Comparison(tuple(results))


def figure(comparisons: Sequence[Comparison]) -> Figure:
    """One panel per comparison."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(5.5 * len(comparisons), 4.2), dpi=120, layout="constrained")
    panels = drawing.subplots(1, len(comparisons), squeeze=False)[0]
    for comparison, axes in zip(comparisons, panels, strict=True):
        comparison.draw(axes)
    return drawing


def save_figure(comparisons: Sequence[Comparison], path: str | Path) -> None:
    """Write ``figure`` to ``path`` as a PNG, whole or not at all."""
    write_figure(path, figure(comparisons))


def _draw_curves(axes: Axes, results: Sequence[Result]) -> None:
    for row, result in enumerate(results):
        assert result.curves is not None
        mean, quantiles = result.curves["mean"], result.curves["quantiles"]
        (line,) = axes.plot(
            mean, label=f"{result.agent}  {result.mean:.2f}", linewidth=1.8,
            linestyle="-" if row < 10 else "--",  # matplotlib has ten colours
        )  # fmt: skip
        axes.fill_between(
            np.arange(len(mean)), quantiles["0.1"], quantiles["0.9"],
            color=line.get_color(), alpha=0.12, linewidth=0,
        )  # fmt: skip
    assert results[0].curves is not None
    axes.set_xlabel("step")
    axes.set_ylabel(results[0].curves["quantity"])
    axes.grid(alpha=0.25)
    beside: dict[str, Any] = (
        {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)} if len(results) > 6 else {}
    )
    axes.legend(title="mean at the last step", fontsize=8, title_fontsize=8, **beside)


def _draw_means(axes: Axes, results: Sequence[Result]) -> None:
    for row, result in enumerate(results):
        axes.plot(result.interval, (row, row), linewidth=2, color="C0")
        axes.plot(result.mean, row, "o", color="C0")
    axes.set_yticks(range(len(results)), [result.agent for result in results])
    axes.invert_yaxis()
    axes.set_xlabel(f"{results[0].metric}, mean and 95 % interval")
    axes.grid(alpha=0.25, axis="x")
