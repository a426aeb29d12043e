"""Weightings: closed forms, brute force, torchjd as an oracle, properties of directions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from metagym.baselines.multitask.weighting import (
    WEIGHTINGS,
    make_weighting,
    mgda,
    mgda_weights,
    pcgrad,
)
from metagym.errors import InvalidArgumentError


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@st.composite
def jacobians(draw, tasks=None):
    """Float64 Jacobians: of any rank, with gradients of different length, rows of zeros too."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 6)) if tasks is None else tasks
    size, rank = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    rows = rng.normal(size=(count, rank)) @ rng.normal(size=(rank, size))
    rows *= 10 ** rng.uniform(-2, 2, size=(count, 1))
    if draw(st.booleans()):
        rows[rng.integers(count)] = 0
    return torch.tensor(rows)


def _surgery(rows, orders):
    """Algorithm 1 of PCGrad as it is written, on vectors."""
    total = np.zeros(rows.shape[1])
    for i, order in enumerate(orders):
        g = rows[i].copy()
        for j in order:
            if j != i and (norm := rows[j] @ rows[j]) > 0 and g @ rows[j] < 0:
                g -= (g @ rows[j]) / norm * rows[j]
        total += g
    return total


# -- MGDA --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(jacobians(tasks=2))
def test_mgda_of_two_tasks_is_the_closed_form(rows):
    # Sener & Koltun (2018), algorithm 1
    a, b = rows.numpy()
    denominator = (a - b) @ (a - b)
    share = np.clip(((b - a) @ b) / denominator, 0, 1) if denominator > 0 else 0.5
    wanted = share * a + (1 - share) * b
    scale = np.abs(rows.numpy()).max()
    np.testing.assert_allclose(mgda(rows).numpy(), wanted, atol=2e-7 * scale)


@settings(max_examples=60, deadline=None)
@given(jacobians())
def test_mgda_is_the_shortest_convex_combination(rows):
    direction, weights = mgda(rows).numpy(), mgda_weights(rows)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(), 1)
    squared = direction @ direction
    scale = np.square(rows.numpy()).sum(1).max()
    # Optimal, by the variational inequality: d·g >= |d|² for every g of the hull.
    assert (rows.numpy() @ direction >= squared - 1e-9 * scale - 1e-12).all()


def test_mgda_agrees_with_a_generic_solver():
    rows = np.random.default_rng(0).normal(size=(4, 3)) + np.array([2.0, 0, 0])
    found = minimize(
        lambda w: 0.5 * np.sum((w @ rows) ** 2), np.full(4, 0.25), jac=lambda w: rows @ (w @ rows),
        bounds=[(0, 1)] * 4, constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP", options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    np.testing.assert_allclose(mgda(torch.tensor(rows)).numpy(), found.x @ rows, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(jacobians(), st.floats(1e-6, 1e6))
def test_mgda_scales_with_the_gradients_and_ignores_the_order_of_tasks(rows, factor):
    scale = rows.abs().max() + 1e-30
    torch.testing.assert_close(
        mgda(factor * rows) / factor / scale, mgda(rows) / scale, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(mgda(rows.flip(0)) / scale, mgda(rows) / scale, atol=1e-6, rtol=0)


def test_opposite_gradients_leave_mgda_nowhere_to_go():
    rows = torch.tensor([[1.0, 2.0], [-2.0, -4.0]])
    torch.testing.assert_close(mgda(rows), torch.zeros(2), atol=1e-6, rtol=0)
    np.testing.assert_allclose(mgda_weights(rows), [2 / 3, 1 / 3], atol=1e-6)


def test_zero_jacobians_give_zero_directions():
    rows = torch.zeros(3, 5)
    assert not mgda(rows).any()
    assert not pcgrad(rows, _generator()).any()
    np.testing.assert_allclose(mgda_weights(rows), 1 / 3)


# -- PCGrad ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(jacobians(), st.integers(0, 1000))
def test_pcgrad_is_the_published_algorithm(rows, seed):
    count = len(rows)
    orders = torch.rand(count, count, generator=_generator(seed)).numpy().argsort(1)
    wanted = _surgery(rows.numpy(), orders)
    scale = float(rows.abs().max()) + 1e-30
    np.testing.assert_allclose(pcgrad(rows, _generator(seed)) / scale, wanted / scale, atol=1e-9)


def test_pcgrad_of_two_tasks_is_the_closed_form():
    a, b = np.array([1.0, 0.0]), np.array([-1.0, 1.0])
    wanted = (a - (a @ b) / (b @ b) * b) + (b - (a @ b) / (a @ a) * a)
    found = pcgrad(torch.tensor(np.stack([a, b])), _generator())
    np.testing.assert_allclose(found, wanted, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(jacobians())
def test_pcgrad_leaves_gradients_without_conflicts_alone(rows):
    rows = rows.abs()
    torch.testing.assert_close(pcgrad(rows, _generator()), rows.sum(0))


@settings(max_examples=30, deadline=None)
@given(jacobians(tasks=2))
def test_pcgrad_never_goes_against_either_of_two_tasks(rows):
    inner = rows @ pcgrad(rows, _generator())
    assert (inner >= -1e-9 * rows.square().sum(1).max() - 1e-12).all()


def test_the_order_of_pcgrad_is_random_and_reproducible():
    rows = torch.randn(6, 4, generator=_generator(3)).double()
    found = [pcgrad(rows, _generator(seed)) for seed in range(8)]
    torch.testing.assert_close(found[2], pcgrad(rows, _generator(2)))
    assert len({tuple(x.tolist()) for x in found}) > 1


# -- torchjd -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_mgda_agrees_with_torchjd(seed):
    torchjd = pytest.importorskip("torchjd.aggregation")
    rows = torch.randn(5, 20, generator=_generator(seed)).double()
    oracle = torchjd.MGDA(epsilon=1e-12, max_iters=10_000)(rows)
    found = mgda(rows)
    assert found.norm() <= oracle.norm() + 1e-9  # Frank-Wolfe comes from above
    torch.testing.assert_close(found, oracle, atol=1e-2, rtol=0)


@pytest.mark.parametrize("seed", range(4))
def test_pcgrad_agrees_with_torchjd_over_all_orders(seed):
    """Both draw orders their own way: the sets of directions over many draws are compared."""
    torchjd = pytest.importorskip("torchjd.aggregation")
    rows = torch.randn(3, 4, generator=_generator(seed)).double()
    rows -= rows.mean(0) * 0.9  # gradients that conflict
    others = [[j for j in range(3) if j != i] for i in range(3)]
    per_task = [[list(order) for order in itertools.permutations(o)] for o in others]
    possible = np.stack(
        [_surgery(rows.numpy(), orders) for orders in itertools.product(*per_task)]
    ).round(8)
    possible = {tuple(x) for x in (possible + 0.0)}
    ours, theirs = set(), set()
    aggregator = torchjd.PCGrad()
    generator = _generator()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(150):
            ours.add(tuple(pcgrad(rows, generator).numpy().round(8) + 0.0))
            theirs.add(tuple(aggregator(rows).numpy().round(8) + 0.0))
    assert ours == theirs == possible


# -- losses ------------------------------------------------------------------------------------


def test_uniform_and_fixed_weight_losses():
    losses = torch.tensor([1.0, 2.0, 4.0])
    assert make_weighting("uniform", ["binary"] * 3)(losses, [0, 1, 2]) == 7
    fixed = make_weighting("fixed", ["binary"] * 3, (0.5, 0, 2))
    assert fixed(losses, [0, 1, 2]) == 8.5
    assert fixed(losses[:2], [2, 0]) == 3  # tasks that sit out
    assert make_weighting("fixed", ["binary"] * 2, 0.25)(losses[:2], [0, 1]) == 1.75


def test_learned_noise_converges_to_the_closed_form():
    """Where ∂/∂s = 0: σ² = L for regression, σ² = 2 L for classification."""
    weighting = make_weighting("uncertainty", ["regression", "binary"])
    losses = torch.tensor([0.3, 0.2])
    assert weighting(losses, [0, 1]).item() == pytest.approx(0.5 * 0.3 + 0.2)
    optimizer = torch.optim.LBFGS(weighting.parameters(), max_iter=100, tolerance_grad=1e-10)

    def closure():
        optimizer.zero_grad()
        loss = weighting(losses, [0, 1])
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(
        weighting.log_variance.exp().detach(), torch.tensor([0.3, 0.4]), atol=1e-3, rtol=0
    )


def test_agreeing_tasks_step_alike_under_every_weighting_of_gradients():
    row = torch.tensor([[1.0, -2.0]])
    for name in ("pcgrad", "mgda"):
        made = make_weighting(name, ["binary"] * 3)
        torch.testing.assert_close(
            made.direction(row.repeat(3, 1), _generator()), 3 * row[0], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize(
    ("name", "alpha", "words"),
    [
        ("pcgard", None, "pcgrad"),
        ("uniform", (1, 1), "takes no alpha"),
        ("fixed", None, "needs alpha"),
        ("fixed", (1, 2, 3), "2 tasks"),
        ("fixed", (1, -1), "at least 0"),
        ("fixed", (0, 0), "not all 0"),
        ("fixed", 1.5, "in \\[0, 1\\]"),
        ("fixed", (1, float("nan")), "at least 0"),
    ],
)
def test_bad_weightings_are_named(name, alpha, words):
    with pytest.raises(InvalidArgumentError, match=words):
        make_weighting(name, ["binary"] * 2, alpha)


def test_every_name_makes_its_weighting():
    for name in WEIGHTINGS:
        assert make_weighting(name, ["binary"] * 2, 0.5 if name == "fixed" else None).name == name


def test_bad_jacobians_are_named():
    for function in (mgda, lambda rows: pcgrad(rows, _generator())):
        with pytest.raises(InvalidArgumentError, match="not finite"):
            function(torch.tensor([[1.0, float("nan")]]))
        with pytest.raises(InvalidArgumentError, match="shape"):
            function(torch.zeros(3))
