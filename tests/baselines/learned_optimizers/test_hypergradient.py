"""Hypergradients: against closed form, finite differences and autograd; memory is O(sqrt T)."""

from __future__ import annotations

import gc
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from metagym.baselines.learned_optimizers.hypergradient import (
    Hyperparameters,
    differentiate_training,
    optimize_hyperparameters,
)
from metagym.errors import InvalidArgumentError

FIELDS = ("log_rates", "momentum_logits", "log_scales", "log_decays")


class Net:
    """A small tanh network with a fixed minibatch per step, in float64."""

    def __init__(self, steps: int) -> None:
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
        self.initial = {k: 0.5 * draw(*p.shape) for k, p in self.module.named_parameters()}
        self.inputs, self.targets = draw(steps, 5, 3), draw(steps, 5, 1)
        self.held_out = draw(7, 3), draw(7, 1)

    def train_loss(self, params: dict[str, torch.Tensor], t: int) -> torch.Tensor:
        found = functional_call(self.module, params, (self.inputs[t],))
        return (found - self.targets[t]).square().mean()

    def validation_loss(self, params: dict[str, torch.Tensor]) -> torch.Tensor:
        inputs, targets = self.held_out
        return (functional_call(self.module, params, (inputs,)) - targets).square().mean()


def hyperparameters(net: Net, steps: int) -> Hyperparameters:
    """All different, so that no two entries can be mistaken for each other."""
    base = Hyperparameters.constant(net.initial, steps, rate=0.2, momentum=0.7, decay=0.05)
    generator = torch.Generator().manual_seed(1)
    return Hyperparameters(
        **{
            name: value + 0.3 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
            for name, value in base.tensors().items()
        }
    )


def unrolled(net: Net, given: Hyperparameters) -> torch.Tensor:
    """The validation loss with one graph through all steps, written independently."""
    rates, momenta = given.log_rates.exp(), given.momentum_logits.sigmoid()
    names = list(net.initial)
    w = [given.log_scales[i].exp() * net.initial[name] for i, name in enumerate(names)]
    v = [torch.zeros_like(each) for each in w]
    for t in range(given.steps):
        loss = net.train_loss(dict(zip(names, w, strict=True)), t)
        slopes = torch.autograd.grad(loss, w, create_graph=True)
        for i, slope in enumerate(slopes):
            pull = slope + given.log_decays[i].exp() * w[i]
            v[i] = momenta[t] * v[i] - (1 - momenta[t]) * pull
        w = [each + rates[t] * speed for each, speed in zip(w, v, strict=True)]
    return net.validation_loss(dict(zip(names, w, strict=True)))


@pytest.mark.parametrize("segment", [None, 1, 3, 7, 100])
def test_it_is_the_gradient_of_the_unrolled_graph(segment: int | None) -> None:
    net = Net(7)
    given = hyperparameters(net, 7)
    tracked = Hyperparameters(**{k: v.clone().requires_grad_() for k, v in given.tensors().items()})
    value = unrolled(net, tracked)
    wanted = torch.autograd.grad(value, list(tracked.tensors().values()))
    found = differentiate_training(
        net.train_loss, net.validation_loss, net.initial, given, segment=segment
    )
    torch.testing.assert_close(found.value, value.detach(), rtol=1e-12, atol=1e-12)
    for name, gradient in zip(tracked.tensors(), wanted, strict=True):
        torch.testing.assert_close(getattr(found.gradient, name), gradient, rtol=1e-10, atol=1e-13)
        assert (gradient != 0).all()


def test_a_caller_without_gradients_and_a_tensor_without_effect_change_nothing() -> None:
    net = Net(4)
    initial = {**net.initial, "unused": torch.ones(2, dtype=torch.float64)}
    given = Hyperparameters.constant(initial, 4)
    wanted = differentiate_training(
        net.train_loss, net.validation_loss, net.initial, Hyperparameters.constant(net.initial, 4)
    )

    def train_loss(params: dict[str, torch.Tensor], t: int) -> torch.Tensor:
        return net.train_loss({k: params[k] for k in net.initial}, t)

    def validation_loss(params: dict[str, torch.Tensor]) -> torch.Tensor:
        return net.validation_loss({k: params[k] for k in net.initial})

    with torch.no_grad():
        found = differentiate_training(train_loss, validation_loss, initial, given)
    assert torch.equal(found.gradient.log_rates, wanted.gradient.log_rates)
    assert torch.equal(found.gradient.log_scales[:-1], wanted.gradient.log_scales)
    assert found.gradient.log_scales[-1] == 0.0 == found.gradient.log_decays[-1]
    tensors = [*found.gradient.tensors().values(), *found.parameters.values(), found.value]
    assert not any(tensor.requires_grad for tensor in (*tensors, found.training_losses))


@pytest.mark.parametrize("name", FIELDS)
def test_finite_differences_agree_entry_by_entry(name: str) -> None:
    net, step = Net(5), 1e-5
    given = hyperparameters(net, 5)
    run = (net.train_loss, net.validation_loss, net.initial)
    gradient = getattr(differentiate_training(*run, given).gradient, name)
    for i in range(len(gradient)):
        values = []
        for sign in (1.0, -1.0):
            moved = getattr(given, name).clone()
            moved[i] += sign * step
            values.append(differentiate_training(*run, replace(given, **{name: moved})).value)
        difference = (values[0] - values[1]) / (2 * step)
        torch.testing.assert_close(gradient[i], difference, rtol=1e-6, atol=1e-9)


def test_one_step_has_a_closed_form() -> None:
    """L = a w^2 / 2 and one step: w_1 = w (1 - α (1 - γ) (a + λ)), w = σ w_init."""
    a, init, rate, momentum, scale, decay = 3.0, 2.0, 0.1, 0.6, 1.5, 0.2
    initial = {"w": torch.tensor([init], dtype=torch.float64)}
    given = Hyperparameters.constant(
        initial, 1, rate=rate, momentum=momentum, scale=scale, decay=decay
    )
    found = differentiate_training(
        lambda p, t: 0.5 * a * p["w"].square().sum(), lambda p: p["w"].sum(), initial, given
    )
    w = scale * init
    trained = w * (1 - rate * (1 - momentum) * (a + decay))
    assert float(found.value) == pytest.approx(trained, rel=1e-12)
    assert float(found.training_losses[0]) == pytest.approx(0.5 * a * w**2, rel=1e-12)
    wanted = {
        "log_rates": -w * rate * (1 - momentum) * (a + decay),
        "momentum_logits": w * rate * (a + decay) * momentum * (1 - momentum),
        "log_scales": trained,
        "log_decays": -w * rate * (1 - momentum) * decay,
    }
    for name, value in wanted.items():
        assert float(getattr(found.gradient, name)) == pytest.approx(value, rel=1e-12), name


@pytest.mark.parametrize("steps", [1, 2, 10, 16, 17, 100])
def test_the_states_that_are_held_grow_as_the_root_of_the_steps(steps: int) -> None:
    initial = {"w": torch.ones(2, dtype=torch.float64)}
    given = Hyperparameters.constant(initial, steps, rate=0.01)
    run: Any = (lambda p, t: p["w"].square().sum(), lambda p: p["w"].sum(), initial, given)
    assert differentiate_training(*run).most_states <= 2 * math.ceil(math.sqrt(steps)) + 2
    assert differentiate_training(*run, segment=steps).most_states >= steps


def test_no_other_tensor_of_the_run_stays_alive() -> None:
    """What ``most_states`` says is compared with the tensors that Python really holds."""
    size, steps, alive = 1237, 100, []

    def loss(p: dict[str, torch.Tensor], t: int) -> torch.Tensor:
        if t % 10 == 9:
            vectors = [o for o in gc.get_objects() if type(o) is torch.Tensor]
            alive.append(sum(1 for o in vectors if o.ndim == 1 and len(o) == size))
        return p["w"].square().sum()

    initial = {"w": torch.ones(size)}
    given = Hyperparameters.constant(initial, steps, rate=0.01)
    found = differentiate_training(loss, lambda p: p["w"].sum(), initial, given)
    # Two vectors a state, and what one step holds in passing; all states would be 200.
    assert len(alive) == 20 and max(alive) <= 2 * found.most_states + 20


def test_tuning_all_of_them_at_once_lowers_the_validation_loss() -> None:
    net = Net(6)
    start = Hyperparameters.constant(net.initial, 6, rate=0.02, momentum=0.5)
    seen: list[float] = []
    found = optimize_hyperparameters(
        net.train_loss, net.validation_loss, net.initial, start, meta_steps=15, learning_rate=0.1,
        report=lambda i, value: seen.append(value),
    )  # fmt: skip
    assert found.values == seen and min(seen) < 0.95 * seen[0]
    again = differentiate_training(net.train_loss, net.validation_loss, net.initial, found.best)
    assert float(again.value) == pytest.approx(min(seen), rel=1e-12)


def test_bad_input_is_named() -> None:
    initial = {"w": torch.ones(2)}
    given = Hyperparameters.constant(initial, 3)

    def loss(p: dict[str, torch.Tensor], t: int = 0) -> torch.Tensor:
        return p["w"].square().sum()

    with pytest.raises(InvalidArgumentError, match="log_scales"):
        differentiate_training(loss, loss, {**initial, "b": torch.ones(1)}, given)
    with pytest.raises(InvalidArgumentError, match="diverged"):
        wild = Hyperparameters.constant(initial, 200, rate=1e6)
        differentiate_training(loss, loss, initial, wild)
    for wrong in ({"momentum": 1.0}, {"rate": 0.0}, {"decay": -1.0}, {"scale": float("inf")}):
        with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
            Hyperparameters.constant(initial, 3, **wrong)
    with pytest.raises(InvalidArgumentError, match="initial"):
        Hyperparameters.constant({}, 3)
