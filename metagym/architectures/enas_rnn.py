"""ENASRecurrent: the recurrent cells of ENAS (Pham et al., 2018), section 2.1 and appendix A.

N nodes. Node 0 reads x(t) and h(t-1); every other node reads the output of one node before it. A
node is a highway: from its input s, with matrices of its own,

    s' = g ⊙ act(W s) + (1 - g) ⊙ s,   g = sigmoid(V s),

where node 0 has W [x; h] and V [x; h], and s = h(t-1). h(t) is the mean of the loose ends, the
nodes that no other node reads.

**How many tokens.** The authors' code speaks of 2N + 1 tokens for N nodes, but its string of the
paper's cell of 12 nodes has 23. The two agree where N counts the nodes behind node 0, whose one
token is its activation; each other node has two, the index of the node that it reads and its
activation. Here, as in the paper, ``nodes`` counts all: there are 2 · nodes - 1 tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from metagym.architectures.graph import Graph, Node
from metagym.architectures.recurrent import RecurrentSpace
from metagym.errors import InvalidArgumentError, check_positive

if TYPE_CHECKING:
    from metagym.architectures.recurrent_modules import RecurrentCell

ACTIVATIONS = ("tanh", "relu", "identity", "sigmoid")  # 0, 1, 2, 3 in a string

# The cell that ENAS found on the Penn Treebank, as its authors print it.
ENAS_CELL = "0 0 0 1 1 2 1 2 0 2 0 5 1 1 0 6 1 8 1 8 1 8 1"


class ENASRecurrent(RecurrentSpace):
    """Recurrent cells as ENAS's graphs; the file's docstring has their exact meaning.

    A string is ENAS's own: whole numbers, the activation of node 0 and then, for each other node,
    the index of the node that it reads and its activation; 0 is tanh, 1 relu, 2 identity and 3
    sigmoid. ``ENAS_CELL`` is one of 12 nodes. In the vocabulary activations and indices differ.

    Every node reads one other, so that a cell is a tree that grows from node 0, and ``canonical``
    is that of a tree: the order in which nodes are numbered is of no account.

    Args:
        nodes: how many, node 0 included; at least 2.

    Raises:
        InvalidArgumentError: fewer than 2 nodes.
    """

    name = "enas_recurrent"

    def __init__(self, nodes: int = 12) -> None:
        self.nodes = check_positive("nodes", nodes)
        if nodes < 2:
            raise InvalidArgumentError(f"nodes={nodes!r} has to be at least 2: node 0 and another.")
        indices = tuple(map(str, range(nodes - 1)))
        count = len(ACTIVATIONS)
        allowed = np.zeros((2 * nodes - 1, count + len(indices)), dtype=bool)
        allowed[::2, :count] = True
        for node in range(1, nodes):
            allowed[2 * node - 1, count : count + node] = True
        words = (*map(str, range(count)), *indices)
        super().__init__((*ACTIVATIONS, *indices), allowed, words)

    def decode(self, tokens: np.ndarray) -> tuple[tuple[int, str], ...]:
        """For each node the index of the node that it reads (-1 for node 0) and its activation."""
        complete = self.check(np.asarray(tokens)[None])[0].tolist()
        indices = [-1, *(token - len(ACTIVATIONS) for token in complete[1::2])]
        return tuple(zip(indices, (ACTIVATIONS[t] for t in complete[::2]), strict=True))

    def encode(self, cell: tuple[tuple[int, str], ...]) -> np.ndarray:
        """The tokens [length] of what ``decode`` gives."""
        numbers = [n for i, name in cell for n in (len(ACTIVATIONS) + i, ACTIVATIONS.index(name))]
        return np.array(numbers[1:], dtype=np.int64)

    def representative(self, tokens: np.ndarray) -> np.ndarray:
        """The nodes numbered depth first, children in the order of their subtrees."""
        cell = self.decode(tokens)
        keys: dict[int, tuple[Any, ...]] = {}
        readers: dict[int, list[int]] = {}
        for node in reversed(range(self.nodes)):  # a node stands behind the one it reads
            below = sorted(readers.get(node, []), key=keys.__getitem__)
            readers[node] = below
            keys[node] = (cell[node][1], *(keys[reader] for reader in below))
            readers.setdefault(cell[node][0], []).append(node)
        order: list[int] = []
        waiting = [0]
        while waiting:
            order.append(waiting.pop())
            waiting += reversed(readers[order[-1]])
        places = {node: place for place, node in enumerate(order)} | {-1: -1}
        return self.encode(tuple((places[cell[node][0]], cell[node][1]) for node in order))

    def build(
        self, tokens: np.ndarray, inputs: int, width: int, bias: bool = True
    ) -> RecurrentCell:
        from metagym.architectures.recurrent_modules import ENASCell

        return ENASCell(self.decode(tokens), inputs, width, bias)

    def graph(self, tokens: np.ndarray) -> Graph:
        words = [self.vocabulary[token] for token in self._given(tokens)]
        nodes, edges = [Node("x(t), h(t-1)", "input")], []
        loose: set[int] = set()
        for i in range((len(words) + 2) // 2 if words else 0):
            source = int(words[2 * i - 1]) if i else -1
            activation = words[2 * i : 2 * i + 1]
            nodes.append(Node("\n".join([str(i), *activation])))
            edges.append((source + 1, i + 1, ""))
            loose = (loose - {source + 1}) | {i + 1}
        if len(words) == self.length:
            end = len(nodes)
            nodes += [Node("mean", "sum"), Node("h(t)", "output")]
            edges += [*((i, end, "") for i in sorted(loose)), (end, end + 1, "")]
        return Graph(tuple(nodes), tuple(edges))
