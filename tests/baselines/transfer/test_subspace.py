"""TCA against the eigenproblem as it is written in the paper, and where it has to be PCA."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eig, subspace_angles
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import rbf_kernel

from metagym.baselines.transfer import subspace
from metagym.baselines.transfer.discrepancy import squared_mmd
from metagym.baselines.transfer.subspace import TCA
from metagym.errors import InvalidArgumentError


def domains(seed=0, n=14, m=11, d=5):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d, d))
    return rng.normal(size=(n, d)) @ mixing, rng.normal(0.5, 1.3, size=(m, d)) @ mixing


def dense(features, n, mu, count):
    """Unit-length leading eigenvectors of (FᵀMF + μI)⁻¹ FᵀHF, by a solver that knows no trick."""
    total = len(features)
    e = np.r_[np.full(n, 1 / n), np.full(total - n, -1 / (total - n))]
    M = np.outer(e, e)
    M /= np.linalg.norm(M, "fro")
    H = np.eye(total) - np.full((total, total), 1 / total)
    left = features.T @ M @ features + mu * np.eye(features.shape[1])
    values, vectors = eig(np.linalg.solve(left, features.T @ H @ features))
    order = np.argsort(-values.real)[:count]
    vectors = vectors[:, order].real
    return values.real[order], vectors / np.linalg.norm(vectors, axis=0)


def up_to_sign(Z, wanted):
    return Z * np.sign((Z * wanted).sum(axis=0))


@pytest.mark.parametrize("kernel", ["primal", "linear", "rbf"])
@pytest.mark.parametrize("mu", [0.01, 1.0, 50.0])
def test_the_components_solve_the_eigenproblem_of_the_paper(kernel, mu):
    X, Xt = domains()
    both = np.vstack([X, Xt])
    features = {"primal": both, "linear": both @ both.T, "rbf": rbf_kernel(both, gamma=0.1)}[kernel]
    values, W = dense(features, len(X), mu, 3)
    tca = TCA(3, kernel, mu=mu, gamma=0.1 if kernel == "rbf" else None).fit(X, Xt=Xt)
    np.testing.assert_allclose(tca.eigenvalues_, values, rtol=1e-6)
    found = np.vstack([tca.transform_source(X), tca.transform(Xt)])
    wanted = features @ W
    np.testing.assert_allclose(up_to_sign(found, wanted), wanted, atol=1e-6 * np.abs(wanted).max())


def test_new_examples_are_mapped_by_their_kernel_with_the_old():
    X, Xt = domains()
    new = domains(1)[1]
    both = np.vstack([X, Xt])
    _, W = dense(rbf_kernel(both, gamma=0.1), len(X), 1.0, 3)
    wanted = rbf_kernel(new, both, gamma=0.1) @ W
    found = TCA(3, "rbf", gamma=0.1).fit(X, Xt=Xt).transform(new)
    np.testing.assert_allclose(up_to_sign(found, wanted), wanted, atol=1e-8)


def test_a_linear_kernel_is_the_primal_form_on_the_kernel_as_features():
    X, Xt = domains()
    both = np.vstack([X, Xt])
    linear = TCA(3, "linear").fit(X, Xt=Xt)
    primal = TCA(3, "primal").fit(X @ both.T, Xt=Xt @ both.T)
    np.testing.assert_allclose(
        np.abs(linear.transform(Xt)), np.abs(primal.transform(Xt @ both.T)), rtol=1e-6
    )


def test_where_the_means_agree_it_is_pca_stretched_for_the_linear_kernel():
    X, Xt = (x - x.mean(axis=0) for x in domains())
    pca = PCA(3, svd_solver="full").fit(np.vstack([X, Xt]))
    wanted = np.abs(pca.transform(Xt))
    primal, linear = (np.abs(TCA(3, k).fit(X, Xt=Xt).transform(Xt)) for k in ("primal", "linear"))
    np.testing.assert_allclose(primal, wanted, atol=1e-8)
    np.testing.assert_allclose(linear, wanted * pca.singular_values_, atol=1e-6)


def test_a_few_of_many_components_are_those_of_the_dense_solver(monkeypatch):
    X, Xt = domains(n=200, m=150)
    found = TCA(4, "rbf").fit(X, Xt=Xt)
    monkeypatch.setattr(subspace, "_LARGE", 10**6)
    wanted = TCA(4, "rbf").fit(X, Xt=Xt)
    np.testing.assert_allclose(found.eigenvalues_, wanted.eigenvalues_, rtol=1e-9)
    np.testing.assert_allclose(found.transform(Xt), wanted.transform(Xt), atol=1e-8)


def test_more_components_than_examples_of_a_kernel_are_not_there():
    X, Xt = domains(n=4, m=3)
    with pytest.warns(UserWarning, match="rank 6.*n_components=50"):
        assert TCA(50, "rbf").fit(X, Xt=Xt).transform(Xt).shape == (3, 6)
    with pytest.warns(UserWarning, match="rank 5"):
        assert TCA(6, "primal").fit(X, Xt=Xt).transform(Xt).shape == (3, 5)


@pytest.mark.filterwarnings("error")
def test_a_singular_kernel_does_no_harm():
    X, Xt = domains()
    twice, twice_t = np.vstack([X, X]), np.vstack([Xt, Xt])
    for kernel in ("primal", "linear", "rbf"):
        Z = TCA(3, kernel).fit(twice, Xt=twice_t).transform(twice_t)
        assert np.isfinite(Z).all()
        np.testing.assert_allclose(Z[: len(Xt)], Z[len(Xt) :], atol=1e-9)


@pytest.mark.parametrize("kernel", ["primal", "linear"])
@pytest.mark.parametrize("level", [0.1, 3.7e5])
def test_examples_that_are_all_the_same_are_refused(kernel, level):
    same = np.full((5, 3), level)
    with pytest.raises(InvalidArgumentError, match="no components"):
        TCA(2, kernel).fit(same, Xt=same)
    with pytest.raises(InvalidArgumentError, match="pass gamma"):
        TCA(2, "rbf").fit(same, Xt=same)
    for count in (5, 400):  # dense, and by iteration
        many = np.full((count, 3), level)
        with pytest.raises(InvalidArgumentError, match="no components"):
            TCA(2, "rbf", gamma=1.0).fit(many, Xt=same)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), kernel=st.sampled_from(["primal", "linear", "rbf"]))
def test_rotations_and_the_order_of_examples_do_not_matter(seed, kernel):
    X, Xt = domains(seed)
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    order, order_t = rng.permutation(len(X)), rng.permutation(len(Xt))
    given_, turned = TCA(2, kernel), TCA(2, kernel)
    given_.fit(X, Xt=Xt)
    turned.fit(X[order] @ rotation, Xt=Xt[order_t] @ rotation)
    wanted = given_.transform(Xt)
    found = up_to_sign(turned.transform(Xt @ rotation), wanted)
    scale = np.abs(wanted).max()
    gaps = given_.eigenvalues_[0] / given_.eigenvalues_[1]
    if gaps > 1.01:  # equal eigenvalues have no axes of their own
        np.testing.assert_allclose(found[:, 0], wanted[:, 0], atol=1e-5 * scale)
    np.testing.assert_allclose(turned.eigenvalues_, given_.eigenvalues_, rtol=1e-6)


@pytest.mark.parametrize("kernel", ["primal", "linear", "rbf"])
def test_options(kernel):
    X, Xt = domains()
    lengths = [np.linalg.norm(x, axis=1, keepdims=True) for x in (X, Xt)]
    unit = TCA(3, kernel, unit_rows=True).fit(X, Xt=Xt)
    by_hand = TCA(3, kernel).fit(X / lengths[0], Xt=Xt / lengths[1])
    np.testing.assert_allclose(unit.transform(Xt), by_hand.transform(Xt / lengths[1]))
    white = TCA(3, kernel, whiten=True).fit(X, Xt=Xt)
    Z = np.vstack([white.transform_source(X), white.transform(Xt)])
    np.testing.assert_allclose(np.cov(Z, rowvar=False, bias=True), np.eye(3), atol=1e-6)


def test_it_finds_the_axis_on_which_domains_agree_where_pca_finds_the_other():
    rng = np.random.default_rng(0)
    X, Xt = (rng.normal(size=(100, 2)) * [3.0, 1.0] + [shift, 0.0] for shift in (-3.0, 3.0))
    axis = TCA(1, "primal").fit(X, Xt=Xt).components_
    assert subspace_angles(axis, np.array([[0.0], [1.0]]))[0] < 0.1
    assert squared_mmd(X @ axis, Xt @ axis) < 0.02 < squared_mmd(X, Xt)
    assert abs(PCA(1).fit(np.vstack([X, Xt])).components_[0, 0]) > 0.99


def test_clone_and_arguments():
    tca = TCA(7, "rbf", mu=2.0, gamma=0.3, unit_rows=True, whiten=True)
    assert clone(tca).get_params() == tca.get_params()
    X, Xt = domains()
    for bad, match in [
        ({"n_components": 0}, "n_components=0"),
        ({"mu": 0.0}, "mu=0.0"),
        ({"gamma": -1.0, "kernel": "rbf"}, "gamma=-1.0"),
        ({"kernel": "linaer"}, "Did you mean 'linear'"),
        ({"unit_rows": "no"}, "unit_rows='no'"),
        ({"whiten": 1}, "whiten=1"),
    ]:
        with pytest.raises(InvalidArgumentError, match=match):
            TCA(**bad).fit(X, Xt=Xt)
    with pytest.raises(InvalidArgumentError, match="has 2 features"):
        TCA(2).fit(X, Xt=Xt).transform(Xt[:, :2])
