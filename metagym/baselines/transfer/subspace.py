"""Transfer component analysis: the components of large variance along which two domains agree.

Pan, Tsang, Kwok & Yang, "Domain adaptation via transfer component analysis" (IEEE TNN 2011):

    min_W  tr(WᵀK M K W) + μ tr(WᵀW)   subject to   WᵀK H K W = I

with the kernel matrix K of all examples, the centring matrix H, and M = eeᵀ, where e is 1/n_S for
an example of the source and −1/n_T for one of the target: eᵀK w is how far the means of the two
domains are apart along w. The solution are the leading eigenvectors of (KMK + μI)⁻¹ KHK.
Lecture topic: feature-representation transfer.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.linalg import eigh, svd
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from sklearn.preprocessing import normalize

from metagym.baselines.transfer.discrepancy import chosen_gamma, gram
from metagym.baselines.transfer.features import DomainFeatures
from metagym.errors import (
    InvalidArgumentError,
    check_above_zero,
    check_bool,
    check_choice,
    check_positive,
)

FORMS = ("primal", "linear", "rbf")
_LARGE = 300  # unknowns, above which a few components are found by iteration


class TCA(DomainFeatures):
    """Transfer component analysis with a kernel, or in the space of the features ("primal").

    KMK + μI is the identity and a matrix of rank one, so that its root is known in closed form and
    the generalised eigenproblem becomes a symmetric one; a singular K does no harm.

    The primal form has features in K's place: W are directions, and μ‖w‖² is the penalty. It is
    not the linear kernel's problem, whose penalty is on coefficients of examples: along principal
    axis i the linear kernel stretches the data by its singular value sᵢ once more. Where the means
    of the domains agree already, as after standardising each, primal TCA is PCA, and TCA with a
    linear kernel is PCA with coordinates multiplied by sᵢ.

    Args:
        n_components: how many; fewer, with a warning, where the centred kernel has a lower rank.
        kernel: "primal", "linear" or "rbf", exp(−γ‖x − x'‖²).
        mu: μ, for M divided by its norm 1/n_S + 1/n_T, so that it does not depend on the sizes of
            samples. Pan's μ is this one times that norm.
        gamma: of rbf; None: 1 / the median squared distance.
        unit_rows: divide each example by its length first.
        whiten: unit variance of each component, as the constraint of Pan et al. wants it. False:
            columns of W of unit length, as solvers of eigenproblems return them, and as in the
            published numbers on Office and Caltech; a component counts as much as it varies.

    Attributes:
        components_: W, [d, components] where the map is linear, else [n + m, components].
        eigenvalues_: of (KMK + μI)⁻¹ KHK, descending, [components].
        gamma_: that rbf works with, or None.
        examples_: the examples whose kernel is taken, [n + m, d]; None where the map is linear.
    """

    def __init__(
        self,
        n_components: int = 20,
        kernel: str = "linear",
        mu: float = 1.0,
        gamma: float | None = None,
        unit_rows: bool = False,
        whiten: bool = False,
    ) -> None:
        self.n_components = n_components
        self.kernel = kernel
        self.mu = mu
        self.gamma = gamma
        self.unit_rows = unit_rows
        self.whiten = whiten

    def _fit(self, source: np.ndarray, y: Any, target: np.ndarray) -> None:
        count = check_positive("n_components", self.n_components)
        mu = check_above_zero("mu", self.mu)
        check_choice("kernel", self.kernel, FORMS)
        check_bool("unit_rows", self.unit_rows)
        check_bool("whiten", self.whiten)
        both = self._prepared(np.vstack([source, target]))
        self.gamma_ = chosen_gamma(self.kernel, self.gamma, both)
        self.examples_ = None
        back = None
        if self.kernel == "primal":
            features = both
        elif self.kernel == "linear":
            # K = U S² Uᵀ, and no w has a part outside of U: r unknowns in place of n + m.
            left, values, right = svd(both, full_matrices=False)
            features, back = left * values**2, right.T * values
        else:
            features = gram(both, both, self.kernel, self.gamma_)
            self.examples_ = both
        weights, eigenvalues, deviations = _solve(features, len(source), mu, count)
        if len(eigenvalues) < count:
            warnings.warn(
                f"The centred kernel has rank {len(eigenvalues)}, so that there are no more "
                f"components than that; n_components={count} was asked for.",
                stacklevel=3,
            )
        if self.whiten:
            weights = weights / deviations
        self.components_ = weights if back is None else back @ weights
        self.eigenvalues_ = eigenvalues

    def _map(self, X: np.ndarray) -> np.ndarray:
        X = self._prepared(X)
        if self.examples_ is not None:
            X = gram(X, self.examples_, self.kernel, self.gamma_)
        return np.asarray(X @ self.components_)

    def _prepared(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(normalize(X)) if self.unit_rows else X


def _solve(
    features: np.ndarray, sources: int, mu: float, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The leading solutions of FᵀHF w = λ (FᵀMF + μI) w, w of unit length, M of unit norm.

    Args:
        features: F, [n + m, r], the source first.
        sources: n.
        mu: μ.
        count: of solutions.

    Returns:
        w [r, c], λ [c] descending, and the standard deviations of F w [c], where c is ``count``
        or the rank of HF if that is less.
    """
    targets = len(features) - sources
    gap = features[:sources].mean(axis=0) - features[sources:].mean(axis=0)
    gap /= np.sqrt(1.0 / sources + 1.0 / targets)  # FᵀMF = gap gapᵀ
    squared = float(gap @ gap)
    direction = gap / np.sqrt(squared) if squared else gap
    # √μ (FᵀMF + μI)^(−1/2) = I + shrink · direction directionᵀ
    shrink = np.sqrt(mu / (mu + squared)) - 1.0
    centred = features - features.mean(axis=0)
    scaled = centred + shrink * np.outer(centred @ direction, direction)
    size = features.shape[1]
    values, vectors = _leading(scaled, min(count, size))
    # What rounding leaves of a constant is no component.
    noise = len(features) * size * np.finfo(np.float64).eps ** 2 * (features**2).max()
    kept = values > max(size * np.finfo(np.float64).eps * values[0], noise)
    if not kept.any():
        raise InvalidArgumentError(
            "All examples are the same to the kernel, so that there are no components; check the "
            "features, or take a smaller gamma."
        )
    values, vectors = values[kept], vectors[:, kept]
    weights = vectors + shrink * np.outer(direction, direction @ vectors)
    weights /= np.linalg.norm(weights, axis=0)
    largest = np.abs(weights).argmax(axis=0)
    weights *= np.sign(weights[largest, np.arange(weights.shape[1])])
    return weights, values / mu, (centred @ weights).std(axis=0)


def _leading(A: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest eigenvalues of AᵀA, descending [count], with their vectors [r, count]."""
    size = A.shape[1]
    if size > _LARGE and count * 10 < size:
        # Few of many: Lanczos needs products with vectors only.
        product = LinearOperator((size, size), matvec=lambda v: A.T @ (A @ v), dtype=A.dtype)
        start = np.random.default_rng(0).normal(size=size)
        try:
            values, vectors = eigsh(product, k=count, v0=start, ncv=min(size, 3 * count + 20))
            order = np.argsort(-values)
            return values[order], vectors[:, order]
        except ArpackError:
            pass  # as for a matrix of zeros
    values, vectors = eigh(A.T @ A, subset_by_index=(size - count, size - 1))
    return values[::-1], vectors[:, ::-1]
