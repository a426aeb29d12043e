"""Hierarchical-Bayes logistic regression: parameters of the source are the target's prior.

    w_source ~ N(0, σ² I),   w_target | w_source ~ N(w_source, τ² I),   y ~ Bernoulli(logistic(x·w))

Browsing behaviour as what is expected of ad clicks: the lectures' case, after Zhang, Chen & Wang
(2016), "Implicit look-alike modelling in display ads", who take the joint mode. Here the source is
integrated out: its posterior is N(m, Σ) by Laplace's approximation (MacKay 1992, "The evidence
framework applied to classification networks"), so that the target's prior is N(m, Σ + τ² I), and a
coefficient of which the source knows little gets a broad one. A second Laplace approximation gives
the target's posterior, and predictions are averaged over it by MacKay's formula

    P(y = 1 | x) ≈ logistic(κ x·w),   κ = (1 + π xᵀ S x / 8)^(-1/2).

σ and τ are given, or chosen by the evidence (empirical Bayes): the marginal likelihood of the
source for σ, of the target for τ. A few dozen labels say little about τ, whose prior is therefore
half-normal with scale σ: a coefficient is not expected to be further from the source's than from 0.
Lecture topic: parameter transfer, hierarchical models.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from metagym.baselines.transfer.base import check_domains, check_new
from metagym.errors import InvalidArgumentError, check_above_zero, check_choice

EVIDENCE = "evidence"
# What of the source's uncertainty enters the prior: Σ, its diagonal, or nothing.
COVARIANCES = ("full", "diagonal", "none")
SCALES = (1e-3, 1e2)  # where the evidence is maximised


class Posterior(NamedTuple):
    """Laplace's approximation of a posterior of weights.

    Attributes:
        mean: its mode [k].
        covariance: inverse of the curvature there [k, k].
        log_evidence: of the labels, in nats.
    """

    mean: np.ndarray
    covariance: np.ndarray
    log_evidence: float


class HierarchicalLogistic(ClassifierMixin, BaseEstimator):
    """Logistic regression of two classes whose prior is the posterior of a source.

    The intercept is a coefficient with a scale of its own, as rates differ more between domains
    than tastes. It has a prior, so that a target with labels of one class only is no trouble.

    Args:
        source_scale: σ, or "evidence". It is also the scale of τ's prior: with a σ near 0 that
            says nothing of the source, give τ.
        target_scale: τ, or "evidence". τ → ∞ leaves the target alone with a flat prior. τ → 0
            leaves the source's model with covariance="none", and else nearly that of source and
            target together: the source's posterior, updated.
        intercept_scale: standard deviation of the source's intercept from 0, and of the target's
            from the source's.
        covariance: "full", "diagonal" (a precision for each coefficient) or "none" (the source's
            mode is taken for the truth).

    Attributes:
        coef_: mode of the target's weights [1, d]; intercept_: [1].
        source_coef_, source_intercept_: of the source's.
        source_: the source's ``Posterior``, intercept last.
        target_: the target's.
        source_scale_, target_scale_: σ and τ.
        classes_: two.
    """

    def __init__(
        self,
        source_scale: float | str = EVIDENCE,
        target_scale: float | str = EVIDENCE,
        intercept_scale: float = 10.0,
        covariance: str = "full",
    ) -> None:
        self.source_scale = source_scale
        self.target_scale = target_scale
        self.intercept_scale = intercept_scale
        self.covariance = covariance

    def fit(self, X: Any, y: Any, *, Xt: Any = None, yt: Any = None) -> Self:
        """Learn from the source (X, y) and the labelled first rows of the target (Xt, yt).

        Raises:
            InvalidArgumentError: see ``check_domains``; more than two classes; a scale that is
                neither "evidence" nor above 0.
            DataError: a value is not a finite number.
        """
        check_choice("covariance", self.covariance, COVARIANCES)
        own = check_above_zero("intercept_scale", self.intercept_scale)
        scales = [
            None if value == EVIDENCE else _scale(name, value)
            for name, value in (
                ("source_scale", self.source_scale),
                ("target_scale", self.target_scale),
            )
        ]
        domains = check_domains(X, y, Xt, yt, labelled=True)
        self.classes_ = np.unique(domains.y)
        if len(self.classes_) > 2:
            raise InvalidArgumentError(
                f"y has {len(self.classes_)} classes; this model has two. JointClassifier takes "
                "more."
            )
        d = domains.X.shape[1]
        x, signs = _with_intercept(domains.X), np.where(domains.y == self.classes_[1], 1.0, -1.0)

        def source(scale: float) -> Posterior:
            return laplace(x, signs, np.zeros(d + 1), np.diag(np.append(np.full(d, scale), own)))

        self.source_scale_, self.source_ = _best(source, scales[0], np.inf)
        if scales[0] is None and self.source_scale_ > 0.9 * SCALES[1]:
            warnings.warn(
                f"The evidence rises up to source_scale={SCALES[1]:g}, where the search ends: a "
                "line seems to separate the classes. Give the scale instead.",
                stacklevel=2,
            )
        known = domains.yt if domains.yt is not None else np.empty(0)
        xt = _with_intercept(domains.Xt[: len(known)])
        signs_t = np.where(known == self.classes_[1], 1.0, -1.0)
        passed = {
            "full": self.source_.covariance,
            "diagonal": np.diag(np.diag(self.source_.covariance)),
            "none": np.zeros((d + 1, d + 1)),
        }[self.covariance]

        def target(scale: float) -> Posterior:
            prior = passed + np.diag(np.append(np.full(d, scale), own) ** 2)
            return laplace(xt, signs_t, self.source_.mean, np.linalg.cholesky(prior))

        self.target_scale_, self.target_ = _best(target, scales[1], self.source_scale_)
        self.source_coef_, self.source_intercept_ = _split(self.source_.mean)
        self.coef_, self.intercept_ = _split(self.target_.mean)
        self.n_features_in_ = d
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """κ x·w, the logit of the averaged probability [n]."""
        check_is_fitted(self)
        x = _with_intercept(check_new(self, X))
        variance = ((x @ self.target_.covariance) * x).sum(axis=1)
        return np.asarray(x @ self.target_.mean / np.sqrt(1.0 + np.pi / 8.0 * variance))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of ``classes_`` in the target, averaged over the posterior [n, 2]."""
        scores = self.decision_function(X)
        return np.stack([expit(-scores), expit(scores)], axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The likelier class in the target [n]."""
        second = self.decision_function(X) > 0.0
        return np.asarray(self.classes_[second.astype(int)])


def laplace(x: np.ndarray, signs: np.ndarray, mean: np.ndarray, root: np.ndarray) -> Posterior:
    """The posterior of logistic regression under the prior N(mean, root rootᵀ).

    Newton's method in coordinates v of w = mean + root v, whose prior is N(0, I): curvature is at
    least 1 there, however narrow or broad the prior.

    Args:
        x: [n, k].
        signs: 1 or -1 [n].
        mean: [k].
        root: [k, k].
    """
    seen, offset = x @ root, x @ mean
    v = np.zeros(root.shape[1])
    value, gradient, curvature = negative_log_posterior(v, seen, offset, signs)
    for _ in range(100):
        step = cho_solve(cho_factor(curvature), gradient)
        decrement = float(gradient @ step)
        if decrement < 1e-16 * max(1.0, abs(value)):
            break
        size = 1.0
        while True:
            found = negative_log_posterior(v - size * step, seen, offset, signs)
            # Curvature is at least 1, so that a step this small is at rounding's end.
            if found[0] <= value - 1e-4 * size * decrement or size < 1e-8:
                break
            size /= 2.0
        v = v - size * step
        value, gradient, curvature = found
    factor = np.linalg.cholesky(curvature)
    half = np.linalg.solve(factor, root.T)
    return Posterior(mean + root @ v, half.T @ half, -value - float(np.log(np.diag(factor)).sum()))


def negative_log_posterior(
    v: np.ndarray, x: np.ndarray, offset: np.ndarray, signs: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Σ log(1 + exp(-s (x·v + offset))) + ‖v‖²/2 with its gradient [k] and Hessian [k, k]."""
    margins = signs * (x @ v + offset)
    wrong = expit(-margins)
    value = float(np.logaddexp(0.0, -margins).sum() + v @ v / 2.0)
    gradient = v - x.T @ (signs * wrong)
    hessian = np.eye(len(v)) + (x.T * (wrong * (1.0 - wrong))) @ x
    return value, gradient, hessian


def _best(
    fitted: Callable[[float], Posterior], scale: float | None, expected: float
) -> tuple[float, Posterior]:
    """The scale of most evidence, if none is given, with its posterior.

    Args:
        fitted: the posterior at a scale.
        scale: the one that is given.
        expected: scale of the half-normal prior of the scale sought; infinite: a flat one.
    """
    if scale is not None:
        return scale, fitted(scale)

    def loss(log: float) -> float:
        found = float(np.exp(log))
        return 0.5 * (found / expected) ** 2 - fitted(found).log_evidence

    low, high = np.log(SCALES)
    best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 0.01})
    return float(np.exp(best.x)), fitted(float(np.exp(best.x)))


def _scale(argument: str, value: Any) -> float:
    if isinstance(value, str):
        raise InvalidArgumentError(f"{argument}={value!r} is neither {EVIDENCE!r} nor a number.")
    return check_above_zero(argument, value)


def _with_intercept(x: np.ndarray) -> np.ndarray:
    return np.hstack([x, np.ones((len(x), 1))])


def _split(mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights [1, d] and intercept [1], as scikit-learn shapes them."""
    return mean[None, :-1], mean[-1:]
