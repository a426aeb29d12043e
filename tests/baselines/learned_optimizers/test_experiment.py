"""experiments/l2l.py in miniature: every part, and a second call that computes nothing."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from metagym.baselines.learned_optimizers.train import LSTMLearner
from metagym.errors import InvalidArgumentError

SCRIPT = Path(__file__).parents[3] / "experiments" / "l2l.py"


@pytest.fixture
def l2l(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with runs of four steps and nothing to tune."""
    spec = importlib.util.spec_from_file_location("experiments_l2l", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look it up
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HORIZON", 4)
    monkeypatch.setattr(module, "tune", lambda *_, **__: {})
    return module


@pytest.mark.parametrize("part", ["quadratics", "net", "mnist"])
def test_a_part_is_computed_once(
    part: str,
    l2l: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = l2l.Config(parts=(part,), out=tmp_path, seconds=0.05, episodes=2, data="digits")
    found = l2l.main(config)[part]
    text = (tmp_path / "table.md").read_text()
    first = next(iter(found))
    rl = "quadratics" if part == "quadratics" else "minibatch"
    for name, kind in (("l2l", "supervision"), ("adam", "hand"), (rl, "RL")):
        assert f"| {name} | {kind} |" in text
    assert "Images: digits" in text and f"- {first}: l2l minus" in text
    saved = json.loads((tmp_path / "results.json").read_text())[part][first]["results"]
    assert {result["agent"] for result in saved} >= {"l2l", "l2l as published", "sgd", "rmsprop"}
    assert (tmp_path / "curves.png").is_file()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("this had been computed")

    monkeypatch.setattr(l2l, "compare", refuse)
    monkeypatch.setattr(LSTMLearner, "episode", refuse)
    capsys.readouterr()
    again = l2l.main(config)[part]
    assert [r.scores for r in again[first].results] == [r.scores for r in found[first].results]
    assert (tmp_path / "table.md").read_text() == text


def test_bad_choices_are_named(l2l: ModuleType, tmp_path: Path) -> None:
    for wrong in ({"parts": ("net", "cifar")}, {"data": "cifar"}):
        with pytest.raises(InvalidArgumentError, match="cifar"):
            l2l.main(l2l.Config(out=tmp_path, **wrong))
    with pytest.raises(InvalidArgumentError, match="not both"):
        l2l.main(l2l.Config(out=tmp_path, quick=True, full=True))
