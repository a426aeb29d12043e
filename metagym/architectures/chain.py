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
    near_layers,
    unread,
)
from metagym.architectures.chain_tokens import NOTHING, STOP, chances, tabulate
from metagym.architectures.graph import Graph, Node
from metagym.architectures.isomorphism import structural_order
from metagym.architectures.space import PAD, SearchSpace
from metagym.architectures.tokens import check_text
from metagym.errors import InvalidArgumentError, check_bool, check_choice, check_positive

if TYPE_CHECKING:
    from metagym.architectures.chain_modules import ChainNetwork


class Chain(SearchSpace):
    """Convolutional networks, layer by layer.

    The tokens of a layer: its type (if there are several), the filter's height, width and number,
    the strides along height and width (if they are chosen), and for each earlier layer whether it
    is an input (if there are skips; without, each layer reads the one before). Types that have no
    use for a token get the only token allowed there, "-". Notation: ``conv 3x5x36 s1x2 <- image;
    pool 3x3 s2x2 <- 0``; layers count from 0.

    Sampling is uniform over the strings. Where depths vary, nearly all strings have the most
    layers, and so have nearly all samples; where types do, most layers are convolutions, which
    have the most choices.

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
        InvalidArgumentError: a number is not above 0, comes twice, or a filter's size is even;
            an unknown type; ``skips`` is neither True nor False.
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
        self.skips = check_bool("skips", skips)
        values = {
            "height": _check_sizes("heights", heights, odd=True),
            "width": _check_sizes("widths", widths, odd=True),
            "filters": _check_sizes("filters", filters),
        }
        if strides is not None:
            values |= dict.fromkeys(SIZES[3:], _check_sizes("strides", strides))
        self._notation = LayerNotation(self.types, values, skips)
        tokens = tabulate(self.types, values, skips, self.depth, self.shortest)
        self.vocabulary, self._ids, self._sizes, self._slots, *tables = tokens
        self._starts, self._first, self._kind, self._table = tables
        self.length = int(self._starts[-1])
        self._uniform = len(self.types) == 1 and self.shortest == self.depth
        self._chances = {} if self._uniform else chances(tokens)

    # -- tokens --------------------------------------------------------------------------------

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

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Complete architectures [count, length], uniform over the strings."""
        if self._uniform:  # as it is, since no choice depends on another
            return super().sample(rng, count)
        tokens = self.empty(count)
        for t in range(self.length):
            weights = self.mask(tokens) * self._chances.get(t, 1.0)
            # Of exponential times whose rates are the weights, the first is drawn by weight.
            times = np.full(weights.shape, np.inf)
            drawn = rng.standard_exponential(weights.shape)
            with np.errstate(over="ignore"):  # what is as rare as that never comes
                np.divide(drawn, weights, out=times, where=weights > 0)
            tokens[:, t] = np.where(weights.any(axis=1), times.argmin(axis=1), PAD)
        return tokens

    def neighbours(self, tokens: np.ndarray) -> np.ndarray:
        """Chains [N, length] that differ from [length] in one token, one type or the last layer.

        See ``near_layers``.
        """
        row = self.check(np.asarray(tokens)[None])[0]
        near, _ = self._with_one_token_changed(row)
        others = near_layers(self.layers(row), self._notation, self.shortest, self.depth)
        encoded = [self._encode(layers) for layers in others]
        return np.concatenate([near[self.valid(near)], *(other[None] for other in encoded)])

    # -- layers, text and drawing ----------------------------------------------------------------

    def layers(self, tokens: np.ndarray) -> list[Layer]:
        """The layers of an architecture [length], the last one perhaps in part.

        Raises:
            InvalidArgumentError: the tokens are not those of a chain of this space, or a part of
                it; so do ``to_string`` and ``graph``.
        """
        tokens = self._check_part(tokens)
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
        if "?" in check_text(text):
            raise InvalidArgumentError(f"The chain is not complete, it holds a '?': {text!r}.")
        parts = [part.strip() for part in text.split(";")]
        if not self.shortest <= len(parts) <= self.depth:
            raise InvalidArgumentError(
                f"A chain of {len(parts)} layers; those of this space have {self.shortest} to "
                f"{self.depth}: {text!r}."
            )
        return self._encode([self._notation.parse(i, part) for i, part in enumerate(parts)])

    def _encode(self, layers: Sequence[Layer]) -> np.ndarray:
        """The tokens [length] of a complete architecture."""
        tokens: list[str] = []
        for i, layer in enumerate(layers):
            for slot in self._slots[i]:
                if slot == "type":
                    tokens.append(layer.type)
                elif slot != "skip":
                    used = slot in TYPES[layer.type]
                    tokens.append(f"{slot} {layer.size(slot)}" if used else NOTHING)
            if self.skips:
                tokens += [("no skip", "skip")[j in layer.inputs] for j in range(i)]
        tokens += [STOP] * (len(layers) < self.depth)
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

    def _check_part(self, tokens: np.ndarray) -> np.ndarray:
        """An architecture [length] or a part of one, as an array."""
        row = np.asarray(tokens)
        if row.shape != (self.length,) or row.dtype.kind not in "iu":
            raise InvalidArgumentError(
                f"A chain of this space is whole numbers [{self.length}], not {row.dtype} "
                f"{list(row.shape)}."
            )
        inside = (row >= 0) & (row < len(self.vocabulary))
        tokens_or_pad = np.where(inside, row, PAD)
        first = self._first[:-1]
        kind = np.where(first == np.arange(self.length), 0, self._kind[tokens_or_pad[first]])
        follows = inside & self._table[np.arange(self.length), kind, tokens_or_pad]
        count = int(np.argmin(follows)) if not follows.all() else self.length
        if (row[count:] != PAD).any():
            raise InvalidArgumentError(
                f"Token {row[count]} at place {count} is not allowed there in a chain of this "
                f"space; behind the part of a chain, all places hold {PAD}."
            )
        return row

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
