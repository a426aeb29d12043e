"""The meta-learner LSTM (Ravi & Larochelle 2017): an update rule with learned gates.

The weights θ of a learner are the cell state of an LSTM that runs along the steps of learning:

    θ_t = f_t · θ_{t-1} - i_t · ∇L(θ_{t-1})                              (equation 2)

for each weight alone, with gates f and i that all weights share as functions. They read the
gradient and the loss through a first, ordinary LSTM, the weight, and their own last value. What
is learned are the gates and the initial cell state, which is the learner's initialisation.
As in the paper, gradients and losses are constants to the meta-gradient (first order).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.func import functional_call

from metagym.baselines.few_shot.base import (
    FewShotMethod,
    TaskShape,
    accuracy,
    check_tasks,
    mse,
    per_task_loss,
    score_name,
)
from metagym.baselines.few_shot.functional import (
    OVER_TASKS,
    Params,
    choose,
    map_tasks,
    meta_objective,
)
from metagym.baselines.few_shot.networks import NetworkConfig, make_network
from metagym.errors import InvalidArgumentError, check_above_zero, check_choice, check_positive
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
        p: of the preprocessing; see ``preprocess``.
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
        if self.norm == "running":
            raise InvalidArgumentError(
                "norm='running' is for methods that embed without adapting; choose 'support', or "
                "'batch' for transductive predictions."
            )


def preprocess(x: torch.Tensor, p: float = 10.0) -> torch.Tensor:
    """Numbers of any size as two of moderate size (Andrychowicz et al. 2016, appendix A).

    Args:
        x: [...].
        p: numbers below e^-p are small.

    Returns:
        [..., 2]: (log|x| / p, sign x) where |x| ≥ e^-p, and (-1, e^p x) where it is smaller.
    """
    size = x.abs()
    large = size >= math.exp(-p)
    logs = torch.where(large, size, torch.ones_like(size)).log() / p
    first = torch.where(large, logs, -torch.ones_like(x))
    second = torch.where(large, x.sign(), x * math.exp(p))
    return torch.stack([first, second], dim=-1)


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
            [preprocess(gradient, self.p), preprocess(loss, self.p).expand(len(weights), 2)], -1
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


class MetaLSTM(FewShotMethod):
    """A learner whose weights are trained by a learned rule from a learned start."""

    name = "meta_lstm"
    Config = MetaLSTMConfig
    config: MetaLSTMConfig

    def __init__(self, shape: TaskShape, config: MetaLSTMConfig | None = None) -> None:
        super().__init__(shape, config)
        self.network = make_network(shape, self.config, shape.outputs)
        self.rule = GatedRule(self.config)
        self.transductive = self.network.norm == "batch"

    def learn(
        self, support_x: torch.Tensor, support_y: torch.Tensor, steps: int | None = None
    ) -> Params:
        """The learner's parameters after ``steps`` on the support set of one task."""
        start = dict(self.network.named_parameters())
        weights = torch.cat([parameter.flatten() for parameter in start.values()])
        memory = self.rule.start(weights)

        def loss_of(weights: torch.Tensor) -> torch.Tensor:
            params = _unflatten(weights, start)
            outputs = functional_call(self.network, params, (support_x,))
            return per_task_loss(self.shape.kind, outputs, support_y)

        for _ in range(self.config.steps if steps is None else steps):
            with torch.no_grad():  # what torch.func.grad returns is then a constant
                gradient, loss = torch.func.grad_and_value(loss_of)(weights)
            weights, memory = self.rule(weights, gradient, loss, memory)
        return _unflatten(weights, start)

    def meta_loss(
        self, tasks: Tasks, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        check_tasks(tasks, self.shape)
        return meta_objective(
            self._numbers, tasks, self.parameters(), self._how(), self.config.chunk
        )

    def predict(self, tasks: Tasks, steps: int | None = None) -> torch.Tensor:
        """Logits or values [B, Q, outputs] after ``steps``, by default those of training.

        Raises:
            InvalidArgumentError: tasks of another shape, or steps that are no whole number from
                0 on.
        """
        check_tasks(tasks, self.shape)
        if steps is not None and steps != 0:
            check_positive("steps", steps)

        def answer(support_x: Any, support_y: Any, query_x: Any) -> torch.Tensor:
            with torch.no_grad():
                params = self.learn(support_x, support_y, steps)
                return self._outputs(params, support_x, query_x)

        predictions: torch.Tensor = map_tasks(answer, tasks[:3], self._how(), self.config.chunk)
        return predictions

    def _numbers(
        self,
        support_x: torch.Tensor,
        support_y: torch.Tensor,
        query_x: torch.Tensor,
        query_y: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Loss and score of one task."""
        outputs = self._outputs(self.learn(support_x, support_y), support_x, query_x)
        kind = self.shape.kind
        loss = per_task_loss(kind, outputs, query_y)
        score = accuracy if kind == "classification" else mse
        return {"loss": loss, score_name(kind): score(outputs.detach(), query_y)}

    def _outputs(
        self, params: Params, support_x: torch.Tensor, query_x: torch.Tensor
    ) -> torch.Tensor:
        """Logits or values [Q, outputs] of one task."""
        if self.network.norm != "support":
            return functional_call(self.network, params, (query_x,))
        count = len(support_x)
        both = functional_call(self.network, params, (torch.cat([support_x, query_x]), count))
        return both[count:]

    def _how(self) -> str:
        return choose(self.config.over_tasks, self.device, self.network.on_cpu)


def _unflatten(weights: torch.Tensor, like: Mapping[str, torch.Tensor]) -> Params:
    """Parameters by name from one vector of all of them."""
    parts = weights.split([parameter.numel() for parameter in like.values()])
    return {
        name: part.view_as(parameter)
        for (name, parameter), part in zip(like.items(), parts, strict=True)
    }
