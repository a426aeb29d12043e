"""What a table shows of a row: scores with intervals, their aggregates, and what it all cost."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from metagym.evaluation import aggregate
from metagym.evaluation.statistics import estimate
from metagym.evaluation.suites import Suite, SuiteTask
from metagym.leaderboard.play import trains
from metagym.loading import agent_names, split_arguments

if TYPE_CHECKING:
    from metagym.leaderboard.rows import Row

STATISTICS = ("mean", "median", "iqm", "optimality_gap")


def summarise(row: Row, suite: Suite) -> dict[str, Any]:
    """The summary of a finished row, JSON-able; what nobody knows is None.

    A task's intervals are over runs; those of the aggregates come from runs resampled within each
    task. Runs that failed count with the floor, and in aggregates no score counts less. Seconds are
    those of the machine that made the row. Beside what is in the row there are

        kind             "trained", "hand-designed" or "unknown" (somebody's class)
        tuned            whether settings were chosen for the environments
        trainings        how many there were for a task; one checkpoint that plays five runs is one
        own_budget       whether a training was longer than the suite's
        coverage         [runs that did not fail, all runs], tasks times seeds
        training_seconds, training_steps    what was learned on, tuning included
        tasks[name]      score and normalised, [value, low, high], None where every run failed;
                         failed, runs; steps_to_target {"median", "reached"}, see ``_to_target``

    Raises:
        RowError: a task and seed is missing.
    """
    raw, normalised, scores = row.raw_scores(suite), row.normalised_scores(suite), row.scores(suite)
    results = [entry.result for entry in row.results]
    cost = training_cost(row, suite)
    return {
        **{name: getattr(row, name) for name in (
            "name", "agent", "suite", "ruleset", "authors", "note", "url", "command",
        )},
        "kind": _kind(row),
        "tuned": _is_tuned(row),
        "trainings": _trainings(row, suite),
        "own_budget": _has_own_budget(row, suite),
        "coverage": [len(results), raw.size],
        "privileged": any(result.privileged for result in results),
        "commit": _join(result.git_commit for result in results),
        "versions": {
            name: _join(result.versions.get(name) for result in results)
            for name in sorted({name for result in results for name in result.versions})
        },
        "device": _join(result.device for result in results),
        "wall_time_s": sum(r.wall_time_s for r in results) + sum(f.seconds for f in row.failures),
        "env_steps": sum(result.env_steps for result in results),
        "training_seconds": cost["seconds"],
        "training_steps": cost["steps"],
        "failures": [vars(failure) for failure in row.failures],
        "aggregate": {
            name: list(aggregate.aggregate_interval(scores, getattr(aggregate, name)))
            for name in STATISTICS
        },
        "profile": {
            "thresholds": aggregate.THRESHOLDS.tolist(),
            "fractions": aggregate.performance_profile(scores).tolist(),
        },
        "tasks": {
            task.name: _task(row, task, raw[:, i], normalised[:, i])
            for i, task in enumerate(suite.tasks)
        },
    }  # fmt: skip


def training_cost(row: Row, suite: Suite) -> dict[str, float | None]:
    """Seconds and steps of training, or of tuning with the training in it; None if unknown.

    What several results share, such as one checkpoint for all tasks, counts once. Nobody learns
    anything for a held-out variant.
    """
    learned_from = {task.name for task in suite.tasks if not task.held_out}
    results = [entry.result for entry in row.results if entry.task in learned_from]
    if row.ruleset == "external-tuning":
        records = [result.agent_config.get("tuning") for result in results]
    else:
        records = [result.training for result in results]
    if _kind(row) == "hand-designed" and row.ruleset != "external-tuning":
        return {"seconds": 0.0, "steps": 0.0}
    different = {json.dumps(record, sort_keys=True): record or {} for record in records}
    found: dict[str, list[Any]] = {
        name: [record.get(name) for record in different.values()] for name in ("seconds", "steps")
    }
    known = {
        name: len(costs) > 0 and _kind(row) != "unknown" and None not in costs
        for name, costs in found.items()
    }
    return {name: float(sum(costs)) if known[name] else None for name, costs in found.items()}


# -- the inside --------------------------------------------------------------------------------


def _kind(row: Row) -> str:
    if trains(row.agent) or any(entry.result.training for entry in row.results):
        return "trained"
    return "hand-designed" if split_arguments(row.agent)[0] in agent_names() else "unknown"


def _is_tuned(row: Row) -> bool:
    configs = [entry.result.agent_config for entry in row.results]
    return row.ruleset == "external-tuning" or any(c.get("tuned_for") is not None for c in configs)


def _trainings(row: Row, suite: Suite) -> int | None:
    """Different trainings of a task, the fewest of all tasks; what comes trained shows its weights.

    Runs that failed cannot be counted: only the tasks with the fewest of them are looked at.
    """
    counts = []
    for task in suite.tasks:
        results = [entry.result for entry in row.results if entry.task == task.name]
        trained = [result for result in results if result.training]
        seeds = {(result.training or {}).get("seed") for result in trained} - {None}
        weights = {result.agent_config.get("weights") for result in trained} - {None}
        told_by = [seeds] if trains(row.agent, task) else [seeds, weights]
        if trained:
            count = min((len(found) for found in told_by if found), default=1)
            counts.append((len(suite.seeds) - len(results), count))
    return min(counts)[1] if counts else None


def _has_own_budget(row: Row, suite: Suite) -> bool:
    """Whether somebody trained for longer than the suite says for the task."""
    # What a run trains is trained for as long as the suite says, up to the end of a rollout.
    budgets = {
        task.name: suite.task(task.variant_of or task.name).training_steps
        for task in suite.tasks
        if not trains(row.agent, task)
    }
    return any(
        ((entry.result.training or {}).get("steps") or 0) > budgets.get(entry.task, math.inf)
        for entry in row.results
    )


def _task(row: Row, task: SuiteTask, raw: np.ndarray, normalised: np.ndarray) -> dict[str, Any]:
    failed = sum(failure.task == task.name for failure in row.failures)
    played = failed < len(raw)
    return {
        "score": list(estimate(raw)) if played else None,
        "normalised": list(estimate(normalised)) if played else None,
        "failed": failed,
        "runs": len(raw),
        "steps_to_target": None if task.target is None else _to_target(row, task, failed),
    }


def _to_target(row: Row, task: SuiteTask, failed: int) -> dict[str, float | None]:
    """The median of the steps to the target, and the share of the episodes that reached it.

    A group of episodes none of which gets there is slower than any that does, and so are the
    episodes of a run that failed: the median is None where it falls on one of them.
    """
    missing = failed * (task.episodes // task.group)
    steps, reached = [np.inf] * missing, [0.0] * missing
    for entry in row.results:
        if entry.task == task.name:
            extras = entry.result.extras
            shares = extras["target_reached"]
            reached += shares
            steps += [
                step if share else np.inf
                for step, share in zip(extras["steps_to_target"], shares, strict=True)
            ]
    median = float(np.median(steps))
    return {
        "median": median if np.isfinite(median) else None,
        "reached": float(np.mean(reached)),
    }


def _join(values: Iterable[str | None]) -> str:
    """The different values, of which there is hopefully one."""
    return ", ".join(sorted({value for value in values if value is not None}))
