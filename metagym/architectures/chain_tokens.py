"""The tokens of chains of convolutions: which there are, and which may come where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from metagym.architectures.chain_layers import TYPES

STOP, NOTHING = "STOP", "-"


class Tokens(NamedTuple):
    """What may come depends on the position and on the layer's first token: its type, or STOP.

    Attributes:
        vocabulary: what each of the V tokens means.
        ids: the token of each meaning.
        sizes: the numbers that tokens stand for.
        slots: of each layer, what each of its tokens is about.
        starts: the position of each layer's first token, and the end.
        first: of each position and the end, the position of the first token of its layer.
        kind: of each token, and of PAD in the last place, which part of the table it leads to.
        table: bool [length + 1, kinds, V].
    """

    vocabulary: tuple[str, ...]
    ids: dict[str, int]
    sizes: dict[int, int]
    slots: list[tuple[str, ...]]
    starts: np.ndarray
    first: np.ndarray
    kind: np.ndarray
    table: np.ndarray


def tabulate(
    types: Sequence[str],
    values: Mapping[str, Sequence[int]],
    skips: bool,
    depth: int,
    shortest: int,
) -> Tokens:
    """Number the tokens, and tabulate what may come where; the arguments are those of ``Chain``."""
    meanings = {"type": tuple(types)} if len(types) > 1 else {}  # of each slot of a layer
    meanings |= {name: tuple(f"{name} {v}" for v in vs) for name, vs in values.items()}
    one = tuple(meanings)
    if skips and depth > 1:
        meanings["skip"] = ("no skip", "skip")
    extra = (NOTHING,) * (len(types) > 1) + (STOP,) * (shortest < depth)
    vocabulary = (*(token for tokens in meanings.values() for token in tokens), *extra)
    ids = {token: i for i, token in enumerate(vocabulary)}
    sizes = {ids[f"{name} {v}"]: v for name, vs in values.items() for v in vs}

    slots = [one + ("skip",) * (i * skips) for i in range(depth)]
    lengths = [len(layer) for layer in slots]
    starts = np.cumsum([0, *lengths])
    first = np.append(np.repeat(starts[:-1], lengths), starts[-2])
    kinds = [*types, STOP]
    kind = np.zeros(len(vocabulary) + 1, dtype=np.int64)
    for i, token in enumerate(kinds):
        if token in ids:
            kind[ids[token]] = i
    table = np.zeros((int(starts[-1]) + 1, len(kinds), len(vocabulary)), dtype=bool)
    for i, layer in enumerate(slots):
        for place, slot in enumerate(layer):
            at = table[starts[i] + place]
            for k, type_ in enumerate(types):
                used = slot in ("type", "skip", *TYPES[type_])
                for token in meanings[slot] if used else (NOTHING,):
                    at[k, ids[token]] = True
            if place == 0 and i >= shortest:
                at[:, ids[STOP]] = True
    return Tokens(vocabulary, ids, sizes, slots, starts, first, kind, table)


def chances(tokens: Tokens) -> dict[int, np.ndarray]:
    """By position where a layer begins, the chance [V] of each token with which all strings are
    equally likely: the share of the strings that go on with it.

    Counted in whole numbers, since there may be more strings than a float can hold.
    """
    found, behind = {}, 1  # how many ways there are to go on behind a layer
    for start, end in zip(tokens.starts[-2::-1], tokens.starts[:0:-1], strict=True):
        ways = dict.fromkeys(np.flatnonzero(tokens.table[start, 0]).tolist(), 1)
        for token in ways:
            if token != tokens.ids.get(STOP):
                rest = tokens.table[start + 1 : end, tokens.kind[token]].sum(axis=1)
                ways[token] = math.prod(rest.tolist()) * behind
        behind = sum(ways.values())
        found[int(start)] = np.zeros(len(tokens.vocabulary))
        for token, count in ways.items():
            found[int(start)][token] = count / behind
    return found
