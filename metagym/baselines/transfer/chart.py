"""What TensorBoard shows of a look at the target: the accuracy beside that of a constant answer.

It takes labels that no method of transfer is given. They are for the one who watches; nothing in
the training depends on a look, and the target's test part is left for ``evaluate_domains``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from metagym.monitoring import RunLogger
from metagym.tasks.domains import DomainPair


class TargetChart:
    """Writes the looks of one run at the target's training part.

    The baseline answers with the commonest class of the source.

    Args:
        pair: of the domains.
    """

    def __init__(self, pair: DomainPair) -> None:
        self._x, self._y = pair.Xt, pair.yt_all
        self._classes, counts = np.unique(pair.y, return_counts=True)
        self.baselines = {
            "commonest_class": float((self._y == self._classes[counts.argmax()]).mean())
        }

    def look(self, method: Any, log: RunLogger, step: int) -> None:
        """Write the accuracy of ``method.predict`` after so many steps."""
        answers = method.predict(self._x)
        log.evaluation(
            step, float((answers == self._y).mean()), baselines=self.baselines,
            figure=self._figure(answers),
        )  # fmt: skip

    def _figure(self, answers: np.ndarray) -> Figure:
        """Which classes are taken for which: shares of each true class."""
        classes = np.union1d(self._classes, self._y)
        table = np.zeros((len(classes), len(classes)))
        places = np.searchsorted(classes, self._y), np.searchsorted(classes, answers)
        np.add.at(table, places, 1.0)
        drawing = Figure(figsize=(4.6, 4.2), dpi=100, layout="constrained")
        axes = drawing.subplots()
        shown = axes.imshow(table / np.maximum(table.sum(axis=1, keepdims=True), 1.0), vmin=0.0)
        axes.set_xlabel("answer")
        axes.set_ylabel("class of the target's training example")
        drawing.colorbar(shown, label="share of the class")
        return drawing
