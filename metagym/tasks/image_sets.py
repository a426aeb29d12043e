"""ImageSet: images of many classes, some to train on and others to be judged on; a cache of them.

``load_image_set(name)`` finds one by name. What takes seconds to make is made once and kept in
``cache_folder()``; a damaged or older file there is made anew.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metagym.core.task import SPLITS
from metagym.errors import DataError, InvalidArgumentError
from metagym.files import write_atomically
from metagym.named import make_named

IMAGE_SETS: dict[str, str] = {
    "glyphs": "metagym.tasks.glyphs:load_glyphs",
    "omniglot": "metagym.tasks.omniglot:load_omniglot",
    "digits": "metagym.tasks.image_folder:load_digits",
    "folder": "metagym.tasks.image_folder:load_folder",
}

_STORED = ("images", "counts", "classes", *SPLITS)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images sorted by class, as read-only arrays.

    Attributes:
        name: for tables.
        images: uint8 [N, channels, height, width]; in drawings the ink is 255.
        counts: images of each class, int64 [classes]; the first ``counts[0]`` images are of
            class 0, and so on.
        classes: a name each, such as "Greek/β".
        split: the classes of "train", "validation" and "test", int64 arrays that share no class.

    Raises:
        InvalidArgumentError: the parts do not fit each other, or a class is in two splits.
    """

    name: str
    images: np.ndarray
    counts: np.ndarray
    classes: tuple[str, ...]
    split: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise InvalidArgumentError(
                f"images ({self.images.dtype}, {self.images.shape}) have to be uint8 "
                "[N, channels, height, width]."
            )
        if self.counts.ndim != 1 or (self.counts < 1).any() or len(self.counts) < 1:
            raise InvalidArgumentError("counts has to say of each class how many images it has.")
        if self.counts.sum() != len(self.images) or len(self.classes) != len(self.counts):
            raise InvalidArgumentError(
                f"{len(self.images)} images, counts of {self.counts.sum()} images in "
                f"{len(self.counts)} classes and {len(self.classes)} names do not go together."
            )
        used = np.concatenate([self.split.get(split, ["missing"]) for split in SPLITS])
        known = used.dtype.kind in "iu" and np.isin(used, np.arange(len(self.counts))).all()
        if not known or len(np.unique(used)) != len(used) or set(self.split) != set(SPLITS):
            raise InvalidArgumentError(
                f"split has to give each of {', '.join(SPLITS)} an array of classes from 0 to "
                f"{len(self.counts) - 1}, and no class to two of them."
            )
        for array in (self.images, self.counts, *self.split.values()):
            array.setflags(write=False)

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """Where each class begins in ``images``, int64 [classes]."""
        return np.cumsum(self.counts) - self.counts

    @functools.cached_property
    def digest(self) -> str:
        """A checksum of everything but the name."""
        return _digest(_to_arrays(self))


def pack(
    name: str, groups: Mapping[str, np.ndarray], split: Mapping[str, np.ndarray | list[int]]
) -> ImageSet:
    """An image set from one array of images per class.

    Args:
        name: for tables.
        groups: uint8 [count, height, width] or [count, channels, height, width] by class name.
        split: class numbers, in the order of ``groups``, by split.

    Raises:
        InvalidArgumentError: there is no class, sizes differ, or the splits do not fit.
    """
    shapes = {images.shape[1:] for images in groups.values()}
    if len(shapes) != 1:
        raise InvalidArgumentError(f"The images of a set have one size, not {sorted(shapes)}.")
    images = np.concatenate(list(groups.values()))
    images = images[:, None] if images.ndim == 3 else images
    counts = np.array([len(group) for group in groups.values()], np.int64)
    numbers = {part: np.array(classes, np.int64) for part, classes in split.items()}
    return ImageSet(name, images, counts, tuple(groups), numbers)


def load_image_set(name: str, **kwargs: Any) -> ImageSet:
    """The image set called ``name``.

    Args:
        name: "glyphs", "omniglot", "digits" or "folder".
        **kwargs: of its loader, such as ``folder``.

    Raises:
        InvalidArgumentError: there is no such set or argument.
        DataError: its files are missing or malformed.
    """
    made: ImageSet = make_named("image set", name, IMAGE_SETS, kwargs)
    return made


# -- the cache ---------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where made image sets are kept: METAGYM_CACHE, or the user's folder of caches."""
    if named := os.environ.get("METAGYM_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "metagym"


def cached(key: str, make: Callable[[], ImageSet]) -> ImageSet:
    """The image set in the cache's file ``key``.npz, or the one that ``make`` makes, then kept.

    A cache that cannot be written costs a warning and the same seconds the next time.
    """
    path = cache_folder() / f"{key}.npz"
    try:
        return _read(path)
    except (OSError, KeyError, ValueError, EOFError, TypeError, AttributeError,
            NotImplementedError, zipfile.BadZipFile, zlib.error):  # fmt: skip
        pass  # not there yet, or damaged: both end in a new one
    made = make()
    arrays = {**_to_arrays(made), "name": np.array(made.name), "digest": np.array(made.digest)}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        warnings.warn(
            f"{path} cannot be written ({error.strerror}), so that the {made.name} images are made "
            "again each time; set METAGYM_CACHE to a folder of yours.",
            stacklevel=2,
        )
    return made


def _read(path: Path) -> ImageSet:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in _STORED}
        name, digest = str(file["name"]), str(file["digest"])
    if digest != _digest(arrays):
        raise DataError(f"{path} is damaged.")
    split = {part: arrays[part] for part in SPLITS}
    classes = tuple(map(str, arrays["classes"]))
    return ImageSet(name, arrays["images"], arrays["counts"], classes, split)


def _to_arrays(images: ImageSet) -> dict[str, np.ndarray]:
    parts = {split: images.split[split].astype(np.int64) for split in SPLITS}
    return {
        "images": images.images, "counts": images.counts, "classes": np.array(images.classes),
        **parts,
    }  # fmt: skip


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in _STORED:
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def data_folder(folder: str | os.PathLike[str] | None, wanted: str) -> Path:
    """``folder``, or the folder that the environment variable METAGYM_DATA names.

    Raises:
        DataError: neither names one; the message says what is ``wanted`` in it.
    """
    named = folder if folder is not None else os.environ.get("METAGYM_DATA")
    if not named:
        raise DataError(f"Set METAGYM_DATA, or pass folder=, to the folder that holds {wanted}.")
    return Path(named).expanduser()
