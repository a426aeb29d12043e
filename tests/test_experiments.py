"""The scripts of experiments/ run, in miniature; what they print is theirs."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from metagym.agents import rl2

FOLDER = Path(__file__).parent.parent / "experiments"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"experiments_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo = load("demo")
    demo.main(demo.Config(seconds=1.0, episodes=16, iterations=5))
    demo.main(demo.Config(seconds=1.0, episodes=16, iterations=5))  # a second run finds a free name
    for run in ("demo", "demo-2"):
        assert (tmp_path / "runs" / run / "demo.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "learned by PPO" in printed and "test accuracy" in printed


def test_speed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    speed = load("speed")
    monkeypatch.setattr(speed, "SIZES", dict.fromkeys(speed.SIZES, ((4, 4),)))
    speed.main(
        speed.Config(
            out=tmp_path, repetitions=1, training_repetitions=1, growth_steps=2048, max_envs=4
        )
    )
    results = json.loads((tmp_path / "speed.json").read_text())
    assert [row["num_envs"] for row in results["table"]] == [1, 4]
    assert results["batch_1024_over_kernel"]["median"] > 0
    assert "bytes/env" in capsys.readouterr().out


def test_quadratics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quadratics = load("quadratics")
    monkeypatch.setattr(quadratics, "tune", lambda *_, **__: {})
    config = quadratics.Config(out=tmp_path, checkpoints=("quadratics",), episodes=64)
    quadratics.main(config)
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) == {"published", "100", "1000", "dim 30"}
    assert (tmp_path / "curves.png").is_file()
    assert "published -1.39" in capsys.readouterr().out


@pytest.fixture
def tiny_rl2(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = rl2.Config(num_envs=4, minibatch=4, epochs=1, width=8)
    monkeypatch.setattr(rl2, "recipe", lambda env_id: tiny)


def test_rl2_bandits(tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_rl2: None) -> None:
    bandits = load("rl2_bandits")
    config = bandits.Config(cells=("10,5",), out=tmp_path, seconds=0.1, trials=1000, tuning=200)
    bandits.main(config)
    table = (tmp_path / "table.md").read_text()
    assert "*ceiling (exact)* | 6.6600" in table
    assert all(f"| 10,5 | {name} |" in table for name in ("gittins", "ucb1", "rl2"))
    again = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*.json"))
    bandits.main(config)  # nothing is computed again
    assert (tmp_path / "table.md").read_text() == table
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")) == again


def test_rl2_mdps(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_rl2: None,
) -> None:
    mdps = load("rl2_mdps")
    monkeypatch.setattr(mdps, "AGENTS", {n: mdps.AGENTS[n] for n in ("psrl", "mdp_greedy")})
    config = mdps.Config(out=tmp_path, seconds=0.1, trials=40, tuning_trials=8)
    mdps.main(config)
    table = (tmp_path / "table.md").read_text()
    assert all(f"| 10 | {name} |" in table for name in ("psrl", "mdp_greedy", "rl2"))
    assert "SNAIL's normaliser" in table
    capsys.readouterr()
    mdps.main(config)
    assert (tmp_path / "table.md").read_text() == table
    assert "MetaTabularMDP-v0" not in capsys.readouterr().out  # which names what is computed


def test_rl2_mazes(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_rl2: None,
) -> None:
    mazes = load("rl2_mazes")
    monkeypatch.setattr(mazes, "MAZES", 8)
    config = mazes.Config(quick=True, out=tmp_path, seconds=0.1)
    mazes.main(config)
    table = (tmp_path / "table.md").read_text()
    assert "| shortest_path (sees the maze) |" in table and "rl2 (trained on 5 × 5)" in table
    assert len(list(tmp_path.glob("*/*-n2.json"))) == 10
    capsys.readouterr()
    mazes.main(config)  # nothing is computed again
    assert capsys.readouterr().out == table


def test_recurrent_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recurrent_cell = load("recurrent_cell")
    path = tmp_path / "text.txt"
    path.write_text("\n".join(["abba" * 4, "baab" * 3] * 20))
    config = recurrent_cell.Config(
        out=tmp_path / "out", data=path, children=3, search_symbols=500, search_parameters=2000,
        finalists=2, parameters=3000, epochs=1, seeds=2, learning_rate=0.01,
    )  # fmt: skip
    rows = recurrent_cell.main(config)
    assert [row["name"] for row in rows[:3]] == ["RNN", "GRU", "LSTM"] and len(rows) == 6
    printed = capsys.readouterr().out
    assert recurrent_cell.main(config) == rows  # from the cache, seconds included
    assert capsys.readouterr().out == printed
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())["rows"]) == 6
