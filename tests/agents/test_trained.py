"""What a checkpoint becomes, and the picture of a run beside the baselines."""

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


def test_the_figure_shows_the_run_beside_the_baselines(run: Path) -> None:
    progress = trained.Progress("LearnToOptimize-v0", KWARGS, episodes=4)
    env = gym.make_vec("LearnToOptimize-v0", 2, **KWARGS)
    drawing = progress.figure(env, run, "reinforce")
    assert drawing is not None
    legend = drawing.axes[0].get_legend()
    assert legend is not None
    labels = [text.get_text().split()[0] for text in legend.get_texts()]
    assert labels == ["reinforce", *trained.BASELINES]
    baselines = progress._baselines
    progress.figure(env, run, "reinforce")
    assert progress._baselines is baselines  # they are evaluated once


def test_there_is_no_figure_where_nothing_is_updated(run: Path) -> None:
    env = gym.make_vec("CartPole-v1", 2)
    assert trained.Progress("CartPole-v1", {}).figure(env, run, "reinforce") is None
