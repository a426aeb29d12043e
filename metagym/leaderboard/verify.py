"""Whether a row can be reproduced: its agent plays again, and ``comparison`` judges."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from metagym.errors import InvalidArgumentError, check_positive
from metagym.evaluation.suites import Suite
from metagym.leaderboard.child import TOO_SLOW
from metagym.leaderboard.comparison import Check, compare_rows
from metagym.leaderboard.play import is_foreign, trains
from metagym.leaderboard.rows import Row, RowError
from metagym.leaderboard.run import run_suite
from metagym.leaderboard.submission import find_places


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
    """Run a row again and compare; what failed in the row has to fail again.

    Tasks at which every run was too slow are not tried.

    Args:
        row: which one.
        suite: the row's, where it is none of metagym's.
        tasks: so many, drawn at random from those that have a result; all by default.
        seed: of the drawing.
        agent: what plays in place of the row's own text, such as the folder of its checkpoints,
            which spares the training.
        time_limit: seconds for a task and seed; the row's by default.
        workers, progress: as for ``run_suite``.
        trust: unpickle zip files of Stable-Baselines3, and import the modules that the row and
            the suite name.

    Returns:
        One check for each task, in the order of the suite.

    Raises:
        InvalidArgumentError: every run of the row was too slow, its agent has to be trusted, or an
            argument has an impossible value.
        RowError: the row was made on another suite, or does not have each of its tasks and
            seeds once.
    """
    suite = row.suite_of(suite)
    if agent is None and is_foreign(row.agent) and not trust:
        raise InvalidArgumentError(
            f"The row names the agent {row.agent}: to import and call that runs any code it has; "
            "add --trust if you trust whoever sent it, or say with --agent what shall play."
        )
    foreign = [task.env_id for task in suite.tasks if ":" in task.env_id]
    if foreign and not trust:
        raise InvalidArgumentError(
            f"The suite {suite.name} names the environment {foreign[0]}: to import that runs any "
            "code it has; add --trust if you trust whoever sent it."
        )
    if problems := find_places(row, suite):
        raise RowError(f"The row {row.name!r} cannot be verified: {' '.join(problems)}")
    scored = {entry.task for entry in row.results}
    failed = {failure.task for failure in row.failures if TOO_SLOW not in failure.error}
    tried = [task for task in suite.tasks if task.name in scored | failed]
    if not tried:
        raise InvalidArgumentError(
            f"The row {row.name!r} has nothing that could be compared: every run was too slow."
        )
    if tasks is not None:
        tried = [task for task in tried if task.name in scored] or tried
        count = min(check_positive("tasks", tasks), len(tried))
        drawn = np.random.default_rng(seed).choice(len(tried), count, replace=False)
        tried = [tried[i] for i in sorted(drawn)]
    needed = {name for task in tried for name in (task.name, task.variant_of)}
    ruleset, space = row.ruleset, row.space
    if agent is not None and suite.rulesets:  # it plays as it is
        ruleset, space = "self-tuning", None
    with TemporaryDirectory() as folder:
        again = run_suite(
            row.agent if agent is None else agent, suite, Path(folder) / "again",
            ruleset=ruleset, space=space,
            tasks=[task.name for task in suite.tasks if task.name in needed],
            time_limit=row.time_limit if time_limit is None else time_limit,
            workers=workers, trust=trust, progress=progress,
            method=row.agent if trust and is_foreign(row.agent) else None,
        )  # fmt: skip
    learns = row.ruleset == "external-tuning" or any(trains(row.agent, task) for task in tried)
    names = [task.name for task in tried]
    return compare_rows(row, again, names, retrained=learns and agent is None)
