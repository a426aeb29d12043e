"""Omniglot (Lake et al. 2015) from its official zip files, read in memory.

1,623 characters of 50 alphabets, twenty drawings each, 105 × 105 pixels; here 28 × 28 with the
ink at 255, as since Vinyals et al. (2016).
"""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metagym.errors import DataError, check_choice
from metagym.monitoring import progress_bar
from metagym.tasks.image_sets import ImageSet, cached, data_folder, pack

VERSION = 1  # of the processing; a change makes caches anew
FILES = ("images_background.zip", "images_evaluation.zip")
SPLIT_RULES = ("standard", "vinyals")
SIDE, ORIGINAL_SIDE = 28, 105
# As many characters as Vinyals et al. take train, but the first ones in the order of the two
# files, as their list is not among the data; the others test.
VINYALS_TRAIN = 1200
# Every so many-th alphabet of the training part, in alphabetical order, validates.
VALIDATION_STEP = 6
# A drawing takes a few hundred bytes; a member that unpacks to more is none.
_MAX_BYTES = 100_000
_MEMBER = re.compile(r"[^/]+/(?P<alphabet>[^/]+)/(?P<character>[^/]+)/[^/]+\.png")

Characters = dict[tuple[str, str], np.ndarray]


def load_omniglot(
    folder: str | os.PathLike[str] | None = None, split_rule: str = "standard"
) -> ImageSet:
    """Omniglot at 28 × 28 pixels; kept in the cache once it is read.

    Args:
        folder: holds the two zip files, or a folder ``omniglot`` with them; None: the folder that
            the environment variable METAGYM_DATA names.
        split_rule: "standard": the alphabets of the background file train and validate, those of
            the evaluation file test. "vinyals": as many characters as Vinyals et al. take, in
            file order: the first 1,200 train and validate, the other 423 test, which is not
            their list; one alphabet, Gurmukhi, has characters in both. Validation takes every
            sixth alphabet of the training part in both rules.

    Raises:
        InvalidArgumentError: there is no such rule.
        DataError: a zip file is missing, truncated, or holds something else.
    """
    check_choice("split_rule", split_rule, SPLIT_RULES)
    wanted = " and ".join(FILES)
    named = data_folder(folder, wanted)
    found = [place for place in (named / "omniglot", named) if (place / FILES[0]).is_file()]
    if not found:
        raise DataError(
            f"{named} has no {FILES[0]} (looked in omniglot/ and the folder itself). Set "
            f"METAGYM_DATA, or pass folder=, to the folder that holds {wanted}."
        )
    paths = [found[0] / name for name in FILES]
    images = cached(f"omniglot-v{VERSION}-{_fingerprint(paths)}", lambda: _make(paths))
    return images if split_rule == "standard" else _split_as_vinyals(images)


def read_characters(path: str | os.PathLike[str]) -> Characters:
    """The drawings in one of the zip files, ink 255, by (alphabet, character) in sorted order.

    Nothing is unpacked to the disk.

    Returns:
        uint8 [drawings, 28, 28] each.

    Raises:
        DataError: the file cannot be read or is truncated; a member's path climbs out of the
            folder or is not alphabet/character/drawing.png; an image is damaged or of another
            size than 105 × 105.
    """
    path = Path(path)
    drawings: dict[tuple[str, str], list[np.ndarray]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(archive.infolist(), key=lambda member: member.filename)
            for member in members:
                _check_path(path, member.filename)
            members = [member for member in members if not member.is_dir()]
            with progress_bar(path.name, steps=len(members)) as update:
                for number, member in enumerate(members):
                    matched = _MEMBER.fullmatch(member.filename)
                    if matched is None or member.file_size > _MAX_BYTES:
                        raise DataError(
                            f"{path}: {member.filename!r} ({member.file_size} bytes) is no drawing "
                            "of Omniglot, images/alphabet/character/drawing.png; use the official "
                            "zip file."
                        )
                    image = _read_image(path, member.filename, archive.read(member))
                    drawings.setdefault((matched["alphabet"], matched["character"]), []).append(
                        image
                    )
                    if number % 500 == 0:
                        update(number, "")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{path} is truncated or no zip file ({error}); fetch the file again."
        ) from None
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from None
    if not drawings:
        raise DataError(f"{path} holds no drawings; use the official zip file.")
    return {character: np.stack(images) for character, images in drawings.items()}


def _check_path(path: Path, name: str) -> None:
    """Refuse members that would leave the folder they are unpacked in: such a file is a trap."""
    parts = re.split(r"[/\\]", name)
    if ".." in parts or not parts[0] or ":" in parts[0]:
        raise DataError(
            f"{path}: the member {name!r} climbs out of the folder it belongs in; do not unpack "
            "this file, fetch the official one."
        )


def _read_image(path: Path, name: str, content: bytes) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.size != (ORIGINAL_SIDE, ORIGINAL_SIDE):
                raise DataError(
                    f"{path}: {name!r} has {image.width} × {image.height} pixels; all drawings "
                    f"have {ORIGINAL_SIDE} × {ORIGINAL_SIDE}. Use the official zip file."
                )
            small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    except DataError:
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{path}: {name!r} is a damaged image ({error}); fetch the file again."
        ) from None
    return 255 - np.asarray(small)


def _fingerprint(paths: list[Path]) -> str:
    """Which files these are, without reading them: a changed file must not meet an old cache."""
    marks = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}).") from None
        marks.append(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}")
    return f"{zlib.crc32(' '.join(marks).encode()):08x}"


def _make(paths: list[Path]) -> ImageSet:
    background, evaluation = (read_characters(path) for path in paths)
    if common := background.keys() & evaluation.keys():
        raise DataError(
            f"{paths[0].name} and {paths[1].name} share characters, such as "
            f"{'/'.join(min(common))}; use the official files."
        )
    groups = {"/".join(name): images for name, images in (background | evaluation).items()}
    return pack("omniglot", groups, _split(list(groups), len(background)))


def _split_as_vinyals(images: ImageSet) -> ImageSet:
    if len(images.classes) <= VINYALS_TRAIN:
        raise DataError(
            f"These files hold {len(images.classes)} characters; split_rule='vinyals' needs more "
            f"than {VINYALS_TRAIN}. Use the official files."
        )
    split = _split(images.classes, VINYALS_TRAIN)
    return ImageSet("omniglot", images.images, images.counts, images.classes, split)


def _split(names: Sequence[str], training: int) -> dict[str, np.ndarray]:
    """The first ``training`` characters train and validate, the others test."""
    alphabets = [name.split("/")[0] for name in names[:training]]
    validating = list(dict.fromkeys(alphabets))[VALIDATION_STEP - 1 :: VALIDATION_STEP]
    validates = np.isin(alphabets, validating)
    return {
        "train": np.flatnonzero(~validates),
        "validation": np.flatnonzero(validates),
        "test": np.arange(training, len(names)),
    }
