"""What methods that embed examples share: the network, all tasks in one batch, orders, reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from metagym.baselines.few_shot.base import TaskShape, score_name, scores
from metagym.baselines.few_shot.functional import choose, map_tasks
from metagym.baselines.few_shot.networks import MLP, Conv4, NetworkConfig, make_network
from metagym.errors import check_choice
from metagym.tasks.few_shot import Tasks

_TOGETHER = ("running", "none")  # norms by which examples do not depend on what is beside them


@dataclass(frozen=True)
class EmbeddingConfig(NetworkConfig):
    """The network that embeds, without a head; the configs of methods inherit these fields.

    Args:
        pooling: of conv4; "max" as in the papers, "stride" is faster.
        norm: of conv4. "running" normalises by averages of meta-training; "batch" by the support
            and query set of the task, which makes the method transductive; "support" by the
            support set alone. Both take the tasks one by one, or by vmap on a GPU.
    """

    hidden: tuple[int, ...] = (64, 64)
    pooling: Literal["stride", "max"] = "max"
    norm: Literal["batch", "support", "running", "none"] = "running"


def make_embedding(shape: TaskShape, config: EmbeddingConfig) -> MLP | Conv4:
    """The network that maps [n, *input_shape] to [n, width].

    Raises:
        InvalidArgumentError: a field of ``config`` cannot work.
    """
    check_choice("norm", config.norm, ("batch", "support", "running", "none"))
    return make_network(shape, config)


def is_transductive(network: MLP | Conv4) -> bool:
    """Whether the embedding of a query depends on the other queries."""
    return network.norm == "batch"


def embed(
    network: Callable[..., torch.Tensor], norm: str, tasks: Tasks
) -> tuple[torch.Tensor, torch.Tensor]:
    """Support and query sets, embedded together: [B, S, …] and [B, Q, …].

    Args:
        network: maps examples [n, …], of which the first ``context`` are the support set, to
            [n, …].
        norm: of the network, see ``EmbeddingConfig``.
        tasks: what to embed.
    """
    examples = torch.cat([tasks.support_x, tasks.query_x], dim=1)
    size = tasks.support_x.shape[1]
    if norm in _TOGETHER:
        embedded = network(examples.flatten(0, 1)).unflatten(0, examples.shape[:2])
    else:
        how = choose("auto", examples.device, on_cpu="loop")
        embedded = map_tasks(lambda x: network(x, context=size), [examples], how)
    return embedded[:, :size], embedded[:, size:]


def shuffle_support(tasks: Tasks, generator: torch.Generator | None = None) -> Tasks:
    """The same tasks with their support sets in another order, for methods that read in order.

    Samplers sort support sets by class, and a method that trained on those could read the class
    off the position. With a generator every task gets an order of its own, for training; without
    one all get the same order, so that predictions are repeatable.
    """
    count, size = tasks.support_y.shape[:2]
    device = tasks.support_y.device
    if generator is None:
        order = torch.randperm(size, generator=torch.Generator().manual_seed(0)).to(device)
        orders = order.expand(count, size)
    else:
        orders = torch.rand(count, size, generator=generator, device=device).argsort(1)
    rows = torch.arange(count, device=device)[:, None]
    return tasks._replace(
        support_x=tasks.support_x[rows, orders], support_y=tasks.support_y[rows, orders]
    )


def report(
    loss: torch.Tensor, predictions: torch.Tensor, tasks: Tasks, kind: str = "classification"
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """What ``meta_loss`` returns: the loss, and it with the mean score as numbers to log."""
    score = scores(kind, predictions.detach(), tasks).mean()
    return loss, {"loss": loss.detach(), score_name(kind): score}
