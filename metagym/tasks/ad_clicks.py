"""Web browsing and ad clicks of the same users: a transfer problem whose truth is known.

A visit is a user of a segment on the page of a publisher, with interests measured on a few
scales. Whether somebody stays to read is recorded for many visits (the source), whether they
click on an ad for few impressions (the target), and both depend on who likes what:

    P(y = 1 | x) = 1 / (1 + exp(-(x·w + b))),   w_target = ρ w_source + √(1 - ρ²) w_other

with ``similarity`` ρ. Segments and publishers come as one-hot columns, a few of them often and most
of them rarely, so that browsing says much about some coefficients and little about others. The
setting is that of Zhang, Chen & Wang (2016), "Implicit look-alike modelling in display ads:
transfer collaborative filtering to CTR estimation", whose data are not public; there, latent
factors are shared, here the coefficients of known features. Lecture topic: parameter transfer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from metagym.errors import InvalidArgumentError, check_above_zero, check_positive


class Visits(NamedTuple):
    """Examples of a domain.

    Attributes:
        x: one-hot segments and publishers, then interests [n, features].
        y: 1 where the visitor read on or clicked [n].
        probability: the true one of y = 1 [n].
    """

    x: np.ndarray
    y: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True, eq=False)
class Domain:
    """What decides about y in one domain.

    Attributes:
        shape: counts of segments, publishers and interests.
        frequency: of segments, and of publishers [each count].
        weights: of the features [features].
        intercept: b.
    """

    shape: tuple[int, int, int]
    frequency: tuple[np.ndarray, np.ndarray]
    weights: np.ndarray
    intercept: float

    def sample(self, count: int, rng: np.random.Generator) -> Visits:
        """Visits that do not depend on each other.

        Raises:
            InvalidArgumentError: a count below 1.
        """
        x = _features(self.shape, self.frequency, check_positive("count", count), rng)
        probability = expit(x @ self.weights + self.intercept)
        return Visits(x, (rng.random(count) < probability).astype(np.int64), probability)


@dataclass(frozen=True)
class AdClicks:
    """Settings of browsing and ad clicks.

    Args:
        segments: of users.
        publishers: of pages.
        interests: dense features of a visit.
        similarity: ρ from -1 to 1, the correlation of the coefficients of the two domains.
        strength: standard deviation of a coefficient.
        rarity: exponent of Zipf's law, by which the k-th segment or publisher has a frequency
            proportional to 1/k^rarity; 0: all are as frequent.
        read_rate: share of visits with y = 1 in browsing, between 0 and 1.
        click_rate: and on ads.

    Raises:
        InvalidArgumentError: a value that cannot be.
    """

    segments: int = 20
    publishers: int = 20
    interests: int = 5
    similarity: float = 0.9
    strength: float = 1.0
    rarity: float = 1.0
    read_rate: float = 0.5
    click_rate: float = 0.1

    def __post_init__(self) -> None:
        for name in ("segments", "publishers", "interests"):
            check_positive(name, getattr(self, name))
        check_above_zero("strength", self.strength)
        if not -1.0 <= self.similarity <= 1.0:
            raise InvalidArgumentError(f"similarity={self.similarity!r} has to be from -1 to 1.")
        if not 0.0 <= self.rarity < np.inf:
            raise InvalidArgumentError(f"rarity={self.rarity!r} has to be a number of at least 0.")
        for name in ("read_rate", "click_rate"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise InvalidArgumentError(
                    f"{name}={getattr(self, name)!r} has to be between 0 and 1."
                )

    def domains(self, rng: np.random.Generator) -> tuple[Domain, Domain]:
        """Draw browsing and ad clicks; a pure function of the generator's state."""
        shape = (self.segments, self.publishers, self.interests)
        ranks = [np.arange(1, count + 1) ** -self.rarity for count in shape[:2]]
        frequency = (ranks[0] / ranks[0].sum(), ranks[1] / ranks[1].sum())
        source, other = self.strength * rng.standard_normal((2, sum(shape)))
        target = self.similarity * source + np.sqrt(1.0 - self.similarity**2) * other
        x = _features(shape, frequency, 4096, rng)
        browsing, clicks = (
            Domain(shape, frequency, weights, _intercept(x @ weights, rate))
            for weights, rate in ((source, self.read_rate), (target, self.click_rate))
        )
        return browsing, clicks


def expected_log_loss(predicted: np.ndarray, probability: np.ndarray) -> float:
    """The mean log loss, in nats, that predictions have in expectation over labels.

    Args:
        predicted: probabilities of y = 1 [n].
        probability: the true ones [n].

    Raises:
        InvalidArgumentError: shapes that differ, or values outside [0, 1].
    """
    predicted, probability = np.asarray(predicted, float), np.asarray(probability, float)
    if predicted.ndim != 1 or predicted.shape != probability.shape:
        raise InvalidArgumentError(
            f"Predictions of shape {predicted.shape} and probabilities of shape "
            f"{probability.shape} do not belong together; give one of each per visit."
        )
    both = np.stack([predicted, probability])
    if not ((both >= 0.0) & (both <= 1.0)).all():
        raise InvalidArgumentError("Probabilities have to be between 0 and 1.")
    tiny = np.finfo(float).tiny
    yes, no = np.log(np.maximum([predicted, 1.0 - predicted], tiny))
    return float(-(probability * yes + (1.0 - probability) * no).mean())


def _features(
    shape: tuple[int, int, int],
    frequency: tuple[np.ndarray, np.ndarray],
    count: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """[count, features]."""
    segment = rng.choice(shape[0], size=count, p=frequency[0])
    publisher = rng.choice(shape[1], size=count, p=frequency[1])
    interests = rng.standard_normal((count, shape[2]))
    return np.hstack([np.eye(shape[0])[segment], np.eye(shape[1])[publisher], interests])


def _intercept(scores: np.ndarray, rate: float) -> float:
    """That makes the mean probability ``rate``."""
    reach = 50.0 + float(np.abs(scores).max())
    return float(brentq(lambda shift: expit(scores + shift).mean() - rate, -reach, reach))
