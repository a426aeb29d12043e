"""ImageData: the images that children are trained, validated and tested on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from metagym.core.task import SPLITS
from metagym.errors import InvalidArgumentError, check_choice
from metagym.problems.datasets import load_dataset, split_indices

IMAGE_SETS = ("digits", "mnist")


class ImageData(NamedTuple):
    """Three disjoint sets of images [N, channels, height, width] with labels [N] from 0 on."""

    train_images: np.ndarray
    train_labels: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    @property
    def classes(self) -> int:
        """How many outputs a network needs; all labels lie below."""
        return int(self.train_labels.max()) + 1


def load_images(name: str, folder: str | os.PathLike[str] | None = None) -> ImageData:
    """Images by name: half of them train, a quarter each validates and tests.

    Args:
        name: "digits" (scikit-learn's, 8 x 8) or "mnist" (the official test files, 28 x 28).
        folder: of MNIST's files; see ``load_dataset``.

    Raises:
        InvalidArgumentError: no such images.
        DataError: MNIST's files are missing or malformed.
    """
    data = load_dataset(check_choice("data", name, IMAGE_SETS), folder)
    side = round(data.inputs.shape[1] ** 0.5)
    images = data.inputs.reshape(-1, 1, side, side)
    parts = [split_indices(len(images))[split] for split in SPLITS]
    return ImageData(*(array[part] for part in parts for array in (images, data.labels)))


def check_image_data(data: Mapping[str, Any] | tuple[Any, ...]) -> ImageData:
    """The tensors or arrays of a user as ``ImageData`` of float32 and int64.

    Args:
        data: a dict with ImageData's names, or a tuple in their order (an ``ImageData``); images
            without a channel axis get one.

    Raises:
        InvalidArgumentError: a name is missing, or shapes, lengths or values do not fit.
    """
    if isinstance(data, Mapping):
        if set(data) != set(ImageData._fields):
            raise InvalidArgumentError(
                f"data has the names {', '.join(map(str, data)) or 'none'} instead of "
                f"{', '.join(ImageData._fields)}."
            )
        data = tuple(data[name] for name in ImageData._fields)
    if len(data) != len(ImageData._fields):
        raise InvalidArgumentError(
            f"data has {len(data)} parts instead of {', '.join(ImageData._fields)}."
        )
    checked = []
    for name, images, labels in zip(SPLITS, data[::2], data[1::2], strict=True):
        checked += _check_split(name, _array(images), _array(labels))
    result = ImageData(*checked)
    for name, images, labels in zip(SPLITS, result[::2], result[1::2], strict=True):
        if images.shape[1:] != result.train_images.shape[1:] or labels.max() >= result.classes:
            raise InvalidArgumentError(
                f"The {name} data (images {images.shape[1:]}, labels up to {labels.max()}) do not "
                f"go with the training data ({result.input_shape}, up to {result.classes - 1})."
            )
    return result


def _array(value: Any) -> np.ndarray:
    """A tensor's or an array's content; a tensor may lie on another device."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _check_split(name: str, images: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or labels.shape != images.shape[:1] or not len(labels):
        raise InvalidArgumentError(
            f"{name}_images {images.shape} and {name}_labels {labels.shape} have to be "
            "[N, channels, height, width] and [N] with N of at least 1."
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InvalidArgumentError(f"{name}_labels have to be whole numbers from 0 on.")
    images = images.astype(np.float32)
    if not np.isfinite(images).all():
        raise InvalidArgumentError(f"{name}_images hold something that is no finite number.")
    return [images, labels.astype(np.int64)]
