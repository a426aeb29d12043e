"""ResultCache: what is known of trained architectures, kept on disk between processes and runs.

One SQLite file holds the results of any number of evaluators. A result is kept under the
fingerprint of the evaluator, which changes with everything that could change the result, and the
canonical key of the architecture. The first result of an architecture stays: whoever trains it
a second time at the same moment gets the first one's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metagym.errors import DataError, InvalidArgumentError

APPLICATION = 0x4D455447  # SQLite's header tells with it whose file this is: "METG"
_BUSY_SECONDS = 30.0
_TABLE = """
CREATE TABLE IF NOT EXISTS results (
    evaluator TEXT NOT NULL,
    architecture TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (evaluator, architecture)
) WITHOUT ROWID
"""

Record = dict[str, Any]


class ResultCache:
    """Records (JSON objects) by evaluator and architecture in an SQLite file.

    Safe under several processes on one machine; on a network file system SQLite's locks are not
    to be trusted. The file is opened anew for each call, which takes far less than training an
    architecture does, so that a cache may be pickled, forked and shared among threads.

    Args:
        path: of the file; it is made if it is not there.

    Raises:
        DataError: the file is damaged, not a cache, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().resolve()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"The cache {self.path} cannot be made: {error}.") from None
        if self.path.exists():
            with self._open("ro") as connection:  # in which a file of others stays as it is
                self._check_owner(connection)
        with self._open() as connection:
            # Under the write lock, so that of two processes the second sees a finished file.
            connection.execute("BEGIN IMMEDIATE")
            if not self._check_owner(connection):
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(_TABLE)
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")  # which the file remembers

    def get(self, evaluator: str, architecture: str) -> Record | None:
        """The record of an architecture, or None.

        Args:
            evaluator: its fingerprint.
            architecture: its canonical key.
        """
        with self._open() as connection:
            return self._find(connection, evaluator, architecture)

    def put(self, evaluator: str, architecture: str, record: Mapping[str, Any]) -> Record:
        """Keep a record unless there is one already; returns the one that is kept.

        Raises:
            InvalidArgumentError: the record is no JSON object.
        """
        try:
            text = json.dumps(dict(record))
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError(
                f"The record {record!r} is no JSON object: {error}."
            ) from None
        with self._open() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO results VALUES (?, ?, ?)", (evaluator, architecture, text)
            )
            kept = self._find(connection, evaluator, architecture)
        return json.loads(text) if kept is None else kept

    def __len__(self) -> int:
        with self._open() as connection:
            return int(connection.execute("SELECT count(*) FROM results").fetchone()[0])

    def _check_owner(self, connection: sqlite3.Connection) -> bool:
        """Whether the file is a cache already; raises DataError if it is something else."""
        names = connection.execute("SELECT name FROM sqlite_master").fetchall()
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        if owner != APPLICATION and (names or owner):
            raise DataError(f"{self.path} is a database of another program; choose another path.")
        return bool(names)

    def _find(
        self, connection: sqlite3.Connection, evaluator: str, architecture: str
    ) -> Record | None:
        row = connection.execute(
            "SELECT record FROM results WHERE evaluator = ? AND architecture = ?",
            (evaluator, architecture),
        ).fetchone()
        if row is None:
            return None
        try:
            record = json.loads(row[0])
        except (TypeError, ValueError):
            record = None
        if not isinstance(record, dict):
            raise DataError(f"{self.path} holds a record that is no JSON object; delete the file.")
        return record

    @contextlib.contextmanager
    def _open(self, mode: str = "rwc") -> Iterator[sqlite3.Connection]:
        """A connection in which every statement is a transaction."""
        address = f"{self.path.as_uri()}?mode={mode}"
        try:
            with contextlib.closing(
                sqlite3.connect(address, timeout=_BUSY_SECONDS, isolation_level=None, uri=True)
            ) as connection:
                connection.execute("PRAGMA synchronous = NORMAL")
                yield connection
        except sqlite3.Error as error:
            raise DataError(
                f"The cache {self.path} cannot be used ({error}). Choose another path, or delete "
                "the file if it is damaged; its results will be computed again."
            ) from None


def fingerprint(**parts: Any) -> str:
    """A short key that changes with any of the parts.

    Args:
        **parts: JSON values and arrays, nested in lists and dicts as you like.

    Raises:
        InvalidArgumentError: a part is neither, so that no stable key can be made of it.
    """

    def describe(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.ndarray) and value.dtype != object:
            return [value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
        raise InvalidArgumentError(
            f"{value!r} of type {type(value).__name__} cannot be part of a fingerprint; use "
            "numbers, text, lists, dicts and arrays."
        )

    text = json.dumps(parts, sort_keys=True, default=describe)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
