"""The scripts of experiments/ run, in miniature; what they print is theirs."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

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


def test_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speed = load("speed")
    speed.main(speed.Config(out=tmp_path, repetitions=1, growth_steps=2048, max_envs=4))
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
