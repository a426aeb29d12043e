"""The tables of a board: one for each ruleset of a suite, the best mean of normalised scores first.

Who sees the task (an oracle) stands in the table and has no rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metagym.evaluation.suites import Suite
from metagym.leaderboard.rows import Row

_KINDS = {
    "trained": ("trained", "learned what it does"),
    "hand-designed": ("hand-designed", "was written by hand"),
    "unknown": ("origin unknown", "does not say whether it was trained, and how"),
}


def standings(rows: Sequence[Row], suite: Suite) -> dict[str | None, list[dict[str, Any]]]:
    """The rows of a suite as their summaries, by ruleset, in the order of their table.

    Args:
        rows: finished rows of the suite.
        suite: which one.

    Returns:
        For each ruleset (None: the suite has no rules) the summaries, which have two keys more:
        "rank", None for who sees the task, and "tags", {tag: what it means}.

    Raises:
        RowError: a row is unfinished, or of another text of the suite.
    """
    tables: dict[str | None, list[dict[str, Any]]] = {}
    for ruleset in suite.rulesets or (None,):
        tables[ruleset] = [row.summary(suite) for row in rows if row.ruleset == ruleset]
    for table in tables.values():
        table.sort(key=lambda summary: -summary["aggregate"]["mean"][0])
        rank = 0
        for summary in table:
            rank += not summary["privileged"]
            summary["rank"] = None if summary["privileged"] else rank
            summary["tags"] = _tags(summary, suite)
    return tables


def duration(seconds: float | None) -> str:
    """How long that is, in the unit that reads best; "unknown" of None, "none" of 0."""
    if not seconds:
        return "unknown" if seconds is None else "none"
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"


# -- the inside --------------------------------------------------------------------------------


def _tags(summary: dict[str, Any], suite: Suite) -> dict[str, str]:
    """What a reader has to know beside the scores."""
    tags = {"sees the task": "an oracle, without a rank"} if summary["privileged"] else {}
    tags |= [_KINDS[summary["kind"]]]
    if summary["tuned"] and summary["ruleset"] is None:
        tags["tuned"] = "its settings were chosen for these environments"
    trainings = summary["trainings"]
    if trainings is not None and trainings < len(suite.seeds):
        tags[f"{trainings} training{'s' if trainings > 1 else ''}"] = (
            f"all {len(suite.seeds)} runs of a task come from so many trainings"
        )
    if summary["own_budget"]:
        tags["own budget"] = "trained for more steps than the suite allows"
    return tags
