"""``clone()`` and ``adapt(loss)`` against plain algebra and against the functional core."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from metagym.baselines.few_shot import Clonable, TaskShape, make_method
from metagym.baselines.few_shot.base import per_task_loss
from metagym.errors import InvalidArgumentError
from metagym.tasks.few_shot import Tasks

RATE = 0.1


class Weight(nn.Module):
    """x · w, whose losses can be differentiated by hand."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, x):
        return x * self.w


@pytest.mark.parametrize("first_order", [False, True])
def test_the_meta_gradient_of_one_weight_is_that_of_the_formula(first_order):
    maml = Clonable(Weight(), RATE, first_order=first_order)
    learner = maml.clone()
    learner.adapt((learner(1.0) - 1.0) ** 2)  # w' = w - 2 rate (w - 1)
    adapted = 2.0 - 2.0 * RATE * 1.0
    assert learner.params["w"].item() == pytest.approx(adapted, abs=1e-12)
    ((learner(3.0) - 4.0) ** 2).backward()
    outer = 2.0 * 3.0 * (3.0 * adapted - 4.0)
    expected = outer * (1.0 if first_order else 1.0 - 2.0 * RATE)
    assert maml.model.w.grad.item() == pytest.approx(expected, rel=1e-12)
    assert maml.model.w.item() == 2.0


def test_learners_agree_with_the_functional_core():
    shape = TaskShape("regression", (1,), 1, 5)
    method = make_method("maml", shape, inner_steps=2, hidden=(8,), inner_lr=RATE).double()
    generator = torch.Generator().manual_seed(0)
    tasks = Tasks(*(torch.randn(3, 5, 1, generator=generator).double() for _ in range(4)))
    method.meta_loss(tasks, generator)[0].backward()
    expected = [parameter.grad.clone() for parameter in method.parameters()]
    method.zero_grad()
    for sx, sy, qx, qy in zip(*tasks, strict=True):
        learner = method.clone()
        for _ in range(2):
            learner.adapt(per_task_loss("regression", learner(sx), sy))
        (per_task_loss("regression", learner(qx), qy) / 3).backward()
    for parameter, gradient in zip(method.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-12)


def test_meta_sgd_clones_reach_the_learned_rates():
    shape = TaskShape("regression", (1,), 1, 5)
    method = make_method("meta_sgd", shape, hidden=(4,))
    learner = method.clone()
    x = torch.linspace(-1, 1, 5)[:, None]
    learner.adapt(learner(x).square().mean())
    learner(x).square().mean().backward()
    assert all(rate.grad is not None for rate in method.learned_rates)
    assert method.learned_rates[0].grad.abs().sum() > 0


def test_clones_of_clones_go_their_own_way():
    maml = Clonable(Weight(), RATE)
    first = maml.clone()
    first.adapt(first(1.0) ** 2)
    second = first.clone()
    second.adapt(second(1.0) ** 2)
    factor = 1.0 - 2.0 * RATE
    assert [x.item() for x in first.parameters()] == pytest.approx([2.0 * factor])
    assert dict(second.named_parameters())["w"].item() == pytest.approx(2.0 * factor**2)
    second(1.0).backward()
    assert maml.model.w.grad.item() == pytest.approx(factor**2)


def test_frozen_parameters_and_buffers_stay():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    learner = Clonable(model, RATE).clone()
    learner.adapt(learner(torch.randn(6, 2)).square().mean())
    assert learner.params["0.weight"] is model[0].weight
    assert not torch.equal(learner.params["2.bias"], model[2].bias)
    assert int(model[1].num_batches_tracked) == 0
    assert int(learner.buffers["1.num_batches_tracked"]) == 1


def test_losses_that_cannot_adapt_are_refused():
    learner = Clonable(Weight(), RATE).clone()
    with pytest.raises(InvalidArgumentError, match="average it"):
        learner.adapt(learner(torch.ones(3)))
    with pytest.raises(InvalidArgumentError, match="come from the learner"):
        learner.adapt(torch.tensor(1.0, requires_grad=True) * 2.0)
    learner.adapt(torch.tensor(1.0, requires_grad=True) * 2.0, allow_unused=True)
    assert learner.params["w"].item() == 2.0
    with pytest.raises(InvalidArgumentError, match="lr"):
        Clonable(Weight(), -1.0)


def test_a_loss_of_the_model_or_of_another_learner_is_refused_from_the_first_step_on():
    maml = Clonable(Weight(), RATE)
    parent = maml.clone()
    learner = parent.clone()
    for other in (maml, maml.clone(), parent):
        with pytest.raises(InvalidArgumentError, match="come from the learner"):
            learner.adapt(other(1.0) ** 2)
    with torch.no_grad():
        learner = maml.clone()
    learner.adapt(learner(1.0) ** 2)
    assert learner.params["w"].item() == pytest.approx(2.0 - RATE * 4.0)


def test_the_mode_is_set_from_the_learner():
    model = nn.Sequential(nn.Dropout(0.5))
    learner = Clonable(model, RATE).clone()
    x = torch.ones(50)
    assert learner.eval() is learner and not model[0].training
    assert torch.equal(learner(x), x)
    assert learner.train() is learner and model[0].training
    assert not torch.equal(learner(x), x)
