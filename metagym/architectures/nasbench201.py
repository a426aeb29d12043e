"""NAS-Bench-201 (Dong & Yang 2020): its real table, read from files that the user names.

Two files are read: ``nb2_cf10_hp12_info.p``, the accuracy on CIFAR-10's validation half after 12
epochs and the seconds that the training took, and ``nats_bench.csv``, the test accuracies after
200 epochs. The first is a pickle, which could run anything; the unpickler here knows two
functions, both ours, and with them nothing but a list of dicts of numbers and text can be made.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import math
import os
import pickle
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metagym.architectures.cell201 import COUNT, Cell201
from metagym.architectures.evaluator import Evaluation, Evaluator
from metagym.errors import DataError, check_choice

DATASETS = ("cifar10", "cifar100")
VALIDATION, TEST = "nb2_cf10_hp12_info.p", "nats_bench.csv"
# Of the files that the project's numbers were computed on.
CHECKSUMS = {
    VALIDATION: "1217bae8967cc2539bb7a09a2ebe47b8ca19e1813d959bc0b2ad6472e6a67497",
    TEST: "9baab100eb4a2783be66028e9d344aa1ff3d52b08b5f6708c19efb62b2908a18",
}


class NASBench201(Evaluator):
    """The accuracies of all 15,625 cells on CIFAR-10, and of CIFAR-100 the test accuracy.

    The reward is CIFAR-10's validation accuracy after 12 epochs, the cost is the seconds that
    those 12 epochs took its authors, and the test score is the accuracy after 200 epochs; all
    accuracies are fractions. Each architecture has one entry, so that ``seeds`` change nothing.

    There is no validation accuracy of CIFAR-100 in these files: with ``dataset="cifar100"`` the
    search still sees CIFAR-10, ``test`` is a *transferred* score, and ``test_name`` says so.

    Args:
        folder: where the two files are, or the folder above its ``nasbench201``; None means the
            folder that the environment variable METAGYM_DATA names.
        dataset: of the test score, "cifar10" or "cifar100".
        verify: whether the files have to be the very ones that the project's numbers come from.

    Attributes:
        transferred: whether the test score is of another data set than the reward.

    Raises:
        InvalidArgumentError: no such data set.
        DataError: a file is missing, damaged, or something else than its name says.
    """

    name = "nasbench201"
    tabular = True
    reward_name = "CIFAR-10 validation accuracy, 12 epochs"
    space: Cell201

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        dataset: str = "cifar10",
        verify: bool = True,
    ) -> None:
        self.dataset = check_choice("dataset", dataset, DATASETS)
        self.space = Cell201()
        self._table = _load(_find_folder(folder), verify)
        self._test = self._table.test[self.dataset]
        self.transferred = dataset != "cifar10"
        self.test_name = "CIFAR-10 test accuracy, 200 epochs"
        if self.transferred:
            self.test_name = "CIFAR-100 test accuracy, 200 epochs, transferred from CIFAR-10"
        self.optimum = float(self._test.max())

    def evaluate(self, tokens: np.ndarray, seeds: np.ndarray | None = None) -> Evaluation:
        index = self.space.index(tokens)
        return Evaluation(
            self._table.validation[index], self._test[index], self._table.seconds[index]
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The whole table by name, float64 [15625] in the order of ``Cell201.index``; copies."""
        table = self._table
        columns = {"validation": table.validation, "seconds": table.seconds}
        return {name: column.copy() for name, column in (columns | table.test).items()}


class _Table(NamedTuple):
    validation: np.ndarray
    seconds: np.ndarray
    test: dict[str, np.ndarray]


@functools.cache
def _load(folder: Path, verify: bool) -> _Table:
    places = _places()
    content = _read(folder / VALIDATION, verify)
    validation, seconds = _order(folder / VALIDATION, _validation_rows(content, folder), places)
    content = _read(folder / TEST, verify)
    cifar10, cifar100 = _order(folder / TEST, _test_rows(content, folder), places)
    for name, percent in ((VALIDATION, validation), (TEST, cifar10), (TEST, cifar100)):
        if not ((percent >= 0) & (percent <= 100)).all():
            raise DataError(f"{folder / name} holds an accuracy outside 0..100 %; {_fetch(name)}.")
    if not (seconds > 0).all():
        raise DataError(
            f"{folder / VALIDATION} holds a training that took no time; {_fetch(VALIDATION)}."
        )
    return _Table(validation / 100, seconds, {"cifar10": cifar10 / 100, "cifar100": cifar100 / 100})


def _places() -> dict[str, int]:
    """The index of each architecture string."""
    space = Cell201()
    strings = map(space.to_string, space.tokens(np.arange(COUNT)))
    return {string: index for index, string in enumerate(strings)}


def _find_folder(folder: str | os.PathLike[str] | None) -> Path:
    named = folder if folder is not None else os.environ.get("METAGYM_DATA")
    wanted = f"the folder that holds {VALIDATION} and {TEST}"
    if not named:
        raise DataError(
            f"NAS-Bench-201 is read from files: set METAGYM_DATA, or pass folder=, to {wanted}."
        )
    root = Path(named).expanduser().resolve()
    for place in (root / "nasbench201", root):
        if (place / VALIDATION).is_file() and (place / TEST).is_file():
            return place
    raise DataError(
        f"{root} has no NAS-Bench-201 (looked in nasbench201/ and the folder itself). Set "
        f"METAGYM_DATA, or pass folder=, to {wanted}."
    )


def _read(path: Path, verify: bool) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}).") from None
    if verify and hashlib.sha256(content).hexdigest() != CHECKSUMS[path.name]:
        raise DataError(
            f"{path} is truncated, or another edition of the table (its checksum differs); "
            f"{_fetch(path.name)}, or pass verify=False and expect other numbers."
        )
    return content


def _fetch(name: str) -> str:
    return f"fetch {name} again"


def _validation_rows(content: bytes, folder: Path) -> list[tuple[Any, ...]]:
    """(architecture, accuracy in percent, seconds) of each entry."""
    path = folder / VALIDATION
    try:
        rows = _Unpickler(io.BytesIO(content)).load()
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # damaged pickles fail in all sorts of ways
        raise DataError(f"{path} is no readable pickle ({error}); {_fetch(VALIDATION)}.") from None
    try:
        return [(row["arch"], row["valacc"], row["cost"]) for row in rows]
    except (TypeError, KeyError, IndexError):
        raise DataError(
            f"{path} is no list of dicts with arch, valacc and cost; {_fetch(VALIDATION)}."
        ) from None


def _test_rows(content: bytes, folder: Path) -> list[tuple[Any, ...]]:
    """(architecture, CIFAR-10's and CIFAR-100's accuracy in percent) of each line."""
    names = (
        "ArchitectureString", "CIFAR10TestAccuracy200Epochs", "CIFAR100TestAccuracy200Epochs"
    )  # fmt: skip
    try:
        header, *lines = csv.reader(io.StringIO(content.decode("ascii")))
        columns = [header.index(name) for name in names]
        return [
            (line[a], float(line[b]), float(line[c])) for a, b, c in [columns] for line in lines
        ]
    except (ValueError, IndexError, csv.Error) as error:
        raise DataError(
            f"{folder / TEST} is no table with the columns {', '.join(names)} ({error}); "
            f"{_fetch(TEST)}."
        ) from None


def _order(
    path: Path, rows: list[tuple[Any, ...]], places: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Both numbers of each row, in the order of ``Cell201.index``: [15625] each."""
    index = [places.get(row[0], -1) if isinstance(row[0], str) else -1 for row in rows]
    if sorted(index) != list(range(COUNT)):
        raise DataError(
            f"{path} does not hold each of the {COUNT:,} cells once: {len(rows):,} rows, "
            f"{index.count(-1):,} of them no cell; {_fetch(path.name)}."
        )
    numbers = [row[1:] for row in rows]
    if not all(type(x) is float and math.isfinite(x) for pair in numbers for x in pair):
        raise DataError(f"{path} holds something that is no number; {_fetch(path.name)}.")
    ordered = np.empty((COUNT, 2))
    ordered[index] = numbers
    ordered.setflags(write=False)
    return ordered[:, 0], ordered[:, 1]


# -- a pickle that can hold numbers only ----------------------------------------------------------


class _Unpickler(pickle.Unpickler):
    """Containers, text and numpy's 64-bit floats, which become Python's; nothing else.

    What stands in for numpy takes part in the reading only: a pickle calls it, and cannot change
    it, since neither of the two classes has a place for an attribute.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "dtype"):
            return _MakeType()
        if name == "scalar" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _MakeFloat()
        raise DataError(
            f"its pickle asks for {module}.{name}, and only numbers are read from it; nothing was "
            "executed. Get the table from a source that you trust."
        )


class _Sealed:
    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise DataError("its pickle is malformed. Get the table from a source that you trust.")


class _MakeType(_Sealed):
    """Stands in for ``numpy.dtype``."""

    __slots__ = ()

    def __call__(self, code: object, *_: object) -> _Float64:
        if code != "f8":
            raise DataError(f"its pickle holds numpy scalars of type {code!r} instead of 'f8'.")
        return _Float64()


class _Float64(_Sealed):
    """Stands in for the data type; its state (version, byte order, ...) has to be the usual one."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or state[1:2] != ("<",):
            raise DataError("its pickle holds numbers that are not little-endian.")


class _MakeFloat(_Sealed):
    """Stands in for numpy's scalar."""

    __slots__ = ()

    def __call__(self, kind: object, data: object) -> float:
        if not isinstance(kind, _Float64) or not isinstance(data, bytes) or len(data) != 8:
            raise DataError("its pickle holds a numpy scalar that is no 64-bit float.")
        return float(struct.unpack("<d", data)[0])
