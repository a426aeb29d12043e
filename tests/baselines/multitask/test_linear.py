"""Linear multi-task estimators: special cases, recovery, scikit-learn's tools, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression, MultiTaskLasso, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metagym.baselines.multitask.linear import MultiTaskClassifier, MultiTaskRegressor
from metagym.baselines.multitask.regularizers import REGULARIZERS
from metagym.baselines.multitask.stacked import stack_tasks
from metagym.errors import DataError, InvalidArgumentError
from metagym.tasks.related_tasks import related_tasks

SIZES = (30, 45, 25)


def _family(kind, seed=0, **arguments):
    arguments = {"tasks": 3, "train": SIZES, "features": 5, "test": 50, **arguments}
    return related_tasks(np.random.default_rng(seed), kind=kind, **arguments)


def _shifted(family):
    """The same with means and intercepts that differ between tasks."""
    return [
        (task.x + m, task.y + 10.0 * m if task.kind == "regression" else task.y)
        for m, task in enumerate(family.train)
    ]


@pytest.mark.parametrize("name", REGULARIZERS)
def test_without_a_penalty_tasks_are_fitted_alone(name):
    tasks = _shifted(_family("regression"))
    found = MultiTaskRegressor(name, 0.0, tol=1e-9).fit(*stack_tasks(tasks))
    for m, (x, y) in enumerate(tasks):
        twin = LinearRegression().fit(x, y)
        np.testing.assert_allclose(found.coef_[m], twin.coef_, atol=1e-5)
        assert found.intercept_[m] == pytest.approx(twin.intercept_, abs=1e-4)

    tasks = _shifted(_family("binary", noise=1.0))
    found = MultiTaskClassifier(name, 0.0, tol=1e-9, max_iter=10_000).fit(*stack_tasks(tasks))
    for m, (x, y) in enumerate(tasks):
        twin = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(x, y)
        np.testing.assert_allclose(found.coef_[m], twin.coef_[0], atol=1e-3)
        assert found.intercept_[m] == pytest.approx(twin.intercept_[0], abs=2e-3)


def test_ridge_alone_is_ridge_regression_of_every_task():
    tasks = _shifted(_family("regression"))
    means = MultiTaskRegressor("none", ridge=0.3).fit(*stack_tasks(tasks))
    sums = MultiTaskRegressor("none", ridge=0.3, reduction="sum").fit(*stack_tasks(tasks))
    for m, (x, y) in enumerate(tasks):
        np.testing.assert_allclose(means.coef_[m], Ridge(0.3 * len(y)).fit(x, y).coef_, atol=1e-5)
        np.testing.assert_allclose(sums.coef_[m], Ridge(0.3).fit(x, y).coef_, atol=1e-5)


@pytest.mark.parametrize("name", ["pairwise", "mean"])
def test_the_strongest_soft_sharing_is_one_model_with_an_intercept_for_each_task(name):
    tasks = _shifted(_family("regression"))
    found = MultiTaskRegressor(name, 1e7, reduction="sum").fit(*stack_tasks(tasks))
    x = np.concatenate([x - x.mean(axis=0) for x, _ in tasks])
    y = np.concatenate([y - y.mean() for _, y in tasks])
    pooled = LinearRegression(fit_intercept=False).fit(x, y)
    np.testing.assert_allclose(found.coef_, np.tile(pooled.coef_, (3, 1)), atol=1e-4)

    tasks = [(x, y) for x, y in _shifted(_family("binary", noise=1.0))]
    found = MultiTaskClassifier(name, 1e5, reduction="sum", tol=1e-7).fit(*stack_tasks(tasks))
    table, y = stack_tasks(tasks)
    dummies = np.hstack([table[:, :-1], table[:, -1:] == np.arange(3)])
    pooled = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=10_000)
    pooled.fit(dummies, y)
    np.testing.assert_allclose(found.coef_, np.tile(pooled.coef_[0, :5], (3, 1)), atol=2e-3)
    np.testing.assert_allclose(found.intercept_, pooled.coef_[0, 5:], atol=2e-3)


@pytest.mark.parametrize("name", ["pairwise", "mean"])
def test_identical_tasks_stay_identical_and_share_at_no_cost(name):
    x, y = _shifted(_family("regression"))[0]
    alone = MultiTaskRegressor("none", ridge=0.1).fit(*stack_tasks([(x, y)]))
    both = MultiTaskRegressor(name, 5.0, ridge=0.1).fit(*stack_tasks([(x, y), (x, y)]))
    np.testing.assert_allclose(both.coef_, np.tile(alone.coef_, (2, 1)), atol=1e-9)


def test_the_objective_of_two_tasks_in_the_lectures():
    tasks = _shifted(_family("regression"))[:2]
    alpha, own, between = 0.3, 0.1, 0.7
    found = MultiTaskRegressor("pairwise", between, ridge=own, task_weights=(alpha, 1 - alpha)).fit(
        *stack_tasks(tasks)
    )

    def objective(weights, intercepts):
        first, second = (
            ((x @ w + b - y) ** 2).mean()
            for (x, y), w, b in zip(tasks, weights, intercepts, strict=True)
        )
        distance = ((weights[0] - weights[1]) ** 2).sum()
        return alpha * first + (1 - alpha) * second + own * (weights**2).sum() + between * distance

    least = objective(found.coef_, found.intercept_)
    assert found.objective_ == pytest.approx(least)
    rng = np.random.default_rng(0)
    for _ in range(50):  # convex and smooth: a minimum is where no step leads down
        step = 1e-3 * rng.normal(size=(2, 6))
        assert objective(found.coef_ + step[:, :5], found.intercept_ + step[:, 5]) > least
    # The mean's distances are half of those, so that twice the strength says the same.
    halved = MultiTaskRegressor(
        "mean", 2 * between, ridge=own, task_weights=(alpha, 1 - alpha)
    ).fit(*stack_tasks(tasks))
    np.testing.assert_allclose(halved.coef_, found.coef_, atol=1e-10)


def test_means_keep_sizes_from_deciding():
    tasks = _shifted(_family("regression"))
    twice = [tasks[0], (np.tile(tasks[1][0], (4, 1)), np.tile(tasks[1][1], 4)), tasks[2]]
    for reduction, same in (("mean", True), ("sum", False)):
        one, other = (
            MultiTaskRegressor("mean", 1.0, reduction=reduction).fit(*stack_tasks(given)).coef_
            for given in (tasks, twice)
        )
        assert np.allclose(one, other, atol=1e-8) == same


def test_joint_feature_selection_is_the_lasso_of_scikit_learn_on_common_inputs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6))
    y = x[:, :2] @ rng.normal(size=(2, 3)) + 0.3 * rng.normal(size=(40, 3)) + 5.0
    strength = 0.4
    found = MultiTaskRegressor("l21", strength, tol=1e-9).fit(*stack_tasks([(x, v) for v in y.T]))
    twin = MultiTaskLasso(alpha=strength / 2, tol=1e-12, max_iter=100_000).fit(x, y)
    np.testing.assert_allclose(found.coef_, twin.coef_, atol=1e-6)
    np.testing.assert_allclose(found.intercept_, twin.intercept_, atol=1e-6)
    np.testing.assert_array_equal(found.coef_ == 0.0, twin.coef_ == 0.0)


def test_joint_feature_selection_finds_the_features_that_matter():
    rng = np.random.default_rng(1)
    truth = np.zeros((6, 20))
    truth[:, [3, 8, 15]] = rng.choice([-1.0, 1.0], size=(6, 3))
    tasks = [(x := rng.normal(size=(30, 20)), x @ w + 0.3 * rng.normal(size=30)) for w in truth]
    found = MultiTaskRegressor("l21", 0.5).fit(*stack_tasks(tasks))
    np.testing.assert_array_equal(np.flatnonzero(found.coef_.any(axis=0)), [3, 8, 15])


def test_the_trace_norm_finds_the_rank():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=(12, 2)) @ rng.normal(size=(2, 15))
    tasks = [(x := rng.normal(size=(25, 15)), x @ w + 0.5 * rng.normal(size=25)) for w in truth]
    found = MultiTaskRegressor("trace", 1.5, tol=1e-8).fit(*stack_tasks(tasks))
    values = np.linalg.svd(found.coef_, compute_uv=False)
    assert (values > 1e-6).sum() == 2
    alone = MultiTaskRegressor("none").fit(*stack_tasks(tasks)).coef_
    assert np.linalg.norm(found.coef_ - truth) < np.linalg.norm(alone - truth)


def test_sharing_helps_related_tasks_with_few_examples():
    family = _family("regression", similarity=0.9, train=8, test=2000, features=6)
    test = stack_tasks(family.test)
    shared, alone = (
        MultiTaskRegressor(name, 1.0, ridge=0.05).fit(*stack_tasks(family.train)).score(*test)
        for name in ("mean", "none")
    )
    assert shared > alone + 0.05


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(3)), seed=st.integers(0, 10**4))
@pytest.mark.parametrize("name", REGULARIZERS)
def test_the_order_of_tasks_decides_nothing(name, order, seed):
    tasks = _shifted(_family("regression", seed, train=(6, 9, 7)))
    one = MultiTaskRegressor(name, 0.2, ridge=0.1, tol=1e-8).fit(*stack_tasks(tasks))
    other = MultiTaskRegressor(name, 0.2, ridge=0.1, tol=1e-8)
    other.fit(*stack_tasks([tasks[m] for m in order]))
    np.testing.assert_allclose(other.coef_, one.coef_[list(order)], atol=1e-5)
    np.testing.assert_allclose(other.intercept_, one.intercept_[list(order)], atol=1e-4)


def test_answers_follow_the_task_of_each_row():
    tasks = _shifted(_family("binary"))
    table, y = stack_tasks(tasks)
    labels = np.array(["no", "yes"])[y]
    model = MultiTaskClassifier("mean", 0.1, ridge=0.01).fit(table, labels)
    assert model.classes_.tolist() == ["no", "yes"]
    rows = np.random.default_rng(0).permutation(len(table))
    task = table[rows, -1].astype(int)
    logits = (table[rows, :-1] * model.coef_[task]).sum(axis=1) + model.intercept_[task]
    np.testing.assert_allclose(model.decision_function(table[rows]), logits)
    odds = model.predict_proba(table[rows])
    np.testing.assert_allclose(np.log(odds[:, 1] / odds[:, 0]), logits, atol=1e-9)
    np.testing.assert_array_equal(model.predict(table[rows]), np.where(logits > 0, "yes", "no"))
    assert model.score(table, labels) == (model.predict(table) == labels).mean()


def test_in_a_pipeline_and_a_grid_search():
    table, y = stack_tasks(_shifted(_family("regression", train=20)))
    table[:, 0] *= 1000.0
    scaled = ColumnTransformer(
        [("scale", StandardScaler(), list(range(5)))], remainder="passthrough"
    )
    pipeline = make_pipeline(scaled, MultiTaskRegressor())
    search = GridSearchCV(
        pipeline,
        {
            "multitaskregressor__strength": [1e-3, 1e-1, 1e6],
            "multitaskregressor__regularizer": ["mean", "l21"],
        },
        cv=list(StratifiedKFold(3).split(table, table[:, -1])),
        error_score="raise",
    ).fit(table, y)
    assert search.best_params_["multitaskregressor__strength"] < 1e6
    assert search.best_estimator_[-1].coef_.shape == (3, 5)
    np.testing.assert_array_equal(search.best_estimator_[-1].task_names_, [0, 1, 2])
    assert search.score(table, y) > 0.5


@pytest.mark.parametrize("unit", [1.0, 1e4])
def test_the_score_is_the_mean_of_the_tasks_whatever_their_units_and_sizes(unit):
    rng = np.random.default_rng(0)
    tasks = []
    for size, scale in ((40, 1.0), (10, unit)):
        x = rng.normal(size=(size, 2))
        tasks.append((x, scale * (x[:, 0] + rng.normal(size=size) + 5.0)))
    table, y = stack_tasks(tasks)
    model = MultiTaskRegressor("none", ridge=0.01).fit(table, y)
    answers, first = model.predict(table), table[:, -1] == 0
    each = [r2_score(y[rows], answers[rows]) for rows in (first, ~first)]
    shuffled = rng.permutation(len(y))
    assert model.score(table[shuffled], y[shuffled]) == pytest.approx(np.mean(each))
    assert model.score(table[first], y[first]) == pytest.approx(each[0])
    with pytest.raises(InvalidArgumentError, match=r"one example of task 1\.0"):
        model.score(table[:41], y[:41])


def test_a_clone_is_as_new():
    model = MultiTaskRegressor("l21", 0.3, task_weights=(1, 2, 3)).fit(
        *stack_tasks(_shifted(_family("regression")))
    )
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(np.ones((1, 6)))


def test_too_few_iterations_warn():
    given = stack_tasks(_shifted(_family("binary")))
    with pytest.warns(ConvergenceWarning, match="max_iter=3"):
        MultiTaskClassifier("trace", 0.001, max_iter=3).fit(*given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"regularizer": "l1"}, "'l21'"),
        ({"strength": -1.0}, "strength=-1.0"),
        ({"strength": "much"}, "strength='much'"),
        ({"ridge": np.nan}, "ridge=nan"),
        ({"tol": 0.0}, "tol"),
        ({"max_iter": 0}, "max_iter"),
        ({"reduction": "max"}, "'mean', 'sum'"),
        ({"task_weights": (1.0,)}, "each of 3 tasks"),
        ({"fit_intercept": 1}, "fit_intercept"),
        ({"task_column": "task"}, "DataFrame"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        MultiTaskRegressor(**arguments).fit(*stack_tasks(_shifted(_family("regression"))))


def test_bad_input():
    table, y = stack_tasks(_shifted(_family("regression")))
    model = MultiTaskRegressor().fit(table, y)
    unknown = table.copy()
    unknown[0, -1] = 9
    with pytest.raises(InvalidArgumentError, match=r"Task 9\.0 was not among"):
        model.predict(unknown)
    with pytest.raises(InvalidArgumentError, match="X has 5 columns"):
        model.predict(table[:, 1:])
    with pytest.raises(DataError, match="nan"):
        model.predict(np.where(table == table[3, 1], np.nan, table))
    with pytest.raises(DataError, match="X"):
        model.fit(np.where(table == table[3, 1], np.inf, table), y)
    for bad in ([["a"] * 6], [["a", 0, 0, 0, 0, 0]]):
        with pytest.raises(InvalidArgumentError, match="array of numbers"):
            model.predict(bad)
    with pytest.raises(DataError, match=r"X\[0, 1\] is nan"):
        model.predict([[0, None, 0, 0, 0, 0]])
    with pytest.raises(DataError, match=r"y\[0\] is nan"):
        model.fit(table, [None] * len(y))
    with pytest.raises(InvalidArgumentError, match="array of numbers"):
        model.fit(table, ["a"] * len(y))
    with pytest.raises(InvalidArgumentError, match="NoneType and str"):
        MultiTaskClassifier().fit(table, [None, *["a"] * (len(y) - 1)])
    with pytest.raises(InvalidArgumentError, match="both classes"):
        MultiTaskClassifier().fit(table, np.where(table[:, -1] == 1, 1, table[:, 0] > 0))
