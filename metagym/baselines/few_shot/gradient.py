"""Learning to initialise: MAML (Finn et al. 2017) and its relatives, on one functional core.

With parameters θ, inner rate α and the losses of support and query set, one inner step gives
θ' = θ - α ∇L_support(θ), and meta-training descends on the mean over tasks of L_query(θ'), whose
gradient is (I - α ∇²L_support(θ)) ∇L_query(θ'). FOMAML leaves the Hessian away, ANIL (Raghu et
al. 2020) adapts the last layer only, and Meta-SGD (Li et al. 2017) learns an α for each weight.
MAML++ and Reptile have their own files.

Lecture topic: meta-learning, learning to initialise.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from metagym.baselines.few_shot.adapting import AdaptingMethod
from metagym.baselines.few_shot.base import TaskShape
from metagym.baselines.few_shot.clone import Learner
from metagym.baselines.few_shot.functional import (
    OVER_TASKS,
    Params,
    Rates,
    adapt,
    descend,
    map_tasks,
)
from metagym.baselines.few_shot.networks import NetworkConfig
from metagym.errors import check_above_zero, check_choice, check_positive
from metagym.tasks.few_shot import Tasks


@dataclass(frozen=True)
class GradientConfig(NetworkConfig):
    """What all methods that adapt by gradient steps share.

    Args:
        inner_lr: α; of Meta-SGD and MAML++ the value that learning starts from.
        inner_steps: gradient steps per task in meta-training.
        test_steps: the same for predictions; None: as many as in meta-training.
        over_tasks: how a batch of tasks is run: "vmap", "chunk", "loop" or "auto"; it changes
            speed and memory, not the numbers.
        chunk: tasks at a time, for "chunk".
    """

    inner_lr: float = 0.01
    inner_steps: int = 1
    test_steps: int | None = None
    over_tasks: Literal["auto", "vmap", "chunk", "loop"] = "auto"
    chunk: int = 8

    def __post_init__(self) -> None:
        check_above_zero("inner_lr", self.inner_lr)
        check_positive("inner_steps", self.inner_steps)
        check_positive("chunk", self.chunk)
        check_choice("over_tasks", self.over_tasks, OVER_TASKS)
        if self.test_steps is not None:
            _check_steps("test_steps", self.test_steps)


class GradientMethod(AdaptingMethod):
    """A network whose weights adapt to the support set by gradient steps.

    Subclasses say what is adapted (``adapted_names``), how fast (``rates``), and what
    meta-training descends on (``task_numbers`` or the whole of ``meta_loss``).
    """

    Config = GradientConfig
    config: GradientConfig

    def initial_parameters(self) -> Params:
        """What a task starts from, by name."""
        return dict(self.network.named_parameters())

    def adapted_names(self) -> tuple[str, ...]:
        """Of the parameters that inner steps change."""
        return tuple(name for name, _ in self.network.named_parameters())

    def rates(self, step: int) -> Rates:
        """The learning rate of each adapted parameter in inner step ``step`` (from 0)."""
        return dict.fromkeys(self.adapted_names(), self.config.inner_lr)

    # -- meta-training -------------------------------------------------------------------------

    @property
    def first_order(self) -> bool:
        """True where meta-gradients leave second derivatives away."""
        return False

    def task_numbers(
        self,
        support_x: torch.Tensor,
        support_y: torch.Tensor,
        query_x: torch.Tensor,
        query_y: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """The loss of the query set after adapting to the support set, for one task."""
        params = adapt(
            lambda params: self.support_loss(params, support_x, support_y),
            self.initial_parameters(),
            [self.rates(step) for step in range(self.config.inner_steps)],
            first_order=self.first_order,
        )
        return self.numbers(self.outputs_of(params, support_x, query_x), query_y)

    # -- predictions ---------------------------------------------------------------------------

    def predict(self, tasks: Tasks, steps: int | None = None) -> torch.Tensor:
        """As ``FewShotMethod.predict``, after ``steps`` inner steps; None: ``test_steps``."""
        return self.predict_path(tasks, steps)[-1]

    @torch.no_grad()
    def predict_path(self, tasks: Tasks, steps: int | None = None) -> torch.Tensor:
        """The predictions after every number of inner steps.

        Args:
            tasks: the tasks.
            steps: how many; None: ``test_steps`` of the config.

        Returns:
            [steps + 1, B, Q, outputs], the first before any step.

        Raises:
            InvalidArgumentError: tasks of another shape or with more ways, or a negative number of
                steps.
        """
        self.check(tasks)
        if steps is None:
            planned = self.config.test_steps
            steps = self.config.inner_steps if planned is None else planned
        count = _check_steps("steps", steps)

        def path(sx: torch.Tensor, sy: torch.Tensor, qx: torch.Tensor) -> torch.Tensor:
            points = itertools.chain([self.initial_parameters()], self.descent(sx, sy, count))
            return torch.stack([self.outputs_of(params, sx, qx) for params in points])

        outputs: torch.Tensor = map_tasks(path, tasks[:3], self.how(), self.config.chunk)
        return outputs.transpose(0, 1)

    def descent(
        self, support_x: torch.Tensor, support_y: torch.Tensor, steps: int
    ) -> Iterator[Params]:
        """The parameters of one task after each step, without a graph through them."""
        return descend(
            lambda params: self.support_loss(params, support_x, support_y),
            self.initial_parameters(),
            (self.rates(step) for step in range(steps)),
            first_order=True,
        )

    def clone(self) -> Learner:
        """A copy of the network for one task, to adapt by losses of one's own; see ``clone.py``."""
        return Learner(self.network, self.rates, first_order=self.first_order)


class MAML(GradientMethod):
    """Model-agnostic meta-learning with second derivatives."""

    name = "maml"


class FOMAML(GradientMethod):
    """MAML whose meta-gradient is the query gradient at the adapted parameters."""

    name = "fomaml"

    @property
    def first_order(self) -> bool:
        return True


class ANIL(GradientMethod):
    """MAML that adapts the last layer only; the features below it are meta-learned."""

    name = "anil"

    def adapted_names(self) -> tuple[str, ...]:
        return tuple(name for name in super().adapted_names() if name.startswith("head."))


class MetaSGD(GradientMethod):
    """MAML with a meta-learned rate for each weight, which may also become negative."""

    name = "meta_sgd"

    def __init__(self, shape: TaskShape, config: GradientConfig | None = None) -> None:
        super().__init__(shape, config)
        self.learned_rates = nn.ParameterList(
            torch.full_like(parameter, self.config.inner_lr)
            for parameter in self.network.parameters()
        )

    def rates(self, step: int) -> Rates:
        return dict(zip(self.adapted_names(), self.learned_rates, strict=True))


def _check_steps(argument: str, value: int) -> int:
    """Return ``value`` if it is a whole number of at least 0, else raise."""
    return 0 if value == 0 and not isinstance(value, bool) else check_positive(argument, value)
