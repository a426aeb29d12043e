"""Click prediction from won auctions only, weighted by one over the probability of winning.

An impression with features x is bid b on and won if b exceeds the market price z. Training data
follow q(x) ∝ p(x) P(won | x, b), prediction is asked for p(x), and importance weights
p(x) / q(x) ∝ 1 / w(b) undo the selection (Zhang et al. 2016, "Bid-aware gradient descent for
unbiased learning with censored data in display advertising"). Lecture topic: instance transfer,
unbiased learning.

w(b) = P(z < b) = 1 - S(b). A lost auction says z ≥ b: its price is censored on the right, and S is
the Kaplan-Meier estimate (Kaplan & Meier 1958), the paper's KMMP. Counting observed prices alone
(UOMP) forgets the lost auctions, whose prices were high, and finds w too large.

1 / w(b) is right as far as the price is independent of the features once the bid is known, and
Kaplan-Meier as far as it is independent of the bid, as well: within groups where both hold, such
as the exchanges that sell impressions, one curve each.
"""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from scipy.stats import CensoredData, ecdf
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from metagym.baselines.transfer.base import check_examples, check_labels, check_new
from metagym.baselines.transfer.importance import weight_argument
from metagym.errors import DataError, InvalidArgumentError, check_choice

CURVES = ("kaplan_meier", "observed")
WEIGHTS = (*CURVES, "known", "none")


class WinningProbability(BaseEstimator):
    """w(b), the probability that a bid wins, from auctions of which only the won show a price.

    Args:
        method: "kaplan_meier", or "observed" for the share of observed prices below b.
        floor: the least that ``win`` gives, in (0, 1]. It bounds weights 1/w by 1/floor, at the
            price of too little weight on what is won more rarely than that.

    Attributes:
        curves_: of each group, (prices [k], w just above each of them [k]); the group is None
            where none were given.
        seen_: of each group, the lowest price paid and the highest bid: where w is known.
    """

    def __init__(self, method: str = "kaplan_meier", floor: float = 0.01) -> None:
        self.method = method
        self.floor = floor

    def fit(self, bids: Any, prices: Any, won: Any, groups: Any = None) -> Self:
        """Estimate w.

        Args:
            bids: [n].
            prices: [n], those of won auctions are looked at.
            won: whether the bid exceeded the price, bool [n].
            groups: labels of auctions with a curve of their own [n]; None: one curve for all.

        Raises:
            InvalidArgumentError: shapes that differ, a group that won nothing, a won auction whose
                price is not below its bid, no such method, a floor outside (0, 1].
            DataError: NaN or infinity among bids or prices of won auctions.
        """
        check_choice("method", self.method, CURVES)
        _check_floor(self.floor)
        bids = check_labels("bids", bids, None, classify=False)
        won = check_won(won, len(bids))
        prices = check_seen("prices", prices, won)
        if (costly := won & ~(prices < bids)).any():
            row = int(np.argmax(costly))
            raise InvalidArgumentError(
                f"Auction {row} was won with a bid of {bids[row]} at a price of {prices[row]}; a "
                "bid wins if it exceeds the price."
            )
        self.curves_: dict[Any, tuple[np.ndarray, np.ndarray]] = {}
        self.seen_: dict[Any, tuple[float, float]] = {}
        for group, rows in _rows(groups, len(bids)):
            if not won[rows].any():
                which = "" if group is None else f" of group {group!r}"
                raise InvalidArgumentError(
                    f"None of the {int(rows.sum())} auctions{which} was won, so that no price is "
                    "known; join groups, or drop this one."
                )
            self.curves_[group] = self._curve(bids[rows], prices[rows], won[rows])
            self.seen_[group] = (float(prices[rows & won].min()), float(bids[rows].max()))
        return self

    def win(self, bids: Any, groups: Any = None) -> np.ndarray:
        """w(b), at least ``floor`` [n].

        Bids that do not exceed the lowest price ever paid get the floor, bids above the highest
        of ``fit`` what that one gets; a warning counts them.

        Args:
            bids: [n].
            groups: [n], if ``fit`` had them.

        Raises:
            InvalidArgumentError: shapes that differ, groups that ``fit`` did not have or that are
                missing here.
            DataError: NaN or infinity.
        """
        check_is_fitted(self)
        bids = check_labels("bids", bids, None, classify=False)
        if (groups is None) != (None in self.curves_):
            raise InvalidArgumentError(
                "Give groups to both of fit and win, or to neither; they name the curve to use."
            )
        result, outside = np.empty(len(bids)), 0
        for group, rows in _rows(groups, len(bids)):
            if group not in self.curves_:
                raise InvalidArgumentError(
                    f"There is no curve for group {group!r}; fit had "
                    f"{', '.join(map(repr, list(self.curves_)[:10]))}."
                )
            prices, probabilities = self.curves_[group]
            below = np.searchsorted(prices, bids[rows], side="left")  # prices that b exceeds
            result[rows] = np.concatenate([[0.0], probabilities])[below]
            low, high = self.seen_[group]
            outside += int(((bids[rows] <= low) | (bids[rows] > high)).sum())
        if outside:
            warnings.warn(
                f"{outside} of {len(bids)} bids lie outside what fit saw win or lose; they get the "
                f"floor of {self.floor:g} below the lowest price paid, and the probability of the "
                "highest bid above that.",
                stacklevel=2,
            )
        return np.maximum(result, self.floor)

    def _curve(
        self, bids: np.ndarray, prices: np.ndarray, won: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Prices and P(z ≤ price)."""
        if self.method == "observed":
            found = ecdf(prices[won]).cdf
        else:
            # Lost at b means z ≥ b, where survival analysis says z > b: just before b it is.
            times = np.where(won, prices, np.nextafter(bids, -np.inf))
            found = ecdf(CensoredData.right_censored(times, ~won)).cdf
        return found.quantiles, found.probabilities


class UnbiasedClicks(ClassifierMixin, BaseEstimator):
    """A classifier of clicks, trained on won auctions with weights 1 / w(b).

    Weights are scaled to a mean of 1, so that the classifier's regularisation means the same with
    all of them.

    Args:
        estimator: any scikit-learn classifier with ``sample_weight``, also at the end of a
            pipeline; None: logistic regression.
        weights: "kaplan_meier" (the paper's KMMP); "observed" (UOMP) as a contrast; "known" for
            probabilities given to ``fit``, the oracle of a simulation; "none" for the biased model.
        floor: see ``WinningProbability``.

    Attributes:
        estimator_: the classifier.
        winning_: the ``WinningProbability``, None with "known" and "none".
        sample_weight_: of the won auctions, in their order.
        classes_: as in the classifier.
    """

    def __init__(
        self, estimator: Any = None, weights: str = "kaplan_meier", floor: float = 0.01
    ) -> None:
        self.estimator = estimator
        self.weights = weights
        self.floor = floor

    def fit(
        self,
        X: Any,
        clicks: Any,
        *,
        bids: Any,
        prices: Any,
        won: Any,
        groups: Any = None,
        win_probability: Any = None,
    ) -> Self:
        """Learn from all auctions what they show.

        Args:
            X: features [n, d].
            clicks: [n]; those of lost auctions are not looked at.
            bids, prices, won, groups: see ``WinningProbability.fit``.
            win_probability: P(won | x, b) [n]; needed with weights="known" and of no use else.

        Raises:
            InvalidArgumentError: see ``WinningProbability.fit``; clicks other than 0 and 1, or one
                of them only, among won auctions; an estimator without ``sample_weight``;
                probabilities outside (0, 1].
            DataError: NaN or infinity.
        """
        check_choice("weights", self.weights, WEIGHTS)
        _check_floor(self.floor)
        X = check_examples("X", X)
        won = check_won(won, len(X))
        clicks = check_seen("clicks", clicks, won)[won]
        if not np.isin(clicks, (0, 1)).all():
            raise InvalidArgumentError("clicks of won auctions have to be 0 or 1.")
        clicks = clicks.astype(np.int64)
        if (classes := np.unique(clicks)).size < 2:
            raise InvalidArgumentError(
                f"All {len(clicks)} won auctions have clicks={classes[0]}; learning to tell them "
                "apart needs both."
            )
        bids = check_labels("bids", bids, len(X), classify=False)
        estimator = LogisticRegression(max_iter=1000) if self.estimator is None else self.estimator
        argument = weight_argument(estimator)
        inverse = 1.0 / self._winning(bids, prices, won, groups, win_probability)
        self.sample_weight_ = inverse / inverse.mean()
        self.estimator_ = clone(estimator)
        self.estimator_.fit(X[won], clicks, **{argument: self.sample_weight_})
        self.classes_ = self.estimator_.classes_
        self.n_features_in_ = X.shape[1]
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of ``classes_`` [n, 2]."""
        check_is_fitted(self)
        return np.asarray(self.estimator_.predict_proba(check_new(self, X)))

    def predict(self, X: Any) -> np.ndarray:
        """The likelier class [n]."""
        check_is_fitted(self)
        return np.asarray(self.estimator_.predict(check_new(self, X)))

    def _winning(
        self, bids: np.ndarray, prices: Any, won: np.ndarray, groups: Any, known: Any
    ) -> np.ndarray:
        """w of the won auctions."""
        self.winning_ = None
        if self.weights == "none":
            return np.ones(int(won.sum()))
        if self.weights == "known":
            if known is None:
                raise InvalidArgumentError('weights="known" needs win_probability in fit.')
            found = check_labels("win_probability", known, len(bids), classify=False)
            if not ((found[won] > 0.0) & (found[won] <= 1.0)).all():
                raise InvalidArgumentError(
                    "win_probability of a won auction has to be above 0 and at most 1."
                )
            return np.maximum(found[won], self.floor)
        self.winning_ = WinningProbability(self.weights, self.floor).fit(bids, prices, won, groups)
        return self.winning_.win(bids[won], None if groups is None else np.asarray(groups)[won])


def check_won(value: Any, count: int) -> np.ndarray:
    """bool [count] of which one at least is true.

    Raises:
        InvalidArgumentError: another shape, neither bool nor 0 and 1, or nothing was won.
    """
    array = np.asarray(value)
    if array.shape != (count,) or not np.isin(array, (0, 1)).all():
        raise InvalidArgumentError(
            f"won has to be {count} truth values, one per auction; its shape is {array.shape}."
        )
    array = array.astype(bool)
    if not array.any():
        raise InvalidArgumentError(f"None of the {count} auctions was won; nothing was observed.")
    return array


def check_seen(argument: str, value: Any, won: np.ndarray) -> np.ndarray:
    """float64 [n], finite where won; of lost auctions anything may stand there.

    Raises:
        InvalidArgumentError: another shape, or not numbers.
        DataError: NaN or infinity in a won auction.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"{argument} has to be an array of numbers: {error}.") from None
    if array.shape != won.shape:
        raise InvalidArgumentError(
            f"{argument} has to be {len(won)} numbers, one per auction; its shape is {array.shape}."
        )
    if (bad := won & ~np.isfinite(array)).any():
        row = int(np.argmax(bad))
        raise DataError(f"{argument}[{row}] is {array[row]} though auction {row} was won.")
    return array


def _check_floor(floor: Any) -> None:
    if isinstance(floor, bool) or not isinstance(floor, (int, float)) or not 0.0 < floor <= 1.0:
        raise InvalidArgumentError(f"floor={floor!r} has to be above 0 and at most 1.")


def _rows(groups: Any, count: int) -> list[tuple[Any, np.ndarray]]:
    """Each group with the mask of its rows; the group is None where there are none."""
    if groups is None:
        return [(None, np.ones(count, dtype=bool))]
    labels = np.asarray(groups)
    if labels.shape != (count,):
        raise InvalidArgumentError(
            f"groups has to be {count} labels, one per auction; its shape is {labels.shape}."
        )
    return [(label.item(), labels == label) for label in np.unique(labels)]
