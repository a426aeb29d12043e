"""The experiment of multi-task learning: it runs, goes on where it was, and shows what it found."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from metagym.errors import InvalidArgumentError
from metagym.evaluation.results import Result

FOLDER = Path(__file__).parents[1] / "experiments"


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)  # scripts import what they share from beside them
    spec = importlib.util.spec_from_file_location("experiments_multitask", FOLDER / "multitask.py")
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, made)
    spec.loader.exec_module(made)
    monkeypatch.setattr(made, "RATES", (0.01,))
    return made


def _config(module, out, **kwargs):
    fields = {"sets": ("cancer and diabetes, blocks",), "architectures": ("hard",),
              "weightings": ("uniform", "mgda"), "similarities": (0.5,), "seeds": (0, 1),
              "steps": 4}  # fmt: skip
    return module.Config(out=out, **fields | kwargs)


def test_it_runs_once_and_writes_what_it_printed(module, tmp_path, capsys, monkeypatch):
    results, knob = module.main(_config(module, tmp_path))
    printed = capsys.readouterr().out
    table = (tmp_path / "table.md").read_text()
    assert all(line in printed for line in table.splitlines())
    assert "| hard | mgda |" in table
    assert (tmp_path / "similarity.png").stat().st_size > 5000
    content = json.loads((tmp_path / "results.json").read_text())
    records = [Result.from_values(x) for x in content["results"]]
    assert len(records) == 2 * 2 + 4  # networks × tasks, and the synthetic ones
    gains = results["cancer and diabetes, blocks"]["hard", "mgda"]
    assert records[2].mean == pytest.approx(gains.gain("breast cancer").value)
    assert gains.crossed
    assert (records[2].seed, records[2].extras["seed"]) == (0, [0, 1])
    assert not knob["hard"][0.5].crossed

    def fail(*_, **__):
        raise AssertionError("this run is there already")

    for name in ("train_multitask", "train_twins"):
        monkeypatch.setattr(module, name, fail)
    again, _ = module.main(_config(module, tmp_path))
    for name in gains.kinds:
        found = again["cancer and diabetes, blocks"]["hard", "mgda"]
        np.testing.assert_array_equal(found.ours[name], gains.ours[name])
    with pytest.raises(InvalidArgumentError, match=r"other settings \(steps\)"):
        module.main(_config(module, tmp_path, steps=5))
    monkeypatch.setitem(module.LOOP, "batch", 10)
    with pytest.raises(InvalidArgumentError, match=r"other settings \(batch\)"):
        module.main(_config(module, tmp_path))


def test_what_is_broken_off_goes_on(module, tmp_path, monkeypatch):
    config = _config(module, tmp_path, similarities=(), seeds=(0,))
    original, calls = module.train_multitask, []

    def broken(*arguments, **kwargs):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **kwargs)

    monkeypatch.setattr(module, "train_multitask", broken)
    with pytest.raises(KeyboardInterrupt):
        module.main(config)
    module.main(config)
    assert len(calls) == 4  # hard sharing to tune, uniform, which broke off and came again, mgda


def test_soft_sharing_stands_there_without_weightings_of_gradients(module, tmp_path):
    config = _config(module, tmp_path, architectures=("hard", "soft"), similarities=(), seeds=(0,))
    results, _ = module.main(config)
    assert list(results["cancer and diabetes, blocks"]) == [
        ("hard", "uniform"), ("hard", "mgda"), ("soft", "uniform"),
    ]  # fmt: skip
    with pytest.raises(InvalidArgumentError, match="nothing to compare"):
        module.main(_config(module, tmp_path, architectures=("soft",), weightings=("mgda",)))


@pytest.mark.parametrize(
    "fields", [{"architectures": ("hart",)}, {"weightings": ("mgd",)}, {"sets": ("cancre",)}]
)
def test_bad_selections_are_named(module, tmp_path, fields):
    with pytest.raises(InvalidArgumentError, match=next(iter(fields))):
        module.main(_config(module, tmp_path, **fields))
