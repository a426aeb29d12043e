"""Density ratios β(x) = p_target(x) / p_source(x) that need no kernel: the importance weights.

Lecture topic: instance transfer. Under covariate shift, p(y | x) being the same in both domains,
E_target[ℓ(x, y)] = E_source[β(x) ℓ(x, y)] (Shimodaira 2000), so that source examples weighted by
β stand for the target. What is here estimates β from examples without labels: by a classifier
that tells the domains apart, or by one density per domain; ``SelectionRatio`` is the lectures'
β ∝ p(s = 1 | x) and says where that is right. ``fitted_ratio``, ``least_squares_ratio`` and
``mean_matching`` fit the ratio itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from metagym.baselines.transfer.base import check_new, check_pair, check_weights
from metagym.errors import InvalidArgumentError, check_choice

_LARGEST_LOG = 500.0  # e^500 still has a finite mean over any sample


class DensityRatio(BaseEstimator, ABC):
    """A ratio that is fitted to a source and a target and can be asked for weights.

    A subclass writes ``_fit`` and ``_ratio``. Weights are scaled so that their mean over the
    source, on which the ratio was fitted, is exactly 1, as E_source[β] = 1 demands: an estimate
    has to be right up to a factor.

    Attributes:
        n_features_in_: of the examples.
        source_mean_: the mean over the source before scaling. Where an estimate has a scale of
            its own, a value far from 1 says that it is a poor one.
    """

    def fit(self, X: Any, Xt: Any = None) -> Self:
        """Fit to examples without labels.

        Args:
            X: source [n, d].
            Xt: target [m, d].

        Raises:
            InvalidArgumentError: no target, no examples, different numbers of features, or
                domains so far apart that the estimate is 0 at every source example.
            DataError: a value is not a finite number.
        """
        source, target = check_pair(X, Xt)
        self.n_features_in_ = source.shape[1]
        self._fit(source, target)
        ratios = self._ratio(self._weighted_sample(source, target))
        if not np.any(ratios):
            raise InvalidArgumentError(
                f"{type(self).__name__} is 0 at all {len(source)} examples of the source: source "
                "and target do not overlap. Widen the kernels, or use a method that maps features."
            )
        self.source_mean_ = float(check_weights("The ratio", ratios, len(ratios)).mean())
        return self

    def weights(self, X: Any) -> np.ndarray:
        """β of any examples [n, d]: float64 [n] of at least 0, with mean 1 over the source.

        Raises:
            InvalidArgumentError: other features than those of ``fit``.
            DataError: a value is not a finite number.
        """
        check_is_fitted(self, "source_mean_")
        examples = check_new(self, X)
        ratios = self._ratio(examples)
        if np.any(ratios):  # far from the source all of them may well be 0
            check_weights("The ratio", ratios, len(examples))
        return ratios / self.source_mean_

    @abstractmethod
    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        """Learn from checked examples [n, d] and [m, d]."""

    @abstractmethod
    def _ratio(self, X: np.ndarray) -> np.ndarray:
        """The estimate at checked examples [n, d]: at least 0, up to a factor, [n]."""

    def _weighted_sample(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The examples over which weights have mean 1."""
        return source


class KnownRatio(DensityRatio):
    """A ratio that is known: the control in experiments, and weights that come from elsewhere.

    Args:
        function: of examples [n, d], gives β [n] up to a factor; None: 1 everywhere, no weights.
    """

    def __init__(self, function: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        self.function = function

    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        pass

    def _ratio(self, X: np.ndarray) -> np.ndarray:
        if self.function is None:
            return np.ones(len(X))
        return np.asarray(self.function(X), dtype=np.float64)


class ClassifierRatio(DensityRatio):
    """The odds of a classifier that tells target (1) from source (0).

    By Bayes' rule p(1 | x) / p(0 | x) = n_T p_T(x) / n_S p_S(x), hence

        β(x) = (n_S / n_T) · p(1 | x) / (1 − p(1 | x))

    (Qin 1998; Bickel, Brückner & Scheffer 2007). Not p(1 | x) itself: see ``SelectionRatio``.
    A logistic regression on x gives a log-linear ratio, which is exact between Gaussians of one
    covariance; between other Gaussians it takes features of degree 2. Odds stay below 2⁵².

    Args:
        classifier: any scikit-learn classifier with ``predict_proba``; best one that is
            calibrated. None: logistic regression on standardised features.

    Attributes:
        classifier_: fitted.
    """

    def __init__(self, classifier: Any = None) -> None:
        self.classifier = classifier

    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        self.classifier_ = _fit_classifier(self.classifier, negative=source, positive=target)
        self._odds_scale = len(source) / len(target)

    def _ratio(self, X: np.ndarray) -> np.ndarray:
        p_source, p_target = self.classifier_.predict_proba(X).T
        ratios: np.ndarray = (
            self._odds_scale * p_target / np.maximum(p_source, np.finfo(np.float64).eps)
        )
        return ratios


class SelectionRatio(DensityRatio):
    """The lectures' β(x) ∝ p(s = 1 | x): right for a selection from a pool, and only there.

    Zadrozny (2004), Learning and evaluating classifiers under sample selection bias. Examples are
    drawn from a pool p(x), and each is accepted (s = 1) with a probability that depends on x. By
    Bayes' rule

        p(x | s = 1) / p(x) = p(s = 1 | x) / P(s = 1).

    The denominator is the density of the pool, of accepted and rejected examples together. So:

    - ``accepted="target"``: pool to accepted, β ∝ p(s = 1 | x). Right if the target is what was
      accepted of a pool, ``X`` holds the rejected rest of that pool and the weighted examples are
      the pool, ``X`` and ``Xt`` together; the weights' mean is 1 over these.
    - ``accepted="source"``: accepted to pool, β ∝ 1 / p(s = 1 | x), inverse probability of
      selection. Right if the source is what was accepted of the target's pool (training on what
      was shown, bought or won) and ``Xt`` holds the rejected rest of that pool; the weights'
      mean is 1 over ``X``.

    Under covariate shift source and target are two samples, neither of which is part of the
    other. Then p(s = 1 | x) with the target as 1 estimates p_T / (α p_T + (1 − α) p_S) for
    α = n_T / (n_S + n_T), up to a factor: the ratio to the mixture of both, which never exceeds
    1 / α wherever the true ratio goes. It nears the true ratio only as n_T / n_S → 0. Kept as a
    contrast; ``ClassifierRatio`` is the one to use.

    Args:
        classifier: see ``ClassifierRatio``.
        accepted: "target" or "source".

    Attributes:
        classifier_: fitted, class 1 being the accepted.
    """

    def __init__(self, classifier: Any = None, accepted: str = "target") -> None:
        self.classifier = classifier
        self.accepted = accepted

    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        check_choice("accepted", self.accepted, ("target", "source"))
        rejected, accepted = (source, target) if self.accepted == "target" else (target, source)
        self.classifier_ = _fit_classifier(self.classifier, negative=rejected, positive=accepted)

    def _ratio(self, X: np.ndarray) -> np.ndarray:
        accepted: np.ndarray = self.classifier_.predict_proba(X)[:, 1]
        if self.accepted == "target":
            return accepted
        inverse: np.ndarray = 1.0 / np.maximum(accepted, np.finfo(np.float64).eps)
        return inverse

    def _weighted_sample(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        return source if self.accepted == "source" else np.concatenate([source, target])


class TwoDensities(DensityRatio):
    """One density per domain, divided: the control with a high variance.

    Small errors of the denominator become large ones of the ratio, the reason why the fits of
    ``fitted_ratio`` avoid densities (Sugiyama et al. 2008).

    Args:
        density: any scikit-learn estimator whose ``score_samples`` gives log-densities, such as
            ``GaussianMixture()`` for one Gaussian per domain; it is cloned for each. None: a
            Gaussian ``KernelDensity`` with Scott's bandwidth, n^(−1/(d+4)) times the root mean
            square of the features' standard deviations in that domain.

    Attributes:
        source_density_, target_density_: fitted.
    """

    def __init__(self, density: Any = None) -> None:
        self.density = density

    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        if self.density is not None and not hasattr(self.density, "score_samples"):
            raise InvalidArgumentError(
                f"density={self.density!r} has no score_samples; KernelDensity and GaussianMixture "
                "of scikit-learn have."
            )
        self.source_density_ = self._density_of(source, "source")
        self.target_density_ = self._density_of(target, "target")

    def _density_of(self, X: np.ndarray, domain: str) -> Any:
        if self.density is not None:
            return clone(self.density).fit(X)
        n, d = X.shape
        scale = float(np.sqrt(X.var(axis=0).mean()))
        if scale == 0.0:
            raise InvalidArgumentError(
                f"All {n} examples of the {domain} are the same: they have no density. Give more "
                "examples, or density=KernelDensity(bandwidth=...)."
            )
        return KernelDensity(bandwidth=scale * n ** (-1.0 / (d + 4))).fit(X)

    def _ratio(self, X: np.ndarray) -> np.ndarray:
        target, source = (
            density.score_samples(X) for density in (self.target_density_, self.source_density_)
        )
        ratios: np.ndarray = np.exp(np.minimum(target - source, _LARGEST_LOG))
        return ratios


def _fit_classifier(classifier: Any, negative: np.ndarray, positive: np.ndarray) -> Any:
    """A clone of ``classifier``, fitted to classes 0 and 1."""
    if classifier is None:
        classifier = make_pipeline(StandardScaler(), LogisticRegression())
    elif not hasattr(classifier, "predict_proba"):
        raise InvalidArgumentError(
            f"classifier={classifier!r} has no predict_proba; wrap it in scikit-learn's "
            "CalibratedClassifierCV."
        )
    labels = np.repeat([0, 1], [len(negative), len(positive)])
    return clone(classifier).fit(np.concatenate([negative, positive]), labels)
