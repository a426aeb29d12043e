"""What all deep transfer methods share: scikit-learn's face over a torch network.

``fit(X, y, Xt=..., yt=None)`` learns from a labelled source and a target of which the first rows
may have labels; ``predict``, ``predict_proba``, ``score`` and ``transform`` (the features) take
examples of the target. A method is a subclass that says what its loss is, and nothing else:
``train_deep`` has the loop, ``networks`` the layers, ``deep_methods`` the table of names.

Lecture topic: transfer with deep networks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from metagym.baselines.transfer.base import Domains, check_domains, check_new
from metagym.baselines.transfer.networks import Network
from metagym.baselines.transfer.train_deep import (
    OPTIMIZERS,
    SCHEDULES,
    Batch,
    Data,
    Loop,
    Model,
    Phase,
    Place,
    train,
)
from metagym.checkpoint import CONFIG
from metagym.errors import (
    InvalidArgumentError,
    check_above_zero,
    check_choice,
    check_not_negative,
    check_positive,
)
from metagym.files import refuse_existing
from metagym.monitoring import RunLogger
from metagym.tasks.streams import choose_device

_CHUNK = 4096  # examples that are predicted at a time


@dataclass(frozen=True)
class DeepConfig:
    """The network and the training of it; methods inherit these fields.

    Args:
        image_shape: (height, width) or (channels, height, width) where rows are images, for a
            convolutional net; None: a perceptron.
        filters: of the convolutions, 5 × 5, each followed by max-pooling by 2.
        hidden: widths of the fully connected layers before the head; the last is that of the
            features.
        iterations: gradient steps.
        batch: rows of each kind (source, target, labelled target) in a minibatch.
        rate: the learning rate at the start.
        optimizer: "adam", or "sgd" with a momentum of 0.9.
        schedule: of the rate: "constant", to 0 along a "linear" or "cosine" curve, or "dann", the
            curve of Ganin et al. (2016).
        weight_decay: of the optimiser.
        max_grad_norm: gradients are clipped to this norm; None: never.
        log_every: iterations between points of the charts.
        save_every: iterations between checkpoints.
    """

    image_shape: tuple[int, ...] | None = None
    filters: tuple[int, ...] = (8, 16)
    hidden: tuple[int, ...] = (64,)
    iterations: int = 1000
    batch: int = 64
    rate: float = 1e-3
    optimizer: Literal["adam", "sgd"] = "adam"
    schedule: Literal["constant", "linear", "cosine", "dann"] = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float | None = None
    log_every: int = 50
    save_every: int = 500

    def __post_init__(self) -> None:
        for name in ("iterations", "batch", "log_every", "save_every"):
            check_positive(name, getattr(self, name))
        check_above_zero("rate", self.rate)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_not_negative("weight_decay", self.weight_decay)
        if self.max_grad_norm is not None:
            check_above_zero("max_grad_norm", self.max_grad_norm)


class DeepTransfer(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Base of the methods; a subclass has ``name``, ``label``, ``loss`` and what else it changes.

    Args:
        config: of the method's ``Config``; its defaults by default.
        seed: of weights and minibatches; the global generator is left as it was.
        device: "auto" is a GPU where there is one.
        out: folder for checkpoints and TensorBoard files; None: nothing is written.
        resume: go on from the checkpoint in ``out``.
        progress: show a progress bar.

    Attributes:
        classes_: the labels, sorted.
        n_features_in_: of an example.
        network_: what predicts.
        model_: the network and what the method keeps beside it; of a method that was loaded, the
            network alone.
        training_: a record of the training.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    Config: ClassVar[type[DeepConfig]] = DeepConfig
    ramps: ClassVar[bool] = False  # whether the loss depends on ``progress``

    def __init__(
        self,
        config: DeepConfig | None = None,
        *,
        seed: int = 0,
        device: str = "auto",
        out: str | Path | None = None,
        resume: bool = False,
        progress: bool = False,
    ) -> None:
        self.config = config
        self.seed = seed
        self.device = device
        self.out = out
        self.resume = resume
        self.progress = progress

    # -- what a method says --------------------------------------------------------------------

    def loss(
        self, phase: Phase, model: Model, batch: Batch, progress: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """What is minimised, and what to log; ``progress`` is the share of the phase done."""
        raise NotImplementedError

    def phases(self) -> tuple[Phase, ...]:
        """The phases of training; one, on the source, unless the method says otherwise."""
        return (Phase("train", self.settings.iterations, ("source",), self.settings.rate),)

    def parts(self, network: Network) -> dict[str, nn.Module]:
        """Further modules, such as a domain head."""
        return {}

    def scaled_by(self, data: Data) -> torch.Tensor:
        """The examples whose means and deviations standardise inputs: those of the source."""
        return data.x

    def begin(self, phase: Phase, model: Model, data: Data) -> None:
        """What happens once when a phase starts."""

    def trained(self, phase: Phase, model: Model) -> Sequence[nn.Parameter]:
        """The parameters that a phase changes: all, unless the method says otherwise."""
        return list(model.parameters())

    @property
    def needs_labels(self) -> bool:
        """Whether ``fit`` cannot do without ``yt``."""
        return False

    # -- scikit-learn's face -------------------------------------------------------------------

    @property
    def settings(self) -> Any:
        """The config, or the default one."""
        config = self.Config() if self.config is None else self.config
        if not isinstance(config, self.Config):
            raise InvalidArgumentError(
                f"config of {type(self).__name__} has to be a {self.Config.__name__}, not "
                f"a {type(config).__name__}."
            )
        return config

    def fit(self, X: Any, y: Any, Xt: Any = None, yt: Any = None) -> Self:
        """Train.

        Args:
            X, y: the source: examples [n, d] and their classes [n].
            Xt: the target [m, d].
            yt: classes of the first rows of ``Xt``; the method's docstring says what for.

        Raises:
            InvalidArgumentError, DataError: see ``check_domains``; or training diverged.
            CheckpointError: there is nothing to resume from, or it is of other data, settings or
                seed. More ``iterations`` are no other setting where the schedule is "constant"
                and the loss no ramp.
            KeyboardInterrupt: after saving, if there is ``out``.
        """
        return self.fit_named(X, y, Xt, yt)

    def fit_named(
        self,
        X: Any,
        y: Any,
        Xt: Any,
        yt: Any = None,
        *,
        data_name: str = "arrays",
        data_kwargs: dict[str, Any] | None = None,
        seconds: float | None = None,
        look: Callable[[Self, RunLogger, int], None] | None = None,
    ) -> Self:
        """``fit``, with a name of the data for the checkpoint and a limit of time.

        Args:
            X, y, Xt, yt: as of ``fit``.
            data_name, data_kwargs: for the record, as of ``make_domains``.
            seconds: stop after so many; a resumed run goes on where it stopped.
            look: called with the method, the charts and the step, ten times in a run that has
                ``out``.
        """
        settings = self.settings
        if self.out is not None and not self.resume:
            refuse_existing("out", Path(self.out) / CONFIG, ", or resume it")
        if self.resume and self.out is None:
            raise InvalidArgumentError("resume=True needs out, the folder of the checkpoint.")
        domains = check_domains(X, y, Xt, yt, labelled=self.needs_labels)
        self.classes_ = np.unique(domains.y)
        self.n_features_in_ = domains.X.shape[1]
        device = choose_device(self.device)
        data = self._data(domains, device)
        model = self._model(domains, data).to(device)
        described = {
            "agent": self.name, "env_id": data_name, "env_kwargs": data_kwargs or {},
            "config": asdict(settings), "inputs": self.n_features_in_,
            "classes": self.classes_.tolist(),
        }  # fmt: skip
        loop = Loop(
            **{entry.name: getattr(settings, entry.name) for entry in dataclasses.fields(Loop)}
        )
        place = Place(
            None if self.out is None else Path(self.out), self.resume, described, self.seed,
            seconds, None if look is None else partial(look, self),
        )  # fmt: skip
        generator = torch.Generator(device).manual_seed(self.seed)
        self.model_, self.network_ = model, model.network
        self.training_ = train(self, model, data, loop, generator, place, progress=self.progress)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row, [n]."""
        best = self._logits(X).argmax(1)
        return np.asarray(self.classes_[best])

    def predict_proba(self, X: Any) -> np.ndarray:
        """[n, classes], float64; rows sum to 1."""
        logits = self._logits(X)
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(odds / odds.sum(1, keepdims=True))

    def transform(self, X: Any) -> np.ndarray:
        """The features that the head reads, float32 [n, width]."""
        return self._apply(X, head=False)

    # -- the inside ----------------------------------------------------------------------------

    def _data(self, domains: Domains, device: torch.device) -> Data:
        def codes(labels: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.searchsorted(self.classes_, labels)).to(device)

        return Data(
            _tensor(domains.X, device), codes(domains.y), _tensor(domains.Xt, device),
            None if domains.yt is None else codes(domains.yt),
        )  # fmt: skip

    def _model(self, domains: Domains, data: Data) -> Model:
        """Fresh weights of the seed."""
        with torch.random.fork_rng(devices=[]):  # torch initialises from its global generator
            torch.manual_seed(self.seed)
            network = self.make_network(self.n_features_in_, len(self.classes_))
            network.standardise(self.scaled_by(data).cpu())
            return Model(network, len(data.y), **self.parts(network))

    def make_network(self, inputs: int, classes: int) -> Network:
        """The network of the config."""
        s = self.settings
        return Network(inputs, classes, s.image_shape, s.filters, s.hidden)

    def _logits(self, X: Any) -> np.ndarray:
        return self._apply(X, head=True).astype(np.float64)

    def _apply(self, X: Any, *, head: bool) -> np.ndarray:
        check_is_fitted(self, "network_")
        array = check_new(self, X)
        network = self.network_.eval()
        run = network if head else network.features
        with torch.inference_mode():
            found = [
                run(_tensor(array[i : i + _CHUNK], network.shift.device)).cpu()
                for i in range(0, len(array), _CHUNK)
            ]
        return np.asarray(torch.cat(found).numpy())


def _tensor(array: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32)).to(device)
