"""Cross-stitch and mixtures of experts at the extremes where they are simpler networks."""

from __future__ import annotations

import torch

from metagym.baselines.multitask.architectures import make_architecture
from metagym.baselines.multitask.data import TasksShape

SHAPE = TasksShape(
    4, ("regression", "binary", "multiclass"), (1, 1, 3), ((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0))
)


def batches(*sizes):
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(n, 4, generator=rng) for n in sizes]


def assert_equal(one, other):
    for a, b in zip(one.predictions, other.predictions, strict=True):
        torch.testing.assert_close(a, b)


def linear(net):
    return [layer for layer in net if isinstance(layer, torch.nn.Linear)]


def copy_columns(single, cross):
    with torch.no_grad():
        for task, net in enumerate(single.own):
            for column, layer in zip(cross.columns, linear(net[0]), strict=True):
                column.weight[task] = layer.weight
                column.bias[task] = layer.bias
            cross.own[task].load_state_dict(net[1].state_dict())


def test_units_that_are_identities_leave_independent_networks():
    single = make_architecture("single", SHAPE, widths=(5, 3))
    cross = make_architecture("cross_stitch", SHAPE, widths=(5, 3), same=1.0)
    copy_columns(single, cross)
    inputs = batches(3, 0, 7)
    assert_equal(single(inputs), cross(inputs))


def test_units_mix_the_columns_as_a_loop_does():
    cross = make_architecture("cross_stitch", SHAPE, widths=(5, 3), same=0.7)
    for alpha in cross.stitches:
        torch.testing.assert_close(alpha.sum(dim=1), torch.ones(3))
        torch.testing.assert_close(alpha.diagonal(), torch.full((3,), 0.7))
    with torch.no_grad():
        for alpha in cross.stitches:
            alpha.copy_(torch.arange(9.0).view(3, 3) / 9)
    inputs = batches(3, 2, 7)
    for task, x in enumerate(inputs):
        columns = [x, x, x]
        for layer, alpha in zip(cross.columns, cross.stitches, strict=True):
            made = [
                torch.relu(column @ layer.weight[i].T + layer.bias[i])
                for i, column in enumerate(columns)
            ]
            columns = [sum(alpha[s, t] * made[t] for t in range(3)) for s in range(3)]
        answer = cross.own[task](columns[task])
        torch.testing.assert_close(cross(inputs).predictions[task], answer)


def test_one_expert_is_hard_sharing():
    hard = make_architecture("hard", SHAPE, widths=(5, 3))
    mixture = make_architecture("mmoe", SHAPE, widths=(5, 3), experts=1)
    with torch.no_grad():
        for parallel, layer in zip(mixture.experts.layers, linear(hard.trunk), strict=True):
            parallel.weight[0] = layer.weight
            parallel.bias[0] = layer.bias
        for parts, head in zip(mixture.own, hard.own, strict=True):
            parts["head"].load_state_dict(head.state_dict())
    inputs = batches(3, 0, 7)
    assert_equal(hard(inputs), mixture(inputs))


def test_gates_that_choose_an_expert_each_leave_independent_networks():
    single = make_architecture("single", SHAPE, widths=(5, 3))
    mixture = make_architecture("mmoe", SHAPE, widths=(5, 3), experts=3)
    with torch.no_grad():
        for task, (net, parts) in enumerate(zip(single.own, mixture.own, strict=True)):
            for parallel, layer in zip(mixture.experts.layers, linear(net[0]), strict=True):
                parallel.weight[task] = layer.weight
                parallel.bias[task] = layer.bias
            parts["head"].load_state_dict(net[1].state_dict())
            parts["gate"].weight.zero_()
            parts["gate"].bias.copy_(1e3 * torch.eye(3)[task])
    inputs = batches(3, 2, 7)
    assert_equal(single(inputs), mixture(inputs))


def test_gates_are_shares_that_differ_by_task_and_example():
    mixture = make_architecture("mmoe", SHAPE, experts=5)
    x = batches(6)[0]
    gates = mixture.gates([x, x, x])
    for gate in gates:
        assert gate.shape == (6, 5) and (gate > 0).all()
        torch.testing.assert_close(gate.sum(dim=1), torch.ones(6))
    assert not torch.allclose(gates[0], gates[1]) and not torch.allclose(gates[0][0], gates[0][1])
