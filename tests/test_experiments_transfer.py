"""Experiments on transfer without networks, in miniature: what they write, reuse and refuse."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import Normalizer

from metagym.errors import InvalidArgumentError

FOLDER = Path(__file__).parent.parent / "experiments"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)  # scripts import what they share from beside them

    def load(name):
        spec = importlib.util.spec_from_file_location(f"experiments_{name}", FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look it up
        spec.loader.exec_module(module)
        return module

    return load


def test_importance_weighting(load, tmp_path, capsys, monkeypatch):
    script = load("importance_weighting")
    monkeypatch.setattr(script, "JUDGED", 500)
    few = (script.NONE, script.TRUE, "LSIF", "two Gaussians")
    monkeypatch.setattr(script, "ESTIMATORS", {name: script.ESTIMATORS[name] for name in few})
    config = script.Config(out=tmp_path, dimensions=(2,), sizes=(30,), seeds=(0, 1))
    results = script.main(config)[2][30]
    assert results[script.NONE]["ratio"] == pytest.approx([1.0, 1.0])  # the unit of the measure
    assert results[script.TRUE]["ratio"] == pytest.approx([0.0, 0.0]) and set(results) == set(few)
    assert "| LSIF | " in capsys.readouterr().out
    assert (tmp_path / "importance_weighting.png").stat().st_size > 10_000
    assert script.main(config)[2][30] == results
    monkeypatch.setitem(script.ESTIMATORS, "LSIF", lambda truth: script.LSIF(folds=3))
    with pytest.raises(InvalidArgumentError, match=r"other settings \(LSIF\)"):
        script.main(config)


def test_transfer_office(load, tmp_path, capsys, monkeypatch):
    folder = Path(os.environ.get("METAGYM_DATA", FOLDER.parent.parent / "shared" / "data"))
    if not (folder / "office_caltech").is_dir():
        pytest.skip(f"no files of Office+Caltech in {folder}; set METAGYM_DATA")
    script = load("transfer_office")
    monkeypatch.setattr(script, "PAIRS", (("caltech", "amazon"), ("amazon", "caltech")))
    config = script.Config(out=tmp_path, data=folder, methods=("1-NN, z",), draws=1)
    results = script.main(config)
    assert capsys.readouterr().out.count("| exactly |") == 1  # as in print
    assert script.main(config) == results
    monkeypatch.setitem(script.METHODS, "1-NN, z", (Normalizer("l2"),))
    with pytest.raises(InvalidArgumentError, match=r"other settings \(1-NN, z\)"):
        script.main(config)


def test_tca_toy(load, tmp_path, capsys):
    script = load("tca_toy")
    results = script.main(script.Config(out=tmp_path, seeds=2, examples=100))
    accuracy = {name: np.mean(found["accuracy"]) for name, found in results.items()}
    assert accuracy["TCA"] > accuracy["original space"] > accuracy["PCA"]
    assert "| PCA | " in capsys.readouterr().out
    assert (tmp_path / "tca_toy.png").is_file()
    assert json.loads((tmp_path / "results.json").read_text())["results"]["TCA"] == results["TCA"]
