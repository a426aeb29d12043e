"""Features that two domains share: the contract of a map fitted on both, and how maps are chained.

Lecture topic: feature-representation transfer. A ``DomainFeatures`` has the face of a
scikit-learn transformer with the target beside it: ``fit(X, y=None, Xt=...)``, and two maps,
``transform`` for examples of the target, ``transform_source`` for those of the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from metagym.baselines.transfer.base import check_new, check_pair
from metagym.errors import InvalidArgumentError


class DomainFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A map of features that is fitted on examples of two domains.

    Subclasses write ``_fit`` and ``_map``, and ``_map_source`` where the source is mapped in
    another way.

    Attributes:
        n_features_in_: how many features go in.
    """

    def fit(self, X: Any, y: Any = None, Xt: Any = None) -> Self:
        """Fit the map.

        Args:
            X: source examples [n, d].
            y: ignored, except by maps that say so.
            Xt: target examples [m, d], without labels.

        Raises:
            InvalidArgumentError: no target, or other features there than in the source.
            DataError: a value is not a finite number.
        """
        source, target = check_pair(X, Xt)
        self.n_features_in_ = source.shape[1]
        self._fit(source, y, target)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Target examples [k, d] as features [k, p]; whatever is met after training is target."""
        return self._map(self._checked(X))

    def transform_source(self, X: Any) -> np.ndarray:
        """Source examples [k, d] as features [k, p]."""
        return self._map_source(self._checked(X))

    def fit_transform(self, X: Any, y: Any = None, Xt: Any = None) -> np.ndarray:
        """Fit, and return the features of the source examples ``X``."""
        return self.fit(X, y, Xt).transform_source(X)

    def _checked(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "n_features_in_")
        return check_new(self, X)

    def _fit(self, source: np.ndarray, y: Any, target: np.ndarray) -> None:
        raise NotImplementedError

    def _map(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _map_source(self, X: np.ndarray) -> np.ndarray:
        return self._map(X)


class Pooled(DomainFeatures):
    """A scikit-learn transformer, fitted on the examples of both domains together.

    ``Pooled(PCA(100))`` is PCA as the baseline of feature transfer.

    Args:
        transformer: of scikit-learn; it is cloned.

    Attributes:
        transformer_: the fitted clone.
    """

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer

    def _fit(self, source: np.ndarray, y: Any, target: np.ndarray) -> None:
        self.transformer_ = clone(self.transformer).fit(np.vstack([source, target]))

    def _map(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.transformer_.transform(X))


class Chain(DomainFeatures):
    """Maps one after the other, each fitted on what the one before made of the two domains.

    Args:
        steps: maps of the kind ``DomainFeatures``; other transformers of scikit-learn are fitted
            on both domains together, as in ``Pooled``.

    Attributes:
        steps_: the fitted clones.
    """

    def __init__(self, steps: Sequence[Any]) -> None:
        self.steps = steps

    def fit(self, X: Any, y: Any = None, Xt: Any = None) -> Self:
        """Fit the maps in turn; see ``DomainFeatures.fit``."""
        if not len(self.steps):
            raise InvalidArgumentError("steps is empty; give one transformer at least.")
        return super().fit(X, y, Xt)

    def _fit(self, source: np.ndarray, y: Any, target: np.ndarray) -> None:
        self.steps_ = [
            clone(step) if isinstance(step, DomainFeatures) else Pooled(step) for step in self.steps
        ]
        for step in self.steps_:
            step.fit(source, y, target)
            source, target = step.transform_source(source), step.transform(target)

    def _map(self, X: np.ndarray) -> np.ndarray:
        for step in self.steps_:
            X = step.transform(X)
        return X

    def _map_source(self, X: np.ndarray) -> np.ndarray:
        for step in self.steps_:
            X = step.transform_source(X)
        return X
