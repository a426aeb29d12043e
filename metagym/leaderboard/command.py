"""``metagym leaderboard``: run, add, verify, list, build."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional

from metagym.errors import InvalidArgumentError
from metagym.evaluation.suites import SUITES, Suite, make_suite
from metagym.leaderboard.rows import ROW, Row, find_suite, row_file
from metagym.leaderboard.standings import standings

BOARD = Path("experiments/board")
_Flag = tyro.conf.FlagCreatePairsOff[bool]
_STYLE = (tyro.conf.OmitArgPrefixes, tyro.conf.PositionalMetavarFromFieldName)


def main(argv: Sequence[str]) -> None:
    """The subcommand; ``argv`` is what follows ``metagym leaderboard``.

    Raises:
        SystemExit: 2 where a task failed, a row is refused or cannot be reproduced; 130 after
            Ctrl-C.
        MetagymError: a wrong argument.
    """
    tyro.extras.subcommand_cli_from_dict(
        {"run": run, "add": add, "verify": verify, "list": list_rows, "build": build},
        args=argv, prog="metagym leaderboard", config=_STYLE,
        description="Rows that a command makes, that checks accept and that anybody can re-run.",
    )  # fmt: skip


def run(
    agent: Positional[str],
    suite: Positional[str],
    /,
    out: Path,
    ruleset: str | None = None,
    space: Path | None = None,
    name: str | None = None,
    authors: str = "",
    note: str = "",
    url: str = "",
    tasks: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
    time_limit: float | None = None,
    workers: int = 1,
    trust: _Flag = False,
) -> None:
    """Run an agent on a suite: metagym leaderboard run adam core-v0 --out runs/adam.

    The same command again goes on where it was cut short, and tries again what failed. Every task
    and seed has a process and a time limit of its own; what fails is reported, and the exit code
    is 2 at the end.

    Args:
        agent: a name; the name of something that trains (ppo, rl2, maml), which is trained for each
            task and seed; a folder with a checkpoint, or with one for each task (FOLDER/TASK or
            FOLDER/TASK/seedN); a zip file of Stable-Baselines3; or module:Class, for few-shot
            suites a FewShotMethod, which is trained as ours are.
        suite: such as core-v0, or the path of a suite's JSON file.
        out: folder for the row and for checkpoints.
        ruleset: self-tuning or external-tuning, of suites that have them.
        space: JSON file of external tuning's search space, such as {"lr": [0.01, 0.1]}; optimisers
            designed by hand have one of their own.
        name: of the row, at most 80 characters; the agent's by default.
        authors: for the board.
        note: for the board.
        url: for the board, with https://.
        tasks: only these, for now.
        seeds: only these, for now.
        time_limit: seconds for a task and seed, training included; the suite's by default.
        workers: tasks and seeds at a time, one core each.
        trust: load zip files of Stable-Baselines3, which can run any code of their author.
    """
    from metagym.leaderboard.outlook import warnings_of
    from metagym.leaderboard.play import check_agent
    from metagym.leaderboard.run import run_suite
    from metagym.leaderboard.submission import find_problems

    found = make_suite(suite)
    check_agent(agent)
    chosen = [task for task in found.tasks if not tasks or task.name in tasks]
    for line in warnings_of(agent, chosen, name=name, ruleset=ruleset):
        print(f"metagym: warning: {line}", file=sys.stderr)
    try:
        row = run_suite(
            agent, found, out, ruleset=ruleset, space=None if space is None else _read(space),
            name=name, authors=authors, note=note, url=url, tasks=tasks, seeds=seeds,
            time_limit=time_limit, workers=workers, trust=trust,
        )  # fmt: skip
    except KeyboardInterrupt:
        print(f"\nmetagym: interrupted; the same command goes on in {out}", file=sys.stderr)
        raise SystemExit(130) from None
    _print(_result_table(row, found))
    for line in _failures(row):
        print(f"failed: {line}", file=sys.stderr)
    print(f"Saved to {out / ROW}.", end=" ")
    problems = find_problems(row, suite=found)
    if problems:
        print("Not yet fit for a board:", *problems, sep="\n  ")
    else:
        option = "" if suite in SUITES else f" --suite {suite}"
        print(f"Next: metagym leaderboard add {out}{option}")
    if row.failures:
        raise SystemExit(2)


def add(
    results: Positional[tuple[Path, ...]], /, board: Path = BOARD, suite: str | None = None
) -> None:
    """Put rows on a board, after all checks: metagym leaderboard add runs/adam runs/rl2.

    Args:
        results: folders of runs, or files of rows.
        board: the folder of the board.
        suite: path of the rows' suite, if it is none of metagym's; the board keeps it.
    """
    from metagym.leaderboard.submission import add_rows, unknown_commits

    if not results:
        raise InvalidArgumentError("Name at least one run: metagym leaderboard add runs/adam.")
    with _problems_are_lines("nothing was added"):
        written = add_rows(results, board, None if suite is None else make_suite(suite))
    for path in written:
        print(f"Added {path}")
        for commit in unknown_commits(Row.load(path)):
            print(f"warning: its commit {commit} is not known here: fetch it, or ask for the fork.")


def verify(
    row: Positional[Path],
    /,
    tasks: int | None = None,
    seed: int = 0,
    agent: str | None = None,
    suite: str | None = None,
    time_limit: float | None = None,
    workers: int = 1,
    trust: _Flag = False,
) -> None:
    """Run a row again and compare: equal, within noise, or not reproduced (exit code 2).

    Args:
        row: its file, or the folder of its run.
        tasks: so many, drawn at random from those that have a result; all by default.
        seed: of the drawing.
        agent: what plays in place of the row's own text, such as the folder with its checkpoints,
            which spares the training.
        suite: path of the row's suite, if neither metagym nor the row's board has it.
        time_limit: seconds for a task and seed; the row's by default.
        workers: tasks and seeds at a time, one core each.
        trust: load zip files of Stable-Baselines3, and import the module:Class that the row names;
            both can run any code.
    """
    from metagym.leaderboard.verify import verify_row

    path = row_file(row)
    claimed = Row.load(path)
    board = path.resolve().parent.parent  # if the row stands on one
    checks = verify_row(
        claimed, find_suite(claimed.suite, board) if suite is None else make_suite(suite),
        tasks=tasks, seed=seed, agent=agent, time_limit=time_limit, workers=workers, trust=trust,
    )  # fmt: skip
    headings = ("task", "verdict", "new minus claimed", "differs in")
    table = _table(f"{claimed.name} on {claimed.suite}", *headings)
    for check in checks:
        difference = "" if math.isnan(check.difference) else f"{check.difference:.4g}"
        differing = Text(", ".join(check.differing))
        table.add_row(Text(check.task), check.verdict, difference, differing)
    _print(table)
    tried = {check.task for check in checks}
    if left := sum(failure.task not in tried for failure in claimed.failures):
        print(f"{left} runs that failed in the row were not tried.")
    for check in checks:
        for error in sorted(set(check.errors)):
            print(f"failed: {check.task}: {error}", file=sys.stderr)
    if any(check.verdict == "not reproduced" for check in checks):
        raise SystemExit(2)


def list_rows(board: Path = BOARD, commands: _Flag = False) -> None:
    """List the rows of a board, after all checks: a table for each suite and ruleset, the best mean
    of normalised scores first.

    Args:
        board: the folder of the board.
        commands: in place of the tables, a line for each row: its name, a tab, and the command that
            makes it.
    """
    from metagym.leaderboard.submission import load_board

    with _problems_are_lines("the board is not as it has to be"):
        content = load_board(board)
    for suite, rows in content:
        for ruleset, summaries in standings(rows, suite).items():
            if commands:
                for summary in summaries:
                    print(f"{summary['name']}\t{summary['command']}")
                continue
            title = suite.name if ruleset is None else f"{suite.name}, {ruleset}"
            table = _table(title, "", "name", "mean", "IQM", "played")
            for summary in summaries:
                table.add_row(
                    str(summary["rank"] or ""),
                    Text(f"{summary['name']} ({', '.join(summary['tags'])})"),
                    _interval(summary["aggregate"]["mean"]),
                    f"{summary['aggregate']['iqm'][0]:.3f}",
                    "{}/{}".format(*summary["coverage"]),
                )
            if summaries:
                _print(table)


def build(out: Path, board: Path = BOARD) -> None:
    """Build the site, the leaderboard on it: metagym leaderboard build --out site.

    Args:
        out: its folder.
        board: the folder of the board.
    """
    from metagym.site.build import build_site

    with _problems_are_lines("nothing was built"):
        page = build_site(out, board=board)
    print(f"Built {page}")


# -- the inside --------------------------------------------------------------------------------


@contextlib.contextmanager
def _problems_are_lines(outcome: str) -> Iterator[None]:
    """What is wrong with rows is a line each, and the exit code 2."""
    from metagym.leaderboard.submission import SubmissionError

    try:
        yield
    except SubmissionError as error:
        for problem in error.problems:
            print(f"metagym: {problem}", file=sys.stderr)
        print(f"metagym: error: {outcome}", file=sys.stderr)
        raise SystemExit(2) from None


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"--space {path} is no file of JSON: {error}.") from None


def _failures(row: Row) -> list[str]:
    """One line for each thing that went wrong, with the places where it did."""
    places: dict[tuple[str, str], list[str]] = {}
    for failure in row.failures:
        places.setdefault((failure.task, failure.error), []).append(str(failure.seed))
    return [f"{task} (seed {', '.join(seeds)}): {error}" for (task, error), seeds in places.items()]


def _result_table(row: Row, suite: Suite) -> Table:
    """What a row, finished or not, has come to."""
    table = _table(f"{row.name} on {row.suite}", "task", "runs", "score", "0 = floor, 1 = ceiling")
    for task in suite.tasks:
        scores = [entry.result.mean for entry in row.results if entry.task == task.name]
        if scores:
            mean = float(np.mean(scores))
            table.add_row(
                Text(task.name), str(len(scores)), f"{mean:.4g}", f"{task.normalise(mean):z.3f}"
            )
    if len(row.results) + len(row.failures) == len(suite.tasks) * len(suite.seeds):
        for name, values in row.summary(suite)["aggregate"].items():
            table.add_row(Text(name.replace("_", " "), style="bold"), "", "", _interval(values))
    return table


def _interval(values: Sequence[float]) -> Text:
    value, low, high = values
    return Text(f"{value:z.3f} [{low:z.3f}, {high:z.3f}]")


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=Text(title), box=box.SIMPLE, pad_edge=False)
    table.add_column(first, overflow="fold")
    for heading in others:
        table.add_column(heading, overflow="fold")
    return table


def _print(table: Table) -> None:
    # A file or a pipe has no width of its own.
    Console(width=None if sys.stdout.isatty() else 120).print(table)
