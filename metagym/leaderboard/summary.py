"""What a table shows of a row: scores with intervals, their aggregates, and what it all cost."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from metagym.evaluation import aggregate
from metagym.evaluation.statistics import estimate
from metagym.evaluation.suites import Suite, SuiteTask

if TYPE_CHECKING:
    from metagym.leaderboard.rows import Row

STATISTICS = ("mean", "median", "iqm", "optimality_gap")


def summarise(row: Row, suite: Suite) -> dict[str, Any]:
    """The summary of a finished row, JSON-able.

    A task's intervals are over runs; those of the aggregates come from runs resampled within each
    task. Runs that failed count with the floor. Seconds are those of the machine that made the row.

    Raises:
        RowError: a task and seed is missing.
    """
    scores, raw = row.scores(suite), row.raw_scores(suite)
    results = [entry.result for entry in row.results]
    cost = training_cost(row, suite)
    return {
        **{name: getattr(row, name) for name in (
            "name", "agent", "suite", "ruleset", "authors", "note", "url", "command",
        )},
        "privileged": any(result.privileged for result in results),
        "commit": _join(result.git_commit for result in results),
        "versions": {
            name: _join(result.versions.get(name) for result in results)
            for name in sorted({name for result in results for name in result.versions})
        },
        "device": _join(result.device for result in results),
        "wall_time_s": sum(result.wall_time_s for result in results),
        "env_steps": sum(result.env_steps for result in results),
        "training_seconds": cost["seconds"],
        "training_steps": cost["steps"],
        "failures": [
            {"task": failure.task, "seed": failure.seed, "error": failure.error}
            for failure in row.failures
        ],
        "aggregate": {
            name: list(aggregate.aggregate_interval(scores, getattr(aggregate, name)))
            for name in STATISTICS
        },
        "profile": {
            "thresholds": aggregate.THRESHOLDS.tolist(),
            "fractions": aggregate.performance_profile(scores).tolist(),
        },
        "tasks": {
            task.name: _task(row, task, raw[:, i], scores[:, i])
            for i, task in enumerate(suite.tasks)
        },
    }  # fmt: skip


def training_cost(row: Row, suite: Suite) -> dict[str, float]:
    """Seconds and steps of training, or of tuning with the training in it.

    What several results share, such as one checkpoint for all tasks, counts once. Nobody learns
    anything for a held-out variant.
    """
    learned_from = {task.name for task in suite.tasks if not task.held_out}
    records = [
        entry.result.agent_config.get("tuning") or entry.result.training
        for entry in row.results if entry.task in learned_from
    ]  # fmt: skip
    different = {json.dumps(r, sort_keys=True): r for r in records if isinstance(r, dict)}
    return {
        name: sum(r[name] for r in different.values() if isinstance(r.get(name), (int, float)))
        for name in ("seconds", "steps")
    }


def _task(row: Row, task: SuiteTask, raw: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    steps = [
        step
        for entry in row.results if entry.task == task.name
        for step in entry.result.extras.get("steps_to_target", [])
    ]  # fmt: skip
    return {
        "score": list(estimate(raw)),
        "normalised": list(estimate(scores)),
        "steps_to_target": float(np.mean(steps)) if steps else None,
        "failed": any(failure.task == task.name for failure in row.failures),
    }


def _join(values: Iterable[str | None]) -> str:
    """The different values, of which there is hopefully one."""
    return ", ".join(sorted({value for value in values if value is not None}))
