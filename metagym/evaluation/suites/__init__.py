"""Suites: what a row of a leaderboard is measured on, as frozen data.

A suite is a JSON file: environments with their arguments, episodes and seeds of the test split,
budgets, and for each task the two scores between which it is normalised. ``make_suite(name)`` reads
one of ours (``SUITES``), or anybody's from a path. A suite that is out never changes: a change is
a new version, and the digest, which is in every row, says which one was meant.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from metagym.errors import MetagymError, check_choice, nearest

SUITES: dict[str, Path] = {
    name: Path(__file__).with_name(f"{name}.json")
    for name in ("core-v0", "optimize-v0", "search-v0", "adapt-v0", "few-shot-v0")
}
# As in AlgoPerf (Dahl et al. 2023): nothing is tuned on the task, or a stated number of trials is.
RULESETS = ("self-tuning", "external-tuning")
FORMAT = 1
NAME = re.compile("[a-z0-9][a-z0-9_-]*")  # of suites and tasks, which become names of files
_PLAIN = "has to be made of a-z, 0-9, _ and -, and to begin with one of the first two"


class SuiteError(MetagymError, ValueError):
    """A suite's file is missing or damaged, or says something that cannot be."""


@dataclass(frozen=True)
class Anchor:
    """One end of the scale on which the scores of a task are put.

    Attributes:
        what: whose score it is, such as "random" or "optimum, the process known".
        value: the score, in the task's own units.
        exact: computed; False if it was measured over the suite's seeds.
    """

    what: str
    value: float
    exact: bool = False


@dataclass(frozen=True)
class SuiteTask:
    """One task of a suite, and how it is scored.

    Attributes:
        name: unique in the suite.
        env_id: a registered id; of few-shot tasks their name in ``metagym.tasks.TASKS``.
        kwargs: arguments of the environment, or of the few-shot tasks.
        episodes: of each seed; of few-shot tasks how many tasks.
        group: consecutive episodes whose mean is one score of a Result.
        metric: what a score is, as the environment names it.
        minimize: True where a smaller score is better.
        floor: what counts as 0; also the score of an agent that fails.
        ceiling: what counts as 1.
        training_steps: environment steps (few-shot: steps of the outer optimiser) that an agent
            may train for this task, on the train split.
        target: of log10(loss - lower + 1e-12); the steps until it is reached are reported.
        kind: "environment", judged by ``evaluate``, or "few_shot", judged by
            ``evaluate_few_shot``.
        variant_of: the task of which this is a held-out variant. Nobody trains or tunes on a
            variant: agents meet it as they were trained or tuned for that task. Our variants
            were drawn at random; ``VARIANTS`` in experiments/anchor_suites.py says from what.
        num_envs: rows of a batch (few-shot: tasks of a batch); None is the protocol's default.
        needs: the data that is not part of the package and has to be in METAGYM_DATA's folder,
            such as "omniglot"; without it the task fails with a ``DataError``.
    """

    name: str
    env_id: str
    kwargs: Mapping[str, Any]
    episodes: int
    group: int
    metric: str
    minimize: bool
    floor: Anchor
    ceiling: Anchor
    training_steps: int
    target: float | None = None
    kind: Literal["environment", "few_shot"] = "environment"
    variant_of: str | None = None
    num_envs: int | None = None
    needs: str | None = None

    @property
    def held_out(self) -> bool:
        """Whether only scoring sees this task."""
        return self.variant_of is not None

    def normalise(self, score: float) -> float:
        """0 at the floor, 1 at the ceiling, linear and not clipped; arrays work too."""
        return (score - self.floor.value) / (self.ceiling.value - self.floor.value)


@dataclass(frozen=True)
class Suite:
    """Tasks that make one table.

    Attributes:
        name: with its version, such as "core-v0".
        summary: one line.
        tasks: in the order of the table.
        seeds: of the evaluations, all on the test split. Run r is that of the r-th seed; what
            trains, trains anew for each run, with seed r.
        rulesets: how a row of this suite may have been tuned; none where the suite has one table.
        tuning_trials: settings that external tuning may try for each task, on the train split.
        time_limit: seconds for one task and run, training included.
        split: of all evaluations, always "test".
        format: of the file.
    """

    name: str
    summary: str
    tasks: tuple[SuiteTask, ...]
    seeds: tuple[int, ...]
    rulesets: tuple[str, ...] = ()
    tuning_trials: int = 0
    time_limit: float = 600.0
    split: Literal["test"] = "test"
    format: int = field(default=FORMAT, kw_only=True)

    @property
    def digest(self) -> str:
        """SHA-256 of what the file says, whatever its spaces and order of keys.

        What is at its default is left out, so that a field that is added later changes nothing.
        """
        values = _without_defaults(self)
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def task(self, name: str) -> SuiteTask:
        """The task of that name.

        Raises:
            InvalidArgumentError: there is none.
        """
        found = {task.name: task for task in self.tasks}
        return found[check_choice("task", name, found)]

    def to_json(self) -> str:
        """The suite as the text of its file; what is at its default is left out."""
        return json.dumps(_without_defaults(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Suite:
        """The suite that such a text describes, checked.

        Raises:
            SuiteError: no JSON, a missing or unknown field, or a value that cannot be; the
                message has the path of the field, such as ``tasks[2].floor.value``.
        """
        try:
            values = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise SuiteError(f"This suite is no JSON: {error}.") from None
        suite: Suite = _read(cls, values, "suite")
        _check(suite)
        return suite


def make_suite(name: str | Path) -> Suite:
    """The suite of a name, or that of a file.

    Args:
        name: one of ``SUITES``, or the path of a suite's JSON file, which ends in ".json".

    Raises:
        InvalidArgumentError: there is no suite of that name.
        SuiteError: the file is missing or damaged, or takes the name of another suite.
    """
    if Path(name).suffix != ".json":
        return _ours(check_choice("suite", str(name), SUITES))
    suite = _load(Path(name))
    if suite.name in SUITES and suite.digest != _ours(suite.name).digest:
        raise SuiteError(
            f"{name} calls itself {suite.name!r}, as a suite of metagym does, and is another; give "
            "it a name of its own."
        )
    return suite


@functools.cache
def _ours(name: str) -> Suite:
    return _load(SUITES[name])


def _load(path: Path) -> Suite:
    try:
        return Suite.from_json(path.read_text())
    except (OSError, UnicodeDecodeError, SuiteError) as error:
        raise SuiteError(f"{path}: {error}") from None


# -- the inside --------------------------------------------------------------------------------


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _without_defaults(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {
            entry.name: _without_defaults(getattr(value, entry.name))
            for entry in dataclasses.fields(value)
            if getattr(value, entry.name) != entry.default or entry.name == "format"
        }
    if isinstance(value, tuple):
        return [_without_defaults(item) for item in value]
    return value


def _read(kind: Any, value: Any, path: str) -> Any:
    """``value``, as JSON gave it, as the type ``kind``; ``path`` is for the messages."""
    if dataclasses.is_dataclass(kind):
        return _read_fields(kind, value, path)
    choices = get_args(kind)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise SuiteError(f"{path} has to be a list, not {value!r:.40}.")
        return tuple(_read(choices[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if get_origin(kind) is Literal:
        if value not in choices:
            raise SuiteError(f"{path}={value!r} is not one of {', '.join(map(repr, choices))}.")
        return value
    if type(None) in choices:
        return None if value is None else _read(choices[0], value, path)
    kind = dict if get_origin(kind) is Mapping else kind
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise SuiteError(f"{path} has to be of type {kind.__name__}, not {value!r:.40}.")
    return value


def _read_fields(kind: Any, values: Any, path: str) -> Any:
    if not isinstance(values, dict):
        raise SuiteError(f"{path} has to be an object, not {values!r:.40}.")
    types = get_type_hints(kind)
    known = {entry.name: entry for entry in dataclasses.fields(kind)}
    for name in values:
        if name not in known:
            raise SuiteError(f"{path} has no field {name!r}.{nearest(name, known)}")
    for name, entry in known.items():
        if name not in values and entry.default is dataclasses.MISSING:
            raise SuiteError(f"{path} lacks the field {name!r}.")
    return kind(**{n: _read(types[n], value, f"{path}.{n}") for n, value in values.items()})


def _check(suite: Suite) -> None:
    """What the types do not say."""

    def demand(holds: bool, path: str, message: str) -> None:
        if not holds:
            raise SuiteError(f"suite.{path} {message}.")

    names = [task.name for task in suite.tasks]
    demand(NAME.fullmatch(suite.name) is not None, "name", f"{suite.name!r} {_PLAIN}")
    for i, name in enumerate(names):
        demand(NAME.fullmatch(name) is not None, f"tasks[{i}].name", f"{name!r} {_PLAIN}")
    bases = [task.name for task in suite.tasks if not task.held_out]
    demand(suite.format == FORMAT, "format", f"is {suite.format}; this metagym reads {FORMAT}")
    demand(len(bases) > 0, "tasks", "has no task that is not held out")
    demand(len(set(names)) == len(names), "tasks", "has two tasks of one name")
    demand(len(set(suite.seeds)) == len(suite.seeds) > 0, "seeds", "has to hold different seeds")
    demand(min(suite.seeds) >= 0, "seeds", "has a seed below 0")
    demand(set(suite.rulesets) <= set(RULESETS), "rulesets", f"may hold {', '.join(RULESETS)}")
    external = "external-tuning" in suite.rulesets
    demand(external == (suite.tuning_trials > 0), "tuning_trials", "belongs to external tuning")
    demand(suite.time_limit > 0, "time_limit", "has to be positive")
    for i, task in enumerate(suite.tasks):
        at = f"tasks[{i}]"
        for name in ("episodes", "group", "training_steps", "num_envs"):
            number = getattr(task, name)
            demand(number is None or number > 0, f"{at}.{name}", "has to be at least 1")
        whole = task.episodes % task.group == 0
        demand(whole, f"{at}.episodes", f"is no multiple of group={task.group}")
        sign = -1 if task.minimize else 1
        worse = sign * task.floor.value < sign * task.ceiling.value
        demand(worse, f"{at}.floor.value", "has to be worse than the ceiling's")
        known = task.variant_of in (None, *bases)
        demand(known, f"{at}.variant_of", "has to name a task of the suite that is not held out")
