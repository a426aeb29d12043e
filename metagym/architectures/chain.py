"""Chains of convolutions: the image space of Zoph and Le (2017), sections 3.1 to 3.3.

An architecture is a list of layers; a skip connection is one token for each earlier layer. The
rules for skips are the paper's: inputs are concatenated along the channels, a layer that chose no
input reads the image, and what no layer reads is concatenated before the classifier; whatever has
to be concatenated is padded with zeros to one size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from metagym.architectures.chain_layers import (
    SIZES,
    TYPES,
    Layer,
    LayerNotation,
    make_layer,
    unread,
)
from metagym.architectures.graph import Graph, Node
from metagym.architectures.isomorphism import structural_order
from metagym.architectures.space import PAD, SearchSpace
from metagym.errors import InvalidArgumentError, check_choice, check_positive

if TYPE_CHECKING:
    from metagym.architectures.chain_modules import ChainNetwork

STOP, NOTHING = "STOP", "-"


class Chain(SearchSpace):
    """Convolutional networks, layer by layer.

    The tokens of a layer: its type (if there are several), the filter's height, width and number,
    the strides along height and width (if they are chosen), and for each earlier layer whether it
    is an input (if there are skips; without, each layer reads the one before). Types that have no
    use for a token get the only token allowed there, "-". Notation: ``conv 3x5x36 s1x2 <- image;
    pool 3x3 s2x2 <- 0``; layers count from 0.

    Sampling is uniform over the strings where the depth is fixed and there is one type.

    Args:
        depth: the most layers.
        shortest: the fewest layers: from there on STOP is a token that may come in a layer's
            place. None: all chains have ``depth`` layers, and STOP is no token.
        heights: of filters and pooling windows, odd.
        widths: of filters and pooling windows, odd.
        filters: of a convolution.
        strides: along height and along width, or None: all are 1, without a token.
        types: of layers, "conv" and any of "pool" (the maximum) and "batch_norm".
        skips: whether layers choose their inputs.

    Raises:
        InvalidArgumentError: a number is not above 0, comes twice, or a filter's size is even.
    """

    name = "chain"

    def __init__(
        self,
        depth: int = 6,
        *,
        shortest: int | None = None,
        heights: Sequence[int] = (1, 3, 5, 7),
        widths: Sequence[int] = (1, 3, 5, 7),
        filters: Sequence[int] = (24, 36, 48, 64),
        strides: Sequence[int] | None = None,
        types: Sequence[str] = ("conv",),
        skips: bool = True,
    ) -> None:
        self.depth = check_positive("depth", depth)
        self.shortest = self.depth if shortest is None else check_positive("shortest", shortest)
        if self.shortest > self.depth:
            raise InvalidArgumentError(
                f"shortest={shortest} is more than depth={depth}, the most layers."
            )
        self.types = _check_types(types)
        self.skips = skips
        values = {
            "height": _check_sizes("heights", heights, odd=True),
            "width": _check_sizes("widths", widths, odd=True),
            "filters": _check_sizes("filters", filters),
        }
        if strides is not None:
            values |= dict.fromkeys(SIZES[3:], _check_sizes("strides", strides))
        self._notation = LayerNotation(self.types, values, skips)
        self._tabulate(values)

    # -- tokens --------------------------------------------------------------------------------

    def _tabulate(self, values: dict[str, tuple[int, ...]]) -> None:
        """Number the tokens, and tabulate what may come where."""
        several = len(self.types) > 1
        meanings = {"type": self.types} if several else {}  # of each slot of a layer
        meanings |= {name: tuple(f"{name} {v}" for v in vs) for name, vs in values.items()}
        slots = tuple(meanings)
        if self.skips and self.depth > 1:
            meanings["skip"] = ("no skip", "skip")
        extra = (NOTHING,) * several + (STOP,) * (self.shortest < self.depth)
        self.vocabulary = (*(token for tokens in meanings.values() for token in tokens), *extra)
        self._ids = {token: i for i, token in enumerate(self.vocabulary)}
        self._sizes = {self._ids[f"{name} {v}"]: v for name, vs in values.items() for v in vs}

        self._slots = [slots + ("skip",) * (i * self.skips) for i in range(self.depth)]
        lengths = [len(layer) for layer in self._slots]
        self._starts = np.cumsum([0, *lengths])
        self.length = int(self._starts[-1])
        # What may come depends on the position and on the layer's first token: its type, or STOP.
        self._first = np.append(np.repeat(self._starts[:-1], lengths), self._starts[-2])
        kinds = [*self.types, STOP]
        self._kind = np.zeros(len(self.vocabulary) + 1, dtype=np.int64)  # the last one is PAD's
        for kind, token in enumerate(kinds):
            if token in self._ids:
                self._kind[self._ids[token]] = kind
        self._table = np.zeros((self.length + 1, len(kinds), len(self.vocabulary)), dtype=bool)
        for i, layer in enumerate(self._slots):
            for place, slot in enumerate(layer):
                at = self._table[self._starts[i] + place]
                for kind, type_ in enumerate(self.types):
                    used = slot in ("type", "skip", *TYPES[type_])
                    for token in meanings[slot] if used else (NOTHING,):
                        at[kind, self._ids[token]] = True
                if place == 0 and i >= self.shortest:
                    at[:, self._ids[STOP]] = True

    @property
    def anchors(self) -> np.ndarray:
        """Of each skip token, by position [length, 2]: the positions before which the sizes of
        the layer that chooses, and of the earlier layer that it takes or leaves, are written;
        -1 where the token is about no skip."""
        anchors = np.full((self.length, 2), -1)
        for i, layer in enumerate(self._slots):
            for j in range(layer.count("skip")):
                at = self._starts[i + 1] - i
                anchors[at + j] = at, self._starts[j + 1] - j
        return anchors

    def mask(self, tokens: np.ndarray) -> np.ndarray:
        count = (tokens != PAD).sum(axis=1)
        first = tokens[np.arange(len(tokens)), self._first[count]]
        allowed: np.ndarray = self._table[count, self._kind[first]]
        return allowed

    def depth_mask(self, tokens: np.ndarray, depth: int) -> np.ndarray:
        """``mask`` for chains of exactly ``depth`` layers; see ``scheduled_depth``.

        Raises:
            InvalidArgumentError: the space has no chains of this depth.
        """
        if not self.shortest <= depth <= self.depth:
            raise InvalidArgumentError(
                f"depth={depth!r}: the chains of this space have {self.shortest} to {self.depth} "
                "layers."
            )
        allowed = self.mask(tokens)
        if STOP in self._ids:
            stop, count = self._ids[STOP], (tokens != PAD).sum(axis=1)
            allowed[count < self._starts[depth], stop] = False
            if depth < self.depth:
                allowed[count == self._starts[depth], :stop] = False
        return allowed

    # -- layers, text and drawing ----------------------------------------------------------------

    def layers(self, tokens: np.ndarray) -> list[Layer]:
        """The layers of an architecture [length], the last one perhaps in part."""
        tokens = np.asarray(tokens)
        layers = []
        for i, slots in enumerate(self._slots):
            given = tokens[self._starts[i] : self._starts[i + 1]].tolist()
            if given[0] in (PAD, self._ids.get(STOP)):
                break
            sizes = {
                slot: self._sizes[token]
                for slot, token in zip(slots, given, strict=True)
                if token in self._sizes
            }
            type_ = self.vocabulary[given[0]] if len(self.types) > 1 else self.types[0]
            inputs, undecided = tuple(range(max(0, i - 1), i)), 0
            if self.skips:
                bits = given[len(given) - i :]
                inputs = tuple(j for j in range(i) if bits[j] == self._ids["skip"])
                undecided = bits.count(PAD)
            layers.append(make_layer(type_, sizes, inputs, undecided))
        return layers

    def to_string(self, tokens: np.ndarray) -> str:
        text = self._notation.write(self.layers(tokens))
        complete = self.finished(np.asarray(tokens)[None])[0]
        return text if complete or "?" in text else f"{text}; ?".removeprefix("; ")

    def from_string(self, text: str) -> np.ndarray:
        if "?" in text:
            raise InvalidArgumentError(f"The chain is not complete, it holds a '?': {text!r}.")
        parts = [part.strip() for part in text.split(";")]
        if not self.shortest <= len(parts) <= self.depth:
            raise InvalidArgumentError(
                f"A chain of {len(parts)} layers; those of this space have {self.shortest} to "
                f"{self.depth}: {text!r}."
            )
        tokens: list[str] = []
        for i, part in enumerate(parts):
            layer = self._notation.parse(i, part)
            for slot in self._slots[i]:
                if slot == "type":
                    tokens.append(layer.type)
                elif slot != "skip":
                    used = slot in TYPES[layer.type]
                    tokens.append(f"{slot} {layer.size(slot)}" if used else NOTHING)
            if self.skips:
                tokens += [("no skip", "skip")[j in layer.inputs] for j in range(i)]
        tokens += [STOP] * (len(parts) < self.depth)
        row = self.empty(1)[0]
        row[: len(tokens)] = [self._ids[token] for token in tokens]
        return row

    def canonical(self, tokens: np.ndarray) -> str:
        """The string, with layers in an order that does not depend on their numbers.

        Layers that do not read each other may change places: their channels change places with
        them, and so do the weights that read those channels.
        """
        layers = self._complete_layers(tokens)
        if not self.skips:
            return self._notation.write(layers)
        labels = [self._notation.describe(layer) for layer in layers]
        order = structural_order(labels, [[(j, "") for j in layer.inputs] for layer in layers])
        place = {layer: i for i, layer in enumerate(order)}
        return self._notation.write(
            [
                layers[i]._replace(inputs=tuple(sorted(place[j] for j in layers[i].inputs)))
                for i in order
            ]
        )

    def graph(self, tokens: np.ndarray) -> Graph:
        layers = self.layers(tokens)
        nodes = [Node("image", "input")]
        edges: list[tuple[int, int, str]] = []
        for i, layer in enumerate(layers):
            nodes.append(Node(self._notation.describe(layer, "×", "\nstride ")))
            edges += [(j + 1, i + 1, "") for j in layer.inputs]
            if not layer.inputs and not layer.undecided:
                edges.append((0, i + 1, ""))
        if self.finished(np.asarray(tokens)[None])[0]:
            nodes.append(Node("classifier", "output"))
            edges += [(i + 1, len(layers) + 1, "") for i in unread(layers)]
        return Graph(tuple(nodes), tuple(edges))

    def build(self, tokens: np.ndarray, input_shape: Sequence[int], outputs: int) -> ChainNetwork:
        """The network of a complete architecture [length].

        Convolutions keep the image's size (divided by the stride, rounded up) and are followed by
        batch normalisation and ReLU; the head is the mean over the image and a linear layer.

        Args:
            tokens: one architecture.
            input_shape: (channels, height, width) of an image.
            outputs: how many numbers it gives for an image.
        """
        from metagym.architectures.chain_modules import ChainNetwork

        return ChainNetwork(self._complete_layers(tokens), input_shape, outputs)

    def _complete_layers(self, tokens: np.ndarray) -> list[Layer]:
        return self.layers(self.check(np.asarray(tokens)[None])[0])


def scheduled_depth(samples: int, *, first: int = 6, step: int = 2, every: int = 1600) -> int:
    """Layers of the next architecture after so many samples: Zoph and Le's schedule.

    space = Chain(depth=20, shortest=6)
    allowed = space.depth_mask(tokens, min(scheduled_depth(samples), space.depth))
    """
    return first + step * (samples // every)


def _check_types(types: Sequence[str]) -> tuple[str, ...]:
    chosen = tuple(check_choice("types", type_, TYPES) for type_ in types)
    if "conv" not in chosen or len(set(chosen)) != len(chosen):
        raise InvalidArgumentError(f"types={chosen!r} has to hold 'conv', and each type once.")
    return chosen


def _check_sizes(argument: str, sizes: Sequence[int], odd: bool = False) -> tuple[int, ...]:
    numbers = tuple(check_positive(argument, size) for size in sizes)
    if not numbers or len(set(numbers)) != len(numbers):
        raise InvalidArgumentError(f"{argument}={numbers!r} has to hold numbers, each once.")
    if odd and any(number % 2 == 0 for number in numbers):
        raise InvalidArgumentError(
            f"{argument}={numbers!r} has to hold odd numbers: a filter's middle is its place."
        )
    return numbers
