"""Suites are frozen, can be played, and say what the environments say."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from metagym.baselines.few_shot.base import score_name
from metagym.core import BatchedEnv
from metagym.errors import DataError, InvalidArgumentError
from metagym.evaluation.evaluate import make_vector_env
from metagym.evaluation.suites import SUITES, Suite, SuiteError, SuiteTask, make_suite
from metagym.planning.bandits import bayes_optimal
from metagym.tasks import make_tasks

SCRIPT = Path(__file__).parents[2] / "experiments" / "anchor_suites.py"

# A suite that is out never changes: a change is a new version, with a line of its own.
DIGESTS = {
    "core-v0": "836b9981b849227f704dcd16d7d23899fa29f6cc80b240314e9c204e20ccb82e",
    "optimize-v0": "7d61556f23c6c8f251c7fe02cefea287ca654c42576d2c09239905d5e489cd69",
    "search-v0": "c5d243c5f87bc4e5b58be7166b94a4e2bc450fa8e78b76c554a6b4b53b5361ff",
    "adapt-v0": "5d316809e9fc43207b0a09c743c0719adda13ca8db5399003b3666df29b4cf4e",
    "few-shot-v0": "728fd781ecf6106e4edece29e53221e16081f7b4ba8626871bb44fc725f97e67",
}

TASKS = [(name, task) for name in SUITES for task in make_suite(name).tasks]
every_task = pytest.mark.parametrize(
    "task", [pytest.param(task, id=f"{name}-{task.name}") for name, task in TASKS]
)


@pytest.fixture(scope="module")
def anchors() -> ModuleType:
    spec = importlib.util.spec_from_file_location("anchor_suites", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_suites_that_are_out_do_not_change():
    assert {name: make_suite(name).digest for name in SUITES} == DIGESTS


@every_task
def test_a_task_can_be_made_and_says_what_the_environment_says(
    task: SuiteTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    if task.needs is not None:  # it fails with an error that says what to fetch
        monkeypatch.delenv("METAGYM_DATA", raising=False)
        with pytest.raises(DataError, match="METAGYM_DATA"):
            make(task)
        return
    metric = make(task)
    assert metric == (task.metric, task.minimize)


def make(task: SuiteTask) -> tuple[str, bool]:
    """The metric of a task that was made, and whether a smaller score is better."""
    if task.kind == "few_shot":
        kind = make_tasks(task.env_id, **task.kwargs).kind
        return score_name(kind), kind == "regression"
    env = make_vector_env(task.env_id, 1, "test", dict(task.kwargs))
    assert isinstance(env, BatchedEnv)
    env.close()
    return env.score_name, env.score_minimize


@every_task
def test_the_scale_runs_from_floor_to_ceiling(task: SuiteTask) -> None:
    assert task.normalise(task.floor.value) == 0.0
    assert task.normalise(task.ceiling.value) == 1.0
    better = task.ceiling.value + (-1 if task.minimize else 1)
    assert task.normalise(better) > 1.0  # not clipped
    if task.target is not None:  # it is neither given at the start nor out of reach
        logarithmic = task.metric.startswith("log10")
        level = task.target if logarithmic else 10**task.target
        assert 0.0 < task.normalise(level) < 1.0
    assert 4 <= task.episodes // task.group <= 10  # so many scores has a Result


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_has_its_name_and_enough_seeds(name: str) -> None:
    suite = make_suite(name)
    assert suite.name == name and suite.split == "test" and len(suite.seeds) >= 5
    assert Suite.from_json(suite.to_json()) == suite
    names = {task.env_id for task in suite.tasks}
    assert len(names) > 1


def test_variants_are_those_that_were_drawn_and_are_no_other_task(anchors: ModuleType) -> None:
    suite = make_suite("optimize-v0")
    variants = {task.variant_of: task for task in suite.tasks if task.held_out}
    drawn = anchors.draw_variants(suite)
    assert variants.keys() == drawn.keys()
    played = [json.dumps([task.env_id, task.kwargs], sort_keys=True) for task in suite.tasks]
    assert len(set(played)) == len(played)
    for name, task in variants.items():
        assert dict(task.kwargs) == drawn[name]
        assert task.env_id == suite.task(name).env_id


def test_what_anchors_are_called_is_known_and_exact_ones_are_computed(anchors: ModuleType) -> None:
    for _, task in TASKS:
        for anchor in (task.floor, task.ceiling):
            assert anchor.exact == (anchor.what in anchors.COMPUTED)
            assert anchor.exact or anchor.what in anchors.MEASURED
    bandit = make_suite("core-v0").task("bandit").ceiling
    assert bandit.value == pytest.approx(bayes_optimal(10, 5).value, rel=1e-6)


def test_anchors_can_be_measured_again(
    anchors: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    for suite, name in (("core-v0", "bandit"), ("few-shot-v0", "sinusoid_10_shot")):
        task = make_suite(suite).task(name)
        assert anchors.anchored(task, make_suite(suite).seeds) == task
    anchors.main(anchors.Config(suites=("few-shot-v0",), tasks=("sinusoid_5_shot",)))
    assert "few-shot-v0 sinusoid_5_shot: floor" in capsys.readouterr().out


def test_the_known_optimum_is_that_of_the_tasks_that_are_played(anchors: ModuleType) -> None:
    task = SuiteTask(
        "walk", "MetaNavigation2D-v0", {"n": 2}, 8, 2, "return", False,
        anchors.Anchor("random", -1.0), anchors.Anchor("optimum, the task known", 0.0), 1,
    )  # fmt: skip
    straight = anchors.play("straight_to_goal", task, 3)
    assert anchors.known_optimum(task, 3) == pytest.approx(straight.mean, rel=0.05)
    assert anchors.known_optimum(task, 3) >= straight.mean - 1e-5


# -- files of others ---------------------------------------------------------------------------


def core() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(make_suite("core-v0").to_json())
    return values


def changed(path: str, value: Any) -> str:
    """core-v0 with one field changed; ``path`` as in error messages, behind "suite."."""
    values = here = core()
    *parts, last = path.replace("[", ".").replace("]", "").split(".")
    for part in parts:
        here = here[int(part) if part.isdigit() else part]
    here[int(last) if last.isdigit() else last] = value
    return json.dumps(values)


def test_a_suite_of_somebody_else_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(changed("name", "mine-v3"))
    mine = make_suite(path)
    assert mine.name == "mine-v3" and mine.tasks == make_suite("core-v0").tasks
    assert mine.digest != make_suite("core-v0").digest
    values = core()
    path = tmp_path / "copy.json"
    path.write_text(json.dumps(dict(reversed(values.items())), indent=7))
    assert make_suite(str(path)).digest == make_suite("core-v0").digest


def test_two_suites_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "core-v0.json"
    path.write_text(changed("time_limit", 1e6))
    with pytest.raises(SuiteError, match=r"core-v0\.json calls itself 'core-v0'"):
        make_suite(path)


def test_names_that_are_none() -> None:
    with pytest.raises(InvalidArgumentError, match="Did you mean 'core-v0'"):
        make_suite("core-v1")
    with pytest.raises(InvalidArgumentError, match="Did you mean 'bandit'"):
        make_suite("core-v0").task("bandits")
    with pytest.raises(SuiteError, match=r"nowhere\.json"):
        make_suite("nowhere.json")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("tasks[2].floor.value", "high", r"suite\.tasks\[2\]\.floor\.value has to be of"),
        ("tasks[2].floor.value", float("nan"), "no JSON: NaN is no number"),
        ("tasks[2].training_steps", 1.5, "has to be of type int, not 1.5"),
        ("tasks[3].floor.value", 1e9, r"tasks\[3\]\.floor\.value has to be worse"),
        ("tasks[0].floor.value", -13.0, r"tasks\[0\]\.floor\.value has to be worse"),
        ("tasks[1].episodes", 199, "no multiple of group=20"),
        ("tasks[1].group", 0, r"tasks\[1\]\.group has to be at least 1"),
        ("tasks[1].training_steps", True, r"training_steps has to be of type int, not True"),
        ("tasks[1].kind", "game", "'environment', 'few_shot'"),
        ("tasks[1].name", "quadratics", "two tasks of one name"),
        ("tasks[1].variant_of", "nothing", "variant_of has to name a task"),
        ("tasks[1].kwargs", [], "kwargs has to be of type dict"),
        ("tasks[1].flor", {}, "has no field 'flor'. Did you mean 'floor'"),
        ("tasks", {}, "suite.tasks has to be a list"),
        ("tasks", [], "no task"),
        ("seeds", [0, 0], "different seeds"),
        ("seeds", [-1], "below 0"),
        ("split", "train", "suite.split='train' is not one of 'test'"),
        ("rulesets", ["best"], "self-tuning, external-tuning"),
        ("rulesets", ["external-tuning"], "tuning_trials"),
        ("time_limit", 0, "positive"),
        ("format", 2, "this metagym reads 1"),
    ],
)
def test_what_a_suite_cannot_say_is_refused_with_its_path(
    path: str, value: Any, message: str
) -> None:
    with pytest.raises(SuiteError, match=message):
        Suite.from_json(changed(path, value))


def test_a_missing_field_and_what_is_no_suite() -> None:
    values = core()
    del values["tasks"][0]["metric"]
    with pytest.raises(SuiteError, match=r"suite\.tasks\[0\] lacks the field 'metric'"):
        Suite.from_json(json.dumps(values))
    for text in ("{", "[1]", "null"):
        with pytest.raises(SuiteError, match="suite"):
            Suite.from_json(text)


def test_normalise_takes_arrays() -> None:
    task = make_suite("core-v0").task("quadratics")
    ends = np.array([task.floor.value, task.ceiling.value])
    np.testing.assert_allclose(task.normalise(ends), [0.0, 1.0])  # type: ignore[arg-type]
