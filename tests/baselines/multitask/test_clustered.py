"""Clustered tasks: the penalty of k-means, its relaxation, recovery."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from metagym.baselines.multitask.clustered import (
    ClusteredClassifier,
    ClusteredRegressor,
    best_projection,
    clustered_coupling,
)
from metagym.baselines.multitask.stacked import stack_tasks
from metagym.errors import InvalidArgumentError

FEATURES = 6


def _projection(groups):
    """1 / size where two tasks share a group."""
    same = np.equal.outer(groups, groups).astype(float)
    return same / same.sum(axis=1, keepdims=True)


def _tasks(groups, seed=0, size=10, spread=0.1, classify=False):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(groups) + 1, FEATURES))
    tasks = []
    for group in groups:
        x = rng.normal(size=(size, FEATURES))
        w = centres[group] + spread * rng.normal(size=FEATURES)
        y = x @ w + 0.5 * rng.normal(size=size)
        tasks.append((x, (y > 0).astype(int) if classify else y))
    return tasks


@settings(max_examples=30, deadline=None)
@given(groups=st.lists(st.integers(0, 2), min_size=1, max_size=6), seed=st.integers(0, 10**6))
def test_for_groups_the_coupling_is_the_penalty_of_k_means(groups, seed):
    groups = np.array(groups)
    weights = np.random.default_rng(seed).normal(size=(len(groups), 3))
    strength, ridge = 2.0, 0.3
    wanted = ridge * (weights**2).sum()
    for group in set(groups.tolist()):
        mine = weights[groups == group]
        wanted += strength * ((mine - mine.mean(axis=0)) ** 2).sum()
    a = clustered_coupling(_projection(groups), strength, ridge)
    assert np.trace(weights.T @ a @ weights) == pytest.approx(wanted, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    tasks=st.integers(2, 6),
    features=st.integers(1, 6),
    clusters=st.integers(1, 6),
    eta=st.floats(0.01, 10.0),
    seed=st.integers(0, 10**6),
)
def test_the_projection_is_allowed_and_the_best(tasks, features, clusters, eta, seed):
    clusters = min(clusters, tasks)
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(tasks, features))
    found = best_projection(weights, clusters, eta)
    values = np.linalg.eigvalsh(found)
    assert values.sum() == pytest.approx(clusters)
    assert values.min() > -1e-9
    assert values.max() < 1 + 1e-9

    def penalty(p):
        return np.trace(weights.T @ np.linalg.solve(eta * np.eye(tasks) + p, weights))

    for _ in range(10):
        vectors = np.linalg.qr(rng.normal(size=(tasks, tasks)))[0]
        eigen = np.clip(rng.permutation(np.arange(tasks) < clusters).astype(float), 0, 1)
        other = (vectors * eigen) @ vectors.T  # of trace k, between 0 and I
        assert penalty(0.7 * found + 0.3 * other) >= penalty(found) - 1e-7


def test_the_projection_of_no_weights():
    np.testing.assert_allclose(best_projection(np.zeros((4, 3)), 2, 0.1), np.eye(4) / 2)


@pytest.mark.parametrize("clusters", [1, 2, 3])
def test_the_relaxation_is_below_every_grouping_and_above_no_penalty(clusters):
    strength, ridge = 0.5, 0.1
    tasks = _tasks([0, 0, 1, 1])
    model = ClusteredRegressor(clusters, strength, ridge=ridge, fit_intercept=False, tol=1e-9).fit(
        *stack_tasks(tasks)
    )

    def minimum(a):
        """Of squared errors with the coupling a, by its linear system."""
        matrix = np.kron(a, np.eye(FEATURES)) + scipy.linalg.block_diag(
            *(x.T @ x / len(y) for x, y in tasks)
        )
        right = np.concatenate([x.T @ y / len(y) for x, y in tasks])
        weights = np.linalg.solve(matrix, right).reshape(4, FEATURES)
        errors = sum(((x @ w - y) ** 2).mean() for (x, y), w in zip(tasks, weights, strict=True))
        return errors + np.trace(weights.T @ a @ weights)

    groupings = [g for g in itertools.product(range(clusters), repeat=4) if len(set(g)) == clusters]
    hard = min(minimum(clustered_coupling(_projection(g), strength, ridge)) for g in groupings)
    assert minimum(ridge * np.eye(4)) < model.objective_ < hard
    # At the projection it found, the weights it found are the best.
    a = clustered_coupling(model.task_projection_, strength, ridge)
    assert model.objective_ == pytest.approx(minimum(a), abs=1e-7)
    np.testing.assert_allclose(
        model.task_projection_, best_projection(model.coef_, clusters, ridge / strength)
    )


def test_as_many_clusters_as_tasks_leave_ridge_alone():
    tasks = _tasks([0, 1, 2])
    found = ClusteredRegressor(3, 5.0, ridge=0.2, fit_intercept=False).fit(*stack_tasks(tasks))
    for (x, y), w in zip(tasks, found.coef_, strict=True):
        alone = np.linalg.solve(x.T @ x / len(y) + 0.2 * np.eye(FEATURES), x.T @ y / len(y))
        np.testing.assert_allclose(w, alone, atol=1e-4)


@pytest.mark.parametrize("model", [ClusteredRegressor, ClusteredClassifier])
def test_groups_are_found_and_the_objective_never_rises(model):
    groups = np.array([0, 1, 0, 1, 1, 0])
    tasks = _tasks(groups, size=25, classify=model is ClusteredClassifier)
    found = model(2, 1.0, ridge=0.05).fit(*stack_tasks(tasks))
    same = np.equal.outer(found.cluster_labels_, found.cluster_labels_)
    np.testing.assert_array_equal(same, np.equal.outer(groups, groups))
    assert (np.diff(found.objectives_) <= 1e-12).all()


def test_clone_and_errors():
    given = stack_tasks(_tasks([0, 1]))
    model = ClusteredRegressor(2, 0.3)
    assert clone(model).get_params() == model.get_params()
    for arguments, message in (
        ({"clusters": 3}, "clusters=3 is more than there are tasks, 2"),
        ({"clusters": 0}, "clusters"),
        ({"ridge": 0.0}, "ridge"),
        ({"strength": 0.0}, "strength"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            ClusteredRegressor(**arguments).fit(*given)
