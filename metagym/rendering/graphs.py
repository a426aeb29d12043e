"""Architectures as pictures and as text: the graph of a search space's string."""

from __future__ import annotations

import textwrap

import numpy as np

from metagym.architectures.graph import Graph, Node
from metagym.rendering.canvas import (
    BLUE,
    GREY,
    HEIGHT,
    INK,
    ORANGE,
    PAPER,
    WIDTH,
    Canvas,
    text_width,
)
from metagym.rendering.layers import Size
from metagym.rendering.layout import lay_out

_MARGIN = 16.0
_LETTERS, _LINE = 13.0, 16.0  # pixels of text and of its lines, at scale 1
_NOTE = 12.0  # of edges' labels
_COLOURS = {  # filling and border
    "input": ("#D6ECF8", BLUE),
    "output": ("#FBE6BF", ORANGE),
    "operation": ("#FFFFFF", GREY),
    "sum": ("#ECEAE4", GREY),
}
_SUBTITLE_LINES, _SUBTITLE = 2, 13.0
# Of the lines of nodes that lead to several others, so that an eye can follow them.
_INKS = (BLUE, "#B4540A", "#00785A", "#96517C", "#8A7000")


def draw_graph(graph: Graph, title: str = "", subtitle: str = "") -> np.ndarray:
    """An architecture, from its inputs on the left (or at the top) to its outputs.

    Args:
        graph: boxes and arrows; labels of arrows stand on them.
        title: one line, in bold.
        subtitle: below it, small; cut off after two lines.

    Returns:
        The frame [512, 832, 3] (uint8).
    """
    canvas = Canvas()
    top = _MARGIN
    if title:
        canvas.words(_MARGIN, top, title, 19, bold=True)
        top += 28
    for line in _wrapped(subtitle):
        canvas.words(_MARGIN, top, line, _SUBTITLE, GREY)
        top += 18
    room = (_MARGIN, top + 8 * (top > _MARGIN), WIDTH - _MARGIN, HEIGHT - _MARGIN)
    labels = [_label_size(label) for _, _, label in graph.edges]
    layout = lay_out(graph, [_size(node) for node in graph.nodes], labels, room)
    scale, down = layout.scale, layout.down

    colours = _line_colours(graph)
    weight = min(1.0, max(scale, 0.5))
    for colour, points in zip(colours, layout.lines, strict=True):
        (x, y), tip = points[-1], 8 * weight
        end = (x, y - tip / 2) if down else (x - tip / 2, y)
        canvas.curve([*points[:-1], end], colour, 1.6 * weight, down=down)
        canvas.tip((x, y), tip, colour, (0.0, 1.0) if down else (1.0, 0.0))
    for k, place in enumerate(layout.labels):
        if place is not None:
            width, height = scale * labels[k][0] / 2, scale * labels[k][1] / 2
            corners = (place[0] - width, place[1] - height, place[0] + width, place[1] + height)
            canvas.rounded(corners, height, PAPER, colours[k], 1.0)
            canvas.words(*place, graph.edges[k][2], _NOTE * scale, INK, anchor="mm")
    for node, box in zip(graph.nodes, layout.boxes, strict=True):
        filling, border = _COLOURS.get(node.kind, _COLOURS["operation"])
        radius = (box[3] - box[1]) / 2 if node.kind == "sum" else 6 * scale
        canvas.rounded(box, radius, filling, border)
        texts = node.label.split("\n")
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        for k, text in enumerate(texts):
            middle = y + scale * _LINE * (k - (len(texts) - 1) / 2)
            canvas.words(x, middle, text, _LETTERS * scale, INK, anchor="mm")
    return canvas.frame()


def describe_graph(graph: Graph) -> str:
    """An architecture as text, a line for each node: what it is, and what it reads.

    Nodes are numbered from 0; ``<- 0, 2 (skip_connect)`` are the nodes that it reads and what is
    written on the edges from there.
    """
    width = len(str(max(0, len(graph.nodes) - 1)))
    names = [" ".join(node.label.split()) for node in graph.nodes]
    longest = max(map(len, names), default=0)
    lines = []
    for i, name in enumerate(names):
        read = [f"{a} ({label})" if label else str(a) for a, b, label in graph.edges if b == i]
        arrow = f"  <- {', '.join(read)}" if read else ""
        lines.append(f"{i:>{width}}  {name:<{longest}}{arrow}".rstrip())
    return "\n".join(lines)


def _line_colours(graph: Graph) -> list[str]:
    sources = [a for a, _, _ in graph.edges]
    several = [a for a in dict.fromkeys(sources) if sources.count(a) > 1]
    inks = {a: _INKS[i % len(_INKS)] for i, a in enumerate(several)}
    return [inks.get(a, GREY) for a in sources]


def _size(node: Node) -> Size:
    lines = node.label.split("\n")
    width = max(text_width(line, _LETTERS) for line in lines)
    if node.kind == "sum":
        return max(width + 12, 22.0), 22.0
    return max(width + 16, 28.0), _LINE * len(lines) + 8


def _label_size(label: str) -> Size:
    return (text_width(label, _NOTE) + 14, _NOTE + 7) if label else (0.0, 0.0)


def _wrapped(text: str) -> list[str]:
    """The lines of a subtitle."""
    letters = int((WIDTH - 2 * _MARGIN) / text_width("n", _SUBTITLE))
    return textwrap.wrap(text, letters, max_lines=_SUBTITLE_LINES, placeholder=" …")
