"""What gets optimised: families of functions with a batched value and gradient.

``make_problem(name)`` builds one by name; ``FAMILIES`` is the one table of names. Families load
when they are asked for, so that a quadratic does not wait for scikit-learn or torch.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from metagym.errors import InvalidArgumentError, check_choice, nearest
from metagym.problems.base import ProblemFamily

FAMILIES: dict[str, str] = {
    "quadratic": "metagym.problems.quadratic:Quadratic",
}

__all__ = ["FAMILIES", "ProblemFamily", "make_problem"]


def make_problem(
    problem: str | ProblemFamily, dim: int | None = None, **kwargs: Any
) -> ProblemFamily:
    """The family called ``problem``, or ``problem`` itself if it is a family already.

    Args:
        problem: a name of ``FAMILIES`` or a ``ProblemFamily``.
        dim: number of parameters, for families that leave it open; None is their default.
        **kwargs: the family's other arguments.

    Raises:
        InvalidArgumentError: no such family or argument, or an argument for a finished family.
    """
    if dim is not None:
        kwargs = {"dim": dim, **kwargs}
    if isinstance(problem, ProblemFamily):
        if dim is not None and dim != problem.dim or set(kwargs) - {"dim"}:
            raise InvalidArgumentError(
                f"problem is a {type(problem).__name__} of dim {problem.dim} already; {kwargs} "
                "belongs into its constructor."
            )
        return problem
    if not isinstance(problem, str):
        raise InvalidArgumentError(
            f"problem={problem!r} has to be a ProblemFamily or one of {', '.join(FAMILIES)}."
        )
    module, name = FAMILIES[check_choice("problem", problem, FAMILIES)].split(":")
    family = getattr(importlib.import_module(module), name)
    known = list(inspect.signature(family).parameters)
    for argument in kwargs:
        if argument not in known:
            raise InvalidArgumentError(
                f"problem {problem!r} has no argument {argument!r}.{nearest(argument, known)}"
                f" Its arguments: {', '.join(known) or 'none'}."
            )
    made: ProblemFamily = family(**kwargs)
    return made
