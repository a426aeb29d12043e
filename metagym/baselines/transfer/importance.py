"""Importance weighting: any scikit-learn estimator, its source examples weighted for the target.

Lecture topic: instance transfer. min_f Σ_i β(x_i) ℓ(f(x_i), y_i) with β = p_T / p_S is the target's
risk in expectation (Shimodaira 2000, Improving predictive inference under covariate shift). It
helps where the model is misspecified; where it is not, the weights add variance and nothing else.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from metagym.baselines.transfer.base import check_domains, check_new, check_weights
from metagym.baselines.transfer.density_ratio import ClassifierRatio
from metagym.errors import InvalidArgumentError


def _has(method: str) -> Any:
    def check(model: ImportanceWeighted) -> bool:
        return hasattr(getattr(model, "estimator_", None) or model._unfitted(), method)

    return available_if(check)


class ImportanceWeighted(MetaEstimatorMixin, BaseEstimator):
    """An estimator trained on source examples with the weights of a density ratio.

    Preprocessing belongs inside, ``ImportanceWeighted(make_pipeline(StandardScaler(), Ridge()))``:
    as a step of a pipeline its ``Xt`` would miss the steps before it. In ``GridSearchCV`` pass
    ``Xt`` to ``fit``, and ``scoring=importance_weighted_score``, as the plain score is that of
    the source. (A target with as many rows as the source is split like the source there.)

    Args:
        estimator: any scikit-learn classifier or regressor whose ``fit`` takes ``sample_weight``,
            also at the end of a pipeline or inside a grid search. None: logistic regression.
        ratio: a ``DensityRatio``, or anything with ``fit(X, Xt)`` and ``weights(X)``. None:
            ``ClassifierRatio()``.

    Attributes:
        estimator_, ratio_: fitted clones.
        weights_: of the examples that the estimator was trained on: the source's, then 1 for
            each labelled target example.
        effective_sample_size_: (Σ w)² / Σ w² of these (Kish 1965): the variance of a weighted
            mean is that of so many unweighted examples.
    """

    def __init__(self, estimator: Any = None, ratio: Any = None) -> None:
        self.estimator = estimator
        self.ratio = ratio

    def fit(self, X: Any, y: Any, Xt: Any = None, yt: Any = None) -> Self:
        """Fit the ratio to X and Xt, then the estimator to the weighted source.

        Args:
            X, y: source examples [n, d] and their labels or values [n].
            Xt: target examples [m, d].
            yt: labels of the first rows of Xt, if there are any: these examples join the source
                with weight 1, the mean of the source's weights, as they are the target's own.

        Raises:
            InvalidArgumentError: see ``check_domains``; an estimator that takes no weights, or a
                ratio with a negative one.
            DataError: a value is not a finite number.
        """
        estimator = self._unfitted()
        argument = weight_argument(estimator)
        source, labels, target, known = check_domains(
            X, y, Xt, yt, classify=is_classifier(estimator)
        )
        self.ratio_ = clone(ClassifierRatio() if self.ratio is None else self.ratio)
        self.ratio_.fit(source, target)
        weights = check_weights(
            f"weights of {self.ratio_!r}", self.ratio_.weights(source), len(source)
        )
        if known is not None:
            source = np.concatenate([source, target[: len(known)]])
            labels = np.concatenate([labels, known])
            weights = np.concatenate([weights, np.ones(len(known))])
        self.weights_ = weights
        self.effective_sample_size_ = effective_sample_size(weights)
        self.estimator_ = clone(estimator).fit(source, labels, **{argument: weights})
        self.n_features_in_ = source.shape[1]
        if is_classifier(estimator):
            self.classes_ = self.estimator_.classes_
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Of examples [n, d], by the fitted estimator."""
        return np.asarray(self._fitted().predict(check_new(self, X)))

    @_has("predict_proba")
    def predict_proba(self, X: Any) -> np.ndarray:
        """Of examples [n, d], by the fitted estimator: [n, classes]."""
        return np.asarray(self._fitted().predict_proba(check_new(self, X)))

    @_has("decision_function")
    def decision_function(self, X: Any) -> np.ndarray:
        """Of examples [n, d], by the fitted estimator."""
        return np.asarray(self._fitted().decision_function(check_new(self, X)))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The estimator's own score (accuracy, R²); X and y those of the target, to judge it."""
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        return float(self._fitted().score(check_new(self, X), y, **weights))

    def _fitted(self) -> Any:
        check_is_fitted(self, "estimator_")
        return self.estimator_

    def _unfitted(self) -> Any:
        return LogisticRegression() if self.estimator is None else self.estimator

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import get_tags  # not in scikit-learn 1.5, which does not call this

        tags, inner = super().__sklearn_tags__(), get_tags(self._unfitted())
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags, tags.regressor_tags = inner.classifier_tags, inner.regressor_tags
        return tags


def importance_weighted_score(model: ImportanceWeighted, X: Any, y: Any) -> float:
    """The score on source examples, weighted for the target: a ``scoring`` of grid searches.

    Importance-weighted cross-validation (Sugiyama, Krauledat & Müller 2007), nearly unbiased for
    the target where cross-validation on the source is not. The ratio has to be a function of x,
    which that of kernel mean matching is not.
    """
    return model.score(X, y, sample_weight=model.ratio_.weights(X))


def effective_sample_size(weights: Any) -> float:
    """(Σ w)² / Σ w² (Kish 1965): n for equal weights, 1 if one example has all of it.

    Raises:
        InvalidArgumentError: a negative weight, or nothing but zeros.
        DataError: NaN or infinity.
    """
    array = check_weights("weights", weights, np.size(weights))
    shares = array / array.max()
    return float(shares.sum() ** 2 / (shares**2).sum())


def weight_argument(estimator: Any) -> str:
    """The keyword by which ``estimator.fit`` takes weights, "sample_weight" or a step's.

    Raises:
        InvalidArgumentError: it takes none.
    """
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        return f"{name}__{weight_argument(last)}"
    if isinstance(estimator, GridSearchCV | RandomizedSearchCV):
        return weight_argument(estimator.estimator)
    if has_fit_parameter(estimator, "sample_weight"):
        return "sample_weight"
    raise InvalidArgumentError(
        f"{type(estimator).__name__} takes no sample_weight in fit, so it cannot be trained on "
        "weighted examples; LogisticRegression, Ridge, SVC and trees can."
    )
