"""The one table of deep transfer methods; importing it loads no torch."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from metagym.errors import InvalidArgumentError, reject_unknown_kwargs
from metagym.named import load_named

if TYPE_CHECKING:
    from metagym.baselines.transfer.deep import DeepTransfer

_HERE = "metagym.baselines.transfer"

DEEP_METHODS: dict[str, str] = {
    "source_only": f"{_HERE}.deep_controls:SourceOnly",
    "target_only": f"{_HERE}.deep_controls:TargetOnly",
    "transfer_joint": f"{_HERE}.deep_controls:Joint",
    "transfer_fine_tuning": f"{_HERE}.fine_tuning:FineTuning",
    "l2_sp": f"{_HERE}.fine_tuning:L2SP",
    "importance_weighted": f"{_HERE}.deep_weighted:ImportanceWeighted",
    "deep_coral": f"{_HERE}.deep_coral:DeepCORAL",
    "deep_mmd": f"{_HERE}.deep_coral:DeepMMD",
    "dann": f"{_HERE}.dann:DANN",
}


def deep_method_class(name: str) -> type[DeepTransfer]:
    """The class of the method called ``name``.

    Raises:
        InvalidArgumentError: there is no such method.
    """
    found: type[DeepTransfer] = load_named("method", name, DEEP_METHODS)
    return found


def make_deep_method(
    name: str,
    *,
    seed: int = 0,
    device: str = "auto",
    out: Any = None,
    resume: bool = False,
    progress: bool = False,
    **fields: Any,
) -> DeepTransfer:
    """The method called ``name``, unfitted.

    Args:
        name: one of ``DEEP_METHODS``.
        seed, device, out, resume, progress: see ``DeepTransfer``.
        **fields: of its config.

    Raises:
        InvalidArgumentError: no such method or field, or a value that cannot work.
    """
    method = deep_method_class(name)
    known = {field.name for field in dataclasses.fields(method.Config)}
    reject_unknown_kwargs(method.Config, {k: v for k, v in fields.items() if k not in known})
    try:
        config = method.Config(**fields)
    except TypeError as error:
        raise InvalidArgumentError(f"The config of {name}: {error}.") from None
    return method(config, seed=seed, device=device, out=out, resume=resume, progress=progress)
