"""Learned covariance of tasks: closed forms, the paper's alternation, recovery."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from metagym.baselines.multitask.relationship import (
    RelationshipClassifier,
    RelationshipRegressor,
    best_covariance,
    correlation,
)
from metagym.baselines.multitask.stacked import stack_tasks
from metagym.errors import InvalidArgumentError

FEATURES = 8


def _tasks(signs=(1.0, 1.0, -1.0, -1.0), seed=0, size=12, kind="squared"):
    """Tasks that are a common vector or its opposite, nearly."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=FEATURES)
    tasks = []
    for sign in signs:
        x = rng.normal(size=(size, FEATURES))
        y = x @ (sign * shared + 0.2 * rng.normal(size=FEATURES)) + 0.5 * rng.normal(size=size)
        tasks.append((x, y if kind == "squared" else (y > 0).astype(int)))
    return tasks


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(2, 5), st.integers(1, 6)),
    seed=st.integers(0, 10**6),
    epsilon=st.floats(1e-3, 1.0),
)
def test_the_covariance_is_the_best_one(shape, seed, epsilon):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=shape)
    covariance = best_covariance(weights, epsilon)

    def penalty(omega):
        inverse = np.linalg.inv(omega)
        return np.trace(weights.T @ inverse @ weights) + epsilon * np.trace(inverse)

    least = penalty(covariance)
    assert np.trace(covariance) == pytest.approx(1.0)
    roots = np.sqrt(np.linalg.eigvalsh(weights @ weights.T + epsilon * np.eye(shape[0])))
    assert least == pytest.approx(roots.sum() ** 2)
    for _ in range(10):
        other = rng.normal(size=(shape[0], 2 * shape[0]))
        other = other @ other.T
        mixed = 0.9 * covariance + 0.1 * other / np.trace(other)
        assert penalty(mixed) >= least - 1e-9


def test_the_covariance_of_no_weights_prefers_nothing():
    np.testing.assert_allclose(best_covariance(np.zeros((4, 3))), np.eye(4) / 4)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    flat=st.sets(st.sampled_from(["features", "labels", "first task", "first column"])),
    scale=st.sampled_from([1e-100, 1e-3, 1.0, 1e3]),
    ridge=st.sampled_from([0.0, 0.1]),
    intercept=st.booleans(),
)
def test_tasks_that_say_nothing_leave_a_covariance(seed, flat, scale, ridge, intercept):
    """Constant features or labels, any units: no weights, then no preference, and no error."""
    rng = np.random.default_rng(seed)
    x, y = scale * rng.normal(size=(3, 6, 2)), rng.normal(size=(3, 6))
    if "features" in flat:
        x[:] = scale
    if "labels" in flat:
        y[:] = 0.0
    if "first task" in flat:
        x[0] = y[0] = scale
    if "first column" in flat:
        x[..., 0] = 0.0
    model = RelationshipRegressor(0.1, ridge=ridge, fit_intercept=intercept)
    model.fit(*stack_tasks(list(zip(x, y, strict=True))))
    assert np.isfinite(model.coef_).all() and np.isfinite(model.intercept_).all()
    assert np.trace(model.task_covariance_) == pytest.approx(1.0)
    assert np.linalg.eigvalsh(model.task_covariance_)[0] > -1e-9
    if not model.coef_.any():
        np.testing.assert_allclose(model.task_covariance_, np.eye(3) / 3, atol=1e-12)
    if "labels" in flat and not ("first task" in flat and not intercept):
        assert not model.coef_.any()


def test_correlation():
    found = correlation(np.array([[4.0, -3.0, 0.0], [-3.0, 9.0, 0.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(found, [[1, -0.5, 0], [-0.5, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_the_minimum_is_that_of_the_squared_trace_norm_and_of_turns(ridge):
    """Against a general solver of the problem without Ω, and against the paper's alternation."""
    strength, smoothing = 0.05, 1e-3
    tasks = _tasks()
    table, y = stack_tasks(tasks)
    model = RelationshipRegressor(
        strength, ridge=ridge, smoothing=smoothing, fit_intercept=False, tol=1e-10
    ).fit(table, y)

    # ε is relative to the weights at Ω = I / M, which are those of ridge regressions.
    size = len(tasks[0][1])
    grams = [x.T @ x / size for x, _ in tasks]
    moments = [x.T @ v / size for x, v in tasks]
    first = (ridge + 4 * strength) * np.eye(FEATURES)
    start = np.stack([np.linalg.solve(g + first, q) for g, q in zip(grams, moments, strict=True)])
    epsilon = smoothing * (start**2).sum() / 4

    def objective(weights):
        errors = sum(((x @ w - v) ** 2).mean() for (x, v), w in zip(tasks, weights, strict=True))
        values = np.linalg.eigvalsh(weights @ weights.T) + epsilon
        root = np.sqrt(np.maximum(values, 0)).sum()
        return errors + ridge * (weights**2).sum() + strength * root**2

    assert model.objective_ == pytest.approx(objective(model.coef_), rel=1e-9)
    general = scipy.optimize.minimize(
        lambda flat: objective(flat.reshape(4, FEATURES)), start.ravel(), method="BFGS"
    )
    assert model.objective_ == pytest.approx(general.fun, abs=1e-6)

    weights = start
    for _ in range(400):
        values, vectors = np.linalg.eigh(weights @ weights.T + epsilon * np.eye(4))
        inverse = (vectors / np.sqrt(values)) @ vectors.T * np.sqrt(values).sum()
        matrix = np.kron(ridge * np.eye(4) + strength * inverse, np.eye(FEATURES))
        matrix += scipy.linalg.block_diag(*grams)
        weights = np.linalg.solve(matrix, np.concatenate(moments)).reshape(4, FEATURES)
    np.testing.assert_allclose(model.coef_, weights, atol=1e-4)


@pytest.mark.parametrize("model", [RelationshipRegressor, RelationshipClassifier])
def test_the_objective_never_rises(model):
    kind = "squared" if model is RelationshipRegressor else "logistic"
    found = model(0.1).fit(*stack_tasks(_tasks(kind=kind)))
    assert len(found.objectives_) > 2
    assert (np.diff(found.objectives_) <= 1e-12).all()
    assert found.objectives_[-1] == found.objective_


@pytest.mark.parametrize("model", [RelationshipRegressor, RelationshipClassifier])
def test_signs_of_correlations_are_found(model):
    kind = "squared" if model is RelationshipRegressor else "logistic"
    signs = np.array([1.0, 1.0, -1.0, -1.0])
    found = model(0.02).fit(*stack_tasks(_tasks(signs, kind=kind, size=40)))
    np.testing.assert_array_equal(np.sign(found.task_correlation_), np.outer(signs, signs))
    assert np.abs(found.task_correlation_).min() > 0.4
    assert np.trace(found.task_covariance_) == pytest.approx(1.0)
    assert np.linalg.eigvalsh(found.task_covariance_)[0] > 0.0


def test_opposite_tasks_help_each_other():
    tasks = _tasks(size=6)
    rng = np.random.default_rng(0)
    shared = rng.normal(size=FEATURES)  # the first thing that _tasks draws
    errors = {}
    for strength in (1e-6, 0.1):
        found = RelationshipRegressor(strength, ridge=1e-4).fit(*stack_tasks(tasks))
        errors[strength] = np.linalg.norm(found.coef_ - np.outer([1, 1, -1, -1], shared))
    assert errors[0.1] < 0.8 * errors[1e-6]


def test_permuted_tasks_permute_what_is_learned():
    tasks, order = _tasks(), [2, 0, 3, 1]
    one = RelationshipRegressor(0.1, tol=1e-9).fit(*stack_tasks(tasks))
    other = RelationshipRegressor(0.1, tol=1e-9).fit(*stack_tasks([tasks[m] for m in order]))
    np.testing.assert_allclose(other.coef_, one.coef_[order], atol=1e-3)
    np.testing.assert_allclose(
        other.task_correlation_, one.task_correlation_[np.ix_(order, order)], atol=1e-2
    )


def test_clone_and_warning_and_errors():
    given = stack_tasks(_tasks())
    model = RelationshipRegressor(0.3, smoothing=1e-4)
    assert clone(model).get_params() == model.get_params()
    with pytest.warns(ConvergenceWarning):
        RelationshipRegressor(0.3, tol=1e-14, max_iter=1).fit(*given)
    with pytest.raises(InvalidArgumentError, match="smoothing"):
        RelationshipRegressor(smoothing=0.0).fit(*given)
    with pytest.raises(InvalidArgumentError, match="strength"):
        RelationshipRegressor(-1.0).fit(*given)
