"""What linear tasks are made to share: the second half of every objective, λ Reg(W), W [M, d].

Soft sharing pulls the tasks' weights together. Its penalties are quadratic, tr(Wᵀ A W), and the
coupling A [M, M] says all about them (Evgeniou & Pontil, "Regularized multi-task learning", 2004):

- "pairwise", Σ_{i<j} ‖w^i - w^j‖²: A = M I - 11ᵀ;
- "mean", Σ_m ‖w^m - w̄‖²: A = I - 11ᵀ/M. The first is M times the second, for two tasks twice.

Two norms instead share structure, and come with their proximal maps,
argmin_V ½ ‖V - W‖² + t Reg(V):

- "l21", Σ_j ‖(w_j^1, …, w_j^M)‖: all tasks use the same few features (Obozinski et al., "Joint
  covariate selection and joint subspace selection", 2010; Argyriou et al., "Convex multi-task
  feature learning", 2008);
- "trace", the sum of the singular values of W: the weights lie in a space of low dimension
  (Ji & Ye, "An accelerated gradient method for trace norm minimization", 2009).

Lecture topic: multi-task learning, regularisation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from metagym.errors import check_choice, check_positive

QUADRATIC = ("none", "pairwise", "mean")


class Norm(NamedTuple):
    """A penalty that is not smooth.

    Attributes:
        value: of W [M, d].
        prox: (W, t) -> argmin_V ½ ‖V - W‖² + t value(V), [M, d].
    """

    value: Callable[[np.ndarray], float]
    prox: Callable[[np.ndarray, float], np.ndarray]


def coupling(name: str, tasks: int) -> np.ndarray:
    """A [M, M] of the quadratic penalty tr(Wᵀ A W).

    Args:
        name: "pairwise", "mean", or "none" for zeros.
        tasks: M.

    Raises:
        InvalidArgumentError: another name, or no task.
    """
    check_choice("name", name, QUADRATIC)
    check_positive("tasks", tasks)
    if name == "none":
        return np.zeros((tasks, tasks))
    centring = np.eye(tasks) - 1.0 / tasks
    return tasks * centring if name == "pairwise" else centring


def quadratic(weights: np.ndarray, a: np.ndarray) -> float:
    """tr(Wᵀ A W) of W [M, d] and A [M, M]."""
    return float(np.vdot(weights, a @ weights))


def l21_norm(weights: np.ndarray) -> float:
    """The sum over features of the length of their weights [M, d] in all tasks."""
    return float(np.linalg.norm(weights, axis=0).sum())


def l21_prox(weights: np.ndarray, step: float) -> np.ndarray:
    """Shorten the column of each feature by ``step``, to 0 at the least."""
    length = np.linalg.norm(weights, axis=0)
    shrunk: np.ndarray = weights * (
        np.maximum(length - step, 0.0) / np.where(length > 0, length, 1)
    )
    return shrunk


def trace_norm(weights: np.ndarray) -> float:
    """The sum of the singular values of W [M, d]."""
    return float(np.linalg.svd(weights, compute_uv=False).sum())


def trace_prox(weights: np.ndarray, step: float) -> np.ndarray:
    """Lower each singular value by ``step``, to 0 at the least."""
    left, values, right = np.linalg.svd(weights, full_matrices=False)
    lowered: np.ndarray = (left * np.maximum(values - step, 0.0)) @ right
    return lowered


NORMS: dict[str, Norm] = {"l21": Norm(l21_norm, l21_prox), "trace": Norm(trace_norm, trace_prox)}
REGULARIZERS = (*QUADRATIC, *NORMS)
