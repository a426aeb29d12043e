"""The functional core: gradient steps on one task's parameters, mapped over a batch of tasks.

Everything here is about one task, as a pure function of parameters and data; ``map_tasks`` and
``meta_objective`` run it on a batch. How they do it (``over_tasks``) changes speed and memory,
never the numbers:

    "vmap"   one array program for all tasks (``torch.func.vmap``)
    "chunk"  the same for ``chunk`` tasks at a time: the memory of one chunk
    "loop"   one task after the other: no vmap, the memory of one task
    "auto"   vmap on a GPU; on a CPU what was measured to be fastest: vmap for an MLP, chunks for
             strided convolutions, a loop for convolutions with max-pooling
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from metagym.errors import InvalidArgumentError, check_choice, check_positive

Params = dict[str, torch.Tensor]
Rates = Mapping[str, torch.Tensor | float]
Loss = Callable[[Params], torch.Tensor]

OVER_TASKS = ("auto", "vmap", "chunk", "loop")


# -- one task ----------------------------------------------------------------------------------


def inner_gradient(
    loss: Loss, params: Params, names: Iterable[str], *, first_order: bool = False
) -> Params:
    """∂loss/∂params[name] of the named parameters.

    Args:
        loss: a scalar of all parameters.
        params: where to differentiate.
        names: of the parameters that are adapted; the others are constants of the step.
        first_order: True gives gradients that are constants to whoever differentiates through
            them, which is what drops the Hessian from MAML's meta-gradient.
    """
    chosen = {name: params[name] for name in names}

    def loss_of(adapted: Params) -> torch.Tensor:
        return loss({**params, **adapted})

    with torch.no_grad() if first_order else contextlib.nullcontext():
        gradients: Params = torch.func.grad(loss_of)(chosen)
    return gradients


def inner_step(loss: Loss, params: Params, rates: Rates, *, first_order: bool = False) -> Params:
    """One gradient step: ``params - rates · gradient``, for the parameters that have a rate.

    Args:
        loss: a scalar of all parameters.
        params: before the step.
        rates: by name; a number or a tensor that broadcasts to the parameter.
        first_order: see ``inner_gradient``; gradients still flow to ``params`` and ``rates``.
    """
    gradients = inner_gradient(loss, params, rates, first_order=first_order)
    return {**params, **{name: params[name] - rates[name] * gradients[name] for name in rates}}


def descend(
    loss: Loss, params: Params, rates: Iterable[Rates], *, first_order: bool = False
) -> Iterator[Params]:
    """The parameters after each step; one step for each element of ``rates``."""
    for step_rates in rates:
        params = inner_step(loss, params, step_rates, first_order=first_order)
        yield params


def adapt(
    loss: Loss, params: Params, rates: Iterable[Rates], *, first_order: bool = False
) -> Params:
    """The parameters after the last step of ``descend``; ``params`` if there is no step."""
    return last(descend(loss, params, rates, first_order=first_order), params)


def last(points: Iterable[Params], default: Params) -> Params:
    """The last of ``points``, without keeping the others; ``default`` if there is none."""
    return deque(itertools.chain([default], points), maxlen=1).pop()


# -- many tasks --------------------------------------------------------------------------------


def choose(over_tasks: str, device: torch.device, on_cpu: str) -> str:
    """What "auto" means for a network on a device; any other choice is returned as it is.

    Args:
        over_tasks: one of ``OVER_TASKS``.
        device: where the network is.
        on_cpu: what is fastest for it on a CPU, as networks say.

    Raises:
        InvalidArgumentError: there is no such choice.
    """
    if check_choice("over_tasks", over_tasks, OVER_TASKS) != "auto":
        return over_tasks
    return on_cpu if device.type == "cpu" else "vmap"


def map_tasks(
    function: Callable[..., Any], arguments: Sequence[torch.Tensor], how: str, chunk: int = 8
) -> Any:
    """``function`` of every task, stacked.

    Args:
        function: of the arguments of one task, to a tensor or a tree of tensors.
        arguments: tensors [B, ...].
        how: "vmap", "chunk" or "loop"; one task alone is never vmapped, which would only cost.
        chunk: tasks at a time.

    Raises:
        InvalidArgumentError: no task, or no such ``how``.
    """
    count = _count(arguments)
    check_choice("how", how, OVER_TASKS[1:])
    if how == "loop" or count == 1:
        results = [function(*(x[i] for x in arguments)) for i in range(count)]
        flat = [pytree.tree_leaves(result) for result in results]
        stacked = [torch.stack(column) for column in zip(*flat, strict=True)]
        return pytree.tree_unflatten(stacked, pytree.tree_structure(results[0]))
    size = check_positive("chunk", chunk) if how == "chunk" else None
    return torch.func.vmap(function, chunk_size=size)(*arguments)


def meta_objective(
    function: Callable[..., dict[str, torch.Tensor]],
    arguments: Sequence[torch.Tensor],
    parameters: Iterable[torch.Tensor],
    how: str,
    chunk: int = 8,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The mean loss over tasks, ready for ``backward()``, and the means of all other numbers.

    "chunk" and "loop" differentiate part after part and keep the graph of one part only; what
    they return has the right value and, by a term that is zero, the right gradient.

    Args:
        function: of the arguments of one task, to scalars; that called "loss" is minimised.
        arguments: tensors [B, ...].
        parameters: what the outer loop learns; others get no gradient from "chunk" and "loop".
        how, chunk: as in ``map_tasks``.

    Raises:
        InvalidArgumentError: no task, or no such ``how``.
    """
    count = _count(arguments)
    if how == "vmap" or not torch.is_grad_enabled():
        values = map_tasks(function, arguments, how, chunk)
        means = {name: value.mean() for name, value in values.items()}
        return means["loss"], {name: mean.detach() for name, mean in means.items()}
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    totals = [torch.zeros_like(parameter) for parameter in learned]
    parts: list[dict[str, torch.Tensor]] = []
    size = 1 if how == "loop" else check_positive("chunk", chunk)
    for start in range(0, count, size):
        part = [x[start : start + size] for x in arguments]
        values = map_tasks(function, part, "loop" if how == "loop" else "vmap")
        gradients = torch.autograd.grad(values["loss"].sum() / count, learned, allow_unused=True)
        for total, gradient in zip(totals, gradients, strict=True):
            if gradient is not None:
                total += gradient
        parts.append({name: value.detach() for name, value in values.items()})
    means = {name: torch.cat([part[name] for part in parts]).mean() for name in parts[0]}
    with torch.autocast(learned[0].device.type, enabled=False):
        return known_gradient(means["loss"], learned, totals), means


def known_gradient(
    value: torch.Tensor, parameters: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor]
) -> torch.Tensor:
    """A scalar equal to ``value`` whose gradient to ``parameters`` is ``gradients``."""
    pairs = zip(parameters, gradients, strict=True)
    inner = torch.stack([(p * g.detach()).sum() for p, g in pairs]).sum()
    return value.detach() + (inner - inner.detach())


def _count(arguments: Sequence[torch.Tensor]) -> int:
    count = len(arguments[0])
    if not count:
        raise InvalidArgumentError("A batch needs at least one task.")
    return count
