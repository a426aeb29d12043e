"""How the losses of tasks are balanced, whatever the network shares.

A loss weighting makes one loss of all; a gradient weighting combines the tasks' gradients with
respect to what is shared. Those are pure functions of a Jacobian [tasks, parameters] that return
the direction [parameters] which the optimiser descends:

- ``pcgrad``: gradient surgery, Yu et al., "Gradient surgery for multi-task learning" (2020),
  algorithm 1: what conflicts with another task's gradient is projected away, and the rest summed.
- ``mgda``: the point of least norm in the convex hull of the gradients, Désidéri,
  "Multiple-gradient descent algorithm" (2012); for networks, Sener & Koltun (2018), equation 3.
  Unless it is 0 (then no direction is good for all) it is a descent direction of every task.

Learned weights are those of Kendall et al., "Multi-task learning using uncertainty" (2018).
Lecture topic: multi-task learning, α L₁ + (1-α) L₂ and its alternatives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from scipy.optimize import nnls
from torch import nn

from metagym.errors import InvalidArgumentError, check_choice

WEIGHTINGS = ("uniform", "fixed", "uncertainty", "pcgrad", "mgda")


def pcgrad(jacobian: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Gradient surgery: the sum of the gradients, each without what conflicts with the others.

    Args:
        jacobian: a gradient per task [tasks, parameters].
        generator: of the order in which each gradient meets the others; it lies on the CPU.

    Returns:
        The direction [parameters]. Without conflicts it is the sum of the rows.
    """
    gram = _gram(jacobian)
    count = len(gram)
    orders = np.argsort(torch.rand(count, count, generator=generator).numpy(), axis=1)
    rows = np.arange(count)
    projected = np.eye(count)  # of each task, the coefficients of the gradients it is made of
    for other in orders.T:
        inner = np.einsum("ij,ij->i", projected, gram[other])
        norm = gram[other, other]
        conflicts = (inner < 0) & (other != rows) & (norm > 0)
        share = np.divide(inner, norm, out=np.zeros(count), where=conflicts)
        projected[rows, other] -= share
    return _combine(jacobian, projected.sum(0))


def mgda(jacobian: torch.Tensor) -> torch.Tensor:
    """The shortest vector among the convex combinations of the gradients; see ``mgda_weights``.

    Args:
        jacobian: a gradient per task [tasks, parameters].

    Returns:
        The direction d [parameters], with d·g >= |d|² for the gradient g of every task.
    """
    return _combine(jacobian, mgda_weights(jacobian))


def mgda_weights(jacobian: torch.Tensor) -> np.ndarray:
    """Weights w >= 0 of sum 1 that minimise |Σ w g|, exactly (no Frank-Wolfe iterations).

    u = s w with s > 0 minimises |Σ u g|² + (Σ u - 1)² over u >= 0 just where w minimises |Σ w g|²
    (for the best s that is q / (1 + q), which grows with q = |Σ w g|²); and this is a problem of
    non-negative least squares.

    Args:
        jacobian: [tasks, parameters].

    Returns:
        w [tasks], float64; uniform if all gradients are 0.
    """
    gram = _gram(jacobian)
    count, largest = len(gram), gram.diagonal().max()
    if not largest > 0:
        return np.full(count, 1 / count)
    values, vectors = np.linalg.eigh(gram / largest)
    root = np.sqrt(values.clip(0))[:, None] * vectors.T  # |root w| = |Σ w g|
    found, _ = nnls(np.vstack([root, np.ones(count)]), np.eye(count + 1)[-1], maxiter=100 * count)
    return np.asarray(found / found.sum())


class Weighting(nn.Module):
    """One loss of the losses of all tasks.

    Args:
        kinds: of the tasks.
        alpha: for "fixed" only.
    """

    name: ClassVar[str] = "uniform"

    def __init__(self, kinds: Sequence[str], alpha: Sequence[float] | float | None = None) -> None:
        super().__init__()
        if alpha is not None and self.name != "fixed":
            raise InvalidArgumentError(
                f"weighting {self.name!r} takes no alpha; 'fixed' does: give weighting='fixed'."
            )

    def forward(self, losses: torch.Tensor, present: Sequence[int]) -> torch.Tensor:
        """The scalar to descend.

        Args:
            losses: of the tasks that have a batch in this step [present].
            present: their numbers.
        """
        return losses.sum()


class Fixed(Weighting):
    """Σ α L. A single α means α L₁ + (1-α) L₂, as in the lectures."""

    name = "fixed"
    alpha: torch.Tensor

    def __init__(self, kinds: Sequence[str], alpha: Sequence[float] | float | None = None) -> None:
        super().__init__(kinds, alpha)
        given = np.atleast_1d(np.asarray([] if alpha is None else alpha, float))
        if given.shape == (1,) and len(kinds) == 2:
            given = np.array([given[0], 1 - given[0]])
        if given.shape != (len(kinds),) or not (given >= 0).all() or not 0 < given.sum() < math.inf:
            raise InvalidArgumentError(
                f"weighting 'fixed' needs alpha: a weight of at least 0 for each of the "
                f"{len(kinds)} tasks, not all 0 (or, for two tasks, one α in [0, 1]); it is "
                f"{alpha!r}."
            )
        self.register_buffer("alpha", torch.tensor(given, dtype=torch.float32))

    def forward(self, losses: torch.Tensor, present: Sequence[int]) -> torch.Tensor:
        return (self.alpha[list(present)] * losses).sum()


class Uncertainty(Weighting):
    """Learned noise of each task: Σ L / (2σ²) + log σ for regression, L / σ² + log σ else.

    Kendall et al. (2018), equations 7 and 10; learned is log σ², from 0.
    """

    name = "uncertainty"
    factor: torch.Tensor

    def __init__(self, kinds: Sequence[str], alpha: Sequence[float] | float | None = None) -> None:
        super().__init__(kinds, alpha)
        self.log_variance = nn.Parameter(torch.zeros(len(kinds)))
        factor = [0.5 if kind == "regression" else 1.0 for kind in kinds]
        self.register_buffer("factor", torch.tensor(factor), persistent=False)

    def forward(self, losses: torch.Tensor, present: Sequence[int]) -> torch.Tensor:
        chosen = list(present)
        s = self.log_variance[chosen]
        return (self.factor[chosen] * torch.exp(-s) * losses + 0.5 * s).sum()


class GradientWeighting(Weighting):
    """A direction from the gradients of the tasks; it needs parameters that they share."""

    def direction(self, jacobian: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """[parameters] of the gradients [present, parameters]."""
        raise NotImplementedError


class PCGrad(GradientWeighting):
    """See ``pcgrad``."""

    name = "pcgrad"

    def direction(self, jacobian: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return pcgrad(jacobian, generator)


class MGDA(GradientWeighting):
    """See ``mgda``; times the number of tasks, so that tasks that agree step as under "uniform"."""

    name = "mgda"

    def direction(self, jacobian: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return len(jacobian) * mgda(jacobian)


_CLASSES: dict[str, type[Weighting]] = {
    kind.name: kind for kind in (Weighting, Fixed, Uncertainty, PCGrad, MGDA)
}


def make_weighting(
    name: str, kinds: Sequence[str], alpha: Sequence[float] | float | None = None
) -> Weighting:
    """The weighting called ``name``.

    Args:
        name: one of ``WEIGHTINGS``: the sum of the losses ("uniform"), Σ α L with ``alpha``
            ("fixed"), "uncertainty", "pcgrad" or "mgda".
        kinds: of the tasks.
        alpha: of "fixed": a weight per task, or one α for two tasks.

    Raises:
        InvalidArgumentError: no such weighting, or an ``alpha`` that does not fit.
    """
    return _CLASSES[check_choice("weighting", name, WEIGHTINGS)](kinds, alpha)


# -- the inside --------------------------------------------------------------------------------


def _gram(jacobian: torch.Tensor) -> np.ndarray:
    """Inner products of the rows [tasks, tasks], float64."""
    if jacobian.ndim != 2 or not len(jacobian):
        raise InvalidArgumentError(
            f"A Jacobian has a row for each of one task or more; got shape {tuple(jacobian.shape)}."
        )
    rows = jacobian.detach().double()
    gram: np.ndarray = (rows @ rows.T).cpu().numpy()
    if not np.isfinite(gram).all():
        raise InvalidArgumentError(
            "A gradient is not finite: training diverged. Lower learning_rate or set max_grad_norm."
        )
    return gram


def _combine(jacobian: torch.Tensor, weights: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(weights, device=jacobian.device).to(jacobian.dtype) @ jacobian
