"""The chart of an architecture search: its best so far beside random search and the ceiling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from metagym.architectures.evaluator import Evaluator
from metagym.architectures.trials import draw_seeds
from metagym.monitoring import RunLogger
from metagym.rl.architecture_reinforce import Best

SAMPLE = 100_000  # random architectures that random search is computed from


class SearchChart:
    """Looks at a search: the score of the architecture that it would hand in.

    Where scores come from a table, random search costs nothing: its expected score after n
    architectures is computed from ``SAMPLE`` of them. Where children are trained, it would cost as
    much as the search, and there is none.

    Args:
        evaluator: of the search.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.ceiling = evaluator.optimum
        self._random: np.ndarray | None = None  # scores, from the least reward to the highest
        if evaluator.tabular:
            rng = np.random.default_rng(0)
            tokens = evaluator.space.sample(rng, SAMPLE)
            found = evaluator.evaluate(tokens, draw_seeds(rng, SAMPLE, "train"))
            scores = found.reward if evaluator.test_name is None else found.test
            self._random = scores[np.argsort(found.reward, kind="stable")]

    def random_search(self, count: int) -> float | None:
        """The expected score of the best by reward among ``count`` random architectures."""
        return None if self._random is None else _expected(self._random, count)

    def look(self, best: Best, log: RunLogger, step: int) -> None:
        """Write how far the search is.

        Args:
            best: with the history of the search.
            log: of the run.
            step: tokens so far.
        """
        beside = self.random_search(best.count)
        log.evaluation(
            step,
            best.history[-1][1],
            ceiling=self.ceiling,
            baselines={} if beside is None else {"random_search": beside},
            figure=self._figure(best.history, best.count),
        )

    def _figure(self, history: Sequence[tuple[int, float]], count: int) -> Figure:
        """The score of the best so far, by the number of architectures."""
        drawing = Figure(figsize=(5.5, 4.2), dpi=100, layout="constrained")
        axes = drawing.subplots()
        numbers, scores = zip(*history, strict=True)
        axes.step([*numbers, count], [*scores, scores[-1]], where="post", label="best so far")
        if self._random is not None:
            grid = np.unique(np.geomspace(1, count, 30).astype(int))
            expected = [_expected(self._random, int(n)) for n in grid]
            axes.plot(grid, expected, "--", label="random search, expected")
        if self.ceiling is not None:
            axes.axhline(self.ceiling, color="black", linewidth=0.8, label="ceiling")
        axes.set_xscale("log")
        axes.set_xlabel("architectures")
        axes.set_ylabel("score of the best by reward")
        axes.legend(fontsize=8)
        axes.grid(alpha=0.25)
        return drawing


def _expected(scores: np.ndarray, count: int) -> float:
    """The expected score of the one of ``count`` draws that comes last among sorted ``scores``."""
    # Its rank is at most i with probability (i / N)^count.
    within = (np.arange(len(scores) + 1) / len(scores)) ** count
    return float(np.diff(within) @ scores)
