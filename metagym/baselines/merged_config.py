"""One flat config out of several, for the command line: a method's fields beside the loop's."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields, make_dataclass
from typing import Any, get_type_hints


def merge_configs(name: str, doc: str, kinds: Sequence[type]) -> type:
    """One frozen dataclass with the fields, types, defaults and docs of several.

    Args:
        name: of the new class.
        doc: what stands above its arguments.
        kinds: frozen dataclasses; every field has a default.

    Raises:
        TypeError: two have a field of the same name, or a field has no default.
    """
    found: dict[str, tuple[str, Any, Field[Any]]] = {}
    for kind in kinds:
        types = get_type_hints(kind, include_extras=True)
        for entry in fields(kind):
            if entry.name in found or entry.default is MISSING:
                raise TypeError(
                    f"{kind.__qualname__}.{entry.name} needs a default and a name of its own."
                )
            default = field(default=entry.default)
            found[entry.name] = entry.name, types[entry.name], default
    lines = "".join(f"    {line}\n" for kind in kinds for line in _argument_docs(kind))
    namespace = {"__doc__": f"{doc}\n\nArgs:\n{lines}"}
    return make_dataclass(name, list(found.values()), frozen=True, namespace=namespace)


def pick(kind: type, settings: dict[str, Any]) -> dict[str, Any]:
    """Of ``settings``, those that are fields of ``kind``."""
    return {entry.name: settings[entry.name] for entry in fields(kind)}


def _argument_docs(kind: type) -> list[str]:
    """The lines that describe fields in the docstrings of a dataclass and of its bases."""
    lines: list[str] = []
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(vars(base).get("__doc__") or "")
        _, found, arguments = text.replace("Attributes:\n", "Args:\n").partition("Args:\n")
        block = arguments.split("\n\n")[0] if found else ""
        lines += [line.removeprefix("    ") for line in block.splitlines()]
    return lines
