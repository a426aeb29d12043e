"""What no agent can beat on bandits whose optimum is out of reach: proven upper bounds.

An information relaxation (Brown, Smith & Sun 2010; for bandits Min, Maglaras & Moallemi 2019,
"Thompson sampling with information relaxation penalties") shows the agent every arm's rewards in
advance and charges, on average, nothing to an agent that does not look.

Proof. Let y be what the pulls of an arm say of it and m(y) the posterior mean of its reward. For
any function g pay, for a pull that leads from y to y',

    m(y) - g(y') + E[g(y') | y].

To an agent that does not see the future a pull is worth what it was before, in expectation: m(y)
is its expected reward, and the rest has mean zero. Its total is at most the largest that *any*
allocation of the n pulls earns on the same sequences of rewards. The mean of that maximum is
therefore a bound, whatever g. The maximum is exact: arms share nothing but the number of pulls,
so that it is a chain of max-plus convolutions.

g = 0 is the bound V-Zero of Min et al. Better is a multiple of the value of a *single* arm at a
price per pull: at multiple 1 the bound is never above the Lagrangian relaxation's (n pulls on
average), and often far below. Price and multiple are chosen on samples of their own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from metagym.errors import check_positive

WORK = 600_000_000  # samples · k · n², by default: a second or two
MIN_SAMPLES, MAX_SAMPLES = 64, 10_000
LARGEST = 20_000_000  # k · n² of what is sampled unasked
FOLDS = 8
_CHUNK = 4_000_000  # samples · k · n of one array
STEPS, MULTIPLES = (0.0, 0.2, 0.4), (0.4, 0.7, 1.0)  # of the search for g


class Bound(NamedTuple):
    """An upper bound: a Monte-Carlo mean and its standard error."""

    value: float
    standard_error: float


class _Sample(NamedTuple):
    """Arms and what their first n pulls would say, for S trials."""

    controls: np.ndarray  # [S, 4], of which expectations are known; see ``_sample``
    sums: np.ndarray  # [S, k, n + 1], of the rewards of the first m pulls
    means: np.ndarray  # [S, k, n], the posterior mean before each pull


@functools.lru_cache(maxsize=64)
def bernoulli_bound(
    n: int,
    k: int,
    alpha: float = 1.0,
    beta: float = 1.0,
    samples: int | None = None,
    seed: int = 0,
) -> Bound:
    """No agent's expected reward in n pulls of k arms with Beta(alpha, beta) chances is above it.

    Args:
        n: pulls.
        k: arms.
        alpha: of the prior.
        beta: of the prior.
        samples: trials that are drawn, at least 64. By default what takes a second or two, and
            none where that does not suffice: then the bound is n pulls of the best arm.
        seed: of the draws.

    Raises:
        InvalidArgumentError: n, k or samples is no positive whole number.
    """
    from scipy.special import betainc  # slow to import

    n, k, size = _check(n, k, samples)
    grid = np.linspace(0.0, 1.0, 20_001)
    moments = _moments(grid, betainc(alpha, beta, grid) ** k)
    if samples is None and k * n * n > LARGEST:
        return Bound(n * float(moments[0]), 0.0)
    price = lagrangian(n, k, alpha, beta)[1]
    penalties = [
        multiple * single_arm(n, price + (1.0 - price) * step, alpha, beta)
        for step in STEPS
        for multiple in MULTIPLES
    ]

    def draw(rng: np.random.Generator, size: int) -> _Sample:
        chances = rng.beta(alpha, beta, (size, k))
        wins = rng.random((size, k, n)) < chances[:, :, None]
        return _sample(chances, wins, alpha, alpha + beta)

    return _estimate(draw, penalties, alpha, alpha + beta, moments, k * n, size, seed)


@functools.lru_cache(maxsize=64)
def gaussian_bound(
    n: int, k: int, noise: float = 1.0, samples: int | None = None, seed: int = 0
) -> Bound:
    """As ``bernoulli_bound`` for Gaussian arms with standard normal means, with g = 0.

    Args:
        n: pulls.
        k: arms.
        noise: standard deviation of an arm's rewards.
        samples: trials that are drawn, at least 64. By default what takes a second or two, and
            none where that does not suffice: then the bound is n pulls of the best arm.
        seed: of the draws.
    """
    from scipy.special import ndtr  # slow to import

    n, k, size = _check(n, k, samples)
    grid = np.linspace(-10.0, 10.0, 20_001)
    moments = _moments(grid, ndtr(grid) ** k)
    if samples is None and k * n * n > LARGEST:
        return Bound(n * float(moments[0]), 0.0)

    def draw(rng: np.random.Generator, size: int) -> _Sample:
        means = rng.standard_normal((size, k))
        rewards = means[:, :, None] + noise * rng.standard_normal((size, k, n))
        return _sample(means, rewards, 0.0, noise**2)

    return _estimate(draw, [None], 0.0, noise**2, moments, k * n, size, seed)


def single_arm(n: int, price: float, alpha: float = 1.0, beta: float = 1.0) -> np.ndarray:
    """The value [n + 1, n + 1] of one arm after m pulls and s wins, of at most n pulls in all.

    Each further pull costs ``price``; the owner may stop at any time. Entries with s > m are 0.
    """
    m, s = np.arange(n + 1.0)[:, None], np.arange(n + 1.0)
    chance = (s + alpha) / (m + alpha + beta)
    value = np.zeros((n + 1, n + 1))
    for t in range(n - 1, -1, -1):
        p = chance[t, : t + 1]
        go_on = p - price + p * value[t + 1, 1 : t + 2] + (1.0 - p) * value[t + 1, : t + 1]
        np.maximum(go_on, 0.0, out=value[t, : t + 1])
    return value


def lagrangian(n: int, k: int, alpha: float = 1.0, beta: float = 1.0) -> tuple[float, float]:
    """The Lagrangian relaxation, a looser bound without sampling: its value and its price.

    min over prices of n · price + k · single_arm(price): the agent may pull as many arms as it
    likes at each step, n on average in all (Whittle 1988).
    """

    def value(price: float) -> float:
        return n * price + k * float(single_arm(n, price, alpha, beta)[0, 0])

    low, high = 0.0, 1.0  # golden section: the value is convex in the price
    ratio = (5**0.5 - 1) / 2
    left, right = high - ratio, low + ratio
    at_left, at_right = value(left), value(right)
    while high - low > 1e-5:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = value(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = value(right)
    return (at_left, left) if at_left < at_right else (at_right, right)


# -- the inside --------------------------------------------------------------------------------


def _estimate(
    draw: Callable[[np.random.Generator, int], _Sample],
    penalties: Sequence[np.ndarray | None],
    prior_sum: float,
    strength: float,
    moments: np.ndarray,
    pulls: int,
    samples: int,
    seed: int,
) -> Bound:
    """The mean of the relaxed optimum, less what controls of known ``moments`` explain of it."""
    pilot_rng, rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))

    def relaxed(sample: _Sample, penalty: np.ndarray | None) -> np.ndarray:
        return best_allocation(_payments(sample, penalty, prior_sum, strength))

    per_chunk = max(16, _CHUNK // pulls)
    penalty = penalties[0]
    if len(penalties) > 1:
        pilot = draw(pilot_rng, min(per_chunk, max(16, samples // 10)))
        best = pilot.controls[:, 0] - pilot.controls[:, 0].mean()
        luck = float(pilot.controls[:, 0].mean() - moments[0])  # of the pilot's arms

        def mean(penalty: np.ndarray | None) -> float:
            values = relaxed(pilot, penalty)
            return float(values.mean() - luck * (best @ values) / (best @ best))

        penalty = min(penalties, key=mean)
    values, controls = np.zeros(samples), np.zeros((samples, len(moments)))
    for start in range(0, samples, per_chunk):
        rows = slice(start, min(start + per_chunk, samples))
        sample = draw(rng, rows.stop - start)
        values[rows], controls[rows] = relaxed(sample, penalty), sample.controls - moments
    # What explains a sample is fitted to the others, lest the mean be biased.
    fold, rest = np.arange(samples) % FOLDS, values.copy()
    for i in range(FOLDS):
        known, centre = fold != i, controls[fold != i].mean(axis=0)
        fit = np.linalg.lstsq(controls[known] - centre, values[known], rcond=None)[0]
        rest[fold == i] -= controls[fold == i] @ fit
    return Bound(float(rest.mean()), float(rest.std(ddof=1) / samples**0.5))


def _payments(
    sample: _Sample, penalty: np.ndarray | None, prior_sum: float, strength: float
) -> np.ndarray:
    """What the m-th pull of each arm pays, [S, k, n]."""
    if penalty is None:
        return sample.means
    chance = (np.arange(len(penalty)) + prior_sum) / (np.arange(len(penalty))[:, None] + strength)
    p = chance[:-1, :-1]
    expected = p * penalty[1:, 1:] + (1.0 - p) * penalty[1:, :-1]
    m = np.arange(len(penalty))
    after = penalty[m[1:], sample.sums[..., 1:]]
    return sample.means - after + expected[m[:-1], sample.sums[..., :-1]]


def best_allocation(payments: np.ndarray) -> np.ndarray:
    """The largest sum [S] of n payments [S, k, n] in all, of each arm the first few."""
    size, k, n = payments.shape
    totals = np.zeros((size, k, n + 1))
    np.cumsum(payments, axis=2, out=totals[:, :, 1:])
    best = totals[:, 0]
    for arm in range(1, k - 1):
        other, joint = totals[:, arm], np.full((size, n + 1), -np.inf)
        for pulls in range(n + 1):
            here = joint[:, pulls:]
            np.maximum(here, best[:, : n + 1 - pulls] + other[:, pulls, None], out=here)
        best = joint
    if k == 1:
        return np.array(best[:, n])
    largest: np.ndarray = (best + totals[:, k - 1, ::-1]).max(axis=1)
    return largest


def _sample(arms: np.ndarray, rewards: np.ndarray, prior_sum: float, strength: float) -> _Sample:
    """Controls are the best arm's mean and its square, and the luck of it and of all arms.

    Luck is the sum of an arm's posterior means beyond what its true mean lets one expect: 0 on
    average.
    """
    m = np.arange(rewards.shape[2])
    sums = np.zeros((*rewards.shape[:2], len(m) + 1), np.result_type(rewards, np.int32))
    np.cumsum(rewards, axis=2, out=sums[:, :, 1:])
    means = (sums[:, :, :-1] + prior_sum) / (m + strength)
    expected = arms * (m / (m + strength)).sum() + (prior_sum / (m + strength)).sum()
    luck = means.sum(axis=2) - expected
    at = arms.argmax(axis=1)[:, None]
    best, its_luck = (np.take_along_axis(x, at, axis=1)[:, 0] for x in (arms, luck))
    return _Sample(np.stack([best, best**2, its_luck, luck.sum(axis=1)], axis=1), sums, means)


def _moments(grid: np.ndarray, below: np.ndarray) -> np.ndarray:
    """The controls' expectations; ``below`` is the best arm's distribution function on a grid."""
    middle, mass = (grid[1:] + grid[:-1]) / 2, np.diff(below)
    return np.array([middle @ mass, middle**2 @ mass, 0.0, 0.0])


def _check(n: int, k: int, samples: int | None) -> tuple[int, int, int]:
    n, k = check_positive("n", n), check_positive("k", k)
    if samples is None:
        samples = min(MAX_SAMPLES, WORK // (k * n * n))
    else:
        check_positive("samples", samples)
    return n, k, max(MIN_SAMPLES, samples)
