"""What a row has to be to stand on a board; ``add_rows`` and ``load_board``, which see to it.

All that is wrong is said at once. What cannot be seen in a file, such as a forged score, is for
``metagym.leaderboard.verify``.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from metagym.agents.optimizers import GRIDS
from metagym.errors import InvalidArgumentError
from metagym.evaluation.results import git_state
from metagym.evaluation.suites import SUITES, Suite
from metagym.files import refuse_existing, write_atomically
from metagym.leaderboard.checks import check_results, some_of
from metagym.leaderboard.comparison import ATOL, RTOL
from metagym.leaderboard.rows import (
    SUITE,
    Entry,
    Failure,
    Row,
    RowError,
    find_suite,
    load_rows,
    row_file,
    row_files,
)
from metagym.leaderboard.texts import fault_of_agent, fault_of_name, fault_of_url
from metagym.leaderboard.tuning import check_untuned

SEEDS = 5  # at least; an interval over fewer runs says little


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
        suite: of all rows, where it is none of metagym's; it is kept in BOARD/SUITE/suite.json,
            where later calls find it.

    Returns:
        The files of the rows.

    Raises:
        SubmissionError: a row is not fit for the board; it names all that is wrong with all rows.
        RowError: a file is no row, or the board has another text of the suite.
        InvalidArgumentError: there is no such board.
    """
    board = _check_board(board)
    kept = None if suite is None else find_suite(suite.name, board)
    if suite is not None and kept is not None and kept.digest != suite.digest:
        raise RowError(f"{board / suite.name / SUITE} is another text of {suite.name}; rename it.")
    there = load_rows(board)
    wrong, written = [], {}
    for path in map(Path, paths):
        row = Row.load(row_file(path))
        played = find_suite(row.suite, board) if suite is None else suite
        wrong += [f"{path}: {problem}" for problem in find_problems(row, there, played)]
        there.append(row)
        written[board / row.suite / file_name(row)] = row
    if wrong:
        raise SubmissionError(wrong)
    for target in written:
        refuse_existing("the row", target)
    if suite is not None and kept is None and suite.name not in SUITES:
        write_atomically(board / suite.name / SUITE, suite.to_json().encode())
    for target, row in written.items():
        row.save(target)
    return list(written)


def load_board(board: str | Path) -> list[tuple[Suite, list[Row]]]:
    """The suites of a board with their rows, metagym's first; a suite without rows is left out.

    Every row is checked as ``add_rows`` did, but for the version of metagym.

    Raises:
        SubmissionError: a row is not what it has to be, or not where it belongs.
        InvalidArgumentError: there is no such board.
        RowError: a file in it is no row.
    """
    board, wrong = _check_board(board), list[str]()
    rows = load_rows(board)
    suites: dict[str, tuple[Suite, list[Row]]] = {}
    for i, (path, row) in enumerate(zip(row_files(board), rows, strict=True)):
        suite = find_suite(row.suite, board)
        problems = find_problems(row, rows[:i], suite, any_version=True)
        if not problems and path != board / row.suite / file_name(row):
            problems = [f"it belongs into {row.suite}/{file_name(row)}."]
        wrong += [f"{path}: {problem}" for problem in problems]
        if not problems:
            suites.setdefault(row.suite, (row.suite_of(suite), []))[1].append(row)
    if wrong:
        raise SubmissionError(wrong)
    order = [*SUITES, *sorted(suites.keys() - SUITES.keys())]
    return [suites[name] for name in order if name in suites]


def unknown_commits(row: Row) -> list[str]:
    """The commits of a row that metagym's checkout does not have, as those of a fork.

    None are unknown to who has no checkout, and all that a row names have to be hexadecimal.
    """
    if git_state()[0] is None:
        return []
    commits = sorted({entry.result.git_commit or "" for entry in row.results})
    git = ["git", "-C", str(Path(__file__).parent), "cat-file", "-e"]
    return [
        commit for commit in commits
        if subprocess.run([*git, f"{commit}^{{commit}}"], capture_output=True).returncode
    ]  # fmt: skip


def find_problems(
    row: Row,
    others: Sequence[Row] = (),
    suite: Suite | None = None,
    *,
    any_version: bool = False,
) -> list[str]:
    """All that keeps a row from a board, one line each; none if it may stand there.

    Args:
        row: which one.
        others: the rows that are there.
        suite: the row's, where it is none of metagym's.
        any_version: whether it may come from another version of metagym.
    """
    try:
        suite = row.suite_of(suite)
    except (InvalidArgumentError, RowError) as error:
        return [str(error)]
    return [
        *find_places(row, suite),
        *_check_texts(row),
        *_check_ruleset(row, suite),
        *check_results(row, suite, any_version=any_version),
        *_check_others(row, others),
    ]


def find_places(row: Row, suite: Suite) -> list[str]:
    """What is wrong with the tasks and seeds of a row: each has to be there once, and no other."""
    wanted = [(task.name, seed) for task in suite.tasks for seed in suite.seeds]
    places: list[Entry | Failure] = [*row.results, *row.failures]
    found = Counter((place.task, place.seed) for place in places)
    problems = []
    seeds = {place.seed for place in places} & set(suite.seeds)
    if len(seeds) < SEEDS:
        problems.append(f"it has results of {len(seeds)} seeds; a board needs {SEEDS}.")
    for what, wrong in (
        ("it is unfinished, it lacks", [place for place in wanted if place not in found]),
        ("it has more than once", [place for place, count in found.items() if count > 1]),
        (f"it has what is not in {suite.name}:", [p for p in found if p not in wanted]),
    ):
        if wrong:
            problems.append(f"{what} {some_of(f'{task} seed {seed}' for task, seed in wrong)}.")
    return problems


# -- the inside --------------------------------------------------------------------------------


def _check_board(board: str | Path) -> Path:
    if not Path(board).is_dir():
        raise InvalidArgumentError(
            f"There is no board in {board}; call this from a checkout, or give --board a folder."
        )
    return Path(board)


def _check_texts(row: Row) -> list[str]:
    """What a reader sees is what is there, and can be."""
    faults = [fault_of_name(row.name), fault_of_agent(row.agent), fault_of_url(row.url)]
    if not row.authors.isprintable():
        faults.append(f"its authors {row.authors!r} have characters that cannot be seen.")
    return list(filter(None, faults))


def _check_ruleset(row: Row, suite: Suite) -> list[str]:
    problems = []
    if row.ruleset not in (suite.rulesets or (None,)):
        problems.append(
            f"its ruleset {row.ruleset!r} is none of {suite.name}'s: {suite.rulesets or 'none'}."
        )
    if row.ruleset == "self-tuning":
        try:
            check_untuned(row.agent)
        except InvalidArgumentError as error:
            problems.append(str(error))
    if row.space is not None and row.ruleset != "external-tuning":
        problems.append("it has a space, which belongs to external-tuning.")
    if row.ruleset == "external-tuning" and row.space is None and row.agent not in GRIDS:
        problems.append(f"it lacks the space from which {row.agent} was tuned.")
    return problems


def _check_others(row: Row, others: Sequence[Row]) -> list[str]:
    """No other row has its name, its file or its scores."""
    problems = []
    if file_name(row) == SUITE:
        problems.append(f"its name {row.name!r} is that of the suite's file.")
    for other in others:
        if other.suite != row.suite:
            continue
        if other.name == row.name:
            problems.append(f"{row.suite} has a row {row.name!r} already.")
        elif other.slug == row.slug:
            problems.append(f"its name {row.name!r} is too close to that of {other.name!r}.")
        elif row.results and _have_same_scores(row, other):
            problems.append(f"all its scores are those of {other.name!r}.")
    return problems


def _have_same_scores(row: Row, other: Row) -> bool:
    """Whether all are equal, as ``verify`` calls it: another last digit makes no other row."""
    ours, theirs = (
        {(entry.task, entry.seed): entry.result.scores for entry in one.results}
        for one in (row, other)
    )
    return ours.keys() == theirs.keys() and all(
        len(scores) == len(theirs[place]) and np.allclose(scores, theirs[place], RTOL, ATOL)
        for place, scores in ours.items()
    )
