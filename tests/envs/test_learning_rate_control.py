"""LearningRateControl-v0: the inner optimisers are torch's, their state is per row."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import metagym  # noqa: F401
from metagym.errors import InvalidArgumentError


def _torch_losses(task, make_optimizer, steps):
    """The losses of a torch optimiser on one quadratic."""
    W, y = (torch.tensor(task[name], dtype=torch.float64) for name in ("W", "y"))
    x = torch.tensor(task["initial"], dtype=torch.float64, requires_grad=True)
    optimizer, losses = make_optimizer([x]), []
    for _ in range(steps):
        optimizer.zero_grad()
        (W @ x - y).square().sum().backward()
        optimizer.step()
        losses.append((W @ x - y).square().sum().item())
    return losses


@pytest.mark.parametrize("action", [(-0.2, -1.0), (-0.2, 0.0), (-0.6, 0.5)])
def test_sgd_equals_torchs_sgd(action):
    env = gym.make("LearningRateControl-v0", dtype="float64").unwrapped
    _, info = env.reset(seed=0)
    losses = [env.step(np.array(action, np.float32))[4] for _ in range(30)]
    lr, momentum = losses[0]["learning_rate"], losses[0]["momentum"]
    assert lr == pytest.approx(10 ** (-1.5 + 2.5 * action[0]), rel=1e-6)
    assert momentum == pytest.approx(1 - 10 ** -(1 + action[1]), rel=1e-6)
    expected = _torch_losses(
        info["task"], lambda p: torch.optim.SGD(p, lr=lr, momentum=momentum), 30
    )
    np.testing.assert_allclose([step["loss"] for step in losses], expected, rtol=1e-9)


@pytest.mark.parametrize("action", [(0.0, 0.0, 0.0), (0.4, -0.5, -0.8)])
def test_adam_equals_torchs_adam(action):
    env = gym.make("LearningRateControlAdam-v0", dtype="float64").unwrapped
    _, info = env.reset(seed=0)
    losses = [env.step(np.array(action, np.float32))[4] for _ in range(30)]
    lr, *betas = (losses[0][name] for name in ("learning_rate", "beta1", "beta2"))
    expected = _torch_losses(info["task"], lambda p: torch.optim.Adam(p, lr=lr, betas=betas), 30)
    np.testing.assert_allclose([step["loss"] for step in losses], expected, rtol=1e-6)


def test_the_zero_action_is_adams_default_and_the_range_is_an_argument():
    env = gym.make("LearningRateControlAdam-v0", lr_range=(1e-4, 1e-2)).unwrapped
    env.reset(seed=0)
    info = env.step(np.zeros(3, np.float32))[4]
    assert info["learning_rate"] == pytest.approx(1e-3, rel=1e-5)
    assert (info["beta1"], info["beta2"]) == (pytest.approx(0.9), pytest.approx(0.999))
    info = env.step(np.array([1.0, -1.0, -1.0], np.float32))[4]
    assert info["learning_rate"] == pytest.approx(1e-2, rel=1e-5)
    assert (info["beta1"], info["beta2"]) == (pytest.approx(0.0), pytest.approx(0.9))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_reset_row_forgets_its_optimiser_and_the_others_keep_theirs(optimizer):
    env = gym.make_vec(
        "LearningRateControl-v0",
        num_envs=2,
        optimizer=optimizer,
        autoreset_mode=AutoresetMode.DISABLED,
    ).unwrapped
    reference = gym.make("LearningRateControl-v0", optimizer=optimizer).unwrapped
    _, info = env.reset(seed=0)
    task = {name: info["task"][name] for name in ("W", "y", "initial")}
    action = np.full((2, env.single_action_space.shape[0]), -0.3, np.float32)
    for _ in range(5):
        env.step(action)
    env.reset(options={"task": task, "reset_mask": np.array([True, False])})
    losses = [env.step(action)[4]["loss"] for _ in range(5)]
    for row, skip in ((0, 0), (1, 5)):
        reference.reset(options={"task": {name: value[row] for name, value in task.items()}})
        expected = [reference.step(action[row])[4]["loss"] for _ in range(skip + 5)][skip:]
        np.testing.assert_allclose([loss[row] for loss in losses], expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_dynamics_stay_in_their_dtype(dtype, optimizer):
    env = gym.make_vec("LearningRateControl-v0", num_envs=2, optimizer=optimizer, dtype=dtype)
    env.reset(seed=0)
    _, _, _, _, infos = env.step(env.action_space.sample())
    for name in ("_x", "_gradient", "_momentum", "_square", "_loss"):
        assert getattr(env.unwrapped, name).dtype == dtype, name
    assert infos["learning_rate"].dtype == dtype


def test_summary_holds_norms_the_cosine_and_the_action():
    make = {"history": 2, "dim": 4}
    full, summary = (
        gym.make("LearningRateControl-v0", observation=kind, **make).unwrapped
        for kind in ("full", "summary")
    )
    full.reset(seed=3)
    first, _ = summary.reset(seed=3)
    assert first[-3] == 0.0  # no gradient before the first
    for _ in range(3):
        action = np.array([-0.7, -0.2], np.float32)
        old, new = full.step(action)[0].reshape(2, 11)
        loss, gradient_norm, update_norm, cosine, *last = summary.step(action)[0][-6:]
        assert loss == pytest.approx(new[0], rel=1e-5)
        assert gradient_norm == pytest.approx(np.linalg.norm(new[1:5]), rel=1e-5)
        assert update_norm == pytest.approx(np.linalg.norm(new[5:9]), rel=1e-5)
        expected = old[1:5] @ new[1:5] / np.linalg.norm(old[1:5]) / gradient_norm
        assert cosine == pytest.approx(expected, rel=1e-4)
        np.testing.assert_array_equal(last, action)
        np.testing.assert_array_equal(new[-2:], action)


@pytest.mark.parametrize("lr_range", [(1.0, 0.1), (0.0, 1.0), (1.0,), "fast", (1e-3, np.inf)])
def test_a_bad_range_of_learning_rates_is_named(lr_range):
    with pytest.raises(InvalidArgumentError, match="lr_range"):
        gym.make("LearningRateControl-v0", lr_range=lr_range)
