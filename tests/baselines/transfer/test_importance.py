"""Importance weighting: what it equals, that it helps where it should, and where it fits in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from metagym.baselines.transfer.density_ratio import ClassifierRatio, DensityRatio, KnownRatio
from metagym.baselines.transfer.importance import (
    ImportanceWeighted,
    effective_sample_size,
    importance_weighted_score,
)
from metagym.baselines.transfer.mean_matching import KernelMeanMatching
from metagym.errors import DataError, InvalidArgumentError


def _shifted(n=400, seed=0):
    """y = x² + noise; source N(0, 1), target N(1, 0.5²), with the ratio of the two."""
    rng = np.random.default_rng(seed)
    X, Xt = rng.normal(size=(n, 1)), 1.0 + 0.5 * rng.normal(size=(n, 1))
    y, yt = (x[:, 0] ** 2 + 0.1 * rng.normal(size=n) for x in (X, Xt))

    def ratio(x):
        return 2.0 * np.exp(0.5 * x[:, 0] ** 2 - 2.0 * (x[:, 0] - 1.0) ** 2)

    return X, y, Xt, yt, ratio


def test_it_is_the_estimator_with_sample_weights():
    X, y, Xt, _, ratio = _shifted()
    weights = ratio(X) / ratio(X).mean()
    model = ImportanceWeighted(LinearRegression(), KnownRatio(ratio)).fit(X, y, Xt)
    plain = LinearRegression().fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(model.predict(Xt), plain.predict(Xt))
    np.testing.assert_allclose(model.weights_, weights)
    assert model.effective_sample_size_ == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert model.score(Xt, plain.predict(Xt)) == pytest.approx(1.0)


def test_a_misspecified_model_is_better_on_the_target():
    X, y, Xt, yt, ratio = _shifted()
    plain = ImportanceWeighted(LinearRegression(), KnownRatio()).fit(X, y, Xt)
    np.testing.assert_allclose(plain.predict(Xt), LinearRegression().fit(X, y).predict(Xt))
    assert plain.effective_sample_size_ == pytest.approx(len(X))
    for estimate in (KnownRatio(ratio), KernelMeanMatching(), ClassifierRatio()):
        model = ImportanceWeighted(LinearRegression(), estimate).fit(X, y, Xt)
        assert model.score(Xt, yt) > 0.3 > 0.0 > plain.score(Xt, yt)


def test_labels_of_the_target_join_with_weight_1():
    X, y, Xt, yt, ratio = _shifted()
    model = ImportanceWeighted(LinearRegression(), KnownRatio(ratio)).fit(X, y, Xt, yt[:50])
    assert len(model.weights_) == len(X) + 50 and (model.weights_[-50:] == 1.0).all()
    both = LinearRegression().fit(
        np.concatenate([X, Xt[:50]]), np.concatenate([y, yt[:50]]), sample_weight=model.weights_
    )
    np.testing.assert_allclose(model.predict(Xt), both.predict(Xt))


def test_classifiers_stay_classifiers():
    X, y, Xt, _, _ = _shifted()
    names = np.where(y > 1.0, "high", "low")
    model = ImportanceWeighted()
    assert is_classifier(model) and not is_regressor(model)
    assert is_regressor(ImportanceWeighted(Ridge()))
    model.fit(X, names, Xt=Xt)
    assert list(model.classes_) == ["high", "low"]
    assert model.predict_proba(Xt).shape == (len(Xt), 2)
    assert model.decision_function(Xt).shape == (len(Xt),)
    assert set(model.predict(Xt)) <= {"high", "low"}
    assert 0.0 <= model.score(X, names) <= 1.0
    assert not hasattr(ImportanceWeighted(Ridge()), "predict_proba")
    assert not hasattr(ImportanceWeighted(LinearSVC()).fit(X, names, Xt), "predict_proba")


def test_pipelines_and_searches_pass_the_weights_on():
    X, y, Xt, _, ratio = _shifted()
    pipeline = make_pipeline(StandardScaler(), LinearRegression())
    inside = ImportanceWeighted(pipeline, KnownRatio(ratio)).fit(X, y, Xt)
    plain = ImportanceWeighted(LinearRegression(), KnownRatio(ratio)).fit(X, y, Xt)
    np.testing.assert_allclose(inside.predict(Xt), plain.predict(Xt))
    search = GridSearchCV(pipeline, {"linearregression__fit_intercept": [True]}, cv=2)
    searched = ImportanceWeighted(search, KnownRatio(ratio)).fit(X, y, Xt)
    np.testing.assert_allclose(searched.predict(Xt), plain.predict(Xt))


def test_a_grid_search_that_weighs_its_score_chooses_for_the_target():
    X, y, Xt, _, ratio = _shifted(300)
    ramps = np.column_stack([np.minimum(X[:, 0], 0.0), np.maximum(X[:, 0], 0.0)])
    target = np.column_stack([np.minimum(Xt[:, 0], 0.0), np.maximum(Xt[:, 0], 0.0)])[:299]
    grid = {"ratio": [KnownRatio(), KnownRatio(lambda x: ratio(x.sum(axis=1, keepdims=True)))]}
    model = ImportanceWeighted(LinearRegression())
    known = ImportanceWeighted(LinearRegression(), grid["ratio"][1])
    chosen = {}
    for name, scoring in (("source", None), ("target", _score_with(known.fit(ramps, y, target)))):
        search = GridSearchCV(model, grid, scoring=scoring, cv=3).fit(ramps, y, Xt=target)
        chosen[name] = search.best_params_["ratio"].function is not None
    assert chosen == {"source": False, "target": True}


def _score_with(judge):
    """Scores of any model under the weights of one judge, so that candidates are comparable."""

    def score(model, X, y):
        return model.score(X, y, sample_weight=judge.ratio_.weights(X))

    return score


def test_the_weighted_score_is_the_score_under_the_models_own_ratio():
    X, y, Xt, yt, ratio = _shifted(4000)
    model = ImportanceWeighted(LinearRegression(), KnownRatio(ratio)).fit(X, y, Xt)
    found = importance_weighted_score(model, X, y)
    assert found == pytest.approx(model.score(X, y, sample_weight=ratio(X)))
    assert found == pytest.approx(model.score(Xt, yt), abs=0.05)
    assert abs(model.score(X, y) - found) > 0.5
    matched = ImportanceWeighted(Ridge(), KernelMeanMatching()).fit(X[:100], y[:100], Xt[:100])
    with pytest.raises(InvalidArgumentError, match="for no others"):
        importance_weighted_score(matched, X[100:200], y[100:200])


def test_clones_keep_the_arguments_and_nothing_else():
    X, y, Xt, _, _ = _shifted(50)
    model = ImportanceWeighted(Ridge(alpha=2.0), ClassifierRatio()).fit(X, y, Xt)
    copy = clone(model.set_params(estimator__alpha=3.0))
    assert copy.estimator.alpha == 3.0 and model.estimator_.alpha == 2.0
    assert not hasattr(copy, "estimator_") and not hasattr(copy.ratio, "classifier_")
    with pytest.raises(ValueError, match="not fitted"):
        copy.predict(X)


class _Negative(DensityRatio):
    def _fit(self, source, target):
        pass

    def _ratio(self, X):
        return X[:, 0]


class _NoChecks:
    """A ratio of somebody else's, without the checks of the base."""

    def get_params(self, deep=False):
        return {}

    def fit(self, X, Xt):
        return self

    def weights(self, X):
        return np.asarray(X)[:, 0]


def test_bad_input_is_named():
    X, y, Xt, _, _ = _shifted(50)
    names = np.where(y > 1.0, "high", "low")
    with pytest.raises(InvalidArgumentError, match="KNeighborsClassifier takes no sample_weight"):
        ImportanceWeighted(KNeighborsClassifier()).fit(X, names, Xt)
    with pytest.raises(InvalidArgumentError, match="KNeighborsClassifier takes no"):
        ImportanceWeighted(make_pipeline(KNeighborsClassifier())).fit(X, names, Xt)
    for ratio in (_Negative(), _NoChecks()):
        with pytest.raises(InvalidArgumentError, match="a weight cannot be negative"):
            ImportanceWeighted(Ridge(), ratio).fit(X, y, Xt)
    model = ImportanceWeighted(Ridge())
    with pytest.raises(InvalidArgumentError, match="examples of the target"):
        model.fit(X, y)
    with pytest.raises(InvalidArgumentError, match="1 features and the target 2"):
        model.fit(X, y, np.ones((5, 2)))
    with pytest.raises(DataError, match=r"y\[0\] is nan"):
        model.fit(X, y * np.nan, Xt)
    with pytest.raises(InvalidArgumentError, match="60 labels for 50 examples"):
        model.fit(X, y, Xt, np.ones(60))
    with pytest.raises(InvalidArgumentError, match="All 50 labels in y are"):
        ImportanceWeighted(LogisticRegression()).fit(X, ["a"] * 50, Xt)


@given(st.lists(st.floats(0.0, 1e300), min_size=1, max_size=20).filter(any))
def test_effective_sizes_lie_between_1_and_n(weights):
    size = effective_sample_size(weights)
    assert 1.0 - 1e-9 <= size <= len(weights) + 1e-9
    assert effective_sample_size([1.0] * len(weights)) == pytest.approx(len(weights))
    with pytest.raises(InvalidArgumentError, match="cannot be negative"):
        effective_sample_size([1.0, -1.0])
