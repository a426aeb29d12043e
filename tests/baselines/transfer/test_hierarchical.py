"""Hierarchical Bayes: the posterior by other means, its limits, and what it is good for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import approx_fprime, check_grad, minimize
from scipy.special import expit
from scipy.stats import norm
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from metagym.baselines.transfer.hierarchical import (
    COVARIANCES,
    HierarchicalLogistic,
    laplace,
    negative_log_posterior,
)
from metagym.errors import DataError, InvalidArgumentError
from metagym.evaluation.statistics import paired_difference
from metagym.tasks.ad_clicks import AdClicks, Visits, expected_log_loss

SMALL = AdClicks(segments=6, publishers=6, interests=3, click_rate=0.2)


def visits(source: int, target: int, seed: int = 0, tasks: AdClicks = SMALL) -> tuple[dict, Visits]:
    """Arguments of fit, and test impressions."""
    rng = np.random.default_rng(seed)
    browsing, ads = tasks.domains(rng)
    before, few, test = (
        domain.sample(count, rng)
        for domain, count in ((browsing, source), (ads, target), (ads, 3000))
    )
    return {"X": before.x, "y": before.y, "Xt": few.x, "yt": few.y}, test


def loss(model: HierarchicalLogistic, test: Visits) -> float:
    return expected_log_loss(model.predict_proba(test.x)[:, 1], test.probability)


# -- Laplace's approximation -------------------------------------------------------------------


def test_derivatives() -> None:
    rng = np.random.default_rng(0)
    rest = (rng.standard_normal((20, 4)), rng.standard_normal(20), rng.choice([-1.0, 1.0], 20))
    for _ in range(3):
        v = rng.standard_normal(4)
        found = check_grad(lambda u: negative_log_posterior(u, *rest)[0],
                           lambda u: negative_log_posterior(u, *rest)[1], v)  # fmt: skip
        assert found < 1e-5
        hessian = approx_fprime(v, lambda u: negative_log_posterior(u, *rest)[1])
        np.testing.assert_allclose(hessian, negative_log_posterior(v, *rest)[2], atol=1e-5)


def test_mode_and_curvature_of_a_generic_solver() -> None:
    rng = np.random.default_rng(0)
    x, signs = rng.standard_normal((30, 4)), rng.choice([-1.0, 1.0], 30)
    mean, root = rng.standard_normal(4), np.tril(rng.standard_normal((4, 4))) + 2 * np.eye(4)
    precision = np.linalg.inv(root @ root.T)

    def slope(w: np.ndarray) -> np.ndarray:
        return precision @ (w - mean) - x.T @ (signs * expit(-signs * (x @ w)))

    def objective(w: np.ndarray) -> float:
        return np.log1p(np.exp(-signs * (x @ w))).sum() + (w - mean) @ precision @ (w - mean) / 2

    posterior = laplace(x, signs, mean, root)
    found = minimize(objective, mean, jac=slope, method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(posterior.mean, found, atol=1e-6)
    np.testing.assert_allclose(np.linalg.inv(posterior.covariance),
                               approx_fprime(found, slope), atol=1e-5)  # fmt: skip


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_evidence_by_quadrature(scale: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 1))
    signs = np.where(rng.random(40) < expit(x[:, 0] + 0.5), 1.0, -1.0)
    exact, _ = quad(
        lambda w: np.prod(expit(signs * w * x[:, 0])) * norm.pdf(w, 0.5, scale), -10, 10,
        epsabs=0.0, limit=200,
    )  # fmt: skip
    found = laplace(x, signs, np.array([0.5]), np.array([[scale]])).log_evidence
    assert found == pytest.approx(np.log(exact), abs=0.02)


def test_newton_ends_where_classes_are_far_apart() -> None:
    x = np.array([[1e3], [-1e3], [2.0]])
    posterior = laplace(x, np.array([1.0, -1.0, -1.0]), np.array([-50.0]), np.array([[1e3]]))
    v = (posterior.mean + 50.0) / 1e3
    gradient = negative_log_posterior(v, x * 1e3, x[:, 0] * -50.0, np.array([1.0, -1.0, -1.0]))[1]
    assert np.abs(gradient).max() < 1e-4  # of terms of up to 1e6


# -- limits ------------------------------------------------------------------------------------


def test_narrow_prior_is_the_source_model() -> None:
    data, _ = visits(500, 50)
    model = HierarchicalLogistic(1.0, 1e-6, covariance="none").fit(**data)
    np.testing.assert_allclose(model.coef_, model.source_coef_, atol=1e-6)
    # The source alone, its intercept under N(0, 10²) by a column of tens.
    x = np.hstack([data["X"], np.full((500, 1), 10.0)])
    alone = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=1000)
    alone.fit(x, data["y"])
    np.testing.assert_allclose(model.source_coef_[0], alone.coef_[0, :-1], atol=1e-4)
    np.testing.assert_allclose(model.source_intercept_, 10 * alone.coef_[0, -1:], atol=1e-3)


def test_narrow_prior_on_an_uncertain_source_is_the_pooled_model() -> None:
    data, _ = visits(3000, 300)
    model = HierarchicalLogistic(1.0, 1e-6, covariance="full").fit(**data)
    # Columns of tens: an intercept of N(0, 10²) for all, and one for what the target adds.
    x = np.vstack([data["X"], data["Xt"]])
    is_target = np.repeat([0.0, 10.0], [3000, 300])
    x = np.column_stack([x, np.full(len(x), 10.0), is_target])
    pooled = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=1000)
    pooled.fit(x, np.concatenate([data["y"], data["yt"]]))
    np.testing.assert_allclose(model.coef_[0], pooled.coef_[0, :-2], atol=0.02)
    assert np.abs(model.source_coef_[0] - pooled.coef_[0, :-2]).max() > 0.05


def test_broad_prior_is_the_target_alone() -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(3)
    x, xt = rng.standard_normal((200, 3)), rng.standard_normal((400, 3))
    y, yt = (rng.random(len(z)) < expit(z @ weights) for z in (x, xt))
    model = HierarchicalLogistic(1.0, 1e5, 1e5).fit(x, y, Xt=xt, yt=yt)
    alone = LogisticRegression(C=1e10, tol=1e-10).fit(xt, yt)
    np.testing.assert_allclose(model.coef_, alone.coef_, atol=1e-4)
    np.testing.assert_allclose(model.intercept_, alone.intercept_, atol=1e-4)


def test_evidence_finds_how_far_domains_are_apart() -> None:
    found = []
    for similarity in (1.0, 0.9, 0.0):
        tasks = AdClicks(segments=10, publishers=10, similarity=similarity, click_rate=0.3)
        data, _ = visits(3000, 4000, tasks=tasks)
        model = HierarchicalLogistic().fit(**data)
        found.append(model.target_scale_)
        assert model.source_scale_ == pytest.approx(1.0, rel=0.4)
    # Deviations from ρ·w of (1 - ρ)·w and √(1 - ρ²) w': 0, 0.45 and √2.
    assert found[0] < 0.15 and 0.3 < found[1] < 0.65 and 1.0 < found[2] < 2.0


def test_few_labels_leave_the_scale_to_its_prior() -> None:
    # Evidence alone would send τ far beyond σ where a handful of labels contradict the source.
    data, _ = visits(2000, 8)
    contrary = data["Xt"] @ HierarchicalLogistic(1.0, 1.0).fit(**data).source_coef_[0]
    yt = (contrary < np.median(contrary)).astype(int)
    model = HierarchicalLogistic().fit(**{**data, "yt": yt})
    scales = np.geomspace(1e-3, 1e2, 40)
    evidence = [
        HierarchicalLogistic(model.source_scale_, scale)
        .fit(**{**data, "yt": yt}).target_.log_evidence
        for scale in scales
    ]  # fmt: skip
    penalised = np.array(evidence) - (scales / model.source_scale_) ** 2 / 2
    assert model.target_scale_ == pytest.approx(scales[penalised.argmax()], rel=0.4)
    assert model.target_scale_ < 0.7 * scales[np.argmax(evidence)]


# -- what it is for ----------------------------------------------------------------------------


def test_what_the_source_knows_little_of_moves_more() -> None:
    # The first feature was seen 1,000 times in browsing, the second 8 times, both with half read;
    # the target says the same of both: clicked.
    x = np.repeat(np.eye(2), [1000, 8], axis=0)
    y = np.tile([0, 1], 504)
    xt, yt = np.repeat(np.eye(2), 10, axis=0), np.tile([1, 1, 1, 1, 0], 4)
    moved = {}
    for covariance in COVARIANCES:
        model = HierarchicalLogistic(2.0, 0.1, 1e-3, covariance).fit(x, y, Xt=xt, yt=yt)
        moved[covariance] = (model.coef_ - model.source_coef_)[0]
    assert moved["none"][0] == pytest.approx(moved["none"][1], rel=0.1)
    for covariance in ("full", "diagonal"):
        assert moved[covariance][1] > 5 * moved[covariance][0] > 0


def test_better_than_source_and_target_alone_in_the_middle() -> None:
    tasks = AdClicks(segments=6, publishers=6, interests=3, click_rate=0.2, similarity=0.8)
    losses = []
    for seed in range(8):
        data, test = visits(1500, 200, seed, tasks)
        both = HierarchicalLogistic().fit(**data)
        source = HierarchicalLogistic(both.source_scale_, 1e-6, covariance="none").fit(**data)
        # A source that may say nothing; of priors N(0, τ²) the one that the evidence prefers.
        alone = [
            HierarchicalLogistic(1e-6, scale, covariance="none").fit(**data)
            for scale in (0.2, 0.5, 1.0, 2.0, 5.0)
        ]
        target = max(alone, key=lambda model: model.target_.log_evidence)
        losses.append([loss(model, test) for model in (both, source, target)])
    both, source, target = np.transpose(losses)
    assert paired_difference(both, source).high < 0.0
    assert paired_difference(both, target).high < 0.0


def test_calibrated() -> None:
    predicted, true = [], []
    for seed in range(6):
        data, test = visits(1500, 200, seed)
        predicted.append(HierarchicalLogistic().fit(**data).predict_proba(test.x)[:, 1])
        true.append(test.probability)
    p, truth = np.concatenate(predicted), np.concatenate(true)
    bins = np.array_split(np.argsort(p), 10)
    assert max(abs(p[rows].mean() - truth[rows].mean()) for rows in bins) < 0.05


def test_averaging_over_the_posterior() -> None:
    data, test = visits(300, 15)
    model = HierarchicalLogistic(1.0, 1.0).fit(**data)
    x = np.append(test.x[0], 1.0)
    middle, spread = x @ model.target_.mean, np.sqrt(x @ model.target_.covariance @ x)
    exact, _ = quad(lambda a: expit(a) * norm.pdf(a, middle, spread), middle - 40, middle + 40,
                    points=[middle])  # fmt: skip
    assert model.predict_proba(test.x[:1])[0, 1] == pytest.approx(exact, abs=0.02)
    plain = expit(test.x @ model.coef_[0] + model.intercept_)
    assert loss(model, test) < expected_log_loss(plain, test.probability)


# -- the face, and bad input -------------------------------------------------------------------


def test_faces_of_scikit_learn() -> None:
    data, test = visits(300, 50)
    named = {**data, "y": np.array(["left", "read"])[data["y"]],
             "yt": np.array(["left", "read"])[data["yt"]][:30]}  # fmt: skip
    model = HierarchicalLogistic(target_scale=0.5)
    assert clone(model.fit(**named)).get_params() == model.get_params()
    assert model.classes_.tolist() == ["left", "read"] and model.target_scale_ == 0.5
    np.testing.assert_array_equal(
        model.predict(test.x) == "read", model.decision_function(test.x) > 0
    )
    first = {**data, "Xt": data["Xt"][:30], "yt": data["yt"][:30]}
    same = HierarchicalLogistic(target_scale=0.5).fit(**first)
    np.testing.assert_array_equal(same.predict_proba(test.x), model.predict_proba(test.x))


def test_a_target_of_one_class() -> None:
    data, test = visits(300, 10)
    model = HierarchicalLogistic().fit(**{**data, "yt": np.zeros(10, dtype=int)})
    p = model.predict_proba(test.x)[:, 1]
    assert np.isfinite(p).all() and p.mean() < test.probability.mean()


def test_separable_source_warns() -> None:
    x = np.linspace(-1, 1, 40)[:, None]
    with pytest.warns(UserWarning, match="separate the classes"):
        HierarchicalLogistic(target_scale=1.0).fit(x, x[:, 0] > 0, Xt=x[:4], yt=[0, 0, 1, 1])


@given(
    st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 5), st.sampled_from(COVARIANCES)
)
@settings(max_examples=25, deadline=None)
def test_always_probabilities(seed: int, n: int, m: int, covariance: str) -> None:
    rng = np.random.default_rng(seed)
    x, xt = 100 * rng.standard_normal((n, 3)), rng.standard_normal((m, 3))
    y = np.arange(n) % 2
    model = HierarchicalLogistic(1.0, 0.5, covariance=covariance).fit(
        x, y, Xt=xt, yt=y[:1].repeat(m)
    )
    p = model.predict_proba(xt)
    assert ((p >= 0) & (p <= 1)).all() and np.isfinite(model.target_.log_evidence)


@pytest.mark.parametrize(
    ("arguments", "change", "error", "message"),
    [
        ({"source_scale": "evidnce"}, {}, InvalidArgumentError, "neither 'evidence' nor"),
        ({"source_scale": 0.0}, {}, InvalidArgumentError, "source_scale"),
        ({"target_scale": -1.0}, {}, InvalidArgumentError, "target_scale"),
        ({"intercept_scale": None}, {}, InvalidArgumentError, "intercept_scale"),
        ({"covariance": "half"}, {}, InvalidArgumentError, "diagonal"),
        ({}, {"yt": None}, InvalidArgumentError, "labels of the target"),
        ({}, {"yt": []}, InvalidArgumentError, "at least one label"),
        ({}, {"Xt": np.zeros((0, 15))}, InvalidArgumentError, "at least one of each"),
        ({}, {"y": np.zeros(30)}, InvalidArgumentError, "needs two"),
        ({}, {"y": np.arange(30) % 3}, InvalidArgumentError, "3 classes"),
        ({}, {"Xt": np.full((10, 15), np.inf)}, DataError, "Xt"),
    ],
)
def test_refusals(arguments: dict, change: dict, error: type[Exception], message: str) -> None:
    data, _ = visits(30, 10)
    with pytest.raises(error, match=message):
        HierarchicalLogistic(**arguments).fit(**{**data, **change})
