"""ImageSet and its cache; choosing tasks and image sets by name."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from metagym.errors import DataError, InvalidArgumentError
from metagym.tasks import TASKS, make_tasks
from metagym.tasks.image_sets import (
    IMAGE_SETS,
    ImageSet,
    cache_folder,
    cached,
    data_folder,
    load_image_set,
    pack,
)

SPLIT = {"train": [2, 0], "validation": [1], "test": [3]}


def toy(value=0):
    rng = np.random.default_rng(value)
    groups = {
        f"alphabet/{i}": rng.integers(0, 256, (2 + i, 4, 4), dtype=np.uint8) for i in range(4)
    }
    return pack("toy", groups, SPLIT)


def test_classes_are_packed_one_after_the_other():
    images = toy()
    assert images.images.shape == (2 + 3 + 4 + 5, 1, 4, 4)
    assert images.counts.tolist() == [2, 3, 4, 5] and images.starts.tolist() == [0, 2, 5, 9]
    assert images.classes == tuple(f"alphabet/{i}" for i in range(4))
    assert {split: classes.tolist() for split, classes in images.split.items()} == SPLIT
    with pytest.raises(ValueError, match="read-only"):
        images.images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        images.split["train"][0] = 1


def test_the_digest_changes_with_everything():
    images = toy()
    assert images.digest == toy().digest != toy(1).digest
    parts = {"images": images.images, "counts": images.counts, "classes": images.classes}
    other = ImageSet("toy", **parts, split={**images.split, "train": np.array([0, 2])})
    assert other.digest != images.digest
    parts["classes"] = ("a", *images.classes[1:])
    assert ImageSet("toy", **parts, split=images.split).digest != images.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((14, 4, 4), np.uint8)}, r"\[N, channels, height, width\]"),
        ({"images": np.zeros((14, 1, 4, 4))}, "float64"),
        ({"images": np.zeros((13, 1, 4, 4), np.uint8)}, "13 images"),
        ({"counts": np.array([0, 5, 4, 5])}, "how many images"),
        ({"classes": ("a", "b")}, "2 names"),
        ({"split": {"train": np.array([0]), "test": np.array([1])}}, "each of train, validation"),
        (
            {"split": {k: np.array([v]) for k, v in zip(SPLIT, (0, 1, 4), strict=True)}},
            "from 0 to 3",
        ),
        (
            {"split": {k: np.array([v]) for k, v in zip(SPLIT, (0, 1, 1), strict=True)}},
            "no class to two",
        ),
    ],
)
def test_parts_that_do_not_fit(changes, message):
    images = toy()
    parts = {name: getattr(images, name) for name in ("images", "counts", "classes", "split")}
    with pytest.raises(InvalidArgumentError, match=message):
        ImageSet("toy", **{**parts, **changes})


def test_images_of_unlike_sizes_are_not_packed():
    groups = {"a": np.zeros((2, 4, 4), np.uint8), "b": np.zeros((2, 5, 4), np.uint8)}
    with pytest.raises(InvalidArgumentError, match="one size"):
        pack("toy", groups, {})
    with pytest.raises(InvalidArgumentError, match="one size"):
        pack("toy", {}, {})


def test_the_cache_makes_once_and_gives_back_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("METAGYM_CACHE", str(tmp_path / "made" / "here"))
    calls = []

    def make():
        calls.append(1)
        return toy()

    first, second = cached("toy-1", make), cached("toy-1", make)
    assert len(calls) == 1 and second.digest == first.digest and second.name == "toy"
    assert second.classes == first.classes
    assert [path.name for path in cache_folder().iterdir()] == ["toy-1.npz"]
    cached("toy-2", make)
    assert len(calls) == 2


def test_a_damaged_cache_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("METAGYM_CACHE", str(tmp_path))
    path = tmp_path / "toy.npz"
    digest = cached("toy", toy).digest
    content = path.read_bytes()
    changed = bytearray(content)
    changed[len(changed) // 3] ^= 0xFF
    for damaged in (b"", b"no archive", content[: len(content) // 2], bytes(changed)):
        path.write_bytes(damaged)
        assert cached("toy", toy).digest == digest
        assert path.read_bytes() == content
    # Whole, but with another content than its checksum says.
    with np.load(path) as file:
        arrays = dict(file)
    arrays["images"] = arrays["images"] ^ 1
    np.savez(path, **arrays)
    assert cached("toy", toy).digest == digest


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("METAGYM_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="set METAGYM_CACHE"):
        assert cached("toy", toy).digest == toy().digest


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("METAGYM_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("METAGYM_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for platform, expected in (
        ("linux", tmp_path / ".cache" / "metagym"),
        ("darwin", tmp_path / "Library" / "Caches" / "metagym"),
    ):
        monkeypatch.setattr(sys, "platform", platform)
        assert cache_folder() == expected
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "metagym"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "metagym"


def test_the_folder_of_data(monkeypatch, tmp_path):
    monkeypatch.setenv("METAGYM_DATA", str(tmp_path))
    assert data_folder(None, "x.zip") == tmp_path
    assert data_folder(tmp_path / "mine", "x.zip") == tmp_path / "mine"
    monkeypatch.delenv("METAGYM_DATA")
    with pytest.raises(DataError, match=r"Set METAGYM_DATA.*x\.zip"):
        data_folder(None, "x.zip")


# -- by name -----------------------------------------------------------------------------------


def test_tasks_by_name(tmp_path):
    assert set(TASKS) == {"sinusoid", *IMAGE_SETS}
    sinusoid = make_tasks("sinusoid", shots=3, device="cpu")
    assert sinusoid.name == "sinusoid 3-shot"
    digits = make_tasks("digits", size=8, ways=3, shots=2, queries=4, device="cpu")
    assert digits.input_shape == (1, 8, 8) and digits.support == 6
    assert digits.name == "digits 3-way 2-shot"
    assert load_image_set("digits", size=8).digest == digits.images.digest


def test_every_image_set_has_tasks_and_digits_fit_by_default(tmp_path):
    for name in IMAGE_SETS:
        factory = importlib.import_module("metagym.tasks.episodes")
        parameters = inspect.signature(getattr(factory, name)).parameters
        assert parameters["ways"].default == (3 if name == "digits" else 5)
    digits = make_tasks("digits", size=8, device="cpu")
    assert digits.ways == 3 and digits.name == "digits 3-way 1-shot"
    assert digits.sample(2, "test", torch.Generator().manual_seed(0)).support_x.shape[1] == 3


def test_names_and_arguments_that_are_not_there():
    with pytest.raises(InvalidArgumentError, match="'omniglot'"):
        make_tasks("omniglott")
    with pytest.raises(InvalidArgumentError, match="Did you mean 'ways'"):
        make_tasks("digits", way=3)
    with pytest.raises(InvalidArgumentError, match="needs the argument 'folder'"):
        make_tasks("folder", ways=3)
    with pytest.raises(InvalidArgumentError, match="image set 'digits' has no argument 'ways'"):
        load_image_set("digits", ways=3)


def test_the_table_of_tasks_does_not_load_torch():
    code = "import sys, metagym.tasks as t; t.TASKS; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout.strip() == "False"
