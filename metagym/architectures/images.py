"""What the spaces of image networks ask of the images."""

from __future__ import annotations

from collections.abc import Sequence

from metagym.errors import InvalidArgumentError, check_positive


def check_images(input_shape: Sequence[int], outputs: int) -> tuple[tuple[int, int, int], int]:
    """The shape (channels, height, width) of an image and the number of outputs, as ints.

    Raises:
        InvalidArgumentError: the shape is none of an image, or a number is not above 0.
    """
    if len(input_shape) != 3:
        raise InvalidArgumentError(
            f"input_shape={tuple(input_shape)!r} has to be (channels, height, width) of an image."
        )
    channels, height, width = (check_positive("input_shape", size) for size in input_shape)
    return (channels, height, width), check_positive("outputs", outputs)
