"""Random search, computed, beside random search, run."""

from __future__ import annotations

import numpy as np
import pytest

from metagym.architectures import make_evaluator
from metagym.rl.search_chart import SearchChart


def test_random_search_is_what_running_it_gives() -> None:
    evaluator = make_evaluator("digits201")
    chart, rng = SearchChart(evaluator), np.random.default_rng(1)
    runs, count = 2000, 20
    tokens = evaluator.space.sample(rng, runs * count)
    found = evaluator.evaluate(tokens, 3 * rng.integers(1000, size=len(tokens)))
    best = found.reward.reshape(runs, count).argmax(axis=1)
    reached = found.test.reshape(runs, count)[np.arange(runs), best]
    error = reached.std() / runs**0.5
    assert chart.random_search(count) == pytest.approx(reached.mean(), abs=4 * error)
    assert chart.ceiling == evaluator.optimum
