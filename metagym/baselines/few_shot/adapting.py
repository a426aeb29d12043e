"""What methods share that give their network new weights in each task, by gradients or a rule."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch.func import functional_call

from metagym.baselines.few_shot.base import (
    FewShotMethod,
    TaskShape,
    accuracy,
    check_ways,
    mse,
    per_task_loss,
    score_name,
)
from metagym.baselines.few_shot.functional import Params, choose, meta_objective
from metagym.baselines.few_shot.networks import make_network
from metagym.errors import InvalidArgumentError
from metagym.tasks.few_shot import Tasks


class AdaptingMethod(FewShotMethod):
    """A network with one output for each class or value, whose weights depend on the task.

    Its ``Config`` is a ``NetworkConfig`` with ``over_tasks`` and ``chunk``: how a batch of tasks
    is run, see ``functional.py``.

    Raises:
        InvalidArgumentError: norm="running", which does not fit weights that change.
    """

    def __init__(self, shape: TaskShape, config: Any = None) -> None:
        super().__init__(shape, config)
        if self.config.norm == "running":
            raise InvalidArgumentError(
                "norm='running' is for methods that embed without adapting; choose 'support' for "
                "predictions that are not transductive, or 'batch'."
            )
        self.network = make_network(shape, self.config, shape.outputs)
        self.transductive = self.network.norm == "batch"

    def check(self, tasks: Tasks) -> None:
        """Refuse tasks of another shape, and those with more ways than there are outputs."""
        check_ways(tasks, self.shape, self.name)

    def support_loss(self, params: Params, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The loss of one task's examples [S, ...] under ``params``."""
        return per_task_loss(self.shape.kind, functional_call(self.network, params, (x,)), y)

    def outputs_of(
        self, params: Params, support_x: torch.Tensor, query_x: torch.Tensor
    ) -> torch.Tensor:
        """Logits or values [Q, outputs] of one task under ``params``."""
        if self.network.norm != "support":
            return functional_call(self.network, params, (query_x,))
        count = len(support_x)
        both = functional_call(self.network, params, (torch.cat([support_x, query_x]), count))
        return both[count:]

    def numbers(self, outputs: torch.Tensor, query_y: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loss and the score of one task."""
        loss = per_task_loss(self.shape.kind, outputs, query_y)
        score = accuracy if self.shape.kind == "classification" else mse
        return {
            "loss": loss,
            score_name(self.shape.kind): score(outputs.detach(), query_y),
        }

    def how(self) -> str:
        """How a batch of tasks is run on this device."""
        return choose(self.config.over_tasks, self.device, self.network.on_cpu)

    @abstractmethod
    def task_numbers(
        self,
        support_x: torch.Tensor,
        support_y: torch.Tensor,
        query_x: torch.Tensor,
        query_y: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """What one task adds to the meta-loss ("loss"), and its score."""

    def meta_loss(
        self, tasks: Tasks, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """As ``FewShotMethod.meta_loss``: the mean of ``task_numbers`` over the tasks."""
        self.check(tasks)
        return meta_objective(
            self.task_numbers, tasks, self.parameters(), self.how(), self.config.chunk
        )
