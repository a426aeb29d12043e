"""The layers that chains of convolutions are made of, and how they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from metagym.errors import InvalidArgumentError, nearest

SIZES = ("height", "width", "filters", "stride height", "stride width")
TYPES = {  # and the sizes that each has
    "conv": SIZES,
    "pool": ("height", "width", "stride height", "stride width"),
    "batch_norm": (),
}
_LAYER = re.compile(
    r"(\w+)(?: (\d+)x(\d+)(?:x(\d+))?)?(?: s(\d+)x(\d+))?(?: <- (image|\d+(?: ?, ?\d+)*))?",
    re.ASCII,
)


class Layer(NamedTuple):
    """A layer of a chain; sizes that are not chosen (yet) are 0.

    Attributes:
        type: one of ``TYPES``.
        height, width, filters: of a convolution; the window of a pooling layer.
        stride_height, stride_width: 0 where strides are not chosen, which means 1.
        inputs: the layers that it reads, in order; none: the image.
        undecided: how many earlier layers have been neither taken nor left.
    """

    type: str
    height: int = 0
    width: int = 0
    filters: int = 0
    stride_height: int = 0
    stride_width: int = 0
    inputs: tuple[int, ...] = ()
    undecided: int = 0

    def size(self, name: str) -> int:
        """One of ``SIZES``."""
        return int(getattr(self, name.replace(" ", "_")))


def make_layer(
    type_: str, sizes: Mapping[str, int], inputs: tuple[int, ...], undecided: int = 0
) -> Layer:
    """A layer from sizes by their name in ``SIZES``."""
    known = {name.replace(" ", "_"): size for name, size in sizes.items()}
    return Layer(type_, **known, inputs=inputs, undecided=undecided)


def unread(layers: Sequence[Layer]) -> list[int]:
    """The layers that no other layer reads."""
    read = {j for layer in layers for j in layer.inputs}
    return [i for i in range(len(layers)) if i not in read]


def near_layers(
    layers: list[Layer], notation: LayerNotation, shortest: int, depth: int
) -> Iterator[list[Layer]]:
    """The chains with one other type, then those with a layer more or less at the end.

    Where a type changes, sizes that both types have stay. The others come in as many ways as they
    have values: all the first of theirs, all the second, and so on; what is missing is one token
    away. So do those of a layer that is added; it reads the one before it.
    """
    for i, layer in enumerate(layers):
        for type_ in notation.types:
            if type_ != layer.type:
                for other in notation.variants(type_, layer):
                    yield [*layers[:i], other, *layers[i + 1 :]]
    if len(layers) < depth:
        last = Layer("", inputs=(len(layers) - 1,))
        for type_ in notation.types:
            for other in notation.variants(type_, last):
                yield [*layers, other]
    if len(layers) > shortest:
        yield layers[:-1]


class LayerNotation:
    """``conv 3x5x36 s1x2 <- 0,2``: type, height x width x filters, strides, inputs.

    Args:
        types: that there are.
        values: of each of ``SIZES`` that is chosen, those it may have.
        skips: whether inputs are chosen.
    """

    def __init__(
        self, types: Sequence[str], values: Mapping[str, Sequence[int]], skips: bool
    ) -> None:
        self.types = types
        self.values = values
        self.skips = skips

    def write(self, layers: Sequence[Layer]) -> str:
        """The layers with their inputs, "?" for what is open."""
        return "; ".join(self._write(layer) for layer in layers)

    def _write(self, layer: Layer) -> str:
        if not self.skips:
            return self.describe(layer)
        inputs = [*map(str, layer.inputs), *["?"] * (layer.undecided > 0)]
        return f"{self.describe(layer)} <- {','.join(inputs) or 'image'}"

    def describe(self, layer: Layer, times: str = "x", stride: str = " s") -> str:
        """The layer without its inputs."""
        sizes = [str(layer.size(name) or "?") for name in TYPES[layer.type] if name in self.values]
        strides = len(sizes) > 2 and "stride height" in self.values
        split = len(sizes) - 2 * strides
        text = " ".join([layer.type, times.join(sizes[:split])]).rstrip()
        return text + (stride + times.join(sizes[split:])) * strides

    def parse(self, i: int, text: str) -> Layer:
        """The ``i``-th layer of a chain.

        Raises:
            InvalidArgumentError: it is not written like ``write`` does, or is not in the space.
        """
        found = _LAYER.fullmatch(text)
        if found is None:
            raise InvalidArgumentError(
                f"Layer {i}, {text!r}, is not written like {self._example(i, 'conv')!r}."
            )
        type_, *numbers, sources = found.groups()
        if type_ not in self.types:
            raise InvalidArgumentError(
                f"Layer {i}, {text!r}: {type_!r} is not one of {', '.join(self.types)}."
                + nearest(type_, self.types)
            )
        sizes: dict[str, int] = {}
        for name, number in zip(SIZES, numbers, strict=True):
            used = name in self.values and name in TYPES[type_]
            if (number is not None) != used:
                raise self._error(i, text, name, type_, used)
            if used:
                sizes[name] = int(number)
                if sizes[name] not in self.values[name]:
                    choices = ", ".join(map(str, self.values[name]))
                    raise InvalidArgumentError(
                        f"Layer {i}, {text!r}: {name} {number} is not one of {choices}."
                    )
        if (sources is not None) != self.skips:
            raise self._error(i, text, "inputs", type_, self.skips)
        if not self.skips:
            return make_layer(type_, sizes, tuple(range(max(0, i - 1), i)))
        inputs = () if sources == "image" else tuple(map(int, sources.split(",")))
        if list(inputs) != sorted(set(inputs)) or (inputs and inputs[-1] >= i):
            raise InvalidArgumentError(
                f"Layer {i}, {text!r}: its inputs have to be 'image' or numbers of earlier layers "
                "in rising order."
            )
        return make_layer(type_, sizes, inputs)

    def _error(
        self, i: int, text: str, part: str, type_: str, missing: bool
    ) -> InvalidArgumentError:
        problem = f"it has no {part}" if missing else f"there is no place for {part}"
        return InvalidArgumentError(
            f"Layer {i}, {text!r}: {problem}; it is written like {self._example(i, type_)!r}."
        )

    def variants(self, type_: str, layer: Layer) -> list[Layer]:
        """``layer`` with another type; the k-th has the k-th value of every size that it lacked."""
        sizes = [name for name in TYPES[type_] if name in self.values]
        kept = {name: layer.size(name) for name in sizes if layer.size(name)}
        missing = {name: self.values[name] for name in sizes if name not in kept}
        ways = max(map(len, missing.values()), default=1)
        return [
            make_layer(
                type_,
                kept | {name: known[min(k, len(known) - 1)] for name, known in missing.items()},
                layer.inputs,
            )
            for k in range(ways)
        ]

    def _example(self, i: int, type_: str) -> str:
        sizes = {name: self.values[name][0] for name in TYPES[type_] if name in self.values}
        return self._write(make_layer(type_, sizes, (i - 1,) if i else ()))
