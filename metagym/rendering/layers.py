"""The layers of a directed graph's drawing, after Sugiyama et al. (1981).

Nodes are put into layers, so that edges only go forwards; an edge that spans several layers goes
through a lane of its own in each of them, and so does an edge's label. Then the order within the
layers is changed until few lines cross, and at last the places are chosen so that lines are as
straight as they can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from metagym.architectures.graph import Graph

Size = tuple[float, float]  # width, height
GAP, _LANE = 10.0, 4.0  # pixels between the items of a layer, and those of a lane
_STARTS, _SWEEPS = 5, 8


class Item(NamedTuple):
    """What takes room in a layer: a node, or an edge's lane or its label (then node is -1)."""

    layer: int
    size: Size
    node: int = -1
    edge: int = -1
    label: bool = False


class Part:
    """A component of the graph: what takes room, in which layer and which order.

    Attributes:
        items: all that takes room.
        layers: of each layer its items, in order.
        before: of each item, those in the layer before that a line joins with it.
        after: of each item, those in the layer after.
    """

    def __init__(
        self, graph: Graph, nodes: list[int], sizes: Sequence[Size], labels: Sequence[Size]
    ) -> None:
        layer_of = _layers(graph, nodes)
        self.items = [Item(layer_of[node], sizes[node], node) for node in nodes]
        self.before: list[list[int]] = [[] for _ in nodes]
        self.after: list[list[int]] = [[] for _ in nodes]
        number = {node: i for i, node in enumerate(nodes)}
        for edge, (a, b, label) in enumerate(graph.edges):
            if a not in number:
                continue
            last = number[a]
            between = range(layer_of[a] + 1, layer_of[b])
            for layer in between:
                labelled = bool(label) and layer == between[len(between) // 2]
                size = labels[edge] if labelled else (_LANE, _LANE)
                self.items.append(Item(layer, size, edge=edge, label=labelled))
                self.before.append([])
                self.after.append([])
                self._join(last, len(self.items) - 1)
                last = len(self.items) - 1
            self._join(last, number[b])
        self.layers: list[list[int]] = [[] for _ in range(max(layer_of.values()) + 1)]
        for i, item in enumerate(self.items):
            self.layers[item.layer].append(i)
        self.layers = [layer for layer in self.layers if layer]
        self._uncross()

    def _join(self, a: int, b: int) -> None:
        self.after[a].append(b)
        self.before[b].append(a)

    def _uncross(self) -> None:
        """Order each layer by the mean place of the neighbours, and keep the best order seen."""
        rng = np.random.default_rng(0)  # of the orders to begin with
        place = np.zeros(len(self.items))  # within the layer, from 0 to 1
        best, fewest = [list(layer) for layer in self.layers], np.inf
        for start in range(_STARTS):
            for layer in self.layers:
                if start:
                    rng.shuffle(layer)
                place[layer] = (np.arange(len(layer)) + 0.5) / len(layer)
            for sweep in range(_SWEEPS):
                crossings = self._crossings(place)
                if crossings < fewest:
                    best, fewest = [list(layer) for layer in self.layers], crossings
                if crossings == 0:
                    break
                forwards = sweep % 2 == 0
                neighbours = self.before if forwards else self.after
                for layer in self.layers[:: 1 if forwards else -1]:
                    near = {i: neighbours[i] or [i] for i in layer}
                    means = {i: sum(place[j] for j in near[i]) / len(near[i]) for i in layer}
                    layer.sort(key=means.__getitem__)
                    place[layer] = (np.arange(len(layer)) + 0.5) / len(layer)
            if fewest == 0:
                break
        self.layers = best

    def _crossings(self, place: np.ndarray) -> int:
        total = 0
        for layer in self.layers:
            pairs = [(i, j) for i in layer for j in self.after[i]]
            if len(pairs) > 1:
                begin, end = place[np.array(pairs).T]
                total += int(((begin[:, None] < begin) & (end[:, None] > end)).sum())
        return total

    def straighten(self, breadths: list[float]) -> list[float]:
        """The middles across of all items, in order and without overlap, lines nearly straight."""
        middles = [0.0] * len(self.items)
        offsets = []  # of the items of a layer from the first one when they stand close
        for layer in self.layers:
            offset = [0.0]
            for i, j in pairwise(layer):
                offset.append(offset[-1] + (breadths[i] + breadths[j]) / 2 + GAP)
            offsets.append(offset)
            for i, place in zip(layer, offset, strict=True):
                middles[i] = place - offset[-1] / 2
        for sweep in range(_SWEEPS):
            last = sweep >= _SWEEPS - 2
            order = range(len(self.layers))[:: -1 if sweep % 2 else 1]
            for layer, offset in ((self.layers[k], offsets[k]) for k in order):
                wanted, weights = [], []
                for i in layer:
                    near = self.before[i] * (last or sweep % 2 == 0)
                    near = near + self.after[i] * (last or sweep % 2 == 1)
                    wanted.append(sum(middles[j] for j in near) / len(near) if near else middles[i])
                    weights.append(max(0.1, len(near) * (3.0 if self.items[i].node < 0 else 1.0)))
                moved = [w - o for w, o in zip(wanted, offset, strict=True)]
                for i, value, o in zip(layer, _rising(moved, weights), offset, strict=True):
                    middles[i] = value + o
        self._unbend(middles, breadths)
        first = min(m - b / 2 for m, b in zip(middles, breadths, strict=True))
        return [m - first for m in middles]

    def _unbend(self, middles: list[float], breadths: list[float]) -> None:
        """Move items within the room beside them, so that lines bend as seldom as they can."""
        place = {i: (layer, k) for layer in self.layers for k, i in enumerate(layer)}

        def room(i: int) -> tuple[float, float]:
            layer, k = place[i]
            low, high = -np.inf, np.inf
            if k > 0:
                j = layer[k - 1]
                low = middles[j] + (breadths[i] + breadths[j]) / 2 + GAP
            if k + 1 < len(layer):
                j = layer[k + 1]
                high = middles[j] - (breadths[i] + breadths[j]) / 2 - GAP
            return min(low, middles[i]), max(high, middles[i])

        for chain in self._chains():
            wish, end = middles[chain[0]], middles[chain[-1]]
            if self.items[chain[0]].node < 0:
                wish = middles[self.before[chain[0]][0]]
            if self.items[chain[-1]].node < 0:
                end = middles[self.after[chain[-1]][0]]
            if len(self.before[chain[0]]) > 1:  # in the middle of its inputs, where it may stay
                end = wish
            while chain:
                low, high, count = -np.inf, np.inf, 0
                for i in chain:  # as many as have room in one line
                    least, largest = room(i)
                    if max(low, least) > min(high, largest):
                        break
                    low, high, count = max(low, least), min(high, largest), count + 1
                wish = min(max(end if count == len(chain) else wish, low), high)
                for i in chain[:count]:
                    middles[i] = wish
                chain = chain[count:]

    def _chains(self) -> list[list[int]]:
        """Items one after the other that nothing joins and nothing leaves, lanes among them."""
        chains: list[list[int]] = []
        for layer in self.layers:
            for first in layer:
                before = self.before[first]
                if len(before) == 1 and len(self.after[before[0]]) == 1:
                    continue  # it is within a chain
                chain = [first]
                while len(after := self.after[chain[-1]]) == 1 and len(self.before[after[0]]) == 1:
                    chain.append(after[0])
                if len(chain) > 1 or self.items[first].node < 0:
                    chains.append(chain)
        return chains


def _rising(values: list[float], weights: list[float]) -> list[float]:
    """The rising sequence nearest to ``values`` (isotonic regression: pool those that fall)."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, members
    for value, weight in zip(values, weights, strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, u, k), (b, v, n) = pools[-2:]
            pools[-2:] = [((a * u + b * v) / (u + v), u + v, k + n)]
    return [mean for mean, _, members in pools for _ in range(members)]


def _layers(graph: Graph, nodes: list[int]) -> dict[int, int]:
    """The layer of each node: behind all that lead to it, and close to what it leads to."""
    edges = [edge for edge in graph.edges if edge[0] in set(nodes)]
    layers = dict.fromkeys(nodes, 0)
    readers: dict[int, list[tuple[int, int]]] = {node: [] for node in nodes}
    inputs = dict.fromkeys(nodes, 0)
    for a, b, label in sorted(edges, key=lambda edge: edge[1]):
        step = 2 if label else 1  # a label needs a layer of its own
        layers[b] = max(layers[b], layers[a] + step)
        readers[a].append((b, step))
        inputs[b] += 1
    for node in reversed(nodes):
        if len(readers[node]) == 1 and inputs[node] < 2:
            ((reader, step),) = readers[node]
            layers[node] = layers[reader] - step
    last = max(1, *layers.values())
    for node in nodes:
        if not readers[node] and not inputs[node] and graph.nodes[node].kind != "input":
            layers[node] = last  # not connected yet: it is going to be at the end
    return layers


def components(graph: Graph) -> list[list[int]]:
    """The nodes of each connected component; a node without edges goes with the next one."""
    group = list(range(len(graph.nodes)))
    for a, b, _ in graph.edges:
        old, new = group[b], group[a]
        group = [new if each == old else each for each in group]
    connected = sorted({node for edge in graph.edges for node in edge[:2]})
    for node in set(range(len(group))).difference(connected):
        near = [other for other in connected if other > node] or connected[-1:]
        group[node] = group[near[0]] if near else 0
    return [[n for n in range(len(group)) if group[n] == each] for each in dict.fromkeys(group)]
