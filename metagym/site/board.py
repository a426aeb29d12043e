"""The leaderboard: a page of all suites that reads like a tool, and a plain page for each suite.

Names, notes and errors of rows are anybody's. In the data they are JSON in which ``<`` is escaped;
``assets/board.js`` shows them as text, and ``plain`` does so in Markdown.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from metagym.agents.optimizers import GRIDS
from metagym.architectures import nasbench201
from metagym.evaluation import aggregate
from metagym.evaluation.suites import SUITES, Anchor, Suite, make_suite
from metagym.leaderboard import Row
from metagym.leaderboard.standings import duration, standings
from metagym.leaderboard.tuning import Space
from metagym.site.markdown import code, plain, table, tree
from metagym.tasks import omniglot

_PAGE = """---
hide-toc: true
---

# Leaderboard

Scores are normalised: 0 is the floor of a task and 1 its ceiling, of which the page of the suite
says what they are. Rows are ordered by the mean over tasks and runs, where no score counts less
than the floor, which is also what a failure counts. Brackets and bars are 95 % bootstrap intervals;
the bars of a column have a scale of their own, whose ends stand in its head. A name opens the row,
with the command that makes it. A row that sees the task has no rank.

```{raw} html
<div id="board"><noscript>This table needs JavaScript; the pages of the suites below do
not.</noscript></div>
DATA
<script src="../_static/plotly.min.js" defer></script>
<script src="../_static/board.js" defer></script>
```

"""
_HOW = """## Take part

`metagym leaderboard run AGENT SUITE --out DIR` plays a suite and writes a row, `add` checks it, and
`verify` runs it again. The rules, and how to submit, are in
[the board's folder](../experiments/board/README.md).

"""
_TARGET = """A target is a value of log10(loss - lower + 1e-12), `lower` being a bound below which
no loss is. The leaderboard tells after how many steps an episode first reached it; a failure, and
an episode that never did, count as not reached."""
_GITHUB = "https://github.com"
_FILES = {  # by what a task needs: its files, and who has them
    "nasbench201": (
        f"{code(nasbench201.VALIDATION)} ([RoBoT]({_GITHUB}/hzf1174/RoBoT), in its data/) and "
        f"{code(nasbench201.TEST)} ([landscapes]({_GITHUB}/v-tao/nats-bench-landscape))"
    ),
    "omniglot": (
        f"{' and '.join(map(code, omniglot.FILES))} "
        f"([omniglot]({_GITHUB}/brendenlake/omniglot), in its python/)"
    ),
}
_WITHOUT_KNOWING = ("optimum", "upper bound")  # ceilings of who has to find out what the task is


def write_board(folder: Path, board: Iterable[tuple[Suite, Sequence[Row]]]) -> dict[str, list[str]]:
    """Write ``index.md`` and a page for each suite into ``folder``, which is made.

    Args:
        folder: of the pages.
        board: suites with their finished rows; those of metagym that are not there have none.

    Returns:
        Lines of Markdown about an agent's rows for its page, by the agent's name.

    Raises:
        RowError: a row is unfinished, or of another text of its suite.
    """
    folder.mkdir(parents=True)
    mentions: dict[str, list[str]] = {}
    blobs, listed = [], []
    suites: dict[str, tuple[Suite, Sequence[Row]]] = {
        **{name: (make_suite(name), []) for name in SUITES},
        **{suite.name: (suite, rows) for suite, rows in board},
    }
    for name, (suite, rows) in suites.items():
        tables = {rules: titled(rules, found) for rules, found in standings(rows, suite).items()}
        for summary in itertools.chain.from_iterable(tables.values()):
            agent, colon, arguments = summary["agent"].rpartition(":")
            agent = agent if colon and "=" in arguments else summary["agent"]
            mentions.setdefault(agent, []).append(_mention(summary))
        blobs.append(data_script(suite, rows, tables))
        listed.append(f"- [{name}]({name}.md): {plain(suite.summary)}\n")
        (folder / f"{name}.md").write_text(_suite_page(suite, tables))
    page = _PAGE.replace("DATA", "\n".join(blobs)) + f"## Suites\n\n{''.join(listed)}\n" + _HOW
    (folder / "index.md").write_text(page + tree(*suites))
    return mentions


def titled(ruleset: str | None, summaries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a ruleset's table, each with a "title": its name, without the ruleset behind it.

    The table says which ruleset that is. Where another row has that name, the title is all of it.
    """
    names = {summary["name"] for summary in summaries}
    titles = {name: name.removesuffix(f", {ruleset}" if ruleset else "") for name in names}
    return [
        {**summary, "title": name if titles[name] in names else titles[name]}
        for summary in summaries
        for name in [summary["name"]]
    ]


def data_script(
    suite: Suite, rows: Sequence[Row], tables: dict[str | None, list[dict[str, Any]]]
) -> str:
    """What ``board.js`` reads, as JSON in one element and on one line.

    Args:
        suite: which one.
        rows: of the suite.
        tables: their ``standings``, ``titled``. A row of theirs gets what is shown only where it is
            open: "space", that of external tuning; "band", the ends of the profile's intervals;
            "better", by name of each other row of its ruleset the probability that one of its runs
            beats one of the other, with its interval.
    """
    scores = {row.name: row.scores(suite) for row in rows}
    spaces = {row.name: _space(row) for row in rows}
    better = _better(scores, tables)
    data = {
        "name": suite.name,
        "rulesets": list(tables),
        "tasks": [dataclasses.asdict(task) for task in suite.tasks],
        "rows": [
            {
                **summary, "space": spaces[name], "better": better[name],
                "band": [_rounded(e) for e in aggregate.performance_profile_band(scores[name])],
            }
            for summaries in tables.values() for summary in summaries
            for name in [summary["name"]]
        ],
    }  # fmt: skip
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" class="board-suite">{text}</script>'


# -- the inside --------------------------------------------------------------------------------


def _better(
    scores: dict[str, np.ndarray], tables: dict[str | None, list[dict[str, Any]]]
) -> dict[str, dict[str, list[float]]]:
    better: dict[str, dict[str, list[float]]] = {name: {} for name in scores}
    for summaries in tables.values():
        names = [summary["name"] for summary in summaries]
        for x, y in itertools.combinations(names, 2):
            value, low, high = aggregate.probability_of_improvement_interval(scores[x], scores[y])
            better[x][y] = _rounded([value, low, high])
            better[y][x] = _rounded([1 - value, 1 - high, 1 - low])
    return better


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), 4) for value in values]


def _space(row: Row) -> Space | None:
    """What external tuning drew from: the row's own space, or the grid of a hand-designed rule."""
    if row.space is None and row.ruleset == "external-tuning":
        return GRIDS.get(row.agent)
    return row.space


def _mention(summary: dict[str, Any]) -> str:
    suite, rank, title = summary["suite"], summary["rank"], plain(summary["title"])
    link = f"../../leaderboard/index.html#{suite}/{quote(summary['name'], safe='')}"
    played, total = summary["coverage"]
    return (
        f'- <a href="{link}">{title}</a> on {suite}'
        + (f", {summary['ruleset']}" if summary["ruleset"] else "")
        + (": sees the task" if rank is None else f": rank {rank}")
        + f", mean {_estimate(summary['aggregate']['mean'])}, {played} of {total} runs played"
    )  # fmt: skip


def _suite_page(suite: Suite, tables: dict[str | None, list[dict[str, Any]]]) -> str:
    seeds = ", ".join(map(str, suite.seeds))
    facts = [
        f"Test split, seeds {seeds}; at most {suite.time_limit:g} s for a task and run.",
        f"Rulesets: {', '.join(suite.rulesets)}, with {suite.tuning_trials} trials of external "
        "tuning." if suite.rulesets else "",
        f"SHA-256 of the suite: `{suite.digest}`.",
    ]  # fmt: skip
    text = [
        "---\nhide-toc: true\n---", f'# {suite.name} <span class="board-wide"></span>',
        plain(suite.summary), " ".join(filter(None, facts)),
    ]  # fmt: skip
    for ruleset, rows in tables.items():
        text += [f"## Rows{f': {ruleset}' if ruleset else ''}", _rows_table(suite, rows)]
    return "\n\n".join([*text, "## Tasks", *_tasks(suite)])


def _rows_table(suite: Suite, rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "No rows.\n"
    head = ("", "row", "", "mean", "interquartile mean", "played", "training", "scoring")
    return table(head, [
        (
            str(row["rank"] or ""),
            f'<a href="index.html#{suite.name}/{quote(row["name"], safe="")}">'
            f"{plain(row['title'])}</a>",
            ", ".join(row["tags"]),
            _estimate(row["aggregate"]["mean"]),
            f"{row['aggregate']['iqm'][0]:.3f}",
            "{}/{}".format(*row["coverage"]),
            duration(row["training_seconds"]),
            duration(row["wall_time_s"]),
        )
        for row in rows
    ])  # fmt: skip


def _tasks(suite: Suite) -> list[str]:
    """The table of the tasks, and what its column of targets means where it has one."""
    head = ["task", "environment", "score", "target", "floor (0)", "ceiling (1)", "episodes"]
    rows = [
        (
            task.name + (f" (held out, of {task.variant_of})" if task.variant_of else ""),
            _code(task.env_id)
            + " "
            + _code(", ".join(f"{k}={v!r}" for k, v in task.kwargs.items())),
            f"{plain(task.metric)}, {'smaller' if task.minimize else 'larger'} is better",
            "" if task.target is None else f"{task.target:g}",
            _anchor(task.floor),
            _anchor(task.ceiling),
            f"{task.episodes:,}",
            f"{task.training_steps:,}",
        )
        for task in suite.tasks
    ]
    notes = [_needed(suite, data) for data in dict.fromkeys(task.needs for task in suite.tasks)]
    found_out = [task.name for task in suite.tasks if task.ceiling.what in _WITHOUT_KNOWING]
    if found_out:
        notes.append(
            f"The ceiling of {_names(found_out)} is what can be had without knowing the task: a "
            "row that sees it may pass 1 there."
        )
    if any(task.target is not None for task in suite.tasks):
        notes.append(_TARGET)
    return [table([*head, "training steps"], rows), *filter(None, notes)]


def _needed(suite: Suite, data: str | None) -> str:
    """Which tasks need the files of ``data``, and where those have to be."""
    if data is None:
        return ""
    files = _FILES.get(data, f"the files of {_code(data)}")
    tasks = [task.name for task in suite.tasks if task.needs == data]
    return (
        f"Not part of the package, and needed by {_names(tasks)}: {files}, in the folder that "
        f"`METAGYM_DATA` names or in its "
        f"{_code(data + '/')}. Without them a task fails."
    )


def _names(tasks: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(map(_code, tasks[:-1])), _code(tasks[-1])]))


def _anchor(anchor: Anchor) -> str:
    return f"{anchor.value:.5g}, {plain(anchor.what)}" + (" (exact)" if anchor.exact else "")


def _code(text: str) -> str:
    """As code, whatever is in it."""
    return f"<code>{plain(text)}</code>" if text else ""


def _estimate(values: list[float]) -> str:
    value, low, high = values
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
