"""Any classifier or regressor of scikit-learn behind features that the domains share.

Lecture topic: feature-representation transfer.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from metagym.baselines.transfer.base import check_domains, check_labels, check_pair
from metagym.baselines.transfer.features import DomainFeatures
from metagym.errors import InvalidArgumentError


def _estimator_has(name: str) -> Any:
    return available_if(lambda self: hasattr(getattr(self, "estimator_", self.estimator), name))


class DomainAdapted(MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator that learns from source examples as features that source and target share.

    It is fitted on the mapped source, and on the labelled examples of the target where there are
    any; it predicts for the target.

    Args:
        features: a ``DomainFeatures``, fitted on both domains; it is cloned.
        estimator: a classifier or regressor, such as ``KNeighborsClassifier(1)``; it is cloned.

    Attributes:
        features_, estimator_: the fitted clones.
        n_features_in_: how many features go into ``features_``.
        classes_: of a classifier.
    """

    def __init__(self, features: DomainFeatures, estimator: Any) -> None:
        self.features = features
        self.estimator = estimator

    def fit(self, X: Any, y: Any, Xt: Any = None, yt: Any = None) -> Self:
        """Fit the features on both domains, then the estimator on what has labels.

        Args:
            X: source examples [n, d].
            y: their labels [n]; None: there are none (self-taught learning), so that only the
                labelled target trains the estimator.
            Xt: target examples [m, d].
            yt: labels of the first rows of ``Xt``; None: there are none.

        Raises:
            InvalidArgumentError: no target, no labels at all, lengths or features that do not fit,
                one class only.
            DataError: a value is not a finite number.
        """
        if not isinstance(self.features, DomainFeatures):
            raise InvalidArgumentError(
                f"features={self.features!r} has to be a DomainFeatures; Pooled(...) makes one "
                "of a transformer of scikit-learn."
            )
        classify = is_classifier(self.estimator)
        known: np.ndarray | None
        if y is None:
            source, target = check_pair(X, Xt)
            if yt is None:
                raise InvalidArgumentError("Neither y nor yt is given; there is nothing to learn.")
            known = check_labels("yt", yt, None, classify=classify)
            if len(known) > len(target):
                raise InvalidArgumentError(
                    f"yt has {len(known)} labels for {len(target)} examples in Xt; it labels the "
                    "first rows of Xt."
                )
            if classify and len(np.unique(known)) < 2:
                raise InvalidArgumentError(
                    f"All {len(known)} labels in yt are {known[0]!r}; without labels of the source "
                    "it needs two of them."
                )
        else:
            source, labels, target, known = check_domains(X, y, Xt, yt, classify=classify)
        self.features_ = clone(self.features).fit(source, y, target)
        self.n_features_in_ = source.shape[1]
        examples, answers = [], []
        if y is not None:
            examples.append(self.features_.transform_source(source))
            answers.append(labels)
        if known is not None:
            examples.append(self.features_.transform(target[: len(known)]))
            answers.append(known)
        self.estimator_ = clone(self.estimator).fit(np.vstack(examples), np.concatenate(answers))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Labels or values [k] of target examples [k, d]."""
        return np.asarray(self._fitted().predict(self.features_.transform(X)))

    @_estimator_has("predict_proba")  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes, [k, classes], of target examples [k, d]."""
        return np.asarray(self._fitted().predict_proba(self.features_.transform(X)))

    @_estimator_has("decision_function")  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> np.ndarray:
        """What the estimator's ``decision_function`` says of target examples [k, d]."""
        return np.asarray(self._fitted().decision_function(self.features_.transform(X)))

    def score(self, X: Any, y: Any) -> float:
        """The estimator's own score, accuracy or R², on target examples [k, d]."""
        return float(self._fitted().score(self.features_.transform(X), y))

    @property
    def classes_(self) -> np.ndarray:
        """The classes, sorted."""
        return np.asarray(self._fitted().classes_)

    def __sklearn_tags__(self) -> Tags:
        """Those of the estimator inside say what this one is."""
        tags = super().__sklearn_tags__()
        inside = self.estimator.__sklearn_tags__()
        tags.estimator_type = inside.estimator_type
        tags.classifier_tags = inside.classifier_tags
        tags.regressor_tags = inside.regressor_tags
        return tags

    def _fitted(self) -> Any:
        check_is_fitted(self, "estimator_")
        return self.estimator_
