"""Whether two rows say the same: what a row claims, and what came out when it was run again.

Both runs meet the same tasks, so what is deterministic comes out equal, to six digits. If all
scores of a task do, all that its results say is compared: lengths, extras, the agent's settings,
its training; not what depends on the machine, such as seconds and versions.

An agent that is never twice the same is compared by its scores, and noise has to look like noise.
Scores that are equal, beside others that are not, do not (short of the ties that scores of few
possible values have by chance); nor does rounding that another machine does otherwise, where it
grows in some episodes and not in others. The means of all scores and of each run are compared
twice: by a t test of the pairs, which sees small shifts, and on a scale that comes from the new
scores alone, since whoever forges a score with one enormous lie also widens the interval of the
pairs. Where an agent learned anew, a score is the mean of a run, since what differs is the
training. All tests of a row together call 5 % of the honest rows not reproduced (Bonferroni).

What failed in the row has to fail again, whatever it says; only what was too slow may play.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from metagym.evaluation.results import Result, jsonable
from metagym.leaderboard.child import TOO_SLOW
from metagym.leaderboard.rows import Row

FALSE_ALARMS = 0.05
RTOL, ATOL = 1e-6, 1e-9  # within these, numbers are equal
Verdict = Literal["equal", "within noise", "not reproduced"]


@dataclass(frozen=True)
class Check:
    """What became of one task of a row.

    Attributes:
        task: its name.
        verdict: of all its runs; those that failed twice are equal.
        difference: the mean of the new scores minus that of the row's; NaN if there are none.
        errors: of the runs that failed here.
        differing: the fields that are not reproduced, such as "scores" and "agent_config.lr"; or
            "seed 3", if only the row, or only the new run, has a result of it.
    """

    task: str
    verdict: Verdict
    difference: float
    errors: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()


@np.errstate(over="ignore", invalid="ignore")  # a lie has any size
def compare_rows(row: Row, again: Row, tasks: Sequence[str], *, retrained: bool) -> list[Check]:
    """One check for each of ``tasks``.

    Args:
        row: what is claimed.
        again: what came out.
        tasks: their names.
        retrained: whether the agent was trained or tuned anew.
    """
    pairs = {task: _pairs(row, again, task) for task in tasks}
    tests = {
        task: [] if _all_equal(runs) else list(_tests(runs, retrained))
        for task, runs in pairs.items()
    }
    level = FALSE_ALARMS / max(1, sum(map(len, tests.values())))
    checks = []
    for task, runs in pairs.items():
        kept = {
            "equal": not tests[task], "retrained": retrained,
            "same_agent": again.agent == row.agent,
        }  # fmt: skip
        differing = (
            *_unpaired(row, again, task),
            *(field for claimed, new in runs for field in _differences(claimed, new, **kept)),
            *(field for field, p in tests[task] if p < level),
        )
        errors = _errors(row, again, task)
        verdict: Verdict = "within noise" if tests[task] else "equal"
        if differing or errors:
            verdict = "not reproduced"
        means = [np.mean(new.scores) - np.mean(claimed.scores) for claimed, new in runs]
        difference = float(np.mean(means)) if means else math.nan
        checks.append(Check(task, verdict, difference, errors, tuple(dict.fromkeys(differing))))
    return checks


# -- which results belong together -------------------------------------------------------------

_Pair = tuple[Result, Result]  # what is claimed, what came out


def _pairs(row: Row, again: Row, task: str) -> list[_Pair]:
    new = {entry.seed: entry.result for entry in again.results if entry.task == task}
    return [
        (entry.result, new[entry.seed])
        for entry in row.results
        if entry.task == task and entry.seed in new
    ]


def _unpaired(row: Row, again: Row, task: str) -> list[str]:
    """The seeds of which only one of the two has a result.

    Without those that failed here, which are errors, and those that were too slow where the row was
    made, and may be in time on another machine.
    """
    claimed, new = ({e.seed for e in one.results if e.task == task} for one in (row, again))
    excused = {f.seed for f in again.failures if f.task == task}
    excused |= {f.seed for f in row.failures if f.task == task and TOO_SLOW in f.error}
    return [f"seed {seed}" for seed in sorted((claimed ^ new) - excused)]


def _errors(row: Row, again: Row, task: str) -> tuple[str, ...]:
    """Of the runs that failed here and did not in the row."""
    failed = {failure.seed for failure in row.failures if failure.task == task}
    return tuple(f.error for f in again.failures if f.task == task and f.seed not in failed)


# -- what is deterministic ---------------------------------------------------------------------

# Of the machine and the day; the intervals are those of the scores in every row that is read.
_ELSEWHERE = {
    "wall_time_s", "command", "git_commit", "git_dirty", "versions", "device", "interval",
    "iqm_interval", "format", "seconds", "torch", "numpy",
}  # fmt: skip
# Of the episodes: noise changes them.
_EPISODES = {"scores", "mean", "iqm", "returns", "lengths", "extras", "curves", "env_steps"}
# Of the training or tuning, where that came out otherwise. Its steps are compared loosely.
_LUCK = {
    "weights", "training", "steps", "iteration", "best", "waited", "validation_score", "score",
    "error", "chosen",
}  # fmt: skip
# What is not there, or is another, where a checkpoint plays that was trained for the row.
_OF_THE_TEXT = {"agent", "checkpoint", "tuning", "task"}
_WHOLE_BATCHES = 0.05  # two trainings of one budget end with the batches that use it up


def _differences(
    claimed: Result, new: Result, *, equal: bool, retrained: bool, same_agent: bool
) -> Iterator[str]:
    """The names of the fields in which two results of one task and seed differ.

    Args:
        claimed: of the row.
        new: what came out.
        equal: whether all scores of the task are; if not, what noise changes is left out.
        retrained: whether the agent was trained or tuned anew.
        same_agent: whether the text that names the agent is the row's.
    """
    lucky = retrained and not equal
    left_out = _ELSEWHERE | (_LUCK if lucky else set()) | (set() if same_agent else _OF_THE_TEXT)
    names = {field.name for field in dataclasses.fields(Result)} - left_out
    names -= {"agent_config", "training"} | (set() if equal else _EPISODES)
    for name in sorted(names):
        yield from _unequal(name, getattr(claimed, name), getattr(new, name), set())
    yield from _unequal("training", claimed.training, new.training, left_out)
    if not equal:
        yield from _unequal_steps(claimed, new, retrained)
    configs = claimed.agent_config, new.agent_config
    tuned: set[str] = set()
    if lucky:  # other settings may have been chosen, from one space
        tunings = [config.get("tuning") for config in configs]
        if same_agent:
            yield from _unequal("agent_config.tuning", tunings[0], tunings[1], left_out)
        tuned = {"tuning", *(tunings[1] or {}).get("space", {})}
    yield from _unequal("agent_config", *configs, left_out | tuned)


def _unequal_steps(claimed: Result, new: Result, retrained: bool) -> Iterator[str]:
    """Of two results with other scores: env_steps that are not the lengths', another budget."""
    here, there = claimed.env_steps * sum(new.lengths), new.env_steps * sum(claimed.lengths)
    if not math.isclose(here, there, rel_tol=RTOL):
        yield "env_steps"
    if not retrained:
        return
    budgets: list[Any] = [(result.training or {}).get("steps") for result in (claimed, new)]
    if all(map(_is_number, budgets)):
        alike = math.isclose(*budgets, rel_tol=_WHOLE_BATCHES)
    else:
        alike = budgets[0] == budgets[1]
    if not alike:
        yield "training.steps"


def _unequal(path: str, claimed: Any, new: Any, left_out: Set[str]) -> Iterator[str]:
    """The paths at which two values of JSON differ, without the keys that are left out."""
    claimed, new = jsonable(claimed), jsonable(new)
    if isinstance(claimed, dict) and isinstance(new, dict):
        for key in sorted((claimed.keys() | new.keys()) - left_out):
            if key not in claimed or key not in new:
                yield f"{path}.{key}"
            else:
                yield from _unequal(f"{path}.{key}", claimed[key], new[key], left_out)
    elif isinstance(claimed, list) and isinstance(new, list) and len(claimed) == len(new):
        for one, other in zip(claimed, new, strict=True):
            if any(_unequal(path, one, other, left_out)):
                yield path
                return
    elif _is_number(claimed) and _is_number(new):
        if not math.isclose(claimed, new, rel_tol=RTOL, abs_tol=ATOL):
            yield path
    elif type(claimed) is not type(new) or claimed != new:
        yield path


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _all_equal(runs: Sequence[_Pair]) -> bool:
    return not any(any(_unequal("scores", one.scores, two.scores, set())) for one, two in runs)


# -- what is noise -----------------------------------------------------------------------------

_Column = list[tuple[np.ndarray, np.ndarray]]  # what is claimed, what came out, for each run


def _tests(runs: Sequence[_Pair], retrained: bool) -> Iterator[tuple[str, float]]:
    """Fields and the probabilities that honest runs differ as much; a field may have several."""
    extras = {f"extras.{name}" for one, two in runs for name in (*one.extras, *two.extras)}
    for field in ("scores", "returns", "lengths", *sorted(extras)):
        column: _Column = []
        for claimed, new in ((_numbers(one, field), _numbers(two, field)) for one, two in runs):
            if claimed is not None and new is not None and len(claimed) == len(new):
                column.append((np.where(np.isclose(claimed, new, RTOL, ATOL), new, claimed), new))
        if len(column) < len(runs):
            yield field, 0.0
        elif field == "scores":
            for p in _score_tests(column, retrained):
                yield field, p
        elif any((claimed != new).any() for claimed, new in column):
            yield field, _paired(_join(_runs_as_scores(column) if retrained else column))


def _numbers(result: Result, field: str) -> np.ndarray | None:
    """One number for each score; None if there are none."""
    is_extra = field.startswith("extras.")
    values = result.extras.get(field[7:]) if is_extra else getattr(result, field)
    try:
        array = np.array(values, np.float64).reshape(len(result.scores), -1).mean(axis=1)
    except (TypeError, ValueError, OverflowError):
        return None
    return np.nan_to_num(array)


def _score_tests(runs: _Column, retrained: bool) -> Iterator[float]:
    from scipy.special import bdtrc

    if min(len(one) for one, _ in runs) < 2:
        retrained = True  # the spread of one score is nowhere but between the runs
    claimed, new = _join(runs)
    chance = _chance_of_a_tie(new)
    yield float(bdtrc((claimed == new).sum() - 1, len(new), chance))
    claimed, new = _join(_runs_as_scores(runs) if retrained else runs)
    count = len(new)
    yield _paired((claimed, new), chance)
    if retrained:
        spread, freedom = new.std(ddof=1) if count > 1 else 0.0, count - 1
        for score in claimed:  # a new draw, and the mean of the others
            yield _p_value(score - new.mean(), spread * math.sqrt(1 + 1 / count), freedom)
    else:
        freedom = count - len(runs)
        spread = math.sqrt(sum(two.var() * len(two) for _, two in runs) / freedom)
        for one, two in runs:
            yield _paired((one, two), chance)
            yield _p_value(one.mean() - two.mean(), spread * math.sqrt(2 / len(two)), freedom)
    yield _p_value(claimed.mean() - new.mean(), spread * math.sqrt(2 / count), freedom)


def _chance_of_a_tie(scores: np.ndarray) -> float:
    """How often two of the scores are equal; not 0, since they are but a sample."""
    ordered = np.sort(scores)
    values = np.r_[0, np.cumsum(~np.isclose(ordered[1:], ordered[:-1], RTOL, ATOL))]
    times, pairs = np.bincount(values), len(scores) * (len(scores) - 1) / 2
    return float((times @ (times - 1) / 2 + 1) / (pairs + 1))


def _paired(scores: tuple[np.ndarray, np.ndarray], chance: float = 0.0) -> float:
    """The t test of differences, which may have no spread by ties of this chance."""
    differences = scores[1] - scores[0]
    count = len(differences)
    spread = differences.std(ddof=1) if count > 1 else 0.0
    p = _p_value(differences.mean(), spread / math.sqrt(count), count - 1)
    return max(p, chance ** (count - 1))


def _p_value(difference: float, error: float, freedom: int) -> float:
    """Of Student's t; 0 where another value has no spread that would explain it."""
    from scipy.special import stdtr

    if difference == 0:
        return 1.0
    if freedom < 1 or error == 0 or not math.isfinite(difference):
        return 0.0
    return float(2 * stdtr(freedom, -abs(difference) / error))


def _runs_as_scores(runs: _Column) -> _Column:
    return [(one.mean(keepdims=True), two.mean(keepdims=True)) for one, two in runs]


def _join(runs: _Column) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([one for one, _ in runs]), np.concatenate([two for _, two in runs])
