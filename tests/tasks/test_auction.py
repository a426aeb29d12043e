"""The auction: what is drawn is what its truth says, and nothing but the generator decides it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from metagym.errors import InvalidArgumentError
from metagym.tasks.auction import CAMPAIGNS, EXCHANGES, Campaign, expected_auc, make_market


def test_pure_function_of_the_generator() -> None:
    first, second = (
        make_market(CAMPAIGNS[2], np.random.default_rng(5)).sample(50, np.random.default_rng(1))
        for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    other = make_market(CAMPAIGNS[2], np.random.default_rng(6)).sample(50, np.random.default_rng(1))
    assert not np.allclose(first.click_probability, other.click_probability)


def test_nine_campaigns_of_differing_settings() -> None:
    assert len({campaign.name for campaign in CAMPAIGNS}) == 9
    assert len({dataclasses.replace(campaign, name="") for campaign in CAMPAIGNS}) == 9


@pytest.mark.parametrize("campaign", CAMPAIGNS[::4], ids=lambda x: x.name)
def test_frequencies_are_the_true_probabilities(campaign: Campaign) -> None:
    rng = np.random.default_rng(0)
    seen = make_market(campaign, rng).sample(60_000, rng)
    assert seen.x.shape == (60_000, campaign.features + EXCHANGES)
    np.testing.assert_array_equal(seen.x[:, campaign.features :].argmax(1), seen.exchange)
    np.testing.assert_array_equal(seen.won, seen.bids > seen.prices)
    assert abs(seen.clicks.mean() - campaign.click_rate) < 0.01
    for happened, probability in (
        (seen.clicks, seen.click_probability),
        (seen.won, seen.win_probability),
    ):
        order = np.argsort(probability).reshape(20, -1)
        error = (happened[order] - probability[order]).mean(axis=1)
        spread = np.sqrt((probability * (1 - probability))[order].sum(axis=1)) / order.shape[1]
        assert (np.abs(error) < 4 * spread).all()


def test_prices_depend_on_exchange_and_if_asked_on_the_score() -> None:
    def correlation(dependence: float) -> float:
        rng = np.random.default_rng(0)
        market = make_market(Campaign(dependence=dependence, exchange_gap=0.8), rng)
        seen = market.sample(20_000, rng)
        logs = np.log(seen.prices)
        means = np.array([logs[seen.exchange == i].mean() for i in range(EXCHANGES)])
        np.testing.assert_allclose(means, [-0.8, 0.0, 0.8], atol=0.06)
        within = logs - means[seen.exchange]
        return float(np.corrcoef(within, seen.x[:, :10] @ market.score)[0, 1])

    assert abs(correlation(0.0)) < 0.03
    assert correlation(0.8) == pytest.approx(0.8 / np.hypot(0.8, 0.8), abs=0.03)


def test_winning_selects_impressions() -> None:
    rng = np.random.default_rng(0)
    market = make_market(Campaign(), rng)
    seen = market.sample(20_000, rng)
    score = seen.x[:, :10] @ market.score
    assert score[seen.won].mean() > 0.5 > 0.1 > abs(score.mean())


def test_the_advertiser_sees_what_it_won() -> None:
    rng = np.random.default_rng(0)
    seen = make_market(Campaign(), rng).sample(100, rng)
    assert np.isnan(seen.seen_prices[~seen.won]).all() and (seen.seen_clicks[~seen.won] == -1).all()
    np.testing.assert_array_equal(seen.seen_prices[seen.won], seen.prices[seen.won])
    np.testing.assert_array_equal(seen.seen_clicks[seen.won], seen.clicks[seen.won])


def test_expected_auc_by_pairs() -> None:
    rng = np.random.default_rng(0)
    scores, p = rng.integers(4, size=12).astype(float), rng.random(12)
    pairs = np.outer(p, 1 - p)  # the chance that the first was clicked and the second not
    right = (scores[:, None] > scores) + 0.5 * (scores[:, None] == scores)
    assert expected_auc(scores, p) == pytest.approx((pairs * right).sum() / pairs.sum())


@pytest.mark.parametrize(
    "wrong",
    [
        {"features": 0}, {"click_rate": 0.0}, {"click_rate": 1.0}, {"contrast": -1.0},
        {"price_spread": 0.0}, {"bid_noise": float("nan")}, {"dependence": float("inf")},
    ],
)  # fmt: skip
def test_settings_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        Campaign(**wrong)  # type: ignore[arg-type]


def test_bad_arguments() -> None:
    market = make_market(Campaign(), np.random.default_rng(0))
    with pytest.raises(InvalidArgumentError, match="count"):
        market.sample(0, np.random.default_rng(0))
    with pytest.raises(InvalidArgumentError, match="belong together"):
        expected_auc(np.zeros(3), np.zeros(4))
    with pytest.raises(InvalidArgumentError, match="between 0 and 1"):
        expected_auc(np.zeros(2), np.array([0.5, 1.5]))
