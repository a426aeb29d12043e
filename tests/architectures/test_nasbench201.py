"""NAS-Bench-201: the real table where its files are; files that are damaged, foreign or hostile."""

from __future__ import annotations

import csv
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from metagym.architectures.cell201 import COUNT, Cell201
from metagym.architectures.nasbench201 import TEST, VALIDATION, NASBench201, _load
from metagym.errors import DataError, InvalidArgumentError

BESIDE = Path(__file__).parents[3] / "shared" / "data"
SPACE = Cell201()
STRINGS = [SPACE.to_string(row) for row in SPACE.tokens(np.arange(COUNT))]


@pytest.fixture(scope="module")
def real():
    folder = Path(os.environ.get("METAGYM_DATA", BESIDE))
    if not any((folder / below / VALIDATION).exists() for below in ("nasbench201", ".")):
        pytest.skip(f"no NAS-Bench-201 files in {folder}; set METAGYM_DATA")
    return folder


@pytest.fixture(scope="module")
def columns():
    """A table that was made up: accuracies in percent and seconds, [15625] each."""
    rng = np.random.default_rng(0)
    return {name: rng.uniform(1, 99, COUNT) for name in ("valacc", "cost", "cifar10", "cifar100")}


@pytest.fixture(scope="module")
def rows(columns):
    """What the pickle holds, in an order of its own."""
    order = np.random.default_rng(1).permutation(COUNT)
    return [
        {str(n): n, "arch": STRINGS[i], "valacc": columns["valacc"][i], "cost": columns["cost"][i]}
        for n, i in enumerate(order)
    ]


@pytest.fixture(scope="module")
def contents(columns, rows):
    """Both files by name."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(
        ["CIFAR10TestAccuracy200Epochs", "CIFAR100TestAccuracy200Epochs", "ArchitectureString"]
    )
    writer.writerows(zip(columns["cifar10"], columns["cifar100"], STRINGS, strict=True))
    return {VALIDATION: pickle.dumps(rows), TEST: file.getvalue().encode()}


@pytest.fixture
def folder(tmp_path, contents):
    """Where both files are; whatever a test does to them, they are read anew."""
    _load.cache_clear()
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def refused(folder, match):
    with pytest.raises(DataError, match=match):
        NASBench201(folder, verify=False)


def test_rows_find_their_architecture_in_any_order(folder, columns):
    table = NASBench201(folder, verify=False)
    index = np.random.default_rng(2).integers(COUNT, size=200)
    scores = table.evaluate(SPACE.tokens(index), np.arange(200))
    np.testing.assert_allclose(scores.reward, columns["valacc"][index] / 100)
    np.testing.assert_allclose(scores.test, columns["cifar10"][index] / 100)
    np.testing.assert_allclose(scores.cost, columns["cost"][index])
    assert table.optimum == columns["cifar10"].max() / 100 and not table.transferred
    table.arrays()["validation"][:] = 0  # a copy
    assert table.evaluate(SPACE.tokens(index)).reward.all()


def test_cifar100_is_only_ever_transferred(folder, columns):
    table = NASBench201(folder, "cifar100", verify=False)
    index = np.arange(0, COUNT, 1000)
    scores = table.evaluate(SPACE.tokens(index))
    np.testing.assert_allclose(scores.reward, columns["valacc"][index] / 100)
    np.testing.assert_allclose(scores.test, columns["cifar100"][index] / 100)
    assert table.transferred and "transferred from CIFAR-10" in table.test_name
    with pytest.raises(InvalidArgumentError, match="Did you mean 'cifar100'"):
        NASBench201(folder, "cifar-100", verify=False)


def test_tokens_outside_are_refused(folder):
    table = NASBench201(folder, verify=False)
    for wrong in ([[5, 0, 0, 0, 0, 0]], [[0, 0, 0, 0, 0, -1]], [[0, 0]]):
        with pytest.raises(InvalidArgumentError):
            table.evaluate(np.array(wrong))


def test_other_files_than_the_real_ones_need_to_be_allowed(folder):
    with pytest.raises(DataError, match=rf"{VALIDATION} is truncated, or another.*verify=False"):
        NASBench201(folder)


def test_files_that_are_not_there(tmp_path, monkeypatch):
    refused(tmp_path / "nowhere", "nowhere has no NAS-Bench-201.*METAGYM_DATA")
    monkeypatch.delenv("METAGYM_DATA", raising=False)
    refused(None, "set METAGYM_DATA")


@pytest.mark.parametrize("name", [VALIDATION, TEST])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_truncated_files(folder, name, share):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    refused(folder, f"{name} .*fetch {name} again")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows[:-1], "15,624 rows, 0 of them no cell"),
        (lambda rows: [*rows[:-1], rows[0]], "each of the 15,625 cells once"),
        (lambda rows: [{**rows[0], "arch": "|none~0|"}, *rows[1:]], "1 of them no cell"),
        (lambda rows: [{**rows[0], "valacc": 101.0}, *rows[1:]], "outside 0..100"),
        (lambda rows: [{**rows[0], "valacc": float("nan")}, *rows[1:]], "no number"),
        (lambda rows: [{**rows[0], "valacc": "90"}, *rows[1:]], "no number"),
        (lambda rows: [{**rows[0], "cost": 0.0}, *rows[1:]], "took no time"),
        (lambda rows: [{"arch": STRINGS[0]}, *rows[1:]], "no list of dicts with arch"),
        (lambda rows: 5, "no list of dicts with arch"),
        (lambda rows: [np.float32(1)], "type 'f4' instead of 'f8'"),
        (lambda rows: [np.float64(1).astype(">f8").reshape(1)], "asks for numpy"),
        (lambda rows: [np.dtype(">f8").type(1), np.dtype(">f8")], "little-endian"),
    ],
)
def test_foreign_pickles(folder, rows, spoil, message):
    (folder / VALIDATION).write_bytes(pickle.dumps(spoil(rows)))
    refused(folder, message)


class _Hostile:
    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_runs_nothing(folder, protocol):
    bait = folder / "bait"
    for attack in (
        _Hostile(os.system, f"touch {bait}"),
        _Hostile(eval, f"open({str(bait)!r}, 'w')"),
        _Hostile(Path.touch, bait),
    ):
        (folder / VALIDATION).write_bytes(pickle.dumps([attack], protocol))
        refused(folder, r"asks for .* nothing was executed")
        assert not bait.exists()
    pickle.loads(pickle.dumps(_Hostile(Path.touch, bait), protocol))
    assert bait.exists()  # the attack is a real one


@pytest.mark.parametrize(
    "content",
    [
        b"cnumpy\ndtype\n}(V__call__\nI1\nub.",  # sets an attribute of what stands in for numpy
        b"cnumpy\ndtype\n(}}tb.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\ntRc__builtin__\nset\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(NS'12345678'\ntR.",
        b"\x80\x02cnumpy\ndtype\n)\x81.",  # makes an object of it
    ],
)
def test_what_stands_in_for_numpy_cannot_be_bent(folder, content):
    (folder / VALIDATION).write_bytes(content)
    refused(folder, VALIDATION)


def test_foreign_csv(folder):
    content = (folder / TEST).read_text()
    (folder / TEST).write_text(content.replace("ArchitectureString", "Cell"))
    refused(folder, "no table with the columns ArchitectureString")
    (folder / TEST).write_text(content.replace(content.splitlines()[1].split(",")[0], "-3", 1))
    refused(folder, "outside 0..100")
    (folder / TEST).write_text(content.replace(content.splitlines()[1].split(",")[0], "high", 1))
    refused(folder, "no table with the columns")


def test_the_real_table(real):
    cifar10, cifar100 = NASBench201(real), NASBench201(real, "cifar100")
    table = cifar10.arrays()
    assert round(cifar10.optimum, 4) == 0.9437 and round(cifar100.optimum, 4) == 0.7351
    assert round(table["seconds"].mean(), 1) == 109.7
    tokens = SPACE.from_string(
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|"
        "+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    )
    scores = cifar10.evaluate(tokens[None])
    np.testing.assert_allclose(scores.reward, 0.6336399998)
    np.testing.assert_allclose(scores.test, 0.8586333333)
    np.testing.assert_allclose(scores.cost, 86.65311598777771)
    # The spread inside a class of isomorphic cells is training noise: 0.32 points in the middle.
    classes = SPACE.classes()
    high, low = np.full(classes.max() + 1, -np.inf), np.full(classes.max() + 1, np.inf)
    np.maximum.at(high, classes, table["cifar10"])
    np.minimum.at(low, classes, table["cifar10"])
    several = np.bincount(classes) > 1
    assert abs(100 * np.median((high - low)[several]) - 0.32) < 0.01
