"""RecurrentTree: recurrent cells as trees, Zoph & Le (2017), section 3.4.

A tree of base N has 2N - 1 nodes: the leaves 0..N-1, then level by level up to the root 2N - 2;
the children of node i >= N are 2(i - N) and 2(i - N) + 1. Each node has a combination ∘ (add or
mult, elementwise) and an activation; a_i is its output.

- A leaf combines x(t) and h(t-1), with matrices of its own: ``a_i = act(W x ∘ (U h + b))``. The
  paper has no b; where there is one, it is the recurrent part's, which only matters for mult.
- An inner node has no weights: ``a_i = act(a_left ∘ a_right)``.
- Cell inject: at one node i, a_i is replaced by ``act'(a_i ∘' c(t-1))``; act' and ∘' are two
  tokens of their own.
- h(t) is what the root puts out; c(t) is what one node's combination gives *before its
  activation*, and so before an injection at that same node.

The tokens are in the order of the paper's figure 5: combination and activation of the nodes
0..2N-2, then those of the injection, then the "cell index": the node of c(t) and the node of the
injection. For N = 8 these are 34 tokens and 8^16 · 15^2 = 6.3e16 strings, the paper's 6 · 10^16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from metagym.architectures.graph import Graph, Node
from metagym.architectures.recurrent import RecurrentSpace
from metagym.errors import InvalidArgumentError

if TYPE_CHECKING:
    from metagym.architectures.recurrent_modules import RecurrentCell

COMBINATIONS = ("add", "mult")
ACTIVATIONS = ("identity", "tanh", "sigmoid", "relu")
BASES = (2, 4, 8)

# The example of the paper's figure 5, of base 2.
FIGURE_5 = "add tanh, mult relu / mult sigmoid / inject add relu / cell 1 0"

# The long short-term memory, exactly, in base 8. Node 8 is the forget gate, to which c(t-1) is
# multiplied; node 9 is input gate times candidate; node 12 is their sum, c(t) before its tanh;
# node 13 is the output gate. Leaves 1, 5, 6 and 7 only add to what leaves 0 and 4 compute.
LSTM = (
    "add identity, add identity, add sigmoid, add tanh, "
    "add identity, add identity, add identity, add identity / "
    "add sigmoid, mult identity, add identity, add identity / "
    "add tanh, add sigmoid / mult identity / inject mult identity / cell 12 8"
)

# The cell that Zoph & Le found on the Penn Treebank (appendix A), in base 8.
NAS_CELL = (
    "add sigmoid, add relu, add sigmoid, mult relu, add tanh, add sigmoid, add tanh, add sigmoid / "
    "mult tanh, add tanh, mult tanh, add sigmoid / "
    "mult identity, add tanh / mult tanh / inject add tanh / cell 12 8"
)


class Tree(NamedTuple):
    """What the tokens of a tree say.

    Attributes:
        nodes: combination and activation of each node, leaves first, root last.
        inject: combination and activation of the injection of c(t-1).
        memory: the node whose combination is c(t).
        injected: the node whose output c(t-1) is combined with.
    """

    nodes: tuple[tuple[str, str], ...]
    inject: tuple[str, str]
    memory: int
    injected: int


class RecurrentTree(RecurrentSpace):
    """Recurrent cells as trees; the file's docstring has their exact meaning.

    A string lists the nodes level by level, for base 2: ``add tanh, mult relu / mult sigmoid /
    inject add relu / cell 1 0``, which is the paper's figure 5. ``LSTM`` and ``NAS_CELL`` are two
    of base 8.

    ``canonical`` knows that the two subtrees of an inner node may be swapped, since sums and
    products commute and every leaf has weights of its own; and that relu does nothing to sums and
    products of what is never negative, so that identity stands in its place.

    Args:
        base: leaves; 2, 4 or 8.

    Raises:
        InvalidArgumentError: another base.
    """

    name = "recurrent"

    def __init__(self, base: int = 8) -> None:
        if base not in BASES:
            raise InvalidArgumentError(f"base={base!r} is not one of {BASES}.")
        self.base = base
        self.nodes = 2 * base - 1
        vocabulary = (*COMBINATIONS, *ACTIVATIONS, *map(str, range(self.nodes)))
        kinds = np.arange(len(vocabulary))
        combination = kinds < len(COMBINATIONS)
        index = kinds >= len(COMBINATIONS) + len(ACTIVATIONS)
        activation = ~(combination | index)
        super().__init__(
            vocabulary,
            np.stack([combination, activation] * (self.nodes + 1) + [index] * 2),
            template=_template(base),
        )

    def decode(self, tokens: np.ndarray) -> Tree:
        """What the tokens [length] of a complete architecture say."""
        words = [self.vocabulary[t] for t in self.check(np.asarray(tokens)[None])[0]]
        *pairs, inject = zip(words[:-2:2], words[1:-2:2], strict=True)
        return Tree(tuple(pairs), inject, int(words[-2]), int(words[-1]))

    def encode(self, tree: Tree) -> np.ndarray:
        """The tokens [length] of ``tree``."""
        words = [word for pair in (*tree.nodes, tree.inject) for word in pair]
        words += [str(tree.memory), str(tree.injected)]
        return np.array([self.vocabulary.index(word) for word in words], dtype=np.int64)

    def children(self, node: int) -> tuple[int, int] | None:
        """The two nodes that ``node`` combines; None for a leaf."""
        first = 2 * (node - self.base)
        return (first, first + 1) if first >= 0 else None

    def representative(self, tokens: np.ndarray) -> np.ndarray:
        tree = self._without_idle_relus(self.decode(tokens))
        keys: list[tuple[Any, ...]] = []
        for node, pair in enumerate(tree.nodes):
            below = self.children(node)
            subtrees = sorted(keys[child] for child in below) if below else []
            keys.append((*pair, node == tree.memory, node == tree.injected, *subtrees))
        # From the root down: which old node stands at each place.
        order = list(range(self.nodes))
        for node in reversed(range(self.base, self.nodes)):
            old = self.children(order[node])
            new = self.children(node)
            if old is not None and new is not None:
                order[new[0]], order[new[1]] = sorted(old, key=lambda child: keys[child])
        return self.encode(
            tree._replace(
                nodes=tuple(tree.nodes[node] for node in order),
                memory=order.index(tree.memory),
                injected=order.index(tree.injected),
            )
        )

    def _without_idle_relus(self, tree: Tree) -> Tree:
        nodes: list[tuple[str, str]] = []
        positive: list[bool] = []  # whose outputs are never below 0
        for node, (combination, activation) in enumerate(tree.nodes):
            below = self.children(node)
            combined = below is not None and all(positive[child] for child in below)
            if combined and activation == "relu":
                activation = "identity"
            nodes.append((combination, activation))
            last, sure = (
                (tree.inject[1], False) if node == tree.injected else (activation, combined)
            )
            positive.append(sure or last in ("sigmoid", "relu"))
        return tree._replace(nodes=tuple(nodes))

    def build(
        self, tokens: np.ndarray, inputs: int, width: int, bias: bool = True
    ) -> RecurrentCell:
        from metagym.architectures.recurrent_modules import TreeCell

        return TreeCell(self.decode(tokens), inputs, width, bias)

    def graph(self, tokens: np.ndarray) -> Graph:
        words = [self.vocabulary[token] for token in self._given(tokens)]
        labels = ["\n".join(words[i : i + 2]) for i in range(0, min(len(words), 2 * self.nodes), 2)]
        inject = "\n".join(["inject", *words[2 * self.nodes : 2 * self.nodes + 2]])
        memory, injected = [*map(int, words[2 * self.nodes + 2 :]), None, None][:2]

        nodes, edges = [Node("x(t), h(t-1)", "input")], []
        if injected is not None:
            nodes.append(Node("c(t-1)", "input"))
        ends: list[int] = []  # where the output of each node is, behind an injection
        for i, label in enumerate(labels):
            at = len(nodes)
            nodes.append(Node(label))
            edges += [(ends[child], at, "") for child in self.children(i) or ()]
            edges += [(0, at, "")] if i < self.base else []
            ends.append(at)
            if i == memory:
                tapped = at
            if i == injected:
                nodes.append(Node(inject))
                edges += [(at, at + 1, ""), (1, at + 1, "")]
                ends[i] = at + 1
        if len(labels) == self.nodes:
            edges.append((ends[-1], len(nodes), ""))
            nodes.append(Node("h(t)", "output"))
        if memory is not None:
            edges.append((tapped, len(nodes), f"before {words[2 * memory + 1]}"))
            nodes.append(Node("c(t)", "output"))
        return Graph(tuple(nodes), tuple(edges))


def _template(base: int) -> tuple[str | None, ...]:
    """The notation: the levels between slashes, the nodes of a level between commas."""
    levels: list[str | None] = []
    while base:
        levels += [*([None, None, ","] * base)[:-1], "/"]
        base //= 2
    return (*levels, "inject", None, None, "/", "cell", None, None)
