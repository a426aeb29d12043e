"""``clone()`` and ``adapt(loss)``: inner loops written by hand, as in learn2learn.

    maml = Clonable(model, lr=0.01)
    optimizer = torch.optim.Adam(maml.parameters())
    for task in tasks:
        learner = maml.clone()
        learner.adapt(loss(learner(task.x), task.y))
        total = total + loss(learner(task.query_x), task.query_y)
    total.backward()  # reaches the parameters of ``model`` through the inner steps

Any ``nn.Module``, any loss, any number of steps; one task after the other. What all tasks have in
common, ``gradient.py`` runs as one array program instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from metagym.baselines.few_shot.functional import Params, Rates
from metagym.errors import InvalidArgumentError, check_above_zero


class Learner:
    """A model with weights of its own, which remember where they came from.

    Args:
        model: what is called; it is never changed: parameters and buffers are the learner's.
        rates: the learning rates by name in a step (counted from 0); parameters without one are
            not adapted.
        first_order: True leaves second derivatives away.
    """

    def __init__(
        self, model: nn.Module, rates: Callable[[int], Rates], *, first_order: bool = False
    ) -> None:
        self._model, self._rates, self._first_order = model, rates, first_order
        self.params: Params = _own(dict(model.named_parameters()))
        self.buffers: Params = {name: x.clone() for name, x in model.named_buffers()}
        self.steps = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the model says with the weights of this learner."""
        return functional_call(self._model, {**self.params, **self.buffers}, args, kwargs)

    def adapt(
        self,
        loss: torch.Tensor,
        *,
        first_order: bool | None = None,
        allow_unused: bool = False,
    ) -> None:
        """One gradient step on ``loss``, a scalar that was computed with this learner.

        A loss of the model, or of the learner that this one was cloned from, is none of its own,
        even before a first step.

        Args:
            loss: its gradient is taken at the present weights.
            first_order: None: as the learner was made.
            allow_unused: True leaves parameters that ``loss`` does not depend on as they are.

        Raises:
            InvalidArgumentError: the loss is no scalar, or does not depend on the weights.
        """
        if loss.ndim:
            raise InvalidArgumentError(f"The loss has the shape {tuple(loss.shape)}; average it.")
        rates = {n: r for n, r in self._rates(self.steps).items() if self.params[n].requires_grad}
        create_graph = not (self._first_order if first_order is None else first_order)
        try:
            gradients = torch.autograd.grad(
                loss, [self.params[name] for name in rates],
                create_graph=create_graph, allow_unused=allow_unused,
            )  # fmt: skip
        except RuntimeError as error:
            raise InvalidArgumentError(
                f"This loss cannot adapt the learner: {error} A loss has to come from the learner "
                "as it is now; allow_unused=True skips what it does not depend on."
            ) from None
        for (name, rate), gradient in zip(rates.items(), gradients, strict=True):
            if gradient is not None:
                self.params[name] = self.params[name] - rate * gradient
        self.steps += 1

    def clone(self) -> Learner:
        """Another learner that starts from the present weights of this one."""
        copy = Learner(self._model, self._rates, first_order=self._first_order)
        copy.params, copy.steps = _own(self.params), self.steps
        copy.buffers = {name: x.clone() for name, x in self.buffers.items()}
        return copy

    def train(self, mode: bool = True) -> Learner:
        """Set the mode of the model, which all its learners share; returns this one."""
        self._model.train(mode)
        return self

    def eval(self) -> Learner:
        """``train(False)``."""
        return self.train(False)

    def named_parameters(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The present weights by name; they are no leaves."""
        yield from self.params.items()

    def parameters(self) -> Iterator[torch.Tensor]:
        """The present weights."""
        yield from self.params.values()


class Clonable(nn.Module):
    """Wraps any model, so that it can be cloned for tasks and trained through what they learn.

    Args:
        model: its parameters that require gradients are adapted.
        lr: learning rate of the inner gradient steps.
        first_order: True leaves second derivatives away (FOMAML).

    Raises:
        InvalidArgumentError: ``lr`` is not positive.
    """

    def __init__(self, model: nn.Module, lr: float, *, first_order: bool = False) -> None:
        super().__init__()
        self.model, self.lr, self.first_order = model, check_above_zero("lr", lr), first_order

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model says without adapting."""
        return self.model(*args, **kwargs)

    def clone(self) -> Learner:
        """A learner that starts from the weights of the model."""
        rates = {n: self.lr for n, p in self.model.named_parameters() if p.requires_grad}
        return Learner(self.model, lambda step: rates, first_order=self.first_order)


@torch.enable_grad()  # whatever the mode of the caller: the learner may adapt later
def _own(params: Params) -> Params:
    """The same values as nodes of their own, which tell a learner's losses from all others."""
    return {name: x.view_as(x) if x.requires_grad else x for name, x in params.items()}
