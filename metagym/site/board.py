"""The leaderboard: a page of all suites that reads like a tool, and a plain page for each suite.

Names, notes and errors of rows are anybody's. In the data they are JSON in which ``<`` is escaped;
``assets/board.js`` shows them as text, and ``plain`` does so in Markdown.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from metagym.evaluation.suites import SUITES, Anchor, Suite, make_suite
from metagym.leaderboard import Row
from metagym.site.markdown import code, plain, table, tree

_PAGE = """---
hide-toc: true
---

# Leaderboard

Scores are normalised: 0 is the floor of a task and 1 its ceiling, of which the page of the suite
says what they are. Bars are 95 % bootstrap intervals over five runs. A name opens the row, with the
command that makes it.

```{raw} html
<div id="board"><noscript>This table needs JavaScript; the pages of the suites below do
not.</noscript></div>
DATA
<script src="../_static/plotly.min.js" defer></script>
<script src="../_static/board.js" defer></script>
```

"""


def write_board(folder: Path, rows: Iterable[Row]) -> dict[str, list[str]]:
    """Write ``index.md`` and a page for each suite into ``folder``, which is made.

    Args:
        folder: of the pages.
        rows: finished rows of metagym's suites.

    Returns:
        Lines of Markdown about an agent's rows for its page, by the agent's name.

    Raises:
        RowError: a row is unfinished, or of another text of its suite.
        InvalidArgumentError: a row's suite is none of ours.
    """
    folder.mkdir(parents=True)
    suites = {name: make_suite(name) for name in SUITES}
    summaries: dict[str, list[dict[str, Any]]] = {name: [] for name in SUITES}
    mentions: dict[str, list[str]] = {}
    for row in rows:
        summary = row.summary()
        summaries[row.suite].append(summary)
        name, colon, arguments = row.agent.rpartition(":")
        agent = name if colon and "=" in arguments else row.agent
        mentions.setdefault(agent, []).append(_mention(summary))
    blobs = []
    for name, suite in suites.items():
        ranked = sorted(summaries[name], key=lambda row: -row["aggregate"]["iqm"][0])
        blobs.append(data_script(suite, ranked))
        (folder / f"{name}.md").write_text(_suite_page(suite, ranked))
    listed = "\n".join(f"- [{name}]({name}.md): {suite.summary}" for name, suite in suites.items())
    page = _PAGE.replace("DATA", "\n".join(blobs)) + f"## Suites\n\n{listed}\n\n" + _HOW
    (folder / "index.md").write_text(page + tree(*suites))
    return mentions


_HOW = """## Take part

`metagym leaderboard run AGENT SUITE --out DIR` plays a suite and writes a row, `add` checks it, and
`verify` runs it again. The rules, and how to submit, are in
[the board's folder](../experiments/board/README.md).

"""


def data_script(suite: Suite, summaries: list[dict[str, Any]]) -> str:
    """What ``board.js`` reads: a suite and its rows as JSON, in one element and on one line."""
    tasks = [dataclasses.asdict(task) for task in suite.tasks]
    data = {"name": suite.name, "summary": suite.summary, "tasks": tasks, "rows": summaries}
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" class="board-suite">{text}</script>'


# -- the inside --------------------------------------------------------------------------------


def _mention(summary: dict[str, Any]) -> str:
    suite, name = summary["suite"], summary["name"]
    return (
        f'- <a href="../../leaderboard/index.html#{suite}/{quote(name, safe="")}">{plain(name)}</a>'
        f" on {suite}: interquartile mean {_estimate(summary['aggregate']['iqm'])}"
        + (f", failures: {len(summary['failures'])}" if summary["failures"] else "")
    )


def _suite_page(suite: Suite, summaries: list[dict[str, Any]]) -> str:
    seeds = ", ".join(map(str, suite.seeds))
    facts = [
        f"Test split, seeds {seeds}; at most {suite.time_limit:g} s for a task and run.",
        f"Rulesets: {', '.join(suite.rulesets)}, with {suite.tuning_trials} trials of external "
        "tuning." if suite.rulesets else "",
        f"SHA-256 of the suite: `{suite.digest}`.",
    ]  # fmt: skip
    tasks = [
        (
            task.name + (f" (held out, of {task.variant_of})" if task.variant_of else ""),
            code(task.env_id) + " " + code(", ".join(f"{k}={v!r}" for k, v in task.kwargs.items())),
            f"{task.episodes:,}",
            f"{task.training_steps:,}",
            f"{task.metric}, {'smaller' if task.minimize else 'larger'} is better",
            _anchor(task.floor),
            _anchor(task.ceiling),
        )
        for task in suite.tasks
    ]
    rows = [
        (
            f'<a href="index.html#{suite.name}/{quote(row["name"], safe="")}">'
            f"{plain(row['name'])}</a>",
            _estimate(row["aggregate"]["iqm"]),
            _estimate(row["aggregate"]["mean"]),
            str(len(row["failures"])),
        )
        for row in summaries
    ]
    head = (
        "task",
        "environment",
        "episodes",
        "training steps",
        "score",
        "floor (0)",
        "ceiling (1)",
    )
    ranks = table(("row", "interquartile mean", "mean", "failures"), rows) if rows else "No rows.\n"
    text = [
        "---\nhide-toc: true\n---", f'# {suite.name} <span class="board-wide"></span>',
        suite.summary, " ".join(filter(None, facts)),
        "## Rows", ranks, "## Tasks", table(head, tasks),
    ]  # fmt: skip
    return "\n\n".join(text)


def _anchor(anchor: Anchor) -> str:
    return f"{anchor.value:.5g}, {anchor.what}" + (" (exact)" if anchor.exact else "")


def _estimate(values: list[float]) -> str:
    value, low, high = values
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
