"""The gradient reversal layer of Ganin et al. (2016), equations 16 and 17.

What comes after it learns to tell domains or tasks apart; the features before it learn that they
cannot be told apart.
"""

from __future__ import annotations

from typing import Any, cast

import torch


class _Reversal(torch.autograd.Function):
    """R_λ(x) = x, dR_λ/dx = -λ I."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, strength: float) -> torch.Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse_gradient(x: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """``x`` itself, whose gradient is multiplied by -``strength`` on the way back."""
    return cast(torch.Tensor, _Reversal.apply(x, strength))  # type: ignore[no-untyped-call]
