"""What all trainings share: when they save, and what a killed one leaves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metagym.agents import controller, ppo, reinforce, rl2
from metagym.agents.validation import Validation
from metagym.architectures.chain import Chain
from metagym.checkpoint import load_checkpoint
from metagym.errors import CheckpointError
from metagym.monitoring import read_scalars
from metagym.rl import training

SMALL = {"dim": 2, "horizon": 5, "history": 2}
PPO = ppo.Config(
    num_envs=4, num_steps=5, minibatch_size=20, epochs=1, hidden=(8,), critic_hidden=(8,)
)
# By name: the module, what it is told, the steps of an iteration, and a piece of each iteration.
RUNS: dict[str, tuple[Any, dict[str, Any], int, tuple[Any, str]]] = {
    "controller": (
        controller,
        {"env_id": "ToyCellSearch-v0", "config": controller.Config(num_envs=8, width=8)},
        48,
        (controller, "write"),
    ),
    "rl2": (
        rl2,
        {
            "env_id": "MetaBandit-v0",
            "config": rl2.Config(num_envs=8, minibatch=8, width=8),
            "env_kwargs": {"n": 5, "k": 2},
        },
        40,
        (rl2, "play"),
    ),
    "reinforce": (
        reinforce,
        {
            "env_id": "LearnToOptimize-v0",
            "config": reinforce.Config(num_envs=8, hidden=(8,)),
            "env_kwargs": SMALL,
        },
        40,
        (reinforce, "_play"),
    ),
    "ppo": (
        ppo,
        {"env_id": "LearnToOptimize-v0", "config": PPO, "env_kwargs": SMALL},
        20,
        (ppo._Monitor, "_on_rollout_end"),
    ),
}


def train(name: str, out: Path, **kwargs: Any) -> Path:
    module, settings, _, _ = RUNS[name]
    settings = {**settings, "progress": False, **kwargs}
    found: Path = module.train(settings.pop("env_id"), out, **settings)
    return found


@pytest.mark.parametrize("name", RUNS)
def test_what_cannot_be_stored_is_refused_before_the_training(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, settings, steps, piece = RUNS[name]
    monkeypatch.setattr(*piece, lambda *_, **__: pytest.fail("it has been training"))
    if name == "controller":
        kwargs, wrong = {"evaluator": "train", "space": Chain(2)}, "space is of type Chain"
    else:
        odd = "k" if name == "rl2" else "dim"
        kwargs = {**settings["env_kwargs"], odd: np.int64(2)}
        wrong = f"env_kwargs.{odd} is of type int64"
    with pytest.raises(CheckpointError, match=wrong):
        train(name, tmp_path, steps=steps, env_kwargs=kwargs)


@pytest.mark.parametrize("name", RUNS)
def test_a_killed_run_has_lost_what_came_after_its_last_save(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies on the disk at the beginning of the fourth iteration is what SIGKILL leaves."""
    _, _, steps, piece = RUNS[name]
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(Validation, "look", lambda *_: None)
    monkeypatch.setattr(training, "LOOKS", 1e-9)  # those save, too
    cut, killed, calls = tmp_path / "cut", tmp_path / "killed", []
    original = getattr(*piece)

    def watched(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            shutil.copytree(cut, killed)
        return original(*args, **kwargs)

    monkeypatch.setattr(*piece, watched)
    train(name, cut, steps=6 * steps)
    assert load_checkpoint(killed).config["training"]["steps"] == 3 * steps
    train(name, killed, steps=6 * steps, resume=True)
    assert load_checkpoint(killed).config["training"]["steps"] == 6 * steps
    if name != "ppo":  # which has no state of random streams
        whole, resumed = (load_checkpoint(folder).weights for folder in (cut, killed))
        for key, value in whole.items():
            np.testing.assert_array_equal(value, resumed[key])


def test_saves_are_a_minute_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, saves = [0.0], []
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])

    def save() -> None:
        saves.append(clock[0])
        clock[0] += 5.0  # a slow disk does not take more of the time

    saver = training.Saver(save)
    while clock[0] < 200.0:
        saver.now_and_then()
        clock[0] += 1.0
    saver.now()
    assert saves == [0.0, 65.0, 130.0, 195.0, 201.0]


def test_a_resumed_search_keeps_its_chart_over_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An architecture costs more seconds than it has tokens, as one that is trained does."""
    note = controller.note

    def expensive(log: Any, written: Any, *rest: Any) -> None:
        written.infos["cost"] = np.full(8, 1000.0)
        note(log, written, *rest)

    monkeypatch.setattr(controller, "note", expensive)
    train("controller", tmp_path, steps=3 * 48)
    train("controller", tmp_path, steps=5 * 48, resume=True)
    chart = read_scalars(tmp_path)["search/best_reward_by_cost"]
    assert [x for x, _ in chart] == [8000, 16_000, 24_000, 32_000, 40_000]
