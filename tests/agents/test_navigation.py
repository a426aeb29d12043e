"""The written agents for navigation: the ceiling in closed form, the goal out of three rewards."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from metagym.agents.navigation import StraightToGoal, Trilateration
from metagym.agents.random import RandomAgent
from metagym.core import Agent
from metagym.errors import InvalidArgumentError
from metagym.evaluation import evaluate
from metagym.evaluation.evaluate import make_vector_env

ID = "MetaNavigation2D-v0"


def _goals(rows, seed=0):
    """The goals that ``evaluate`` draws for one batch."""
    env = make_vector_env(ID, rows, "test", {})
    first = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return env.reset(seed=first)[1]["task"]["goal"]


def _ceiling(goal):
    """Every coordinate comes nearer by 0.1 a step, until it is there; [B]."""
    away = np.abs(goal)
    total = np.zeros(len(goal))
    walking = np.ones(len(goal), dtype=bool)
    for _ in range(100):
        away = np.maximum(away - 0.1, 0.0)
        squared = np.square(away).sum(axis=1)
        total -= np.where(walking, squared, 0.0)
        walking &= squared > 0.01**2
    return total


def test_the_oracle_is_the_closed_form():
    result = evaluate(StraightToGoal(), ID, episodes=400)
    assert result.privileged
    returns = np.array(result.extras["inner_returns"])
    np.testing.assert_allclose(returns, np.stack([_ceiling(_goals(400))] * 3, axis=1), atol=1e-6)
    assert np.all(result.extras["inner_success"])


def test_no_agent_is_better_than_the_oracle():
    best = np.array(evaluate(StraightToGoal(), ID, episodes=200).scores)
    for agent in (RandomAgent(), Trilateration()):
        assert (np.array(evaluate(agent, ID, episodes=200).scores) <= best + 1e-6).all()


@pytest.mark.parametrize(
    "kwargs", [{}, {"action_scale": 0.02}, {"goal_range": 3.0}, {"inner_horizon": 6}], ids=str
)
def test_three_rewards_give_the_goal_away(kwargs):
    result = evaluate(Trilateration(), ID, episodes=300, **kwargs)
    best = evaluate(StraightToGoal(), ID, episodes=300, **kwargs)
    found, best_found = (np.array(r.extras["inner_success"]) for r in (result, best))
    own, ceiling = (np.array(r.extras["inner_returns"]) for r in (result, best))
    np.testing.assert_array_equal(found[:, 1:], best_found[:, 1:])
    np.testing.assert_allclose(own[:, 1:], ceiling[:, 1:], rtol=1e-4, atol=1e-5)
    assert own[:, 0].mean() < 1.2 * ceiling[:, 0].mean()  # negative numbers: it had to look first


@pytest.mark.parametrize("goal", [(0.1, 0.0), (0.1, 0.1), (0.0, 0.1), (0.0, 0.0), (0.004, 0.1)])
def test_goals_on_the_way_of_the_first_steps_do_no_harm(goal):
    env = gym.make_vec(ID, num_envs=1, autoreset_mode="Disabled", n=4)
    agent = Trilateration()
    agent.bind(env)
    observations, _ = env.reset(seed=0, options={"task": {"goal": np.array([goal])}})
    agent.reset(np.array([True]))
    terminated = np.array([False])
    for _ in range(60):
        observations, _, terminated, _, infos = env.step(agent.act(observations))
        if terminated[0]:
            break
    assert terminated[0] and infos["inner_success"].all()
    assert infos["inner_lengths"][0, -1] <= 2


@pytest.mark.parametrize("make", [StraightToGoal, Trilateration])
def test_they_are_agents_and_refuse_other_environments(make):
    assert isinstance(make(), Agent)
    with pytest.raises(InvalidArgumentError, match="MetaNavigation2D"):
        make().bind(gym.make_vec("MetaBandit-v0", num_envs=2))
