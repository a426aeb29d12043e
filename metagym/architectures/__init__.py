"""Architectures as strings of tokens: search spaces, and how an architecture is scored.

``SearchSpace`` says which strings there are and what they mean; ``Evaluator`` says how good one
is. ``make_space(name)`` and ``make_evaluator(name)`` build them; each loads when it is asked for,
and torch when a module is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metagym.architectures.evaluator import Evaluation, Evaluator
from metagym.architectures.graph import Graph, Node
from metagym.architectures.space import PAD, SearchSpace
from metagym.errors import InvalidArgumentError
from metagym.named import make_named

SPACES: dict[str, str] = {
    "cell201": "metagym.architectures.cell201:Cell201",
    "chain": "metagym.architectures.chain:Chain",
    "nasnet": "metagym.architectures.nasnet:NASNet",
    "recurrent": "metagym.architectures.recurrent_tree:RecurrentTree",
    "enas_recurrent": "metagym.architectures.enas_rnn:ENASRecurrent",
}

EVALUATORS: dict[str, str] = {
    "digits201": "metagym.architectures.digits201:Digits201",
    "nasbench201": "metagym.architectures.nasbench201:NASBench201",
    "train": "metagym.architectures.training:TrainingEvaluator",
    "language": "metagym.architectures.language:LanguageModelEvaluator",
}

__all__ = [
    "EVALUATORS",
    "PAD",
    "SPACES",
    "Evaluation",
    "Evaluator",
    "Graph",
    "Node",
    "SearchSpace",
    "make_evaluator",
    "make_space",
]


def make_space(space: str | SearchSpace, /, **kwargs: Any) -> SearchSpace:
    """The search space called ``space``, or ``space`` itself if it is one already.

    Raises:
        InvalidArgumentError: no such space or argument, or an argument for a finished space.
    """
    if isinstance(space, SearchSpace):
        if kwargs:
            raise InvalidArgumentError(
                f"The space is a {type(space).__name__} already; {kwargs} belongs into its "
                "constructor."
            )
        return space
    made: SearchSpace = make_named("space", space, SPACES, kwargs)
    return made


def make_evaluator(
    evaluator: str | Evaluator,
    space: str | SearchSpace | None = None,
    space_kwargs: Mapping[str, Any] | None = None,
    /,
    **kwargs: Any,
) -> Evaluator:
    """The evaluator called ``evaluator``, or ``evaluator`` itself if it is one already.

    Args:
        evaluator: a name of ``EVALUATORS`` or an ``Evaluator``.
        space: for those that score any space; a table has its own.
        space_kwargs: the space's arguments, where it is a name.
        **kwargs: the evaluator's other arguments.

    Raises:
        InvalidArgumentError: no such evaluator, space or argument, or one that does not fit.
    """
    if isinstance(evaluator, Evaluator):
        if kwargs or space is not None or space_kwargs:
            raise InvalidArgumentError(
                f"The evaluator is a {type(evaluator).__name__} already; its space and {kwargs} "
                "belong into its constructor."
            )
        return evaluator
    if space is not None:
        kwargs = {"space": make_space(space, **(space_kwargs or {})), **kwargs}
    elif space_kwargs:
        raise InvalidArgumentError(
            f"space_kwargs={dict(space_kwargs)!r} needs the name of a space: one of "
            f"{', '.join(SPACES)}."
        )
    hints = {"space": "A table has a space of its own: leave 'space' out."}
    made: Evaluator = make_named("evaluator", evaluator, EVALUATORS, kwargs, hints)
    return made
