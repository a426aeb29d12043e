"""A small site: some rows, one environment, all of the leaderboard."""

from __future__ import annotations

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
    """A finished row whose normalised scores lie around ``skill``; it failed at nothing."""
    rng = np.random.default_rng(0)
    training = changes.pop("training", None)
    privileged = changes.pop("privileged", False)
    entries = []
    for task in suite.tasks:
        for seed in suite.seeds:
            normalised = skill + 0.05 * rng.standard_normal(4)
            scores = task.floor.value + normalised * (task.ceiling.value - task.floor.value)
            result = Result(
                env_id=task.env_id, env_kwargs=dict(task.kwargs), split="test", agent=name,
                agent_config={}, privileged=privileged, training=training, metric=task.metric,
                minimize=task.minimize, scores=scores.tolist(), mean=float(scores.mean()),
                iqm=float(statistics.iqm(scores)), interval=(0.0, 0.0), iqm_interval=(0.0, 0.0),
                returns=[0.0] * 4, lengths=[10] * 4, extras={}, curves=None, seed=seed, num_envs=4,
                env_steps=40, finished=True, wall_time_s=1.0, versions={"metagym": "0.1.0"},
                device="cpu",
            )  # fmt: skip
            entries.append(Entry(task.name, seed, result))
    given = {"agent": name, "command": f"metagym leaderboard run {name} {suite.name}", **changes}
    return Row(suite.name, suite.digest, name, results=tuple(entries), **given)


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    """Four rows of core-v0, of every kind, one by somebody who means harm."""
    suite = make_suite("core-v0")
    trained = {"steps": 24_000_000, "seconds": 300.0}
    return [
        make_row("adam", 0.5, suite, agent="adam:lr=0.1", authors="Kingma"),
        make_row("quadratics", 0.8, suite, training=trained, url="https://example.org/paper"),
        make_row(
            SCRIPT, 0.9, suite, privileged=True, note="<img src=x onerror='window.cracked=1'>",
            url="javascript:window.cracked=1", command=f"run '{SCRIPT}'", agent="random",
        ),
        _failed(make_row("broken", 0.2, suite)),
    ]  # fmt: skip


def _failed(row: Row) -> Row:
    """The row with a failure in the place of its first result."""
    first, *others = row.results
    failure = Failure(first.task, first.seed, "not through after <b>60</b> s")
    return Row(**{**vars(row), "results": tuple(others), "failures": (failure,)})


@pytest.fixture(scope="session")
def site(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a site whose leaderboard is whole; other pages stand for many."""
    for module in ("sphinx", "furo", "myst_parser", "plotly"):
        pytest.importorskip(module, reason="the site needs the extra docs")
    from metagym.site import build, environments
    from metagym.site.board import write_board

    source = tmp_path_factory.mktemp("source")
    build.write_front(source)
    write_board(source / "leaderboard", rows)
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
