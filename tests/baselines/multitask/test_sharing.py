"""Independent, hard and soft sharing, against loops over tasks and weights."""

from __future__ import annotations

import itertools

import pytest
import torch

from metagym.baselines.multitask.architectures import make_architecture
from metagym.baselines.multitask.data import TasksShape


def shape(tasks):
    one_hot = tuple(tuple(row) for row in torch.eye(tasks).tolist())
    return TasksShape(4, ("regression",) * tasks, (1,) * tasks, one_hot)


def trunks(network):
    return [torch.cat([p.detach().flatten() for p in net[0].parameters()]) for net in network.own]


@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_distances_are_those_of_the_formula(tasks):
    pairwise, mean = (
        make_architecture("soft", shape(tasks), distance=distance, strength=1.0)
        for distance in ("pairwise", "mean")
    )
    weights = trunks(pairwise)
    pairs = sum((a - b).square().sum() for a, b in itertools.combinations(weights, 2))
    centre = sum(weights) / tasks
    spread = sum((w - centre).square().sum() for w in weights)
    torch.testing.assert_close(pairwise.distance().detach(), pairs)
    torch.testing.assert_close(mean.distance().detach(), spread)
    # The two differ by a factor, the number of tasks: for two, the second is half the first.
    torch.testing.assert_close(pairwise.distance(), tasks * mean.distance())


def test_soft_is_single_with_a_penalty_that_leaves_heads_alone():
    single, soft = (make_architecture(name, shape(3), seed=1) for name in ("single", "soft"))
    inputs = [torch.randn(n, 4, generator=torch.Generator().manual_seed(0)) for n in (2, 0, 3)]
    one, two = single(inputs), soft(inputs)
    assert all(torch.equal(a, b) for a, b in zip(one.predictions, two.predictions, strict=True))
    assert one.penalty == 0 and two.penalty > 0
    two.penalty.backward()
    assert all(p.grad is None for net in soft.own for p in net[1].parameters())
    assert all(p.grad.any() for net in soft.own for p in net[0].parameters())


def test_a_strong_penalty_makes_the_trunks_one():
    soft = make_architecture("soft", shape(3), widths=(5,), strength=1.0)
    descent = torch.optim.SGD(soft.parameters(), lr=0.4)
    empty = [torch.zeros(0, 4)] * 3
    for _ in range(40):
        descent.zero_grad()
        soft(empty).penalty.backward()
        descent.step()
    first, *others = trunks(soft)
    for other in others:
        torch.testing.assert_close(other, first)


def test_hard_sharing_passes_one_x_of_many_outputs_once():
    hard = make_architecture("hard", shape(3))
    seen = []
    hard.trunk.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    x, other = torch.ones(5, 4), torch.ones(2, 4)
    hard([x, other, x])
    assert seen == [7]
