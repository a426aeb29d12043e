"""LearnedOptimizer and RuleOptimizer in a torch training loop."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from metagym.errors import CheckpointError, InvalidArgumentError
from metagym.optim import GainRule, LearnedOptimizer, RuleOptimizer, load_rule
from metagym.optim.gains import FEATURES
from metagym.optim.hand_designed import SGD, Adam, Momentum


def network(device: str = "cpu", dtype: torch.dtype = torch.float32) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    return layers.to(device=device, dtype=dtype)


def closure_for(model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], torch.Tensor]:
    """A small regression."""
    like = next(model.parameters())
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(32, 3, generator=generator).to(like)
    targets = torch.sin(inputs.sum(1, keepdim=True))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (model(inputs) - targets).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    return closure


def flat(parameters: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in parameters]).clone()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_optimises(checkpoint: Path, dtype: torch.dtype) -> None:
    model = network(dtype=dtype)
    optimizer = LearnedOptimizer(model.parameters(), checkpoint)
    closure = closure_for(model, optimizer)
    losses = [optimizer.step(closure).item() for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]
    assert all(p.dtype == dtype for p in model.parameters())


def test_it_takes_the_steps_of_its_rule(checkpoint: Path) -> None:
    """The same iterates as the rule in numpy, on f = |x|^2 (float64)."""
    x = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    optimizer, rule = LearnedOptimizer([x], checkpoint), load_rule(checkpoint)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = x.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    ours, last = np.array([[1.0, -2.0, 0.5]]), np.zeros((1, 3))
    for _ in range(10):
        optimizer.step(closure)
        last = rule.update(np.sum(ours**2, axis=1), 2 * ours, last)
        ours = ours + last
        np.testing.assert_allclose(x.detach().numpy(), ours[0], rtol=1e-6, atol=1e-9)


def test_a_step_needs_a_closure_that_returns_the_loss(checkpoint: Path) -> None:
    optimizer = LearnedOptimizer(network().parameters(), checkpoint)
    with pytest.raises(InvalidArgumentError, match="closure"):
        optimizer.step()
    with pytest.raises(InvalidArgumentError, match="return the loss"):
        optimizer.step(lambda: None)


def test_the_state_goes_through_a_file(checkpoint: Path, tmp_path: Path) -> None:
    """10 steps and 10 more from the file: exactly the parameters of 20 steps."""
    models = [network(), network()]
    whole = LearnedOptimizer(models[0].parameters(), checkpoint)
    for _ in range(20):
        whole.step(closure_for(models[0], whole))
    first = LearnedOptimizer(models[1].parameters(), checkpoint)
    for _ in range(10):
        first.step(closure_for(models[1], first))
    torch.save([models[1].state_dict(), first.state_dict()], tmp_path / "state.pt")

    weights, state = torch.load(tmp_path / "state.pt", weights_only=True)
    model = network()
    model.load_state_dict(weights)
    second = LearnedOptimizer(model.parameters(), checkpoint)
    second.load_state_dict(state)
    for _ in range(10):
        second.step(closure_for(model, second))
    assert torch.equal(flat(model.parameters()), flat(models[0].parameters()))


def test_a_saved_state_and_the_running_one_do_not_share_memory(checkpoint: Path) -> None:
    model = network()
    for optimizer in (
        LearnedOptimizer(model.parameters(), checkpoint),
        RuleOptimizer(model.parameters(), Adam),
    ):
        optimizer.step(closure_for(model, optimizer))
        state = optimizer.state_dict()
        copies = copy.deepcopy(state["rules"])
        optimizer.step(closure_for(model, optimizer))
        optimizer.load_state_dict(state)
        optimizer.step(closure_for(model, optimizer))
        for kind in ("vectors", "scalars"):
            assert copies[0][kind]
            for name, value in copies[0][kind].items():
                assert torch.equal(state["rules"][0][kind][name], value), name


def test_groups_have_their_own_rule_and_rate(checkpoint: Path) -> None:
    models = [network(), network()]
    for model in models:
        first, second = list(model[0].parameters()), list(model[2].parameters())
        if model is models[0]:
            optimizer = LearnedOptimizer(
                [{"params": first}, {"params": second, "lr": 0.5}], checkpoint
            )
        else:
            optimizer = LearnedOptimizer(first, checkpoint)
            optimizer.add_param_group({"params": second, "lr": 0.5})
        closure = closure_for(model, optimizer)
        losses = [optimizer.step(closure).item() for _ in range(40)]
        assert losses[-1] < 0.5 * losses[0]
        assert len(optimizer.state_dict()["rules"]) == 2
    assert torch.equal(flat(models[0].parameters()), flat(models[1].parameters()))


def test_the_rate_multiplies_the_step(checkpoint: Path) -> None:
    moves = []
    for lr in (1.0, 0.25):
        model = network()
        before = flat(model.parameters())
        optimizer = LearnedOptimizer(model.parameters(), checkpoint, lr=lr)
        optimizer.step(closure_for(model, optimizer))
        moves.append(flat(model.parameters()) - before)
    torch.testing.assert_close(moves[1], 0.25 * moves[0], rtol=1e-4, atol=1e-7)


def test_a_scheduler_sets_the_rate() -> None:
    model = network()
    optimizer = RuleOptimizer(model.parameters(), lambda: SGD(0.1))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    moves = []
    for _ in range(2):
        before = flat(model.parameters())
        optimizer.step(closure_for(model, optimizer))
        moves.append(float((flat(model.parameters()) - before).norm()))
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    assert 0.03 < moves[1] / moves[0] < 0.3


def test_a_group_added_late_starts_afresh() -> None:
    first = torch.ones(2, requires_grad=True)
    second = torch.ones(2, requires_grad=True)
    optimizer = RuleOptimizer([first], lambda: Adam(0.1))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = first.square().sum() + second.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)
    optimizer.add_param_group({"params": [second]})
    state = optimizer.state_dict()  # also before the first step with it
    optimizer.step(closure)
    torch.testing.assert_close(second.detach(), torch.full((2,), 0.9))  # Adam's first step is lr
    optimizer.load_state_dict(state)
    optimizer.step(closure)


def test_parameters_without_a_gradient_stay(checkpoint: Path) -> None:
    used, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    frozen = torch.ones(4)
    alone = torch.ones(2, requires_grad=True)
    optimizer = LearnedOptimizer([frozen, used, unused], checkpoint)
    idle = LearnedOptimizer([unused, frozen], checkpoint)
    twin = LearnedOptimizer([alone], checkpoint)
    for _ in range(5):
        for x, each in ((used, optimizer), (used, idle), (alone, twin)):
            each.step(lambda x=x, each=each: quadratic(x, each))  # type: ignore[misc]
    assert torch.equal(unused, torch.ones(3)) and torch.equal(frozen, torch.ones(4))
    assert not torch.equal(used, torch.ones(2))
    if optimizer._rules[0].config["per"] == "problem":  # rms sees the idle coordinates
        torch.testing.assert_close(used, alone)


def quadratic(x: torch.Tensor, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    optimizer.zero_grad()
    loss = x.square().sum()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss


def test_parameters_that_take_turns_keep_their_own_memory() -> None:
    """Two parameters of one size, with gradients at odd and at even steps."""
    parts = [torch.ones(2, requires_grad=True), torch.full((2,), 5.0, requires_grad=True)]
    optimizer = RuleOptimizer(parts, lambda: Momentum(lr=0.1, momentum=0.5))
    for t in range(2):
        optimizer.step(lambda t=t: quadratic(parts[t], optimizer))  # type: ignore[misc]
    # The first moved by -0.2, then by half of that; the second moves by its own gradient only.
    torch.testing.assert_close(parts[0].detach(), torch.full((2,), 0.7))
    torch.testing.assert_close(parts[1].detach(), torch.full((2,), 4.0))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_changes_nothing(checkpoint: Path, bad: float) -> None:
    model = network()
    optimizer = LearnedOptimizer(model.parameters(), checkpoint)
    good = closure_for(model, optimizer)
    optimizer.step(good)
    before = flat(model.parameters())

    def broken() -> torch.Tensor:
        good()
        return torch.tensor(bad)

    def poisoned() -> torch.Tensor:
        loss = good()
        gradient = next(model.parameters()).grad
        assert gradient is not None
        gradient[0, 0] = bad
        return loss

    for closure in (broken, poisoned):
        optimizer.step(closure)
        assert torch.equal(flat(model.parameters()), before)
    optimizer.step(good)
    after = flat(model.parameters())
    assert torch.isfinite(after).all() and not torch.equal(after, before)


@pytest.mark.filterwarnings("error")
def test_tiny_and_huge_gradients_leave_finite_parameters(checkpoint: Path) -> None:
    for size in (1e-30, 1e-15, 1e15, 1e30):
        x = torch.tensor([1.0, 0.0, -2.0], requires_grad=True)
        optimizer = LearnedOptimizer([x], checkpoint)

        def closure(x: torch.Tensor = x, size: float = size, o: Any = optimizer) -> torch.Tensor:
            o.zero_grad()
            loss = size * x.square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        for _ in range(5):
            optimizer.step(closure)
            assert torch.isfinite(x).all(), size


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan")])
def test_impossible_rates_are_refused(lr: float) -> None:
    with pytest.raises(InvalidArgumentError, match="lr="):
        RuleOptimizer(network().parameters(), SGD, lr=lr)


def test_an_unknown_checkpoint_is_refused_at_once() -> None:
    with pytest.raises(CheckpointError, match="neither a checkpoint folder"):
        LearnedOptimizer(network().parameters(), "no-such-policy")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_runs_where_the_parameters_are(checkpoint: Path, tmp_path: Path) -> None:
    models = {device: network(device) for device in ("cpu", "cuda")}
    losses = {}
    for device, model in models.items():
        optimizer = LearnedOptimizer(model.parameters(), checkpoint)
        closure = closure_for(model, optimizer)
        losses[device] = [optimizer.step(closure).item() for _ in range(10)]
        torch.save(optimizer.state_dict(), tmp_path / f"{device}.pt")
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=1e-2)
    # A state from the GPU goes on there, also when it was loaded to the CPU.
    again = LearnedOptimizer(models["cuda"].parameters(), checkpoint)
    state = torch.load(tmp_path / "cuda.pt", weights_only=True, map_location="cpu")
    again.load_state_dict(state)
    again.step(closure_for(models["cuda"], again))
    assert again._rules[0].state["gradient"].device.type == "cuda"


def test_a_rate_other_than_one_leaves_the_features_right() -> None:
    """One step with lr 0.25 is the step of a rule whose a and b are a quarter."""
    curvature = FEATURES.index("log g'Hg'/Lg'g'")
    hessian = torch.diag(torch.arange(1.0, 7.0, dtype=torch.float64))
    start = torch.linspace(-1.0, 2.0, 6, dtype=torch.float64)
    x = nn.Parameter(start.clone())
    seen: list[float] = []

    class Watched(GainRule):
        def observe(self, *entry: Any) -> np.ndarray:
            features = super().observe(*entry)
            seen.append(float(features[0, curvature] * 4 + np.log(self.state["largest"][0])))
            return features

    optimizer = RuleOptimizer([x], Watched, lr=0.25)
    gradients = []
    for _ in range(4):
        loss = optimizer.step(lambda: closure_of(x, hessian))
        gradients.append(hessian @ x.detach())
        assert loss is not None
    # After each step the feature tells the curvature along the gradient before it.
    g = hessian @ start
    for told, following in zip(seen[1:], gradients, strict=False):
        assert np.exp(told) == pytest.approx(float(g @ hessian @ g / (g @ g)), rel=1e-4)
        g = following


def closure_of(x: nn.Parameter, hessian: torch.Tensor) -> torch.Tensor:
    x.grad = None
    loss = 0.5 * x @ hessian @ x
    loss.backward()  # type: ignore[no-untyped-call]
    return loss


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_moves(dtype: torch.dtype) -> None:
    x = nn.Parameter(torch.full((50,), 40.0, dtype=dtype))
    optimizer = RuleOptimizer([x], GainRule)
    hessian = torch.eye(50, dtype=dtype)
    losses = [float(optimizer.step(lambda: closure_of(x, hessian)).detach()) for _ in range(30)]
    assert losses[-1] < 0.1 * losses[0]


def test_a_skipped_step_is_told_once() -> None:
    x = nn.Parameter(torch.ones(2))

    def closure() -> torch.Tensor:
        x.grad = torch.full((2,), float("nan"))
        return torch.tensor(1.0)

    optimizer = RuleOptimizer([x], GainRule)
    with pytest.warns(UserWarning, match="not finite"):
        optimizer.step(closure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step(closure)
    assert torch.equal(x.detach(), torch.ones(2))


def test_what_is_not_its_state_or_checkpoint_is_refused() -> None:
    x = nn.Parameter(torch.ones(2))
    optimizer = RuleOptimizer([x], GainRule)
    with pytest.raises(InvalidArgumentError, match="another optimiser"):
        optimizer.load_state_dict(torch.optim.Adam([x]).state_dict())
    with pytest.raises(InvalidArgumentError, match="lr="):
        LearnedOptimizer([x], 1e-3)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="positive"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": -1.0})
