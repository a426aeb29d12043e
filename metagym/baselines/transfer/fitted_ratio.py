"""The density ratio itself fitted as a sum of Gaussian kernels: what fits have in common, KLIEP.

    β(x) = Σ_l α_l k(x, c_l),  α ≥ 0,  the centres c_l drawn from the target

Lecture topic: instance transfer. No density is estimated on the way. Sugiyama et al. (2008),
Direct importance estimation for covariate shift adaptation; ``least_squares_ratio`` has the fits
by squared error. What is not given (width, regularisation) is chosen by cross-validation on the
criterion that is optimised, which needs neither labels nor the true ratio.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold

from metagym.baselines.transfer.convex import TINY, most_likely_shares
from metagym.baselines.transfer.density_ratio import DensityRatio
from metagym.baselines.transfer.widths import candidate_widths, gaussian_kernel
from metagym.errors import InvalidArgumentError, check_positive


class KernelRatio(DensityRatio):
    """What KLIEP, LSIF and uLSIF have in common: centres, and the choice among candidates.

    Attributes:
        centres_: [b, d].
        coef_: α [b].
        width_: σ of the kernels.
        scores_: of each candidate in cross-validation, larger is better; empty if there was no
            choice. Keys are widths for KLIEP, else pairs of width and regularisation.
    """

    width: float | None
    centres: int
    random_state: int

    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        count = min(check_positive("centres", self.centres), len(target))
        rng = np.random.default_rng(self.random_state)
        self.centres_ = target[np.sort(rng.choice(len(target), count, replace=False))]
        self.scores_: dict[Any, float] = {}
        self._fit_coefficients(source, target, candidate_widths(self.width, source, target))

    def _fit_coefficients(
        self, source: np.ndarray, target: np.ndarray, widths: tuple[float, ...]
    ) -> None:
        raise NotImplementedError

    def _ratio(self, X: np.ndarray) -> np.ndarray:
        ratios: np.ndarray = gaussian_kernel(X, self.centres_, self.width_) @ self.coef_
        return ratios

    def _kernels(
        self, source: np.ndarray, target: np.ndarray, width: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """k(x, c) of the source [n, b] and of the target [m, b]."""
        return (
            gaussian_kernel(source, self.centres_, width),
            gaussian_kernel(target, self.centres_, width),
        )

    def _best(self) -> Any:
        """The candidate of the highest score; the first of equal ones."""
        best = max(self.scores_, key=lambda candidate: self.scores_[candidate])
        if np.isfinite(self.scores_[best]):
            return best
        raise InvalidArgumentError(
            f"No candidate of {type(self).__name__} has a finite score: source and target do not "
            "overlap, or there are too few examples to leave some out. Give the width."
        )


class KLIEP(KernelRatio):
    """The Kullback-Leibler importance estimation procedure (Sugiyama et al. 2008).

    Minimises KL(p_T ‖ β p_S): maximise mean_T log β(x) with mean_S β(x) = 1 and α ≥ 0. Where the
    paper climbs by projected gradients, this solves it by ``most_likely_shares``. The width is
    that of the highest likelihood of held-out target examples (likelihood cross-validation);
    the source is never split.

    Args:
        width: σ; None: chosen among multiples of the median distance.
        centres: at most so many target examples.
        folds: of cross-validation.
        tol: of the mean log-likelihood.
        max_iter: steps; a ``ConvergenceWarning`` tells that they were not enough.
        random_state: of centres and folds.
    """

    def __init__(
        self,
        width: float | None = None,
        centres: int = 100,
        folds: int = 5,
        tol: float = 1e-4,
        max_iter: int = 200,
        random_state: int = 0,
    ) -> None:
        self.width = width
        self.centres = centres
        self.folds = folds
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def _fit_coefficients(
        self, source: np.ndarray, target: np.ndarray, widths: tuple[float, ...]
    ) -> None:
        self.width_ = widths[0]
        if len(widths) > 1:
            for width in widths:
                in_source, in_target = self._kernels(source, target, width)
                held_out = []
                for learn, judge in splits(len(target), self.folds, self.random_state):
                    coef = self._maximise(in_source, in_target[learn])
                    ratios = np.maximum(in_target[judge] @ coef, TINY)
                    held_out.append(float(np.log(ratios).mean()))
                self.scores_[width] = float(np.mean(held_out)) if held_out else -np.inf
            self.width_ = self._best()
        self.coef_ = self._maximise(*self._kernels(source, target, self.width_))

    def _maximise(self, in_source: np.ndarray, in_target: np.ndarray) -> np.ndarray:
        """α of the highest likelihood of ``in_target`` [m, b] under the constraint."""
        means = in_source.mean(axis=0)
        reached = means > TINY  # other centres see nothing of the source
        coef = np.zeros_like(means)
        if not reached.any():
            return coef
        shares, missing = most_likely_shares(
            in_target[:, reached] / means[reached], self.tol, self.max_iter
        )
        if missing > self.tol:
            warnings.warn(
                f"KLIEP stopped after {self.max_iter} steps, within {missing:.2g} of the highest "
                "log-likelihood; raise max_iter.",
                ConvergenceWarning,
                stacklevel=2,
            )
        coef[reached] = shares / means[reached]
        return coef


def splits(count: int, folds: Any, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(learn, judge) of at most ``folds`` folds; none where nothing could be left out."""
    folds = min(count, check_positive("folds", folds))
    if folds < 2:
        return []
    return list(KFold(folds, shuffle=True, random_state=seed).split(np.empty(count)))
