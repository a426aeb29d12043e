"""One number for an agent on a suite: aggregates of normalised scores, with intervals.

Scores are an array [runs, tasks]: 0 is the task's floor, 1 its ceiling (``SuiteTask.normalise``).
All definitions are those of Agarwal et al., "Deep reinforcement learning at the edge of the
statistical precipice" (2021), and of rliable, their library.
"""

from __future__ import annotations

import numpy as np

from metagym.errors import InvalidArgumentError
from metagym.evaluation import statistics
from metagym.evaluation.statistics import Estimate, Statistic

# What is drawn in a performance profile.
THRESHOLDS = np.linspace(0.0, 1.0, 51)


def mean(scores: np.ndarray) -> np.ndarray:
    """The mean over runs and tasks, [..., runs, tasks] -> [...]."""
    return np.asarray(scores, dtype=np.float64).mean(axis=(-2, -1))


def median(scores: np.ndarray) -> np.ndarray:
    """The median over tasks of the mean over runs, [..., runs, tasks] -> [...]."""
    return np.asarray(np.median(np.mean(scores, axis=-2, dtype=np.float64), axis=-1))


def iqm(scores: np.ndarray) -> np.ndarray:
    """The mean of the middle half of all scores, runs and tasks alike, [..., runs, tasks] -> [...].

    Of n scores ``int(n / 4)`` are cut at each end.
    """
    scores = np.asarray(scores, dtype=np.float64)
    return statistics.iqm(scores.reshape(*scores.shape[:-2], -1))


def optimality_gap(scores: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """By how much scores fall short of ``gamma`` on average, [..., runs, tasks] -> [...].

    What is above counts as ``gamma``, so that no task makes up for another; smaller is better.
    """
    return gamma - mean(np.minimum(scores, gamma))


def probability_of_improvement(x: np.ndarray, y: np.ndarray) -> float:
    """How likely a run of x beats one of y on a task drawn at random; ties count half.

    Args:
        x: scores [runs, tasks].
        y: scores [other runs, tasks].

    Raises:
        InvalidArgumentError: no scores [runs, tasks], one that is not finite, or not the same
            number of tasks.
    """
    return float(_share_won(*_check_pair(x, y)))


def probability_of_improvement_interval(x: np.ndarray, y: np.ndarray, *, seed: int = 0) -> Estimate:
    """``probability_of_improvement`` with its 95 % interval.

    Percentiles of a stratified bootstrap: runs of x and runs of y are drawn with replacement within
    each task, independently of each other.

    Args:
        x: scores [runs, tasks].
        y: scores [other runs, tasks].
        seed: of the drawing.

    Raises:
        InvalidArgumentError: as of ``probability_of_improvement``.
    """
    x, y = _check_pair(x, y)
    tasks = x.shape[1]

    def of_flat(flat: np.ndarray) -> np.ndarray:  # x and then y, task by task
        parts = np.split(flat, [x.size], axis=-1)
        return _share_won(*(_by_task(part, tasks) for part in parts))

    first = np.repeat(np.arange(tasks), len(x))
    second = np.repeat(tasks + np.arange(tasks), len(y))
    flat = np.concatenate([np.ravel(x.T), np.ravel(y.T)])
    strata = np.concatenate([first, second])
    return statistics.estimate(flat, of_flat, strata=strata, seed=seed)


def performance_profile(scores: np.ndarray, thresholds: np.ndarray = THRESHOLDS) -> np.ndarray:
    """The share of all runs on all tasks whose score is above each threshold, [thresholds].

    Raises:
        InvalidArgumentError: no scores [runs, tasks], or one that is not finite.
    """
    above = _check(scores)[:, :, None] > np.asarray(thresholds)
    return np.asarray(above.mean(axis=(0, 1)))


def performance_profile_band(
    scores: np.ndarray, thresholds: np.ndarray = THRESHOLDS, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the profile's 95 % intervals at each threshold, twice [thresholds].

    Percentiles of the same bootstrap as in ``aggregate_interval``: of the runs that are drawn for a
    task, a binomial number is above the threshold.

    Raises:
        InvalidArgumentError: no scores [runs, tasks], or one that is not finite.
    """
    above = _check(scores)[:, :, None] > np.asarray(thresholds)
    runs, tail = len(above), (1 - statistics.CONFIDENCE) / 2
    size = (statistics.RESAMPLES, *above.shape[1:])
    drawn = np.random.default_rng(seed).binomial(runs, above.mean(axis=0), size)
    low, high = np.quantile(drawn.mean(axis=1) / runs, (tail, 1 - tail), axis=0)
    return low, high


def aggregate_interval(scores: np.ndarray, statistic: Statistic, *, seed: int = 0) -> Estimate:
    """A statistic of scores [runs, tasks] with its 95 % interval.

    Percentiles of a stratified bootstrap: runs are drawn with replacement within each task, for
    each task anew.

    Args:
        scores: [runs, tasks].
        statistic: maps [..., runs, tasks] to [...], such as ``iqm``.
        seed: of the drawing.

    Raises:
        InvalidArgumentError: no scores [runs, tasks], or one that is not finite.
    """
    runs, tasks = _check(scores).shape

    def of_flat(flat: np.ndarray) -> np.ndarray:  # task by task, as the strata are
        return statistic(_by_task(flat, tasks))

    strata = np.repeat(np.arange(tasks), runs)
    return statistics.estimate(np.ravel(np.transpose(scores)), of_flat, strata=strata, seed=seed)


def _by_task(flat: np.ndarray, tasks: int) -> np.ndarray:
    """[..., runs, tasks] of what stands task by task, [..., tasks * runs]."""
    return flat.reshape(*flat.shape[:-1], tasks, -1).swapaxes(-2, -1)


def _share_won(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of all pairs of runs, [..., runs, tasks] each, the share that x wins; ties count half."""
    x, y = x[..., :, None, :], y[..., None, :, :]
    won, not_lost = (pairs.mean(axis=(-3, -2, -1)) for pairs in (x > y, x >= y))
    return np.asarray((won + not_lost) / 2)


def _check_pair(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = _check(x), _check(y)
    if x.shape[1] != y.shape[1]:
        raise InvalidArgumentError(
            f"Scores on {x.shape[1]} tasks cannot be compared with scores on {y.shape[1]}."
        )
    return x, y


def _check(scores: np.ndarray) -> np.ndarray:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise InvalidArgumentError(
            f"Aggregates need finite scores [runs, tasks]; got shape {array.shape} with "
            f"{int((~np.isfinite(array)).sum())} that are not finite."
        )
    return array
