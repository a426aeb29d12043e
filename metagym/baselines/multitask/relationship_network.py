"""Deep relationship networks: a tensor-normal prior over the tasks' own layers learns relations.

A trunk is shared; behind it each task t has layers of its own. The weights of one such layer, of
all tasks together, are a tensor W [tasks, outputs, inputs], and its prior is

    vec(W) ~ N(0, Σ₁ ⊗ Σ₂ ⊗ Σ₃),    −log p(W) = ½ vec(W)ᵀ (Σ₁ ⊗ Σ₂ ⊗ Σ₃)⁻¹ vec(W)
                                              + ½ Σ_k (D / d_k) log|Σ_k| + const.

Σ₁ is the covariance of tasks, learned with the weights: networks descend the losses and the
quadratic form, and every few steps the covariances take a sweep of the flip-flop algorithm, each
one being set where the likelihood is largest while the others stay:

    Σ_k = (d_k / D) W₍k₎ (⊗_{j≠k} Σ_j)⁻¹ W₍k₎ᵀ.

================================  =====================================================
equation                          source
================================  =====================================================
prior and objective, update       Long, Cao, Wang & Yu (2017)
flip-flop for two modes           Dutilleul (1999)
================================  =====================================================

With Σ₂ = Σ₃ = I it is the matrix-normal prior of tasks × weights, of which the update is the
covariance WWᵀ d₁ / D itself. That is the default: a handful of tasks says little about the
covariance of 64 features, and what features explain is taken from what tasks have in common.

Two things keep this well posed. Without bound, W → 0 and Σ → 0 would make the prior as likely as
one likes; the scale of the prior is therefore λ's alone, and each Σ_k is scaled to a trace of d_k.
And Σ_k is shrunk towards the identity by a share ε, where the paper adds εI.

Lecture topic: deep relationship networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import nn

from metagym.baselines.multitask.architecture import Architecture, Output
from metagym.baselines.multitask.data import TasksShape
from metagym.baselines.multitask.layers import (
    apply_once,
    check_inputs,
    check_widths,
    mlp,
    zero_penalty,
)
from metagym.baselines.multitask.sharing import Widths
from metagym.errors import InvalidArgumentError, check_choice, check_not_negative, check_positive

COVARIANCES = ("tasks", "all")


@dataclass(frozen=True)
class RelationshipConfig(Widths):
    """Hyperparameters of ``DeepRelationship``; ``widths`` are those of the shared trunk.

    Args:
        task_widths: hidden layers of each task, behind the trunk. They begin with the same
            weights in all tasks, so that the units that the prior compares correspond. None: ()
            if all tasks have as many outputs, so that the prior is that of their heads; (32,)
            else.
        covariances: "tasks", or "all" to learn those of outputs and inputs too.
        strength: λ, the weight of −log p(W).
        shrinkage: ε in (0, 1].
        update_every: forward passes in training from one sweep of the covariances to the next.
    """

    task_widths: tuple[int, ...] | None = None
    covariances: Literal["tasks", "all"] = "tasks"
    strength: float = 1e-2
    shrinkage: float = 0.1
    update_every: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task_widths is not None:
            found = check_widths("task_widths", self.task_widths, empty=True)
            object.__setattr__(self, "task_widths", found)
        check_choice("covariances", self.covariances, COVARIANCES)
        check_not_negative("strength", self.strength)
        check_positive("update_every", self.update_every)
        if isinstance(self.shrinkage, bool) or not 0.0 < self.shrinkage <= 1.0:
            raise InvalidArgumentError(
                f"shrinkage={self.shrinkage!r} has to be above 0 and at most 1."
            )


class TensorNormal(nn.Module):
    """The prior N(0, Σ₁ ⊗ ... ⊗ Σ_K) of a tensor W [d_1, ..., d_K]; for K = 2 matrix-normal.

    Args:
        sizes: d_1, ..., d_K.
        shrinkage: ε.
        learned: how many Σ_k, from the first on, are learned; the others stay the identity.
    """

    def __init__(self, sizes: Sequence[int], shrinkage: float, learned: int) -> None:
        super().__init__()
        self.shrinkage, self.learned = shrinkage, learned
        for mode, size in enumerate(sizes):
            self.register_buffer(f"covariance_{mode}", torch.eye(size))

    @property
    def covariances(self) -> list[torch.Tensor]:
        """Σ_1, ..., Σ_K, each [d_k, d_k]."""
        return list(self.buffers())

    def quadratic(self, w: torch.Tensor) -> torch.Tensor:
        """vec(W)ᵀ (Σ₁ ⊗ ... ⊗ Σ_K)⁻¹ vec(W), a scalar."""
        for mode in range(w.ndim):
            w = self._whiten(w, mode)
        return w.square().sum()

    def estimate(self, w: torch.Tensor, mode: int) -> torch.Tensor:
        """Where Σ_mode maximises the likelihood of ``w`` while the others stay: [d_k, d_k]."""
        for other in range(w.ndim):
            if other != mode:
                w = self._whiten(w, other)
        unfolded = w.movedim(mode, 0).flatten(1)
        return unfolded @ unfolded.T / unfolded.shape[1]

    @torch.no_grad()
    def update(self, w: torch.Tensor) -> None:
        """One sweep over the learned Σ_k, each scaled and shrunk.

        Weights of which the scale is 0 or no number leave all as it is.
        """
        for mode, size in enumerate(w.shape[: self.learned]):
            found = self.estimate(w, mode)
            scale = found.trace() / size
            if not (torch.isfinite(scale) and scale > 0):
                return
            found = (1 - self.shrinkage) * found / scale
            found.diagonal().add_(self.shrinkage)
            # Never in place: the graph of an earlier pass may still need the old one.
            setattr(self, f"covariance_{mode}", found)

    def _whiten(self, w: torch.Tensor, mode: int) -> torch.Tensor:
        """Multiply by the inverse Cholesky factor of Σ_mode along that mode."""
        factor = torch.linalg.cholesky(self.covariances[mode])
        moved = w.movedim(mode, 0)
        solved = torch.linalg.solve_triangular(factor, moved.flatten(1), upper=False)
        return solved.unflatten(1, moved.shape[1:]).movedim(0, mode)


class DeepRelationship(Architecture):
    """A shared trunk, and layers of each task under a prior that learns how tasks relate.

    The prior covers the tasks' hidden layers and, where all tasks have as many outputs, their
    last one. Biases are free.

    Raises:
        InvalidArgumentError: ``task_widths`` is () and tasks have different numbers of outputs,
            so that no layer of theirs can be compared.
    """

    name = "deep_relationship"
    Config = RelationshipConfig

    passes: torch.Tensor

    def __init__(self, shape: TasksShape, config: Any = None) -> None:
        super().__init__(shape, config)
        config, alike = self.config, len(set(shape.outputs)) == 1
        widths = config.task_widths
        if widths is None:
            widths = () if alike else (32,)
        if not widths and not alike:
            raise InvalidArgumentError(
                f"Tasks have {shape.outputs} outputs, and layers of different sizes have no "
                "common prior; give each a hidden layer, task_widths=(32,)."
            )
        width = config.widths[-1]
        self.trunk = mlp(shape.inputs, config.widths)
        common = mlp(width, widths)
        self.own = nn.ModuleList()
        for outputs in shape.outputs:
            tower = mlp(width, widths)
            tower.load_state_dict(common.state_dict())
            tower.append(nn.Linear([width, *widths][-1], outputs))
            self.own.append(tower)
        sizes = [w.shape for w in self.weights()]
        learned = 1 if config.covariances == "tasks" else 3
        self.priors = nn.ModuleList(TensorNormal(s, config.shrinkage, learned) for s in sizes)
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))

    def forward(self, inputs: Sequence[torch.Tensor]) -> Output:
        """See ``Architecture.forward``; in training mode it also updates the covariances."""
        inputs = check_inputs(self.shape, inputs)
        features = apply_once(self.trunk, inputs)
        predictions = [tower(h) for tower, h in zip(self.own, features, strict=True)]
        weights = self.weights()
        if self.training:
            if int(self.passes) % self.config.update_every == 0:
                for prior, w in zip(self.priors, weights, strict=True):
                    cast(TensorNormal, prior).update(w)
            self.passes = self.passes + 1
        penalty = zero_penalty(inputs)
        for prior, w in zip(self.priors, weights, strict=True):
            penalty = penalty + 0.5 * cast(TensorNormal, prior).quadratic(w)
        return Output(predictions, self.config.strength * penalty)

    def weights(self) -> list[torch.Tensor]:
        """By layer that has a prior, the weights of all tasks: W [tasks, outputs, inputs]."""
        layers = [
            [layer.weight for layer in cast(nn.Sequential, tower) if isinstance(layer, nn.Linear)]
            for tower in self.own
        ]
        if len(set(self.shape.outputs)) > 1:
            layers = [found[:-1] for found in layers]
        return [torch.stack(layer) for layer in zip(*layers, strict=True)]

    @property
    def task_covariance(self) -> torch.Tensor:
        """Σ₁ of the last layer that has a prior, [tasks, tasks]; its trace is their number."""
        return cast(TensorNormal, self.priors[-1]).covariances[0]

    @property
    def task_correlation(self) -> torch.Tensor:
        """``task_covariance`` scaled to ones on the diagonal: how tasks relate, in [−1, 1]."""
        deviation = self.task_covariance.diagonal().sqrt()
        return self.task_covariance / deviation[:, None] / deviation
