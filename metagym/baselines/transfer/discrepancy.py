"""How far two samples are apart: the maximum mean discrepancy of Gretton et al. (2012).

MMD² = ‖μ_P − μ_Q‖² in the space of a kernel, "A kernel two-sample test", JMLR 13, with its
equations (3) and (5): the unbiased and the biased estimate; and a permutation test of P = Q.
Lecture topic: feature-representation transfer, the distance between domains.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics.pairwise import linear_kernel, rbf_kernel

from metagym.baselines.transfer.base import check_pair
from metagym.errors import InvalidArgumentError, check_above_zero, check_choice, check_positive

KERNELS = ("rbf", "linear")
_CHUNK = 250  # permutations at once


class MMDTest(NamedTuple):
    """Outcome of ``mmd_test``.

    Attributes:
        squared_mmd: of the two samples.
        p_value: the share of permutations, the given order among them, that are as far apart.
    """

    squared_mmd: float
    p_value: float


def squared_mmd(
    X: Any,
    Xt: Any,
    kernel: str = "rbf",
    gamma: float | None = None,
    *,
    unbiased: bool = True,
) -> float:
    """The squared maximum mean discrepancy of two samples.

    Args:
        X, Xt: [n, d] and [m, d].
        kernel: "rbf", exp(−γ‖x − x'‖²), or "linear", xᵀx'.
        gamma: of rbf; None: ``median_gamma`` of both samples.
        unbiased: leave the pairs of an example with itself out. The estimate can be negative then;
            the biased one never is, and for the linear kernel it is ‖mean(X) − mean(Xt)‖².

    Raises:
        InvalidArgumentError: no such kernel, a gamma that is not positive, other features in one
            sample than in the other, or, if unbiased, a sample of a single example.
        DataError: a value is not a finite number.
    """
    source, target = check_pair(X, Xt)
    matrix = _gram_of_both(source, target, kernel, gamma)
    first = np.arange(len(matrix)) < len(source)
    return float(_statistics(matrix, first[:, None], unbiased)[0])


def mmd_test(
    X: Any,
    Xt: Any,
    kernel: str = "rbf",
    gamma: float | None = None,
    *,
    permutations: int = 1000,
    random_state: int = 0,
) -> MMDTest:
    """Test by permutations whether two samples come from one distribution.

    Args:
        X, Xt, kernel, gamma: see ``squared_mmd``; the estimate is the unbiased one.
        permutations: random ways to divide the examples, which the p-value counts.
        random_state: of them.

    Raises:
        InvalidArgumentError, DataError: see ``squared_mmd``.
    """
    count = check_positive("permutations", permutations)
    source, target = check_pair(X, Xt)
    matrix = _gram_of_both(source, target, kernel, gamma)
    first = np.arange(len(matrix)) < len(source)
    found = float(_statistics(matrix, first[:, None], unbiased=True)[0])
    rng = np.random.default_rng(random_state)
    # Two divisions into the same halves differ by rounding; that is no difference.
    reached = found - 1e-12 * np.abs(matrix).max()
    as_far = 0
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        drawn = rng.permuted(np.tile(first, (size, 1)), axis=1).T
        as_far += int((_statistics(matrix, drawn, unbiased=True) >= reached).sum())
    return MMDTest(found, (1 + as_far) / (1 + count))


def median_gamma(X: Any, Xt: Any | None = None) -> float:
    """1 / the median squared distance of the pairs of different examples: the usual first guess.

    Args:
        X: [n, d].
        Xt: [m, d], pooled with them; None: there are no others.

    Raises:
        InvalidArgumentError: no two examples differ, so that every gamma is as good.
    """
    examples = np.vstack(check_pair(X, X if Xt is None else Xt))
    examples = examples[: len(np.asarray(X))] if Xt is None else examples
    distances = pdist(examples, "sqeuclidean")
    distances = distances[distances > 0.0]
    if not distances.size or not np.isfinite(scale := float(np.median(distances))):
        raise InvalidArgumentError(
            "The median heuristic needs two examples that differ by a finite distance; pass gamma."
        )
    return 1.0 / scale


def gram(X: np.ndarray, Y: np.ndarray, kernel: str, gamma: float | None) -> np.ndarray:
    """The kernel of all pairs: [n, d] × [m, d] -> [n, m].

    Args:
        X, Y: examples.
        kernel: one of ``KERNELS``.
        gamma: of rbf.
    """
    if check_choice("kernel", kernel, KERNELS) == "linear":
        return np.asarray(linear_kernel(X, Y))
    return np.asarray(rbf_kernel(X, Y, gamma=gamma))


def chosen_gamma(
    kernel: str, gamma: float | None, X: np.ndarray, Xt: np.ndarray | None = None
) -> float | None:
    """The gamma that a kernel works with: the given one, or ``median_gamma`` for rbf.

    Raises:
        InvalidArgumentError: it is not positive.
    """
    if gamma is not None:
        return check_above_zero("gamma", gamma)
    return median_gamma(X, Xt) if kernel == "rbf" else None


def _gram_of_both(
    source: np.ndarray, target: np.ndarray, kernel: str, gamma: float | None
) -> np.ndarray:
    check_choice("kernel", kernel, KERNELS)
    both = np.vstack([source, target])
    if kernel == "rbf" and gamma is None and not (cdist(both[:1], both) > 0.0).any():
        return np.ones((len(both), len(both)))  # every gamma gives this
    return gram(both, both, kernel, chosen_gamma(kernel, gamma, both))


def _statistics(matrix: np.ndarray, first: np.ndarray, unbiased: bool) -> np.ndarray:
    """The squared MMD for each column of ``first`` [N, divisions], True where in the sample X."""
    inside = first.astype(np.float64)
    n, m = inside[:, 0].sum(), (1.0 - inside[:, 0]).sum()
    if unbiased and min(n, m) < 2:
        raise InvalidArgumentError(
            f"The unbiased estimate needs two examples of each sample; it has {n:.0f} and {m:.0f}."
        )
    sums = matrix @ inside  # [N, divisions]
    within_x = (inside * sums).sum(axis=0)
    across = sums.sum(axis=0) - within_x
    within_y = matrix.sum() - within_x - 2.0 * across
    if not unbiased:
        return np.asarray(within_x / n**2 + within_y / m**2 - 2.0 * across / (n * m))
    own = np.diagonal(matrix)
    own_x = own @ inside
    return np.asarray(
        (within_x - own_x) / (n * (n - 1.0))
        + (within_y - (own.sum() - own_x)) / (m * (m - 1.0))
        - 2.0 * across / (n * m)
    )
