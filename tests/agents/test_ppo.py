"""PPO: its runs, checkpoints, charts and views; that it learns is the experiments' business."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from metagym.agents import ppo
from metagym.agents.validation import Validation
from metagym.checkpoint import load_checkpoint
from metagym.core import Agent
from metagym.errors import CheckpointError, InvalidArgumentError
from metagym.evaluation import evaluate
from metagym.monitoring import read_scalars
from metagym.optim import load_rule

ENV = "LearnToOptimize-v0"
SMALL: dict[str, Any] = {
    "num_envs": 4, "num_steps": 5, "minibatch_size": 20, "epochs": 2, "hidden": (8,),
    "critic_hidden": (8,), "target_kl": None,
}  # fmt: skip
KWARGS: dict[str, Any] = {"dim": 2, "horizon": 5, "history": 2}
ROLLOUT = 20


@pytest.fixture
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """At validation tasks: that is slow."""
    monkeypatch.setattr(Validation, "look", lambda *_: None)


def train(out: Path, steps: int | None, env_id: str = ENV, **kwargs: Any) -> Path:
    config = ppo.Config(**{**SMALL, **kwargs.pop("config", {})})
    kwargs = {"env_kwargs": KWARGS, **kwargs}
    return ppo.train(env_id, out, config, steps=steps, progress=False, **kwargs)


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_checkpoint(folder, "ppo").weights


def equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_a_run_leaves_an_agent_and_the_usual_charts(tmp_path: Path) -> None:
    train(tmp_path, 3 * ROLLOUT)
    saved = load_checkpoint(tmp_path, "ppo").config
    assert saved["training"]["steps"] == 3 * ROLLOUT
    assert saved["training"]["reward"] == "log_improvement"
    assert saved["rule"]["per"] == "problem" and saved["env_kwargs"] == KWARGS
    assert (tmp_path / ppo.MODEL).is_file() and not (tmp_path / f"new-{ppo.MODEL}").exists()

    agent = ppo.load(tmp_path)
    assert isinstance(agent, Agent)
    result = evaluate(agent, ENV, "validation", 8, **KWARGS)
    assert np.isfinite(result.scores).all() and result.agent == "ppo"
    assert load_rule(tmp_path).config["per"] == "problem"

    charts = read_scalars(tmp_path)
    for tag in (
        "rollout/ep_rew_mean", "rollout/ep_len_mean", "rollout/score_mean", "time/fps",
        "train/loss", "train/value_loss", "train/learning_rate",
    ):  # fmt: skip
        assert tag in charts, tag


@pytest.mark.usefixtures("no_looks")
def test_every_rollout_is_learned_from(tmp_path: Path) -> None:
    """Also the one that reaches the number of steps: one rollout changes the weights."""
    start = train(tmp_path / "start", None, seconds=1e-9)
    one = train(tmp_path / "one", ROLLOUT)
    assert load_checkpoint(one).config["training"]["steps"] == ROLLOUT
    assert not equal(weights(start), weights(one))


@pytest.mark.usefixtures("no_looks")
def test_resume_goes_on_with_weights_optimiser_and_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path, 2 * ROLLOUT)
    before = weights(tmp_path)
    seen: dict[str, Any] = {}
    original = ppo.PPO.learn

    def learn(model: Any, total_timesteps: int, **kwargs: Any) -> Any:
        arrays = model.policy.actor.state_dict()
        seen["weights"] = {k: v.numpy().copy() for k, v in arrays.items()}
        seen["updates"] = [float(s["step"]) for s in model.policy.optimizer.state.values()]
        seen["steps"], seen["asked"] = model.num_timesteps, total_timesteps
        return original(model, total_timesteps, **kwargs)

    monkeypatch.setattr(ppo.PPO, "learn", learn)
    train(tmp_path, 5 * ROLLOUT, resume=True)
    for name, values in seen["weights"].items():
        np.testing.assert_array_equal(values, before[f"actor.{name.removeprefix('layers.')}"])
    assert set(seen["updates"]) == {4.0}  # 2 rollouts of 2 epochs of 1 minibatch
    assert (seen["steps"], seen["asked"]) == (2 * ROLLOUT, 3 * ROLLOUT)
    training = load_checkpoint(tmp_path).config["training"]
    assert training["steps"] == 5 * ROLLOUT
    assert not equal(before, weights(tmp_path))
    # Nothing is left to do: the weights stay.
    done = weights(tmp_path)
    train(tmp_path, 5 * ROLLOUT, resume=True)
    assert equal(done, weights(tmp_path))


@pytest.mark.usefixtures("no_looks")
def test_resume_needs_the_whole_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        train(tmp_path / "none", ROLLOUT, resume=True)
    train(tmp_path, ROLLOUT)
    (tmp_path / ppo.MODEL).unlink()
    with pytest.raises(CheckpointError, match=ppo.MODEL):
        train(tmp_path, 2 * ROLLOUT, resume=True)


@pytest.mark.usefixtures("no_looks")
def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    one, two = (train(tmp_path / name, 2 * ROLLOUT, seed=5) for name in ("one", "two"))
    other = train(tmp_path / "other", 2 * ROLLOUT, seed=6)
    assert equal(weights(one), weights(two)) and not equal(weights(one), weights(other))


@pytest.mark.usefixtures("no_looks")
def test_ctrl_c_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(10))

    def interrupted(model: Any) -> None:
        if next(calls) == 1:
            raise KeyboardInterrupt
        original(model)

    original = ppo.PPO.train
    monkeypatch.setattr(ppo.PPO, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 10 * ROLLOUT)
    assert load_checkpoint(tmp_path, "ppo").config["training"]["steps"] == 2 * ROLLOUT
    assert evaluate(ppo.load(tmp_path), ENV, "validation", 4, **KWARGS).finished


@pytest.mark.usefixtures("no_looks")
@pytest.mark.parametrize("view", ["coordinate", "raw"])
def test_other_views(tmp_path: Path, view: str) -> None:
    train(tmp_path, ROLLOUT, config={"view": view})
    agent = ppo.load(tmp_path)
    assert evaluate(agent, ENV, "validation", 4, **KWARGS).finished
    wider = {**KWARGS, "dim": 3}
    if view == "coordinate":
        assert evaluate(agent, ENV, "validation", 4, **wider).finished
    else:
        with pytest.raises(CheckpointError, match="not an update rule"):
            load_rule(tmp_path)
        with pytest.raises(CheckpointError, match="shape"):
            evaluate(agent, ENV, "validation", 4, **wider)


@pytest.mark.usefixtures("no_looks")
def test_the_raw_view_serves_other_environments(tmp_path: Path) -> None:
    env_id = "LearningRateControl-v0"
    if env_id not in gym.registry:
        pytest.skip(f"{env_id} is not registered yet")
    train(tmp_path, ROLLOUT, env_id)
    assert load_checkpoint(tmp_path).config["rule"] is None
    assert evaluate(ppo.load(tmp_path), env_id, "validation", 4, **KWARGS).finished


@pytest.mark.usefixtures("no_looks")
def test_discrete_actions_are_learned(tmp_path: Path) -> None:
    """Arms that pay nearly always or never: stay with what paid, which takes no memory."""
    env_id, kwargs = "MetaBandit-v0", {"k": 2, "alpha": 0.1, "beta": 0.1}
    config = {
        "num_envs": 128, "num_steps": 10, "minibatch_size": 160, "learning_rate": 0.05,
        "epochs": 4, "hidden": (16,),
    }  # fmt: skip
    train(tmp_path, 25 * 1280, env_id, config=config, env_kwargs=kwargs)
    assert "log_std" not in weights(tmp_path)
    agent = ppo.load(tmp_path)
    assert evaluate(agent, env_id, "validation", 500, **kwargs).mean > 6.0  # at random 5
    with pytest.raises(CheckpointError, match="make it with the arguments of training"):
        evaluate(agent, env_id, "validation", 8, k=4)


def test_discrete_environments_have_a_recipe_of_their_own() -> None:
    discrete = ppo.recipe("MetaBandit-v0")
    assert discrete.target_kl is None and discrete == ppo.recipe("metagym:MetaMaze-v0", 50_000, {})
    assert ppo.recipe("MetaNavigation2D-v0") == ppo.recipe(ENV) == ppo.Config()
    ours = [spec.id for spec in gym.registry.values() if "metagym" in str(spec.entry_point)]
    assert len(ours) > 20
    for env_id in ours:
        env = gym.make(env_id)
        discrete_actions = isinstance(env.action_space, gym.spaces.Discrete)
        if isinstance(env.observation_space, gym.spaces.Box):
            assert discrete_actions == (env_id in ppo.RECIPES), env_id


def test_what_cannot_be_trained_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="CartPole-v1"):
        train(tmp_path, ROLLOUT, "CartPole-v1", env_kwargs={})
    with pytest.raises(InvalidArgumentError, match=r"MultiDiscrete.*'controller'"):
        train(tmp_path, ROLLOUT, "NeuralArchitectureSearch-v0", env_kwargs={})


def test_gains_need_updates_for_actions(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="parameter update"):
        train(tmp_path, ROLLOUT, "BlackBoxOptimize-v0", config={"view": "problem"}, env_kwargs={})
