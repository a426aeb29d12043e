"""Digits201: all architectures of cell201, trained for real on scikit-learn's digits, as a table.

The table comes with the package; digits201.md beside this file says how it was made, and
``experiments/build_digits_table.py`` makes it again. It holds the right answers of every training
after every epoch, so that cheap observations (one seed, few epochs) can be compared with the truth.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metagym.architectures.cell201 import COUNT, Cell201
from metagym.architectures.evaluator import Evaluation, Evaluator
from metagym.errors import DataError, InvalidArgumentError, check_positive
from metagym.files import write_atomically

PATH = Path(__file__).with_name("digits201.npz")  # CHECKSUM is its, and in digits201.md
CHECKSUM = "fb09d681711550cde82d309832c484cfee710e03e2e0573c2831566c55edc63a"
# The seconds that a training is charged: SECONDS + SECONDS_PER_FLOP · FLOPs · images · epochs.
SECONDS, SECONDS_PER_FLOP = 0.14, 1.44e-10
MISSING = 65535  # the row of an architecture that an unfinished table does not have
_HINT = "experiments/build_digits_table.py builds it, and installing metagym again brings it back"
_MEASURED = "seconds"  # not the same twice, and so outside the checksum


@dataclass(frozen=True)
class DigitsTable:
    """The content of the file, for C classes, S trainings of each and E epochs; read-only arrays.

    Attributes:
        rows: of every architecture its row in the other arrays, uint16 [15,625].
        right: right answers on the validation and on the test images, uint16 [C, S, E, 2].
        parameters: of the network, uint32 [C].
        flops: multiply-adds of the network for one image, uint32 [C].
        seconds: processor seconds of a training as measured, without evaluations, float32 [C].
        images: for training, for validation and for testing, int64 [3].
        training: the settings as JSON, one string.
    """

    rows: np.ndarray
    right: np.ndarray
    parameters: np.ndarray
    flops: np.ndarray
    seconds: np.ndarray
    images: np.ndarray
    training: str

    def accuracy(self, split: str = "test") -> np.ndarray:
        """Shares of right answers [C, S, E] on the ``"validation"`` or the ``"test"`` images."""
        which = ("validation", "test").index(split)
        return np.asarray(self.right[..., which] / self.images[1 + which])

    def cost(self, epochs: int | None = None) -> np.ndarray:
        """Seconds [C] that a training of so many epochs (default: all) is charged."""
        epochs = self.right.shape[2] if epochs is None else epochs
        work = self.flops.astype(np.float64) * self.images[0] * epochs
        return np.asarray(SECONDS + SECONDS_PER_FLOP * work)


class Digits201(Evaluator):
    """Validation accuracy as the reward, read from the table.

    Several trainings of each architecture are known. With ``seeds``, ``evaluate`` shows one of
    them, as a search would see it; without, their mean. ``test`` is always the mean accuracy of
    all trainings after the last epoch, so that ``optimum`` is the best ``test``. The cost is the
    charged time of one training, a function of its multiply-adds only.

    Args:
        epochs: after how many the reward is observed and charged; None for all.
        path: of another table than the one of the package.

    Raises:
        DataError: the table is missing or damaged.
        InvalidArgumentError: the trainings did not last so many epochs.
    """

    name = "digits201"
    tabular = True
    space: Cell201

    def __init__(self, *, epochs: int | None = None, path: str | Path | None = None) -> None:
        self.space = Cell201()
        self.table = load_table(PATH if path is None else path)
        most = self.table.right.shape[2]
        self.epochs = most if epochs is None else check_positive("epochs", epochs)
        if self.epochs > most:
            raise InvalidArgumentError(
                f"epochs={epochs} is more than the {most} that the table holds."
            )
        self._reward = self.table.accuracy("validation")[:, :, self.epochs - 1]  # [C, S]
        self._mean = self._reward.mean(axis=1)
        self._test = self.table.accuracy("test")[:, :, -1].mean(axis=1)
        self._cost = self.table.cost(self.epochs)
        self.optimum = float(self._test.max())

    def evaluate(self, tokens: np.ndarray, seeds: np.ndarray | None = None) -> Evaluation:
        """As in ``Evaluator``; a seed counts modulo the number of trainings.

        Raises:
            InvalidArgumentError: a row is no architecture, an unfinished table lacks it, or the
                seeds are not whole numbers [B].
        """
        rows = self._rows(tokens)
        if seeds is None:
            reward = self._mean[rows]
        else:
            reward = self._reward[rows, _check_seeds(seeds, len(rows)) % self._reward.shape[1]]
        return Evaluation(reward, self._test[rows], self._cost[rows])

    def arrays(self, tokens: np.ndarray) -> dict[str, np.ndarray]:
        """All that the table has of architectures [B, 6], by name.

        Returns:
            ``validation`` and ``test`` accuracies [B, seeds, epochs], ``parameters`` and ``flops``
            [B], and the ``seconds`` [B] of one training as they were measured.
        """
        rows = self._rows(tokens)
        accuracies = {name: self.table.accuracy(name)[rows] for name in ("validation", "test")}
        others = ("parameters", "flops", "seconds")
        return accuracies | {name: getattr(self.table, name)[rows] for name in others}

    def _rows(self, tokens: np.ndarray) -> np.ndarray:
        numbers = self.space.index(tokens)
        rows = self.table.rows[numbers]
        if len(missing := np.flatnonzero(rows == MISSING)):
            raise InvalidArgumentError(
                f"The table has no entry for {self.space.to_string(tokens[missing[0]])!r}; "
                f"it is unfinished, with {len(self._test)} classes. {_HINT}."
            )
        return rows


def save_table(path: str | Path, table: DigitsTable) -> None:
    """Write a table as a compressed .npz with its checksum."""
    arrays = _arrays(table)
    content = io.BytesIO()
    np.savez_compressed(content, checksum=np.array(checksum(table)), **arrays)  # type: ignore[arg-type]
    write_atomically(path, content.getvalue())


def load_table(path: str | Path) -> DigitsTable:
    """The table in a file; read once per process, then shared.

    Raises:
        DataError: the file is missing, damaged, or something else.
    """
    return _load(Path(path).expanduser().resolve())


def checksum(table: DigitsTable) -> str:
    """SHA-256 of all that a second build has to bring back: everything but the measured seconds."""
    digest = hashlib.sha256()
    for name, values in sorted(_arrays(table).items()):
        if name != _MEASURED:
            digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _check_seeds(seeds: np.ndarray, count: int) -> np.ndarray:
    array = np.asarray(seeds)
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise InvalidArgumentError(
            f"seeds are whole numbers [{count}], one for each architecture, not {array.dtype} "
            f"{list(array.shape)}."
        )
    return array


def _arrays(table: DigitsTable) -> dict[str, np.ndarray]:
    return {name: np.asarray(values) for name, values in vars(table).items()}


@functools.cache
def _load(path: Path) -> DigitsTable:
    try:
        with np.load(path, allow_pickle=False) as file:
            stored: dict[str, Any] = {name: file[name] for name in file.files}
        expected = str(stored.pop("checksum"))
        table = DigitsTable(**stored | {"training": str(stored["training"])})
        found = checksum(table)
        json.loads(table.training)
    except FileNotFoundError:
        raise DataError(f"There is no table of digits201 at {path}; {_HINT}.") from None
    except Exception as error:  # damaged archives fail in all sorts of ways
        raise DataError(
            f"{path} is no table of digits201, or a damaged one ({error}); {_HINT}."
        ) from None
    if found != expected or table.rows.shape != (COUNT,) or table.right.ndim != 4:
        raise DataError(f"{path} is damaged: its content does not match its checksum; {_HINT}.")
    if path == PATH.resolve() and found != CHECKSUM:
        raise DataError(
            f"{path} is not the table of this version, its checksum is {found}; {_HINT}."
        )
    for values in vars(table).values():
        if isinstance(values, np.ndarray):
            values.setflags(write=False)
    return table
