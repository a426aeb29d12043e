"""Reading data: idx files good and bad, the split of examples, MNIST where its files are."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metagym.errors import DataError, InvalidArgumentError
from metagym.problems import make_problem
from metagym.problems.datasets import load_dataset, read_idx, split_indices
from metagym.problems.digits_net import ProjectedDigitsNet

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, count: int = 40, compress: bool = False) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (
        (IMAGES, rng.integers(0, 256, (count, 28, 28))),
        (LABELS, np.arange(count) % 10),
    ):
        content = idx_bytes(array)
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("below", ["", "mnist"])
def test_mnist_is_found_in_the_folder_or_below(tmp_path: Path, below: str, compress: bool) -> None:
    write_mnist(tmp_path / below, compress=compress)
    data = load_dataset("mnist", tmp_path)
    assert data.inputs.shape == (40, 784) and data.inputs.dtype == np.float32
    assert data.inputs.min() >= 0 and data.inputs.max() <= 1
    assert data.labels.tolist() == [i % 10 for i in range(40)] and data.classes == 10
    with pytest.raises(ValueError, match="read-only"):
        data.inputs[0] = 0


def test_mnist_folder_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path)
    monkeypatch.setenv("METAGYM_DATA", str(tmp_path))
    assert len(load_dataset("mnist").labels) == 40
    monkeypatch.delenv("METAGYM_DATA")
    with pytest.raises(DataError, match="set METAGYM_DATA"):
        make_problem("digits_net", dataset="mnist")


def test_a_folder_without_the_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        make_problem("digits_net", dataset="mnist", folder=tmp_path / "nowhere")
    for part in ("nowhere", "METAGYM_DATA", IMAGES, LABELS):
        assert part in str(error.value)


@pytest.mark.parametrize("compress", [False, True])
def test_a_truncated_file_is_refused(tmp_path: Path, compress: bool) -> None:
    write_mnist(tmp_path, compress=compress)
    path = tmp_path / (IMAGES + ".gz" * compress)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=IMAGES):
        load_dataset("mnist", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an idx file"),
        (b"\x89PNG" + bytes(100), "not an idx file"),
        (b"\0\0\x07\x01" + struct.pack(">I", 2) + b"ab", "not an idx file"),
        (b"\0\0\x08\x03" + struct.pack(">I", 2), "truncated or malformed"),
        (b"\0\0\x08\x01" + struct.pack(">I", 3) + b"ab", "shape \\(3,\\) needs 11"),
        (b"\0\0\x08\x01" + struct.pack(">I", 1) + b"ab", "truncated or malformed"),
        (b"\0\0\x08\x03" + struct.pack(">3I", *[2**32 - 1] * 3), "truncated or malformed"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "some-idx"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(path)


def test_what_is_no_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(b"plain text")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(path)


def test_images_and_labels_have_to_belong_together(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / LABELS).write_bytes(idx_bytes(np.zeros(39)))
    with pytest.raises(DataError, match="do not belong together"):
        load_dataset("mnist", tmp_path)


@pytest.mark.parametrize("dtype", [">i2", ">i4", ">f4", ">f8", "u1", "i1"])
def test_idx_types_are_read_back(tmp_path: Path, dtype: str) -> None:
    code = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}[dtype]
    array = np.arange(-3, 3).reshape(2, 3).astype(dtype)
    path = tmp_path / "array-idx"
    path.write_bytes(bytes([0, 0, code, 2]) + struct.pack(">2I", 2, 3) + array.tobytes())
    assert np.array_equal(read_idx(path), array)


@pytest.mark.parametrize("count", [4, 178, 10_000])
def test_splits_partition_the_examples(count: int) -> None:
    parts = split_indices(count)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(count))
    assert list(parts) == ["train", "validation", "test"]
    assert all(np.array_equal(parts[name], split_indices(count)[name]) for name in parts)


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("digits", (1797, 64), 10), ("breast_cancer", (569, 30), 2), ("wine", (178, 13), 3)],
)
def test_tables(name: str, shape: tuple[int, int], classes: int) -> None:
    data = load_dataset(name)
    assert data.inputs.shape == shape and data.classes == classes
    assert set(data.labels.tolist()) == set(range(classes))
    assert load_dataset(name) is data  # once per process


def test_unknown_dataset() -> None:
    with pytest.raises(InvalidArgumentError, match="Did you mean 'digits'"):
        load_dataset("digit")


def test_real_mnist() -> None:
    """The official test files: known counts, and a net that learns from their projections."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("METAGYM_DATA", beside))
    if not any((folder / below / f"{IMAGES}.gz").exists() for below in ("mnist", ".")):
        pytest.skip(f"no MNIST files in {folder}; set METAGYM_DATA")
    data = load_dataset("mnist", folder)
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(data.labels).tolist() == counts
    family = ProjectedDigitsNet(dataset="mnist", folder=folder, fixed=0, examples=200)
    rng = np.random.default_rng(0)
    task = family.sample(rng, 1, "test")
    x = family.initial(task, rng)
    for _ in range(100):
        x -= 0.3 * family.value_and_grad(task, x, rng)[1]
    assert family.accuracy(task, x)[0] > 0.9


def test_importing_the_problems_loads_neither_torch_nor_sklearn() -> None:
    code = (
        "import sys, metagym.problems as p, metagym.problems.datasets;"
        "p.make_problem('logistic'); p.make_problem('test_function'); p.Quadratic;"
        "assert not {'torch', 'sklearn', 'stable_baselines3'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
