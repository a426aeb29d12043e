"""digits201: the table, its file, its evaluator, and the script that builds it."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from metagym.architectures import digits201
from metagym.architectures.cell201 import COUNT, Cell201
from metagym.architectures.digits201 import (
    MISSING,
    PATH,
    Digits201,
    DigitsTable,
    checksum,
    load_table,
    save_table,
)
from metagym.errors import CheckpointError, DataError, InvalidArgumentError

SCRIPT = Path(__file__).parents[2] / "experiments" / "build_digits_table.py"
SPACE = Cell201()
CLASSES = 3  # of the tables that are built here
TINY = {
    "train_images": 40, "validation_images": 100, "channels": 2, "cells": 1, "seeds": 2,
    "epochs": 2, "batch_size": 20,
}  # fmt: skip


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("experiments_build_digits_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def build(script, monkeypatch):
    """Build a table in a folder, one class after the other in this process."""

    def here(config, missing, total):
        script.work(config.out, missing, config.training)

    def run(folder, classes=CLASSES, **changes):
        training = script.Training(**TINY | changes)
        return script.build(script.Config(folder, classes=classes, training=training))

    monkeypatch.setattr(script, "train_missing", here)
    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)


@pytest.fixture
def table():
    """A made-up table of all classes: 2 seeds, 4 epochs, every number another one where it can."""
    rng = np.random.default_rng(0)
    classes = SPACE.classes()
    number = classes.max() + 1
    return DigitsTable(
        rows=classes.astype(np.uint16),
        right=rng.integers(0, 400, (number, 2, 4, 2)).astype(np.uint16),
        parameters=rng.integers(0, 10**5, number).astype(np.uint32),
        flops=rng.integers(0, 10**6, number).astype(np.uint32),
        seconds=rng.random(number).astype(np.float32),
        images=np.array([500, 400, 800]),
        training="{}",
    )


@pytest.fixture
def path(table, tmp_path):
    save_table(tmp_path / "table.npz", table)
    return tmp_path / "table.npz"


# -- the evaluator ---------------------------------------------------------------------------------


def test_the_mean_of_the_seeds_without_a_generator(table, path):
    evaluator = Digits201(path=path)
    tokens = SPACE.sample(np.random.default_rng(1), 50)
    result = evaluator.evaluate(tokens)
    for row, one in enumerate(tokens):
        own = SPACE.classes()[SPACE.index(one[None])[0]]
        assert result.reward[row] == pytest.approx(np.mean(table.right[own, :, -1, 0]) / 400)
        assert result.test[row] == pytest.approx(np.mean(table.right[own, :, -1, 1]) / 800)
        charged = digits201.SECONDS + digits201.SECONDS_PER_FLOP * int(table.flops[own]) * 500 * 4
        assert result.cost[row] == pytest.approx(charged)
    assert evaluator.optimum == evaluator.evaluate(SPACE.tokens(np.arange(COUNT))).test.max()


def test_one_training_with_a_seed(table, path):
    evaluator = Digits201(path=path)
    tokens = np.repeat(SPACE.sample(np.random.default_rng(1), 1), 4, axis=0)
    own = SPACE.classes()[SPACE.index(tokens[:1])[0]]
    result = evaluator.evaluate(tokens, np.array([0, 1, 2, 2**63 - 1]))
    np.testing.assert_allclose(result.reward, table.right[own, [0, 1, 0, 1], -1, 0] / 400)
    assert result.reward[0] != result.reward[1]
    assert len(np.unique(result.test)) == len(np.unique(result.cost)) == 1


@pytest.mark.parametrize("seeds", [[1], [0, 1, 2], 0, [0.5, 1.0], ["a", "b"], [[0, 1]]])
def test_seeds_that_cannot_be(path, seeds):
    tokens = SPACE.sample(np.random.default_rng(1), 2)
    with pytest.raises(InvalidArgumentError, match=r"seeds are whole numbers \[2\]"):
        Digits201(path=path).evaluate(tokens, np.array(seeds))


def test_everything_by_name(table, path):
    tokens = SPACE.sample(np.random.default_rng(1), 20)
    arrays = Digits201(path=path).arrays(tokens)
    own = SPACE.classes()[SPACE.index(tokens)]
    np.testing.assert_allclose(arrays["validation"] * 400, table.right[own][..., 0])
    np.testing.assert_allclose(arrays["test"] * 800, table.right[own][..., 1])
    for name in ("parameters", "flops", "seconds"):
        np.testing.assert_array_equal(arrays[name], getattr(table, name)[own])


def test_fewer_epochs_are_cheaper_and_the_test_stays(table, path):
    tokens = SPACE.sample(np.random.default_rng(1), 20)
    short, full = (Digits201(path=path, epochs=n).evaluate(tokens) for n in (1, 4))
    own = SPACE.classes()[SPACE.index(tokens)]
    np.testing.assert_allclose(short.reward, table.right[own, :, 0, 0].mean(axis=1) / 400)
    np.testing.assert_allclose(
        4 * (short.cost - digits201.SECONDS), full.cost - digits201.SECONDS, rtol=1e-9
    )
    np.testing.assert_array_equal(short.test, full.test)


def test_isomorphic_architectures_have_the_same_entry(path):
    evaluator = Digits201(path=path)
    classes = SPACE.classes()
    same = np.flatnonzero(classes == np.bincount(classes).argmax())
    result = evaluator.evaluate(SPACE.tokens(same))
    assert len(same) > 1 and all(len(np.unique(values)) == 1 for values in result)


@pytest.mark.parametrize("epochs", [0, 5, 1.5])
def test_epochs_that_were_not_trained_are_refused(path, epochs):
    with pytest.raises(InvalidArgumentError, match="epochs"):
        Digits201(path=path, epochs=epochs)


# -- the file --------------------------------------------------------------------------------------


def test_a_table_comes_back_read_only_and_is_read_once(table, path):
    loaded = load_table(path)
    for name, values in vars(table).items():
        np.testing.assert_array_equal(getattr(loaded, name), values)
    assert load_table(str(path)) is loaded
    with pytest.raises(ValueError, match="read-only"):
        loaded.right[0] = 0


def test_the_checksum_is_of_everything_but_the_measured_seconds(table):
    expected = checksum(table)
    for name, values in vars(table).items():
        changed = "other" if isinstance(values, str) else values + values.dtype.type(1)
        same = checksum(dataclasses.replace(table, **{name: changed})) == expected
        assert same == (name == "seconds")


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"no table of digits201 at .*build_digits_table"):
        Digits201(path=tmp_path / "absent.npz")


def test_damaged_and_foreign_files_are_data_errors(table, tmp_path):
    whole, path = tmp_path / "whole.npz", tmp_path / "bad.npz"
    save_table(whole, table)
    content = whole.read_bytes()
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, something=np.arange(3))
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, right=np.array([{}], dtype=object))
    altered = dict(np.load(whole))
    altered["right"][0, 0, 0, 0] += 1
    np.savez(tmp_path / "altered.npz", **altered)
    encrypted, central = bytearray(content), content.rindex(b"PK\x01\x02")
    encrypted[central + 8] |= 1
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        huge, {"descr": "<f8", "fortran_order": False, "shape": (2**45,)}
    )
    headers = []
    for header in (huge.getvalue(), huge.getvalue().replace(b"}", b"(")):
        with zipfile.ZipFile(tmp_path / "header.npz", "w") as file:
            file.writestr("right.npy", header)
        headers.append((tmp_path / "header.npz").read_bytes())
    bad = [
        bytes(encrypted), *headers,
        b"", b"no archive", content[: len(content) // 2], foreign.read_bytes(),
        pickled.read_bytes(), (tmp_path / "altered.npz").read_bytes(),
    ]  # fmt: skip
    for number, stuff in enumerate(bad):
        path = tmp_path / f"bad{number}.npz"
        path.write_bytes(stuff)
        with pytest.raises(DataError, match="damaged"):
            load_table(path)


def test_the_table_of_the_package():
    if not PATH.is_file():
        pytest.skip(f"{PATH.name} is not built yet")
    evaluator = Digits201()
    assert PATH.stat().st_size <= 2 * 2**20
    assert checksum(evaluator.table) == digits201.CHECKSUM
    assert evaluator.table.right.shape[0] == 6466 and evaluator.table.right.shape[1] >= 3
    result = evaluator.evaluate(SPACE.tokens(np.arange(COUNT)))
    assert 0.8 < evaluator.optimum < 1 and result.test.min() < 0.2
    assert np.corrcoef(result.reward, result.test)[0, 1] > 0.9


# -- the building ----------------------------------------------------------------------------------


def test_a_killed_build_goes_on_and_gives_the_same_table(build, script, tmp_path):
    whole = load_table(build(tmp_path / "whole"))
    assert whole.right.shape == (CLASSES, 2, 2, 2)
    assert (whole.rows != MISSING).sum() >= CLASSES
    assert (whole.right <= whole.images[1:]).all() and len(np.unique(whole.right)) > 4
    broken = tmp_path / "broken"
    build(broken, classes=2)
    (shard,) = broken.glob("shard-*.jsonl")
    shard.write_bytes(shard.read_bytes()[:-30])  # killed while it wrote the second class
    (broken / "digits201.npz").unlink()
    options = [f"--training.{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    subprocess.run(
        [sys.executable, SCRIPT, "--out", broken, "--workers=2", f"--classes={CLASSES}", *options],
        check=True, capture_output=True, timeout=900,
    )  # fmt: skip
    lines = [path.read_bytes().count(b"\n") for path in broken.glob("shard-*.jsonl")]
    assert sorted(lines) == [1, 1, 1]  # two workers trained the two that were missing
    assert checksum(load_table(broken / "digits201.npz")) == checksum(whole)


def test_an_unfinished_table_says_what_it_lacks(build, tmp_path):
    evaluator = Digits201(path=build(tmp_path / "some", classes=2))
    rows = evaluator.table.rows
    known, unknown = (SPACE.tokens(np.flatnonzero((rows == MISSING) == lacks)) for lacks in (0, 1))
    assert np.isfinite(evaluator.evaluate(known).reward).all()
    with pytest.raises(InvalidArgumentError, match="unfinished, with 2 classes"):
        evaluator.evaluate(unknown)


def test_other_settings_do_not_mix(build, tmp_path):
    build(tmp_path / "table", classes=2)
    with pytest.raises(CheckpointError, match="other settings"):
        build(tmp_path / "table", classes=2, seed=1)


def test_a_class_learns_and_its_seeds_differ(script):
    training = script.Training(**TINY | {"train_images": 400, "epochs": 6, "channels": 4})
    images, labels = script.load_images(training)
    full = SPACE.classes()[SPACE.index(np.full((1, 6), 3))[0]]
    right, seconds = script.train_class(full, images, labels, training)
    assert seconds > 0 and right.shape == (2, 6, 2)
    assert (right[:, -1, 0] > 30).all()  # chance is 10 of 100
    assert (right[0] != right[1]).any()
    again, _ = script.train_class(full, images, labels, training)
    np.testing.assert_array_equal(again, right)


def test_images_are_divided_once_and_normalised(script):
    training = script.Training()
    images, labels = script.load_images(training)
    known = images[: training.train_images]
    assert images.shape == (1797, 8, 8) and labels.shape == (1797,)
    assert float(known.mean()) == pytest.approx(0, abs=1e-5)
    assert float(known.std()) == pytest.approx(1, abs=1e-3)
    clean, _ = script.load_images(dataclasses.replace(training, noise=0.0))
    assert len(np.unique(clean.reshape(1797, -1), axis=0)) == 1797  # no image twice


def test_the_report_finds_the_noise_that_was_put_in(script, table):
    rng = np.random.default_rng(0)
    truth = rng.normal(400, 50, len(table.right))[:, None, None, None]
    right = np.clip(truth + rng.normal(0, 8, (len(truth), 3, 4, 2)), 0, 800).astype(np.uint16)
    made = dataclasses.replace(table, right=right, images=np.array([500, 800, 800]))
    found = script.report(made)
    assert found["standard deviation between seeds"] == pytest.approx(0.01, rel=0.05)
    assert found["reliability of one training"] == pytest.approx(50**2 / (50**2 + 8**2), abs=0.01)
    assert found["Spearman, mean validation with mean test"] > 0.97
