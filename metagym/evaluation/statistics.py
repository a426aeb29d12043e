"""The statistics of every table: mean, IQM, bootstrap intervals, paired comparisons.

The definitions are those of Agarwal et al., "Deep reinforcement learning at the edge of the
statistical precipice" (2021): the interquartile mean, percentile intervals of a bootstrap that
resamples within each stratum (task), and the probability of improvement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from metagym.errors import InvalidArgumentError

CONFIDENCE = 0.95
RESAMPLES = 2000
_CHUNK = 2_000_000  # scores drawn at once, so that memory stays below about 50 MB

Statistic = Callable[[np.ndarray], np.ndarray]


class Estimate(NamedTuple):
    """A value and the bounds of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def mean(scores: np.ndarray) -> np.ndarray:
    """The mean over the last axis."""
    return np.asarray(scores, dtype=np.float64).mean(axis=-1)


def iqm(scores: np.ndarray) -> np.ndarray:
    """The interquartile mean over the last axis: without the lowest and the highest quarter.

    As scipy's ``trim_mean(scores, 0.25)``: of n scores, ``int(n / 4)`` are cut at each end.
    """
    scores = np.asarray(scores, dtype=np.float64)
    n = scores.shape[-1]
    cut = n // 4
    if cut:
        scores = np.partition(scores, (cut, n - cut - 1), axis=-1)[..., cut : n - cut]
    return scores.mean(axis=-1)


def bootstrap_interval(
    scores: Sequence[float] | np.ndarray,
    statistic: Statistic = mean,
    *,
    strata: Sequence[int] | np.ndarray | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % percentile interval of ``statistic`` under resampling with replacement.

    Args:
        scores: [n].
        statistic: maps [..., n] to [...], such as ``mean`` and ``iqm``.
        strata: [n] labels; scores are resampled within each label (a task, an environment), so
            that every resample holds as many of each as the data. None: one stratum.
        seed: of the resampling.

    Raises:
        InvalidArgumentError: no scores, a non-finite score, or labels of another length.
    """
    scores = _check(scores)
    labels = np.zeros(len(scores), dtype=int) if strata is None else np.asarray(strata)
    if labels.shape != scores.shape:
        raise InvalidArgumentError(f"{len(labels)} strata labels for {len(scores)} scores.")
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    rng = np.random.default_rng(seed)
    values = []
    for size in _chunks(RESAMPLES, max(1, _CHUNK // len(scores))):
        drawn = [group[rng.integers(len(group), size=(size, len(group)))] for group in groups]
        values.append(statistic(scores[np.concatenate(drawn, axis=1)]))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(values), (tail, 1 - tail))
    return float(low), float(high)


def estimate(
    scores: Sequence[float] | np.ndarray,
    statistic: Statistic = mean,
    *,
    strata: Sequence[int] | np.ndarray | None = None,
    seed: int = 0,
) -> Estimate:
    """``statistic`` of the scores with its interval; see ``bootstrap_interval``."""
    low, high = bootstrap_interval(scores, statistic, strata=strata, seed=seed)
    return Estimate(float(statistic(_check(scores))), low, high)


def paired_difference(
    scores: Sequence[float] | np.ndarray,
    reference: Sequence[float] | np.ndarray,
    *,
    seed: int = 0,
) -> Estimate:
    """The mean of ``scores - reference`` [n], task by task, with its interval.

    Raises:
        InvalidArgumentError: the two are not of the same length, so that they are no pairs.
    """
    scores, reference = _check(scores), _check(reference)
    if scores.shape != reference.shape:
        raise InvalidArgumentError(
            f"{len(scores)} scores cannot be paired with {len(reference)}; evaluate both with the "
            "same seed, episodes and num_envs."
        )
    return estimate(scores - reference, seed=seed)


def probability_of_improvement(
    scores: Sequence[float] | np.ndarray,
    reference: Sequence[float] | np.ndarray,
    *,
    minimize: bool = False,
) -> float:
    """P(a random score beats a random reference score), ties counted half (Mann-Whitney's U).

    Args:
        scores: [n].
        reference: [m].
        minimize: True where a smaller score is better.
    """
    scores, reference = _check(scores), np.sort(_check(reference))
    below = np.searchsorted(reference, scores, side="left").mean()
    not_above = np.searchsorted(reference, scores, side="right").mean()
    larger = float(below + not_above) / (2 * len(reference))
    return 1.0 - larger if minimize else larger


def _check(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise InvalidArgumentError(
            f"Statistics need a list of at least one finite score; got shape {array.shape} with "
            f"{int((~np.isfinite(array)).sum())} non-finite."
        )
    return array


def _chunks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]
