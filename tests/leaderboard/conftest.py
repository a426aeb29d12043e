"""A suite of a third party that is played in no time, and rows on it."""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metagym import loading
from metagym.checkpoint import load_checkpoint, save_checkpoint
from metagym.core.optimization import OptimizationEnv
from metagym.evaluation.suites import Anchor, Suite, SuiteTask
from metagym.leaderboard import Row
from metagym.leaderboard import run as run_module
from metagym.leaderboard.child import ChildError, one_line
from tests.leaderboard.agents import Still

STEPS = 1000


@dataclass(frozen=True)
class ToyConfig:
    size: float = 0.125


def small_task(name: str, dim: int, **more: Any) -> SuiteTask:
    return SuiteTask(
        name, "LearnToOptimize-v0", {"dim": dim, "horizon": 3, "dtype": "float64"},
        episodes=12, group=2, metric=OptimizationEnv.score_name, minimize=True,
        floor=Anchor("standing still", 2.0), ceiling=Anchor("loss of zero", -12.0, exact=True),
        training_steps=STEPS, **more,
    )  # fmt: skip


@pytest.fixture
def suite() -> Suite:
    tasks = (small_task("wide", 4, variant_of="narrow"), small_task("narrow", 2, target=0.0))
    return Suite("tiny-v0", "Two tasks, one of them held out.", tasks, (10, 11, 12, 13, 14))


@pytest.fixture
def tuned_suite(suite) -> Suite:
    rules = {"rulesets": ("self-tuning", "external-tuning"), "tuning_trials": 3}
    return dataclasses.replace(suite, name="tuned-v0", **rules)


@pytest.fixture
def here(monkeypatch) -> None:
    """Jobs run in the process of the test, which is faster."""

    def call(work, items, seconds, workers):
        for item in items:
            try:
                answer = work(item)
            except Exception as error:
                answer = ChildError(one_line(error))
            yield item, answer, 0.5

    monkeypatch.setattr(run_module, "call_in_children", call)


@pytest.fixture
def toy(monkeypatch) -> None:
    """Something that is trained: its steps are its ``size``, the seed tells trainings apart."""
    module = types.ModuleType("toy_trainer")

    def train(env_id, out, config, *, seed, steps, env_kwargs, progress):
        config = {"agent": "toy", "env_id": env_id, "env_kwargs": env_kwargs, **asdict(config)}
        training = {"seed": seed, "steps": steps, "seconds": 1.0}
        step = config["size"] * (1 + seed)
        save_checkpoint(out, {**config, "step": step, "training": training}, {"w": np.ones(1)})

    def load(folder):
        saved = load_checkpoint(folder).config
        agent = Still(saved["step"])
        agent.training = saved["training"]
        return agent

    vars(module).update(Config=ToyConfig, train=train, load=load)
    monkeypatch.setitem(sys.modules, "toy_trainer", module)
    monkeypatch.setitem(loading.TRAINED, "toy", "toy_trainer")


@pytest.fixture
def make_row(suite, tmp_path, here, monkeypatch) -> Callable[..., Row]:
    """``make_row(agent)``: a finished row of a clean tree."""
    from metagym.evaluation import results

    monkeypatch.setattr(results, "git_state", lambda: ("abc1" * 10, False))

    def make(agent: str = "tests.leaderboard.agents:Still", **options: Any) -> Row:
        out = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        return run_module.run_suite(agent, suite, out, progress=False, **options)

    return make


@pytest.fixture
def suite_file(suite, tmp_path) -> Path:
    path = tmp_path / "tiny.json"
    path.write_text(suite.to_json())
    return path
