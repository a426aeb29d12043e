"""The adversary by finite differences, and orthogonality on features that are known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.baselines.gradient_reversal import reverse_gradient
from metagym.baselines.multitask.architectures import make_architecture
from metagym.baselines.multitask.data import TasksShape
from metagym.baselines.multitask.private import orthogonality

SHAPE = TasksShape(
    4, ("regression", "binary", "binary"), (1, 1, 1), ((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0))
)


def network(**fields):
    made = make_architecture("shared_private", SHAPE, widths=(5,), private_widths=(3,), **fields)
    return made.double()


def batches(*sizes):
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(n, 4, generator=rng, dtype=torch.float64) for n in sizes]


def slope(function, parameter, step=1e-6):
    """Of a function of the weights along the parameter's first entries, by central differences."""
    flat, slopes = parameter.data.view(-1), []
    for i in range(min(4, len(flat))):
        values = []
        for sign in (1, -1):
            flat[i] += sign * step
            values.append(float(function().detach()))
            flat[i] -= sign * step
        slopes.append((values[0] - values[1]) / (2 * step))
    return torch.tensor(slopes, dtype=torch.float64)


def test_reversal_is_the_identity_with_a_negative_gradient():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = reverse_gradient(x, 0.5)
    assert torch.equal(y, x)
    (3 * y).sum().backward()
    assert torch.equal(x.grad, torch.tensor([-1.5, -1.5]))


@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_the_discriminator_descends_what_the_shared_encoder_ascends(strength):
    made = network(orthogonality=0.0, adversary=strength)
    inputs = batches(3, 6, 2)

    def penalty():
        return made(inputs).penalty

    penalty().backward()
    for parameter in made.discriminator.parameters():
        torch.testing.assert_close(parameter.grad.view(-1)[:4], slope(penalty, parameter))
    for parameter in made.trunk.parameters():
        expected = -strength * slope(penalty, parameter)
        torch.testing.assert_close(parameter.grad.view(-1)[:4], expected)
    private = [p for own in made.own for p in own["encoder"].parameters()]
    assert all(p.grad is None or not p.grad.any() for p in private)


def test_every_task_counts_the_same_for_the_discriminator():
    made = network(orthogonality=0.0)
    sizes = (3, 0, 12)
    inputs = batches(*sizes)
    losses = [
        torch.nn.functional.cross_entropy(made.discriminator(made.trunk(x)), torch.full((n,), task))
        for task, (n, x) in enumerate(zip(sizes, inputs, strict=True))
        if n
    ]
    torch.testing.assert_close(made(inputs).penalty, sum(losses) / 2)


def test_an_adversary_hides_the_task():
    """Tasks that differ by a feature which their labels do not need."""

    def confusion(adversary):
        made = network(adversary=adversary, orthogonality=0.0, discriminator_widths=())
        inputs = batches(40, 40, 40)
        for task, x in enumerate(inputs):
            x[:, 3] += 1.5 * (task - 1)
        adam = torch.optim.Adam(made.parameters(), lr=0.02)
        for _ in range(80):
            adam.zero_grad()
            predictions, penalty = made(inputs)
            pairs = zip(predictions, inputs, strict=True)
            losses = [(p[:, 0] - x[:, 0]).square().mean() for p, x in pairs]
            (sum(losses) + penalty).backward()
            adam.step()
        assert sum(losses) < 0.2
        return float(made(inputs).penalty.detach())

    assert confusion(0.0) < 0.85 < 0.95 < confusion(1.0)  # chance has ln 3 = 1.10


def test_orthogonal_features_cost_nothing_and_equal_ones_most():
    rng = torch.Generator().manual_seed(1)
    q, _ = torch.linalg.qr(torch.randn(6, 4, generator=rng, dtype=torch.float64))
    # Rows of one length, so that scaling them keeps the columns orthogonal.
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    assert float(orthogonality([signs[:, :1]], [signs[:, 1:]])) == 0
    assert float(orthogonality([signs[:, :1]], [signs[:, :1]])) == pytest.approx(1)
    # Disjoint examples are orthogonal too, and a batch without examples does not count.
    s, p = q[:, :2].clone(), q[:, 2:].clone()
    s[3:], p[:3] = 0, 0
    assert float(orthogonality([s, s[:0]], [p, p[:0]])) == 0
    assert float(orthogonality([s[:0]], [p[:0]])) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 5), st.integers(0, 999))
def test_orthogonality_lies_between_0_and_1_and_knows_no_scale(n, a, b, seed):
    rng = torch.Generator().manual_seed(seed)
    s = torch.randn(n, a, generator=rng, dtype=torch.float64)
    p = torch.randn(n, b, generator=rng, dtype=torch.float64)
    value = orthogonality([s], [p])
    assert 0 <= value <= 1 + 1e-9
    torch.testing.assert_close(value, orthogonality([7 * s], [0.1 * p]))
    torch.testing.assert_close(value, orthogonality([s[:0], s], [p[:0], p]))
    unit_s, unit_p = s / s.norm(dim=1, keepdim=True), p / p.norm(dim=1, keepdim=True)
    torch.testing.assert_close(value, torch.linalg.matrix_norm(unit_s.T @ unit_p) ** 2 / n**2)
