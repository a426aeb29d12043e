"""A simulated market of ad impressions whose truth is known: who clicks, what it would have cost.

An advertiser bids b on an impression with features x and wins it if b exceeds the market price z,
the highest bid of everybody else. Only then does it see the click and the price, so that what it
can learn from was selected by its own earlier bids (Zhang et al. 2016, "Bid-aware gradient descent
for unbiased learning with censored data in display advertising"). Lecture topic: instance
transfer, unbiased learning of click rates.

Prices are log-normal. How they depend on an impression decides what can be corrected. They depend
on its exchange, which is known; given that, on nothing that bids or clicks depend on. Then
P(won | x, b) = w(b) within an exchange, weights 1/w(b) are right, and losing says nothing of the
price but that it is at least b, as a survival model needs. ``dependence`` breaks that: rivals bid
more for the users whom the earlier campaign wanted, as well.

Clicks are not linear in the features: whom the earlier bids favoured reacts to other things than
whom they did not. Without that a linear model would be right everywhere, and selection by x no
harm to it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, ndtr
from sklearn.metrics import roc_auc_score

from metagym.errors import InvalidArgumentError, check_above_zero, check_positive

EXCHANGES = 3


@dataclass(frozen=True)
class Campaign:
    """Settings of one advertiser's campaign.

    Args:
        name: of the campaign.
        features: of an impression, besides its exchange.
        click_rate: about the share of impressions that would be clicked, between 0 and 1.
        contrast: how much else than the linear part decides about clicks.
        steepness: of log bids in the earlier campaign's score, whose variance is 1.
        bid_noise: standard deviation of log bids besides.
        bid_level: log of the middle bid; the middle market price is 0 on average over exchanges.
        price_spread: standard deviation of log prices within an exchange.
        exchange_gap: between the middle log prices of one exchange and the next.
        dependence: of log prices on the earlier campaign's score; 0: weights 1/w(b) are right.

    Raises:
        InvalidArgumentError: a value that cannot be.
    """

    name: str = "campaign"
    features: int = 10
    click_rate: float = 0.1
    contrast: float = 1.0
    steepness: float = 1.0
    bid_noise: float = 0.3
    bid_level: float = -0.5
    price_spread: float = 0.8
    exchange_gap: float = 0.4
    dependence: float = 0.0

    def __post_init__(self) -> None:
        check_positive("features", self.features)
        check_above_zero("price_spread", self.price_spread)
        if not 0.0 < self.click_rate < 1.0:
            raise InvalidArgumentError(f"click_rate={self.click_rate!r} has to be between 0 and 1.")
        for name in ("contrast", "steepness", "bid_noise", "exchange_gap"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise InvalidArgumentError(
                    f"{name}={getattr(self, name)!r} has to be a number of at least 0."
                )
        if not np.isfinite([self.bid_level, self.dependence]).all():
            raise InvalidArgumentError("bid_level and dependence have to be finite numbers.")


class Impressions(NamedTuple):
    """What happened, and what nobody in the market knows.

    Attributes:
        x: features, and a one-hot exchange in the last columns [n, features + EXCHANGES].
        exchange: its number [n].
        bids: of the earlier campaign [n].
        prices: of the market [n]; the advertiser sees those that it won.
        won: bids above prices, bool [n].
        clicks: 0 or 1, of lost impressions what would have happened [n].
        click_probability: [n], known to nobody.
        win_probability: P(bid > price | x, bid) [n], known to nobody.
    """

    x: np.ndarray
    exchange: np.ndarray
    bids: np.ndarray
    prices: np.ndarray
    won: np.ndarray
    clicks: np.ndarray
    click_probability: np.ndarray
    win_probability: np.ndarray

    @property
    def seen_prices(self) -> np.ndarray:
        """Prices that the advertiser sees: NaN where it lost."""
        return np.where(self.won, self.prices, np.nan)

    @property
    def seen_clicks(self) -> np.ndarray:
        """Clicks that the advertiser sees: -1 where it lost."""
        return np.where(self.won, self.clicks, -1)


@dataclass(frozen=True, eq=False)
class Market:
    """A campaign with everything about its users and rivals drawn.

    Attributes:
        campaign: the settings.
        score: of the earlier campaign, unit vector [features].
        linear: effects of features on the logit of a click [features].
        contrast: what is added to them where the score is high, and taken where it is low.
        exchange_effects: on that logit [EXCHANGES].
        intercept: that makes the click rate about the campaign's.
    """

    campaign: Campaign
    score: np.ndarray
    linear: np.ndarray
    contrast: np.ndarray
    exchange_effects: np.ndarray
    intercept: float

    def logit(self, features: np.ndarray, exchange: np.ndarray) -> np.ndarray:
        """Of the true click probability [n], at features [n, features]."""
        side = np.tanh(2.0 * features @ self.score)
        slopes = features @ self.linear + side * (features @ self.contrast)
        return np.asarray(self.intercept + slopes + self.exchange_effects[exchange])

    def win_probability(
        self, bids: np.ndarray, features: np.ndarray, exchange: np.ndarray
    ) -> np.ndarray:
        """P(bid > price | features, exchange) [n]."""
        middle = self._price_level(features, exchange)
        return np.asarray(ndtr((np.log(bids) - middle) / self.campaign.price_spread))

    def sample(self, count: int, rng: np.random.Generator) -> Impressions:
        """Impressions that the earlier campaign bids on.

        Raises:
            InvalidArgumentError: a count below 1.
        """
        count, own = check_positive("count", count), self.campaign
        features = rng.standard_normal((count, own.features))
        exchange = rng.integers(EXCHANGES, size=count)
        noise = rng.standard_normal((2, count))
        clicked = rng.random(count)
        bids = np.exp(
            own.bid_level + own.steepness * (features @ self.score) + own.bid_noise * noise[0]
        )
        prices = np.exp(self._price_level(features, exchange) + own.price_spread * noise[1])
        probability = expit(self.logit(features, exchange))
        return Impressions(
            np.hstack([features, np.eye(EXCHANGES)[exchange]]), exchange, bids, prices,
            bids > prices, (clicked < probability).astype(np.int64), probability,
            self.win_probability(bids, features, exchange),
        )  # fmt: skip

    def _price_level(self, features: np.ndarray, exchange: np.ndarray) -> np.ndarray:
        own = self.campaign
        steps = own.exchange_gap * (exchange - (EXCHANGES - 1) / 2)
        return np.asarray(steps + own.dependence * (features @ self.score))


def make_market(campaign: Campaign, rng: np.random.Generator) -> Market:
    """Draw the users and the earlier campaign; a pure function of the generator's state."""
    d = campaign.features
    score, linear, contrast = rng.standard_normal((3, d))
    score /= np.linalg.norm(score)
    # Contrast along the score would only bend the link, which changes no order.
    contrast -= (contrast @ score) * score
    contrast *= campaign.contrast / max(float(np.linalg.norm(contrast)), 1e-12)
    linear /= np.linalg.norm(linear)
    effects = 0.3 * rng.standard_normal(EXCHANGES)
    market = Market(campaign, score, linear, contrast, effects, 0.0)
    # A draw of its own, so that the intercept does not depend on what is sampled later.
    features = rng.standard_normal((4096, d))
    logits = market.logit(features, rng.integers(EXCHANGES, size=len(features)))
    missing = brentq(lambda shift: expit(logits + shift).mean() - campaign.click_rate, -40.0, 40.0)
    return dataclasses.replace(market, intercept=float(missing))


# Nine that differ as those of a campaign table do; none of them is one of a real company.
CAMPAIGNS = (
    Campaign("s1", features=6, click_rate=0.20, contrast=0.5, steepness=0.5),
    Campaign("s2", features=10, click_rate=0.05, contrast=1.0, steepness=0.8),
    Campaign("s3", features=10, click_rate=0.10, contrast=1.5, steepness=1.2, bid_level=-1.0),
    Campaign("s4", features=14, click_rate=0.03, contrast=0.8, steepness=0.8),
    Campaign("s5", features=8, click_rate=0.10, contrast=1.2, steepness=1.0, bid_noise=0.8),
    Campaign("s6", features=20, click_rate=0.08, contrast=1.0, steepness=1.0, price_spread=1.2),
    Campaign("s7", features=12, click_rate=0.15, contrast=1.0, steepness=0.7, exchange_gap=0.8),
    Campaign("s8", features=6, click_rate=0.10, contrast=1.5, steepness=1.0, bid_level=0.0),
    Campaign("s9", features=16, click_rate=0.12, contrast=1.2, steepness=1.0, bid_level=-0.8),
)


def expected_auc(scores: np.ndarray, probability: np.ndarray) -> float:
    """The area under the ROC curve with clicks weighted by their true probability.

    Each impression counts as clicked with weight p and as not clicked with 1 - p, so that no luck
    of clicks is in the score: the share of pairs in order among all (clicked, not clicked) pairs.

    Args:
        scores: any monotone function of a predicted probability [n].
        probability: of a click [n].

    Raises:
        InvalidArgumentError: shapes that differ, or probabilities outside [0, 1].
    """
    scores, probability = np.asarray(scores, float), np.asarray(probability, float)
    if scores.ndim != 1 or scores.shape != probability.shape:
        raise InvalidArgumentError(
            f"Scores of shape {scores.shape} and probabilities of shape {probability.shape} do not "
            "belong together; give one of each per impression."
        )
    if not ((probability >= 0.0) & (probability <= 1.0)).all():
        raise InvalidArgumentError("Probabilities have to be between 0 and 1.")
    labels = np.repeat((1, 0), len(scores))
    weights = np.concatenate([probability, 1.0 - probability])
    return float(roc_auc_score(labels, np.tile(scores, 2), sample_weight=weights))
