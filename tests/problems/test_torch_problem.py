"""TorchProblem: torch modules as problems, compared with autograd and with our own networks."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from metagym.core.task import SPLITS
from metagym.errors import InvalidArgumentError
from metagym.problems.classification import MLPClassifier
from metagym.problems.torch_problem import TorchProblem

RNG = np.random.default_rng(0)
INPUTS = torch.from_numpy(RNG.standard_normal((40, 6)))
LABELS = torch.from_numpy(RNG.integers(0, 3, 40))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def make(**kwargs: Any) -> TorchProblem:
    return TorchProblem(mlp(), nn.functional.cross_entropy, INPUTS, LABELS, **kwargs)


@pytest.mark.parametrize("batch_size", [None, 8])
def test_gradient_agrees_with_central_differences(batch_size: int | None) -> None:
    problem = make(batch_size=batch_size)
    rng = np.random.default_rng(0)
    task = problem.sample(rng, 3, "train")
    x = problem.initial(task, rng)
    _, gradient = problem.value_and_grad(task, x, np.random.default_rng(5))
    for i in range(problem.dim):
        step = 1e-6 * np.eye(problem.dim)[i]
        high, _ = problem.value_and_grad(task, x + step, np.random.default_rng(5))
        low, _ = problem.value_and_grad(task, x - step, np.random.default_rng(5))
        error = np.abs((high - low) / 2e-6 - gradient[:, i])
        assert (error < 1e-5 * np.linalg.norm(gradient, axis=1)).all()


def test_loss_and_gradient_are_those_of_the_module() -> None:
    problem, module = make(), mlp().double()
    x = problem.flatten(module)
    f, g = problem.value_and_grad({"split": np.array([0])}, x[None])
    loss = nn.functional.cross_entropy(module(INPUTS), LABELS)
    assert f[0] == pytest.approx(loss.item(), rel=1e-12)
    slopes = torch.autograd.grad(loss, list(module.parameters()))
    expected = torch.cat([slope.flatten() for slope in slopes]).numpy()
    np.testing.assert_allclose(g[0], expected, rtol=1e-9, atol=1e-14)


def test_it_agrees_with_our_own_network() -> None:
    """The same net on the same examples, written by hand and by torch: one layout of x."""
    ours = MLPClassifier(dataset="wine", batch_size=None, l2=0.0)
    rng = np.random.default_rng(0)
    task = ours.sample(rng, 1, "train")
    x = ours.initial(task, rng)
    examples = task["examples"][0]
    module = nn.Sequential(nn.Linear(13, 20), nn.ReLU(), nn.Linear(20, 3))
    theirs = TorchProblem(
        module, nn.functional.cross_entropy,
        torch.from_numpy(ours._inputs[examples]), torch.from_numpy(ours._labels[examples]),
    )  # fmt: skip
    assert theirs.dim == ours.dim
    for one, other in zip(
        ours.value_and_grad(task, x),
        theirs.value_and_grad({"split": np.array([0])}, x),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_follows_x_and_rows_equal_the_batch(dtype: str) -> None:
    problem = make()
    rng = np.random.default_rng(0)
    task = problem.sample(rng, 4, "validation")
    x = problem.initial(task, rng).astype(dtype)
    f, g = problem.value_and_grad(task, x)
    assert f.dtype == g.dtype == problem.value(task, x).dtype == np.dtype(dtype)
    assert f.shape == (4,) and g.shape == (4, problem.dim)
    np.testing.assert_allclose(problem.value(task, x), f, rtol=1e-6)
    row, _ = problem.value_and_grad({"split": task["split"][2:3]}, x[2:3])
    np.testing.assert_allclose(row[0], f[2], rtol=1e-6)


def test_splits_use_their_own_tensors_also_mixed_in_one_batch() -> None:
    parts = [(INPUTS[a:b], LABELS[a:b]) for a, b in ((0, 20), (20, 30), (30, 40))]
    problem = TorchProblem(
        mlp(), nn.functional.cross_entropy, *parts[0], validation=parts[1], test=parts[2],
        batch_size=4,
    )  # fmt: skip
    x = np.tile(problem.flatten(mlp().double()), (3, 1))
    task = {"split": np.concatenate([problem.sample(RNG, 1, s)["split"] for s in SPLITS])}
    module = mlp().double()
    module.load_state_dict(problem.unflatten(x[0]))
    expected = [nn.functional.cross_entropy(module(i), t).item() for i, t in parts]
    np.testing.assert_allclose(problem.value(task, x), expected, rtol=1e-12)
    assert np.isfinite(problem.value_and_grad(task, x, np.random.default_rng(0))[1]).all()


def test_starts_come_from_the_generator_and_leave_torch_and_the_module_alone() -> None:
    module = mlp()
    before = [p.clone() for p in module.parameters()]
    problem = TorchProblem(module, nn.functional.cross_entropy, INPUTS, LABELS)
    state = torch.random.get_rng_state()
    task = problem.sample(np.random.default_rng(0), 5, "train")
    first = problem.initial(task, np.random.default_rng(1))
    again = problem.initial(task, np.random.default_rng(1))
    other = problem.initial(task, np.random.default_rng(2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert len(np.unique(first, axis=0)) == 5
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_frozen_parameters_and_buffers_stay() -> None:
    module = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).eval()
    module[0].requires_grad_(False)
    problem = TorchProblem(module, nn.functional.cross_entropy, INPUTS, LABELS)
    assert problem.dim == 10 + 18
    x = problem.flatten(module)
    value = problem.value({"split": np.array([0])}, x[None].astype("float64"))
    expected = nn.functional.cross_entropy(module.double()(INPUTS), LABELS).item()
    assert value[0] == pytest.approx(expected, rel=1e-6)


def test_convolutions_and_regression_targets() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 1))
    inputs, targets = torch.randn(7, 1, 5, 5), torch.randn(7, 1)
    problem = TorchProblem(module, nn.functional.mse_loss, inputs, targets, lower=-1.0)
    task = problem.sample(RNG, 2, "train")
    x = problem.initial(task, RNG)
    for _ in range(200):
        x -= 0.02 * problem.value_and_grad(task, x)[1]
    assert (problem.value(task, x) < 0.5 * targets.var().item()).all()
    assert problem.lower(task).tolist() == [-1.0, -1.0]


def test_flatten_and_unflatten_invert_each_other() -> None:
    problem, x = make(), np.arange(2.0 * 53).reshape(2, 53)
    parameters = problem.unflatten(x)
    assert parameters["0.weight"].shape == (2, 5, 6)
    module = mlp().double()
    module.load_state_dict({name: value[1] for name, value in parameters.items()})
    assert np.array_equal(problem.flatten(module), x[1])


def test_it_goes_through_gym_make() -> None:
    env = gym.make("metagym:LearnToOptimize-v0", problem=make(batch_size=8), action_scale=0.1)
    obs, info = env.reset(seed=0)
    assert obs.dtype == np.float32 and info["task"]["split"] == 0
    reward = env.step(env.action_space.sample())[1]
    assert np.isfinite(float(reward))


def test_bad_arguments_are_named() -> None:
    loss = nn.functional.cross_entropy
    with pytest.raises(InvalidArgumentError, match="no parameter"):
        TorchProblem(nn.ReLU(), loss, INPUTS, LABELS)
    with pytest.raises(InvalidArgumentError, match="same number of examples"):
        TorchProblem(mlp(), loss, INPUTS, LABELS[:3])
    with pytest.raises(InvalidArgumentError, match="test tensors"):
        make(test=(INPUTS, LABELS[:3]))
    with pytest.raises(InvalidArgumentError, match="a scalar is needed"):
        TorchProblem(mlp(), nn.CrossEntropyLoss(reduction="none"), INPUTS, LABELS)
    with pytest.raises(InvalidArgumentError, match="batch_size=0"):
        make(batch_size=0)
