"""A row of a leaderboard: how one agent did on one suite, as one JSON file made of Results.

Files come from anybody: what is read is checked, and the message of an error names the path of
the field, such as ``results[3].result.scores``.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metagym.errors import MetagymError, nearest
from metagym.evaluation.results import Result, ResultError, jsonable
from metagym.evaluation.suites import Suite, make_suite
from metagym.files import write_atomically

FORMAT = 1


class RowError(MetagymError, ValueError):
    """A row's file is missing or damaged, or says something that cannot be."""


@dataclass(frozen=True)
class Entry:
    """What one task and seed of a row came to.

    Attributes:
        task: its name in the suite.
        seed: of the evaluation, one of the suite's.
        result: the evaluation.
    """

    task: str
    seed: int
    result: Result


@dataclass(frozen=True)
class Failure:
    """One task and seed at which the agent failed; it counts with the task's floor.

    Attributes:
        task, seed: as of ``Entry``.
        error: what went wrong, one line.
    """

    task: str
    seed: int
    error: str


@dataclass(frozen=True)
class Row:
    """One agent on one suite.

    Attributes:
        suite: name of the suite.
        suite_digest: says which text of it was meant.
        name: the row's, unique on the board of the suite.
        agent: what ``metagym leaderboard run`` was given: a name, a folder, module:Class.
        ruleset: how it was tuned, where the suite has rules for that.
        authors, note, url: for the reader.
        command: that makes the row.
        failures: what the agent failed at.
        results: what it did, in the order in which it was run.
        format: of the file.
    """

    suite: str
    suite_digest: str
    name: str
    agent: str
    ruleset: str | None = None
    authors: str = ""
    note: str = ""
    url: str = ""
    command: str = ""
    failures: tuple[Failure, ...] = ()
    results: tuple[Entry, ...] = ()
    format: int = FORMAT

    # -- files -----------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The text of the row's file; every failure and every result is one line."""
        values = jsonable(dataclasses.asdict(self))
        lines = []
        for name in ("format", *(name for name in values if name != "format")):
            value = json.dumps(values[name], allow_nan=False)
            if name in ("failures", "results") and values[name]:
                items = (json.dumps(item, allow_nan=False) for item in values[name])
                value = "[\n  " + ",\n  ".join(items) + "\n ]"
            lines.append(f" {json.dumps(name)}: {value}")
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Row:
        """The row that ``to_json`` wrote, checked.

        Raises:
            RowError: no JSON, a newer format, a missing or unknown field, or a value that cannot
                be; the message has the path of the field.
        """
        try:
            values = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            raise RowError(f"This row is no JSON: {error}.") from None
        if not isinstance(values, dict) or type(values.get("format")) is not int:
            raise RowError("This is not a row of a metagym leaderboard.")
        if values["format"] > FORMAT:
            raise RowError(f"This row has format {values['format']}; update metagym ({FORMAT}).")
        fields = {name: _take(values, name, kind) for name, kind in _FIELDS.items()}
        _refuse_unknown(values, _FIELDS, "")
        for name, read in (("failures", _failure), ("results", _entry)):
            items = enumerate(fields[name])
            fields[name] = tuple(read(item, f"{name}[{i}]") for i, item in items)
        return cls(**fields)

    def save(self, path: str | Path) -> None:
        """Write ``to_json`` to ``path``, whole or not at all."""
        write_atomically(path, self.to_json().encode())

    @classmethod
    def load(cls, path: str | Path) -> Row:
        """Read what ``save`` wrote; errors are those of ``from_json``, with the file's path."""
        try:
            return cls.from_json(Path(path).read_text())
        except (OSError, UnicodeDecodeError, RowError) as error:
            raise RowError(f"{path}: {error}") from None

    # -- scores ----------------------------------------------------------------------------------

    def suite_of(self, suite: Suite | None = None) -> Suite:
        """The suite that was played, which is ``suite`` or one of metagym's.

        Raises:
            InvalidArgumentError: metagym has no suite of that name.
            RowError: it is another suite, or another text of it.
        """
        suite = make_suite(self.suite) if suite is None else suite
        if (self.suite, self.suite_digest) != (suite.name, suite.digest):
            raise RowError(
                f"The row {self.name!r} was made on {self.suite} {self.suite_digest[:12]}, this "
                f"suite is {suite.name} {suite.digest[:12]}; run the agent on it."
            )
        return suite

    def raw_scores(self, suite: Suite | None = None) -> np.ndarray:
        """The mean score of each run on each task, [runs, tasks]; a failure has the floor's.

        Raises:
            RowError: a task and seed is missing, or the suite is another.
        """
        suite = self.suite_of(suite)
        floors = {task.name: task.floor.value for task in suite.tasks}
        found = {(f.task, f.seed): floors.get(f.task, math.nan) for f in self.failures}
        found |= {(entry.task, entry.seed): entry.result.mean for entry in self.results}
        try:
            scores = [[found[task.name, seed] for task in suite.tasks] for seed in suite.seeds]
        except KeyError as error:
            task, seed = error.args[0]
            raise RowError(
                f"The row {self.name!r} is unfinished: it lacks {task}, seed {seed}."
            ) from None
        return np.array(scores)

    def scores(self, suite: Suite | None = None) -> np.ndarray:
        """The same, 0 at each task's floor and 1 at its ceiling, [runs, tasks]."""
        suite = self.suite_of(suite)
        return np.array([
            [task.normalise(score) for task, score in zip(suite.tasks, run, strict=True)]
            for run in self.raw_scores(suite)
        ])  # fmt: skip

    def summary(self, suite: Suite | None = None) -> dict[str, Any]:
        """What a table shows of the row, JSON-able; see ``metagym.leaderboard.summary``."""
        from metagym.leaderboard.summary import summarise

        return summarise(self, self.suite_of(suite))


def load_rows(folder: str | Path) -> list[Row]:
    """All rows below a folder: every ``*.json``, in the order of their paths.

    Raises:
        RowError: there is no such folder, or a file in it is no row.
    """
    if not Path(folder).is_dir():
        raise RowError(f"{folder} is no folder of rows.")
    return [Row.load(path) for path in sorted(Path(folder).rglob("*.json"))]


# -- the inside --------------------------------------------------------------------------------

_KINDS = {str: "text", int: "a whole number", list: "a list", dict: "an object"}
_FIELDS: dict[str, tuple[type, ...]] = {
    **{entry.name: (str,) for entry in dataclasses.fields(Row)},
    "ruleset": (str, type(None)),
    "failures": (list,),
    "results": (list,),
    "format": (int,),
}


def _take(values: dict[str, Any], name: str, kinds: tuple[type, ...], path: str = "") -> Any:
    if name not in values:
        raise RowError(f"{path}{name} is missing.")
    if type(values[name]) not in kinds:
        raise RowError(f"{path}{name} has to be {_KINDS[kinds[0]]}, not {values[name]!r:.40}.")
    return values[name]


def _refuse_unknown(values: dict[str, Any], known: Any, path: str) -> None:
    for name in values:
        if name not in known:
            raise RowError(f"{path}{name} is no field of a row.{nearest(name, known)}")


def _place(values: Any, path: str, third: str, kind: type) -> tuple[str, int, Any]:
    """Task and seed, and the third field of a failure or an entry."""
    if not isinstance(values, dict):
        raise RowError(f"{path} has to be an object, not {values!r:.40}.")
    _refuse_unknown(values, ("task", "seed", third), f"{path}.")
    return (
        _take(values, "task", (str,), f"{path}."),
        _take(values, "seed", (int,), f"{path}."),
        _take(values, third, (kind,), f"{path}."),
    )


def _failure(values: Any, path: str) -> Failure:
    return Failure(*_place(values, path, "error", str))


def _entry(values: Any, path: str) -> Entry:
    task, seed, result = _place(values, path, "result", dict)
    path = f"{path}.result"
    for i, score in enumerate(_take(result, "scores", (list,), f"{path}.")):
        if type(score) not in (int, float):
            raise RowError(f"{path}.scores[{i}] has to be a number, not {score!r:.40}.")
    try:
        return Entry(task, seed, Result.from_json(json.dumps(result)))
    except ResultError as error:
        raise RowError(f"{path}: {error}") from None


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)
