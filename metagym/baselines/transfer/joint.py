"""Source and target learn together, each with parameters of its own that stay close.

The lectures' objective for two tasks, over weights w and intercepts b of the source (1) and the
target (2):

    α L₁(w¹, b¹) + (1 - α) L₂(w², b²) + λ₁ (‖w¹‖² + ‖w²‖²) + λ₂ D(w¹, w²)

with D = ‖w¹ - w²‖² ("pairwise") or the distance to the mean Σ_m ‖w^m - w̄‖² ("mean"), which for two
tasks is exactly half of it. L is a mean over examples, so that α is the say of a domain whatever
its size. Intercepts are not penalised: how often a class occurs is not shared. λ₂ → ∞ leaves one w
for both, λ₂ = 0 two separate models. Lecture topic: parameter transfer, joint training (the idea
of Evgeniou & Pontil 2004, "Regularized multi-task learning").
"""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logsumexp, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from metagym.baselines.transfer.base import Domains, check_domains, check_new
from metagym.errors import (
    InvalidArgumentError,
    check_above_zero,
    check_bool,
    check_choice,
    check_not_negative,
    check_positive,
)

# D as a multiple of ‖w¹ - w²‖².
DISTANCES = {"pairwise": 1.0, "mean": 0.5}


class _Joint(BaseEstimator):
    """Arguments of both: see ``JointClassifier``."""

    coef_: np.ndarray
    intercept_: np.ndarray
    source_coef_: np.ndarray
    source_intercept_: np.ndarray

    def __init__(
        self,
        alpha: float = 0.5,
        shrinkage: float = 1e-3,
        coupling: float = 1e-2,
        distance: str = "pairwise",
        fit_intercept: bool = True,
    ) -> None:
        self.alpha = alpha
        self.shrinkage = shrinkage
        self.coupling = coupling
        self.distance = distance
        self.fit_intercept = fit_intercept

    def _check(self) -> tuple[float, float, float]:
        """α, λ₁ and λ₂ times the multiple of D."""
        check_choice("distance", self.distance, DISTANCES)
        check_bool("fit_intercept", self.fit_intercept)
        alpha = check_not_negative("alpha", self.alpha)
        if alpha > 1.0:
            raise InvalidArgumentError(f"alpha={self.alpha!r} has to be between 0 and 1.")
        coupling = check_not_negative("coupling", self.coupling) * DISTANCES[self.distance]
        return alpha, check_not_negative("shrinkage", self.shrinkage), coupling


class JointClassifier(ClassifierMixin, _Joint):
    """Joint logistic regression of source and target; predicts for the target.

    Two classes have one vector of weights (logistic loss), more have one each (cross-entropy).

    Args:
        alpha: α in [0, 1], the say of the source.
        shrinkage: λ₁ of at least 0.
        coupling: λ₂ of at least 0.
        distance: "pairwise" or "mean".
        fit_intercept: whether there is b.
        max_iter: iterations of L-BFGS.
        tol: it ends where no component of the gradient exceeds this.

    Attributes:
        coef_, source_coef_: [1 or classes, d].
        intercept_, source_intercept_: [1 or classes].
        classes_: of the source; the target has no other.
        objective_: at the solution.
        n_iter_: iterations taken.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        shrinkage: float = 1e-3,
        coupling: float = 1e-2,
        distance: str = "pairwise",
        fit_intercept: bool = True,
        max_iter: int = 2000,
        tol: float = 1e-6,
    ) -> None:
        super().__init__(alpha, shrinkage, coupling, distance, fit_intercept)
        self.max_iter = max_iter
        self.tol = tol

    def fit(self, X: Any, y: Any, *, Xt: Any = None, yt: Any = None) -> Self:
        """Learn from the source (X, y) and the labelled first rows of the target (Xt, yt).

        Raises:
            InvalidArgumentError: see ``check_domains``; or the target's labels lack a class,
                which sends an intercept that nothing penalises to infinity.
            DataError: a value is not a finite number.
        """
        alpha, shrinkage, coupling = self._check()
        tol = check_above_zero("tol", self.tol)
        domains = check_domains(X, y, Xt, yt, labelled=True)
        x, labels, sizes = _stacked(domains)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        present = np.unique(codes[sizes[0] :])
        if self.fit_intercept and len(present) < len(self.classes_):
            missing = self.classes_[~np.isin(np.arange(len(self.classes_)), present)].tolist()
            raise InvalidArgumentError(
                f"yt has no example of class {missing[0]!r}; the target's intercept, which is not "
                "penalised, would go to infinity. Label one, set fit_intercept=False, or take "
                "HierarchicalLogistic, whose intercept has a prior."
            )
        outputs = 1 if len(self.classes_) == 2 else len(self.classes_)
        targets = codes[:, None].astype(float) if outputs == 1 else np.eye(outputs)[codes]
        shape = (2, x.shape[1] + 1, outputs)

        # Solved for the middle of w¹ and w² and their distance, scaled so that a strong coupling
        # bends the objective as little as a weak one.
        scale = 1.0 / np.sqrt(1.0 + 4.0 * coupling)
        mix = np.array([[1.0, scale], [1.0, -scale]])

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = _objective(
                np.tensordot(mix, flat.reshape(shape), 1), x, targets, sizes, alpha, shrinkage,
                coupling, self.fit_intercept,
            )  # fmt: skip
            return value, np.tensordot(mix.T, gradient.reshape(shape), 1).ravel()

        found = minimize(
            objective, np.zeros(np.prod(shape)), jac=True, method="L-BFGS-B",
            options={
                "maxiter": check_positive("max_iter", self.max_iter), "maxfun": 10**8,
                "maxcor": 20, "gtol": tol, "ftol": 0.0,
            },
        )  # fmt: skip
        if (steepest := np.abs(found.jac).max()) > tol:
            warnings.warn(
                f"L-BFGS stopped after {found.nit} iterations at a gradient of {steepest:.1e}, "
                f"above tol={tol:g}; scale the features, or allow more than "
                f"max_iter={self.max_iter}.",
                stacklevel=2,
            )
        both = np.tensordot(mix, found.x.reshape(shape), 1)
        self.source_coef_, self.coef_ = both[:, :-1].transpose(0, 2, 1)
        self.source_intercept_, self.intercept_ = both[:, -1]
        self.objective_, self.n_iter_ = float(found.fun), int(found.nit)
        self.n_features_in_ = x.shape[1]
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """x·w² + b²: [n] of two classes, [n, classes] of more."""
        check_is_fitted(self)
        scores = check_new(self, X) @ self.coef_.T + self.intercept_
        return np.asarray(scores[:, 0] if scores.shape[1] == 1 else scores)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of ``classes_`` in the target [n, classes]."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return np.stack([expit(-scores), expit(scores)], axis=1)
        return np.asarray(softmax(scores, axis=1))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class in the target [n]."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])


class JointRegressor(RegressorMixin, _Joint):
    """Joint ridge regression of source and target, in closed form; predicts for the target.

    Args:
        alpha, shrinkage, coupling, distance, fit_intercept: as of ``JointClassifier``. The
            solution of least norm is taken where there are several.

    Attributes:
        coef_, source_coef_: [d].
        intercept_, source_intercept_: numbers.
    """

    def fit(self, X: Any, y: Any, *, Xt: Any = None, yt: Any = None) -> Self:
        """Learn from the source (X, y) and the labelled first rows of the target (Xt, yt).

        Raises:
            InvalidArgumentError: see ``check_domains``.
            DataError: a value is not a finite number.
        """
        alpha, shrinkage, coupling = self._check()
        x, values, (n, m) = _stacked(check_domains(X, y, Xt, yt, classify=False, labelled=True))
        d = x.shape[1]
        scale = np.repeat(np.sqrt([alpha / n, (1.0 - alpha) / m]), [n, m])
        # Least squares of rows [w¹, b¹, w², b²]: examples, then penalties.
        design = np.zeros((n + m + 3 * d, 2 * (d + 1)))
        design[:n, :d], design[n : n + m, d + 1 : -1] = x[:n], x[n:]
        design[:n, d] = design[n : n + m, -1] = float(self.fit_intercept)
        design[: n + m] *= scale[:, None]
        first, second, apart = np.split(design[n + m :], 3)
        first[:, :d] = second[:, d + 1 : -1] = np.sqrt(shrinkage) * np.eye(d)
        apart[:, :d] = np.sqrt(coupling) * np.eye(d)
        apart[:, d + 1 : -1] = -apart[:, :d]
        wanted = np.concatenate([scale * values, np.zeros(3 * d)])
        found = np.linalg.lstsq(design, wanted)[0].reshape(2, d + 1)
        self.source_coef_, self.coef_ = found[:, :-1]
        self.source_intercept_, self.intercept_ = found[:, -1]
        self.n_features_in_ = d
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Values in the target [n]."""
        check_is_fitted(self)
        return np.asarray(check_new(self, X) @ self.coef_ + self.intercept_)


def _objective(
    both: np.ndarray,
    x: np.ndarray,
    targets: np.ndarray,
    sizes: tuple[int, int],
    alpha: float,
    shrinkage: float,
    coupling: float,
    fit_intercept: bool,
) -> tuple[float, np.ndarray]:
    """The classifier's objective and its gradient, flat.

    Args:
        both: weights, the intercept last, of source and target [2, d + 1, outputs].
        x: examples of the source, then of the target [n + m, d].
        targets: 0 or 1 of one output, else one-hot [n + m, outputs].
        sizes: n and m.
        alpha, shrinkage, coupling: α, λ₁ and the factor of ‖w¹ - w²‖².
        fit_intercept: whether intercepts count.
    """
    n, m = sizes
    share = np.repeat([alpha / n, (1.0 - alpha) / m], [n, m])
    weights, intercepts = both[:, :-1], both[:, -1] * fit_intercept
    scores = np.concatenate(
        [x[:n] @ weights[0] + intercepts[0], x[n:] @ weights[1] + intercepts[1]]
    )
    if scores.shape[1] == 1:
        losses = np.logaddexp(0.0, scores) - targets * scores
        slopes = share[:, None] * (expit(scores) - targets)
    else:
        losses = logsumexp(scores, axis=1, keepdims=True) - (targets * scores).sum(1, keepdims=True)
        slopes = share[:, None] * (softmax(scores, axis=1) - targets)
    apart = weights[0] - weights[1]
    value = share @ losses[:, 0] + shrinkage * (weights**2).sum() + coupling * (apart**2).sum()
    gradient = np.empty_like(both)
    gradient[0, :-1], gradient[1, :-1] = x[:n].T @ slopes[:n], x[n:].T @ slopes[n:]
    gradient[:, :-1] += 2.0 * shrinkage * weights + 2.0 * coupling * np.stack([apart, -apart])
    gradient[:, -1] = np.stack([slopes[:n].sum(0), slopes[n:].sum(0)]) * fit_intercept
    return float(value), gradient.ravel()


def _stacked(domains: Domains) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Labelled examples of source and target, one below the other, and how many each has."""
    known = np.empty(0) if domains.yt is None else domains.yt
    x = np.concatenate([domains.X, domains.Xt[: len(known)]])
    return x, np.concatenate([domains.y, known]), (len(domains.y), len(known))
