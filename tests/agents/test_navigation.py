"""The written agents for navigation; tests/planning/test_navigation.py has the ceiling."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from metagym.agents.navigation import StraightToGoal, Trilateration
from metagym.agents.random import RandomAgent
from metagym.core import Agent
from metagym.errors import InvalidArgumentError
from metagym.evaluation import evaluate

ID = "MetaNavigation2D-v0"


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
    # The second walk is the oracle's too, unless the first came upon the goal while looking.
    looked = np.array(result.extras["inner_lengths"])[:, 0] >= 3
    assert looked.mean() > 0.9
    for rows, walks in ((looked, np.s_[1:]), (~looked, np.s_[2:])):
        np.testing.assert_array_equal(found[rows, walks], best_found[rows, walks])
        np.testing.assert_allclose(own[rows, walks], ceiling[rows, walks], rtol=1e-4, atol=1e-5)
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
