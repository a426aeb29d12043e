"""Unbiased learning: Kaplan-Meier by hand, weights that give back what selection took away."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from metagym.baselines.transfer.unbiased import UnbiasedClicks, WinningProbability
from metagym.errors import DataError, InvalidArgumentError
from metagym.evaluation.statistics import paired_difference
from metagym.tasks.auction import CAMPAIGNS, Campaign, Impressions, expected_auc, make_market


def auction(campaign: Campaign, count: int, seed: int) -> tuple[Impressions, Impressions]:
    rng = np.random.default_rng(seed)
    market = make_market(campaign, rng)
    return market.sample(count, rng), market.sample(count, rng)


# -- the curve ---------------------------------------------------------------------------------


def test_kaplan_meier_by_hand() -> None:
    # Prices 1, 3, 4 were paid; bids of 2 and 3 lost, the one of 3 to a price that may be 3 itself,
    # so that at the price 3 there are two at risk, not three.
    bids = np.array([2.0, 2.0, 3.0, 6.0, 5.0])
    prices = np.array([1.0, np.nan, np.nan, 3.0, 4.0])
    won = np.array([True, False, False, True, True])
    curve = WinningProbability().fit(bids, prices, won)
    # S(1) = 4/5, S(3) = 4/5 · 1/2, S(4) = 4/5 · 1/2 · 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = curve.win([1.5, 2.0, 3.0, 3.5, 4.0, 4.5, 6.0])
    np.testing.assert_allclose(found, [0.2, 0.2, 0.2, 0.6, 0.6, 1.0, 1.0])


def test_observed_prices_by_hand() -> None:
    bids, prices = np.array([2.0, 2.0, 6.0, 5.0]), np.array([1.0, np.nan, 3.0, 4.0])
    curve = WinningProbability("observed").fit(bids, prices, [1, 0, 1, 1])
    np.testing.assert_allclose(curve.win([2.0, 3.0, 3.5, 5.0]), [1 / 3, 1 / 3, 2 / 3, 1.0])


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_product_of_hazards_with_ties(pairs: list[tuple[int, int]]) -> None:
    bids, prices = np.array(pairs, dtype=float).T
    won = bids > prices
    if not won.any():
        return
    curve = WinningProbability(floor=1e-9).fit(bids, np.where(won, prices, np.nan), won)
    for bid in np.arange(1.5, 7.0):
        survival = 1.0
        for price in range(1, 7):
            if price < bid:
                risk = (won & (prices >= price)) | (~won & (bids > price))
                died = won & (prices == price)
                survival *= 1.0 - died.sum() / max(risk.sum(), 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert curve.win([bid])[0] == pytest.approx(max(1.0 - survival, 1e-9), abs=1e-9)


def test_curve_is_the_truth_where_counting_prices_is_not() -> None:
    seen, _ = auction(Campaign(exchange_gap=0.0, price_spread=0.7), 30_000, 0)
    truth = seen.win_probability[seen.won]
    errors = {}
    for method in ("kaplan_meier", "observed"):
        curve = WinningProbability(method).fit(seen.bids, seen.seen_prices, seen.won)
        errors[method] = curve.win(seen.bids[seen.won]) - truth
    assert np.abs(errors["kaplan_meier"]).max() < 0.03
    assert errors["observed"].mean() > 0.1


def test_every_group_has_its_curve() -> None:
    seen, _ = auction(Campaign(exchange_gap=1.0), 30_000, 0)
    curve = WinningProbability().fit(seen.bids, seen.seen_prices, seen.won, seen.exchange)
    found = curve.win(seen.bids[seen.won], seen.exchange[seen.won])
    assert np.abs(found - seen.win_probability[seen.won]).max() < 0.05
    one = WinningProbability().fit(seen.bids, seen.seen_prices, seen.won)
    assert np.abs(one.win(seen.bids[seen.won]) - seen.win_probability[seen.won]).mean() > 0.1
    alone = WinningProbability().fit(*(x[seen.exchange == 1] for x in
                                       (seen.bids, seen.seen_prices, seen.won)))  # fmt: skip
    bids = seen.bids[seen.won & (seen.exchange == 1)]
    np.testing.assert_array_equal(alone.win(bids), curve.win(bids, np.ones(len(bids), dtype=int)))


def test_bids_outside_what_was_seen() -> None:
    curve = WinningProbability(floor=0.05).fit([2.0, 4.0, 4.0], [1.0, 3.0, 0.0], [1, 1, 0])
    with pytest.warns(UserWarning, match="2 of 3 bids lie outside"):
        found = curve.win([0.5, 2.0, 9.0])
    assert found[0] == 0.05 and found[2] == curve.win([4.0])[0]


def test_the_floor_bounds_weights() -> None:
    seen, _ = auction(Campaign(bid_level=-2.0), 5000, 0)
    curve = WinningProbability(floor=0.2).fit(seen.bids, seen.seen_prices, seen.won)
    assert curve.win(seen.bids[seen.won]).min() == 0.2


# -- the weights -------------------------------------------------------------------------------


def test_weights_give_back_the_mean_of_all_impressions() -> None:
    seen, _ = auction(Campaign(click_rate=0.2), 40_000, 1)
    error = {}
    for weights in ("none", "observed", "kaplan_meier", "known"):
        model = UnbiasedClicks(DecisionTreeClassifier(max_depth=1), weights=weights).fit(
            seen.x, seen.seen_clicks, bids=seen.bids, prices=seen.seen_prices, won=seen.won,
            groups=seen.exchange, win_probability=seen.win_probability,
        )  # fmt: skip
        assert model.sample_weight_.mean() == pytest.approx(1.0)
        means = np.average(seen.x[seen.won], axis=0, weights=model.sample_weight_)
        error[weights] = np.linalg.norm(means - seen.x.mean(axis=0))
    assert error["known"] < 0.15 and error["kaplan_meier"] < 0.15
    assert error["none"] > error["observed"] > 2 * error["kaplan_meier"]


def test_biased_below_corrected_close_to_all() -> None:
    # Below some thousand won auctions the variance of the weights costs what the bias did.
    scores: dict[str, list[float]] = {name: [] for name in ("none", "kaplan_meier", "all")}
    for number, campaign in enumerate(CAMPAIGNS):
        seen, test = auction(campaign, 20_000, number)
        for name in scores:
            if name == "all":
                model = LogisticRegression().fit(seen.x, seen.clicks)
            else:
                model = UnbiasedClicks(weights=name).fit(
                    seen.x, seen.seen_clicks, bids=seen.bids, prices=seen.seen_prices, won=seen.won
                )
            found = expected_auc(model.predict_proba(test.x)[:, 1], test.click_probability)
            scores[name].append(found)
    assert paired_difference(scores["kaplan_meier"], scores["none"]).low > 0.0
    biased, corrected, everything = (np.mean(scores[name]) for name in scores)
    assert everything >= corrected > biased + 0.4 * (everything - biased)


def test_fit_is_the_classifier_with_weights() -> None:
    seen, _ = auction(CAMPAIGNS[0], 2000, 0)
    model = UnbiasedClicks(weights="known").fit(
        seen.x, seen.seen_clicks, bids=seen.bids, prices=seen.seen_prices, won=seen.won,
        win_probability=seen.win_probability,
    )  # fmt: skip
    weights = 1 / np.maximum(seen.win_probability[seen.won], 0.01)
    plain = LogisticRegression(max_iter=1000).fit(
        seen.x[seen.won], seen.clicks[seen.won], weights / weights.mean()
    )
    np.testing.assert_allclose(model.predict_proba(seen.x), plain.predict_proba(seen.x))
    np.testing.assert_array_equal(model.predict(seen.x), plain.predict(seen.x))
    copied = clone(model)
    assert copied.weights == "known" and not hasattr(copied, "estimator_")


def test_weights_reach_the_classifier_at_the_end_of_a_pipeline() -> None:
    seen, _ = auction(CAMPAIGNS[0], 1000, 0)
    shown = {"bids": seen.bids, "prices": seen.seen_prices, "won": seen.won}
    inside = make_pipeline(StandardScaler(), LogisticRegression())
    model = UnbiasedClicks(inside).fit(seen.x, seen.seen_clicks, **shown)
    plain = make_pipeline(StandardScaler(), LogisticRegression()).fit(
        seen.x[seen.won], seen.clicks[seen.won],
        logisticregression__sample_weight=model.sample_weight_,
    )  # fmt: skip
    np.testing.assert_array_equal(model.predict_proba(seen.x), plain.predict_proba(seen.x))
    assert np.ptp(model.sample_weight_) > 0.1


def test_lost_clicks_and_prices_change_nothing() -> None:
    seen, _ = auction(CAMPAIGNS[0], 1000, 0)
    found = [
        UnbiasedClicks().fit(seen.x, clicks, bids=seen.bids, prices=prices, won=seen.won)
        for clicks, prices in (
            (seen.seen_clicks, seen.seen_prices),
            (np.where(seen.won, seen.clicks, np.nan), np.where(seen.won, seen.prices, 1e9)),
        )
    ]
    np.testing.assert_array_equal(*(x.estimator_.coef_ for x in found))


# -- bad input ---------------------------------------------------------------------------------

BIDS, PRICES, WON = [2.0, 3.0, 1.0], [1.0, 2.0, np.nan], [True, True, False]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"won": [False] * 3}, InvalidArgumentError, "None of the 3 auctions was won"),
        ({"won": [True, False]}, InvalidArgumentError, "3 truth values"),
        ({"won": [True, 0.5, 0.0]}, InvalidArgumentError, "truth values"),
        ({"prices": [1.0, np.nan, np.nan]}, DataError, "auction 1 was won"),
        ({"prices": [1.0, 3.0, 1.0]}, InvalidArgumentError, "a bid wins if it exceeds"),
        ({"prices": [1.0]}, InvalidArgumentError, "3 numbers"),
        ({"prices": ["a", "b", "c"]}, InvalidArgumentError, "array of numbers"),
        ({"bids": [np.inf, 1.0, 2.0]}, DataError, "bids"),
        ({"groups": [0, 1]}, InvalidArgumentError, "3 labels"),
        ({"groups": [0, 0, 1]}, InvalidArgumentError, "of group 1 was won"),
    ],
)
def test_curves_refuse(change: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        WinningProbability().fit(**{"bids": BIDS, "prices": PRICES, "won": WON, **change})


def test_curves_refuse_groups_they_do_not_have() -> None:
    curve = WinningProbability().fit([2.0, 3.0], [1.0, 1.0], [1, 1], ["a", "b"])
    with pytest.raises(InvalidArgumentError, match="no curve for group 'c'"):
        curve.win([2.0], ["c"])
    with pytest.raises(InvalidArgumentError, match="both of fit and win"):
        curve.win([2.0])
    with pytest.raises(InvalidArgumentError, match="both of fit and win"):
        WinningProbability().fit(BIDS, PRICES, WON).win([2.0], ["a"])


@pytest.mark.parametrize("floor", [0.0, -1.0, 1.5, float("nan"), "no", True])
def test_floors_that_cannot_be(floor: object) -> None:
    with pytest.raises(InvalidArgumentError, match="floor"):
        WinningProbability(floor=floor).fit(BIDS, PRICES, WON)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "fit", "message"),
    [
        ({"weights": "km"}, {}, "kaplan_meier"),
        ({"weights": "known"}, {}, "needs win_probability"),
        ({"weights": "known"}, {"win_probability": [0.0, 0.5, 0.5]}, "above 0"),
        ({"weights": "known"}, {"win_probability": [-0.5, 0.5, 0.5]}, "above 0"),
        ({"estimator": KNeighborsClassifier()}, {}, "no sample_weight"),
        ({}, {"clicks": [1, 1, 0]}, "All 2 won auctions have clicks=1"),
        ({}, {"clicks": [0.5, 1, 0]}, "have to be 0 or 1"),
        ({}, {"X": np.zeros((0, 2))}, "at least one of each"),
    ],
)
def test_classifier_refuses(arguments: dict, fit: dict, message: str) -> None:
    data = {"X": np.eye(3), "clicks": [1, 0, -1], "bids": BIDS, "prices": PRICES, "won": WON}
    with pytest.raises(InvalidArgumentError, match=message):
        UnbiasedClicks(**arguments).fit(**{**data, **fit})


def test_a_click_that_is_missing_where_won() -> None:
    with pytest.raises(DataError, match=r"clicks\[0\]"):
        UnbiasedClicks().fit(np.eye(3), [np.nan, 0, 1], bids=BIDS, prices=PRICES, won=WON)
