"""Whether the gradients of minibatches agree: within a task, and across tasks.

The quantity of the analysis of Reptile (Nichol, Achiam and Schulman 2018): the inner product of the
gradients of two minibatches of one task at the initial weights, whose mean over tasks Reptile with
more than one inner step raises. (Their AvgGradInner is the gradient of that mean, up to a factor.)
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from metagym.baselines.few_shot.functional import Params, inner_gradient, map_tasks
from metagym.baselines.few_shot.gradient import GradientMethod
from metagym.tasks.few_shot import Tasks

MEASURES = ("within_cosine", "across_cosine", "within_product", "across_product")


def alignment(method: GradientMethod, tasks: Tasks) -> dict[str, np.ndarray]:
    """How gradients of minibatches agree at the initial weights, float64 [B] each.

    Args:
        method: whose weights are differentiated, all of them.
        tasks: their support and query sets are the two minibatches of each.

    Returns:
        By the names of ``MEASURES``: the cosine and the inner product of the two gradients of
        each task, and the mean of those of its first and every other task's second one.
    """

    def gradient(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        start = method.initial_parameters()

        def loss(params: Params) -> torch.Tensor:
            return method.support_loss(params, x, y)

        parts = inner_gradient(loss, start, start, first_order=True)
        return torch.cat([part.flatten() for part in parts.values()])

    with torch.no_grad():
        one, other = (map_tasks(gradient, part, method.how()) for part in (tasks[:2], tasks[2:]))
        one, other = one.double(), other.double()
        products = {
            "product": one @ other.T,
            "cosine": F.normalize(one, dim=1) @ F.normalize(other, dim=1).T,
        }
    found = {}
    for name, pairs in products.items():
        found[f"within_{name}"] = pairs.diagonal().cpu().numpy()
        others = (pairs.sum(1) - pairs.diagonal()) / (len(pairs) - 1)
        found[f"across_{name}"] = others.cpu().numpy()
    return found
