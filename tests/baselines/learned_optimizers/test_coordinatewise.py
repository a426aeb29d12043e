"""The LSTM rule: what it reads, that coordinates and rows are alike and apart, and its faces."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from metagym.agents.optimizers import RuleAgent
from metagym.baselines.learned_optimizers.coordinatewise import (
    INPUTS,
    CoordinatewiseLSTM,
    LSTMRule,
    log_and_sign,
)
from metagym.errors import InvalidArgumentError
from metagym.evaluation import evaluate
from metagym.optim import RuleOptimizer

ALL = tuple(INPUTS)


def make(seed: int = 0, **kwargs: Any) -> LSTMRule:
    """A rule whose random network answers loudly."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rule = LSTMRule(**{"inputs": ALL, "step": "relative", **kwargs})
    with torch.no_grad():
        rule.network.output.weight.mul_(20.0)
    return rule


def play(rule: LSTMRule, losses: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """The steps [T, B, d] that answer to losses [T, B] and gradients [T, B, d]."""
    last, steps = np.zeros_like(gradients[0]), []
    for loss, gradient in zip(losses, gradients, strict=True):
        last = rule.update(loss, gradient, last)
        steps.append(last)
    return np.array(steps)


@pytest.fixture
def history() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return np.exp(rng.standard_normal((6, 3))), rng.standard_normal((6, 3, 4))


def test_log_and_sign_is_the_formula_of_the_appendix() -> None:
    values = torch.tensor([1.0, -np.exp(-5.0), np.exp(3.0), 0.0, np.exp(-11.0), -np.exp(-12.0)])
    wanted = torch.tensor(
        [[0.0, 1.0], [-0.5, -1.0], [0.3, 1.0], [-1.0, 0.0],
         [-1.0, np.exp(-1.0)], [-1.0, -np.exp(-2.0)]]
    )  # fmt: skip
    torch.testing.assert_close(log_and_sign(values.float()), wanted.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("p", [1.0, 5.0, 10.0])
def test_log_and_sign_has_no_jump_where_its_parts_meet(p: float) -> None:
    near = float(np.exp(-p)) * torch.tensor([1 - 1e-4, 1 + 1e-4])
    below, above = log_and_sign(near, p)
    torch.testing.assert_close(below, above, rtol=0, atol=1e-3)


@pytest.mark.parametrize("step", ["absolute", "relative"])
def test_coordinates_are_treated_alike_and_apart(step: str, history: Any) -> None:
    losses, gradients = history
    steps = play(make(step=step), losses, gradients)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(
        play(make(step=step), losses, gradients[..., order]), steps[..., order], rtol=1e-4
    )
    alone = play(make(step=step), losses[:, 1:2], gradients[:, 1:2, 3:4])
    np.testing.assert_allclose(alone, steps[:, 1:2, 3:4], rtol=1e-4)


def test_a_reset_row_begins_anew_and_the_others_do_not_notice(history: Any) -> None:
    losses, gradients = history
    rule, untouched = make(), make()
    play(rule, losses, gradients)
    play(untouched, losses, gradients)
    rule.reset(np.array([False, True, False]))
    last = np.zeros_like(gradients[0])
    found = rule.update(losses[0], gradients[0], last)
    np.testing.assert_allclose(found[1], make().update(losses[0], gradients[0], last)[1], rtol=1e-4)
    wanted = untouched.update(losses[0], gradients[0], last)
    np.testing.assert_allclose(found[[0, 2]], wanted[[0, 2]], rtol=1e-4)
    assert not np.allclose(found[1], wanted[1])


def test_relative_steps_scale_with_the_gradient(history: Any) -> None:
    """And absolute ones, from log and sign alone, hardly do."""
    losses, gradients = history
    for step, inputs in (("relative", ("momentum", "loss")), ("absolute", ("gradient",))):
        small = play(make(step=step, inputs=inputs), losses, gradients)
        large = play(make(step=step, inputs=inputs), 1000 * losses, 1000 * gradients)
        ratio = np.median(np.abs(large / small))
        if step == "relative":
            np.testing.assert_allclose(large, 1000 * small, rtol=1e-3)
        else:
            assert ratio < 30


def test_many_steps_at_once_are_the_same_as_one_by_one() -> None:
    network = CoordinatewiseLSTM(3, width=5, layers=2)
    features = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    memory = torch.zeros(2, 3, network.memory_size)
    whole, end = network(features, memory)
    for t in range(4):
        output, memory = network(features[t : t + 1], memory)
        torch.testing.assert_close(output[0], whole[t])
    torch.testing.assert_close(memory, end)


def test_numpy_and_torch_get_the_same_steps(history: Any) -> None:
    losses, gradients = history
    rule, last = make(), torch.zeros(3, 4, dtype=torch.float64)
    for loss, gradient, wanted in zip(
        losses, gradients, play(make(), losses, gradients), strict=True
    ):
        last = rule.update(loss, torch.as_tensor(gradient), last)
        assert last.dtype == torch.float64
        np.testing.assert_allclose(last.numpy(), wanted, rtol=1e-5)


def test_as_a_torch_optimiser_it_goes_on_from_its_state() -> None:
    target = torch.arange(3.0)

    def run(steps: int, saved: Any = None) -> tuple[torch.Tensor, Any]:
        x = torch.zeros(3) if saved is None else saved["x"].clone()
        x.requires_grad_()
        optimizer = RuleOptimizer([x], lambda: copy.deepcopy(make()))
        if saved is not None:
            optimizer.load_state_dict(saved["optimizer"])

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = (x - target).square().sum()
            loss.backward()
            return loss

        for _ in range(steps):
            optimizer.step(closure)
        return x.detach(), {"x": x.detach().clone(), "optimizer": optimizer.state_dict()}

    whole, _ = run(6)
    _, half = run(3)
    torch.testing.assert_close(run(3, half)[0], whole, rtol=0, atol=0)


def test_it_acts_in_the_environment_at_any_size() -> None:
    agent = RuleAgent(make())
    for dim in (2, 5):
        result = evaluate(agent, "LearnToOptimize-v0", "validation", 8, dim=dim, horizon=5)
        assert np.isfinite(result.scores).all() and len(set(result.scores)) == 8


@pytest.mark.parametrize(
    "wrong",
    [{"inputs": ("hessian",)}, {"step": "long"}, {"scale": -1.0}, {"p": 0.0}, {"width": 0},
     {"layers": 1.5}],
)  # fmt: skip
def test_bad_arguments_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        LSTMRule(**wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_network_follows_the_gradient_to_the_gpu() -> None:
    rule = make()
    gradient = torch.ones(1, 3, device="cuda")
    step = rule.update(np.ones(1), gradient, torch.zeros_like(gradient))
    assert step.is_cuda and rule.device.type == "cuda"
