"""MAML++ (Antoniou, Edwards and Storkey 2019, "How to train your MAML"), three of its parts.

The query loss is counted after every inner step, with weights that move to the last step as
meta-training goes on; each weight tensor has a learned rate for each step; and second derivatives
come in only after a first-order start. (Its batch-norm statistics per step are not here.)

Lecture topic: meta-learning, learning to initialise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from metagym.baselines.few_shot.base import TaskShape
from metagym.baselines.few_shot.functional import Rates, descend
from metagym.baselines.few_shot.gradient import GradientConfig, GradientMethod
from metagym.errors import InvalidArgumentError

_SMALLEST = 0.03  # of 1 / steps: where the weights of the inner losses end


@dataclass(frozen=True)
class MAMLPlusPlusConfig(GradientConfig):
    """MAML++; the inner rates are learned, starting from ``inner_lr``.

    Args:
        inner_steps: gradient steps per task in meta-training.
        multi_step_share: of meta-training, until only the loss after the last step counts.
        first_order_share: of meta-training, without second derivatives, at its start.
    """

    inner_steps: int = 5
    multi_step_share: float = 0.15
    first_order_share: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("multi_step_share", "first_order_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InvalidArgumentError(
                    f"{name}={getattr(self, name)!r} has to be between 0 and 1."
                )


class MAMLPlusPlus(GradientMethod):
    """MAML with a multi-step loss, learned rates and annealed order."""

    name = "maml_plus_plus"
    Config = MAMLPlusPlusConfig
    config: MAMLPlusPlusConfig

    def __init__(self, shape: TaskShape, config: MAMLPlusPlusConfig | None = None) -> None:
        super().__init__(shape, config)
        self.learned_rates = nn.ParameterList(
            torch.full((self.config.inner_steps,), self.config.inner_lr)
            for _ in self.adapted_names()
        )

    def rates(self, step: int) -> Rates:
        """The rates of a step; steps beyond those of meta-training take the last ones."""
        step = min(step, self.config.inner_steps - 1)
        pairs = zip(self.adapted_names(), self.learned_rates, strict=True)
        return {name: learned[step] for name, learned in pairs}

    @property
    def first_order(self) -> bool:
        return self.progress < self.config.first_order_share

    def step_weights(self) -> list[float]:
        """How much the query loss after each inner step counts now; they add up to 1."""
        share, count = self.config.multi_step_share, self.config.inner_steps
        done = min(1.0, self.progress / share) if share else 1.0
        early = max(1.0 - done, _SMALLEST) / count
        return [early] * (count - 1) + [1.0 - early * (count - 1)]

    def task_numbers(
        self,
        support_x: torch.Tensor,
        support_y: torch.Tensor,
        query_x: torch.Tensor,
        query_y: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        points = descend(
            lambda params: self.support_loss(params, support_x, support_y),
            self.initial_parameters(),
            [self.rates(step) for step in range(self.config.inner_steps)],
            first_order=self.first_order,
        )
        total: torch.Tensor | float = 0.0
        for weight, params in zip(self.step_weights(), points, strict=True):
            numbers = self.numbers(self.outputs_of(params, support_x, query_x), query_y)
            total = total + weight * numbers["loss"]
        return {**numbers, "loss": torch.as_tensor(total)}
