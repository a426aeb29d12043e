"""Reptile (Nichol, Achiam and Schulman 2018), and joint training, which is Reptile of one step.

Reptile trains on a task for k steps and moves the initial weights φ a little towards the result
φ'. Its meta-gradient is φ - φ': for k = 1 that is the gradient of the loss on all tasks at once,
so joint training is its control; from k = 2 on it also makes the gradients of minibatches of one
task agree, which is what lets the next task be learned fast.

Lecture topic: meta-learning, learning to initialise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from metagym.baselines.few_shot.functional import (
    Params,
    inner_gradient,
    known_gradient,
    last,
    map_tasks,
)
from metagym.baselines.few_shot.gradient import GradientConfig, GradientMethod
from metagym.errors import check_choice, check_positive
from metagym.tasks.few_shot import Tasks

INNER_OPTIMIZERS = ("sgd", "adam")


@dataclass(frozen=True)
class ReptileConfig(GradientConfig):
    """Reptile, whose inner loop sees support and query set as one set of training data.

    Args:
        inner_steps: k, each on a minibatch of its own.
        minibatch: examples in it, of those of the task; None: all of them in every step.
        inner_optimizer: "sgd", or "adam" with β₁ = 0 and moments that start anew in each task.
    """

    inner_lr: float = 0.02
    inner_steps: int = 5
    minibatch: int | None = 10
    inner_optimizer: Literal["sgd", "adam"] = "sgd"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("inner_optimizer", self.inner_optimizer, INNER_OPTIMIZERS)
        if self.minibatch is not None:
            check_positive("minibatch", self.minibatch)


class Reptile(GradientMethod):
    """Moves the initial weights towards those that a task's training ends at."""

    name = "reptile"
    Config = ReptileConfig
    config: ReptileConfig

    def meta_loss(
        self, tasks: Tasks, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """A surrogate whose gradient is the mean of φ - φ'; "loss" is that before any step."""
        self.check(tasks)
        x, y = union(tasks)
        batches = self._minibatches(x.shape[0], x.shape[1], generator)

        def train(
            x: torch.Tensor, y: torch.Tensor, batches: torch.Tensor
        ) -> dict[str, torch.Tensor]:
            start = self.initial_parameters()
            end = last(self.train_on(start, ((x[rows], y[rows]) for rows in batches)), start)
            moved = {f"moved.{name}": start[name] - end[name] for name in start}
            return {**self.numbers(self.outputs_of(start, x, x), y), **moved}

        with torch.no_grad():
            results = map_tasks(train, (x, y, batches), self.how(), self.config.chunk)
        means = {name: value.mean(0) for name, value in results.items()}
        initial = self.initial_parameters()
        moves = [means.pop(f"moved.{name}") for name in initial]
        return known_gradient(means["loss"], list(initial.values()), moves), means

    def descent(
        self, support_x: torch.Tensor, support_y: torch.Tensor, steps: int
    ) -> Iterator[Params]:
        examples = ((support_x, support_y) for _ in range(steps))
        return self.train_on(self.initial_parameters(), examples)

    def train_on(
        self, params: Params, batches: Iterator[tuple[torch.Tensor, torch.Tensor]]
    ) -> Iterator[Params]:
        """The parameters after a step of the inner optimiser on each batch of examples."""
        adam, squares = self.config.inner_optimizer == "adam", dict[str, torch.Tensor]()
        for step, (x, y) in enumerate(batches):
            gradients = inner_gradient(
                lambda params, x=x, y=y: self.support_loss(params, x, y),  # type: ignore[misc]
                params, self.adapted_names(), first_order=True,
            )  # fmt: skip
            rates = self.rates(step)
            for name, gradient in gradients.items():
                if adam:
                    old = squares.get(name, torch.zeros_like(gradient))
                    squares[name] = 0.999 * old + 0.001 * gradient.square()
                    mean_square = squares[name] / (1.0 - 0.999 ** (step + 1))
                    gradients[name] = gradient / (mean_square.sqrt() + 1e-8)
            moved = {name: params[name] - rates[name] * gradients[name] for name in gradients}
            params = {**params, **moved}
            yield params

    def _minibatches(self, tasks: int, examples: int, generator: torch.Generator) -> torch.Tensor:
        """Rows of the examples, [tasks, inner_steps, size], without replacement in a batch."""
        steps, size = self.config.inner_steps, self.config.minibatch
        if size is None or size >= examples:
            rows = torch.arange(examples, device=generator.device)
            return rows.expand(tasks, steps, examples)
        keys = torch.rand(tasks, steps, examples, generator=generator, device=generator.device)
        return keys.argsort(-1)[..., :size]


class Joint(GradientMethod):
    """Ordinary training on the examples of all tasks at once, then gradient steps on the task.

    The pretrained control: for sinusoids its network tends to the mean of all tasks.
    """

    name = "joint"

    def task_numbers(
        self,
        support_x: torch.Tensor,
        support_y: torch.Tensor,
        query_x: torch.Tensor,
        query_y: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """The loss of the unadapted network on all examples of the task."""
        x, y = torch.cat([support_x, query_x]), torch.cat([support_y, query_y])
        return self.numbers(self.outputs_of(self.initial_parameters(), x, x), y)


def union(tasks: Tasks) -> tuple[torch.Tensor, torch.Tensor]:
    """The examples of each task, support and query, as one set: inputs and targets."""
    x = torch.cat([tasks.support_x, tasks.query_x], 1)
    return x, torch.cat([tasks.support_y, tasks.query_y], 1)
