"""Lists of mazes: the frozen ones, and the files that hold them or your own.

The frozen lists come with the package, and the checksums in this file say that they are still the
ones that numbers were reported on. ``freeze(size)`` made them.
"""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from metagym.core.task import SPLITS, Task
from metagym.errors import DataError, InvalidArgumentError
from metagym.files import write_atomically
from metagym.mazes.grid import check_mazes, freeze

STORED = ("passages", "start", "target")  # of each split in a file
FOLDER = Path(__file__).parent
CHECKSUMS = {
    5: "9d2deae62ecb42977a0eff4c52be58fb8766339830be6216592b81ec0104197e",
    9: "545cab00912741b4f3649d1ab083acf8dfd270ee6ea6334222dd603b68046a33",
}


def frozen_mazes(size: int, split: str) -> Task:
    """The 1,000 mazes of a split: from the package's file, or made on the spot for other sizes.

    Raises:
        DataError: the file is missing, damaged, or another one.
    """
    return _frozen_lists(size)[split]


def save_mazes(path: str | Path, mazes: dict[str, Task]) -> None:
    """Write lists of mazes, one per split, as a compressed .npz with a checksum.

    Args:
        path: of the file.
        mazes: for "train", "validation" and "test" what ``generate_mazes`` returns, all of one
            size; a list may have any length above 0.

    Raises:
        InvalidArgumentError: a split is missing, or a maze cannot be.
    """
    arrays: dict[str, np.ndarray] = {}
    for split in SPLITS:
        if split not in mazes or not len(mazes[split]["walls"]):
            raise InvalidArgumentError(
                f"There are no mazes of the split {split!r}; all of {', '.join(SPLITS)} are needed."
            )
        task = mazes[split]
        check_mazes(task, (task["walls"].shape[1] - 1) // 2, f"The {split} mazes")
        # Of each room: 1, its way to the east is open, plus 2, its way to the south is.
        east, south = ~task["walls"][:, 1::2, 2::2], ~task["walls"][:, 2::2, 1::2]
        arrays[f"{split}_passages"] = east.astype(np.uint8) + 2 * south.astype(np.uint8)
        for name in ("start", "target"):
            arrays[f"{split}_{name}"] = task[name].astype(np.uint8)
    content = io.BytesIO()
    np.savez_compressed(content, checksum=np.array(_checksum(arrays)), **arrays)  # type: ignore[arg-type]
    write_atomically(path, content.getvalue())


def load_mazes(path: str | Path, size: int) -> dict[str, Task]:
    """The lists that ``save_mazes`` wrote, by split.

    Raises:
        DataError: the file is missing, damaged, of another size, or holds a maze that cannot be.
    """
    mazes, _ = _read(Path(path), size)
    for split, task in mazes.items():
        try:
            check_mazes(task, size, f"{path}, {split}")
        except InvalidArgumentError as error:
            raise DataError(str(error)) from None
    return mazes


def _read(path: Path, size: int) -> tuple[dict[str, Task], str]:
    """The lists in a file, not yet checked maze by maze, and their checksum."""
    hint = "save_mazes of metagym.mazes.lists writes such files"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {
                f"{split}_{name}": file[f"{split}_{name}"] for split in SPLITS for name in STORED
            }
            checksum = str(file["checksum"])
    except FileNotFoundError:
        raise DataError(f"There is no list of mazes at {path}; {hint}.") from None
    except (OSError, KeyError, ValueError, EOFError, TypeError, AttributeError, NotImplementedError,
            zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        raise DataError(
            f"{path} is no list of mazes, or a damaged one ({error}); {hint}."
        ) from None
    if checksum != _checksum(arrays):
        raise DataError(f"{path} is damaged: its content does not match its checksum; {hint}.")
    return {split: _unpack(path, arrays, split, size) for split in SPLITS}, checksum


def _unpack(path: Path, arrays: dict[str, np.ndarray], split: str, size: int) -> Task:
    passages, start, target = (arrays[f"{split}_{name}"] for name in STORED)
    if passages.shape[1:] != (size, size):
        raise DataError(
            f"{path} holds mazes of {' × '.join(map(str, passages.shape[1:]))} rooms, not of "
            f"{size} × {size}; pass its size or another file."
        )
    shapes = tuple(array.shape for array in (start, target))
    kinds = {array.dtype.str for array in (passages, start, target)}
    if not len(passages) or shapes != ((len(passages), 3), (len(passages), 2)) or kinds != {"|u1"}:
        raise DataError(
            f"{path}, {split}: {len(passages)} mazes with starts and targets of shapes {shapes}, "
            f"dtypes {sorted(kinds)}; save_mazes writes what is needed."
        )
    walls = np.ones((len(passages), 2 * size + 1, 2 * size + 1), dtype=bool)
    walls[:, 1::2, 1::2] = False
    walls[:, 1::2, 2::2] = passages & 1 == 0
    walls[:, 2::2, 1::2] = passages & 2 == 0
    return {"walls": walls, "start": start.astype(np.int64), "target": target.astype(np.int64)}


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of the arrays, their names and shapes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = arrays[name]
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


@functools.cache
def _frozen_lists(size: int) -> dict[str, Task]:
    if size not in CHECKSUMS:
        mazes = freeze(size)
    else:
        path = FOLDER / f"mazes_{size}.npz"
        mazes, checksum = _read(path, size)
        if checksum != CHECKSUMS[size]:
            raise DataError(
                f"{path} is not the frozen list of {size} × {size} mazes, its checksum is "
                f"{checksum}; install metagym again."
            )
    for task in mazes.values():
        for values in task.values():
            values.setflags(write=False)
    return mazes
