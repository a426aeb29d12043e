"""What every notation asks of the tokens that it writes and of the text that it reads."""

from __future__ import annotations

import numpy as np

from metagym.architectures.space import PAD, SearchSpace
from metagym.errors import InvalidArgumentError


def check_row(space: SearchSpace, tokens: np.ndarray) -> list[int]:
    """The tokens [length] of one architecture of ``space``, or of a part of it.

    Raises:
        InvalidArgumentError: the shape or type is wrong, or there is no such token.
    """
    row = np.asarray(tokens)
    if row.shape != (space.length,) or row.dtype.kind not in "iu":
        raise InvalidArgumentError(
            f"An architecture of the space {space.name!r} is whole numbers [{space.length}], not "
            f"{row.dtype} {list(row.shape)}."
        )
    numbers: list[int] = row.tolist()
    if min(numbers) < PAD or max(numbers) >= len(space.vocabulary):
        raise InvalidArgumentError(
            f"{numbers} is no architecture of the space {space.name!r}: its tokens go from 0 to "
            f"{len(space.vocabulary) - 1}, and {PAD} stands for one that has not been chosen."
        )
    return numbers


def check_text(text: str) -> str:
    """``text``, if it is one.

    Raises:
        InvalidArgumentError: it is something else.
    """
    if not isinstance(text, str):
        raise InvalidArgumentError(f"An architecture is read from a text, not from {text!r}.")
    return text
