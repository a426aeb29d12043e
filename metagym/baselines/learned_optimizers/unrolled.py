"""The exact gradient of an unroll: a graph through all that a rule does, what it reads included.

Andrychowicz et al. (2016) leave out how the gradients that the network reads depend on its earlier
steps, because that takes second derivatives of the optimizee. Any ``ProblemFamily`` has them: a
graph asks for products of the Hessian with a vector v only, and

    H v = (∇f(x + h v) - ∇f(x - h v)) / 2h

costs two more gradients. It is exact for quadratics, and of an error of h² elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from metagym.core.optimization import DIVERGENCE, EPSILON

if TYPE_CHECKING:
    from metagym.baselines.learned_optimizers.train import Walk

Evaluate = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class ValueAndGradient(torch.autograd.Function):
    """(f(x) [B], ∇f(x) [B, d]) of x [B, d] on the CPU, both of which can be differentiated.

    The second argument is the function of numpy arrays; it has to answer alike every time, with
    the same minibatch.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, evaluate: Evaluate) -> tuple[torch.Tensor, torch.Tensor]:
        loss, gradient = evaluate(x.numpy())
        ctx.evaluate = evaluate
        gradient_tensor = torch.from_numpy(np.ascontiguousarray(gradient))
        ctx.save_for_backward(x, gradient_tensor)
        return torch.from_numpy(np.ascontiguousarray(loss)), gradient_tensor

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> tuple[torch.Tensor, None]:
        of_loss, of_gradient = outer
        x, gradient = ctx.saved_tensors
        # A row that has diverged is asked for nothing, and 0 times infinity is no number.
        asked = (of_loss != 0)[:, None]
        total = torch.where(asked, of_loss[:, None] * gradient, torch.zeros_like(gradient))
        product = torch.from_numpy(
            hessian_product(ctx.evaluate, x.numpy(), of_gradient.contiguous().numpy())
        )
        return total + product, None


def hessian_product(evaluate: Evaluate, x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """H(x) v [B, d], by central differences along v; 0 in rows where v is 0.

    Args:
        evaluate: gives f [B] and ∇f [B, d].
        x: where, [B, d].
        v: the vectors, [B, d].
    """
    size = np.linalg.norm(v, axis=1, keepdims=True)
    wanted = size > 0.0
    away = np.cbrt(np.finfo(x.dtype).eps) * np.maximum(1.0, np.abs(x).max(axis=1, keepdims=True))
    shift = (away * np.divide(v, size, out=np.zeros_like(v), where=wanted)).astype(x.dtype)
    difference = evaluate(x + shift)[1] - evaluate(x - shift)[1]
    product = np.where(wanted, difference * (size / (2.0 * away)), 0.0)
    return product.astype(x.dtype)


def unroll(walk: Walk, steps: int, objective: str) -> torch.Tensor:
    """Walk on; the mean objective of these steps, with the whole graph behind it.

    Args:
        walk: from where; it stands at the end afterwards.
        steps: how many.
        objective: "loss" or "log".
    """
    rule = walk.rule
    rule.state = {name: value.detach() for name, value in rule.state.items()}
    x, loss, gradient, last, lower, scales, alive = (
        torch.from_numpy(np.array(value))
        for value in (
            walk.x, walk.loss, walk.gradient, walk.last, walk.lower, walk.scales, walk.alive,
        )
    )  # fmt: skip
    total = torch.zeros((), dtype=x.dtype)
    for _ in range(steps):
        seen = rule.observe(loss, scales * gradient, last)
        step = rule.act(seen).cpu().to(x.dtype)
        moved = x + scales * step
        # .apply has no types.
        new_loss, new_gradient = ValueAndGradient.apply(moved, walk.evaluation())  # type: ignore[no-untyped-call]
        with torch.no_grad():
            alive = alive & torch.isfinite(new_loss) & (new_loss <= DIVERGENCE)
            alive &= torch.isfinite(new_gradient).all(1)
        row = alive[:, None]
        last = torch.where(row, step, torch.zeros_like(step))
        x, gradient = torch.where(row, moved, x), torch.where(row, new_gradient, gradient)
        loss = torch.where(alive, new_loss, loss)
        value = loss if objective == "loss" else ((loss - lower).clamp(min=0.0) + EPSILON).log()
        total = total + torch.where(alive, value, torch.zeros_like(value)).sum()
    walk.x, walk.loss, walk.gradient, walk.last, walk.alive = (
        value.detach().numpy() for value in (x, loss, gradient, last, alive)
    )
    return total / (steps * len(x))
