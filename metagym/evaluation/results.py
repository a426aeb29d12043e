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
            ResultError: not JSON, a newer format, a missing or unknown key, a value of the wrong
                type, or statistics that are not those of the scores.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ResultError(f"This result is no JSON: {error}.") from None
        return cls._from_dict(values)

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
    def _from_dict(cls, values: Any) -> Result:
        if not isinstance(values, dict) or not isinstance(values.get("format"), int):
            raise ResultError("This is not a result of metagym.")
        if values["format"] > FORMAT:
            raise ResultError(
                f"This result has format {values['format']}; update metagym, which reads {FORMAT}."
            )
        values.setdefault("group", 1)  # results of before groups existed
        names = [entry.name for entry in dataclasses.fields(cls)]
        for name in values:
            if name not in names:
                raise ResultError(f"A result has no {name!r}.{nearest(name, names)}")
        for name in names:
            if name not in values:
                raise ResultError(f"The result lacks {name!r}.")
            _check_type(name, values[name])
        for name in ("interval", "iqm_interval"):
            values[name] = tuple(values[name])
        _check_numbers(values)
        return cls(**values)


_TYPES: dict[type | tuple[type, ...], tuple[str, ...]] = {
    str: ("env_id", "agent", "metric", "command", "device"),
    dict: ("env_kwargs", "agent_config", "extras", "versions"),
    list: ("scores", "interval", "iqm_interval", "returns", "lengths"),
    bool: ("privileged", "minimize", "finished"),
    int: ("seed", "num_envs", "group", "env_steps"),
    (int, float): ("mean", "iqm", "wall_time_s"),
    (str, type(None)): ("split", "git_commit"),
    (dict, type(None)): ("training", "curves"),
    (bool, type(None)): ("git_dirty",),
}


def _check_type(name: str, value: Any) -> None:
    for kinds, names in _TYPES.items():
        if name in names and not isinstance(value, kinds):
            raise ResultError(f"The result's {name!r} has a {type(value).__name__}: {value!r:.40}.")


def _check_numbers(values: dict[str, Any]) -> None:
    """The scores are finite numbers, as many as there are episodes, and the mean is theirs."""
    scores = values["scores"]
    if not scores or not all(type(score) in (int, float) for score in scores):
        raise ResultError("The result's 'scores' have to be a list of at least one number.")
    for name, per_episode in {**values["extras"], "lengths": values["lengths"]}.items():
        if not isinstance(per_episode, list) or len(per_episode) != len(scores):
            raise ResultError(f"The result's {name!r} is not a list of {len(scores)} values.")
    for name, statistic in (("mean", statistics.mean), ("iqm", statistics.iqm)):
        actual = float(statistic(np.array(scores, dtype=np.float64)))
        if not math.isclose(values[name], actual, rel_tol=1e-6, abs_tol=1e-9):
            raise ResultError(f"The result's {name} {values[name]} is not its scores' ({actual}).")


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
