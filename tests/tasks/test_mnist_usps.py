"""The digits of MNIST and USPS: as many as there should be, upright, and divided."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from metagym.errors import DataError, InvalidArgumentError
from metagym.problems.datasets import load_dataset
from metagym.tasks import mnist_usps as module
from metagym.tasks.domains import make_domains


@pytest.fixture
def folder():
    found = Path(os.environ.get("METAGYM_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (found / "mnist_usps" / module.FILE).is_file():
        pytest.skip(f"no {module.FILE} in {found}; set METAGYM_DATA")
    pytest.importorskip("h5py", reason="needs pip install -e '.[hdf5]'")
    return found


def test_digits_are_there_and_upright(folder):
    parts = module.load_mnist_usps(folder)
    assert {name: x.shape for name, (x, _) in parts.items()} == {
        "mnist": (2000, 256), "usps": (1800, 256),
    }  # fmt: skip
    known = load_dataset("digits")
    wanted = np.stack([known.inputs[known.labels == digit].mean(0) for digit in range(10)])
    wanted -= wanted.mean(0)
    for x, y in parts.values():
        mean = np.stack([x[y == digit].mean(0) for digit in range(10)])
        mean = mean.reshape(10, 8, 2, 8, 2).mean((2, 4))
        mean -= mean.mean(0)  # what tells the digits apart
        turned = [np.rot90(m, k, (1, 2)) for k in range(4) for m in (mean, mean.swapaxes(1, 2))]
        alike = [np.corrcoef(m.reshape(10, 64), wanted)[:10, 10:] for m in turned]
        own = [np.trace(found) for found in alike]
        assert own[0] > max(own[1:]) + 1.0  # as they are, and neither turned nor mirrored
        # Against digits that are numbered otherwise they are less alike.
        assert own[0] > max(np.trace(np.roll(alike[0], k, 1)) for k in range(1, 10)) + 1.0
        with pytest.raises(ValueError, match="read-only"):
            x[0] = 0.0


def test_both_directions(folder):
    there, back = (make_domains(name, folder=folder, shots=3) for name in
                   ("mnist_usps", "usps_mnist"))  # fmt: skip
    assert (len(there.X), len(there.Xt), len(there.X_test)) == (2000, 900, 900)
    assert (len(back.X), len(back.Xt), len(back.X_test)) == (1800, 1000, 1000)
    assert there.image_shape == (16, 16) and there.name == "mnist_usps"
    for pair in (there, back):
        np.testing.assert_array_equal(np.bincount(pair.yt), np.full(10, 3))
        rows = {row.tobytes() for row in pair.Xt}
        assert len(rows) == len(pair.Xt)  # no image twice, so that this says something:
        assert not rows & {row.tobytes() for row in pair.X_test}


def test_without_h5py(folder, monkeypatch):
    module._read.cache_clear()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InvalidArgumentError, match=r"pip install -e '\.\[hdf5\]'"):
        module.load_mnist_usps(folder)


def test_missing_and_malformed_files(tmp_path, monkeypatch):
    monkeypatch.delenv("METAGYM_DATA", raising=False)
    with pytest.raises(DataError, match="METAGYM_DATA"):
        module.load_mnist_usps()
    with pytest.raises(DataError, match="has no MNIST_vs_USPS"):
        module.load_mnist_usps(tmp_path)
    h5py = pytest.importorskip("h5py")
    path = tmp_path / module.FILE
    path.write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="fetch"):
        module.load_mnist_usps(tmp_path)
    for images in (np.zeros((5, 256)), np.full((2000, 256), np.nan)):
        other = tmp_path / str(len(images)) / module.FILE
        other.parent.mkdir()
        with h5py.File(other, "w") as file:
            file["Xs"], file["Ys"] = images, np.ones((1, len(images)))
            file["Xt"], file["Yt"] = np.zeros((1800, 256)), np.ones((1, 1800))
        with pytest.raises(DataError, match="mnist has to be 2000 images"):
            module.load_mnist_usps(other.parent)
