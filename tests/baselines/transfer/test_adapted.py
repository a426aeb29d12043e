"""Maps of features: chains, and estimators behind them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import Normalizer, StandardScaler

from metagym.baselines.transfer.adapted import DomainAdapted
from metagym.baselines.transfer.alignment import CORAL, DomainStandardizer
from metagym.baselines.transfer.discrepancy import squared_mmd
from metagym.baselines.transfer.features import Chain, Pooled
from metagym.baselines.transfer.subspace import TCA
from metagym.errors import DataError, InvalidArgumentError


def domains(n=60, m=50, shift=(9.0, 9.0, 0.0)):
    """Two classes, and a target that is moved and stretched."""
    rng = np.random.default_rng(0)
    y, yt = rng.integers(0, 2, n), rng.integers(0, 2, m)
    X = rng.normal(size=(n, 3)) + 4.0 * y[:, None] * [1.0, 1.0, 0.0]
    Xt = (rng.normal(size=(m, 3)) + 4.0 * yt[:, None] * [1.0, 1.0, 0.0]) * 3.0 + shift
    return X, y, Xt, yt


def test_pooled_is_fitted_on_both_domains():
    X, _, Xt, _ = domains()
    pooled = Pooled(PCA(2)).fit(X, Xt=Xt)
    wanted = PCA(2).fit(np.vstack([X, Xt]))
    np.testing.assert_allclose(pooled.transform(Xt), wanted.transform(Xt))
    np.testing.assert_allclose(pooled.transform_source(X), wanted.transform(X))


def test_a_chain_maps_the_source_as_source_all_the_way():
    X, _, Xt, _ = domains()
    chain = Chain([DomainStandardizer(), Normalizer(), PCA(2)]).fit(X, Xt=Xt)
    by_hand = [Normalizer().transform(StandardScaler().fit_transform(x)) for x in (X, Xt)]
    pca = PCA(2).fit(np.vstack(by_hand))
    np.testing.assert_allclose(chain.transform_source(X), pca.transform(by_hand[0]), atol=1e-12)
    np.testing.assert_allclose(chain.transform(Xt), pca.transform(by_hand[1]), atol=1e-12)
    np.testing.assert_array_equal(clone(chain).fit_transform(X, Xt=Xt), chain.transform_source(X))


@pytest.mark.parametrize(
    "features", [DomainStandardizer(), CORAL(0.01), Chain([DomainStandardizer(), TCA(2)])]
)
def test_adaptation_pays_where_the_target_is_moved(features):
    X, y, Xt, yt = domains()
    unadapted = KNeighborsClassifier(1).fit(X, y).score(Xt, yt)
    model = DomainAdapted(features, KNeighborsClassifier(1)).fit(X, y, Xt=Xt)
    assert model.score(Xt, yt) > unadapted + 0.2
    assert model.score(Xt, yt) == np.mean(model.predict(Xt) == yt)
    mapped = model.features_.transform_source(X), model.features_.transform(Xt)
    assert squared_mmd(*mapped) < 0.1 * squared_mmd(X, Xt)


def test_labels_of_the_target_are_learned_from():
    X, y, Xt, yt = domains()
    yt = 1 - yt  # the target contradicts the source
    model = DomainAdapted(DomainStandardizer(), KNeighborsClassifier(1)).fit(X, y, Xt=Xt, yt=yt)
    source, target = model.features_.transform_source(X), model.features_.transform(Xt)
    both = KNeighborsClassifier(1).fit(np.vstack([source, target]), np.r_[y, yt])
    np.testing.assert_array_equal(model.predict(Xt), both.predict(target))
    np.testing.assert_array_equal(model.predict(Xt), yt)
    few = DomainAdapted(DomainStandardizer(), KNeighborsClassifier(1)).fit(X, y, Xt=Xt, yt=yt[:9])
    np.testing.assert_array_equal(few.predict(Xt[:9]), yt[:9])


def test_it_is_what_the_estimator_is():
    X, y, Xt, yt = domains()
    classifier = DomainAdapted(DomainStandardizer(), LogisticRegression())
    regressor = DomainAdapted(CORAL(), Ridge())
    assert is_classifier(classifier) and not is_regressor(classifier)
    assert is_regressor(regressor) and not is_classifier(regressor)
    assert hasattr(classifier, "predict_proba") and not hasattr(regressor, "predict_proba")
    classifier.fit(X, y, Xt=Xt)
    np.testing.assert_allclose(classifier.predict_proba(Xt).sum(axis=1), 1.0)
    np.testing.assert_array_equal(classifier.decision_function(Xt) > 0, classifier.predict(Xt) == 1)
    regressor.fit(X, y * 1.5, Xt=Xt)
    assert regressor.score(Xt, yt * 1.5) < 1.0


def test_clones_have_the_settings_and_nothing_that_was_learned():
    X, y, Xt, _ = domains()
    model = DomainAdapted(Chain([CORAL(0.3), TCA(2, mu=5.0)]), KNeighborsClassifier(1))
    copy = clone(model.fit(X, y, Xt=Xt))
    assert not hasattr(copy, "features_") and not hasattr(copy.features, "steps_")
    assert copy.features.steps[1].get_params() == TCA(2, mu=5.0).get_params()
    assert not hasattr(model.features, "steps_")  # fit works on clones
    np.testing.assert_array_equal(copy.fit(X, y, Xt=Xt).predict(Xt), model.predict(Xt))
    assert copy.set_params(estimator__n_neighbors=3).estimator.n_neighbors == 3


def test_bad_input():
    X, y, Xt, yt = domains()
    model = DomainAdapted(DomainStandardizer(), KNeighborsClassifier(1))
    with pytest.raises(InvalidArgumentError, match="target domain"):
        model.fit(X, y)
    with pytest.raises(InvalidArgumentError, match="3 features and the target 2"):
        model.fit(X, y, Xt=Xt[:, :2])
    with pytest.raises(InvalidArgumentError, match="two of them"):
        model.fit(X, np.zeros(len(X)), Xt=Xt)
    with pytest.raises(InvalidArgumentError, match="at least one"):
        model.fit(X, y, Xt=Xt[:0])
    with pytest.raises(DataError, match="nan"):
        model.fit(X, y, Xt=Xt * np.nan)
    with pytest.raises(InvalidArgumentError, match="Neither y nor yt"):
        model.fit(X, None, Xt=Xt)
    with pytest.raises(InvalidArgumentError, match="two of them"):
        model.fit(X, None, Xt=Xt, yt=[1, 1])
    with pytest.raises(InvalidArgumentError, match=r"Pooled\(\.\.\.\)"):
        DomainAdapted(PCA(2), KNeighborsClassifier(1)).fit(X, y, Xt=Xt)
    with pytest.raises(InvalidArgumentError, match="steps is empty"):
        Chain([]).fit(X, Xt=Xt)
    with pytest.raises(InvalidArgumentError, match="has 2 features"):
        model.fit(X, y, Xt=Xt).predict(Xt[:, :2])
    with pytest.raises(InvalidArgumentError, match="labels for"):
        model.fit(X, None, Xt=Xt[:3], yt=yt)


def test_importing_them_imports_no_torch():
    code = (
        "import sys; import metagym.baselines.transfer.adapted; "
        "import metagym.baselines.transfer.subspace; "
        "import metagym.baselines.transfer.self_taught; "
        "import metagym.baselines.transfer.alignment; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
