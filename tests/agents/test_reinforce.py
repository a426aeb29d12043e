"""REINFORCE: it learns a toy, resumes bit for bit, and survives Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metagym.agents import reinforce
from metagym.agents.optimizers import RuleAgent
from metagym.agents.validation import Validation
from metagym.checkpoint import load_checkpoint
from metagym.errors import CheckpointError, InvalidArgumentError
from metagym.evaluation import evaluate
from metagym.monitoring import read_scalars
from metagym.optim import GainRule
from metagym.rl.training import Budget

ENV = "LearnToOptimize-v0"
SMALL = reinforce.Config(num_envs=4, hidden=(8,))
KWARGS: dict[str, Any] = {"dim": 2, "horizon": 5, "history": 2}
BATCH = SMALL.num_envs * 5  # environment steps of one gradient step


@pytest.fixture(autouse=True)
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """At validation tasks: another test's business, and slow."""
    monkeypatch.setattr(Validation, "look", lambda *_: None)


def train(out: Path, steps: int, **kwargs: Any) -> Path:
    defaults: dict[str, Any] = {"config": SMALL, "env_kwargs": KWARGS, "progress": False}
    return reinforce.train(ENV, out, steps=steps, **{**defaults, **kwargs})


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_checkpoint(folder).weights


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def interrupt(monkeypatch: pytest.MonkeyPatch, where: str, call: int, after: bool = True) -> None:
    """Ctrl-C before or after the ``call``-th call of ``reinforce.<where>``."""
    original, calls = getattr(reinforce, where), iter(range(1, 10**6))

    def interrupted(*args: Any) -> Any:
        last = next(calls) == call
        if last and not after:
            raise KeyboardInterrupt
        result = original(*args)
        if last:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(reinforce, where, interrupted)


def test_it_learns(tmp_path: Path) -> None:
    """Clearly better than the untrained control; worse than it, if the gradient had its sign
    flipped."""
    kwargs = {"dim": 2, "horizon": 10}
    config = reinforce.Config(num_envs=128, hidden=(16,), learning_rate=0.02)
    train(tmp_path, 60 * 128 * 10, config=config, env_kwargs=kwargs)
    run: dict[str, Any] = {"split": "validation", "episodes": 512, **kwargs}
    learned = evaluate(reinforce.load(tmp_path), ENV, **run).mean
    control = evaluate(RuleAgent(GainRule()), ENV, **run).mean
    assert learned < control - 1.0
    curve = [value for _, value in read_scalars(tmp_path)["rollout/ep_rew_mean"]]
    assert len(curve) == 60 and np.mean(curve[-5:]) > np.mean(curve[:5]) + 1.0


def test_it_learns_discrete_actions(tmp_path: Path) -> None:
    """Arms that pay nearly always or never: stay with what paid, which takes no memory."""
    env_id, kwargs = "MetaBandit-v0", {"k": 2, "alpha": 0.1, "beta": 0.1}
    config = reinforce.Config(num_envs=128, hidden=(16,), learning_rate=0.05)
    reinforce.train(
        env_id, tmp_path, config, steps=60 * 128 * 10, env_kwargs=kwargs, progress=False
    )
    assert "log_std" not in weights(tmp_path) and "train/std" not in read_scalars(tmp_path)
    agent = reinforce.load(tmp_path)
    assert evaluate(agent, env_id, "validation", 500, **kwargs).mean > 6.0  # at random 5


def test_a_recipe_for_few_steps_has_fewer_episodes_a_gradient_step() -> None:
    assert reinforce.recipe(ENV) == reinforce.Config()
    assert reinforce.recipe(ENV, 30_000_000) == reinforce.Config()
    assert reinforce.recipe(ENV, 200_000).num_envs == 40  # of 100 steps each, 50 times
    assert reinforce.recipe(ENV, 200_000, {"horizon": 50}).num_envs == 80


@pytest.mark.parametrize(
    ("where", "call", "after", "batches"),
    [
        ("_play", 3, False, 2),  # between two batches
        ("_play", 3, True, 2),  # the episodes were played, the streams moved on
        ("_update", 3, True, 2),  # the weights moved, the step was not counted
        ("get_training_state", 3, True, 1),  # while the snapshot was taken
    ],
)
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_run_resumes_bit_for_bit_wherever_it_was_interrupted(
    tmp_path: Path, where: str, call: int, after: bool, batches: int, noise: float
) -> None:
    kwargs = {**KWARGS, "noise": noise}
    whole = train(tmp_path / "whole", 4 * BATCH, env_kwargs=kwargs)
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, where, call, after)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut", 4 * BATCH, env_kwargs=kwargs)
    saved = load_checkpoint(tmp_path / "cut", "reinforce")
    assert saved.config["training"]["steps"] == batches * BATCH
    assert not same(whole, tmp_path / "cut")
    train(tmp_path / "cut", 4 * BATCH, env_kwargs=kwargs, resume=True)
    assert same(whole, tmp_path / "cut")
    assert load_checkpoint(whole).config["training"]["steps"] == 4 * BATCH
    steps = [step for step, _ in read_scalars(tmp_path / "cut")["rollout/ep_rew_mean"]]
    assert sorted(set(steps)) == [BATCH * i for i in range(1, 5)]


def test_the_seed_decides_and_nothing_else(tmp_path: Path) -> None:
    one = train(tmp_path / "one", 2 * BATCH, seed=3)
    torch.manual_seed(99)
    torch.rand(5)
    before = torch.get_rng_state()
    two = train(tmp_path / "two", 2 * BATCH, seed=3)
    assert torch.equal(torch.get_rng_state(), before)  # nor does it touch the global generator
    other = train(tmp_path / "other", 2 * BATCH, seed=4)
    assert same(one, two) and not same(one, other)


@pytest.mark.parametrize("view", ["problem", "coordinate", "raw"])
def test_every_view_trains_and_acts(tmp_path: Path, view: Any) -> None:
    config = reinforce.Config(view=view, num_envs=4, hidden=(8,))
    train(tmp_path, BATCH, config=config)
    agent = reinforce.load(tmp_path)
    result = evaluate(agent, ENV, "validation", 8, **KWARGS)
    assert np.isfinite(result.scores).all() and len(set(result.scores)) == 8
    assert result.training is not None and result.training["steps"] == BATCH
    # An update rule serves any dimension, a raw policy only its own.
    wider = {**KWARGS, "dim": 4}
    if view == "raw":
        with pytest.raises(CheckpointError, match="shape"):
            evaluate(agent, ENV, "validation", 8, **wider)
    else:
        assert evaluate(agent, ENV, "validation", 8, **wider).finished


def test_the_policy_gradient_is_that_of_the_return() -> None:
    """One step in, against the definition: sum of grad log pi times the advantage."""
    torch.manual_seed(0)
    actor = reinforce.Actor(3, (4,), 2, -0.5)
    observations, actions = torch.randn(2, 5, 3), torch.randn(2, 5, 2)
    rewards = torch.randn(2, 5).double()
    alive = torch.tensor([[True] * 5, [True, True, True, True, False]])
    batch = reinforce.Batch(observations, actions, rewards, alive, np.zeros(5))
    optimizer = torch.optim.Adam(actor.parameters(), lr=0.0)
    config = reinforce.Config(discount=0.9, max_grad_norm=1e9)
    reinforce._update(actor, optimizer, batch, config)
    found = [p.grad.clone() for p in actor.parameters()]  # type: ignore[union-attr]

    last = rewards[1] * alive[1]
    togo = [rewards[0] + 0.9 * last, last]
    total = torch.zeros(())
    for t, rows in ((0, range(5)), (1, range(4))):
        values = togo[t][list(rows)]
        advantage = (values - values.mean()) / values.std(correction=0)
        for i, row in enumerate(rows):
            normal = torch.distributions.Normal(
                actor.network(observations[t, row]), actor.log_std.exp()
            )
            total = total + normal.log_prob(actions[t, row]).sum() * advantage[i].float()
    actor.zero_grad()
    (-total / 9).backward()
    for gradient, parameter in zip(found, actor.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-6)


def test_tensorboard_has_the_usual_charts(run: Path) -> None:
    charts = read_scalars(run)
    for tag in (
        "rollout/ep_rew_mean", "rollout/ep_len_mean", "rollout/score_mean", "time/fps",
        "train/policy_gradient_loss", "train/learning_rate", "train/std",
    ):  # fmt: skip
        assert tag in charts, tag
    assert [value for _, value in charts["rollout/ep_len_mean"]] == [5.0, 5.0]
    assert charts["train/learning_rate"][0][1] == pytest.approx(1e-2)
    assert charts["train/learning_rate"][1][1] == pytest.approx(5e-3)


def test_seconds_end_a_run(tmp_path: Path) -> None:
    train(tmp_path, None, seconds=0.2)  # type: ignore[arg-type]
    training = load_checkpoint(tmp_path).config["training"]
    assert training["steps"] > 0 and 0.0 < training["seconds"] < 60.0


def test_there_has_to_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        train(tmp_path / "none", BATCH, resume=True)
    train(tmp_path, BATCH)
    with pytest.raises(CheckpointError, match="config"):
        other = reinforce.Config(num_envs=4, hidden=(9,))
        train(tmp_path, 2 * BATCH, resume=True, config=other)


@pytest.mark.parametrize("limits", [(0, None), (-5, None), (None, 0.0), (None, None)])
def test_a_budget_needs_a_limit(limits: tuple[Any, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        Budget(*limits)
