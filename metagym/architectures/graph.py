"""Graph: what an architecture looks like, for drawing it."""

from __future__ import annotations

from typing import NamedTuple


class Node(NamedTuple):
    """A box of the drawing.

    Attributes:
        label: what it does; a line break is allowed.
        kind: "input", "output", "operation" or "sum"; it decides the colour.
    """

    label: str
    kind: str = "operation"


class Graph(NamedTuple):
    """A directed graph without cycles; edges go from lower to higher indices of ``nodes``."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int, str], ...]  # from, to, label ("" for none)
