"""Fine-tuning: weights learned on the source are where learning on few target labels starts.

``L2SP`` (Li, Grandvalet & Davoine 2018) also keeps them near there:
Ω(w) = (α/2) ‖w_S − w⁰_S‖² + (β/2) ‖w_S̄‖², where w_S are the weights that come from the source and
w_S̄ those of a new head.

Lecture topic: parameter transfer, the distance of source and target parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from metagym.baselines.transfer.deep import DeepConfig, DeepTransfer
from metagym.baselines.transfer.networks import Network, weighted_cross_entropy
from metagym.baselines.transfer.train_deep import Batch, Data, Model, Phase
from metagym.checkpoint import load_checkpoint
from metagym.errors import (
    CheckpointError,
    check_above_zero,
    check_bool,
    check_not_negative,
    check_positive,
)


@dataclass(frozen=True)
class FineTuningConfig(DeepConfig):
    """Settings of ``FineTuning``; ``iterations`` and ``batch`` are those on the target too.

    Args:
        pretraining: gradient steps on the source, at the rate ``rate``.
        start: folder of a checkpoint of any deep transfer method with the same network, whose
            weights take the place of pretraining; None: pretrain.
        iterations: gradient steps on the labels of the target.
        tuning_rate: the learning rate there, at the start.
        tuned_layers: how many of the last layers learn there: 1 is the head alone; None: all.
        new_head: replace the head by a fresh one before it learns from the target.
    """

    iterations: int = 300
    pretraining: int = 1000
    start: str | None = None
    tuning_rate: float = 5e-4
    tuned_layers: int | None = None
    new_head: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("pretraining", self.pretraining)
        check_above_zero("tuning_rate", self.tuning_rate)
        check_bool("new_head", self.new_head)
        if self.tuned_layers is not None:
            check_positive("tuned_layers", self.tuned_layers)


class FineTuning(DeepTransfer):
    """Trains on the source, then on the labelled rows of the target."""

    name, label = "transfer_fine_tuning", "fine-tuned"
    Config: ClassVar[type[DeepConfig]] = FineTuningConfig

    @property
    def needs_labels(self) -> bool:
        return True

    def phases(self) -> tuple[Phase, ...]:
        s = self.settings
        before = () if s.start else (Phase("source", s.pretraining, ("source",), s.rate),)
        return (*before, Phase("tune", s.iterations, ("labelled",), s.tuning_rate))

    def begin(self, phase: Phase, model: Model, data: Data) -> None:
        """Before the target: the weights of ``start``, and the new head."""
        if phase.name != "tune":
            return
        s, network = self.settings, model.network
        if s.start:
            _load_network(network, s.start)
        if s.new_head:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed + 1)  # not the first head again
                network.head.load_state_dict(
                    nn.Linear(network.head.in_features, network.head.out_features).state_dict()
                )

    def trained(self, phase: Phase, model: Model) -> Sequence[nn.Parameter]:
        network = model.network
        layers = [*network.blocks, network.head]
        if phase.name == "tune" and self.settings.tuned_layers is not None:
            layers = layers[-self.settings.tuned_layers :]
        return [parameter for layer in layers for parameter in layer.parameters()]

    def loss(
        self, phase: Phase, model: Model, batch: Batch, progress: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """L_S, then L_T."""
        if phase.name == "source":
            found = weighted_cross_entropy(model.network(batch.x), batch.y)
            return found, {"source_loss": found}
        found = weighted_cross_entropy(model.network(batch.xl), batch.yl)
        return found, {"target_loss": found}


@dataclass(frozen=True)
class L2SPConfig(FineTuningConfig):
    """Settings of ``L2SP``.

    Args:
        pull: α, towards the weights of the source.
        head_decay: β, of a new head towards 0; without ``new_head`` the head is pulled too.
    """

    pull: float = 0.1
    head_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("pull", self.pull)
        check_not_negative("head_decay", self.head_decay)


class L2SP(FineTuning):
    """Fine-tuning with a penalty on the distance from the weights of the source."""

    name, label = "l2_sp", "L2-SP"
    Config: ClassVar[type[DeepConfig]] = L2SPConfig

    def parts(self, network: Network) -> dict[str, nn.Module]:
        # The starting point is a module, so that checkpoints keep it like everything else.
        return {"start": self.make_network(self.n_features_in_, len(self.classes_))}

    def begin(self, phase: Phase, model: Model, data: Data) -> None:
        super().begin(phase, model, data)
        if phase.name == "tune":
            model.parts["start"].load_state_dict(model.network.state_dict())

    def loss(
        self, phase: Phase, model: Model, batch: Batch, progress: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """L_S, then L_T + Ω."""
        found, numbers = super().loss(phase, model, batch, progress)
        if phase.name == "source":
            return found, numbers
        s, new = self.settings, list(model.network.head.parameters())
        kept = list(model.network.parameters())
        start = list(model.parts["start"].parameters())
        if not s.new_head:
            new = []
        elif new:  # the head's parameters are the last ones
            kept, start = kept[: -len(new)], start[: -len(new)]
        penalty = l2_sp(kept, start, new, s.pull, s.head_decay)
        return found + penalty, {**numbers, "penalty": penalty}


def l2_sp(
    kept: Iterable[torch.Tensor],
    start: Iterable[torch.Tensor],
    new: Iterable[torch.Tensor],
    pull: float,
    head_decay: float,
) -> torch.Tensor:
    """(α/2) Σ ‖w − w⁰‖² + (β/2) Σ ‖v‖² over the tensors w of ``kept`` and v of ``new``.

    Source: Li, Grandvalet & Davoine (2018), equation 3.
    """
    near = [(w - w0).square().sum() for w, w0 in zip(kept, start, strict=True)]
    small = [v.square().sum() for v in new]
    total: torch.Tensor = 0.5 * (
        pull * torch.stack(near).sum() + (head_decay * torch.stack(small).sum() if small else 0.0)
    )
    return total


def _load_network(network: Network, folder: str) -> None:
    weights = load_checkpoint(folder).weights
    try:
        network.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    except RuntimeError as error:
        raise CheckpointError(
            f"start={folder!r} holds another network than the config's: {error}."
        ) from None
