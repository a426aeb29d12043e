"""experiments/speed.py and its parts: what is timed, and the arithmetic on it."""

from __future__ import annotations

import contextlib
import importlib
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from metagym.architectures import Evaluation, Evaluator
from metagym.architectures.cell201 import CONV_3X3, Cell201
from metagym.errors import InvalidArgumentError

FOLDER = Path(__file__).parent.parent / "experiments"


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("speed")


def test_environments_and_training(
    speed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = speed.training
    monkeypatch.setattr(training, "SIZES", dict.fromkeys(training.SIZES, ((4, 4),)))
    rate = speed.environments.rate
    monkeypatch.setattr(speed.environments, "rate", lambda step, steps: rate(step, steps // 20))
    config = speed.Config(
        parts=("environments", "training"), out=tmp_path, repetitions=1, training_repetitions=1,
        growth_steps=2048, max_envs=4,
    )  # fmt: skip
    speed.main(config)
    results = json.loads((tmp_path / "speed.json").read_text())
    assert [row["num_envs"] for row in results["table"]] == [1, 4]
    assert results["batch_1024_over_kernel"]["median"] > 0
    assert (tmp_path / "speed.png").stat().st_size > 10_000
    assert "bytes/env" in capsys.readouterr().out


def test_few_shot(
    speed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few_shot = speed.few_shot
    small = (("mlp", "maml", 2, 1), ("mlp", "fomaml", 2, 1), ("max", "maml", 1, 1))
    monkeypatch.setattr(few_shot, "CASES", tuple(few_shot.Case(*case) for case in small))
    monkeypatch.setattr(few_shot, "GPU_CASES", ())
    speed.main(speed.Config(parts=("few_shot",), out=tmp_path, few_shot_repetitions=2))
    results = json.loads((tmp_path / "speed.json").read_text())
    rows = results["few_shot"]
    assert [row["default"] for row in rows][-1] == "loop"
    assert rows[-1]["default_over_loop"]["range"] == [1.0, 1.0]
    assert results["vmapped_fomaml_over_loop"] == rows[1]["vmap_over_loop"]
    assert all(rate["range"][0] > 0 for row in rows for rate in row["tasks_per_second"].values())
    assert "default / loop" in capsys.readouterr().out


def test_clocks_count_children_and_not_what_comes_before_them(
    speed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock of its own: starting takes 100 s, an epoch of a costly child 2 s."""
    search, clock, made = speed.search, [0.0], []

    class Trainer(contextlib.nullcontext):  # type: ignore[type-arg]
        def __init__(self, epochs: int, workers: int = 1, pool: str = "") -> None:
            super().__init__(self)
            self.epochs, self.workers, self.started = epochs, workers, False
            made.append((pool, workers))

        def records(self, tokens: np.ndarray) -> list[dict[str, float]]:
            clock[0] += 0.0 if self.started else 100.0
            self.started = True
            costs = [2.0 * self.epochs * (row.max() == CONV_3X3) for row in tokens]
            clock[0] += sum(costs) / (1 if self.workers == 1 else 1.6)
            return [{"seconds": cost} for cost in costs]

        def evaluate(self, tokens: np.ndarray) -> Any:
            return SimpleNamespace(cost=[record["seconds"] for record in self.records(tokens)])

    def seconds(work: Any) -> float:
        start = clock[0]
        work()
        return clock[0] - start

    fakes = {"evaluator": Trainer, "seconds": seconds, "pools": lambda: ["processes", "ray"],
             "batch": lambda: 3e6, "sync": lambda: 3e3}  # fmt: skip
    for name, fake in fakes.items():
        monkeypatch.setattr(search, name, fake)
    speed.main(speed.Config(parts=("search",), out=tmp_path, search_repetitions=2))
    results = json.loads((tmp_path / "speed.json").read_text())
    assert results["tokens_1024_over_sync"]["median"] == 1000.0
    assert results["child"] == {"epochs": 3, "seconds": [6.0] * 16}  # 1.2 · 5 s, 2 s an epoch
    for pool in ("processes", "ray"):
        ratio = results[f"children_{pool}_2_over_1"]
        assert ratio["median"] == pytest.approx(1.6)
        assert ratio["rates"] == pytest.approx([16.0, 10.0])
        assert [workers for name, workers in made if name == pool] == [2, 1, 2, 1]
    assert "3,000,000 tokens/s" in capsys.readouterr().out


def test_what_writes_tokens_writes_other_architectures_all_the_time(
    speed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All tokens are legal, and each step of each row writes one."""
    search = speed.search
    space = Cell201()
    assert len({space.canonical(row) for row in search.costly(6)}) == 6
    assert len({space.canonical(row) for row in search.cheap(4)}) == 4
    costs = np.bincount(search.costly(6).ravel(), minlength=5)
    assert costs.tolist() == [0, 0, 6, 30, 0]
    written: list[np.ndarray] = []

    class Table(Evaluator):
        name = "table"
        space = Cell201()

        def evaluate(self, tokens: np.ndarray, seeds: Any = None) -> Evaluation:
            written.append(tokens.copy())
            return Evaluation(*np.ones((3, len(tokens))))

    monkeypatch.setattr(search.gym, "make_vec", partial(search.gym.make_vec, evaluator=Table()))
    assert search.batch(8, 120) > 0  # and 12 before the clock starts
    assert [len(tokens) for tokens in written] == [8] * (132 // 6)
    assert len(np.unique(np.concatenate(written), axis=0)) > 150
    assert search.sync(2, 6) > 0
    with pytest.raises(InvalidArgumentError, match="from 1 to 6"):
        search.measure(1, 7, 5.0)
