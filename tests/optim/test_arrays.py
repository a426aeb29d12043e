"""The operations that numpy and torch share."""

from __future__ import annotations

import numpy as np
import torch

from metagym.optim.arrays import dot, ratio, scale


def test_dot_and_scale_are_the_same_for_both() -> None:
    rng = np.random.default_rng(0)
    a, b, c = rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.standard_normal(3)
    np.testing.assert_allclose(dot(a, b), (a * b).sum(axis=1))
    np.testing.assert_allclose(scale(c, a), np.diag(c) @ a)
    for kind in (np.float32, np.float64):
        x, y = torch.tensor(a.astype(kind)), torch.tensor(b.astype(kind))
        products = dot(x, y)
        assert isinstance(products, np.ndarray) and products.dtype == np.float64
        np.testing.assert_allclose(products, dot(a, b), rtol=1e-5)
        assert scale(c, x).dtype == x.dtype
        assert scale(c, a.astype(kind)).dtype == kind
        np.testing.assert_allclose(scale(c, x).numpy(), scale(c, a), rtol=1e-5)


def test_ratio_replaces_what_is_not_finite() -> None:
    a, b = np.array([1.0, 1.0, 0.0, 1.0, np.inf]), np.array([2.0, 0.0, 0.0, 1e-320, 1.0])
    np.testing.assert_array_equal(ratio(a, b, 9.0), [0.5, 9.0, 9.0, 9.0, 9.0])
