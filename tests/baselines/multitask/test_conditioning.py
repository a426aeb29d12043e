"""The ways to tell a network its task: where they are the same, proved by setting weights."""

from __future__ import annotations

import pytest
import torch

from metagym.baselines.multitask.architectures import make_architecture
from metagym.baselines.multitask.conditioning import HOW
from metagym.baselines.multitask.data import TasksShape
from metagym.errors import InvalidArgumentError

KINDS, OUTPUTS = ("regression", "binary", "multiclass"), (1, 1, 3)
ONE_HOT = TasksShape(4, KINDS, OUTPUTS, ((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)))
METADATA = TasksShape(4, KINDS, OUTPUTS, ((0.3, -1.0), (2.0, 0.5), (0.0, 0.7)))


def make(how, shape=METADATA, widths=(5, 6), **keywords):
    return make_architecture("conditioned", shape, how=how, widths=widths, **keywords)


def batches(*sizes):
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(n, 4, generator=rng) for n in sizes]


def assert_equal(one, other):
    inputs = batches(3, 0, 7)
    for a, b in zip(one(inputs).predictions, other(inputs).predictions, strict=True):
        torch.testing.assert_close(a, b)


def linear(net):
    return [layer for layer in net if isinstance(layer, torch.nn.Linear)]


@torch.no_grad()
def as_addition(weights, sizes):
    """Addition with the weights of layers that read [h; z], z's columns behind the first."""
    made = make("addition")
    for layer, bias, other, size in zip(
        made.net.layers, made.net.biases, weights, sizes, strict=True
    ):
        layer.weight.copy_(other.weight[:, :size])
        layer.bias.copy_(other.bias)
        bias.weight.zero_()
        if other.weight.shape[1] > size:
            bias.weight.copy_(other.weight[:, size:])
    return made


def test_concatenation_at_the_input_is_a_learned_bias_of_the_first_layer():
    made = make("input")
    same = as_addition([*linear(made.net.body), made.net.last], [4, 5, 6])
    assert same.net.biases[0].weight.any()
    assert not same.net.biases[1].weight.any() and not same.net.biases[2].weight.any()
    assert_equal(made, same)


def test_concatenation_at_activations_is_a_learned_bias_of_the_later_layers():
    made = make("activations")
    same = as_addition([*made.net.layers, made.net.last], [4, 5, 6])
    assert not same.net.biases[0].weight.any()
    assert same.net.biases[1].weight.any() and same.net.biases[2].weight.any()
    assert_equal(made, same)


def test_gates_that_are_masks_make_many_heads():
    """A last layer with a copy of the features for each task, of which gates leave one."""
    heads, gating = make("heads", ONE_HOT), make("gating", ONE_HOT, widths=(5, 18))
    first, second = linear(heads.net.body)
    with torch.no_grad():
        gating.net.layers[0].load_state_dict(first.state_dict())
        gating.net.layers[1].weight.copy_(second.weight.repeat(3, 1))
        gating.net.layers[1].bias.copy_(second.bias.repeat(3))
        gating.net.gates[0].weight.zero_()  # its bias of 1 leaves the first layer open
        gating.net.gates[1].bias.zero_()
        gating.net.gates[1].weight.copy_(torch.eye(3).repeat_interleave(6, dim=0))
        gating.net.last.weight.copy_(torch.cat(list(heads.net.last.weight), dim=1))
        gating.net.last.bias.zero_()
        heads.net.last.bias.zero_()  # a mask of features does not choose between biases
    assert_equal(heads, gating)


def test_many_heads_with_one_hot_descriptors_are_hard_sharing():
    heads = make("heads", ONE_HOT)
    hard = make_architecture("hard", ONE_HOT, widths=(5, 6))
    hard.trunk.load_state_dict(heads.net.body.state_dict())
    with torch.no_grad():
        for task, (head, outputs) in enumerate(zip(hard.own, OUTPUTS, strict=True)):
            head.weight.copy_(heads.net.last.weight[task, :outputs])
            head.bias.copy_(heads.net.last.bias[task, :outputs])
    assert_equal(heads, hard)


def test_the_extreme_is_independent_networks():
    independent = make("independent", ONE_HOT)
    single = make_architecture("single", ONE_HOT, widths=(5, 6))
    layers = [*independent.net.bodies.layers, independent.net.last]
    with torch.no_grad():
        for task, (net, outputs) in enumerate(zip(single.own, OUTPUTS, strict=True)):
            for layer, parallel in zip([*linear(net[0]), net[1]], layers, strict=True):
                layer.weight.copy_(parallel.weight[task, : len(layer.bias)])
                layer.bias.copy_(parallel.bias[task, : len(layer.bias)])
            assert net[1].out_features == outputs
    assert_equal(independent, single)


@pytest.mark.parametrize("how", HOW)
def test_the_descriptor_matters_and_a_new_one_can_be_asked(how):
    made = make(how)
    x = batches(4)[0]
    answers = made([x, x, x]).predictions
    assert not torch.allclose(answers[0], answers[1])
    for task, outputs in enumerate(OUTPUTS):
        asked = made.answer(x, made.z[task])
        assert asked.shape == (4, 3)
        torch.testing.assert_close(asked[:, :outputs], answers[task])
    between = made.answer(x, made.z.mean(dim=0))
    assert torch.isfinite(between).all()
    with pytest.raises(InvalidArgumentError, match="descriptor"):
        made.answer(x, torch.zeros(3))


def test_gates_multiply_activations_and_are_near_open_at_first():
    made = make("gating")
    x = h = batches(4)[0]
    with torch.no_grad():
        made.net.gates[0].weight.mul_(5)  # some are negative: they act behind the rectifier
    for layer, gate in zip(made.net.layers, made.net.gates, strict=True):
        h = torch.relu(layer(h)) * gate(made.z[1])
    torch.testing.assert_close(made([x, x, x]).predictions[1], made.net.last(h)[:, :1])
    for gate in made.net.gates:
        torch.testing.assert_close(gate(torch.zeros(2)), torch.ones(gate.out_features))
