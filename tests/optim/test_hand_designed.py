"""The hand-designed rules against torch's own, closed forms and fresh runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from metagym.errors import InvalidArgumentError
from metagym.optim import RuleOptimizer, UpdateRule
from metagym.optim.hand_designed import (
    LBFGS,
    NAG,
    SGD,
    Adam,
    BarzilaiBorwein,
    Momentum,
    RMSprop,
)

TORCH_TWINS: list[tuple[UpdateRule, Callable[..., torch.optim.Optimizer], dict[str, Any]]] = [
    (SGD(lr=0.05), torch.optim.SGD, {"lr": 0.05}),
    (Momentum(lr=0.05, momentum=0.7), torch.optim.SGD, {"lr": 0.05, "momentum": 0.7}),
    (
        NAG(lr=0.05, momentum=0.7),
        torch.optim.SGD,
        {"lr": 0.05, "momentum": 0.7, "nesterov": True},
    ),
    (
        RMSprop(lr=0.05, decay=0.9, eps=1e-3),
        torch.optim.RMSprop,
        {"lr": 0.05, "alpha": 0.9, "eps": 1e-3},
    ),
    (
        Adam(lr=0.05, beta1=0.8, beta2=0.95, eps=1e-3),
        torch.optim.Adam,
        {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3},
    ),
]

# Every rule, with settings that reach all of its branches.
MAKERS: dict[str, Callable[[], UpdateRule]] = {
    "sgd": lambda: SGD(0.1),
    "momentum": lambda: Momentum(0.05, 0.7),
    "nag": lambda: NAG(0.05, 0.7),
    "rmsprop": lambda: RMSprop(0.05, 0.9),
    "adam": lambda: Adam(0.05, 0.8, 0.95),
    "bb1": lambda: BarzilaiBorwein(0.05),
    "bb2, safeguarded": lambda: BarzilaiBorwein(0.05, variant=2, growth=1.5),
    "lbfgs": lambda: LBFGS(0.7, memory=3),
}


@pytest.mark.parametrize(("rule", "optimizer", "arguments"), TORCH_TWINS, ids=lambda v: str(v)[:40])
def test_iterates_are_those_of_torch(
    quadratics: Any, rule: UpdateRule, optimizer: Any, arguments: dict[str, Any]
) -> None:
    problems = quadratics()
    ours = problems.run(rule, 20)
    for row in range(len(problems.start)):
        a, minimum = torch.tensor(problems.a[row]), torch.tensor(problems.minimum[row])
        x = torch.tensor(problems.start[row], requires_grad=True)
        theirs = optimizer([x], **arguments)
        for t in range(20):
            theirs.zero_grad()
            (0.5 * (x - minimum) @ a @ (x - minimum)).backward()
            theirs.step()
            np.testing.assert_allclose(ours[t + 1, row], x.detach().numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variant", [1, 2])
def test_barzilai_borwein_takes_the_secant_step(quadratics: Any, variant: int) -> None:
    problems = quadratics()
    x = problems.run(BarzilaiBorwein(lr=0.05, variant=variant), 12)
    gradients = np.array([problems(iterate)[1] for iterate in x])
    np.testing.assert_allclose(x[1] - x[0], -0.05 * gradients[0])
    for t in range(1, 12):
        s, y = x[t] - x[t - 1], gradients[t] - gradients[t - 1]
        long, short = np.vecdot(s, s) / np.vecdot(s, y), np.vecdot(s, y) / np.vecdot(y, y)
        expected = (long if variant == 1 else short)[:, None] * -gradients[t]
        np.testing.assert_allclose(x[t + 1] - x[t], expected, rtol=1e-6, atol=1e-12)


def test_barzilai_borwein_falls_back_where_the_curvature_is_not_positive() -> None:
    rule = BarzilaiBorwein(lr=0.05)
    loss, step = np.ones(1), np.array([[1.0, 0.0]])
    rule.update(loss, np.array([[1.0, 0.0]]), np.zeros((1, 2)))
    concave = rule.update(loss, np.array([[0.5, 0.0]]), step)  # the gradient fell along the step
    np.testing.assert_allclose(concave, [[-0.025, 0.0]])
    flat = rule.update(loss, np.array([[0.5, 0.0]]), step)  # no change at all: 0 / 0
    np.testing.assert_allclose(flat, [[-0.025, 0.0]])


def test_growth_bounds_the_step_size(quadratics: Any) -> None:
    problems = quadratics()
    x = problems.run(BarzilaiBorwein(lr=1e-3, growth=2.0), 8)
    gradients = np.array([problems(iterate)[1] for iterate in x])
    sizes = -np.vecdot(np.diff(x, axis=0), gradients[:-1]) / np.vecdot(gradients, gradients)[:-1]
    np.testing.assert_allclose(sizes[:4], np.array([1, 2, 4, 8])[:, None] * np.full((1, 3), 1e-3))
    assert (sizes[1:] <= 2.0 * sizes[:-1] * (1 + 1e-9)).all()


def test_lbfgs_solves_quadratics(quadratics: Any) -> None:
    problems = quadratics(rows=4, dim=5)
    x = problems.run(LBFGS(lr=1.0, first_lr=0.1, memory=5), 40)
    assert np.abs(x[-1] - problems.minimum).max() < 1e-8
    # And quickly: steepest descent with the best fixed step is far from there.
    largest = np.linalg.eigvalsh(problems.a)[:, -1].max()
    assert np.abs(problems.run(SGD(1 / largest), 40)[-1] - problems.minimum).max() > 1e-4


def test_lbfgs_steps_are_bounded() -> None:
    rule = LBFGS(first_lr=1.0, max_step=2.0)
    gradient = np.array([[300.0, 400.0], [0.3, 0.4]])
    steps = rule.update(np.ones(2), gradient, np.zeros((2, 2)))
    np.testing.assert_allclose(steps, [[-1.2, -1.6], [-0.3, -0.4]])


@pytest.mark.parametrize("name", MAKERS)
def test_reset_forgets_the_masked_rows_and_no_other(quadratics: Any, name: str) -> None:
    problems = quadratics(rows=4)
    whole, fresh = problems.run(MAKERS[name](), 12), problems.run(MAKERS[name](), 6)
    rule, mask = MAKERS[name](), np.array([False, True, True, False])
    x, last = problems.start, np.zeros_like(problems.start)
    for t in range(12):
        if t == 6:
            rule.reset(mask)
            x = np.where(mask[:, None], problems.start, x)
            last = np.where(mask[:, None], 0.0, last)
        loss, gradient = problems(x)
        last = rule.update(loss, gradient, last)
        x = x + last
    np.testing.assert_allclose(x[mask], fresh[-1][mask], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(x[~mask], whole[-1][~mask], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", MAKERS)
def test_another_number_of_rows_starts_afresh(quadratics: Any, name: str) -> None:
    rule, small = MAKERS[name](), quadratics(rows=2)
    quadratics(rows=5).run(rule, 4)
    rule.reset(np.ones(2, dtype=bool))
    np.testing.assert_array_equal(small.run(rule, 6), small.run(MAKERS[name](), 6))


@pytest.mark.parametrize("name", MAKERS)
def test_numpy_and_torch_take_the_same_steps(quadratics: Any, name: str) -> None:
    problems = quadratics(rows=1)
    expected = problems.run(MAKERS[name](), 12)[:, 0]
    a, minimum = torch.tensor(problems.a[0]), torch.tensor(problems.minimum[0])
    start = torch.tensor(problems.start[0])
    parts = [start[:2].clone().requires_grad_(), start[2:].reshape(1, 3).clone().requires_grad_()]
    optimizer = RuleOptimizer(parts, MAKERS[name])

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        x = torch.cat([part.reshape(-1) for part in parts])
        loss: torch.Tensor = 0.5 * (x - minimum) @ a @ (x - minimum)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for t in range(12):
        optimizer.step(closure)
        x = torch.cat([part.detach().reshape(-1) for part in parts])
        np.testing.assert_allclose(x.numpy(), expected[t + 1], rtol=1e-8, atol=1e-10)


def test_rules_do_not_write_into_what_they_are_given(quadratics: Any) -> None:
    problems = quadratics()
    for make in MAKERS.values():
        rule = make()
        loss, gradient = problems(problems.start)
        last = np.full_like(gradient, 0.1)
        given = [array.copy() for array in (loss, gradient, last)]
        for _ in range(3):
            rule.update(loss, gradient, last)[:] = 7.0  # nor is what they return their state
        for array, before in zip((loss, gradient, last), given, strict=True):
            np.testing.assert_array_equal(array, before)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="variant=3"):
        BarzilaiBorwein(variant=3)
