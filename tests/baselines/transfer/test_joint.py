"""Joint training: solutions against generic solvers, limits against models fitted alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge

from metagym.baselines.transfer.joint import JointClassifier, JointRegressor, _objective
from metagym.errors import DataError, InvalidArgumentError

D = 4


def data(kind: str, n: int = 60, m: int = 25, seed: int = 0) -> dict[str, np.ndarray]:
    """Two related domains; a few rows of Xt have no label."""
    rng = np.random.default_rng(seed)
    outputs = 3 if kind == "three classes" else 1
    weights = rng.standard_normal((D, outputs))
    x, xt = rng.standard_normal((n, D)), rng.standard_normal((m + 5, D)) + 0.5
    scores = x @ weights + rng.standard_normal((n, outputs))
    changed = weights + 0.4 * rng.standard_normal(weights.shape)
    scores_t = xt @ changed - 0.5 + rng.standard_normal((m + 5, outputs))

    def labels(values: np.ndarray) -> np.ndarray:
        if kind == "regression":
            return values[:, 0]
        if kind == "three classes":
            return np.array(["a", "b", "c"])[values.argmax(1)]
        return np.where(values[:, 0] > 0, "yes", "no")

    return {"X": x, "y": labels(scores), "Xt": xt, "yt": labels(scores_t)[:m]}


def value(kind: str, both: np.ndarray, given: dict[str, Any], alpha: float, l1: float,
          l2: float, distance: str) -> float:  # fmt: skip
    """The lectures' objective, written once more without care for speed."""
    total = 0.0
    for share, w, x, y in (
        (alpha, both[0], given["X"], given["y"]),
        (1 - alpha, both[1], given["Xt"][: len(given["yt"])], given["yt"]),
    ):
        scores = x @ w[:-1] + w[-1]
        if kind == "regression":
            losses = (y - scores[:, 0]) ** 2
        elif kind == "three classes":
            p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
            losses = -np.log(p[np.arange(len(y)), np.searchsorted(["a", "b", "c"], y)])
        else:
            losses = np.log1p(np.exp(-np.where(y == "yes", 1, -1) * scores[:, 0]))
        total += share * losses.mean() + l1 * (w[:-1] ** 2).sum()
    first, second = both[:, :-1]
    if distance == "mean":
        middle = (first + second) / 2
        return total + l2 * (((first - middle) ** 2).sum() + ((second - middle) ** 2).sum())
    return total + l2 * ((first - second) ** 2).sum()


def fitted(kind: str, given: dict[str, Any], **arguments: Any) -> Any:
    if kind == "regression":
        return JointRegressor(**arguments).fit(**given)
    return JointClassifier(tol=1e-8, **arguments).fit(**given)


def parameters(model: Any) -> np.ndarray:
    """[2, d + 1, outputs]."""
    return np.stack([
        np.vstack([np.atleast_2d(coef).T, np.atleast_1d(intercept)])
        for coef, intercept in ((model.source_coef_, model.source_intercept_),
                                (model.coef_, model.intercept_))
    ])  # fmt: skip


@pytest.mark.parametrize("kind", ["regression", "two classes", "three classes"])
@pytest.mark.parametrize("distance", ["pairwise", "mean"])
def test_solution_of_a_generic_solver(kind: str, distance: str) -> None:
    given = data(kind)
    settings = {"alpha": 0.3, "shrinkage": 0.02, "coupling": 0.1, "distance": distance}
    model = fitted(kind, given, **settings)
    both = parameters(model)

    def objective(flat: np.ndarray) -> float:
        return value(kind, flat.reshape(both.shape), given, 0.3, 0.02, 0.1, distance)

    found = minimize(objective, np.zeros(both.size), method="BFGS", options={"gtol": 1e-7})
    assert objective(both.ravel()) == pytest.approx(found.fun, abs=1e-9)
    np.testing.assert_allclose(model.coef_.ravel(), found.x.reshape(both.shape)[1, :-1].T.ravel(),
                               atol=1e-4)  # fmt: skip
    if kind != "regression":
        assert model.objective_ == pytest.approx(found.fun, abs=1e-9)


@pytest.mark.parametrize("kind", ["two classes", "three classes"])
def test_gradient(kind: str) -> None:
    given, rng = data(kind), np.random.default_rng(1)
    x = np.concatenate([given["X"], given["Xt"][:25]])
    codes = np.unique(np.concatenate([given["y"], given["yt"]]), return_inverse=True)[1]
    targets = np.eye(3)[codes] if kind == "three classes" else codes[:, None].astype(float)
    shape = (2, D + 1, targets.shape[1])
    rest = (x, targets, (60, 25), 0.3, 0.1, 0.7, True)
    for _ in range(3):
        flat = rng.standard_normal(np.prod(shape))
        error = check_grad(
            lambda v: _objective(v.reshape(shape), *rest)[0],
            lambda v: _objective(v.reshape(shape), *rest)[1], flat,
        )  # fmt: skip
        assert error < 1e-5


@pytest.mark.parametrize("kind", ["regression", "two classes", "three classes"])
def test_distance_to_the_mean_is_half_the_pairwise_one(kind: str) -> None:
    rng, given = np.random.default_rng(0), data(kind)
    both = rng.standard_normal((2, D + 1, 3 if kind == "three classes" else 1))
    pair, mean = (
        value(kind, both, given, 0.5, 0.0, 1.0, x) - value(kind, both, given, 0.5, 0.0, 0.0, x)
        for x in ("pairwise", "mean")
    )
    assert mean == pytest.approx(pair / 2, rel=1e-12)
    np.testing.assert_allclose(
        parameters(fitted(kind, given, coupling=0.2, distance="mean")),
        parameters(fitted(kind, given, coupling=0.1)), atol=1e-12,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["regression", "two classes", "three classes"])
def test_uncoupled_is_two_models_alone(kind: str) -> None:
    given, alpha, shrinkage = data(kind), 0.3, 0.01
    model = fitted(kind, given, alpha=alpha, shrinkage=shrinkage, coupling=0.0)
    for share, x, y, coef, intercept in (
        (alpha, given["X"], given["y"], model.source_coef_, model.source_intercept_),
        (1 - alpha, given["Xt"][:25], given["yt"], model.coef_, model.intercept_),
    ):
        alone: Any
        if kind == "regression":
            alone = Ridge(alpha=shrinkage * len(x) / share).fit(x, y)
        else:
            alone = LogisticRegression(C=share / (2 * shrinkage * len(x)), tol=1e-10).fit(x, y)
        np.testing.assert_allclose(coef, alone.coef_, atol=2e-5)
        # Of softmax, intercepts are known but for a number that all share.
        apart = np.atleast_1d(intercept) - np.atleast_1d(alone.intercept_)
        np.testing.assert_allclose(apart, apart.mean() if len(apart) > 1 else 0.0, atol=2e-5)


@pytest.mark.parametrize("kind", ["regression", "two classes", "three classes"])
def test_strong_coupling_is_the_pooled_model(kind: str) -> None:
    # Of weights: domains keep intercepts of their own unless there are none.
    given, alpha, shrinkage = data(kind), 0.3, 0.01
    model = fitted(kind, given, alpha=alpha, shrinkage=shrinkage, coupling=1e7,
                   fit_intercept=False)  # fmt: skip
    x = np.concatenate([given["X"], given["Xt"][:25]])
    y = np.concatenate([given["y"], given["yt"]])
    weights = np.repeat([alpha / 60, (1 - alpha) / 25], [60, 25])
    pooled: Any
    if kind == "regression":
        pooled = Ridge(alpha=2 * shrinkage, fit_intercept=False)
    else:
        pooled = LogisticRegression(C=1 / (4 * shrinkage), fit_intercept=False, tol=1e-10)
    pooled.fit(x, y, weights)
    np.testing.assert_allclose(model.coef_, pooled.coef_, atol=1e-4)
    np.testing.assert_allclose(model.source_coef_, model.coef_, atol=1e-5)
    np.testing.assert_array_equal(model.intercept_, 0.0)


@pytest.mark.parametrize("kind", ["regression", "two classes"])
def test_alpha_gives_a_domain_its_say(kind: str) -> None:
    given = data(kind)
    other = {**given, "y": data(kind, seed=3)["y"]}
    # α = 0: the source counts for nothing, its weights are those of the target, shrunk.
    np.testing.assert_allclose(fitted(kind, given, alpha=0.0).coef_,
                               fitted(kind, other, alpha=0.0).coef_, atol=1e-6)  # fmt: skip
    # α = 1: the target's labels count for nothing.
    flipped = {**given, "yt": given["yt"][::-1]}
    np.testing.assert_allclose(fitted(kind, given, alpha=1.0).coef_,
                               fitted(kind, flipped, alpha=1.0).coef_, atol=1e-6)  # fmt: skip
    distances = []
    alone = fitted(kind, given, alpha=0.0, coupling=0.0).coef_
    for alpha in (0.01, 0.3, 0.99):
        distances.append(np.linalg.norm(fitted(kind, given, alpha=alpha, coupling=1.0).coef_
                                        - alone))  # fmt: skip
    assert all(np.diff(distances) > 0)


def test_coupling_brings_weights_together() -> None:
    given = data("two classes")
    apart = []
    for coupling in (0.0, 0.01, 0.1, 1.0):
        model = fitted("two classes", given, coupling=coupling)
        apart.append(np.linalg.norm(model.coef_ - model.source_coef_))
    assert all(later < earlier for earlier, later in pairwise(apart))


def test_joint_training_beats_either_domain_alone() -> None:
    errors = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        weights = rng.standard_normal(20)
        changed = weights + 0.3 * rng.standard_normal(20)
        x, xt, test = (rng.standard_normal((k, 20)) for k in (400, 30, 1000))
        given = {"X": x, "y": x @ weights + rng.standard_normal(400), "Xt": xt,
                 "yt": xt @ changed + rng.standard_normal(30)}  # fmt: skip
        errors.append([
            ((JointRegressor(coupling=c).fit(**given).predict(test) - test @ changed) ** 2).mean()
            for c in (0.0, 0.3, 1e6)
        ])  # fmt: skip
    alone, joint, pooled = np.mean(errors, axis=0)
    assert joint < 0.9 * min(alone, pooled)


def test_faces_of_scikit_learn() -> None:
    given = data("three classes")
    model = JointClassifier(alpha=0.2).fit(**given)
    assert clone(model).get_params() == model.get_params() and model.get_params()["alpha"] == 0.2
    p = model.predict_proba(given["Xt"])
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    np.testing.assert_array_equal(model.predict(given["Xt"]), model.classes_[p.argmax(axis=1)])
    assert model.score(given["Xt"][:25], given["yt"]) > 0.6
    two = JointClassifier().fit(**data("two classes"))
    assert two.predict_proba(given["Xt"]).shape == (30, 2)
    np.testing.assert_array_equal(two.predict(given["Xt"]) == "yes",
                                  two.decision_function(given["Xt"]) > 0)  # fmt: skip
    regressor = JointRegressor().fit(**data("regression"))
    assert regressor.score(data("regression")["Xt"][:25], data("regression")["yt"]) > 0.3


def test_too_few_iterations_warn() -> None:
    with pytest.warns(UserWarning, match="max_iter=2"):
        JointClassifier(max_iter=2).fit(**data("two classes"))


@pytest.mark.parametrize(
    ("arguments", "change", "error", "message"),
    [
        ({"alpha": -0.1}, {}, InvalidArgumentError, "alpha"),
        ({"alpha": 1.1}, {}, InvalidArgumentError, "alpha"),
        ({"shrinkage": -1.0}, {}, InvalidArgumentError, "shrinkage"),
        ({"coupling": float("inf")}, {}, InvalidArgumentError, "coupling"),
        ({"coupling": None}, {}, InvalidArgumentError, "coupling"),
        ({"distance": "far"}, {}, InvalidArgumentError, "pairwise"),
        ({"max_iter": 0}, {}, InvalidArgumentError, "max_iter"),
        ({"tol": 0.0}, {}, InvalidArgumentError, "tol"),
        ({}, {"yt": None}, InvalidArgumentError, "labels of the target"),
        ({}, {"Xt": np.zeros((0, D))}, InvalidArgumentError, "at least one of each"),
        ({}, {"Xt": np.zeros((30, D + 1))}, InvalidArgumentError, "same features"),
        ({}, {"y": np.repeat("yes", 60)}, InvalidArgumentError, "needs two"),
        ({}, {"yt": np.repeat("yes", 25)}, InvalidArgumentError, "no example of class 'no'"),
        ({}, {"yt": np.repeat(["yes", "perhaps"], 10)}, InvalidArgumentError, "'perhaps'"),
        ({}, {"X": np.full((60, D), np.nan)}, DataError, r"X\[0, 0\]"),
    ],
)
def test_refusals(arguments: dict, change: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        JointClassifier(**arguments).fit(**{**data("two classes"), **change})


def test_one_class_in_the_target_without_intercept() -> None:
    given = {**data("two classes"), "yt": np.repeat("yes", 25)}
    assert np.isfinite(JointClassifier(fit_intercept=False).fit(**given).coef_).all()
