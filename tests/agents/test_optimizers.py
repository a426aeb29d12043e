"""Update rules as agents, and how the hand-designed ones are tuned."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from metagym.agents import optimizers
from metagym.agents.optimizers import AGENTS, GRIDS, RULES, HandDesigned, RuleAgent, tune
from metagym.errors import InvalidArgumentError
from metagym.evaluation import evaluate
from metagym.optim.hand_designed import SGD, Momentum

ENV = "LearnToOptimize-v0"
KWARGS: dict[str, Any] = {"dim": 3, "horizon": 10, "history": 2}


def plain(num_envs: int = 3, **kwargs: Any) -> Any:
    settings = {**KWARGS, "autoreset_mode": "Disabled", **kwargs}
    return gym.make_vec(ENV, num_envs, **settings)


def test_the_action_is_the_step_of_the_rule() -> None:
    env = plain(action_scale=4.0, dtype="float64")
    agent = RuleAgent(SGD(lr=0.01))
    agent.bind(env)
    observations, infos = env.reset(seed=0)
    agent.reset(np.ones(3, dtype=bool))
    task = {name: values for name, values in infos["task"].items() if name[0] != "_"}
    x = task["initial"].astype(np.float64)
    for _ in range(5):
        x = x - 0.01 * env.problem.value_and_grad(task, x)[1]
        observations, *_, infos = env.step(agent.act(observations))
    np.testing.assert_allclose(infos["loss"], env.problem.value_and_grad(task, x)[0], rtol=1e-4)


def test_rows_are_reset_alone() -> None:
    """After the reset of one row: as a fresh agent there, as before elsewhere."""
    mask = np.array([False, True, False])
    losses = {}
    for name, cut in (("whole", False), ("cut", True)):
        env, agent = plain(), RuleAgent(Momentum())
        agent.bind(env)
        observations, infos = env.reset(seed=0)
        agent.reset(~np.zeros(3, dtype=bool))
        task = {k: v for k, v in infos["task"].items() if k[0] != "_"}
        seen = [infos["loss"]]
        for t in range(8):
            if cut and t == 4:
                options = {"reset_mask": mask, "task": task}
                observations, _ = env.reset(options=options)
                agent.reset(mask)
            observations, *_, infos = env.step(agent.act(observations))
            seen.append(infos["loss"])
        losses[name] = np.array(seen)
    np.testing.assert_array_equal(losses["cut"][:, ~mask], losses["whole"][:, ~mask])
    np.testing.assert_allclose(losses["cut"][5:, mask], losses["whole"][1:5, mask], rtol=1e-5)


def test_an_agent_serves_one_environment_after_another() -> None:
    agent = HandDesigned("lbfgs")
    first = evaluate(agent, ENV, "validation", 5, **KWARGS).scores
    evaluate(agent, ENV, "validation", 7, dim=2, horizon=4)
    assert evaluate(agent, ENV, "validation", 5, **KWARGS).scores == first


def test_steps_that_are_not_finite_become_actions() -> None:
    class Wild(SGD):
        def update(self, loss: np.ndarray, gradient: Any, last_update: Any) -> Any:
            step = np.full_like(gradient, np.nan)
            step[:, 0], step[:, 1] = np.inf, -np.inf
            return step

    env, agent = plain(), RuleAgent(Wild())
    agent.bind(env)
    actions = agent.act(env.reset(seed=0)[0])
    np.testing.assert_array_equal(actions, [[1.0, -1.0, 0.0]] * 3)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "BlackBoxOptimize-v0", "MetaNavigation2D-v0"])
def test_a_rule_needs_updates_for_actions(env_id: str) -> None:
    with pytest.raises(InvalidArgumentError, match="update rule"):
        evaluate(HandDesigned("adam"), env_id, episodes=2)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_optimises_with_its_defaults(name: str) -> None:
    result = evaluate(AGENTS[name](), ENV, "validation", 32, horizon=50, history=1)
    start = evaluate(RuleAgent(SGD(lr=1e-9)), ENV, "validation", 32, horizon=50, history=1)
    assert result.mean < start.mean - 0.5
    assert result.agent == name


def test_wrong_names_come_with_the_nearest_right_one() -> None:
    with pytest.raises(InvalidArgumentError, match="Did you mean 'adam'"):
        HandDesigned("adamm")
    with pytest.raises(InvalidArgumentError, match="Did you mean 'beta1'"):
        HandDesigned("adam", beta_1=0.9)
    with pytest.raises(InvalidArgumentError, match="no hyperparameter 'eps'"):
        HandDesigned("sgd", eps=1e-8)
    with pytest.raises(InvalidArgumentError, match="Did you mean 'momentum'"):
        tune("momentom", ENV, 2)


@pytest.mark.parametrize("name", RULES)
def test_everything_that_a_rule_takes_can_be_given(name: str) -> None:
    known = inspect.signature(RULES[name]).parameters
    assert set(GRIDS[name]) <= set(known)
    defaults = {key: parameter.default for key, parameter in known.items()}
    assert HandDesigned(name, **defaults).config == defaults


def test_tuned_hyperparameters_are_taken_unless_some_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "tuned.json"
    table.write_text(json.dumps({ENV: {"sgd": {"lr": 0.123}}}))
    monkeypatch.setattr(optimizers, "TUNED_FILE", table)
    tuned, given, other = HandDesigned("sgd"), HandDesigned("sgd", lr=0.5), HandDesigned("adam")
    for agent in (tuned, given, other):
        agent.bind(plain())
    assert tuned.config == {"lr": 0.123, "tuned_for": ENV}
    assert given.config == {"lr": 0.5}
    assert other.config["tuned_for"] is None
    assert optimizers.tuned_hyperparameters(f"metagym:{ENV}") == {"sgd": {"lr": 0.123}}
    monkeypatch.setattr(optimizers, "TUNED_FILE", tmp_path / "missing.json")
    assert optimizers.tuned_hyperparameters(ENV) == {}


def test_the_shipped_table_fits_the_rules() -> None:
    if not optimizers.TUNED_FILE.is_file():
        pytest.skip("nothing was tuned yet")
    for env_id, rules in json.loads(optimizers.TUNED_FILE.read_text()).items():
        assert env_id in gym.registry
        for name, hyperparameters in rules.items():
            HandDesigned(name, **hyperparameters)


def test_tune_finds_the_best_of_the_grid_on_the_train_split(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    splits: list[Any] = []
    lines: list[str] = []
    original = optimizers.evaluate

    def watched(agent: Any, env_id: str, split: str, *args: Any, **kwargs: Any) -> Any:
        splits.append((split, args))
        return original(agent, env_id, split, *args, **kwargs)

    monkeypatch.setattr(optimizers, "evaluate", watched)
    grid = {"lr": (1e-6, 0.05, 3.0), "momentum": (0.0, 0.5)}
    best = tune("momentum", ENV, 16, grid=grid, report=lines.append, **KWARGS)
    assert splits == [("train", (16, 1_000_000))] * 6
    scores = {
        (lr, m): original(
            HandDesigned("momentum", lr=lr, momentum=m), ENV, "train", 16, 1_000_000, **KWARGS
        ).mean
        for lr in grid["lr"]
        for m in grid["momentum"]
    }
    assert (best["lr"], best["momentum"]) == min(scores, key=scores.__getitem__)
    assert best["lr"] == 0.05
    text = "\n".join(lines)
    assert "1e-06" in text and "3.0" in text and "best of 6" in text and "train" in text
