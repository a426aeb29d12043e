"""The layout that every trainer writes, read back; and ``metagym monitor``."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as layouts
from tensorboard.plugins.hparams import metadata as hparams

from metagym import cli, tensorboard
from metagym.agents import validation
from metagym.loading import trainer
from metagym.monitoring import RunLogger
from metagym.tensorboard import serve, tag_name

pytestmark = pytest.mark.usefixtures("painted_figures")

BANDIT = {"ceiling", "baseline_ucb1", "baseline_thompson"}
SEARCH = {"ceiling", "baseline_random_search"}
UPDATES = {"baseline_sgd", "baseline_momentum", "baseline_adam"}
OPTIMIZE, TASK = "LearnToOptimize-v0", {"dim": 2, "horizon": 3}
# What is trained where, its settings, steps, arguments of the environment; lines beside the score.
RUNS: dict[str, tuple[str, dict[str, Any], int, dict[str, Any], set[str]]] = {
    "ppo": (
        OPTIMIZE,
        {"num_envs": 4, "num_steps": 5, "minibatch_size": 20, "epochs": 1, "hidden": (4,),
         "critic_hidden": (4,)},
        40, TASK, UPDATES | {"baseline_barzilai_borwein"},
    ),
    "reinforce": (
        OPTIMIZE, {"num_envs": 4, "hidden": (4,)}, 24, TASK,
        UPDATES | {"baseline_barzilai_borwein"},
    ),
    "rl2": ("MetaBandit-v0", {"width": 4, "num_envs": 4, "minibatch": 4}, 20, {"n": 5}, BANDIT),
    "controller": (
        "NeuralArchitectureSearch-v0", {"num_envs": 4, "width": 4}, 48, {}, SEARCH,
    ),
    "l2l": (
        OPTIMIZE, {"num_envs": 4, "width": 4, "validate_every": 1, "validation_problems": 4,
                   "unroll": 3},
        24, TASK, UPDATES,
    ),
    "black_box_rnn": (
        "BlackBoxOptimize-v0",
        {"num_envs": 4, "width": 4, "validate_every": 1, "validation_problems": 4},
        24, TASK, {"baseline_random_search", "baseline_one_plus_one_es"},
    ),
    "maml": (
        "sinusoid", {"hidden": (4,), "eval_every": 1, "eval_tasks": 4}, 2, {"shots": 5},
        {"ceiling", "baseline_support_mean"},
    ),
    "prototypical": (
        "digits", {"eval_every": 1, "eval_tasks": 4, "meta_batch": 2}, 2, {"ways": 2},
        {"baseline_chance"},
    ),
    "multitask_hard": (
        "related", {"eval_every": 1, "twins": False}, 2, {}, {"baseline_constant"},
    ),
    "dann": (
        "gaussians", {"hidden": (4,), "batch": 8}, 2, {}, {"baseline_commonest_class"},
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def few_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at four validation tasks is as good as one at many here."""
    made = validation.Validation.__init__
    monkeypatch.setattr(
        validation.Validation, "__init__", lambda self, *args: made(self, *args, episodes=4)
    )


def train(name: str, out: Path, *, times: int = 1, resume: bool = False, **settings: Any) -> Path:
    env, fields, steps, kwargs, _ = RUNS[name]
    module = trainer(name)
    recipe = module.recipe(env) if hasattr(module, "recipe") else module.Config()
    config = type(recipe)(**{**vars(recipe), **fields, **settings})
    found: Path = module.train(
        env, out, config, steps=times * steps, resume=resume, env_kwargs=kwargs, progress=False
    )
    return found


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()


def charts(events: EventAccumulator) -> dict[str, list[str]]:
    """The patterns of tags in every chart of CUSTOM SCALARS, by the chart's title."""
    (event,) = events.Tensors(layouts.CONFIG_SUMMARY_TAG)
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    return {
        chart.title: list(chart.multiline.tag) for part in layout.category for chart in part.chart
    }


def settings_of(events: EventAccumulator) -> dict[str, Any]:
    """The run's row in HPARAMS."""
    content = events.PluginTagToContent(hparams.PLUGIN_NAME)[hparams.SESSION_START_INFO_TAG]
    found = hparams.parse_session_start_info_plugin_data(content).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()}


@pytest.mark.parametrize("name", RUNS)
def test_every_trainer_writes_the_layout(name: str, tmp_path: Path) -> None:
    events = read(train(name, tmp_path / "run"))
    env, fields, _, _, lines = RUNS[name]
    tags = set(events.Tags()["scalars"])
    found = {tag.removeprefix("eval/") for tag in tags if re.fullmatch(r"eval/\w+", tag)}
    assert found == {"score"} | lines
    shown = charts(events)
    for title, patterns in shown.items():
        for pattern in patterns:
            assert any(re.match(pattern, tag) for tag in tags), title
    matching = {tag for tag in tags if re.match(shown["score, ceiling and baselines"][0], tag)}
    assert matching == {f"eval/{line}" for line in found}
    steps = [event.step for event in events.Scalars("eval/score")]
    assert steps == sorted(set(steps))
    assert {event.step for event in events.Images("eval/figure")} == set(steps)
    row = settings_of(events)
    assert row["agent"] == name and row["env"] == env and row["seed"] == 0
    for setting in fields.keys() - {"twins"}:  # which is of the command, not of the run
        value = fields[setting]
        assert row[setting] == (str(value) if isinstance(value, tuple) else value)
    folders = {path.name for path in (tmp_path / "run").iterdir() if path.is_dir()}
    assert folders <= {"by_cost"}


def test_every_task_has_a_chart(tmp_path: Path) -> None:
    events = read(train("multitask_hard", tmp_path / "run"))
    names = {tag.split("/")[1] for tag in events.Tags()["scalars"] if tag.endswith("/score")}
    tasks = set(charts(events)) - {"score, ceiling and baselines"}
    assert len(tasks) > 1 and {tag_name(task) for task in tasks} == names - {"score"}
    for name in map(tag_name, tasks):
        assert f"eval/{name}/baseline_constant" in events.Tags()["scalars"]


@pytest.mark.parametrize("name", ["ppo", "controller"])
def test_a_resumed_run_goes_on_in_the_same_charts_with_its_own_settings(
    name: str, tmp_path: Path
) -> None:
    train(name, tmp_path / "run")
    time.sleep(1.0)  # event files are read in the order of their names, which hold the second
    events = read(train(name, tmp_path / "run", times=2, resume=True, learning_rate=0.5))
    for tag in ("eval/score", "rollout/ep_rew_mean"):
        steps = [event.step for event in events.Scalars(tag)]
        assert steps == sorted(set(steps)) and steps[-1] == 2 * RUNS[name][2], tag
    assert len(charts(events)) == 1
    assert settings_of(events)["learning_rate"] == 0.5
    texts = events.Tensors("hyperparameters/text_summary")
    assert [text.step for text in texts] == [0, RUNS[name][2] + 1]


def test_names_of_tasks_and_baselines_become_tags(tmp_path: Path) -> None:
    with RunLogger(tmp_path, {}, tasks=["y / 2"]) as log:
        log.evaluation(3, 0.5, ceiling=1.0, baselines={"k-NN": 0.25}, task="y / 2")
    events = read(tmp_path)
    start = "eval/y_2/"
    tags = set(events.Tags()["scalars"])
    assert tags == {start + "score", start + "ceiling", start + "baseline_k_NN"}
    (pattern,) = charts(events)["y / 2"]
    assert all(re.match(pattern, tag) for tag in tags)


class TensorBoard:
    """In place of the process: it ends with ``code``, or by Ctrl-C where that is None."""

    code: int | None = 0
    seen: list[Any]

    def __init__(self, command: list[str]) -> None:
        type(self).seen = [command]

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self) -> int:
        if self.code is None:
            raise KeyboardInterrupt
        return self.code

    def terminate(self) -> None:
        self.seen.append("terminated")


def test_monitor_starts_tensorboard_and_ends_by_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tensorboard.subprocess, "Popen", TensorBoard)
    with RunLogger(tmp_path / "run", {}) as log:
        log.scalar("train/loss", 1.0, 1)
    monkeypatch.setattr(TensorBoard, "code", None)
    cli.main(["monitor", str(tmp_path), "--port", "7007"])
    command, end = TensorBoard.seen
    assert command[1:] == ["-m", "tensorboard.main", "--logdir", str(tmp_path), "--port", "7007"]
    assert end == "terminated"
    monkeypatch.setattr(TensorBoard, "code", 255)
    with pytest.raises(SystemExit):
        cli.main(["monitor", str(tmp_path)])
    assert "--port" not in TensorBoard.seen[0]
    assert "TensorBoard ended with code 255" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"), [("", r"No event file \(\*tfevents\*\)"), ("no", "There is no folder")]
)
def test_monitor_needs_event_files(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(OSError, match=message):
        serve(tmp_path / name)
