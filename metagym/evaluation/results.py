"""Result: one evaluation of one agent, with all that is needed to run it again, as one JSON."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metagym.errors import MetagymError, nearest
from metagym.evaluation import statistics
from metagym.files import write_atomically

FORMAT = 1


class ResultError(MetagymError, ValueError):
    """A results file is missing, damaged, or says something that cannot be."""


def command_line(argv: list[str]) -> str:
    """What was typed, without the folder of the program."""
    return shlex.join([os.path.basename(argv[0]), *argv[1:]]) if argv else ""


def machine() -> str:
    """The machine in words, without its name."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def versions() -> dict[str, str]:
    """The versions of Python, metagym and of the libraries that are loaded."""
    import metagym

    found = {"python": platform.python_version(), "metagym": metagym.__version__}
    for name in ("numpy", "gymnasium", "torch", "stable_baselines3"):
        if name in sys.modules:
            found[name] = importlib.metadata.version(name)
    return found


@functools.cache
def git_state() -> tuple[str | None, bool | None]:
    """The commit of metagym's source and whether it has changes; None outside a repository."""
    folder = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip

    try:
        # An installed package may lie inside of somebody else's repository.
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None, None


@dataclass(frozen=True)
class Result:
    """How one agent did on one environment.

    Attributes:
        env_id: the environment, version included.
        env_kwargs: its arguments.
        split: which tasks were drawn; None where the environment has no splits.
        agent: a label.
        agent_config: its hyperparameters.
        privileged: True for an oracle, which saw the task.
        training: what meta-training cost, from the checkpoint; None if it was not trained.
        seed: of the evaluation; with ``num_envs`` it determines every task and all noise.
        num_envs: rows per batch.
        metric: what a score is.
        minimize: True where a smaller score is better.
        group: episodes whose mean makes one score.
        scores: one per episode, or per group of them; so are returns, lengths and extras.
        mean, iqm: of the scores.
        interval, iqm_interval: their 95 % bootstrap intervals.
        returns, lengths: the sum of rewards and the number of steps per episode.
        extras: what else ``info`` said at the end of each episode, such as "diverged".
        curves: the loss by step over the episodes, or None; see ``evaluate``.
        env_steps: steps of all episodes together.
        wall_time_s: seconds, resets and the agent included.
        finished: True where every episode came to its end; tables take no others.
        command: what was typed.
        git_commit, git_dirty: of the source; None outside a repository.
        versions: of Python, metagym and the libraries that took part.
        device: where the agent ran, and the machine.
        format: of this file.
    """

    env_id: str
    env_kwargs: dict[str, Any]
    split: str | None
    agent: str
    agent_config: dict[str, Any]
    privileged: bool
    training: dict[str, Any] | None
    seed: int
    num_envs: int
    metric: str
    minimize: bool
    scores: list[float]
    mean: float
    iqm: float
    interval: tuple[float, float]
    iqm_interval: tuple[float, float]
    returns: list[float]
    lengths: list[int]
    extras: dict[str, list[Any]]
    curves: dict[str, Any] | None
    env_steps: int
    wall_time_s: float
    finished: bool
    command: str = field(default_factory=lambda: command_line(sys.argv))
    git_commit: str | None = field(default_factory=lambda: git_state()[0])
    git_dirty: bool | None = field(default_factory=lambda: git_state()[1])
    versions: dict[str, str] = field(default_factory=versions)
    device: str = field(default_factory=lambda: f"cpu, {machine()}")
    group: int = 1
    format: int = FORMAT

    @property
    def diverged(self) -> float | None:
        """The share of diverged episodes; None where the environment does not tell."""
        flags = self.extras.get("diverged")
        return None if flags is None else float(np.mean(flags))

    @classmethod
    def of_scores(cls, scores: np.ndarray, **known: Any) -> Result:
        """The result of scores [n] that no environment gave: those of few-shot tasks, of data sets.

        Args:
            scores: they are the returns as well.
            **known: all other attributes but the statistics, which are computed here.

        Raises:
            InvalidArgumentError: a score is not finite.
        """
        center = statistics.estimate(scores)
        middle = statistics.estimate(scores, statistics.iqm)
        values = np.asarray(scores, np.float64).tolist()
        return cls(
            scores=values, returns=values, mean=center.value, iqm=middle.value,
            interval=(center.low, center.high), iqm_interval=(middle.low, middle.high),
            **{"extras": {}, "curves": None, "finished": True, **known},
        )  # fmt: skip

    def to_json(self) -> str:
        """The result as JSON text; numbers that are not finite become null."""
        return json.dumps(jsonable(dataclasses.asdict(self)), allow_nan=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Result:
        """The result that ``to_json`` wrote, checked.

        Raises:
            ResultError: not JSON, a newer format, a missing or unknown field, a value that cannot
                be, or statistics that are not those of the scores; the message has the path of
                the field.
        """
        return cls.from_values(read_json(text))

    def save(self, path: str | Path) -> None:
        """Write ``to_json`` to ``path``, whole or not at all."""
        write_atomically(path, self.to_json().encode())

    @classmethod
    def load(cls, path: str | Path) -> Result:
        """Read what ``save`` wrote; errors are those of ``from_json``, with the path."""
        try:
            return cls.from_json(Path(path).read_text())
        except (OSError, UnicodeDecodeError, ResultError) as error:
            raise ResultError(f"{path}: {error}") from None

    @classmethod
    def from_values(cls, values: Any, path: str = "") -> Result:
        """The result of what ``read_json`` read, checked.

        Args:
            values: the object of a result.
            path: of the object in its file, such as "results[3].result."; messages begin with it.

        Raises:
            ResultError: as of ``from_json``.
        """
        if not isinstance(values, dict) or type(values.get("format")) is not int:
            raise ResultError(f"{path or 'This '}is not a result of metagym.")
        if values["format"] > FORMAT:
            raise ResultError(
                f"{path}format {values['format']} is newer than {FORMAT}; update metagym."
            )
        values = {"group": 1, **values}  # the default of results that do not say
        names = [entry.name for entry in dataclasses.fields(cls)]
        for name in values:
            if name not in names:
                raise ResultError(f"{path}{name} is no field of a result.{nearest(name, names)}")
        for name in names:
            if name not in values:
                raise ResultError(f"{path}{name} is missing.")
            _check_type(values[name], _TYPES.get(name, int), f"{path}{name}")
        _check_values(values, path)
        for name in ("interval", "iqm_interval"):
            values[name] = tuple(values[name])
        return cls(**values)


def jsonable(value: Any) -> Any:
    """``value`` with what JSON knows: NaN and infinity become None, objects their repr."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else repr(value)


def read_json(text: str) -> Any:
    """What a JSON text says, if every number is finite and every field is there once.

    Raises:
        ResultError: no JSON, a field twice, a number that no float holds, or deeper nesting than
            any file of metagym has.
    """
    try:
        values = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise ResultError(f"This is no JSON: {error}.") from None
    _check_finite(values, "", 0)
    return values


# -- the inside --------------------------------------------------------------------------------

_DEPTH = 50
_NUMBER, _TEXT_OR_NONE, _DICT_OR_NONE = (float, int), (str, type(None)), (dict, type(None))
_TYPES: dict[str, Any] = {
    **dict.fromkeys(("env_id", "agent", "metric", "command", "device"), str),
    **dict.fromkeys(("env_kwargs", "agent_config", "extras", "versions"), dict),
    **dict.fromkeys(("scores", "interval", "iqm_interval", "returns", "lengths"), list),
    **dict.fromkeys(("privileged", "minimize", "finished"), bool),
    **dict.fromkeys(("mean", "iqm", "wall_time_s"), _NUMBER),
    **dict.fromkeys(("split", "git_commit"), _TEXT_OR_NONE),
    **dict.fromkeys(("training", "curves"), _DICT_OR_NONE),
    "git_dirty": (bool, type(None)),
}  # all others are whole numbers
_WORDS = {
    str: "text", dict: "an object", list: "a list", bool: "true or false", int: "a whole number",
    float: "a number", type(None): "null",
}  # fmt: skip


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r:.40} is there twice")
    return values


def _check_finite(value: Any, path: str, depth: int) -> None:
    if depth > _DEPTH:
        raise ResultError(f"{path:.60}... is nested too deeply.")
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if not isinstance(item, str):
                at = f"{path}[{key}]" if isinstance(value, list) else f"{path}.{key}".lstrip(".")
                _check_finite(item, at, depth + 1)
    elif isinstance(value, (int, float)) and not abs(value) <= sys.float_info.max:
        raise ResultError(f"{path or 'This'} has to be a finite number, not {value!r:.40}.")


def _check_type(value: Any, kinds: Any, path: str) -> None:
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if type(value) not in kinds:
        words = " or ".join(_WORDS[kind] for kind in kinds if kind is not int or float not in kinds)
        raise ResultError(f"{path} has to be {words}, not {value!r:.40}.")


def _check_items(values: Any, kinds: Any, count: int, path: str) -> None:
    if not isinstance(values, list) or len(values) != count:
        raise ResultError(f"{path} is not a list of {count} values.")
    for i, value in enumerate(values):
        _check_type(value, kinds, f"{path}[{i}]")


def _check_values(values: dict[str, Any], path: str) -> None:
    """What lists and objects hold, and that the statistics are those of the scores."""
    scores = values["scores"]
    if not scores:
        raise ResultError(f"{path}scores has to hold at least one number.")
    count = len(scores)
    _check_items(scores, _NUMBER, count, f"{path}scores")
    _check_items(values["lengths"], _NUMBER, count, f"{path}lengths")
    _check_items(values["returns"], (float, int, type(None)), count, f"{path}returns")
    numbers = ("diverged", "steps_to_target", "target_reached")  # which metagym computes with
    for name, items in values["extras"].items():
        kinds = (float, int, bool) if name in numbers else (*_WORDS,)
        _check_items(items, kinds, count, f"{path}extras.{name}")
    for name, version in values["versions"].items():
        _check_type(version, str, f"{path}versions.{name}")
    for name in ("interval", "iqm_interval"):
        _check_items(values[name], _NUMBER, 2, f"{path}{name}")
        if values[name][0] > values[name][1]:
            raise ResultError(f"{path}{name} ends before it begins: {values[name]}.")
    costs = {name: values[name] for name in ("env_steps", "wall_time_s")}
    for name in ("seconds", "steps"):
        cost = (values["training"] or {}).get(name)
        if cost is not None:
            costs[f"training.{name}"] = cost
            _check_type(cost, _NUMBER, f"{path}training.{name}")
    for name, cost in costs.items():
        if cost < 0:
            raise ResultError(f"{path}{name} has to be at least 0, not {cost!r:.40}.")
    for name, statistic in (("mean", statistics.mean), ("iqm", statistics.iqm)):
        actual = float(statistic(np.array(scores, dtype=np.float64)))
        if not math.isclose(values[name], actual, rel_tol=1e-6, abs_tol=1e-9):
            raise ResultError(f"{path}{name} {values[name]} is not its scores' ({actual}).")
