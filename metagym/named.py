"""Things that are chosen by name: a table of strings, loaded when one of them is asked for."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from typing import Any

from metagym.errors import InvalidArgumentError, check_choice, nearest


def lazy_attribute(package: str, name: str, table: Mapping[str, str]) -> Any:
    """What a package's ``__getattr__`` answers: ``name``, from the module that the table says.

    Args:
        package: its ``__name__``.
        name: what was asked for.
        table: public names to modules, which load with the first use of a name.

    Raises:
        AttributeError: there is no such name.
    """
    if name not in table:
        raise AttributeError(f"module {package!r} has no attribute {name!r}.{nearest(name, table)}")
    return getattr(importlib.import_module(table[name]), name)


def load_named(argument: str, name: Any, table: Mapping[str, str]) -> Any:
    """What ``table[name]`` ("module:attribute") stands for; its module loads now.

    Args:
        argument: what users call the choice, for the messages.
        name: one of the table's names.
        table: names to strings.

    Raises:
        InvalidArgumentError: there is no such name.
    """
    module, attribute = table[check_choice(argument, name, table)].split(":")
    return getattr(importlib.import_module(module), attribute)


def import_object(target: str) -> Any:
    """What "module:attribute" stands for, on the import path or in the working folder.

    Raises:
        InvalidArgumentError: the module cannot be imported, or has no such attribute.
    """
    module, _, name = target.partition(":")
    if os.getcwd() not in sys.path:  # the console script's own folder stands there instead
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise InvalidArgumentError(f"{target}: cannot import {module}: {error}.") from None
    if not hasattr(found, name):
        raise InvalidArgumentError(
            f"{target}: the module {module} has no {name!r}.{nearest(name, vars(found))}"
        )
    return getattr(found, name)


def make_named(
    argument: str,
    name: Any,
    table: Mapping[str, str],
    kwargs: dict[str, Any],
    hints: Mapping[str, str] | None = None,
) -> Any:
    """What ``table[name]`` ("module:factory") makes of ``kwargs``.

    Args:
        argument, name, table: as for ``load_named``.
        kwargs: of the factory.
        hints: what to say of arguments that only some factories of the table have.

    Raises:
        InvalidArgumentError: there is no such name, the factory has no such argument, or it
            needs one that is not given.
    """
    make = load_named(argument, name, table)
    parameters = inspect.signature(make).parameters
    known = list(parameters)
    for given in kwargs:
        if given not in known:
            hint = f" {hints[given]}" if hints and given in hints else nearest(given, known)
            raise InvalidArgumentError(
                f"{argument} {name!r} has no argument {given!r}.{hint}"
                f" Its arguments: {', '.join(known) or 'none'}."
            )
    for needed, parameter in parameters.items():
        if parameter.default is parameter.empty and needed not in kwargs:
            raise InvalidArgumentError(f"{argument} {name!r} needs the argument {needed!r}.")
    return make(**kwargs)
