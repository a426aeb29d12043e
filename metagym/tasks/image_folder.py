"""Image sets of your own, a folder of class folders, and scikit-learn's digits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metagym.core.task import SPLITS
from metagym.errors import DataError, InvalidArgumentError, check_bool, check_choice, check_positive
from metagym.problems.datasets import load_dataset
from metagym.tasks.image_sets import ImageSet, pack

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (".png", ".jpg", ".jpeg")
COLOURS = ("grey", "rgb")
LEFTOVERS = ("__MACOSX",)  # of archivers; Thumbs.db has no image's ending
# Ten classes: enough for 3-way tasks in each split.
DIGIT_SPLIT = {"train": [0, 1, 2, 3], "validation": [4, 5, 6], "test": [7, 8, 9]}


def load_digits(size: int = 28) -> ImageSet:
    """scikit-learn's 1,797 digits: 0-3 train, 4-6 validate, 7-9 test; for up to 3 ways.

    Leave them unturned: a 6 upside down is a 9.

    Args:
        size: of a side in pixels; the originals' 8 are scaled up so that networks for Omniglot
            fit.

    Raises:
        InvalidArgumentError: a size below 1.
    """
    from PIL import Image

    side = check_positive("size", size)
    data = load_dataset("digits")
    images = np.rint(data.inputs.reshape(-1, 8, 8) * 255).astype(np.uint8)
    scaled = np.stack([
        np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
        for image in images
    ])  # fmt: skip
    return pack("digits", {str(i): scaled[data.labels == i] for i in range(10)}, DIGIT_SPLIT)


def load_folder(
    folder: str | os.PathLike[str],
    size: int | None = None,
    colour: str = "grey",
    invert: bool = False,
    shares: Sequence[float] = (0.6, 0.2),
) -> ImageSet:
    """A folder of class folders with PNG or JPEG images, at any depth.

    Every folder with images in it is a class. If the folder's own folders are called train,
    validation (or val) and test, they are the splits. Otherwise its folders are divided by a fixed
    permutation: classes if they hold images, or else whole groups of classes, such as alphabets.
    Hidden files and folders, and those that archivers leave behind (__MACOSX), do not count.
    A transparent ground becomes white; 16 bits a pixel are scaled to 8.

    Args:
        folder: where the images are.
        size: of a side in pixels, to which all images are scaled; None leaves them as they are,
            and they all have to be of one size.
        colour: "grey" (one channel) or "rgb" (three).
        invert: True for drawings in black on white, so that the ink becomes 255.
        shares: of the folders that train and validate, in this order; the rest tests.

    Raises:
        InvalidArgumentError: a bad argument.
        DataError: there is no such folder, it has no images, fewer than three folders, an empty
            split, an image that cannot be read, or images of mixed sizes.
    """
    side = None if size is None else check_positive("size", size)
    check_choice("colour", colour, COLOURS)
    check_bool("invert", invert)
    if len(shares) != 2 or min(shares) <= 0 or sum(shares) >= 1:
        raise InvalidArgumentError(f"shares={shares!r} have to be two above 0 with a sum below 1.")
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DataError(f"There is no folder {root}.")
    files = _find_images(root)
    splits = _divide(root, files, shares)
    groups = {
        name: np.stack([_read_image(path, side, colour) for path in paths])
        for name, paths in _one_size(files, side).items()
    }
    if invert:
        groups = {name: 255 - images for name, images in groups.items()}
    groups = {
        name: images if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        for name, images in groups.items()
    }
    return pack(root.resolve().name, groups, splits)


def _find_images(root: Path) -> dict[str, list[Path]]:
    """The image files of each class by the class folder's path below ``root``, all sorted."""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        hidden = any(part.startswith(".") or part in LEFTOVERS for part in parts)
        wanted = path.suffix.lower() in ENDINGS and not hidden
        if wanted and len(parts) > 1 and path.is_file():
            found.setdefault(path.parent.relative_to(root).as_posix(), []).append(path)
    if not found:
        raise DataError(f"{root} has no folders with images ({', '.join(ENDINGS)}) in them.")
    return dict(sorted(found.items()))


def _divide(
    root: Path, files: dict[str, list[Path]], shares: Sequence[float]
) -> dict[str, list[int]]:
    """The class numbers of each split; the folders right below ``root`` are never divided."""
    tops = [name.split("/")[0] for name in files]
    names = sorted(set(tops))
    renamed = {name: "validation" if name == "val" else name for name in names}
    if set(renamed.values()) == set(SPLITS):
        split_of = renamed
    else:
        order = np.random.default_rng(0).permutation(len(names))
        # At least one each, where there are three.
        first = max(1, min(round(shares[0] * len(names)), len(names) - 2))
        second = max(first + 1, min(round(sum(shares) * len(names)), len(names) - 1))
        parts = np.split(order, [first, second])
        split_of = {
            names[i]: split for split, part in zip(SPLITS, parts, strict=True) for i in part
        }
    splits = {
        split: [number for number, top in enumerate(tops) if split_of[top] == split]
        for split in SPLITS
    }
    if empty := [split for split, numbers in splits.items() if not numbers]:
        raise DataError(
            f"{root} has {len(names)} folders, which leaves none for {' and '.join(empty)}; add "
            "folders, change shares, or divide them yourself into train/, validation/ and test/."
        )
    return splits


def _one_size(files: dict[str, list[Path]], side: int | None) -> dict[str, list[Path]]:
    """``files``, once it is known that their images have one size or are to be scaled to one."""
    if side is not None:
        return files
    sizes: dict[tuple[int, int], Path] = {}
    for paths in files.values():
        for path in paths:
            sizes.setdefault(_size(path), path)
            if len(sizes) > 1:
                (one, first), (other, second) = sizes.items()
                raise DataError(
                    f"Images of mixed sizes: {first} has {one[0]} × {one[1]} pixels, {second} "
                    f"{other[0]} × {other[1]}; pass size= to scale them all."
                )
    return files


def _size(path: Path) -> tuple[int, int]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            return image.size
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} is no image, or a damaged one ({error}).") from None


def _read_image(path: Path, side: int | None, colour: str) -> np.ndarray:
    """uint8 [height, width], or [height, width, 3]."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            converted = _opaque(image).convert("L" if colour == "grey" else "RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} is no image, or a damaged one ({error}).") from None
    if side is not None:
        converted = converted.resize((side, side), Image.Resampling.LANCZOS)
    return np.asarray(converted)


def _opaque(image: Image.Image) -> Image.Image:
    """The image on white paper, with 8 bits a channel."""
    from PIL import Image

    # pillow would cut such values off at 255. It knows 16 bits of grey only, and as "I" once.
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        if (key := image.info.get("transparency")) is not None:
            values[values == key] = 65535
        return Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if "A" not in image.mode and "transparency" not in image.info:
        return image
    drawn = image.convert("RGBA")
    paper = Image.new("RGBA", drawn.size, "white")
    paper.alpha_composite(drawn)
    return paper
