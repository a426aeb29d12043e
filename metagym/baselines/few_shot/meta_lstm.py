"""The meta-learner LSTM (Ravi & Larochelle 2017): an update rule with learned gates.

The weights θ of a learner are the cell state of an LSTM that runs along the steps of learning:

    θ_t = f_t · θ_{t-1} - i_t · ∇L(θ_{t-1})                              (equation 2)

for each weight alone, with gates f and i that all weights share as functions. They read the
gradient and the loss through a first, ordinary LSTM, the weight, and their own last value. What
is learned are the gates and the initial cell state, which is the learner's initialisation.
As in the paper, gradients and losses are constants to the meta-gradient (first order).

Lecture topic: meta-learning, learning the learner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from metagym.baselines.few_shot.adapting import AdaptingMethod
from metagym.baselines.few_shot.base import TaskShape
from metagym.baselines.few_shot.functional import OVER_TASKS, Params, map_tasks
from metagym.baselines.few_shot.networks import NetworkConfig
from metagym.baselines.learned_optimizers.coordinatewise import log_and_sign
from metagym.errors import check_above_zero, check_choice, check_positive
from metagym.tasks.few_shot import Tasks


@dataclass(frozen=True)
class MetaLSTMConfig(NetworkConfig):
    """The meta-learner LSTM.

    Args:
        norm: of conv4; "running" does not fit a learner that adapts.
        width: of the first LSTM, over gradients and losses; 0 leaves it out, and the gates read
            those themselves, as in the paper's equations.
        steps: of learning on the support set, all of it in each.
        forget_bias, input_bias: of the gates at first. The defaults forget nearly nothing and
            descend at a rate of σ(-4.5) = 0.011.
        p: of how gradients and losses are read; see ``log_and_sign``.
        over_tasks, chunk: how a batch of tasks is run, as in ``GradientConfig``.
    """

    filters: int = 32
    norm: Literal["batch", "support", "running", "none"] = "support"
    width: int = 20
    steps: int = 5
    forget_bias: float = 4.5
    input_bias: float = -4.5
    p: float = 10.0
    over_tasks: Literal["auto", "vmap", "chunk", "loop"] = "auto"
    chunk: int = 8

    def __post_init__(self) -> None:
        if self.width != 0:
            check_positive("width", self.width)
        check_positive("steps", self.steps)
        check_positive("chunk", self.chunk)
        check_above_zero("p", self.p)
        check_choice("over_tasks", self.over_tasks, OVER_TASKS)


class Memory(NamedTuple):
    """What the rule carries from step to step, of P weights."""

    hidden: torch.Tensor  # of the first LSTM, [P, width]
    cell: torch.Tensor  # [P, width]
    forget: torch.Tensor  # the last gates, [P]
    input: torch.Tensor  # [P]


class GatedRule(nn.Module):
    """θ ← f θ - i ∇L for each weight; see the top of this file.

    Args:
        config: its widths and biases.
    """

    def __init__(self, config: MetaLSTMConfig) -> None:
        super().__init__()
        self.width, self.p = config.width, config.p
        read = config.width or 4
        self.first = nn.Linear(4 + config.width, 4 * config.width) if config.width else None
        self.forget, self.input = nn.Linear(read + 2, 1), nn.Linear(read + 2, 1)
        for gate, bias in ((self.forget, config.forget_bias), (self.input, config.input_bias)):
            nn.init.uniform_(gate.weight, -0.01, 0.01)
            nn.init.constant_(gate.bias, bias)

    def start(self, weights: torch.Tensor) -> Memory:
        """The memory before the first step, for weights [P]."""
        wide = weights.new_zeros(len(weights), self.width)
        return Memory(wide, wide, torch.zeros_like(weights), torch.zeros_like(weights))

    def forward(
        self, weights: torch.Tensor, gradient: torch.Tensor, loss: torch.Tensor, memory: Memory
    ) -> tuple[torch.Tensor, Memory]:
        """One step: weights and gradient [P], the loss at those weights [], to new weights [P]."""
        read = torch.cat(
            [log_and_sign(gradient, self.p), log_and_sign(loss, self.p).expand(len(weights), 2)], -1
        )
        hidden, cell = memory.hidden, memory.cell
        if self.first is not None:  # not nn.LSTMCell, whose kernel vmap cannot batch
            gates = self.first(torch.cat([read, hidden], -1)).chunk(4, dim=-1)
            into, keep, out = (gate.sigmoid() for gate in gates[:3])
            cell = keep * cell + into * gates[3].tanh()
            hidden = read = out * cell.tanh()
        forget, step = (
            gate(torch.cat([read, torch.stack([weights, last], -1)], -1)).squeeze(-1).sigmoid()
            for gate, last in ((self.forget, memory.forget), (self.input, memory.input))
        )
        return forget * weights - step * gradient, Memory(hidden, cell, forget, step)


class MetaLSTM(AdaptingMethod):
    """A learner whose weights are trained by a learned rule from a learned start."""

    name = "meta_lstm"
    Config = MetaLSTMConfig
    config: MetaLSTMConfig

    def __init__(self, shape: TaskShape, config: MetaLSTMConfig | None = None) -> None:
        super().__init__(shape, config)
        self.rule = GatedRule(self.config)

    def learn(
        self, support_x: torch.Tensor, support_y: torch.Tensor, steps: int | None = None
    ) -> Params:
        """The learner's parameters after ``steps`` on the support set of one task."""
        start = dict(self.network.named_parameters())
        weights = torch.cat([parameter.flatten() for parameter in start.values()])
        memory = self.rule.start(weights)

        def loss_of(weights: torch.Tensor) -> torch.Tensor:
            return self.support_loss(_unflatten(weights, start), support_x, support_y)

        for _ in range(self.config.steps if steps is None else steps):
            with torch.no_grad():  # what torch.func.grad returns is then a constant
                gradient, loss = torch.func.grad_and_value(loss_of)(weights)
            weights, memory = self.rule(weights, gradient, loss, memory)
        return _unflatten(weights, start)

    def task_numbers(
        self,
        support_x: torch.Tensor,
        support_y: torch.Tensor,
        query_x: torch.Tensor,
        query_y: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Loss and score of the query set after learning from the support set, for one task."""
        params = self.learn(support_x, support_y)
        return self.numbers(self.outputs_of(params, support_x, query_x), query_y)

    def predict(self, tasks: Tasks, steps: int | None = None) -> torch.Tensor:
        """Logits or values [B, Q, outputs] after ``steps``, by default those of training.

        Raises:
            InvalidArgumentError: tasks of another shape or with more ways, or steps that are no
                whole number from 0 on.
        """
        self.check(tasks)
        if steps is not None and steps != 0:
            check_positive("steps", steps)

        def answer(support_x: Any, support_y: Any, query_x: Any) -> torch.Tensor:
            with torch.no_grad():
                params = self.learn(support_x, support_y, steps)
                return self.outputs_of(params, support_x, query_x)

        predictions: torch.Tensor = map_tasks(answer, tasks[:3], self.how(), self.config.chunk)
        return predictions


def _unflatten(weights: torch.Tensor, like: Mapping[str, torch.Tensor]) -> Params:
    """Parameters by name from one vector of all of them."""
    parts = weights.split([parameter.numel() for parameter in like.values()])
    return {
        name: part.view_as(parameter)
        for (name, parameter), part in zip(like.items(), parts, strict=True)
    }
