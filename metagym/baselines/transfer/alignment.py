"""Moments of the source made those of the target: per-domain standardisation, and CORAL.

Sun, Feng & Saenko, "Return of frustratingly easy domain adaptation" (AAAI 2016).
Lecture topic: feature-representation transfer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import eigh
from sklearn.preprocessing import StandardScaler

from metagym.baselines.transfer.features import DomainFeatures
from metagym.errors import InvalidArgumentError


class DomainStandardizer(DomainFeatures):
    """Each domain with its own mean and standard deviation: afterwards both are 0 and 1.

    Features that are constant in a domain become 0 there.

    Attributes:
        source_, target_: the fitted ``sklearn.preprocessing.StandardScaler`` of each domain.
    """

    def _fit(self, source: np.ndarray, y: Any, target: np.ndarray) -> None:
        self.source_, self.target_ = (StandardScaler().fit(x) for x in (source, target))

    def _map(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.target_.transform(X))

    def _map_source(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.source_.transform(X))


class CORAL(DomainFeatures):
    """The source whitened and coloured anew with the target's covariance; the target stays.

    x ↦ (x − mean_S) A + mean_T with A = (C_S + λI)^(−1/2) (C_T + λI)^(1/2), the closed form of
    Sun et al. (their Algorithm 1), which minimises ‖AᵀC_S A − C_T‖_F for λ → 0. The paper
    standardises the domains first, so that there are no means to care about;
    ``match_means=False`` is its listing to the letter.

    Args:
        regularization: λ. The paper's is 1, for standardised features. 0 makes the covariances
            equal, if that of the source is not singular.
        match_means: move the mean of the source to that of the target.

    Attributes:
        matrix_: A, [d, d].
        means_: of source and target, [2, d].
    """

    def __init__(self, regularization: float = 1.0, match_means: bool = True) -> None:
        self.regularization = regularization
        self.match_means = match_means

    def _fit(self, source: np.ndarray, y: Any, target: np.ndarray) -> None:
        ridge = _check_ridge(self.regularization)
        for name, sample in (("X", source), ("Xt", target)):
            if len(sample) < 2:
                raise InvalidArgumentError(f"{name} has one example, which has no covariance.")
        self.means_ = np.stack([source.mean(axis=0), target.mean(axis=0)])
        whiten = _power(np.cov(source, rowvar=False), ridge, -0.5)
        self.matrix_ = whiten @ _power(np.cov(target, rowvar=False), ridge, 0.5)

    def _map(self, X: np.ndarray) -> np.ndarray:
        return X

    def _map_source(self, X: np.ndarray) -> np.ndarray:
        if not self.match_means:
            return np.asarray(X @ self.matrix_)
        return np.asarray((X - self.means_[0]) @ self.matrix_ + self.means_[1])


def _check_ridge(value: Any) -> float:
    try:
        ridge = float(value)
    except (TypeError, ValueError):
        ridge = -1.0
    if not 0.0 <= ridge < np.inf:
        raise InvalidArgumentError(f"regularization={value!r} has to be a number of at least 0.")
    return ridge


def _power(covariance: np.ndarray, ridge: float, exponent: float) -> np.ndarray:
    """(C + ridge·I)^exponent, symmetric."""
    values, vectors = eigh(np.atleast_2d(covariance))
    values = np.maximum(values, 0.0) + ridge
    if exponent < 0 and values[0] <= len(values) * np.finfo(np.float64).eps * values[-1]:
        raise InvalidArgumentError(
            f"The covariance of the source is singular (rank below {len(values)}), and CORAL "
            "whitens by it: pass a regularization above 0, such as 1, or reduce the features first."
        )
    return np.asarray(vectors * values**exponent @ vectors.T)
