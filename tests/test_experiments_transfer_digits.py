"""experiments/transfer_digits.py in miniature: what it writes, and that it goes on."""

import dataclasses
import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from metagym.errors import CheckpointError, InvalidArgumentError

FOLDER = Path(__file__).parent.parent / "experiments"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)  # it imports what it shares from beside it
    spec = importlib.util.spec_from_file_location("transfer_digits", FOLDER / "transfer_digits.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_crossed_intervals(script):
    """Seeds that agree leave the variance of images; images that agree that of seeds."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2, 400).astype(float)
    found = script.estimate_crossed(np.tile(images, (5, 1)))
    wanted = 1.96 * images.std() / 20
    assert (found.high - found.low) / 2 == pytest.approx(wanted, rel=0.1)
    seeds = np.repeat(np.arange(8.0)[:, None], 300, axis=1)
    found = script.estimate_crossed(seeds)
    wanted = 1.96 * np.arange(8.0).std() / np.sqrt(8)
    assert (found.high - found.low) / 2 == pytest.approx(wanted, rel=0.1)


def test_it_runs_and_goes_on(script, tmp_path, capsys, monkeypatch):
    folder = Path(os.environ.get("METAGYM_DATA", FOLDER.parent.parent / "shared" / "data"))
    if not (folder / "mnist_usps").is_dir():
        pytest.skip(f"no files of MNIST and USPS in {folder}; set METAGYM_DATA")
    pytest.importorskip("h5py", reason="needs pip install -e '.[hdf5]'")
    config = script.Config(
        out=tmp_path, folder=folder, directions=("mnist_usps",), seeds=(0, 1), iterations=3,
        methods=("fine-tuned", "DANN", script.SKYLINE), batch=4, shots=2,
    )  # fmt: skip
    scores = script.main(config)
    assert list(scores["mnist_usps"]) == ["source only", "DANN", "fine-tuned", script.SKYLINE]
    assert scores["mnist_usps"]["DANN"].shape == (2, 900)
    results = json.loads((tmp_path / "results.json").read_text())["accuracy"]["mnist_usps"]
    assert results["source only"]["difference"]["value"] == 0.0
    assert {"table.md", "transfer_digits.png"} <= {path.name for path in tmp_path.iterdir()}
    assert len(list((tmp_path / "runs").glob("*.json"))) == 8
    capsys.readouterr()
    # What is done is read; a lost Result is judged anew from its checkpoint.
    (tmp_path / "runs" / "mnist_usps-DANN-seed1.json").unlink()
    again = script.main(config)
    for label, found in scores["mnist_usps"].items():
        np.testing.assert_array_equal(again["mnist_usps"][label], found)
    for other in ({"iterations": 4}, {"batch": 5}, {"shots": 3}):
        with pytest.raises(InvalidArgumentError, match=rf"other settings \({next(iter(other))}\)"):
            script.main(dataclasses.replace(config, **other))
    (tmp_path / "runs" / "mnist_usps-source_only-seed0.json").unlink()
    with pytest.raises(CheckpointError, match="batch was 4, not 5"):  # nor is a checkpoint reused
        script.main(dataclasses.replace(config, batch=5))
