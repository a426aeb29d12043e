"""A small site: some rows, one environment, all of the leaderboard."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metagym.evaluation import Result, statistics
from metagym.evaluation.suites import Suite, make_suite
from metagym.leaderboard import Entry, Failure, Row

SCRIPT = "<script>window.cracked = 1</script>"
NAVIGATION = "metagym.envs.meta_navigation:MetaNavigation2DEnv"
_OTHERS = (
    "agents/index", "tutorials/index", "experiments/README", "experiments/SUPERVISED",
    "experiments/board/README",
)  # fmt: skip


def make_row(name: str, skill: float, suite: Suite, **changes: Any) -> Row:
    """A finished row whose normalised scores lie around ``skill``; it failed at nothing.

    ``config``, ``training`` and ``privileged`` are those of all its results; a training that has no
    seed has that of the run.
    """
    rng = np.random.default_rng(0)
    training = changes.pop("training", None)
    config, privileged = changes.pop("config", {}), changes.pop("privileged", False)
    entries = []
    for task in suite.tasks:
        for run, seed in enumerate(suite.seeds):
            normalised = skill + 0.05 * rng.standard_normal(4)
            scores = task.floor.value + normalised * (task.ceiling.value - task.floor.value)
            target = {"steps_to_target": [40.0] * 4, "target_reached": [max(skill, 0.0)] * 4}
            result = Result(
                env_id=task.env_id, env_kwargs=dict(task.kwargs), split="test", agent=name,
                agent_config=dict(config), privileged=privileged, metric=task.metric,
                training=None if training is None else {"seed": run, **training},
                minimize=task.minimize, scores=scores.tolist(), mean=float(scores.mean()),
                iqm=float(statistics.iqm(scores)), interval=(0.0, 0.0), iqm_interval=(0.0, 0.0),
                returns=[0.0] * 4, lengths=[10] * 4, curves=None,
                extras={} if task.target is None else target, seed=seed, num_envs=4,
                env_steps=40, finished=True, wall_time_s=1.0, versions={"metagym": "0.1.0"},
                device="cpu",
            )  # fmt: skip
            entries.append(Entry(task.name, seed, result))
    given = {"agent": name, "results": tuple(entries), **changes}
    return Row(suite.name, suite.digest, name, **given)


def fail(row: Row, *tasks: str) -> Row:
    """The row with a failure in place of the first run, and of all runs of these tasks."""
    first = row.results[0]
    kept = tuple(e for e in row.results if e is not first and e.task not in tasks)
    failures = tuple(
        Failure(entry.task, entry.seed, "not through after <b>60</b> s", 60.0)
        for entry in row.results if entry not in kept
    )  # fmt: skip
    return dataclasses.replace(row, results=kept, failures=failures)


@pytest.fixture(scope="session")
def content() -> list[tuple[Suite, list[Row]]]:
    """Rows of every kind, one by somebody who means harm, on a suite without rules and on another
    with two rulesets."""
    core, optimize = make_suite("core-v0"), make_suite("optimize-v0")
    trained = {"steps": 24_000_000, "seconds": 300.0}
    space = {"lr": [0.01, 0.1], "decay": [None]}
    first = [
        make_row("adam", 0.5, core, agent="adam:lr=0.1", authors="Kingma"),
        make_row(
            "quadratics", 0.8, core, training={**trained, "seed": 0},
            url="https://example.org/paper",
        ),
        make_row(
            SCRIPT, 0.9, core, privileged=True, note="<img src=x onerror='window.cracked=1'>",
            url="javascript:window.cracked=1", agent="random",
        ),
        fail(make_row("broken", 0.2, core, agent="mine:Broken"), "maze"),
    ]  # fmt: skip
    second = [
        make_row("as it is", 0.4, optimize, agent="adam", ruleset="self-tuning"),
        make_row("worse, self-tuning", -2.0, optimize, agent="sgd", ruleset="self-tuning"),
        make_row(
            "searched", 0.7, optimize, agent="rmsprop", ruleset="external-tuning", space=space,
            config={"tuning": {"steps": 1000, "seconds": 7200.0}},
        ),
    ]  # fmt: skip
    return [(core, first), (optimize, second)]


@pytest.fixture(scope="session")
def site(content: list[tuple[Suite, list[Row]]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a site whose leaderboard is whole; other pages stand for many."""
    for module in ("sphinx", "furo", "myst_parser", "plotly"):
        pytest.importorskip(module, reason="the site needs the extra docs")
    from metagym.site import build, environments
    from metagym.site.board import write_board

    source = tmp_path_factory.mktemp("source")
    build.write_front(source)
    write_board(source / "leaderboard", content)
    (source / "environments").mkdir()
    ids = environments.classes()[NAVIGATION]
    environments.write_environment(source / "environments", NAVIGATION, ids)
    (source / "environments" / "index.md").write_text(
        "# Environments\n\n```{toctree}\nmeta-navigation\n```\n"
    )
    for page in _OTHERS:
        (source / page).parent.mkdir(parents=True, exist_ok=True)
        (source / page).with_suffix(".md").write_text(f"# {page}\n")
    out = tmp_path_factory.mktemp("site") / "site"
    build.render(source, out)
    return out
