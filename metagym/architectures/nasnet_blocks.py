"""The blocks that NASNet's cells are made of, and how they are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from metagym.architectures.space import PAD
from metagym.errors import InvalidArgumentError, nearest

ENAS_OPERATIONS = ("identity", "sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3")
NASNET_OPERATIONS = (
    "identity",
    "conv_1x3_3x1",
    "conv_1x7_7x1",
    "dil_conv_3x3",
    "avg_pool_3x3",
    "max_pool_3x3",
    "max_pool_5x5",
    "max_pool_7x7",
    "conv_1x1",
    "conv_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
)
COMBINATIONS = {"add": "+", "concat": "&"}  # and their sign
OPEN = "?"  # in the place of what is not chosen yet
_TERM = r"(\w+) ?\( ?(\d+) ?\)"
_BLOCK = re.compile(rf"{_TERM} ?([+&]) ?{_TERM}")


class Block(NamedTuple):
    """A block: combine(first operation(first state), second operation(second state)).

    States 0 and 1 are the outputs of the cell before the last one and of the last one; state
    2 + b is that of block b. What is not chosen yet is PAD or OPEN.
    """

    states: tuple[int, int]
    operations: tuple[str, str]
    combine: str


def loose_ends(blocks: Sequence[Block]) -> list[int]:
    """The states of blocks that no block takes."""
    taken = {state for block in blocks for state in block.states}
    return [state for state in range(2, len(blocks) + 2) if state not in taken]


class BlockNotation:
    """``sep_conv_3x3(0) + identity(1)``: operations on states; ``&`` is for concatenation.

    Args:
        blocks: of a cell.
        operations: that there are.
        combine: any of ``COMBINATIONS``.
    """

    def __init__(self, blocks: int, operations: Sequence[str], combine: Sequence[str]) -> None:
        self.blocks = blocks
        self.operations = operations
        self.combine = combine

    def write(self, blocks: Sequence[Block]) -> str:
        """The blocks of a cell, OPEN for what is not chosen."""
        texts = []
        for block in blocks:
            terms = [
                f"{operation}({OPEN if state == PAD else state})"
                for operation, state in zip(block.operations, block.states, strict=True)
            ]
            texts.append(f" {COMBINATIONS.get(block.combine, OPEN)} ".join(terms))
        if len(blocks) < self.blocks and not (texts and OPEN in texts[-1]):
            texts.append(OPEN)
        return "; ".join(texts)

    def parse(self, cell: str, text: str) -> list[Block]:
        """The blocks of a complete cell.

        Raises:
            InvalidArgumentError: they are not written like ``write`` does, or not of the space.
        """
        parts = [part.strip() for part in text.split(";")]
        if len(parts) != self.blocks:
            raise InvalidArgumentError(
                f"The {cell} cell has {len(parts)} blocks, those of this space have "
                f"{self.blocks}: {text!r}."
            )
        return [
            self._parse(f"Block {b} of the {cell} cell, {part!r}", b, part)
            for b, part in enumerate(parts)
        ]

    def _parse(self, place: str, b: int, text: str) -> Block:
        found = _BLOCK.fullmatch(text)
        if found is None:
            raise InvalidArgumentError(
                f"{place}, is not written like '{self.operations[0]}(0) + "
                f"{self.operations[-1]}(1)'."
            )
        first, first_state, sign, second, second_state = found.groups()
        for operation in (first, second):
            if operation not in self.operations:
                raise InvalidArgumentError(
                    f"{place}: {operation!r} is not one of "
                    f"{', '.join(self.operations)}." + nearest(operation, self.operations)
                )
        for state in (int(first_state), int(second_state)):
            if state >= b + 2:
                raise InvalidArgumentError(
                    f"{place}: there is no state {state} yet, only 0 to {b + 1}."
                )
        combine = next(name for name, each in COMBINATIONS.items() if each == sign)
        if combine not in self.combine:
            signs = " or ".join(repr(COMBINATIONS[name]) for name in self.combine)
            raise InvalidArgumentError(f"{place}: this space combines with {signs}.")
        return Block((int(first_state), int(second_state)), (first, second), combine)
