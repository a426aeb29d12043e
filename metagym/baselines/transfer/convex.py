"""The convex programs behind weights: each solver bounds, or knows, how far it is from the optimum.

What scipy has (non-negative least squares) does the work where it fits. None of the programs needs
a step size, and none breaks on a singular kernel matrix.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.optimize

from metagym.errors import check_positive

TINY = 1e-200  # stands for 0 in logarithms and denominators


def nonnegative_minimum(H: np.ndarray, c: np.ndarray) -> np.ndarray:
    """argmin ½ αᵀ H α − cᵀ α over α ≥ 0, by an active set (Lawson & Hanson 1974, chapter 23).

    With H = V E Vᵀ it is the non-negative least-squares problem ‖E^½ Vᵀ α − E^−½ Vᵀ c‖², in units
    of α that make the diagonal of H 1. Kernel matrices of wide kernels are singular to working
    precision; in these units, eigenvalues below 10⁻⁸ of the largest are raised to that.

    Args:
        H: positive semi-definite [b, b]; 0 gives α = 0.
        c: [b].
    """
    diagonal = H.diagonal()
    if not diagonal.any():
        return np.zeros_like(c)
    unit = 1.0 / np.sqrt(np.maximum(diagonal, 1e-16 * diagonal.max()))
    values, vectors = scipy.linalg.eigh(unit[:, None] * H * unit)
    roots = np.sqrt(np.maximum(values, 1e-8 * values[-1]))
    scaled, _ = scipy.optimize.nnls(roots[:, None] * vectors.T, (vectors.T @ (unit * c)) / roots)
    alpha: np.ndarray = unit * scaled
    return alpha


def most_likely_shares(
    components: np.ndarray, tol: float, max_iter: int
) -> tuple[np.ndarray, float]:
    """argmax of mean_i log Σ_l components[i, l] s_l over the simplex; a bound of what it misses.

    The shares of a mixture. Without the constraint, minus Σ s, the maximum is the same and lies on
    the simplex; Newton's method, each quadratic model minimised over s ≥ 0 (Kim, Carbonetto,
    Stephens & Anitescu 2020, A fast algorithm for maximum likelihood estimation of mixture
    proportions). By concavity no shares are better by more than max_l ∂_l − 1.

    Args:
        components: at least 0 [m, b].
        tol: of the mean log-likelihood.
        max_iter: steps at most.
    """
    shares = np.full(components.shape[1], 1.0 / components.shape[1])
    missing = np.inf
    for _ in range(check_positive("max_iter", max_iter)):
        relative = components / np.maximum(components @ shares, TINY)[:, None]
        gains = relative.mean(axis=0)
        missing = float(gains.max()) - 1.0
        if missing <= tol:
            break
        goal = nonnegative_minimum(relative.T @ relative / len(relative), 2.0 * gains - 1.0)
        shares = _towards(goal, shares, components, gains)
    return shares, missing


def _towards(
    goal: np.ndarray, shares: np.ndarray, components: np.ndarray, gains: np.ndarray
) -> np.ndarray:
    """The shares at the longest step, by halving, that climbs at least 1 % of what it promises."""
    step = goal / goal.sum() - shares
    slope = float(gains @ step)
    now, change = np.maximum(components @ shares, TINY), components @ step
    size = 1.0
    while size > 1e-10:
        after = np.maximum(now + size * change, TINY)
        if np.log(after / now).mean() >= 0.01 * size * slope:
            break
        size *= 0.5
    found: np.ndarray = shares + size * step
    return found / found.sum()


class Slab:
    """{β [n]: 0 ≤ β_i ≤ bound, low ≤ Σ β_i ≤ high}, with 0 ≤ low ≤ high ≤ n · bound."""

    def __init__(self, bound: float, low: float, high: float) -> None:
        self.bound, self.low, self.high = bound, low, high

    def project(self, point: np.ndarray) -> np.ndarray:
        """The nearest β, exactly: clip(point − τ), τ by the sum, which is piecewise linear in τ."""
        inside = np.clip(point, 0.0, self.bound)
        total = float(np.clip(inside.sum(), self.low, self.high))
        if total == inside.sum():
            return inside
        knots = np.concatenate([point - self.bound, point])
        slopes = np.repeat([-1.0, 1.0], len(point))
        order = np.argsort(knots, kind="stable")
        knots, slopes = knots[order], np.cumsum(slopes[order])
        sums = len(point) * self.bound + np.cumsum(slopes[:-1] * np.diff(knots))
        sums = np.concatenate([[len(point) * self.bound], sums])
        shift = np.interp(total, sums[::-1], knots[::-1])
        projected: np.ndarray = np.clip(point - shift, 0.0, self.bound)
        return projected

    def lowest(self, slopes: np.ndarray) -> np.ndarray:
        """The β of the smallest ``slopes`` · β: the cheapest entries filled up first."""
        total = np.clip(self.bound * (slopes < 0.0).sum(), self.low, self.high)
        filled = np.clip(total - self.bound * np.arange(len(slopes)), 0.0, self.bound)
        beta = np.empty_like(slopes)
        beta[np.argsort(slopes, kind="stable")] = filled
        return beta


def minimise(
    K: np.ndarray, c: np.ndarray, feasible: Slab, tol: float, max_iter: int
) -> tuple[np.ndarray, float]:
    """argmin ½ βᵀ K β − cᵀ β over ``feasible``, and a bound of its distance from the minimum.

    Accelerated projected gradients (Beck & Teboulle 2009) that restart where momentum turns
    against the gradient (O'Donoghue & Candès 2015). K is only ever multiplied with, so a singular
    one needs no jitter. The bound is the duality gap of Jaggi (2013): max over feasible s of
    ∇ · (β − s).

    Args:
        K: positive semi-definite with entries of at least 0 [n, n].
        c: [n].
        feasible: the constraints.
        tol: gap at which to stop.
        max_iter: steps after which to stop.
    """
    rate = 1.0 / K.sum(axis=1).max()  # rows of a non-negative matrix bound its eigenvalues
    beta = ahead = feasible.project(np.ones(len(c)))
    momentum = 1.0
    for step in range(max_iter + 1):
        if step % 10 == 0 or step == max_iter:
            slopes = K @ beta - c
            gap = float(slopes @ (beta - feasible.lowest(slopes)))
            if gap <= tol or step == max_iter:
                break
        new = feasible.project(ahead - rate * (K @ ahead - c))
        if (ahead - new) @ (new - beta) > 0.0:
            momentum = 1.0
        following = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
        ahead = new + (momentum - 1.0) / following * (new - beta)
        beta, momentum = new, following
    return beta, gap
