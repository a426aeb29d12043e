"""The query network: gradients through the function, what it sees, memory, objectives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import metagym  # noqa: F401
from metagym.baselines.learned_optimizers.black_box import (
    NAME,
    Ask,
    BlackBoxAgent,
    BlackBoxLearner,
    Config,
    load,
    symlog,
    train,
)
from metagym.checkpoint import load_checkpoint, save_checkpoint
from metagym.errors import CheckpointError
from metagym.evaluation import evaluate
from metagym.wrappers.symlog import symlog as numpy_symlog

ENV = "BlackBoxOptimize-v0"
CONFIG = Config(width=6, num_envs=4, validate_every=5, validation_problems=8, device="cpu")


def make_env(**kwargs: Any) -> Any:
    defaults = {"dim": 2, "horizon": 6, "dtype": "float64", "autoreset_mode": "Disabled"}
    return gym.make_vec(ENV, 3, **{**defaults, **kwargs})


def agent_of(learner: BlackBoxLearner, folder: Path) -> BlackBoxAgent:
    weights = {k: v.numpy() for k, v in learner.model.state_dict().items()}
    config = {"agent": NAME, "env_id": ENV, "env_kwargs": {}, "config": {}, **learner.describe()}
    save_checkpoint(folder, config, weights)
    return BlackBoxAgent(load_checkpoint(folder))


@pytest.mark.parametrize("name", ["sphere", "rastrigin", "ackley"])
def test_the_gradient_through_a_query_is_the_functions(name: str) -> None:
    env = make_env(problem_kwargs={"name": name})
    task = env.reset(seed=0)[1]["task"]
    rng = np.random.default_rng(0)
    queries = torch.tensor(rng.uniform(-0.9, 0.9, (3, 2)), requires_grad=True)
    assert torch.autograd.gradcheck(lambda q: Ask.apply(q, env, task, rng), queries)
    wanted = env.problem.value(task, 5.0 * queries.detach().numpy())
    np.testing.assert_allclose(Ask.apply(queries, env, task, rng).detach(), wanted)


def test_a_run_is_differentiated_through_its_queries() -> None:
    """Central differences of the loss along a random direction of the weights, in float64."""
    env = make_env()
    task = env.reset(seed=0)[1]["task"]
    for objective in ("sum", "improvement"):
        learner = BlackBoxLearner(2, replace(CONFIG, objective=objective), 0)  # type: ignore[arg-type]
        learner.model.double()
        with torch.no_grad():  # far queries: some are better than the centre, others worse
            learner.model.output.weight.mul_(20.0)
        parameters = list(learner.model.parameters())

        def loss(learner: BlackBoxLearner = learner) -> torch.Tensor:
            ((value, steps),) = learner.episode(env, task, 0.0, np.random.default_rng(0))
            assert steps == 6
            return value

        loss().backward()
        generator = torch.Generator().manual_seed(0)
        directions = [torch.randn(p.shape, generator=generator).double() for p in parameters]
        found = sum(float((p.grad * d).sum()) for p, d in zip(parameters, directions, strict=True))
        values = []
        for size in (1e-6, -2e-6):
            with torch.no_grad():
                for p, d in zip(parameters, directions, strict=True):
                    p.add_(d, alpha=size)
            values.append(float(loss().detach()))
        assert found == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)
        assert abs(found) > 1e-4


def test_improvement_is_how_far_the_lowest_value_fell() -> None:
    env = make_env()
    task = env.reset(seed=0)[1]["task"]
    learner = BlackBoxLearner(2, replace(CONFIG, objective="improvement"), 0)
    ((loss, _),) = learner.episode(env, task, 0.0, np.random.default_rng(0))
    curves = learner.curves(env, task, np.random.default_rng(0))
    assert curves.shape == (3, 7) and (np.diff(curves, axis=1) <= 0).all()
    wanted = (numpy_symlog(curves[:, -1]) - numpy_symlog(curves[:, 0])).mean()
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-4)


def test_the_agent_asks_what_training_asked(tmp_path: Path) -> None:
    """So the network sees in training exactly what the environment will show it."""
    env = make_env()
    learner = BlackBoxLearner(2, CONFIG, 0)
    observation, infos = env.reset(seed=3)
    asked = torch.stack(learner._ask(env, infos["task"], np.random.default_rng(0))).detach()
    agent = agent_of(learner, tmp_path)
    agent.bind(env)
    agent.reset(np.ones(3, dtype=bool))
    found = [infos["loss"]]
    for _ in range(6):
        observation, _, _, _, infos = env.step(agent.act(observation))
        found.append(infos["loss"])
    np.testing.assert_allclose(np.array(found), asked.numpy(), rtol=1e-4)


def test_a_reset_row_forgets_and_the_others_do_not(tmp_path: Path) -> None:
    env = make_env()
    agent = agent_of(BlackBoxLearner(2, CONFIG, 0), tmp_path)
    observation, _ = env.reset(seed=0)
    agent.bind(env)
    first = agent.act(observation)
    agent.reset(np.array([False, True, False]))
    second = agent.act(observation)
    np.testing.assert_allclose(second[1], first[1], rtol=1e-6)
    assert not np.allclose(second[0], first[0]) and not np.allclose(second[2], first[2])


def test_it_learns(tmp_path: Path) -> None:
    """Five queries find lower values on held-out spheres than those of fresh weights."""
    kwargs: dict[str, Any] = {"dim": 2, "horizon": 5, "problem": "test_function"}
    config = replace(CONFIG, width=16, num_envs=64, validation_problems=128, learning_rate=1e-2)
    train(ENV, tmp_path, config, steps=60 * 64 * 5, env_kwargs=kwargs, progress=False)
    curve = evaluate(load(tmp_path), ENV, "validation", 256, **kwargs).mean
    learner = BlackBoxLearner(2, config, 0)
    untrained = evaluate(agent_of(learner, tmp_path / "start"), ENV, "validation", 256, **kwargs)
    assert curve < untrained.mean - 1.0


def test_it_fits_one_dimension_and_one_kind_of_environment(tmp_path: Path) -> None:
    agent = agent_of(BlackBoxLearner(2, CONFIG, 0), tmp_path)
    for env in (make_env(dim=3), gym.make_vec("LearnToOptimize-v0", 2, dim=2)):
        with pytest.raises(CheckpointError, match="2 dimensions"):
            agent.bind(env)


def test_symlog_is_the_wrappers() -> None:
    values = np.array([-1e4, -1.0, 0.0, 0.5, 1e8], np.float32)
    np.testing.assert_allclose(symlog(torch.tensor(values)), numpy_symlog(values), rtol=1e-6)
