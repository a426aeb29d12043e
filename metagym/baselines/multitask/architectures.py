"""The one table of multi-task networks, and how one is made by name.

Modules load when they are asked for.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from metagym.errors import InvalidArgumentError, reject_unknown_kwargs
from metagym.named import load_named

if TYPE_CHECKING:
    from metagym.baselines.multitask.architecture import Architecture
    from metagym.baselines.multitask.data import TasksShape

_HERE = "metagym.baselines.multitask"

ARCHITECTURES: dict[str, str] = {
    "single": f"{_HERE}.sharing:Single",
    "hard": f"{_HERE}.sharing:Hard",
    "soft": f"{_HERE}.sharing:Soft",
    "shared_private": f"{_HERE}.private:SharedPrivate",
    "cross_stitch": f"{_HERE}.mixing:CrossStitch",
    "mmoe": f"{_HERE}.mixing:MMoE",
    "deep_relationship": f"{_HERE}.relationship_network:DeepRelationship",
    "conditioned": f"{_HERE}.conditioning:Conditioned",
    "multi_source": f"{_HERE}.sources:MultiSource",
}


def architecture_class(name: str) -> type[Architecture]:
    """The class of the network called ``name``.

    Raises:
        InvalidArgumentError: there is no such network.
    """
    found: type[Architecture] = load_named("architecture", name, ARCHITECTURES)
    return found


def make_architecture(
    name: str,
    shape: TasksShape,
    config: Any = None,
    *,
    seed: int = 0,
    **fields: Any,
) -> Architecture:
    """The network called ``name`` for tasks of a shape, with fresh weights.

    Args:
        name: one of ``ARCHITECTURES``.
        shape: of the tasks, see ``TasksShape.of``.
        config: of the network's ``Config``; its defaults by default.
        seed: of the weights; the global generator is left as it was.
        **fields: of a new config, instead of ``config``.

    Raises:
        InvalidArgumentError: no such network or field, both ``config`` and ``fields``, or a value
            that cannot work.
    """
    import torch

    network = architecture_class(name)
    if fields and config is not None:
        raise InvalidArgumentError(f"Give a config or its fields ({', '.join(fields)}), not both.")
    if fields:
        known = {field.name for field in dataclasses.fields(network.Config)}
        reject_unknown_kwargs(network.Config, {k: v for k, v in fields.items() if k not in known})
        config = network.Config(**fields)
    with torch.random.fork_rng(devices=[]):  # torch initialises from its global generator
        torch.manual_seed(seed)
        return network(shape, config)
