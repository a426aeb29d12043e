"""Gittins indices of Bernoulli arms, with a finite horizon or a discount.

The index of an arm is the price per pull at which one is indifferent between pulling it, as long
as one likes, and leaving it (Gittins 1979). Pulling the arm of highest index is optimal for a
discounted reward without end. With n pulls left the same price with at most n pulls is the
finite-horizon index of Kaufmann (2018, "On Bayesian index policies for sequential resource
allocation"): not optimal, but close.

Computed by calibration: for each of a grid of prices, the values of all states by backward
induction, and the index where going on is worth nothing, by linear interpolation between prices.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from metagym.errors import InvalidArgumentError, check_positive

PRICES = 64
MAX_PULLS = 1000
EVERY = 32  # horizons up to here are all tabulated, longer ones in steps of a tenth


@dataclass(frozen=True)
class GittinsTable:
    """Indices for a trial of n pulls.

    Attributes:
        horizons: the tabulated numbers of pulls left, ascending [H].
        indices: float32 [H, n, n]: the index after m pulls and s wins, for the horizon.
        row: int64 [n + 1]: the row for so many pulls left, that of the next shorter horizon.
    """

    horizons: np.ndarray
    indices: np.ndarray
    row: np.ndarray


@functools.lru_cache(maxsize=8)
def gittins_table(
    n: int, alpha: float = 1.0, beta: float = 1.0, discount: float = 1.0, prices: int = PRICES
) -> GittinsTable:
    """The indices of an arm whose chance of a win is Beta(alpha, beta).

    The work grows with n³: about ten seconds at n = 500, once per process.

    Args:
        n: pulls of a trial.
        alpha: of the prior.
        beta: of the prior.
        discount: of each further pull, in (0, 1].
        prices: of the grid; the error falls with its square.

    Raises:
        InvalidArgumentError: an argument has an impossible value.
    """
    n, prices = check_positive("n", n), check_positive("prices", prices)
    if not 0.0 < discount <= 1.0:
        raise InvalidArgumentError(f"discount={discount!r} has to lie in (0, 1].")
    if n > MAX_PULLS:
        raise InvalidArgumentError(
            f"n={n}: the Gittins indices of so many pulls take too long (n³), at most {MAX_PULLS} "
            "do not; use the agent ucb1 or thompson."
        )
    kept = horizons(n)
    position = {int(left): i for i, left in enumerate(kept)}
    m, s = np.arange(n)[:, None], np.arange(n)
    # float32 halves the time; it is good for six digits here.
    p = np.where(s <= m, (s + alpha) / (m + alpha + beta), 0.0).astype(np.float32)
    indices = np.zeros((len(kept), n, n), np.float32)
    above = np.zeros_like(indices)  # the worth of going on at the last price, a loss so far
    work, values = np.zeros((n, n), np.float32), np.zeros((n + 1, n + 1), np.float32)
    # Closer to each other towards 0 and 1, as the posteriors are narrower there.
    grid = (0.5 + 0.5 * np.cos(np.linspace(0.0, np.pi, prices + 1))).astype(np.float32)
    for price, last in zip(grid, [grid[0], *grid], strict=False):
        values[:] = 0.0
        for left in range(1, n + 1):  # values: of the states with left - 1 pulls to go
            size = n + 1 - left
            won, lost = values[1 : size + 1, 1 : size + 1], values[1 : size + 1, :size]
            go_on = np.subtract(won, lost, out=work[:size, :size])
            go_on *= p[:size, :size]
            go_on += lost
            go_on *= discount
            go_on += p[:size, :size]
            go_on -= price
            if left in position:
                _find_roots(indices, above, position[left], go_on, price, last)
            np.maximum(go_on, 0.0, out=values[:size, :size])
    row = np.searchsorted(kept, np.arange(n + 1), side="right") - 1
    return GittinsTable(kept, indices, np.maximum(row, 0))


def horizons(n: int) -> np.ndarray:
    """The numbers of pulls left that a table for n pulls holds, ascending."""
    kept = list(range(1, min(n, EVERY) + 1))
    while kept[-1] < n:
        kept.append(min(n, int(kept[-1] * 1.1)))
    return np.array(kept)


def _find_roots(
    indices: np.ndarray, above: np.ndarray, at: int, go_on: np.ndarray, price: float, last: float
) -> None:
    """Set the indices that lie between this price and the ``last`` one, which was higher."""
    size = len(go_on)
    before, found = above[at, :size, :size], indices[at, :size, :size]
    crossed = (go_on >= 0.0) & (before < 0.0)
    worth = go_on[crossed]
    found[crossed] = price + (last - price) * worth / (worth - before[crossed])
    before[:] = go_on
