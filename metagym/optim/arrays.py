"""The two operations by which an update rule touches long vectors, for numpy and torch alike.

A rule is written once. In an environment its vectors are numpy arrays; inside
``RuleOptimizer`` they are torch tensors on whatever device the parameters live. Everything per
row and short is numpy float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def dot(a: Any, b: Any) -> np.ndarray:
    """Inner products [B] (numpy float64) of the rows of two [B, d] arrays or tensors."""
    if isinstance(a, np.ndarray):
        return np.vecdot(a, b).astype(np.float64)
    if a.element_size() < 4:  # |g|^2 leaves float16 at |g| = 256
        a, b = a.float(), b.float()
    return (a * b).sum(-1).detach().cpu().double().numpy()  # MPS has no float64


def scale(coefficients: np.ndarray, vectors: Any) -> Any:
    """Multiply row i of ``vectors`` [B, d] (array or tensor) by ``coefficients[i]``."""
    if isinstance(vectors, np.ndarray):
        return coefficients[:, None].astype(vectors.dtype) * vectors
    return vectors.new_tensor(coefficients)[:, None] * vectors


def ratio(a: np.ndarray, b: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
    """a / b, and ``otherwise`` where b is 0 or the quotient is not finite."""
    with np.errstate(all="ignore"):
        quotient = a / b
    return np.where(np.isfinite(quotient), quotient, otherwise)
