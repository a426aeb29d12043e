"""The learned rule in closed form, its first-order gradient, and that it learns."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.func import functional_call

from metagym.baselines.few_shot.base import TaskShape, per_task_loss
from metagym.baselines.few_shot.functional import adapt
from metagym.baselines.few_shot.meta_lstm import GatedRule, MetaLSTM, MetaLSTMConfig
from metagym.baselines.learned_optimizers.coordinatewise import log_and_sign
from metagym.errors import InvalidArgumentError


@pytest.fixture
def distribution(blobs):
    return blobs(ways=3, shots=2, dtype=torch.float64)


@pytest.fixture
def tasks(distribution):
    return distribution.sample(4, "train", torch.Generator().manual_seed(0))


def test_preprocessing_of_known_numbers():
    x = torch.tensor([1.0, -math.e, math.exp(-10.0), 0.0, -math.exp(-11.0)], dtype=torch.float64)
    expected = [[0.0, 1.0], [0.1, -1.0], [-1.0, 1.0], [-1.0, 0.0], [-1.0, -math.exp(-1.0)]]
    x[2] *= 1.0 + 1e-12  # on the side of the logarithm, whatever the rounding
    torch.testing.assert_close(log_and_sign(x), torch.tensor(expected, dtype=torch.float64))


@given(st.floats(-1e30, 1e30), st.floats(1.0, 20.0))
def test_preprocessed_numbers_are_moderate_and_keep_the_sign(x, p):
    first, second = log_and_sign(torch.tensor(x, dtype=torch.float64), p).tolist()
    assert -1.0 - 1e-9 <= first <= 70.0 / p and abs(second) <= 1.0 + 1e-9
    assert second * x >= 0.0


def test_preprocessing_has_no_jump():
    edge = math.exp(-10.0)
    around = torch.tensor([edge * (1 - 1e-9), edge * (1 + 1e-9)], dtype=torch.float64)
    below, above = log_and_sign(around)
    torch.testing.assert_close(below, above)


def constant_gates(rule, forget, rate):
    """Let the gates be what they are told, whatever they read."""
    with torch.no_grad():
        for gate, value in ((rule.forget, forget), (rule.input, rate)):
            gate.weight.zero_()
            gate.bias.fill_(math.log(value / (1.0 - value)) if value < 1.0 else 50.0)


@pytest.mark.parametrize("width", [0, 7])
def test_one_step_with_constant_gates(width):
    rule = GatedRule(MetaLSTMConfig(width=width)).double()
    constant_gates(rule, 0.9, 0.2)
    weights, gradient = (
        torch.tensor([1.0, -2.0, 0.0]).double(),
        torch.tensor([5.0, 0.0, -1]).double(),
    )
    new, memory = rule(weights, gradient, torch.tensor(2.0).double(), rule.start(weights))
    torch.testing.assert_close(new, 0.9 * weights - 0.2 * gradient)
    torch.testing.assert_close(memory.forget, torch.full((3,), 0.9).double())
    torch.testing.assert_close(memory.input, torch.full((3,), 0.2).double())
    assert memory.hidden.shape == memory.cell.shape == (3, width)


def test_the_gates_read_gradient_loss_weight_and_their_own_last_value():
    torch.manual_seed(0)
    rule = GatedRule(MetaLSTMConfig(width=0)).double()
    weights, gradient = torch.randn(2, 6).double()
    loss = torch.tensor(0.3).double()
    memory = rule.start(weights)
    for _ in range(2):  # the second step reads the gates of the first
        expected = []
        for gate, last in ((rule.forget, memory.forget), (rule.input, memory.input)):
            with torch.no_grad():
                gate.weight.normal_()
            columns = [*log_and_sign(gradient).T, *log_and_sign(loss).expand(6, 2).T, weights, last]
            total = sum(w * c for w, c in zip(gate.weight[0], columns, strict=True))
            expected.append((total + gate.bias).sigmoid())
        new, memory = rule(weights, gradient, loss, memory)
        torch.testing.assert_close(memory.forget, expected[0])
        torch.testing.assert_close(memory.input, expected[1])
        torch.testing.assert_close(new, expected[0] * weights - expected[1] * gradient)


def test_the_first_lstm_is_an_lstm():
    torch.manual_seed(0)
    rule = GatedRule(MetaLSTMConfig(width=5)).double()
    cell = torch.nn.LSTMCell(4, 5).double()
    with torch.no_grad():
        # torch's order is input, forget, cell, output.
        into, keep, out, new = rule.first.weight.split(5)
        weight = torch.cat([into, keep, new, out])
        cell.weight_ih.copy_(weight[:, :4])
        cell.weight_hh.copy_(weight[:, 4:])
        into, keep, out, new = rule.first.bias.split(5)
        cell.bias_ih.copy_(torch.cat([into, keep, new, out]))
        cell.bias_hh.zero_()
    weights, gradient = torch.randn(2, 6).double()
    loss = torch.tensor(0.3).double()
    memory, state = rule.start(weights), None
    for _ in range(2):
        weights, memory = rule(weights, gradient, loss, memory)
        read = torch.cat([log_and_sign(gradient), log_and_sign(loss).expand(6, 2)], 1)
        state = cell(read, state)
        torch.testing.assert_close(memory.hidden, state[0])
        torch.testing.assert_close(memory.cell, state[1])


def test_a_rule_that_forgets_nothing_is_gradient_descent(make, distribution, tasks):
    method = make(MetaLSTM, distribution, steps=4, hidden=(6,))
    constant_gates(method.rule, 1.0, 0.05)
    start = {name: p.detach() for name, p in method.network.named_parameters()}

    def loss(params):
        outputs = functional_call(method.network, params, (tasks.support_x[0],))
        return per_task_loss("classification", outputs, tasks.support_y[0])

    expected = adapt(loss, start, [dict.fromkeys(start, 0.05)] * 4)
    learned = method.learn(tasks.support_x[0], tasks.support_y[0])
    for name, value in expected.items():
        torch.testing.assert_close(learned[name], value)


def test_the_meta_gradient_takes_gradients_and_losses_for_constants(make, distribution, tasks):
    """Finite differences of a run that is fed the recorded gradients and losses."""
    method = make(MetaLSTM, distribution, steps=3, hidden=(4,), width=3, input_bias=-1.0)
    task = tuple(part[0] for part in tasks)
    recorded = []
    hook = method.rule.register_forward_pre_hook(lambda _, given: recorded.append(given[1:3]))
    loss = method.task_numbers(*task)["loss"]
    hook.remove()
    learned = list(method.parameters())
    gradients = torch.autograd.grad(loss, learned)

    def replay():
        start = dict(method.network.named_parameters())
        weights = torch.cat([p.flatten() for p in start.values()])
        memory = method.rule.start(weights)
        for gradient, value in recorded:
            weights, memory = method.rule(weights, gradient, value, memory)
        parts = weights.split([p.numel() for p in start.values()])
        params = {n: w.view_as(p) for (n, p), w in zip(start.items(), parts, strict=True)}
        outputs = functional_call(method.network, params, (task[2],))
        return float(per_task_loss("classification", outputs, task[3]))

    with torch.no_grad():
        for parameter, gradient in zip(learned, gradients, strict=True):
            flat = parameter.view(-1)
            for i in {0, len(flat) // 2, len(flat) - 1}:
                flat[i] += 1e-6
                up = replay()
                flat[i] -= 2e-6
                down = replay()
                flat[i] += 1e-6
                assert float(gradient.flatten()[i]) == pytest.approx((up - down) / 2e-6, abs=1e-7)


def test_however_tasks_are_run_the_numbers_are_the_same(make, distribution, tasks):
    found = []
    for how in ("vmap", "loop", "chunk"):
        method = make(MetaLSTM, distribution, steps=2, hidden=(4,), over_tasks=how, chunk=3)
        loss, numbers = method.meta_loss(tasks, torch.Generator())
        loss.backward()
        gradients = [parameter.grad for parameter in method.parameters()]
        assert all(gradient.isfinite().all() for gradient in gradients)
        found.append([loss.detach(), *numbers.values(), method.predict(tasks), *gradients])
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, same, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("norm", ["support", "batch"])
def test_images_and_who_is_transductive(norm, blobs, make):
    distribution = blobs(ways=3, input_shape=(1, 8, 8), dtype=torch.float64)
    method = make(MetaLSTM, distribution, filters=4, norm=norm, steps=2).eval()
    tasks = distribution.sample(2, "test", torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = method.predict(tasks)
        alone = method.predict(
            tasks._replace(query_x=tasks.query_x[:, :2], query_y=tasks.query_y[:, :2])
        )
    assert torch.allclose(whole[:, :2], alone) == (norm == "support")
    assert method.label == ("meta_lstm" if norm == "support" else "meta_lstm (transductive)")


def test_it_learns_and_learning_steps_help(blobs, make, learn):
    distribution = blobs(ways=3, shots=2)
    method = make(MetaLSTM, distribution, input_bias=-1.0, hidden=(32,), width=8)
    assert learn(method, distribution, iterations=100) > 0.7
    tasks = distribution.sample(50, "test", torch.Generator().manual_seed(5))
    right = [
        float((method.predict(tasks, steps=steps).argmax(-1) == tasks.query_y).float().mean())
        for steps in (0, 5)
    ]
    assert right[0] < 0.5 < right[1]


def test_what_cannot_be(make, distribution, tasks):
    with pytest.raises(InvalidArgumentError, match="norm='running'"):
        make(MetaLSTM, distribution, norm="running")
    for fields in ({"width": -1}, {"steps": 0}, {"p": 0.0}, {"over_tasks": "map"}, {"chunk": 0}):
        with pytest.raises(InvalidArgumentError, match=next(iter(fields))):
            MetaLSTMConfig(**fields)
    method = make(MetaLSTM, distribution)
    with pytest.raises(InvalidArgumentError, match="steps=-1"):
        method.predict(tasks, steps=-1)
    with pytest.raises(InvalidArgumentError, match="support_x has the shape"):
        MetaLSTM(TaskShape("classification", (3,), 3, 6)).predict(tasks)
