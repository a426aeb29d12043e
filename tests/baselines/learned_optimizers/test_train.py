"""Training the LSTM rule: its gradient, that it learns, resumes bit for bit, survives Ctrl-C."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import metagym  # noqa: F401
from metagym.agents import learned_lstm
from metagym.baselines.learned_optimizers import black_box, loop
from metagym.baselines.learned_optimizers.train import (
    PUBLISHED,
    Config,
    LSTMLearner,
    Walk,
    load_rule,
    train,
)
from metagym.baselines.learned_optimizers.unrolled import unroll
from metagym.checkpoint import load_checkpoint, save_checkpoint
from metagym.core.task import Task
from metagym.errors import CheckpointError, InvalidArgumentError
from metagym.evaluation import evaluate
from metagym.monitoring import read_scalars
from metagym.problems import ProblemFamily
from metagym.problems.digits_net import ProjectedDigitsNet
from metagym.problems.quadratic import Quadratic

ENV = "LearnToOptimize-v0"
SMALL = Config(
    curriculum=0.0,
    width=4,
    unroll=2,
    num_envs=3,
    validate_every=2,
    validation_problems=4,
    device="cpu",
)
KWARGS: dict[str, Any] = {"dim": 2, "horizon": 5}
BATCH = SMALL.num_envs * 5
QUERIES = black_box.Config(
    width=4, num_envs=3, validate_every=2, validation_problems=4, device="cpu"
)
# Both methods run in one loop: module, environment, config.
METHODS = {
    "l2l": (learned_lstm, ENV, SMALL),
    "black_box_rnn": (black_box, "BlackBoxOptimize-v0", QUERIES),
}


def run(method: str, out: Path, steps: int, **kwargs: Any) -> Path:
    module, env_id, config = METHODS[method]
    defaults: dict[str, Any] = {"config": config, "env_kwargs": KWARGS, "progress": False}
    return module.train(env_id, out, steps=steps, **{**defaults, **kwargs})


def same(one: Path, other: Path) -> bool:
    """In the weights that are kept and in those that training goes on with."""
    a, b = load_checkpoint(one), load_checkpoint(other)
    models = (a.weights, b.weights), (a.extra()["model"], b.extra()["model"])
    return all(x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x)
               for x, y in models)  # fmt: skip


class Slope(ProblemFamily):
    """f(x) = g·x: a gradient that does not depend on x, so that the training gradient is exact."""

    def __init__(self) -> None:
        self.dim = 3

    def sample(self, rng: np.random.Generator, n: int, split: str) -> Task:
        return {"g": rng.standard_normal((n, 3))}

    def value_and_grad(self, task: Task, x: np.ndarray, rng: Any = None) -> Any:
        return np.vecdot(task["g"], x), task["g"].copy()

    def lower(self, task: Task) -> np.ndarray:
        return np.full(len(task["g"]), -1e6)


def start(problem: ProblemFamily, rows: int = 4) -> Task:
    rng = np.random.default_rng(0)
    task = problem.sample(rng, rows, "train")
    return {**task, "initial": problem.initial(task, rng)}


def loud(config: Config) -> LSTMLearner:
    learner = LSTMLearner(config, 0)
    with torch.no_grad():
        learner.rule.network.output.weight.mul_(10.0)
    return learner


def test_where_gradients_are_constant_it_differentiates_the_run_itself() -> None:
    """Central differences of the mean of f(x_t) along a random direction of the weights."""
    problem = Slope()
    task, config = start(problem), replace(PUBLISHED, width=4, unroll=6, device="cpu")
    learner = loud(config)
    parameters = list(learner.model.parameters())
    learner.surrogate(Walk(learner.rule, problem, task, np.random.default_rng(0)), 6).backward()
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(p.shape, generator=generator) for p in parameters]
    found = sum(float((p.grad * d).sum()) for p, d in zip(parameters, directions, strict=True))

    def objective(size: float) -> float:
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(d, alpha=size)
            walk = Walk(learner.rule, problem, task, np.random.default_rng(0))
            losses = []
            for _ in range(6):
                walk.advance()
                losses.append(walk.loss)
            for p, d in zip(parameters, directions, strict=True):
                p.sub_(d, alpha=size)
        return float(np.mean(losses))

    difference = (objective(1e-3) - objective(-1e-3)) / 2e-3
    assert found == pytest.approx(difference, rel=2e-2) and abs(found) > 1e-3


@pytest.mark.parametrize("objective", ["loss", "log"])
@pytest.mark.parametrize("step", ["absolute", "relative"])
def test_the_surrogate_is_backpropagation_with_detached_gradients(
    objective: Any, step: Any
) -> None:
    """Against one graph through all iterates in which only what the network reads is detached."""
    problem = Quadratic(3)
    task = start(problem)
    learner = loud(replace(SMALL, objective=objective, step=step))
    parameters = list(learner.model.parameters())
    learner.surrogate(Walk(learner.rule, problem, task, np.random.default_rng(0)), 4).backward()
    found = [p.grad.clone() for p in parameters]  # type: ignore[union-attr]

    W, y, x = (torch.tensor(task[name]).float() for name in ("W", "y", "initial"))

    def f(x: torch.Tensor) -> torch.Tensor:
        return (torch.einsum("bij,bj->bi", W, x) - y).square().sum(1)

    learner.model.zero_grad()
    rule = learner.rule
    rule.state.clear()
    memory, last = torch.zeros(4, 3, learner.model.memory_size), torch.zeros(4, 3)
    total = torch.zeros(())
    for _ in range(4):
        at = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(f(at).sum(), at)
        seen = rule.observe(f(at).detach(), gradient, last)
        output, memory = learner.model(seen.features[None], memory)
        moved = output[0] * seen.unit
        x, last = x + moved, moved.detach()
        total = total + (f(x).log() if objective == "log" else f(x)).sum()
    (total / (4 * 4)).backward()
    for gradient, parameter in zip(found, parameters, strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["Quadratic", "ProjectedDigitsNet"])
@pytest.mark.parametrize("objective", ["loss", "log"])
def test_with_second_derivatives_it_is_the_gradient_of_the_run(name: str, objective: Any) -> None:
    """Against central differences of the objective along a random direction of the weights."""
    problem = Quadratic(3) if name == "Quadratic" else ProjectedDigitsNet("digits", batch_size=8)
    task = {key: value.astype(float) if value.dtype.kind == "f" else value
            for key, value in start(problem, rows=2).items()}  # fmt: skip
    learner = LSTMLearner(replace(SMALL, objective=objective, second_derivatives=True), 0)
    learner.model.double()
    with torch.no_grad():
        learner.rule.network.output.weight.mul_(10.0)
    parameters = list(learner.model.parameters())

    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]

    def objective_at(shift: float) -> torch.Tensor:
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(d, alpha=shift)
        return unroll(Walk(learner.rule, problem, task, np.random.default_rng(0)), 5, objective)

    objective_at(0.0).backward()
    found = sum(float((p.grad * d).sum()) for p, d in zip(parameters, directions, strict=True))
    difference = float(objective_at(1e-5) - objective_at(-2e-5)) / 2e-5
    assert found == pytest.approx(difference, rel=1e-3) and abs(found) > 1e-3


def test_scaled_coordinates_are_another_problem_with_the_same_values() -> None:
    problem = Quadratic(3)
    task, learner = start(problem), loud(SMALL)
    walk = Walk(learner.rule, problem, task, np.random.default_rng(0), random_scaling=1.0)
    seen = walk.advance()
    plain = Walk(learner.rule, problem, task, np.random.default_rng(0))
    assert not np.allclose(seen.unit, plain.advance().unit)
    value, gradient = problem.value_and_grad(task, walk.x)
    np.testing.assert_allclose(walk.loss, value)
    np.testing.assert_allclose(walk.gradient, gradient)
    np.testing.assert_allclose(walk.slope("loss").numpy(), gradient * walk.scales, rtol=1e-5)


def test_a_few_coordinates_have_the_gradient_of_all_on_average() -> None:
    problem = Quadratic(4)
    task, found = start(problem), []
    for coordinates in (4, 1):
        learner = loud(replace(SMALL, coordinates=coordinates))
        total = [torch.zeros_like(p) for p in learner.model.parameters()]
        draws = 1 if coordinates == 4 else 600
        for seed in range(draws):
            learner.model.zero_grad()
            walk = Walk(learner.rule, problem, task, np.random.default_rng(seed))
            learner.surrogate(walk, 3).backward()
            for sum_, p in zip(total, learner.model.parameters(), strict=True):
                sum_ += p.grad / draws
        found.append(torch.cat([x.flatten() for x in total]))
    every, few = found
    assert float((few - every).norm() / every.norm()) < 0.15
    assert float(torch.cosine_similarity(few, every, dim=0)) > 0.98


def test_a_row_that_diverges_stops_and_teaches_nothing() -> None:
    problem = Quadratic(3)
    task = start(problem)
    learner = LSTMLearner(replace(SMALL, scale=1e9), 0)
    walk = Walk(learner.rule, problem, task, np.random.default_rng(0))
    for _ in range(3):
        walk.advance()
    assert not walk.alive.any() and (walk.value() == 1e8).all()
    np.testing.assert_array_equal(walk.x, task["initial"])
    assert (walk.slope("log") == 0).all()


def test_it_learns(tmp_path: Path) -> None:
    kwargs = {"dim": 2, "horizon": 20}
    config = replace(SMALL, width=10, unroll=10, num_envs=64, validate_every=10,
                     validation_problems=128, learning_rate=2e-2)  # fmt: skip
    train(ENV, tmp_path, config, steps=40 * 64 * 20, env_kwargs=kwargs, progress=False)
    points: dict[str, Any] = {"split": "validation", "episodes": 256, **kwargs}
    learned = evaluate(learned_lstm.load(tmp_path), ENV, **points).mean
    untrained = LSTMLearner(config, 0).rule
    control = evaluate(learned_lstm.RuleAgent(untrained), ENV, **points).mean
    assert learned < control - 0.5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("where", "call", "after", "batches"),
    [("_learn", 3, False, 2), ("_learn", 3, True, 2), ("get_training_state", 3, True, 1)],
)
def test_a_run_resumes_bit_for_bit_wherever_it_was_interrupted(
    tmp_path: Path, method: str, where: str, call: int, after: bool, batches: int
) -> None:
    kwargs = {**KWARGS, "noise": 0.1}
    whole = run(method, tmp_path / "whole", 4 * BATCH, env_kwargs=kwargs)
    original, calls = getattr(loop, where), iter(range(1, 10**6))

    def interrupted(*arguments: Any) -> Any:
        last = next(calls) == call
        if last and not after:
            raise KeyboardInterrupt
        result = original(*arguments)
        if last:
            raise KeyboardInterrupt
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(method, tmp_path / "cut", 4 * BATCH, env_kwargs=kwargs)
    saved = load_checkpoint(tmp_path / "cut", method)
    assert saved.config["training"]["steps"] == batches * BATCH
    assert not same(whole, tmp_path / "cut")
    run(method, tmp_path / "cut", 4 * BATCH, env_kwargs=kwargs, resume=True)
    assert same(whole, tmp_path / "cut")


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_decides_and_nothing_else(tmp_path: Path, method: str) -> None:
    one = run(method, tmp_path / "one", BATCH, seed=3)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    two = run(method, tmp_path / "two", BATCH, seed=3)
    assert torch.equal(torch.get_rng_state(), before)  # nor does it touch the global generator
    assert same(one, two) and not same(one, run(method, tmp_path / "other", BATCH, seed=4))


def test_the_best_on_validation_problems_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([3.0, 1.0, np.nan, 2.0])
    monkeypatch.setattr(
        LSTMLearner, "curves", lambda self, env, task, rng: np.full((4, 6), next(scores))
    )
    config = replace(SMALL, validate_every=1)
    train(ENV, tmp_path / "two", config, steps=2 * BATCH, env_kwargs=KWARGS, progress=False)
    scores = iter([3.0, 1.0, np.nan, 2.0])
    train(ENV, tmp_path / "four", config, steps=4 * BATCH, env_kwargs=KWARGS, progress=False)
    two, four = load_checkpoint(tmp_path / "two"), load_checkpoint(tmp_path / "four")
    assert four.config["training"]["validation_score"] == 1.0
    # The second of two batches is the second of four but for the annealed learning rate.
    later = four.extra()["model"]
    assert not all(np.array_equal(four.weights[k], later[k]) for k in later)
    assert all(np.array_equal(two.weights[k], two.extra()["model"][k]) for k in two.weights)


def test_the_environment_decides_tasks_and_horizon(tmp_path: Path) -> None:
    """The curriculum grows runs from one unroll to the horizon."""
    env: Any = gym.make_vec(ENV, 4, dim=2, horizon=12)
    learner = LSTMLearner(replace(SMALL, unroll=4, curriculum=0.5), 0)
    lengths = [learner._length(env, used) for used in (0.0, 0.25, 0.5, 0.9)]
    assert lengths == [4, 8, 12, 12]
    task = env.reset(seed=0)[1]["task"]
    parts = [steps for _, steps in learner.episode(env, task, 0.3, np.random.default_rng(0))]
    assert parts == [4, 4] and learner.curves(env, task, np.random.default_rng(0)).shape == (4, 13)


def test_what_training_sees_is_what_the_environment_says() -> None:
    """The validation curve of the learner is the evaluation's."""
    env: Any = gym.make_vec(ENV, 4, dim=2, horizon=6, autoreset_mode="Disabled", dtype="float64")
    learner = loud(replace(SMALL, scale=0.01))
    observation, infos = env.reset(seed=5)
    curve = learner.curves(env, infos["task"], np.random.default_rng(0))
    agent = learned_lstm.RuleAgent(learner.rule)
    agent.bind(env)
    found = [infos["loss"]]
    for _ in range(6):
        observation, _, _, _, infos = env.step(agent.act(observation))
        found.append(infos["loss"])
    np.testing.assert_allclose(curve, np.log10(np.array(found).T + 1e-12), atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_charts_and_checkpoints_hold_what_they_should(tmp_path: Path, method: str) -> None:
    run(method, tmp_path, 2 * BATCH)
    charts = read_scalars(tmp_path)
    for tag in ("train/loss", "train/grad_norm", "train/learning_rate"):
        assert [step for step, _ in charts[tag]] == [BATCH, 2 * BATCH], tag
    assert [step for step, _ in charts["eval/score"]] == [2 * BATCH]
    training = load_checkpoint(tmp_path, method).config["training"]
    assert training["steps"] == 2 * BATCH and training["seed"] == 0
    module, env_id, _ = METHODS[method]
    result = evaluate(module.load(tmp_path), env_id, "validation", 4, **KWARGS)
    assert result.training == training and np.isfinite(result.scores).all()


def test_a_checkpoint_is_the_rule_that_was_validated(tmp_path: Path) -> None:
    run("l2l", tmp_path, 2 * BATCH)
    checkpoint = load_checkpoint(tmp_path)
    rule = load_rule(tmp_path)
    for name, value in rule.network.state_dict().items():
        np.testing.assert_array_equal(value, checkpoint.weights[name])
    assert rule.step == SMALL.step and rule.inputs == SMALL.inputs
    config = {**checkpoint.config, "rule": {**checkpoint.config["rule"], "order": 3}}
    save_checkpoint(tmp_path / "new", config, checkpoint.weights)
    with pytest.raises(CheckpointError, match="order"):
        load_rule(tmp_path / "new")


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="update"):
        train("BlackBoxOptimize-v0", tmp_path, SMALL, steps=1, progress=False)
    with pytest.raises(InvalidArgumentError, match="queries"):
        black_box.train(ENV, tmp_path, QUERIES, steps=1, progress=False)
    for module in (learned_lstm, black_box):
        with pytest.raises(InvalidArgumentError, match="differentiate"):
            module.train("MetaBandit-v0", tmp_path, steps=1, progress=False)
    for wrong in ({"unroll": 0}, {"num_envs": 0}, {"curriculum": -1.0}, {"validate_every": 0},
                  {"learning_rate": 0.0}, {"objective": "sum"}, {"device": "abacus"}):  # fmt: skip
        with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
            train(ENV, tmp_path, replace(SMALL, **wrong), steps=1, progress=False)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="no checkpoint"):
        run("l2l", tmp_path / "none", BATCH, resume=True)
    run("l2l", tmp_path / "run", BATCH)
    with pytest.raises(CheckpointError, match="config"):
        run("l2l", tmp_path / "run", 2 * BATCH, resume=True, config=replace(SMALL, width=5))
    with pytest.raises(CheckpointError, match="rule"):
        run("l2l", tmp_path / "run", 2 * BATCH, resume=True, config=replace(SMALL, scale=0.5))
