"""Comparisons: paired, and drawn."""

from __future__ import annotations

import numpy as np
import pytest

from metagym.agents.random import RandomAgent
from metagym.errors import InvalidArgumentError
from metagym.evaluation import compare
from metagym.evaluation.compare import figure, save_figure

SMALL = {"dim": 2, "horizon": 4, "episodes": 12}


class Still:
    def bind(self, env) -> None:
        self.shape = env.action_space.shape

    def reset(self, mask) -> None:
        pass

    def act(self, observations, action_masks=None):
        return np.zeros(self.shape, np.float32)


@pytest.fixture(scope="module")
def comparison():
    agents = {"still": Still(), "still too": Still(), "random": RandomAgent()}
    return compare(agents, "LearnToOptimize-v0", **SMALL)


def test_equal_agents_differ_by_nothing_and_worse_ones_by_more(comparison):
    still, twin, random = comparison.results
    assert comparison.difference(twin) == (0.0, 0.0, 0.0)
    assert comparison.improvement(twin) == 0.5
    assert comparison.difference(random).low > 0.0
    assert comparison.improvement(random) < 0.2  # smaller is better
    assert comparison.difference(random).value == pytest.approx(random.mean - still.mean)


def test_labels_and_dict(comparison):
    values = comparison.as_dict()
    assert [result["agent"] for result in values["results"]] == ["still", "still too", "random"]
    assert set(values["differences"]) == {"still too", "random"}
    assert values["reference"] == "still"


def test_figure_holds_every_curve(comparison, tmp_path):
    (axes,) = figure([comparison]).axes
    assert len(axes.lines) == 3
    np.testing.assert_allclose(axes.lines[0].get_ydata()[-1], comparison.results[0].mean, atol=1e-5)
    save_figure([comparison], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_environments_without_a_loss_are_drawn_as_means():
    (axes,) = figure([compare({"a": RandomAgent()}, "CartPole-v1", episodes=3)]).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a"]


def test_nobody_to_compare():
    with pytest.raises(InvalidArgumentError, match="at least one agent"):
        compare({}, "LearnToOptimize-v0")
