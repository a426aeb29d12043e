"""What a row has to be before it stands on a board, and ``add_rows``, which puts it there.

All that is wrong is said at once. What cannot be seen in a file, such as a forged score, is for
``metagym.leaderboard.verify``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import metagym
from metagym.errors import InvalidArgumentError
from metagym.evaluation.results import jsonable
from metagym.evaluation.suites import Suite, SuiteTask
from metagym.files import refuse_existing
from metagym.leaderboard.play import trains
from metagym.leaderboard.rows import Entry, Failure, Row, RowError, load_rows
from metagym.leaderboard.run import ROW

SEEDS = 5  # at least; an interval over fewer runs says little
_Differs = Callable[[Entry, SuiteTask], bool]
_SHOWN = 5  # places that a message names before it says how many more


class SubmissionError(RowError):
    """A row cannot stand on a board.

    Attributes:
        problems: one line for each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__(f"{len(self.problems)} problems: " + " ".join(self.problems))


def file_name(row: Row) -> str:
    """The name of the row's file on a board, in letters that every file system has."""
    return f"{row.slug}.json"


def add_rows(
    paths: Iterable[str | Path], board: str | Path, suite: Suite | None = None
) -> list[Path]:
    """Put rows on a board, all or none: BOARD/SUITE/NAME.json.

    Args:
        paths: files of rows, or folders that ``metagym leaderboard run`` wrote.
        board: an existing folder.
        suite: of all rows, where it is none of metagym's.

    Returns:
        The files that were written.

    Raises:
        SubmissionError: a row is not fit for the board; it names all that is wrong with all rows.
        RowError: a file is no row.
        InvalidArgumentError: there is no such board.
    """
    board = Path(board)
    if not board.is_dir():
        raise InvalidArgumentError(
            f"There is no board in {board}; call this from a checkout, or give --board a folder."
        )
    there = load_rows(board)
    wrong, written = [], {}
    for path in map(Path, paths):
        row = Row.load(path / ROW if path.is_dir() else path)
        wrong += [f"{path}: {problem}" for problem in find_problems(row, there, suite)]
        there.append(row)
        written[board / row.suite / file_name(row)] = row
    if wrong:
        raise SubmissionError(wrong)
    for target in written:
        refuse_existing("the row", target)
    for target, row in written.items():
        row.save(target)
    return list(written)


def find_problems(row: Row, others: Sequence[Row] = (), suite: Suite | None = None) -> list[str]:
    """All that keeps a row from a board, one line each; none if it may stand there.

    Args:
        row: which one.
        others: the rows that are there.
        suite: the row's, where it is none of metagym's.
    """
    try:
        suite = row.suite_of(suite)
    except (InvalidArgumentError, RowError) as error:
        return [str(error)]
    return [
        *_check_places(row, suite),
        *_check_ruleset(row, suite),
        *_check_results(row, suite),
        *_check_others(row, others),
    ]


# -- the inside --------------------------------------------------------------------------------


def _check_places(row: Row, suite: Suite) -> list[str]:
    """Each task and seed of the suite is there once, and nothing else is."""
    wanted = [(task.name, seed) for task in suite.tasks for seed in suite.seeds]
    places: list[Entry | Failure] = [*row.results, *row.failures]
    found = Counter((place.task, place.seed) for place in places)
    problems = []
    seeds = {entry.seed for entry in row.results} & set(suite.seeds)
    if len(seeds) < SEEDS:
        problems.append(f"it has results of {len(seeds)} seeds; a board needs {SEEDS}.")
    for what, wrong in (
        ("it is unfinished, it lacks", [place for place in wanted if place not in found]),
        ("it has more than once", [place for place, count in found.items() if count > 1]),
        (f"it has what is not in {suite.name}:", [p for p in found if p not in wanted]),
    ):
        if wrong:
            problems.append(f"{what} {_list(f'{task} seed {seed}' for task, seed in wrong)}.")
    return problems


def _check_ruleset(row: Row, suite: Suite) -> list[str]:
    if row.ruleset in suite.rulesets or (row.ruleset is None and not suite.rulesets):
        return []
    return [f"its ruleset {row.ruleset!r} is none of {suite.name}'s: {suite.rulesets or 'none'}."]


def _check_results(row: Row, suite: Suite) -> list[str]:
    """What the results say of themselves is what the suite asks for."""
    tasks = {task.name: task for task in suite.tasks}
    checks: list[tuple[str, _Differs]] = list(_CHECKS)
    if trains(row.agent):
        runs = {seed: run for run, seed in enumerate(suite.seeds)}
        checks.append((
            "training.seed is not the number of the run",
            lambda entry, _: (entry.result.training or {}).get("seed") != runs.get(entry.seed),
        ))  # fmt: skip
    if row.ruleset == "self-tuning":
        checks.append(("the agent was tuned for the task", lambda entry, _: _was_tuned(entry)))
    if row.ruleset == "external-tuning":
        checks.append((
            f"the record of at most {suite.tuning_trials} trials is missing",
            lambda entry, task: not task.held_out
            and not 0 < len(_trials(entry)) <= suite.tuning_trials,
        ))  # fmt: skip
    problems = []
    for message, differs in checks:
        places = [
            f"results[{i}] ({entry.task} seed {entry.seed})"
            for i, entry in enumerate(row.results)
            if entry.task in tasks and differs(entry, tasks[entry.task])
        ]
        if places:
            problems.append(f"{message} in {_list(places)}.")
    return problems


def _trials(entry: Entry) -> list[Any]:
    tuning = entry.result.agent_config.get("tuning")
    trials = tuning.get("trials") if isinstance(tuning, dict) else None
    return trials if isinstance(trials, list) else []


def _was_tuned(entry: Entry) -> bool:
    config = entry.result.agent_config
    return "tuning" in config or config.get("tuned_for") is not None


def _num_envs(task: SuiteTask) -> int:
    """Rows of a batch, which determine the tasks together with the seed."""
    return task.num_envs or min(task.episodes, 1024 if task.kind == "environment" else 100)


# What a Result and the suite's task call by one name.
_COMMON = ("env_id", "group", "metric", "minimize")


def _differs(field: str) -> _Differs:
    return lambda entry, task: getattr(entry.result, field) != getattr(task, field)


_CHECKS: list[tuple[str, _Differs]] = [
    ("finished is not true", lambda entry, task: not entry.result.finished),
    (
        "git_dirty is not false (commit what is changed, and run from a checkout)",
        lambda entry, task: entry.result.git_dirty is not False,
    ),
    (
        f"versions.metagym is not {metagym.__version__}",
        lambda entry, task: entry.result.versions.get("metagym") != metagym.__version__,
    ),
    *((f"{field} is not the suite's", _differs(field)) for field in _COMMON),
    (
        "env_kwargs are not the suite's",
        lambda entry, task: entry.result.env_kwargs != jsonable(task.kwargs),
    ),
    ("split is not 'test'", lambda entry, task: entry.result.split != "test"),
    ("seed is not the evaluation's", lambda entry, task: entry.result.seed != entry.seed),
    (
        "the number of episodes is not the suite's",
        lambda e, task: len(e.result.scores) * e.result.group != task.episodes,
    ),
    ("num_envs is not the suite's", lambda e, task: e.result.num_envs != _num_envs(task)),
]


def _check_others(row: Row, others: Sequence[Row]) -> list[str]:
    """No other row has its name, its file or its scores."""
    problems = []
    if not file_name(row)[: -len(".json")]:
        problems.append(f"its name {row.name!r} has neither a letter nor a digit.")
    for other in others:
        if other.suite != row.suite:
            continue
        if other.name == row.name:
            problems.append(f"{row.suite} has a row {row.name!r} already.")
        elif file_name(other) == file_name(row):
            problems.append(f"its name {row.name!r} is too close to that of {other.name!r}.")
        elif row.results and _scores(other) == _scores(row):
            problems.append(f"all its scores are those of {other.name!r}.")
    return problems


def _scores(row: Row) -> dict[tuple[str, int], list[float]]:
    return {(entry.task, entry.seed): entry.result.scores for entry in row.results}


def _list(places: Iterable[str]) -> str:
    names = list(places)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
