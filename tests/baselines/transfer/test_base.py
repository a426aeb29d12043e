"""What every method of transfer refuses, and in which words: data, labels, a target."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from metagym.baselines.transfer import (
    CORAL,
    KLIEP,
    LSIF,
    TCA,
    ULSIF,
    ClassifierRatio,
    DomainAdapted,
    HierarchicalLogistic,
    ImportanceWeighted,
    JointClassifier,
    JointRegressor,
    KernelMeanMatching,
    TwoDensities,
    make_deep_method,
)
from metagym.baselines.transfer.base import check_labels
from metagym.errors import DataError, InvalidArgumentError

# Trees of this kind take NaN for a value, so that only a check can keep it out.
CLASSIFIERS = {
    "importance weights": ImportanceWeighted(HistGradientBoostingClassifier(max_iter=2)),
    "joint": JointClassifier(),
    "hierarchical": HierarchicalLogistic(),
    "features, trees": DomainAdapted(CORAL(), HistGradientBoostingClassifier(max_iter=2)),
    "features, 1-NN": DomainAdapted(TCA(2), KNeighborsClassifier(1)),
    "network": make_deep_method("dann", hidden=(4,), iterations=2, batch=4, device="cpu"),
}
REGRESSORS = {
    "importance weights": ImportanceWeighted(Ridge()),
    "joint": JointRegressor(),
    "features": DomainAdapted(CORAL(), Ridge()),
}
RATIOS = (KLIEP, LSIF, ULSIF, KernelMeanMatching, TwoDensities, ClassifierRatio)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    y = (X[:, 0] > 0).astype(int)
    Xt = X + 0.3
    return X, y, Xt, y[:10]


@pytest.mark.parametrize("model", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_classifiers(model, data):
    X, y, Xt, yt = data
    with pytest.raises(InvalidArgumentError, match="Xt is missing"):
        model.fit(X, y)
    with pytest.raises(InvalidArgumentError, match="Xt is missing"):
        model.fit(X, None)
    unknown = np.array(["a", "b"], dtype=object)[y]
    unknown[3] = None
    with pytest.raises(InvalidArgumentError, match="y holds NoneType and str"):
        model.fit(X, unknown, Xt=Xt, yt=unknown[:3])
    with pytest.raises(InvalidArgumentError, match=r"y\[0\] is 0.1257.* a measurement"):
        model.fit(X, X[:, 0], Xt=Xt, yt=X[:10, 0])
    for names in (np.array(["a", "b"]), np.array(["a", "b"], dtype=object), np.array([1.0, 7.0]),
                  np.array([False, True])):  # fmt: skip
        model.fit(X, names[y], Xt=Xt, yt=names[yt])
        assert set(model.predict(X)) <= set(names) and list(model.classes_) == list(names)
    _check_predictions(model, X, y)


@pytest.mark.parametrize("model", REGRESSORS.values(), ids=REGRESSORS)
def test_regressors(model, data):
    X, _, Xt, _ = data
    y = X @ [1.0, 2.0, 3.0]
    with pytest.raises(InvalidArgumentError, match="Xt is missing"):
        model.fit(X, y)
    with pytest.raises(InvalidArgumentError, match="y has to be an array of numbers"):
        model.fit(X, np.array(["a"] * 40), Xt=Xt, yt=y[:10])
    _check_predictions(model.fit(X, y, Xt=Xt, yt=y[:10]), X, y)


def _check_predictions(model, X, y):
    assert model.n_features_in_ == 3
    hole = X.copy()
    hole[2, 1] = np.nan
    calls = [getattr(model, name) for name in ("predict", "predict_proba", "decision_function")
             if hasattr(model, name)]  # fmt: skip
    for call in (*calls, lambda table: model.score(table, y)):
        with pytest.raises(DataError, match=r"X\[2, 1\] is nan"):
            call(hole)
        with pytest.raises(InvalidArgumentError, match=r"X has 2 features; .* fitted on 3"):
            call(X[:, :2])


@pytest.mark.parametrize("ratio", RATIOS)
def test_ratios_need_a_target(ratio, data):
    with pytest.raises(InvalidArgumentError, match="Xt is missing"):
        ratio().fit(data[0])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([None, None]), "y holds NoneType;"),
        (np.array([1, "a"], dtype=object), "y holds int and str"),
        (np.array([1.0, float("nan")], dtype=object), "y holds float"),
        ([0.0, 0.5], r"y\[1\] is 0.5"),
    ],
)
def test_what_is_no_class(values, said):
    with pytest.raises(InvalidArgumentError, match=said):
        check_labels("y", values, 2, classify=True)


@pytest.mark.parametrize(
    "values",
    [["a", "b"], [True, False], [3, 7], [-1.0, 2.0], np.array([3, np.int64(7)], dtype=object)],
)
def test_what_is_a_class(values):
    found = check_labels("y", values, 2, classify=True)
    assert found.tolist() == list(values)
