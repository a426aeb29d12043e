"""Whether a row can be reproduced: its agent plays again, and the scores are compared.

What is equal to the last digits is equal. Elsewhere the scores are compared as pairs, since both
runs met the same tasks: a task is reproduced "within noise" if no interval of a difference, all
of them together at 95 %, leaves out zero. What is compared for a task is all of its scores, and
those of each run, so that one forged run does not hide behind four true ones. Where the agent was
trained anew and no run came back equal, the runs' means are compared: trainings differ by luck.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from metagym.errors import InvalidArgumentError, check_positive
from metagym.evaluation.suites import Suite
from metagym.leaderboard.play import is_foreign, trains
from metagym.leaderboard.rows import Row
from metagym.leaderboard.run import run_suite

CONFIDENCE = 0.95
Verdict = Literal["equal", "within noise", "not reproduced"]


@dataclass(frozen=True)
class Check:
    """What became of one task of a row.

    Attributes:
        task: its name.
        verdict: of all its runs.
        difference: the mean of the new scores minus that of the row's; NaN if there are none.
        errors: of the runs that failed here.
    """

    task: str
    verdict: Verdict
    difference: float
    errors: tuple[str, ...] = ()


def verify_row(
    row: Row,
    suite: Suite | None = None,
    *,
    tasks: int | None = None,
    seed: int = 0,
    agent: str | None = None,
    time_limit: float | None = None,
    workers: int = 1,
    trust: bool = False,
    progress: bool = True,
) -> list[Check]:
    """Run a row again and compare; what failed in the row is left out.

    Args:
        row: which one.
        suite: the row's, where it is none of metagym's.
        tasks: so many, drawn at random; all by default.
        seed: of the drawing.
        agent: what plays in place of the row's own text, such as the folder of its checkpoints,
            which spares the training.
        time_limit, workers, progress: as for ``run_suite``.
        trust: unpickle zip files of Stable-Baselines3, and import the module that the row names.

    Returns:
        One check for each task, in the order of the suite.

    Raises:
        InvalidArgumentError: the row has no results, its agent has to be trusted, or an argument
            has an impossible value.
        RowError: the row was made on another suite.
    """
    suite = row.suite_of(suite)
    if agent is None and is_foreign(row.agent) and not trust:
        raise InvalidArgumentError(
            f"The row names the agent {row.agent}: to import and call that runs any code it has; "
            "add --trust if you trust whoever sent it, or say with --agent what shall play."
        )
    scored = [task for task in suite.tasks if any(entry.task == task.name for entry in row.results)]
    if not scored:
        raise InvalidArgumentError(f"The row {row.name!r} has no results that could be compared.")
    if tasks is not None:
        count = min(check_positive("tasks", tasks), len(scored))
        drawn = np.random.default_rng(seed).choice(len(scored), count, replace=False)
        scored = [scored[i] for i in sorted(drawn)]
    needed = {name for task in scored for name in (task.name, task.variant_of)}
    ruleset, space = row.ruleset, _space(row)
    if agent is not None and suite.rulesets:  # it plays as it is
        ruleset, space = "self-tuning", None
    with tempfile.TemporaryDirectory() as folder:
        again = run_suite(
            row.agent if agent is None else agent, suite, Path(folder) / "again",
            ruleset=ruleset, space=space,
            tasks=[task.name for task in suite.tasks if task.name in needed],
            seeds=sorted({entry.seed for entry in row.results} & set(suite.seeds)),
            time_limit=time_limit, workers=workers, trust=trust, progress=progress,
        )  # fmt: skip
    retrained = trains(row.agent) and agent is None
    return compare_rows(row, again, [task.name for task in scored], retrained=retrained)


def compare_rows(row: Row, again: Row, tasks: Sequence[str], *, retrained: bool) -> list[Check]:
    """One check for each of ``tasks``.

    Args:
        row: what is claimed.
        again: what came out.
        tasks: their names.
        retrained: whether the agent was trained anew.
    """
    pairs = {task: _pairs(row, again, task) for task in tasks}
    samples = {task: _samples(runs, retrained) for task, runs in pairs.items()}
    intervals = sum(map(len, samples.values()))
    checks = []
    for task, runs in pairs.items():
        errors = tuple(failure.error for failure in again.failures if failure.task == task)
        verdict: Verdict = "equal"
        if errors or any(_leaves_out_zero(sample, intervals) for sample in samples[task]):
            verdict = "not reproduced"
        elif samples[task]:
            verdict = "within noise"
        means = [new.mean() - old.mean() for old, new in runs]
        checks.append(Check(task, verdict, float(np.mean(means)) if means else np.nan, errors))
    return checks


# -- the inside --------------------------------------------------------------------------------


def _space(row: Row) -> dict[str, list[object]] | None:
    """The search space from which a row was tuned."""
    tuned = [entry.result.agent_config["tuning"] for entry in row.results
             if "tuning" in entry.result.agent_config]  # fmt: skip
    return tuned[0]["space"] if tuned else None


def _pairs(row: Row, again: Row, task: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The scores of each run of a task, the row's and the new ones."""
    new = {entry.seed: entry.result.scores for entry in again.results if entry.task == task}
    return [
        (np.array(entry.result.scores), np.array(new[entry.seed]))
        for entry in row.results
        if entry.task == task and entry.seed in new
    ]


def _samples(runs: list[tuple[np.ndarray, np.ndarray]], retrained: bool) -> list[np.ndarray]:
    """The differences whose means have to be zero; none where all is equal."""
    if any(old.shape != new.shape for old, new in runs):  # other episodes than the suite's
        return [np.array([np.inf])]
    different = [new - old for old, new in runs if not np.allclose(old, new, rtol=1e-6, atol=1e-9)]
    if not different:
        return []
    if retrained and len(different) == len(runs) > 1:
        return [np.array([sample.mean() for sample in different])]
    return [np.concatenate([new - old for old, new in runs]), *different]


def _leaves_out_zero(differences: np.ndarray, intervals: int) -> bool:
    """Whether the t interval of the mean, one of so many, is on one side of zero."""
    if len(differences) < 2:
        return True  # one score that is another; nothing says that it is noise
    from scipy.stats import t

    error = differences.std(ddof=1) / np.sqrt(len(differences))
    reach = t.ppf(1 - (1 - CONFIDENCE) / 2 / intervals, len(differences) - 1) * error
    return bool(abs(differences.mean()) > reach)
