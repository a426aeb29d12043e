"""A row of a leaderboard: how one agent did on one suite, as one JSON file made of Results.

Files come from anybody: what is read is checked, and the message of an error names the path of
the field, such as ``results[3].result.scores``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metagym.errors import InvalidArgumentError, MetagymError, nearest
from metagym.evaluation.results import Result, ResultError, jsonable, read_json
from metagym.evaluation.suites import NAME, SUITES, Suite, make_suite
from metagym.files import write_atomically
from metagym.leaderboard.tuning import check_space

FORMAT = 2
ROW = "row.json"  # in the folder of a run
SUITE = "suite.json"  # beside the rows of a suite that is none of metagym's


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
        seconds: until it did.
    """

    task: str
    seed: int
    error: str
    seconds: float


@dataclass(frozen=True)
class Row:
    """One agent on one suite.

    Attributes:
        suite: name of the suite.
        suite_digest: says which text of it was meant.
        name: the row's, unique on the board of the suite.
        agent: what ``metagym leaderboard run`` was given: a name, a path, module:Class.
        ruleset: how it was tuned, where the suite has rules for that.
        space: of external tuning, {argument: values}; None where the agent's own grid was used.
        time_limit: seconds for a task and seed; None where the suite's own held.
        authors, note, url: for the reader.
        failures: what the agent failed at.
        results: what it did, in the order in which it was run.
        format: of the file.
    """

    suite: str
    suite_digest: str
    name: str
    agent: str
    ruleset: str | None = None
    space: dict[str, list[Any]] | None = None
    time_limit: float | None = None
    authors: str = ""
    note: str = ""
    url: str = ""
    failures: tuple[Failure, ...] = ()
    results: tuple[Entry, ...] = ()
    format: int = FORMAT

    @property
    def slug(self) -> str:
        """The row's name in letters that every file system has: its file is SLUG.json."""
        return re.sub(r"[^a-z0-9._]+", "-", self.name.lower()).strip("-._")

    @property
    def command(self) -> str:
        """What makes the row, however many calls it took.

        ``space.json`` stands for a file with ``space``.
        """
        suite = self.suite if self.suite in SUITES else f"{self.suite}.json"
        words = ["metagym", "leaderboard", "run", self.agent, suite, "--out", f"runs/{self.slug}"]
        if self.name != default_name(self.agent, self.ruleset):
            words += ["--name", self.name]
        if self.ruleset is not None:
            words += ["--ruleset", self.ruleset]
        if self.space is not None:
            words += ["--space", "space.json"]
        if self.time_limit is not None:
            words += ["--time-limit", f"{self.time_limit:g}"]
        return shlex.join(words + (["--trust"] if self._unpickled else []))

    @property
    def _unpickled(self) -> bool:
        """Whether zip files of Stable-Baselines3 played, from a folder perhaps."""
        is_path = ":" not in self.agent
        configs = (entry.result.agent_config for entry in self.results)
        return self.agent.endswith(".zip") or (is_path and any("policy" in c for c in configs))

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
            RowError: no JSON, another format, a missing or unknown field, or a value that cannot
                be; the message has the path of the field.
        """
        try:
            values = read_json(text)
        except ResultError as error:
            raise RowError(str(error)) from None
        if not isinstance(values, dict) or type(values.get("format")) is not int:
            raise RowError("This is not a row of a metagym leaderboard.")
        if values["format"] != FORMAT:
            remedy = "update metagym" if values["format"] > FORMAT else "run the agent again"
            raise RowError(f"This row has format {values['format']}, not {FORMAT}; {remedy}.")
        fields = {name: _take(values, name, kind) for name, kind in _FIELDS.items()}
        _refuse_unknown(values, _FIELDS, "")
        for name, read in (("failures", _failure), ("results", _entry)):
            items = enumerate(fields[name])
            fields[name] = tuple(read(item, f"{name}[{i}]") for i, item in items)
        if fields["time_limit"] is not None and fields["time_limit"] <= 0:
            raise RowError(f"time_limit has to be positive, not {fields['time_limit']!r:.40}.")
        if fields["space"] is not None:
            try:
                fields["space"] = check_space(fields["space"])
            except InvalidArgumentError as error:
                raise RowError(f"space: {error}") from None
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
        if suite is None:  # the name is anybody's text and never a path
            if self.suite not in SUITES:
                raise InvalidArgumentError(
                    f"{self.suite!r} is none of metagym's suites, {', '.join(SUITES)}; give the "
                    "file of another with --suite."
                )
            suite = make_suite(self.suite)
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

    def normalised_scores(self, suite: Suite | None = None) -> np.ndarray:
        """The same, 0 at each task's floor and 1 at its ceiling, [runs, tasks]."""
        suite = self.suite_of(suite)
        return np.array([
            [task.normalise(score) for task, score in zip(suite.tasks, run, strict=True)]
            for run in self.raw_scores(suite)
        ])  # fmt: skip

    def scores(self, suite: Suite | None = None) -> np.ndarray:
        """What all aggregates take: the normalised scores, none below the floor, [runs, tasks].

        A failure is worth the floor; so that failing never beats playing, nothing is worth less.
        """
        return np.maximum(self.normalised_scores(suite), 0.0)

    def summary(self, suite: Suite | None = None) -> dict[str, Any]:
        """What a table shows of the row, JSON-able; see ``metagym.leaderboard.summary``."""
        from metagym.leaderboard.summary import summarise

        return summarise(self, self.suite_of(suite))


def default_name(agent: str, ruleset: str | None) -> str:
    """The name of a row that has none of its own: the agent's, of a path the last part."""
    name = agent if ":" in agent else agent.rpartition("/")[2].removesuffix(".zip")
    return ", ".join(filter(None, (name, ruleset)))


def row_file(path: str | Path) -> Path:
    """The file of a row: ``path``, or that in the folder of a run.

    Raises:
        RowError: it is a folder without a row.
    """
    path = Path(path)
    if path.is_dir() and not (path / ROW).is_file():
        raise RowError(
            f"{path} has no {ROW}: give a folder that `metagym leaderboard run` wrote (its --out), "
            "or the file of a row."
        )
    return path / ROW if path.is_dir() else path


def load_rows(folder: str | Path) -> list[Row]:
    """All rows below a folder, unchecked: every ``*.json`` but suites, in the order of their paths.

    ``metagym.leaderboard.submission.load_board`` reads a board and checks it.

    Raises:
        RowError: there is no such folder, or a file in it is no row.
    """
    if not Path(folder).is_dir():
        raise RowError(f"{folder} is no folder of rows.")
    return [Row.load(path) for path in row_files(folder)]


def row_files(folder: str | Path) -> list[Path]:
    """The files that ``load_rows`` reads."""
    return [path for path in sorted(Path(folder).rglob("*.json")) if path.name != SUITE]


def find_suite(name: str, board: str | Path) -> Suite | None:
    """The suite that a board holds in BOARD/NAME/suite.json; None where there is no such file.

    Raises:
        SuiteError: the file is damaged.
    """
    if name in SUITES or not NAME.fullmatch(name):  # a name is never a path
        return None
    path = Path(board) / name / SUITE
    return make_suite(path) if path.is_file() else None


# -- the inside --------------------------------------------------------------------------------

_KINDS = {
    str: "text", int: "a whole number", float: "a number", list: "a list", dict: "an object",
}  # fmt: skip
_FIELDS: dict[str, tuple[type, ...]] = {
    **{entry.name: (str,) for entry in dataclasses.fields(Row)},
    "ruleset": (str, type(None)),
    "space": (dict, type(None)),
    "time_limit": (float, int, type(None)),
    "failures": (list,),
    "results": (list,),
    "format": (int,),
}


# Of what is never below 0. How many steps an episode of a task has at most, ``checks`` knows.
_HIGHEST = {"lengths": math.inf, "extras.target_reached": 1, "extras.steps_to_target": math.inf}


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


def _place(values: Any, path: str, *others: str) -> tuple[str, int]:
    """Task and seed of a failure or an entry, which has these other fields and no more."""
    if not isinstance(values, dict):
        raise RowError(f"{path} has to be an object, not {values!r:.40}.")
    _refuse_unknown(values, ("task", "seed", *others), f"{path}.")
    path = f"{path}."
    return _take(values, "task", (str,), path), _take(values, "seed", (int,), path)


def _failure(values: Any, path: str) -> Failure:
    place, path = _place(values, path, "error", "seconds"), f"{path}."
    seconds = _take(values, "seconds", (float, int), path)
    if seconds < 0:
        raise RowError(f"{path}seconds has to be at least 0, not {seconds!r:.40}.")
    return Failure(*place, _take(values, "error", (str,), path), seconds)


def _entry(values: Any, path: str) -> Entry:
    place, path = _place(values, path, "result"), f"{path}.result"
    result = _take(values, "result", (dict,), path.removesuffix("result"))
    try:
        entry = Entry(*place, Result.from_values(result, f"{path}."))
    except ResultError as error:
        raise RowError(str(error)) from None
    told: dict[str, list[Any]] = {"lengths": entry.result.lengths}
    told |= {f"extras.{name}": values for name, values in entry.result.extras.items()}
    for name, high in _HIGHEST.items():
        for i, value in enumerate(told.get(name, [])):
            if not 0 <= value <= high:
                bounds = "at least 0" if high == math.inf else f"from 0 to {high}"
                raise RowError(f"{path}.{name}[{i}] has to be {bounds}, not {value!r:.40}.")
    return entry
