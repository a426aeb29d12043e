"""Real data, loaded when asked for and kept once per process: tables of scikit-learn and MNIST.

``split_indices`` is the one place where examples are divided into train, validation and test: a
fixed permutation, so that the three are disjoint and the same in every process.
"""

from __future__ import annotations

import functools
import gzip
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metagym.core.task import SPLITS
from metagym.errors import DataError, check_choice

TABLES = ("breast_cancer", "digits", "wine")
DATASETS = (*TABLES, "mnist")
# Shares of the splits: half of the examples train, a quarter each validates and tests.
_CUTS = (0.5, 0.75)
_MNIST_FILES = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


@dataclass(frozen=True)
class Dataset:
    """Examples with a class each; the arrays are shared and read-only.

    Attributes:
        inputs: features [N, features], float32; pixels lie in [0, 1].
        labels: classes [N], int64.
        classes: how many classes there are.
    """

    inputs: np.ndarray
    labels: np.ndarray
    classes: int


def load_dataset(name: str, folder: str | os.PathLike[str] | None = None) -> Dataset:
    """The data set called ``name``.

    Args:
        name: ``"digits"`` (1,797 images of 8x8), ``"breast_cancer"`` (569 x 30) or ``"wine"``
            (178 x 13), which come with scikit-learn; or ``"mnist"``: the 10,000 images of the
            official *test* files, which we divide ourselves, so that results do not depend on
            whether the larger training files are there too.
        folder: where MNIST's idx files are, gzipped or not: in ``<folder>/mnist`` or ``<folder>``;
            None means the folder that the environment variable METAGYM_DATA names.

    Raises:
        InvalidArgumentError: no such data set.
        DataError: the files of MNIST are missing or malformed.
    """
    if check_choice("dataset", name, DATASETS) == "mnist":
        return _load_mnist(_data_folder(folder))
    return _load_table(name)


def split_indices(count: int) -> dict[str, np.ndarray]:
    """The examples 0..count-1 as disjoint ``train`` (half), ``validation`` and ``test`` sets."""
    order = np.random.default_rng(0).permutation(count)
    parts = np.split(order, [int(cut * count) for cut in _CUTS])
    return dict(zip(SPLITS, parts, strict=True))


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an idx file, gzipped (``.gz``) or not, as LeCun's MNIST page defines it.

    Raises:
        DataError: the file cannot be read, is not an idx file, or has the wrong length.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch the file again.") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise DataError(f"{path} is not an idx file: its magic number is {content[:4].hex()!r}.")
    dtype, axes = np.dtype(_IDX_TYPES[content[2]]), content[3]
    start = 4 + 4 * axes
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    expected = start + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(content) < start or len(content) != expected:
        raise DataError(
            f"{path} is truncated or malformed: {len(content)} bytes, but a header that promises "
            f"shape {shape} needs {expected}; fetch the file again."
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def _data_folder(folder: str | os.PathLike[str] | None) -> Path:
    named = folder if folder is not None else os.environ.get("METAGYM_DATA")
    if not named:
        raise DataError(
            "dataset='mnist' needs the folder of its files: set METAGYM_DATA, or pass folder=, to "
            f"the folder that holds {_wanted()}."
        )
    return Path(named).expanduser().resolve()


@functools.cache
def _load_mnist(folder: Path) -> Dataset:
    images, labels = (read_idx(_find(folder, name)) for name in _MNIST_FILES)
    if images.ndim != 3 or labels.shape != images.shape[:1] or labels.max(initial=0) > 9:
        raise DataError(
            f"The MNIST files in {folder} do not belong together: images {images.shape}, "
            f"labels {labels.shape}."
        )
    pixels = images.reshape(len(images), -1).astype(np.float32)
    return _frozen(pixels / np.float32(255), labels, 10)


def _find(folder: Path, name: str) -> Path:
    for place in (folder / "mnist", folder):
        for suffix in ("", ".gz"):
            if (place / (name + suffix)).is_file():
                return place / (name + suffix)
    raise DataError(
        f"{folder} has no {name} (looked in mnist/ and the folder itself, .gz or not). Set "
        f"METAGYM_DATA, or pass folder=, to the folder that holds {_wanted()}."
    )


def _wanted() -> str:
    return " and ".join(f"{name}[.gz]" for name in _MNIST_FILES)


@functools.cache
def _load_table(name: str) -> Dataset:
    import sklearn.datasets  # slow to import, and only these tables need it

    inputs, labels = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    if name == "digits":
        inputs = inputs / 16
    return _frozen(inputs, labels, int(labels.max()) + 1)


def _frozen(inputs: np.ndarray, labels: np.ndarray, classes: int) -> Dataset:
    arrays = np.array(inputs, np.float32), np.array(labels, np.int64)
    for array in arrays:
        array.setflags(write=False)
    return Dataset(*arrays, classes)
