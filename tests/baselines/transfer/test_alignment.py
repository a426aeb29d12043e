"""CORAL and standardisation per domain: the moments that they have to match."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power
from sklearn.base import clone

from metagym.baselines.transfer.alignment import CORAL, DomainStandardizer
from metagym.errors import InvalidArgumentError


def domains(seed=0, d=4):
    rng = np.random.default_rng(seed)
    mixings = rng.normal(size=(2, d, d))
    return rng.normal(1.0, 1.0, (30, d)) @ mixings[0], rng.normal(size=(25, d)) @ mixings[1]


def covariance(X):
    return np.cov(X, rowvar=False)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_coral_gives_the_source_the_moments_of_the_target(seed):
    X, Xt = domains(seed)
    coral = CORAL(regularization=0.0).fit(X, Xt=Xt)
    mapped = coral.transform_source(X)
    scale = np.abs(covariance(Xt)).max()
    np.testing.assert_allclose(covariance(mapped), covariance(Xt), atol=1e-6 * scale)
    np.testing.assert_allclose(mapped.mean(axis=0), Xt.mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(coral.transform(Xt), Xt)
    # What agrees already stays as it is.
    again = CORAL(regularization=0.0).fit(mapped, Xt=Xt)
    np.testing.assert_allclose(again.matrix_, np.eye(4), atol=1e-4)


@pytest.mark.parametrize("ridge", [0.3, 1.0])
def test_coral_is_the_closed_form(ridge):
    X, Xt = domains()
    left = fractional_matrix_power(covariance(X) + ridge * np.eye(4), -0.5)
    right = fractional_matrix_power(covariance(Xt) + ridge * np.eye(4), 0.5)
    plain = CORAL(ridge, match_means=False).fit(X, Xt=Xt).transform_source(X)
    np.testing.assert_allclose(plain, X @ left @ right, atol=1e-10)
    # With means of zero, moving means changes nothing.
    X, Xt = X - X.mean(axis=0), Xt - Xt.mean(axis=0)
    moved = CORAL(ridge).fit(X, Xt=Xt).transform_source(X)
    np.testing.assert_allclose(moved, X @ left @ right, atol=1e-10)


def test_a_singular_covariance():
    X, Xt = domains()
    X = np.hstack([X, X[:, :1]])
    Xt = np.hstack([Xt, Xt[:, :1]])
    with pytest.raises(InvalidArgumentError, match=r"singular.*regularization above 0"):
        CORAL(0.0).fit(X, Xt=Xt)
    assert np.isfinite(CORAL(1.0).fit(X, Xt=Xt).transform_source(X)).all()
    with pytest.raises(InvalidArgumentError, match="Xt has one example"):
        CORAL().fit(X, Xt=Xt[:1])


@pytest.mark.parametrize("value", [-1.0, np.inf, np.nan, "much", None])
def test_bad_regularization(value):
    with pytest.raises(InvalidArgumentError, match="at least 0"):
        CORAL(value).fit(*domains(), Xt=domains()[1])


def test_one_feature():
    rng = np.random.default_rng(0)
    X, Xt = rng.normal(size=(9, 1)), rng.normal(2.0, 3.0, (9, 1))
    mapped = CORAL(0.0).fit(X, Xt=Xt).transform_source(X)
    assert mapped.std() == pytest.approx(Xt.std())
    assert mapped.mean() == pytest.approx(Xt.mean())


def test_each_domain_is_standardised_by_itself():
    X, Xt = domains()
    X[:, 0] = 7.0
    scaler = DomainStandardizer().fit(X, Xt=Xt)
    for mapped, constant in ((scaler.transform_source(X), 1), (scaler.transform(Xt), 0)):
        np.testing.assert_allclose(mapped.mean(axis=0), 0.0, atol=1e-12)
        np.testing.assert_allclose(mapped.std(axis=0)[constant:], 1.0)
    np.testing.assert_array_equal(scaler.transform_source(X)[:, 0], 0.0)


def test_clone():
    coral = CORAL(0.5, match_means=False)
    assert clone(coral).get_params() == {"regularization": 0.5, "match_means": False}
