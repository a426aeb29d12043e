"""Cell201: the cell of NAS-Bench-201 (Dong and Yang, 2020), 5⁶ = 15,625 architectures.

Four nodes, an edge from every node to every later one, an operation on every edge; a node is the
sum of what its edges bring. Node 0 is the cell's input, node 3 its output.
"""

from __future__ import annotations

import functools
import itertools
import re
from typing import TYPE_CHECKING

import numpy as np

from metagym.architectures.graph import Graph, Node
from metagym.architectures.space import PAD, SearchSpace
from metagym.architectures.tokens import check_row, check_text
from metagym.errors import InvalidArgumentError, nearest

if TYPE_CHECKING:
    from torch import nn

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NONE, SKIP, CONV_1X1, CONV_3X3, AVG_POOL = range(5)
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # from, to; in the order of the tokens
COUNT = len(OPERATIONS) ** len(EDGES)
CLASSES = 6466  # of isomorphic architectures

_PLACES = len(OPERATIONS) ** np.arange(len(EDGES))[::-1]
_PARTIAL = (1 + len(OPERATIONS)) ** np.arange(len(EDGES))  # places of digits that may be PAD
_ENTRY = re.compile(r"([^|~+]+)~([0-9]+)\|")


class Cell201(SearchSpace):
    """Six tokens, the operations of the edges 0→1, 0→2, 1→2, 0→3, 1→3 and 2→3.

    The string of an architecture is NAS-Bench-201's, with one group per node behind the input::

        |nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|

    Its number, from 0 to 15,624, has the tokens as its digits in base 5, the first one highest.

    ``canonical`` follows the published rule, which makes 6,466 classes: a node is written as the
    sorted sum of its terms, an edge without operation is the term "#", a skip connection the sum
    of the node that it comes from. The rule is neither as fine nor as coarse as computing the
    same. It keeps apart what is equal: a + (b + c) from b + (a + c), and sums that differ in how
    many empty terms they have. And it does not tell one convolution used twice from two
    convolutions of the same input: 430 classes have members that differ in this, and so in their
    parameters.
    """

    name = "cell201"
    vocabulary = OPERATIONS
    length = len(EDGES)

    def mask(self, tokens: np.ndarray) -> np.ndarray:
        open_ = np.asarray(tokens)[:, -1] == PAD
        return np.repeat(open_[:, None], len(OPERATIONS), axis=1)

    def to_string(self, tokens: np.ndarray) -> str:
        groups: dict[int, str] = {}
        for (source, target), token in zip(EDGES, check_row(self, tokens), strict=True):
            if token != PAD:
                groups[target] = groups.get(target, "|") + f"{OPERATIONS[token]}~{source}|"
        return "+".join(groups.values())

    def strings(self, tokens: np.ndarray) -> np.ndarray:
        return np.asarray(_strings()[(np.asarray(tokens) + 1) @ _PARTIAL])

    def from_string(self, text: str) -> np.ndarray:
        text, tokens, place = check_text(text), [], 0

        def wrong(what: str) -> InvalidArgumentError:
            return InvalidArgumentError(
                f"{text!r} is no architecture of the space {self.name!r}: at character {place}, "
                f"{what}. One looks like {self.to_string(np.full(self.length, CONV_3X3))!r}."
            )

        for edge, (source, target) in enumerate(EDGES):
            if edge == 0 or EDGES[edge - 1][1] != target:  # a new node
                start = "|" if edge == 0 else "+|"
                if not text.startswith(start, place):
                    raise wrong(f"node {target} has to begin with {start!r}")
                place += len(start)
            entry = _ENTRY.match(text, place)
            if entry is None:
                raise wrong(f"'operation~{source}|' is expected")
            if entry[1] not in OPERATIONS:
                raise wrong(
                    f"{entry[1]!r} is not one of {', '.join(OPERATIONS)}"
                    + nearest(entry[1], OPERATIONS).rstrip("?")
                )
            if entry[2] != str(source):
                raise wrong(f"edge {edge} comes from node {source}, not {entry[2]}")
            tokens.append(OPERATIONS.index(entry[1]))
            place = entry.end()
        if place != len(text):
            raise wrong(f"nothing may follow, but there is {text[place:]!r}")
        return np.array(tokens, dtype=np.int64)

    def canonical(self, tokens: np.ndarray) -> str:
        return _canonical(self.check(np.asarray(tokens)[None])[0].tolist())

    def valid(self, tokens: np.ndarray) -> np.ndarray:
        tokens = np.asarray(tokens)
        return np.asarray(((tokens >= 0) & (tokens < len(OPERATIONS))).all(axis=1))

    def build(
        self,
        tokens: np.ndarray,
        input_shape: tuple[int, int, int],
        outputs: int,
        *,
        channels: int = 16,
        cells: int = 5,
        stages: int = 3,
    ) -> nn.Module:
        """The network of NAS-Bench-201 around the cell [6]; images [N, C, H, W] to [N, outputs].

        Operations that nothing reaches, or that reach nothing, are left out: their parameters
        would be counted and never change what the cell computes.

        Args:
            tokens: a complete architecture.
            input_shape: (channels, height, width) of the images.
            outputs: how many classes.
            channels: of the first stage; each further one has twice as many at half the size.
            cells: in a row in each stage.
            stages: how many; between two of them is a residual block of stride 2.
        """
        from metagym.architectures.cell201_modules import CellNetwork

        operations = self.check(np.asarray(tokens)[None])
        operations = np.where(self.live(operations), operations, NONE)[0]
        return CellNetwork(
            operations.tolist(), input_shape, outputs, channels=channels, cells=cells, stages=stages
        )

    def graph(self, tokens: np.ndarray) -> Graph:
        nodes = (
            Node("input", "input"),
            Node("1", "sum"),
            Node("2", "sum"),
            Node("output", "output"),
        )
        chosen = zip(EDGES, np.asarray(tokens).tolist(), strict=True)
        edges = ((*edge, OPERATIONS[token]) for edge, token in chosen if token not in (PAD, NONE))
        return Graph(nodes, tuple(edges))

    # -- the whole space -----------------------------------------------------------------------

    def index(self, tokens: np.ndarray) -> np.ndarray:
        """The numbers [B] of complete architectures [B, 6]."""
        return np.asarray(self.check(tokens) @ _PLACES)

    def tokens(self, index: np.ndarray) -> np.ndarray:
        """The architectures [B, 6] of numbers [B]; ``np.arange(COUNT)`` gives all.

        Raises:
            InvalidArgumentError: a number is not in 0..15,624.
        """
        index = np.asarray(index)
        if index.dtype.kind not in "iu" or (
            len(index) and not 0 <= index.min() <= index.max() < COUNT
        ):
            raise InvalidArgumentError(
                f"Architectures of the space {self.name!r} have whole numbers from 0 to "
                f"{COUNT - 1}, not {index.tolist() if index.size < 10 else index.dtype}."
            )
        return np.asarray(index[:, None] // _PLACES % len(OPERATIONS), dtype=np.int64)

    def classes(self) -> np.ndarray:
        """The class of every architecture under ``canonical``, int64 [15,625], read-only.

        Classes are numbered from 0 to 6,465 in the order of their first members.
        """
        return _classes()

    def live(self, tokens: np.ndarray) -> np.ndarray:
        """Which edges of [B, 6] carry something from the input to the output, bool [B, 6]."""
        used = self.check(tokens) != NONE
        reached = np.zeros((len(used), 4), dtype=bool)
        wanted = reached.copy()
        reached[:, 0] = wanted[:, 3] = True
        for edge, (source, target) in enumerate(EDGES):  # sources come before targets
            reached[:, target] |= used[:, edge] & reached[:, source]
        for edge, (source, target) in reversed(list(enumerate(EDGES))):
            wanted[:, source] |= used[:, edge] & wanted[:, target]
        sources, targets = np.array(EDGES).T
        return np.asarray(used & reached[:, sources] & wanted[:, targets])


_NOTHING = "#"


@functools.cache
def _strings() -> np.ndarray:
    """The strings of all architectures, finished or not, by their number with ``_PARTIAL``."""
    table = np.full((1 + len(OPERATIONS)) ** len(EDGES), "", dtype=object)
    known = {0: ""}
    for place, (source, target) in zip(_PARTIAL.tolist(), EDGES, strict=True):
        start = "+|" if source == 0 and target > 1 else "|" * (source == 0)
        known = {
            number + place * (token + 1): f"{text}{start}{operation}~{source}|"
            for number, text in known.items()
            for token, operation in enumerate(OPERATIONS)
        }
        table[list(known)] = list(known.values())
    return table


def _canonical(tokens: tuple[int, ...] | list[int]) -> str:
    nodes = ["0", "", "", ""]
    for target, edges in ((1, (0,)), (2, (1, 2)), (3, (3, 4, 5))):
        terms = []
        for edge in edges:
            token, source = tokens[edge], nodes[EDGES[edge][0]]
            if token == NONE or source == _NOTHING:
                terms.append(_NOTHING)
            else:
                terms.append(source if token == SKIP else f"({source})@{OPERATIONS[token]}")
        nodes[target] = "+".join(sorted(terms))
    return nodes[3]


@functools.cache
def _classes() -> np.ndarray:
    known: dict[str, int] = {}
    every = itertools.product(range(len(OPERATIONS)), repeat=len(EDGES))
    numbers = np.array([known.setdefault(_canonical(tokens), len(known)) for tokens in every])
    numbers.setflags(write=False)
    return numbers
