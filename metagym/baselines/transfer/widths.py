"""Gaussian kernels and their widths: one convention for every method of transfer.

k(x, c) = exp(−‖x − c‖² / 2σ²), σ the width in the units of the features. Where a width is not
given, it is the median distance between examples, or a multiple of it that cross-validation picks
(the median heuristic: Schölkopf & Smola 2002; Gretton et al. 2012, "A kernel two-sample test").
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics.pairwise import rbf_kernel

from metagym.baselines.transfer.discrepancy import median_gamma
from metagym.errors import InvalidArgumentError, check_above_zero

MULTIPLES = (0.25, 0.5, 1.0, 2.0)  # of the median distance, for cross-validation
_ROWS = 1000  # whose distances are measured


def gaussian_kernel(X: np.ndarray, centres: np.ndarray, width: float) -> np.ndarray:
    """k(X[i], centres[j]) of [n, d] and [b, d]: [n, b]."""
    kernel: np.ndarray = rbf_kernel(X, centres, gamma=0.5 / width**2)
    return kernel


def median_width(X: np.ndarray, Xt: np.ndarray) -> float:
    """The median distance between two different examples of both samples [n, d] and [m, d].

    As ``median_gamma``, in which γ = 1 / σ². Of more than 1,000 examples evenly spaced rows are
    measured.

    Raises:
        InvalidArgumentError: all examples are the same, so that no kernel can tell them apart.
    """
    pooled = np.concatenate([X, Xt])
    if len(pooled) > _ROWS:
        pooled = pooled[np.linspace(0, len(pooled) - 1, _ROWS).astype(int)]
    if not (pooled != pooled[0]).any():
        raise InvalidArgumentError(
            f"All {len(pooled)} examples of source and target are the same; a kernel cannot tell "
            "them apart. Check how they were loaded."
        )
    return float(median_gamma(pooled) ** -0.5)


def candidate_widths(width: Any, X: np.ndarray, Xt: np.ndarray) -> tuple[float, ...]:
    """The width that was given, or ``MULTIPLES`` of the median distance for None.

    Raises:
        InvalidArgumentError: not a positive number.
    """
    if width is not None:
        return (check_above_zero("width", width),)
    median = median_width(X, Xt)
    return tuple(median * multiple for multiple in MULTIPLES)
