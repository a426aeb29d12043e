"""What a checkpoint becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from metagym.agents import reinforce, trained
from metagym.agents.optimizers import RuleAgent
from metagym.core import Agent
from metagym.errors import CheckpointError
from metagym.evaluation import evaluate
from metagym.optim import load_rule
from metagym.wrappers.symlog import symlog

KWARGS: dict[str, Any] = {"dim": 2, "horizon": 5}


def test_a_checkpoint_with_a_rule_is_a_rule_agent(run: Path) -> None:
    agent = trained.load(run)
    assert isinstance(agent, Agent)
    assert isinstance(agent, RuleAgent)
    assert agent.name == "reinforce" and agent.config["checkpoint"] == run.name
    assert agent.config["training"]["steps"] == 80
    ours = evaluate(agent, "LearnToOptimize-v0", "validation", 16, **KWARGS).scores
    rule = RuleAgent(load_rule(run))
    assert evaluate(rule, "LearnToOptimize-v0", "validation", 16, **KWARGS).scores == ours


def test_a_raw_policy_acts_on_symlog_observations(tmp_path: Path) -> None:
    config = reinforce.Config(view="raw", num_envs=4, hidden=(8,))
    reinforce.train(
        "LearnToOptimize-v0", tmp_path, config, steps=20, env_kwargs=KWARGS, progress=False
    )
    agent = trained.load(tmp_path)
    assert isinstance(agent, trained.PolicyAgent)
    env = gym.make_vec("LearnToOptimize-v0", 3, **KWARGS)
    agent.bind(env)
    observations, _ = env.reset(seed=0)
    agent.reset(np.ones(3, dtype=bool))
    expected = agent._actor(symlog(observations))
    np.testing.assert_array_equal(agent.act(observations), expected)
    assert agent.act(observations).shape == (3, 2)


def test_a_checkpoint_of_another_agent_is_refused(run: Path) -> None:
    with pytest.raises(CheckpointError, match="'reinforce', not of 'ppo'"):
        trained.load(run, "ppo")


def test_a_policy_of_other_actions_is_refused(tmp_path: Path) -> None:
    env_id = "MetaNavigation2D-v0"
    kwargs: dict[str, Any] = {"inner_horizon": 4}
    config = reinforce.Config(num_envs=4, hidden=(8,))
    reinforce.train(env_id, tmp_path, config, steps=20, env_kwargs=kwargs, progress=False)
    agent = trained.load(tmp_path)
    env = gym.make_vec("MetaBandit-v0", 3, k=6)  # eight numbers are seen there, too
    with pytest.raises(CheckpointError, match=r"in a Box by 2 numbers.*Discrete\(6\)"):
        agent.bind(env)
    for actions in (gym.spaces.Discrete(2), gym.spaces.MultiBinary(2), gym.spaces.Box(-1, 1, (3,))):
        env.single_action_space = actions
        with pytest.raises(CheckpointError, match="arguments of training"):
            agent.bind(env)
