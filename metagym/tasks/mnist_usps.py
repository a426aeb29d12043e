"""MNIST and USPS digits at 16 × 16 pixels, 2,000 and 1,800 of them: the sample of Long et al.

The file ``MNIST_vs_USPS.mat`` is a MATLAB 7.3 file, that is HDF5: ``Xs`` [2000, 256] and ``Ys`` are
MNIST, ``Xt`` [1800, 256] and ``Yt`` are USPS, labels from 1 (the digit 0) to 10. A row is an
upright image, line by line; pixels lie in [0, 1]. The strokes of USPS fill their frame, those of
MNIST leave a margin.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np

from metagym.errors import DataError, InvalidArgumentError
from metagym.tasks.domains import DomainPair, split_target
from metagym.tasks.image_sets import data_folder

FILE = "MNIST_vs_USPS.mat"
SIDE = 16
# name: the keys of its images and labels in the file, and how many there are
_PARTS = {"mnist": ("Xs", "Ys", 2000), "usps": ("Xt", "Yt", 1800)}

Digits = tuple[np.ndarray, np.ndarray]


def load_mnist_usps(folder: str | os.PathLike[str] | None = None) -> dict[str, Digits]:
    """Images (float64 [n, 256] in [0, 1]) and digits (int64 [n]) of "mnist" and "usps".

    Args:
        folder: holds the file, or a folder ``mnist_usps`` with it; None: the folder that the
            environment variable METAGYM_DATA names.

    Returns:
        Read-only arrays, the same ones at every call.

    Raises:
        InvalidArgumentError: h5py is not installed.
        DataError: the file is missing or malformed.
    """
    named = data_folder(folder, FILE)
    found = [place / FILE for place in (named / "mnist_usps", named) if (place / FILE).is_file()]
    if not found:
        raise DataError(
            f"{named} has no {FILE} (looked in mnist_usps/ and the folder itself). Set "
            "METAGYM_DATA, or pass folder=, to the folder that holds it."
        )
    return dict(_read(found[0].resolve()))


def mnist_usps(
    shots: int = 5, seed: int = 0, folder: str | os.PathLike[str] | None = None
) -> DomainPair:
    """From MNIST to USPS.

    Args:
        shots, seed: see ``split_target``.
        folder: see ``load_mnist_usps``.

    Raises:
        InvalidArgumentError, DataError: as ``split_target`` and ``load_mnist_usps``.
    """
    return _pair("mnist", "usps", shots, seed, folder)


def usps_mnist(
    shots: int = 5, seed: int = 0, folder: str | os.PathLike[str] | None = None
) -> DomainPair:
    """From USPS to MNIST; everything else is as in ``mnist_usps``."""
    return _pair("usps", "mnist", shots, seed, folder)


# -- the inside --------------------------------------------------------------------------------


def _pair(
    source: str, target: str, shots: int, seed: int, folder: str | os.PathLike[str] | None
) -> DomainPair:
    found = load_mnist_usps(folder)
    return split_target(
        f"{source}_{target}", found[source], found[target], shots, seed, (SIDE, SIDE)
    )


@functools.cache
def _read(path: Path) -> dict[str, Digits]:
    try:
        import h5py
    except ImportError:
        raise InvalidArgumentError(
            f"{path.name} is an HDF5 file, which h5py reads: pip install -e '.[hdf5]' in a "
            "checkout of metagym."
        ) from None
    parts: dict[str, Digits] = {}
    try:
        with h5py.File(path, "r") as file:
            for name, (images, labels, count) in _PARTS.items():
                parts[name] = _check(
                    path, name, count, np.asarray(file[images]), np.asarray(file[labels])
                )
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no {FILE} ({error}); fetch the file again.") from None
    return parts


def _check(path: Path, name: str, count: int, images: np.ndarray, labels: np.ndarray) -> Digits:
    """The two arrays as ours, or an error that says what is wrong with the file."""
    pixels, digits = np.array(images, np.float64), labels.ravel().astype(np.int64) - 1
    if (
        pixels.shape != (count, SIDE * SIDE)
        or digits.shape != (count,)
        or not (np.isfinite(pixels).all() and pixels.min() >= 0.0 and pixels.max() <= 1.0)
        or not np.array_equal(np.unique(digits), np.arange(10))
    ):
        raise DataError(
            f"{path}: {name} has to be {count} images of {SIDE * SIDE} pixels in [0, 1] with "
            f"labels 1 to 10; found {pixels.shape} and {digits.shape}. Fetch the file again."
        )
    for array in (pixels, digits):
        array.setflags(write=False)
    return pixels, digits
