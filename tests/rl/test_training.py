"""The view of the environment that training gets, its budget, one thread."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch

from metagym.errors import InvalidArgumentError
from metagym.rl.training import Budget, make_training_env, one_thread
from metagym.wrappers import GainActions, SymlogObservations

KWARGS = {"dim": 2, "horizon": 4}


def make(env_id: str = "LearnToOptimize-v0", **kwargs: Any) -> Any:
    settings = {"view": "auto", "memory": 1.0, "reward": None, "env_kwargs": KWARGS, **kwargs}
    return make_training_env(env_id, 3, "SameStep", **settings)


@pytest.mark.parametrize(
    ("env_id", "view", "wrapper", "per"),
    [
        ("LearnToOptimize-v0", "auto", GainActions, "problem"),
        ("LearnToOptimize-v0", "problem", GainActions, "problem"),
        ("LearnToOptimize-v0", "coordinate", GainActions, "coordinate"),
        ("LearnToOptimize-v0", "raw", SymlogObservations, None),
        ("LearningRateControl-v0", "auto", SymlogObservations, None),
        ("BlackBoxOptimize-v0", "auto", SymlogObservations, None),
    ],
)
def test_views(env_id: str, view: str, wrapper: type, per: str | None) -> None:
    env, rule = make(env_id, view=view, memory=0.9)
    assert (type(env), env.num_envs) == (wrapper, 3)
    assert (None if rule is None else (rule.per, rule.memory)) == (per and (per, 0.9))
    assert env.unwrapped.split == "train"
    observations, _ = env.reset(seed=0)
    assert env.observation_space.contains(observations)


def test_the_reward_of_training_gives_way_to_the_environments_own_arguments() -> None:
    assert make(reward="log_improvement")[0].unwrapped.reward == "log_improvement"
    own = {**KWARGS, "reward": "negative_loss"}
    assert make(reward="log_improvement", env_kwargs=own)[0].unwrapped.reward == "negative_loss"
    assert make()[0].unwrapped.reward == "negative_loss"
    # Black-box optimisation has no such reward and keeps its own.
    black_box = make("BlackBoxOptimize-v0", reward="log_improvement")[0].unwrapped
    assert black_box.reward in black_box.rewards


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"view": "gains"}, "view='gains'"),
        ({"reward": "log_improvment"}, "Did you mean 'log_improvement'"),
        ({"env_kwargs": {"split": "test"}}, "'split'"),
        ({"env_kwargs": {"autoreset_mode": "Disabled"}}, "'autoreset_mode'"),
        ({"env_kwargs": {"dims": 3}}, "Did you mean 'dim'"),
        ({"env_id": "CartPole-v1", "env_kwargs": {}}, "CartPole-v1"),
        ({"env_id": "BlackBoxOptimize-v0", "view": "coordinate"}, "parameter update"),
    ],
)
def test_what_cannot_be_trained_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        make(**arguments)


def test_a_budget_is_used_up_by_whichever_limit_is_nearer() -> None:
    assert Budget(steps=100, seconds=None).used(25) == 0.25
    assert Budget(steps=100, seconds=None).used(250) == 1.0
    assert Budget(steps=100, seconds=1e6).used(25) == 0.25
    assert Budget(steps=10**9, seconds=1e-9).used(1) == 1.0
    budget = Budget(steps=None, seconds=1e6, before=1e5)
    time.sleep(0.01)
    assert budget.elapsed == 1e5  # nothing has been trained yet
    assert budget.used(10**9) == pytest.approx(0.1)
    time.sleep(0.01)
    assert budget.elapsed >= 1e5 + 0.01 and budget.used(10**9) > 0.1


@pytest.mark.parametrize(
    "limits", [(0, None), (-5, None), (2.5, None), (None, 0.0), (None, -1.0), (None, None)]
)
def test_a_budget_without_a_limit_would_never_end(limits: tuple[Any, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        Budget(*limits)


def test_one_thread_is_given_back() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert torch.get_num_threads() == before
    assert np.isfinite(before)
