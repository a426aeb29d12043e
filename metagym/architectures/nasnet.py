"""The cells of NASNet (Zoph et al. 2018), AmoebaNet (Real et al. 2019) and ENAS's micro space.

An architecture is two cells of B blocks: the normal one keeps the image's size, the reduction cell
halves it. A block takes two states, applies an operation to each and combines the results into a
new state.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from metagym.architectures.graph import Graph, Node
from metagym.architectures.isomorphism import structural_order
from metagym.architectures.nasnet_blocks import (
    COMBINATIONS,
    ENAS_OPERATIONS,
    NASNET_OPERATIONS,
    OPEN,
    Block,
    BlockNotation,
    loose_ends,
)
from metagym.architectures.space import PAD, SearchSpace
from metagym.architectures.tokens import check_row, check_text
from metagym.errors import InvalidArgumentError, check_choice, check_positive

if TYPE_CHECKING:
    from metagym.architectures.nasnet_modules import CellNetwork

CELLS = ("normal", "reduction")
_CELLS = re.compile(r"normal: ([^|:]*) \| reduction: ([^|:]*)")


class NASNet(SearchSpace):
    """Convolutional cells: a normal one and a reduction cell, B blocks each.

    The tokens of a block: two states, the operation on each of them, and how the results are
    combined (if there is a choice), in the order of Zoph et al.; first the normal cell's blocks,
    then the reduction cell's. The states that no block takes are concatenated to the cell's
    output (those of blocks; a cell's input that is not taken is not). Notation:
    ``normal: sep_conv_3x3(0) + identity(1); ... | reduction: ...``, with ``&`` for concatenation.
    Every string of B blocks has the same number of choices, so that sampling is uniform.

    Args:
        blocks: B.
        operations: any of ``NASNET_OPERATIONS``.
        combine: "add", "concat" or both. Concatenated results go through a 1×1 convolution, so
            that all states of a cell have the same number of channels.

    Raises:
        InvalidArgumentError: an operation is unknown or comes twice, or there are no blocks.
    """

    name = "nasnet"

    def __init__(
        self,
        blocks: int = 5,
        *,
        operations: Sequence[str] = ENAS_OPERATIONS,
        combine: Sequence[str] = ("add",),
    ) -> None:
        self.blocks = check_positive("blocks", blocks)
        self.operations = _check_names("operations", operations, NASNET_OPERATIONS)
        self.combine = _check_names("combine", combine, COMBINATIONS)
        self._notation = BlockNotation(self.blocks, self.operations, self.combine)
        states = tuple(f"state {i}" for i in range(self.blocks + 1))
        combinations = self.combine * (len(self.combine) > 1)
        self.vocabulary = (*states, *self.operations, *combinations)
        self._ids = {token: i for i, token in enumerate(self.vocabulary)}
        self._width = 4 + (len(combinations) > 0)  # tokens of a block
        self.length = 2 * self.blocks * self._width
        block = np.zeros((self._width, len(self.vocabulary)), dtype=bool)
        for place, choices in ((0, states), (2, self.operations), (4, combinations)):
            for choice in choices:
                block[place : place + 2, self._ids[choice]] = True
        self._table = np.tile(block, (2 * self.blocks, 1))  # [position, token]
        for position in range(self.length):
            known = 2 + position // self._width % self.blocks
            self._table[position, known : len(states)] = False
        self._table = np.append(self._table, np.zeros_like(block[:1]), axis=0)

    # -- tokens --------------------------------------------------------------------------------

    def mask(self, tokens: np.ndarray) -> np.ndarray:
        allowed: np.ndarray = self._table[(tokens != PAD).sum(axis=1)]
        return allowed

    def cells(self, tokens: np.ndarray) -> tuple[list[Block], list[Block]]:
        """The blocks of the normal cell and of the reduction cell; the last one perhaps in part."""
        rows = np.array(check_row(self, tokens)).reshape(2, self.blocks, self._width)
        normal, reduction = (
            [self._block(row) for row in cell.tolist() if row[0] != PAD] for cell in rows
        )
        return normal, reduction

    def _block(self, row: list[int]) -> Block:
        names = [OPEN if token == PAD else self.vocabulary[token] for token in row]
        combine = names[4] if self._width > 4 else self.combine[0]
        return Block((row[0], row[1]), (names[2], names[3]), combine)

    # -- text and drawing ------------------------------------------------------------------------

    def to_string(self, tokens: np.ndarray) -> str:
        cells = self.cells(tokens)
        parts = [self._notation.write(blocks) for blocks in cells]
        return f"normal: {parts[0]} | reduction: {parts[1]}"

    def from_string(self, text: str) -> np.ndarray:
        if OPEN in check_text(text):
            raise InvalidArgumentError(f"The cells are not complete, there is a '?': {text!r}.")
        found = _CELLS.fullmatch(text.strip())
        if found is None:
            raise InvalidArgumentError(
                "Cells are written like 'normal: block; ... | reduction: block; ...', not "
                f"{text!r}."
            )
        tokens: list[int] = []
        for cell, part in zip(CELLS, found.groups(), strict=True):
            for block in self._notation.parse(cell, part):
                states = [f"state {state}" for state in block.states]
                names = (*states, *block.operations, block.combine)
                tokens += [self._ids[name] for name in names[: self._width]]
        return np.array(tokens, dtype=np.int64)

    def canonical(self, tokens: np.ndarray) -> str:
        """The string, with blocks in an order that does not depend on their numbers.

        Blocks that do not take each other's states may change places, as the cells that follow
        read all their channels with weights of their own. The two halves of a block may change
        places because addition commutes, and concatenation does for weights that change with it.
        """
        cells = self.cells(self.check(np.asarray(tokens)[None])[0])
        return " | ".join(
            f"{name}: {self._notation.write(_reorder(blocks))}"
            for name, blocks in zip(CELLS, cells, strict=True)
        )

    def graph(self, tokens: np.ndarray) -> Graph:
        """Both cells; one that is not begun is left out."""
        nodes: list[Node] = []
        edges: list[tuple[int, int, str]] = []
        for name, blocks in zip(CELLS, self.cells(tokens), strict=True):
            if name == "reduction" and not blocks:
                continue
            states = [len(nodes), len(nodes) + 1]  # their nodes
            nodes += [Node("cell k−2", "input"), Node("cell k−1", "input")]
            for block in blocks:
                ends = []
                for state, operation in zip(block.states, block.operations, strict=True):
                    if state != PAD:
                        edges.append((states[state], len(nodes), ""))
                        ends.append(len(nodes))
                        nodes.append(Node(_short(operation)))
                edges += [(end, len(nodes), "") for end in ends]
                states.append(len(nodes))
                nodes.append(Node(COMBINATIONS.get(block.combine, OPEN), "sum"))
            edges += [(states[i], len(nodes), "") for i in loose_ends(blocks)]
            nodes.append(Node(f"{name}\ncell k", "output"))
        return Graph(tuple(nodes), tuple(edges))

    def build(
        self,
        tokens: np.ndarray,
        input_shape: Sequence[int],
        outputs: int,
        *,
        channels: int = 16,
        cells: int = 2,
        reductions: int = 2,
    ) -> CellNetwork:
        """The network of a complete architecture [length].

        A 3×3 convolution, then stacks of normal cells with a reduction cell between two of them,
        which doubles the channels; the head is the mean over the image and a linear layer.

        Args:
            tokens: one architecture.
            input_shape: (channels, height, width) of an image.
            outputs: how many numbers it gives for an image.
            channels: of each state in the first stack; an output has that many for each of the
                states that are concatenated to it.
            cells: normal cells of a stack.
            reductions: reduction cells; there is one stack more.
        """
        from metagym.architectures.nasnet_modules import CellNetwork

        return CellNetwork(
            self.cells(self.check(np.asarray(tokens)[None])[0]),
            input_shape,
            outputs,
            channels=check_positive("channels", channels),
            cells=check_positive("cells", cells),
            reductions=check_positive("reductions", reductions),
        )


def _reorder(blocks: Sequence[Block]) -> list[Block]:
    """The blocks in a structural order, each with its smaller half first."""
    labels = ["0", "1", *(f"block {block.combine}" for block in blocks)]
    halves = [list(zip(block.states, block.operations, strict=True)) for block in blocks]
    order = structural_order(labels, [[], [], *halves])
    place = {0: 0, 1: 1}
    reordered = []
    for state in order:
        if state > 1:
            terms = sorted((place[s], operation) for s, operation in halves[state - 2])
            (s0, o0), (s1, o1) = terms
            reordered.append(Block((s0, s1), (o0, o1), blocks[state - 2].combine))
            place[state] = len(reordered) + 1
    return reordered


def _short(operation: str) -> str:
    """``sep_conv_3x3`` as it stands in a box: "sep 3×3"."""
    words = re.sub(r"(\d)x(\d)", r"\1×\2", operation).split("_")
    if words[0] in ("sep", "dil", "avg", "max"):
        del words[1]
    return " ".join(words)


def _check_names(
    argument: str, names: Sequence[str], choices: Sequence[str] | dict[str, str]
) -> tuple[str, ...]:
    chosen = tuple(check_choice(argument, name, choices) for name in names)
    if not chosen or len(set(chosen)) != len(chosen):
        raise InvalidArgumentError(f"{argument}={chosen!r} has to hold names, each once.")
    return chosen
