"""The controller: it learns a toy, resumes bit for bit, and follows schedules and masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from metagym.agents import controller
from metagym.architectures.chain import Chain, scheduled_depth
from metagym.checkpoint import load_checkpoint
from metagym.errors import CheckpointError, InvalidArgumentError
from metagym.evaluation import evaluate
from metagym.monitoring import read_scalars
from metagym.rl.architecture_reinforce import Critic

CELL, CHAIN = "ToyCellSearch-v0", "ToyChainSearch-v0"  # see conftest.py
SPACE = gym.spec(CHAIN).kwargs["evaluator"].space
FAST = controller.Config(num_envs=16, learning_rate=2e-2, width=16)


def train(out: Path, steps: int, env_id: str = CELL, **kwargs: Any) -> Path:
    return controller.train(
        env_id, out, steps=steps, **{"config": FAST, "progress": False, **kwargs}
    )


@pytest.mark.parametrize(
    "config",
    [
        FAST,
        replace(FAST, baseline="window", memory=50, entropy=0.001),
        replace(FAST, advantage="rank"),
    ],
    ids=["ema", "window", "rank"],
)
def test_it_learns_which_token_is_worth_something(tmp_path: Path, config: Any) -> None:
    out = train(tmp_path, 8_000, config=config)
    trained = evaluate(controller.load(out), CELL, episodes=200)
    assert trained.mean > 0.8  # 0.2 by chance


def test_it_learns_skips_by_attention(tmp_path: Path) -> None:
    out = train(tmp_path, 15_000, CHAIN)
    before = evaluate(controller.load(train(tmp_path / "new", 16, CHAIN)), CHAIN, episodes=200)
    after = evaluate(controller.load(out), CHAIN, episodes=200)
    assert after.mean > before.mean + 0.1


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_checkpoint(folder).weights


def test_a_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 960)
    part = train(tmp_path / "part", 480)
    train(part, 960, resume=True)
    for name, value in weights(whole).items():
        np.testing.assert_array_equal(value, weights(part)[name])
    best = [load_checkpoint(folder).extra()["best"] for folder in (whole, part)]
    assert best[0]["architecture"] == best[1]["architecture"] and best[0]["cost"] == 160.0


def test_ctrl_c_saves_the_last_whole_iteration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, calls = controller.update, []

    def interrupted(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return update(*args)

    monkeypatch.setattr(controller, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 10_000)
    assert load_checkpoint(tmp_path).config["training"]["steps"] == 2 * 16 * 6


def test_the_charts_are_those_of_a_search(tmp_path: Path) -> None:
    scalars = read_scalars(train(tmp_path, 960))
    for tag in ("search/best_reward", "search/best_test", "tokens/entropy_00", "train/baseline"):
        assert scalars[tag]
    costs = [x for x, _ in scalars["search/best_reward_by_cost"]]
    assert costs == [16 * (i + 1) for i in range(10)]
    best = [value for _, value in scalars["search/best_reward"]]
    assert best == sorted(best)


def test_a_schedule_grows_the_chains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "scheduled_depth", lambda count: 2 if count < 32 else 4)
    depths = []
    note = controller.note

    def noting(log: Any, written: Any, *rest: Any) -> None:
        depths.append({len(SPACE.layers(row)) for row in written.tokens.numpy()})
        note(log, written, *rest)

    monkeypatch.setattr(controller, "note", noting)
    config = replace(FAST, schedule=True)
    train(tmp_path, 4 * 16 * SPACE.length // 2, CHAIN, config=config)
    assert depths[:2] == [{2}, {2}] and depths[-1] == {4}
    assert [scheduled_depth(n) for n in (0, 1599, 1600)] == [6, 6, 8]


def test_the_moving_average_and_the_window() -> None:
    ema = Critic(memory=0.5)
    np.testing.assert_allclose(ema.advantages(np.array([1.0, 3.0])), [-1.0, 1.0])
    ema.update(np.array([1.0, 3.0]))
    assert ema.average == 2.0
    window = Critic(baseline="window", memory=2)
    window.update(np.array([9.0, 1.0, 3.0]))
    assert window.average == 2.0
    ranks = Critic(advantage="rank")
    ranks.update(np.array([1.0, 2.0]))
    np.testing.assert_allclose(ranks.advantages(np.array([9.0, 0.0])), [0.75, -0.75])


def test_agents_draw_or_take_the_likeliest(tmp_path: Path) -> None:
    out = train(tmp_path, 96)
    drawn = evaluate(controller.ControllerAgent(out), CELL, episodes=50)
    again = evaluate(controller.ControllerAgent(out), CELL, episodes=50)
    likeliest = evaluate(controller.ControllerAgent(out, stochastic=False), CELL, episodes=50)
    assert drawn.scores == again.scores and len(set(drawn.scores)) > 2
    assert len(set(likeliest.scores)) == 1


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"memory": 1.0}, "memory=1.0"),
        ({"baseline": "window", "memory": 0.95}, "whole number"),
    ],
)
def test_impossible_settings_are_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        controller.Config(**kwargs)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="no architecture search"):
        train(tmp_path, 10, "MetaBandit-v0")
    with pytest.raises(InvalidArgumentError, match="schedule=True"):
        train(tmp_path, 10, config=replace(FAST, schedule=True))
    out = train(tmp_path / "cell", 96)
    with pytest.raises(CheckpointError, match="was trained on"):
        evaluate(controller.load(out), CHAIN, episodes=2)
    with pytest.raises(CheckpointError):
        train(tmp_path / "nothing", 96, resume=True)


def test_a_schedule_needs_chains_that_can_grow() -> None:
    with pytest.raises(InvalidArgumentError, match=r"all have 3 layers.*shortest < depth"):
        controller.check_schedule(replace(FAST, schedule=True), Chain(3), "ChainSearch-v0")
    controller.check_schedule(replace(FAST, schedule=True), Chain(3, shortest=2), "ChainSearch-v0")
    controller.check_schedule(FAST, Chain(3), "ChainSearch-v0")
