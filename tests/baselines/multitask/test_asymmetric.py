"""A new task joins old ones: the paper's objective, a general solver, limits, help."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metagym.baselines.multitask.asymmetric import NewTaskClassifier, NewTaskRegressor, Relation
from metagym.baselines.multitask.relationship import RelationshipRegressor, best_covariance
from metagym.baselines.multitask.stacked import stack_tasks
from metagym.errors import DataError, InvalidArgumentError

OLD, FEATURES = 3, 5
RNG = np.random.default_rng(0)
W = RNG.normal(size=(OLD, FEATURES))
OMEGA = best_covariance(W, 1e-3)
X = RNG.normal(size=(12, FEATURES)) + 1.0
Y = X @ (W[0] - 0.5 * W[1]) + 0.3 * RNG.normal(size=12) + 2.0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), s=st.floats(0.01, 0.99))
def test_the_penalty_is_that_of_the_enlarged_covariance(seed, s):
    rng = np.random.default_rng(seed)
    relation, weights = Relation(rng.normal(size=OLD), s), rng.normal(size=FEATURES)
    covariance = relation.covariance(OMEGA)
    assert np.trace(covariance) == pytest.approx(1.0)
    assert np.linalg.eigvalsh(covariance)[0] > 0.0
    share = 1.0 - covariance[-1, -1]
    np.testing.assert_allclose(covariance[:OLD, :OLD], share * OMEGA)
    stacked = np.vstack([W, weights])
    plain = np.trace(stacked.T @ np.linalg.solve(covariance, stacked))
    assert relation.penalty(weights, W, OMEGA) == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize(("strength", "ridge"), [(0.01, 0.0), (0.1, 0.1), (1.0, 0.0)])
def test_the_minimum_against_a_general_solver(strength, ridge):
    model = NewTaskRegressor(W, OMEGA, strength, ridge=ridge).fit(X, Y)
    assert model.objective_ == pytest.approx(
        ((model.predict(X) - Y) ** 2).mean() + ridge * (model.coef_**2).sum()
        + strength * np.trace(
            (stacked := np.vstack([W, model.coef_])).T
            @ np.linalg.solve(model.task_covariance_, stacked)
        ),
        rel=1e-5,
    )  # fmt: skip

    def objective(flat):  # over w, θ and the logit of s, the intercept by centring
        w, theta, s = flat[:FEATURES], flat[FEATURES:-1], 1 / (1 + np.exp(-flat[-1]))
        errors = ((X - X.mean(0)) @ w - (Y - Y.mean())) ** 2
        penalty = Relation(theta, s).penalty(w, W, OMEGA)
        return errors.mean() + ridge * w @ w + strength * penalty

    starts = [np.zeros(FEATURES + OLD + 1), np.r_[model.coef_ + 0.1, model.combination_ - 0.1, 0]]
    best = min(scipy.optimize.minimize(objective, start, method="BFGS").fun for start in starts)
    assert model.objective_ <= best + 1e-4 * abs(best)
    assert model.objective_ >= best - 5e-3 * abs(best)  # BFGS is slow towards s = 0


def test_a_weak_relation_leaves_ridge_regression_and_a_strong_one_nothing():
    alone = Ridge(0.2 * len(Y)).fit(X, Y)
    weak = NewTaskRegressor(W, OMEGA, 1e-9, ridge=0.2).fit(X, Y)
    np.testing.assert_allclose(weak.coef_, alone.coef_, atol=1e-3)
    assert weak.intercept_ == pytest.approx(alone.intercept_, abs=1e-3)
    strong = NewTaskRegressor(W, OMEGA, 1e4).fit(X, Y)
    assert np.linalg.norm(strong.coef_) < 0.1 * np.linalg.norm(alone.coef_)


def test_a_copy_and_an_opposite_of_an_old_task_are_recognised():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, FEATURES))
    for sign in (1.0, -1.0):
        y = x @ (sign * W[2]) + 0.1 * rng.normal(size=60)
        model = NewTaskRegressor(W, OMEGA, 0.01).fit(x, y)
        assert np.abs(model.task_correlation_[-1, :-1]).argmax() == 2
        assert sign * model.task_correlation_[-1, 2] > 0.8
        np.testing.assert_allclose(np.diag(model.task_correlation_), 1.0)


def test_old_tasks_help_a_new_one_with_few_examples():
    rng = np.random.default_rng(2)
    shared = rng.normal(size=(2, 12))
    mixes = rng.normal(size=(7, 2))
    old = [(x := rng.normal(size=(60, 12)), x @ (m @ shared)) for m in mixes[:6]]
    fitted = RelationshipRegressor(0.01).fit(*stack_tasks(old))
    x, test = rng.normal(size=(6, 12)), rng.normal(size=(500, 12))
    truth = mixes[6] @ shared
    joined = NewTaskRegressor(fitted.coef_, fitted.task_covariance_, 1e-3).fit(x, x @ truth)
    best_alone = max(
        Ridge(alpha).fit(x, x @ truth).score(test, test @ truth) for alpha in (1e-3, 0.1, 1, 10)
    )
    assert joined.score(test, test @ truth) > max(0.9, best_alone + 0.1)


def test_the_classifier_in_a_pipeline_and_a_grid_search():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, FEATURES))
    labels = np.where(x @ W[1] + 0.5 * rng.normal(size=60) > 0, "yes", "no")
    pipeline = make_pipeline(StandardScaler(), NewTaskClassifier(W))
    search = GridSearchCV(
        pipeline, {"newtaskclassifier__strength": [1e-3, 1e-1]}, cv=3, error_score="raise"
    ).fit(x, labels)
    model = search.best_estimator_[-1]
    assert model.classes_.tolist() == ["no", "yes"]
    assert search.score(x, labels) > 0.8
    scaled = search.best_estimator_[0].transform(x)
    odds = model.predict_proba(scaled)
    np.testing.assert_allclose(odds.sum(axis=1), 1.0)
    logits = model.decision_function(scaled)
    np.testing.assert_allclose(np.log(odds[:, 1] / odds[:, 0]), logits, atol=1e-9)
    copy = clone(model)
    np.testing.assert_array_equal(copy.old_coef, W)
    assert not hasattr(copy, "coef_")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"old_coef": W[:, :3]}, InvalidArgumentError, "5 features and old_coef is for 3"),
        ({"old_coef": W * np.nan}, DataError, "old_coef"),
        ({"old_covariance": np.eye(2)}, InvalidArgumentError, "each of 3 old tasks"),
        ({"old_covariance": np.triu(np.ones((3, 3)))}, InvalidArgumentError, "symmetric"),
        ({"old_covariance": np.ones((3, 3))}, InvalidArgumentError, "eigenvalue"),
        ({"strength": 0.0}, InvalidArgumentError, "strength"),
        ({"ridge": -1.0}, InvalidArgumentError, "ridge"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        NewTaskRegressor(**{"old_coef": W, **arguments}).fit(X, Y)


def test_bad_input():
    model = NewTaskRegressor(W).fit(X, Y)
    with pytest.raises(InvalidArgumentError, match="X has 4 features"):
        model.predict(X[:, 1:])
    with pytest.raises(DataError, match="nan"):
        model.fit(np.where(X[1, 1] == X, np.nan, X), Y)
    with pytest.raises(InvalidArgumentError, match="classes 1"):
        NewTaskClassifier(W).fit(X, np.ones(len(X), int))
