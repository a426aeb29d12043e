"""Few-shot methods of a third party; the processes of a run import them by name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from metagym.baselines.few_shot import FewShotMethod
from metagym.baselines.few_shot.base import per_task_loss


class Average(FewShotMethod):
    """Every value of a query set is the mean of the support set's, times what is learned."""

    name = "average"

    @dataclass(frozen=True)
    class Config:
        start: float = 1.0

    def __init__(self, shape, config=None) -> None:
        super().__init__(shape, config)
        self.scale = nn.Parameter(torch.tensor(self.config.start))

    def predict(self, tasks):
        mean = tasks.support_y.mean(1, keepdim=True) * self.scale
        return mean.expand_as(tasks.query_y)

    def meta_loss(self, tasks, generator):
        loss = per_task_loss("regression", self.predict(tasks), tasks.query_y).mean()
        return loss, {"loss": loss.detach()}


class Maml(Average):
    """Takes a name of metagym's."""

    name = "maml"


class Nameless(Average):
    """Takes a name of a recipe of metagym's."""

    name = "matching_fce"


class NoConfig(FewShotMethod):
    name = "no_config"


class OptimizerOfItsOwn(Average):
    name = "optimizer_of_its_own"

    @dataclass(frozen=True)
    class Config:
        optimizer: str = "mine"


class NoMethod:
    name = "no_method"
