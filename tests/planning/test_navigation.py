"""The best walk against a search over walks, and the oracle that takes it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from metagym.agents.navigation import StraightToGoal
from metagym.evaluation import evaluate
from metagym.evaluation.evaluate import make_vector_env
from metagym.planning.navigation import straight_return

ID = "MetaNavigation2D-v0"


def test_no_walk_on_a_grid_of_velocities_is_better():
    speeds = np.linspace(-0.1, 0.1, 9)
    for goal in np.random.default_rng(0).uniform(-0.3, 0.3, (6, 2)):
        best = straight_return({"goal": goal[None]}, 1, 3, 0.1, 0.01)[0]
        # The coordinates are independent until the walk ends, which only saves: search each.
        found = 0.0
        for g in goal:
            places = np.cumsum(list(itertools.product(speeds, repeat=3)), axis=1)
            found -= np.square(places - g).sum(axis=1).min()
        assert found <= best + 1e-3 * 2  # an end within the tolerance saves at most 2 · 0.01²
        assert found > best - 3 * 2 * 0.0125**2 - 1e-9  # half the grid's spacing away at most


@pytest.mark.parametrize(
    "kwargs", [{}, {"n": 1, "inner_horizon": 3}, {"action_scale": 0.03, "tolerance": 0.1}], ids=str
)
def test_the_oracle_reaches_the_ceiling(kwargs):
    result = evaluate(StraightToGoal(), ID, episodes=300, **kwargs)
    env = make_vector_env(ID, 300, "test", kwargs)
    first = int(np.random.SeedSequence(0).generate_state(1)[0])
    task = env.reset(seed=first)[1]["task"]
    best = straight_return(task, env.n, env.inner_horizon, env.action_scale, env.tolerance)
    np.testing.assert_allclose(result.scores, best, atol=1e-5)
