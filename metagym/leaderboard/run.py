"""``run_suite``: one agent on all tasks and seeds of a suite, each in a process of its own.

The row in OUT/row.json is written anew after every task and seed, so that the same call goes on
where it was cut short. What fails is in the row, and is tried again by the next call.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from metagym.agents.optimizers import GRIDS
from metagym.errors import InvalidArgumentError, check_above_zero, check_choice, check_positive
from metagym.evaluation.results import Result
from metagym.evaluation.suites import Suite
from metagym.files import alone_in, refuse_existing
from metagym.leaderboard.child import call_in_children
from metagym.leaderboard.play import Job, check_agent, check_trust, play, shown
from metagym.leaderboard.rows import ROW, Entry, Failure, Row, RowError, default_name
from metagym.leaderboard.texts import fault_of_url
from metagym.leaderboard.tuning import (
    FIELD_DEFAULTS,
    Space,
    check_space,
    check_untuned,
    with_arguments,
)

CHECKPOINTS = "checkpoints"


def run_suite(
    agent: str,
    suite: Suite,
    out: str | Path,
    *,
    ruleset: str | None = None,
    space: Space | None = None,
    name: str | None = None,
    authors: str = "",
    note: str = "",
    url: str = "",
    tasks: Sequence[str] = (),
    seeds: Sequence[int] = (),
    time_limit: float | None = None,
    workers: int = 1,
    trust: bool = False,
    method: str | None = None,
    progress: bool = True,
) -> Row:
    """Make a row, or go on with the one in ``out``.

    Args:
        agent: see the top of ``metagym.leaderboard.play``.
        suite: what is played.
        out: folder for the row and, of what is trained for each task, the checkpoints.
        ruleset: one of the suite's, where it has any.
        space: of external tuning, {argument: values}; hand-designed optimisers have their grid.
        name: of the row; the agent's (of a path the last part), and the ruleset's, by default.
        authors, note, url: what the board says of the row.
        tasks, seeds: only these, for now; all by default.
        time_limit: seconds for a task and seed, training and tuning included; the suite's by
            default.
        workers: tasks and seeds at a time, each on one thread.
        trust: unpickle zip files of Stable-Baselines3.
        method: the few-shot method (module:Class) whose checkpoints ``agent`` holds, if it is
            somebody's; it is imported.
        progress: show a progress bar.

    Returns:
        The row, failures included.

    Raises:
        InvalidArgumentError: an argument has an impossible value, a zip file is not trusted,
            ``out`` is something else, or another process is at work there.
        RowError: the row in ``out`` is of another run.
    """
    if unknown := [seed for seed in seeds if seed not in suite.seeds]:
        raise InvalidArgumentError(
            f"{suite.name} has the seeds {', '.join(map(str, suite.seeds))}; {unknown[0]} is none."
        )
    chosen = [suite.task(task) for task in tasks] or list(suite.tasks)
    if time_limit is not None:
        check_above_zero("time_limit", time_limit)
    check_positive("workers", workers)
    check_agent(agent)
    if fault := fault_of_url(url):
        raise InvalidArgumentError(f"--url: {fault}")
    trials, settings = _tuning(agent, suite, ruleset, space)
    played = agent
    if ruleset == "self-tuning" and agent in FIELD_DEFAULTS:
        played = with_arguments(agent, FIELD_DEFAULTS[agent])
    out = Path(out)
    row = _begin(out, suite, Row(
        suite=suite.name, suite_digest=suite.digest,
        name=name or default_name(shown(agent), ruleset), agent=shown(agent), ruleset=ruleset,
        space=None if space is None else check_space(space), time_limit=time_limit,
        authors=authors, note=note, url=url,
    ))  # fmt: skip
    done = {(entry.task, entry.seed) for entry in row.results}
    jobs = [
        Job(
            played, task, suite.task(task.variant_of or task.name), seed,
            suite.seeds.index(seed), out / CHECKPOINTS, trials, settings, trust=trust,
            method=method,
        )
        for task in chosen
        for seed in suite.seeds
        if (not seeds or seed in seeds) and (task.name, seed) not in done
    ]  # fmt: skip
    check_trust(jobs)
    limit = row.time_limit or suite.time_limit
    out.mkdir(parents=True, exist_ok=True)
    with alone_in(out), _progress(row.name, len(jobs), progress) as advance:
        for held_out in (False, True):  # a variant needs what its base has learned
            ready = []
            for job in (job for job in jobs if job.task.held_out == held_out):
                try:
                    ready.append(_taught(row, job))
                except InvalidArgumentError as error:
                    row = _record(row, job, error, 0.0)
                    advance(job.place)
            row.save(out / ROW)
            for job, answer, taken in call_in_children(play, ready, limit, workers):
                row = _record(row, job, answer, taken)
                row.save(out / ROW)
                advance(job.place)
    return row


# -- the inside --------------------------------------------------------------------------------


def _tuning(
    agent: str, suite: Suite, ruleset: str | None, space: Space | None
) -> tuple[int, Space]:
    """How many settings are tried for each task and run, and from which space.

    Raises:
        InvalidArgumentError: the suite has no such ruleset, or no space fits.
    """
    if suite.rulesets:
        check_choice("ruleset", ruleset, suite.rulesets)
    elif ruleset is not None:
        raise InvalidArgumentError(f"{suite.name} has no rulesets; leave --ruleset out.")
    if ruleset == "self-tuning":
        check_untuned(agent)
    if ruleset != "external-tuning":
        if space is not None:
            raise InvalidArgumentError("A search space belongs to --ruleset external-tuning.")
        return 0, {}
    if space is None and agent not in GRIDS:
        raise InvalidArgumentError(
            f"External tuning of {agent} needs --space, a JSON file such as "
            '{"lr": [0.01, 0.1]}; without anything to tune it plays under self-tuning.'
        )
    return suite.tuning_trials, check_space(GRIDS[agent] if space is None else space)


def _begin(out: Path, suite: Suite, new: Row) -> Row:
    """The row in ``out``, if it is of the same run, or else the new one."""
    if (out / ROW).is_file():
        old = Row.load(out / ROW)
        for field in ("suite", "suite_digest", "agent", "ruleset", "space", "name"):
            if getattr(old, field) != getattr(new, field):
                raise RowError(
                    f"{out / ROW} has {field} {getattr(old, field)!r}, this run "
                    f"{getattr(new, field)!r}; go on with the same, or choose another folder."
                )
        longest = max(row.time_limit or suite.time_limit for row in (old, new))
        new = dataclasses.replace(
            new, results=old.results, failures=old.failures, time_limit=longest
        )
    else:
        refuse_existing("--out", out, f"; it has no {ROW} to go on from")
    if new.time_limit == suite.time_limit:
        new = dataclasses.replace(new, time_limit=None)
    return new


def _record(row: Row, job: Job, answer: Result | Exception, seconds: float) -> Row:
    """The row with the result of a job, or with its failure, in the place of an earlier one."""
    place = (job.task.name, job.seed)
    failures = tuple(f for f in row.failures if (f.task, f.seed) != place)
    if isinstance(answer, Exception):
        error = str(answer)
        if Path(job.agent).is_absolute():  # which is nobody's business
            error = error.replace(job.agent, row.agent)
        failed = Failure(*place, error, round(seconds, 1))
        return dataclasses.replace(row, failures=(*failures, failed))
    row = dataclasses.replace(row, failures=failures, results=(*row.results, Entry(*place, answer)))
    # In place of what was typed, which may have paths of this machine.
    answer = dataclasses.replace(answer, command=row.command)
    return dataclasses.replace(row, results=(*row.results[:-1], Entry(*place, answer)))


def _taught(row: Row, job: Job) -> Job:
    """The job with the setting of its base, if it is a variant; nothing is learned on a variant.

    Raises:
        InvalidArgumentError: the base has no result.
    """
    if not job.task.held_out or not (job.trials or job.trains):
        return job
    base = (job.base.name, job.seed)
    for entry in row.results:
        if (entry.task, entry.seed) == base:
            setting = entry.result.agent_config.get("tuning", {}).get("chosen", {})
            return dataclasses.replace(job, setting=setting)
    why = [f": {failure.error}" for failure in row.failures if (failure.task, failure.seed) == base]
    raise InvalidArgumentError(
        f"{job.task.name} is a held-out variant: the agent plays it as it learned {job.base.name}, "
        f"which has no result{''.join(why)}."
    )


@contextlib.contextmanager
def _progress(label: str, total: int, shown: bool) -> Iterator[Callable[[str], None]]:
    """A progress bar on stderr; yields ``advance(what was done)``."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[what]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        bar = progress.add_task(escape(label), total=total, what="")
        yield lambda what: progress.update(bar, advance=1, what=what)
