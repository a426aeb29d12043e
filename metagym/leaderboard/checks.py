"""Whether what the results of a row say of themselves is what the suite and the ruleset ask for."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np

import metagym
from metagym.agents.optimizers import GRIDS
from metagym.evaluation.results import Result, jsonable
from metagym.evaluation.statistics import bootstrap_interval, iqm, mean
from metagym.evaluation.suites import Suite, SuiteTask
from metagym.leaderboard.play import trains
from metagym.leaderboard.rows import Entry, Row
from metagym.leaderboard.tuning import FIELD_DEFAULTS, fault_of

# Exact ceilings that no episode can pass; an optimum is one of the mean over episodes.
_BOUNDS = {"loss of zero", "minimum of f", "no error", "all right", "best in the table"}
LUCK = 6  # standard errors by which an honest mean may pass an exact ceiling
_SHOWN = 5  # places that a message names before it says how many more


def check_results(row: Row, suite: Suite, *, any_version: bool) -> list[str]:
    """What is wrong with the results of a row, one line for each thing with the places where it is.

    Args:
        row: which one.
        suite: the row's.
        any_version: whether it may come from another version of metagym.
    """
    tasks = {task.name: task for task in suite.tasks}
    runs = {seed: run for run, seed in enumerate(suite.seeds)}
    places: dict[str, list[str]] = {}
    for i, entry in enumerate(row.results):
        if entry.task not in tasks or entry.seed not in runs:
            continue  # which ``find_places`` says
        task, run = tasks[entry.task], runs[entry.seed]
        problems = [
            *_find_strangeness(entry, task, any_version),
            *_find_learning(entry.result, task, row, suite, run),
        ]
        for problem in problems:
            place = f"results[{i}] ({entry.task} seed {entry.seed})"
            places.setdefault(problem, []).append(place)
    wrong = [f"{problem} in {some_of(found)}." for problem, found in places.items()]
    wrong += _find_oracles(row, suite)
    commits = sorted({str(entry.result.git_commit) for entry in row.results})
    if len(commits) > 1:
        wrong.append(f"its results come from {len(commits)} commits: {some_of(commits)}.")
    return wrong


def some_of(names: Iterable[str]) -> str:
    """The first names of a list, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


# -- the inside --------------------------------------------------------------------------------


def _find_strangeness(entry: Entry, task: SuiteTask, any_version: bool) -> Iterator[str]:
    """How a result differs from one of the task's."""
    result = entry.result
    for field in ("env_id", "group", "metric", "minimize"):  # which both call by one name
        if getattr(result, field) != getattr(task, field):
            yield f"{field} is not the suite's"
    if result.env_kwargs != jsonable(task.kwargs):
        yield "env_kwargs are not the suite's"
    if result.split != "test":
        yield "split is not 'test'"
    if result.seed != entry.seed:
        yield "seed is not the evaluation's"
    if len(result.scores) * task.group != task.episodes:
        yield "the number of episodes is not the suite's"
    # Rows of a batch: with the seed they determine the tasks.
    rows = task.num_envs or min(task.episodes, 1024 if task.kind == "environment" else 100)
    if result.num_envs != rows:
        yield "num_envs is not the suite's"
    if task.target is not None and not {"steps_to_target", "target_reached"} <= set(result.extras):
        yield "extras has no steps_to_target, or no target_reached"
    if not result.finished:
        yield "finished is not true"
    if result.git_dirty is not False:
        yield "git_dirty is not false (commit what is changed, and run from a checkout)"
    if not re.fullmatch("[0-9a-f]{40}", result.git_commit or ""):
        yield "git_commit is no commit, 40 hexadecimal digits"
    if not any_version and result.versions.get("metagym") != metagym.__version__:
        yield f"versions.metagym is not {metagym.__version__}"
    for name, statistic in (("interval", mean), ("iqm_interval", iqm)):
        low, high = bootstrap_interval(result.scores, statistic)
        # Loosely: another numpy may draw other resamples.
        slack = 0.25 * (high - low) + 1e-6 * max(abs(low), abs(high), 1e-3)
        if not np.allclose(getattr(result, name), (low, high), rtol=0.0, atol=slack):
            yield f"{name} is not that of the scores"
    slowest = max(result.extras.get("steps_to_target", []), default=0)
    if slowest and (horizon := _horizon(task)) is not None and slowest > horizon + 1 + 1e-6:
        yield f"extras.steps_to_target has more than horizon + 1 = {horizon + 1} steps"
    if _is_bounded(task) and max(map(task.normalise, result.scores)) > 1 + 1e-6:
        yield f"a score is better than the ceiling, {task.ceiling.what}"


def _is_bounded(task: SuiteTask) -> bool:
    return task.ceiling.exact and task.ceiling.what in _BOUNDS


def _horizon(task: SuiteTask) -> int | None:
    """Steps of an episode, as the task, its registration or its class says; None if nobody does."""
    spec = gym.registry.get(task.env_id)
    if spec is None or spec.vector_entry_point is None:
        return task.kwargs.get("horizon")
    creator: Any = spec.vector_entry_point
    if isinstance(creator, str):
        creator = gym.envs.registration.load_env_creator(creator)
    own = inspect.signature(creator).parameters.get("horizon")
    default = None if own is None or own.default is own.empty else own.default
    horizon: int | None = {"horizon": default, **spec.kwargs, **task.kwargs}["horizon"]
    return horizon


@np.errstate(over="ignore", invalid="ignore")  # a lie has any size
def _find_oracles(row: Row, suite: Suite) -> Iterator[str]:
    """Where an agent without the mark of an oracle is better than the best that can do without.

    A single episode, or some, may be lucky; the mean of all is held against its standard error.
    """
    if any(entry.result.privileged for entry in row.results):
        return
    for task in suite.tasks:
        results = [entry.result for entry in row.results if entry.task == task.name]
        scores = np.array([task.normalise(score) for result in results for score in result.scores])
        if len(scores) < 2 or not task.ceiling.exact or _is_bounded(task):
            continue
        excess, error = scores.mean() - 1, scores.std(ddof=1) / np.sqrt(len(scores))
        if excess > 0 and not excess <= LUCK * error + 1e-6:
            yield (
                f"its mean on {task.name} is better than the exact ceiling, {task.ceiling.what}, "
                f"by more than {LUCK} standard errors: an agent that sees the task or the state of "
                "the environment has to set privileged = True."
            )


def _find_learning(
    result: Result, task: SuiteTask, row: Row, suite: Suite, run: int
) -> Iterator[str]:
    """What was trained or tuned otherwise than the ruleset and the number of the run say."""
    config = result.agent_config
    if trains(row.agent, task) and (result.training or {}).get("seed") != run:
        yield "training.seed is not the number of the run"
    if row.ruleset == "self-tuning":
        if "tuning" in config or config.get("tuned_for") is not None:
            yield "the agent was tuned for the task"
        if not FIELD_DEFAULTS.get(row.agent, {}).items() <= config.items():
            yield f"agent_config has not the field's defaults of {row.agent}"
    space = row.space or GRIDS.get(row.agent)
    if row.ruleset == "external-tuning" and not task.held_out and space is not None:
        fault = fault_of(config.get("tuning"), space, suite.tuning_trials, run, task.minimize)
        if fault:
            yield fault
