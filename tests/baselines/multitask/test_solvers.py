"""Losses against finite differences, solvers against scipy's general ones."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize

from metagym.baselines.multitask import solvers
from metagym.baselines.multitask.losses import TaskLosses
from metagym.baselines.multitask.regularizers import NORMS, coupling
from metagym.baselines.multitask.stacked import check_stacked, stack_tasks
from metagym.errors import DataError, InvalidArgumentError

SIZES, FEATURES = (9, 14, 11), 4


def _data(kind, seed=0, sizes=SIZES, features=FEATURES):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=features)
    tasks = []
    for n in sizes:
        x = rng.normal(size=(n, features)) + 0.5
        y = x @ (shared + 0.5 * rng.normal(size=features)) + rng.normal(size=n)
        tasks.append((x, y if kind == "squared" else np.where(np.arange(n) % 4, y > 0, y < 0)))
    table, y = stack_tasks(tasks)
    data = check_stacked(table, y, -1, classify=False)
    return data if kind == "squared" else data._replace(y=2.0 * data.y - 1.0)


def _plain(data, kind, weights, intercepts, reduction="mean", task_weights=(1, 1, 1)):
    """The sum of losses as it is written, task by task."""
    total = 0.0
    for m, factor in enumerate(task_weights):
        mine = data.task == m
        answer = data.X[mine] @ weights[m] + intercepts[m]
        y = data.y[mine]
        each = (answer - y) ** 2 if kind == "squared" else np.log1p(np.exp(-y * answer))
        total += factor * (each.mean() if reduction == "mean" else each.sum())
    return total


@pytest.mark.parametrize("kind", ["squared", "logistic"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_losses_are_what_they_say_and_gradients_are_theirs(kind, reduction, fit_intercept):
    data = _data(kind)
    losses = TaskLosses(
        data, kind, reduction=reduction, task_weights=(0.2, 1.0, 3.0), fit_intercept=fit_intercept
    )
    point = np.random.default_rng(1).normal(size=(3, losses.width))
    value, gradient = losses.value_and_gradient(point)
    plain = _plain(data, kind, *losses.finish(point), reduction, (0.2, 1.0, 3.0))
    assert value == pytest.approx(plain)
    numeric = scipy.optimize.approx_fprime(
        point.ravel(), lambda p: losses.value_and_gradient(p.reshape(point.shape))[0], 1e-7
    )
    np.testing.assert_allclose(gradient.ravel(), numeric, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["squared", "logistic"])
def test_curvature_is_a_bound_of_how_gradients_change(kind):
    losses = TaskLosses(_data(kind), kind)
    rng = np.random.default_rng(2)
    for _ in range(20):
        one, other = rng.normal(size=(2, 3, losses.width))
        change = losses.value_and_gradient(one)[1] - losses.value_and_gradient(other)[1]
        limit = losses.curvature * np.linalg.norm(one - other, axis=1)
        assert (np.linalg.norm(change, axis=1) <= limit + 1e-12).all()


def _generic(data, kind, penalty, start=None):
    """The minimum over weights and intercepts by BFGS on the objective as it is written."""
    d = data.X.shape[1]

    def objective(flat):
        table = flat.reshape(3, d + 1)
        return _plain(data, kind, table[:, :d], table[:, d]) + penalty(table[:, :d])

    start = np.zeros(3 * (d + 1)) if start is None else start
    found = scipy.optimize.minimize(objective, start, method="BFGS", tol=1e-9)
    return found.fun, found.x.reshape(3, d + 1)


@pytest.mark.parametrize("kind", ["squared", "logistic"])
@pytest.mark.parametrize("name", ["pairwise", "mean"])
@pytest.mark.parametrize("strength", [0.05, 2.0])
def test_quadratic_penalties_against_a_general_solver(kind, name, strength):
    data = _data(kind)
    a = strength * coupling(name, 3) + 0.1 * np.eye(3)
    losses = TaskLosses(data, kind)
    found = solvers.minimize_coupled(losses, a)
    value, table = _generic(data, kind, lambda w: np.trace(w.T @ a @ w))
    assert found.converged
    assert found.objective == pytest.approx(value, abs=1e-8)
    weights, intercepts = losses.finish(found.parameters)
    np.testing.assert_allclose(weights, table[:, :-1], atol=2e-4)
    np.testing.assert_allclose(intercepts, table[:, -1], atol=2e-4)


def test_both_solvers_of_squared_errors_agree(monkeypatch):
    losses = TaskLosses(_data("squared"), "squared")
    a = 100.0 * coupling("pairwise", 3) + 0.01 * np.eye(3)
    dense = solvers.minimize_coupled(losses, a)
    monkeypatch.setattr(solvers, "DENSE", 0)
    descent = solvers.minimize_coupled(losses, a, tol=1e-9)
    assert dense.iterations == 1 < descent.iterations < 60
    np.testing.assert_allclose(dense.parameters, descent.parameters, atol=1e-6)


@pytest.mark.parametrize("kind", ["squared", "logistic"])
@pytest.mark.parametrize("name", list(NORMS))
@pytest.mark.parametrize("strength", [0.03, 0.3])
def test_norms_against_a_general_solver(kind, name, strength):
    data = _data(kind)
    losses, norm = TaskLosses(data, kind), NORMS[name]
    found = solvers.minimize_norm(losses, norm, strength, 0.05 * np.eye(3), tol=1e-8)
    assert found.converged
    weights, intercepts = losses.finish(found.parameters)
    mine = _plain(data, kind, weights, intercepts)
    mine += 0.05 * (weights**2).sum() + strength * norm.value(weights)
    assert found.objective == pytest.approx(mine)

    def smooth(w):  # the norm with a rounded kink, above it by at most 4e-4
        ridge = 0.05 * (w**2).sum()
        if name == "l21":
            return ridge + strength * np.sqrt((w**2).sum(axis=0) + 1e-8).sum()
        return ridge + strength * np.sqrt(np.maximum(np.linalg.eigvalsh(w @ w.T), 0) + 1e-8).sum()

    value, _ = _generic(data, kind, smooth, np.column_stack([weights, intercepts]).ravel() + 0.05)
    assert value - 5e-4 <= mine <= value + 1e-7


@pytest.mark.parametrize("name", list(NORMS))
def test_a_strong_norm_leaves_nothing_and_a_little_less_something(name):
    losses = TaskLosses(_data("squared"), "squared")
    gradient = losses.value_and_gradient(np.zeros((3, FEATURES)))[1]
    dual = np.linalg.norm(gradient, axis=0).max() if name == "l21" else np.linalg.norm(gradient, 2)
    zero = np.zeros((3, 3))
    assert not solvers.minimize_norm(losses, NORMS[name], 1.001 * dual, zero).parameters.any()
    assert solvers.minimize_norm(losses, NORMS[name], 0.99 * dual, zero).parameters.any()


def test_a_solver_that_is_cut_short_says_so():
    losses = TaskLosses(_data("logistic"), "logistic")
    assert not solvers.minimize_norm(
        losses, NORMS["l21"], 0.01, np.zeros((3, 3)), max_iter=3
    ).converged
    assert not solvers.minimize_coupled(losses, 0.01 * np.eye(3), max_iter=2).converged


def test_bad_arguments():
    data = _data("squared")
    with pytest.raises(InvalidArgumentError, match="'mean', 'sum'"):
        TaskLosses(data, "squared", reduction="median")
    with pytest.raises(InvalidArgumentError, match="each of 3 tasks"):
        TaskLosses(data, "squared", task_weights=(1, 2))
    with pytest.raises(InvalidArgumentError, match="negative"):
        TaskLosses(data, "squared", task_weights=(1, 2, -1))
    with pytest.raises(DataError, match="task_weights"):
        TaskLosses(data, "squared", task_weights=(1, 2, np.nan))
    with pytest.raises(InvalidArgumentError, match="fit_intercept"):
        TaskLosses(data, "squared", fit_intercept="no")
