"""One child: how it is built, trained and measured, in this process or in a worker."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from metagym.architectures.cache import Record
from metagym.architectures.children import (
    Child,
    check_seed,
    child_seed,
    out_of_memory,
    too_small,
)
from metagym.architectures.image_data import ImageData
from metagym.architectures.space import SearchSpace
from metagym.errors import InvalidArgumentError, check_above_zero, check_positive

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Recipe:
    """How a child is trained.

    Attributes:
        epochs: over the training images.
        batch_size: images per step; what does not fill a batch is left out of its epoch.
        learning_rate: of SGD with Nesterov momentum; it falls to 0 along a cosine.
        momentum, weight_decay: of SGD, at least 0.
        last: among how many epochs, from the end, the best validation accuracy is taken.
        seconds: what a child may take to train; None: as long as it needs.
        parameters: what a child may have; None: as many as it likes.
        seed: of all children.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    last: int = 5
    seconds: float | None = None
    parameters: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "last"):
            check_positive(name, getattr(self, name))
        if self.parameters is not None:
            check_positive("parameters", self.parameters)
        check_above_zero("learning_rate", self.learning_rate)
        if self.seconds is not None:
            check_above_zero("seconds", self.seconds)
        for name, limit in (("momentum", 1.0), ("weight_decay", float("inf"))):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < limit:
                raise InvalidArgumentError(f"{name}={value!r} has to be in [0, {limit}).")
        check_seed(self.seed)

    def as_dict(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return dataclasses.asdict(self)


def failed(child: Child, status: str, seconds: float = 0.0, parameters: int = 0) -> Record:
    """The record of a child that scores 0."""
    return {
        "status": status, "validation": 0.0, "test": 0.0, "curve": [], "epoch": 0,
        "seconds": seconds, "parameters": parameters, "architecture": child.architecture,
    }  # fmt: skip


def train(child: Child, task: Mapping[str, Any]) -> Record:
    """Build and train ``child``; see ``TrainingEvaluator.records`` for what comes back.

    Args:
        child: the architecture.
        task: ``space``, ``data``, ``recipe``, ``device`` and ``build_kwargs``.

    Raises:
        Exception: what ``space.build`` or its module raised, unless it is among the failures of
            a child that ``TrainingEvaluator`` names.
    """
    import torch

    from metagym.rl.training import one_thread

    seed = child_seed(task["recipe"].seed, child.key)
    start = time.perf_counter()
    # Modules initialise themselves, and drop units, from torch's global generator.
    device = torch.device(task["device"])
    on_gpu = device.type == "cuda"
    training: _Training | None = None
    more: Record = {}
    with one_thread(), torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.manual_seed(seed)
        try:
            training = _Training(child, seed, start, **task)
            return training.run()
        except _StopError as stop:
            status = str(stop)
        except (MemoryError, RuntimeError, ValueError) as error:
            if out_of_memory(error):
                status = "out of memory"
            elif too_small(error):
                status, more = "failed", {"message": str(error)}
            else:
                raise
    size = 0 if training is None else training.parameters
    del training
    if on_gpu and status == "out of memory":
        torch.cuda.empty_cache()
    return {**failed(child, status, time.perf_counter() - start, size), **more}


class _StopError(Exception):
    """A child is not trained to the end; the status of its record."""


class _Training:
    """The training of one child."""

    def __init__(
        self,
        child: Child,
        seed: int,
        start: float,
        *,
        space: SearchSpace,
        data: ImageData,
        recipe: Recipe,
        device: str,
        build_kwargs: Mapping[str, Any],
    ) -> None:
        import torch

        self.child, self.recipe, self.start = child, recipe, start
        self.device = torch.device(device)
        self.order = torch.Generator().manual_seed(seed)
        module = space.build(child.tokens, data.input_shape, data.classes, **build_kwargs)
        self.parameters = sum(p.numel() for p in module.parameters())
        self.module: nn.Module = module
        self.data = data

    def run(self) -> Record:
        recipe = self.recipe
        if recipe.parameters is not None and self.parameters > recipe.parameters:
            raise _StopError("too many parameters")
        self.module.to(self.device)
        train, validation, test = _tensors(self.data, self.device)
        optimizer, schedule = self._optimizer(len(train[0]))
        curve: list[float] = []
        best, best_test, best_epoch = -1.0, 0.0, 0
        for epoch in range(1, recipe.epochs + 1):
            self._epoch(*train, optimizer, schedule)
            accuracy = self._accuracy(*validation)
            if accuracy is None:
                raise _StopError("diverged")
            curve.append(accuracy)
            if epoch > recipe.epochs - recipe.last and accuracy > best:
                best, best_epoch = accuracy, epoch
                best_test = self._accuracy(*test) or 0.0
        seconds = time.perf_counter() - self.start
        return {
            **failed(self.child, "trained", seconds, self.parameters), "validation": best,
            "test": best_test, "curve": curve, "epoch": best_epoch,
        }  # fmt: skip

    def _optimizer(
        self, count: int
    ) -> tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LRScheduler | None]:
        import torch

        if not self.parameters:  # nothing to learn, and nothing that an optimiser would take
            return None, None
        recipe = self.recipe
        optimizer = torch.optim.SGD(
            self.module.parameters(), recipe.learning_rate, recipe.momentum,
            weight_decay=recipe.weight_decay, nesterov=recipe.momentum > 0,
        )  # fmt: skip
        steps = recipe.epochs * max(1, count // recipe.batch_size)
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def _epoch(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        optimizer: torch.optim.Optimizer | None,
        schedule: torch.optim.lr_scheduler.LRScheduler | None,
    ) -> None:
        import torch

        if optimizer is None or schedule is None:
            return
        self.module.train()
        size = min(self.recipe.batch_size, len(images))
        order = torch.randperm(len(images), generator=self.order).to(self.device)
        for batch in order[: len(images) // size * size].split(size):
            loss = torch.nn.functional.cross_entropy(self.module(images[batch]), labels[batch])
            if not torch.isfinite(loss):
                raise _StopError("diverged")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            self._check_time()

    def _accuracy(self, images: torch.Tensor, labels: torch.Tensor) -> float | None:
        """The share of right answers, or None where the answers are not finite."""
        import torch

        self.module.eval()
        right = 0
        with torch.inference_mode():
            for some, wanted in zip(images.split(512), labels.split(512), strict=True):
                answers = self.module(some)
                if not torch.isfinite(answers).all():
                    return None
                right += int((answers.argmax(dim=1) == wanted).sum())
                self._check_time()
        return right / len(labels)

    def _check_time(self) -> None:
        limit = self.recipe.seconds
        if limit is not None and time.perf_counter() - self.start > limit:
            raise _StopError("too slow")


def _tensors(data: ImageData, device: torch.device) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(images, labels) of the splits, each channel standardised by the training images."""
    import torch

    mean = data.train_images.mean(axis=(0, 2, 3), keepdims=True)
    spread = data.train_images.std(axis=(0, 2, 3), keepdims=True) + 1e-6
    return [
        (
            torch.from_numpy((images - mean) / spread).to(device),
            torch.from_numpy(np.array(labels)).to(device),
        )
        for images, labels in zip(data[::2], data[1::2], strict=True)
    ]
