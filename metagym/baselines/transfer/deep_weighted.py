"""Importance weighting with a network: (1/n) Σ w(x_i) ℓ(x_i, y_i), w = p_T(x) / p_S(x).

The weights come from whoever has them (``sample_weight``), from an estimator of the ratio of the
densities on the inputs, or from a classifier that tells the domains apart by the network's own
features: with label 1 for the target, the weight is the odds (n_S / n_T) · p / (1 − p).

Lecture topic: instance transfer, importance weights by a classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from metagym.baselines.transfer.base import Domains, check_weights
from metagym.baselines.transfer.deep import DeepConfig, DeepTransfer
from metagym.baselines.transfer.networks import weighted_cross_entropy
from metagym.baselines.transfer.train_deep import Batch, Data, Model, Phase
from metagym.errors import InvalidArgumentError, check_above_zero, check_positive

_FOLDS = 5


@dataclass(frozen=True)
class WeightedConfig(DeepConfig):
    """Settings of ``ImportanceWeighted``.

    Args:
        pretraining: unweighted gradient steps on the source, after which the features say what
            the weights are; not taken where weights or a ratio are given.
        flattening: the exponent of the weights (Shimodaira 2000): 1 is all of them, towards 0
            they become equal; smaller is more biased and varies less.
        clip: weights above so many times their mean are lowered to it; None: never.
        domain_penalty: C of the logistic regression that tells the domains apart.
    """

    pretraining: int = 500
    flattening: float = 1.0
    clip: float | None = 20.0
    domain_penalty: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("pretraining", self.pretraining)
        check_above_zero("domain_penalty", self.domain_penalty)
        if not 0.0 <= self.flattening <= 1.0:
            raise InvalidArgumentError(f"flattening={self.flattening!r} has to be in [0, 1].")
        if self.clip is not None:
            check_above_zero("clip", self.clip)


class ImportanceWeighted(DeepTransfer):
    """Trains on the source, its examples weighted as if they came from the target.

    Args:
        ratio: anything with ``fit(X, Xt)`` and ``weights(X)``, such as the estimators of
            ``density_ratio``; None: a classifier on the features. Not with ``sample_weight``.

    The other arguments are those of ``DeepTransfer``.

    Attributes:
        weights_: of the source [n], after flattening, clipping and division by their mean.
        effective_size_: (Σ w)² / Σ w²: as many unweighted examples vary as much.
    """

    name, label = "importance_weighted", "importance-weighted"
    Config: ClassVar[type[DeepConfig]] = WeightedConfig

    def __init__(
        self,
        config: DeepConfig | None = None,
        *,
        ratio: Any = None,
        seed: int = 0,
        device: str = "auto",
        out: str | Path | None = None,
        resume: bool = False,
        progress: bool = False,
    ) -> None:
        super().__init__(
            config, seed=seed, device=device, out=out, resume=resume, progress=progress
        )
        self.ratio = ratio

    def fit(
        self, X: Any, y: Any, Xt: Any = None, yt: Any = None, sample_weight: Any = None
    ) -> Self:
        """Train; ``yt`` is not looked at.

        Args:
            X, y, Xt, yt: as of ``DeepTransfer.fit``.
            sample_weight: of the source [n], instead of an estimate of the ratio.

        Raises:
            InvalidArgumentError: besides what ``DeepTransfer.fit`` raises: a negative weight, or
                both ``sample_weight`` and ``ratio``.
        """
        if sample_weight is not None and self.ratio is not None:
            raise InvalidArgumentError("Give sample_weight or a ratio, not both.")
        self._given = sample_weight
        try:
            return self.fit_named(X, y, Xt, yt)
        finally:
            del self._given

    def fit_named(self, *args: Any, **kwargs: Any) -> Self:
        super().fit_named(*args, **kwargs)
        self.weights_ = self.model_.weights.cpu().numpy().astype(np.float64)
        self.effective_size_ = float(self.weights_.sum() ** 2 / np.square(self.weights_).sum())
        return self

    def phases(self) -> tuple[Phase, ...]:
        s = self.settings
        weighted = Phase("weighted", s.iterations, ("source",), s.rate)
        if self._has_weights:
            return (weighted,)
        return Phase("source", s.pretraining, ("source",), s.rate), weighted

    def begin(self, phase: Phase, model: Model, data: Data) -> None:
        """Before the weighted phase: the weights, unless they came from outside."""
        if phase.name == "weighted" and not self._has_weights:
            with torch.no_grad():
                source, target = (model.network.features(x) for x in (data.x, data.xt))
            found = odds(
                source.cpu().numpy(), target.cpu().numpy(), self.settings.domain_penalty, self.seed
            )
            self._set_weights(model, found)

    def trained(self, phase: Phase, model: Model) -> Sequence[nn.Parameter]:
        return list(model.network.parameters())

    def loss(
        self, phase: Phase, model: Model, batch: Batch, progress: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """(1/b) Σ w_i ℓ_i; the weights are 1 before they are known."""
        return weighted_cross_entropy(model.network(batch.x), batch.y, batch.w), {}

    # -- the inside ----------------------------------------------------------------------------

    @property
    def _has_weights(self) -> bool:
        return self.ratio is not None or getattr(self, "_given", None) is not None

    def _model(self, domains: Domains, data: Data) -> Model:
        model = super()._model(domains, data)
        given = getattr(self, "_given", None)
        if given is not None:
            self._set_weights(model, check_weights("sample_weight", given, len(domains.X)))
        elif self.ratio is not None:
            found = self.ratio.fit(domains.X, domains.Xt).weights(domains.X)
            self._set_weights(model, check_weights("weights of the ratio", found, len(domains.X)))
        return model

    def _set_weights(self, model: Model, weights: np.ndarray) -> None:
        """Flattened, clipped, with the mean 1."""
        weights = weights**self.settings.flattening
        weights = weights / weights.mean()
        if self.settings.clip is not None:
            weights = np.minimum(weights, self.settings.clip)
            weights = weights / weights.mean()
        model.weights.copy_(torch.from_numpy(weights))


def odds(source: np.ndarray, target: np.ndarray, penalty: float, seed: int) -> np.ndarray:
    """(n_S / n_T) · p / (1 − p) of each source row, p from a logistic regression.

    Every row is judged by a classifier of the other folds: one that has learned it by heart would
    give it the weight 0.

    Args:
        source, target: features [n, d] and [m, d].
        penalty: C of the regression, on standardised features.
        seed: of the folds.
    """
    domain = np.repeat([0, 1], [len(source), len(target)])
    folds = min(_FOLDS, len(source), len(target))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=1000))
    both = np.concatenate([source, target]).astype(np.float64)
    if folds < 2:
        model.fit(both, domain)
        logits = model.decision_function(both)
    else:
        split = StratifiedKFold(folds, shuffle=True, random_state=seed)
        logits = cross_val_predict(model, both, domain, cv=split, method="decision_function")
    ratio = len(source) / len(target)
    return np.asarray(ratio * np.exp(np.clip(logits[: len(source)], -50.0, 50.0)))
