"""Kernel mean matching: weights that move the source's mean in feature space onto the target's.

Lecture topic: instance transfer. Huang, Smola, Gretton, Borgwardt & Schölkopf (2007), Correcting
sample selection bias by unlabeled data; Gretton et al. (2009), Covariate shift
by kernel mean matching.
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from metagym.baselines.transfer.convex import Slab, minimise
from metagym.baselines.transfer.density_ratio import DensityRatio
from metagym.baselines.transfer.widths import gaussian_kernel, median_width
from metagym.errors import InvalidArgumentError, check_above_zero, check_positive


class KernelMeanMatching(DensityRatio):
    """Weights of the source examples that match the kernel means.

        min ½ βᵀ (K + λ I) β − κᵀ β  subject to 0 ≤ β_i ≤ B and |Σ β_i − n| ≤ n ε,
        K_ij = k(x_i, x_j),  κ_i = (n / m) Σ_j k(x_i, x_j^T)

    For λ = 0, the paper's program, this is n² / 2 times the squared maximum mean discrepancy
    between the weighted source and the target, but for a constant. It then matches the noise of
    both samples too, with a few large weights: the means come out well, the ratio does not. The
    default λ = 1 counts k(x_i, x_i) = 1 twice and spreads the weights out again.

    There is one weight per source example and no function of x: ``weights`` answers for the ``X``
    of ``fit`` only. The criterion has no cross-validation either, as weights of held-out examples
    do not exist; the width is the median distance.

    Args:
        width: σ; None: the median distance between examples.
        bound: B > 0, the largest weight.
        ridge: λ ≥ 0.
        slack: ε ≥ 0; 0: the weights sum to n. None: (√n − 1) / √n, as in the paper, wide enough
            to leave the sum to the means.
        tol: on the squared discrepancy, by the duality gap; 10⁻⁶ is small beside its noise.
        max_iter: steps; a ``ConvergenceWarning`` tells that they were not enough.

    Attributes:
        coef_: β [n], the solution, before its mean is set to 1.
        width_: σ.
        discrepancy_: the squared maximum mean discrepancy between weighted source and target.
    """

    def __init__(
        self,
        width: float | None = None,
        bound: float = 1000.0,
        ridge: float = 1.0,
        slack: float | None = None,
        tol: float = 1e-6,
        max_iter: int = 10_000,
    ) -> None:
        self.width = width
        self.bound = bound
        self.ridge = ridge
        self.slack = slack
        self.tol = tol
        self.max_iter = max_iter

    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        n = len(source)
        bound = check_above_zero("bound", self.bound)
        slack = (np.sqrt(n) - 1.0) / np.sqrt(n) if self.slack is None else float(self.slack)
        if not 0.0 <= slack < np.inf:
            raise InvalidArgumentError(f"slack={self.slack!r} has to be at least 0, or None.")
        ridge = float(self.ridge)
        if not 0.0 <= ridge < np.inf:
            raise InvalidArgumentError(f"ridge={self.ridge!r} has to be at least 0.")
        if bound < 1.0 - slack:
            raise InvalidArgumentError(
                f"No weights of at most bound={bound:g} have a mean of at least 1 − slack = "
                f"{1.0 - slack:g}; raise bound or slack."
            )
        width = self.width
        self.width_ = (
            median_width(source, target) if width is None else check_above_zero("width", width)
        )
        K = gaussian_kernel(source, source, self.width_)
        means = gaussian_kernel(source, target, self.width_).mean(axis=1)
        feasible = Slab(bound, max(0.0, n * (1.0 - slack)), n * min(bound, 1.0 + slack))
        tol = 0.5 * n**2 * check_above_zero("tol", self.tol)
        self.coef_, gap = minimise(
            K + ridge * np.eye(n),
            n * means,
            feasible,
            tol,
            check_positive("max_iter", self.max_iter),
        )
        if gap > tol:
            warnings.warn(
                f"Kernel mean matching stopped after {self.max_iter} steps, the squared "
                f"discrepancy within {2.0 * gap / n**2:.2g} of the smallest; raise max_iter.",
                ConvergenceWarning,
                stacklevel=3,
            )
        within = gaussian_kernel(target, target, self.width_).mean()
        share = self.coef_ / n
        self.discrepancy_ = float(max(0.0, share @ K @ share - 2.0 * share @ means + within))
        self._source = source

    def _ratio(self, X: np.ndarray) -> np.ndarray:
        if not np.array_equal(X, self._source):
            raise InvalidArgumentError(
                f"Kernel mean matching has weights for the {len(self._source)} source examples of "
                "fit, in their order, and for no others. For a ratio that is a function of x use "
                "ClassifierRatio, KLIEP, LSIF or ULSIF."
            )
        return self.coef_
