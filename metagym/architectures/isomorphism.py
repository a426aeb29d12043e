"""An order of a graph's nodes that depends on its structure and not on how they were numbered.

Two architectures whose layers (or blocks) are the same but for their numbers compute the same;
written in this order, they are the same text. The order comes from colour refinement (Weisfeiler
and Leman, 1968): nodes with different labels, inputs or readers get different colours.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any


def structural_order(
    labels: Sequence[str], inputs: Sequence[Sequence[tuple[int, str]]]
) -> list[int]:
    """The nodes of a directed graph without cycles, inputs before their readers.

    Renumbering the nodes leaves the renumbered graph as it is, except where refinement leaves
    several nodes alike that no symmetry of the graph exchanges. Since the order always is one of
    the same graph's, texts written in it never make two different graphs equal.

    Args:
        labels: what each of the n nodes is.
        inputs: of each node, the nodes that it reads and what the edge is; an edge may come twice.
    """
    count = len(labels)
    readers: list[list[tuple[int, str]]] = [[] for _ in range(count)]
    for node, edges in enumerate(inputs):
        for source, label in edges:
            readers[source].append((node, label))
    colours = _refine(_ranks(labels), inputs, readers)
    order: list[int] = []
    waiting = set(range(count))
    while waiting:
        ready = [n for n in waiting if all(source not in waiting for source, _ in inputs[n])]
        chosen = min(ready, key=lambda n: (colours[n], n))
        order.append(chosen)
        waiting.remove(chosen)
        if colours.count(colours[chosen]) > 1:
            # Alike, so that any of them may come first; from now on it differs from the others.
            split = [2 * colour for colour in colours]
            split[chosen] -= 1
            colours = _refine(split, inputs, readers)
    return order


def _refine(
    colours: list[int],
    inputs: Sequence[Sequence[tuple[int, str]]],
    readers: Sequence[Sequence[tuple[int, str]]],
) -> list[int]:
    """Split colours by those of the inputs and the readers until no colour splits any more."""
    while True:
        signatures = [
            (
                colours[node],
                tuple(sorted((label, colours[source]) for source, label in inputs[node])),
                tuple(sorted((label, colours[reader]) for reader, label in readers[node])),
            )
            for node in range(len(colours))
        ]
        finer = _ranks(signatures)
        if max(finer, default=0) == len(set(colours)) - 1:
            return finer
        colours = finer


def _ranks(values: Sequence[Any]) -> list[int]:
    """The place of each value among the different ones, in their order."""
    places: dict[Hashable, int] = {value: i for i, value in enumerate(sorted(set(values)))}
    return [places[value] for value in values]
