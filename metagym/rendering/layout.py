"""Where the boxes and lines of a graph go: its layers, side by side in the room that there is.

"Along" is the direction in which edges go, "across" the other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from metagym.architectures.graph import Graph
from metagym.rendering.canvas import Box, Point
from metagym.rendering.layers import Part, Size, components

_GAPS, _BETWEEN = (30.0, 20.0, 14.0, 9.0), 48.0  # pixels between layers, components; at scale 1
_ENOUGH = 1.15  # a scale above which the direction is not chosen for its size


class Layout(NamedTuple):
    """A drawing's measures, in pixels.

    Attributes:
        boxes: of the nodes.
        lines: of the edges, points that a curve goes through; it leaves each along the flow.
        labels: of the edges, the middles of their labels (None without one).
        scale: of everything, letters too.
        down: whether edges go down; otherwise they go to the right.
    """

    boxes: list[Box]
    lines: list[list[Point]]
    labels: list[Point | None]
    scale: float
    down: bool


def lay_out(
    graph: Graph, sizes: Sequence[Size], labels: Sequence[Size], inside: Box, most: float = 1.4
) -> Layout:
    """Place a graph in a box, edges going to the right or down, whichever can be drawn larger.

    Args:
        graph: without cycles.
        sizes: of the nodes' boxes at scale 1.
        labels: of the edges' labels at scale 1; (0, 0) without one.
        inside: where there is room.
        most: the largest scale.
    """
    parts = [Part(graph, nodes, sizes, labels) for nodes in components(graph)]
    choices = [_arrange(graph, parts, inside, down, most) for down in (False, True)]
    return max(choices, key=lambda layout: min(layout.scale, _ENOUGH))


class _Strip:
    """A component whose edges go along one axis, 0 (x) or 1 (y), at scale 1.

    Attributes:
        places: of the items across.
        breadth: across, of all.
        depths: along, of the layers.
        turns: of the gaps between layers, how wide they should be compared with each other: there
            is more room to turn where lines go far across.
    """

    def __init__(self, part: Part, along: int) -> None:
        sizes = [item.size[1 - along] for item in part.items]
        self.part = part
        self.places = part.straighten(sizes)
        self.breadth = max(m + s / 2 for m, s in zip(self.places, sizes, strict=True))
        self.depths = [max(part.items[i].size[along] for i in layer) for layer in part.layers]
        self.turns = [
            min(2.0, max([0.8, *(self._shift(i, j) / 70 for i in layer for j in part.after[i])]))
            for layer in part.layers[:-1]
        ]

    def _shift(self, i: int, j: int) -> float:
        return abs(self.places[i] - self.places[j])

    def length(self, gap: float) -> float:
        return sum(self.depths) + gap * sum(self.turns)

    def gap(self, length: float) -> float:
        """The gap with which it has this length."""
        return (length - sum(self.depths)) / max(sum(self.turns), 1e-9)


def _arrange(graph: Graph, parts: list[Part], inside: Box, down: bool, most: float) -> Layout:
    """The layout with edges going down, or to the right."""
    along, across = (1, 0) if down else (0, 1)
    along_room, across_room = inside[along + 2] - inside[along], inside[across + 2] - inside[across]
    strips = [_Strip(part, along) for part in parts]
    breadth = sum(strip.breadth for strip in strips) + _BETWEEN * (len(strips) - 1)
    scale, gap, longest = 1.0, _GAPS[0], 1.0
    for gap in _GAPS:
        longest = max((strip.length(gap) for strip in strips), default=1.0)
        scale = min(most, along_room / longest, across_room / max(breadth, 1.0))
        if scale >= 1:
            break
    # Gaps grow until the room is used, but not for ever.
    gap = min([2.5 * gap, *(strip.gap(along_room / scale) for strip in strips)])
    longest = max((strip.length(gap) for strip in strips), default=1.0)
    spare = max(0.0, across_room / scale - breadth) / (len(strips) + 1)

    def at(far: float, side: float) -> Point:
        x, y = (side, far) if down else (far, side)
        return inside[0] + scale * x, inside[1] + scale * y

    boxes: list[Box] = [(0.0, 0.0, 0.0, 0.0)] * len(graph.nodes)
    spans = [(0.0, 0.0)] * len(graph.nodes)  # along, of the layers that nodes are in
    lines: list[list[Point]] = [[] for _ in graph.edges]
    labels: list[Point | None] = [None] * len(graph.edges)
    start = spare
    for strip in strips:
        begin = (along_room / scale - longest) / 2
        turns = [*strip.turns, 0.0]
        for layer, depth, turn in zip(strip.part.layers, strip.depths, turns, strict=True):
            middle, end = begin + depth / 2, begin + depth
            for i in layer:
                item, side = strip.part.items[i], start + strip.places[i]
                if item.node >= 0:
                    half, wide = item.size[along] / 2, item.size[across] / 2
                    corners = at(middle - half, side - wide), at(middle + half, side + wide)
                    boxes[item.node] = (*corners[0], *corners[1])
                    spans[item.node] = (at(begin, 0.0)[along], at(end, 0.0)[along])
                else:
                    lines[item.edge] += [at(begin, side), at(end, side)]
                    if item.label:
                        labels[item.edge] = at(middle, side)
            begin = end + gap * turn
        start += strip.breadth + _BETWEEN + spare
    _attach(graph, boxes, spans, lines, down, scale)
    return Layout(boxes, lines, labels, scale, down)


def _attach(
    graph: Graph,
    boxes: list[Box],
    spans: list[tuple[float, float]],
    lines: list[list[Point]],
    down: bool,
    scale: float,
) -> None:
    """Let the lines begin and end at the boxes, side by side, in the order of where they go.

    They leave the layer straight, past the neighbours of their boxes.
    """
    across = 0 if down else 1
    along = 1 - across
    for end in (False, True):
        edges_of: dict[int, list[int]] = {}
        for edge, nodes in enumerate(graph.edges):
            edges_of.setdefault(int(nodes[end]), []).append(edge)
        for node, edges in edges_of.items():
            box = boxes[node]
            heading: dict[int, float] = {}
            for edge in edges:
                other = boxes[int(graph.edges[edge][1 - end])]
                middle = (other[across] + other[across + 2]) / 2
                lanes = lines[edge][2:] if end else lines[edge]
                heading[edge] = lanes[-end][across] if lanes else middle
            edges.sort(key=heading.__getitem__)
            room = 0.0 if graph.nodes[node].kind == "sum" else 0.6 * (box[across + 2] - box[across])
            step = min(9 * scale, room / max(1, len(edges) - 1))
            borders = (box[along], spans[node][0]) if end else (box[along + 2], spans[node][1])
            for k, edge in enumerate(edges):
                place = (box[across] + box[across + 2]) / 2 + step * (k - (len(edges) - 1) / 2)
                points = [(place, border) if down else (border, place) for border in borders]
                lines[edge] = lines[edge] + points[::-1] if end else points + lines[edge]
