"""ResultCache: what is put stays, under several processes too; damaged and foreign files."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import sqlite3

import numpy as np
import pytest

from metagym.architectures.cache import ResultCache, fingerprint
from metagym.errors import DataError, InvalidArgumentError


@pytest.fixture
def cache(tmp_path):
    return ResultCache(tmp_path / "below" / "results.sqlite")


def test_what_was_put_is_found_by_evaluator_and_architecture(cache):
    record = {"validation": 0.1 + 0.2, "curve": [0.5, 1.0], "status": "trained", "none": None}
    assert cache.get("a", "x") is None
    assert cache.put("a", "x", record) == record
    assert cache.get("a", "x") == record
    assert cache.get("a", "y") is None and cache.get("b", "x") is None
    assert ResultCache(cache.path).get("a", "x") == record
    assert pickle.loads(pickle.dumps(cache)).get("a", "x") == record


def test_the_first_record_stays_and_is_returned(cache):
    cache.put("a", "x", {"n": 1})
    assert cache.put("a", "x", {"n": 2}) == {"n": 1}
    assert cache.get("a", "x") == {"n": 1} and len(cache) == 1


def test_readers_and_writers_do_not_wait_for_each_other(cache):
    with contextlib.closing(sqlite3.connect(cache.path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def _fill(path, name, count, barrier, results):
    barrier.wait()
    cache = ResultCache(path)  # both make the file at the same moment
    results.put([cache.put("a", str(i), {"by": name})["by"] for i in range(count)])


def test_two_processes_put_the_same_architectures(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    path, count = tmp_path / "results.sqlite", 60
    processes = [
        context.Process(target=_fill, args=(path, name, count, barrier, results)) for name in "ab"
    ]
    for process in processes:
        process.start()
    first, second = results.get(timeout=60), results.get(timeout=60)
    for process in processes:
        process.join()
    # Both were told the same winner of every race, and it is the one in the file.
    cache = ResultCache(path)
    assert first == second == [cache.get("a", str(i))["by"] for i in range(count)]
    assert len(cache) == count


def test_damaged_and_foreign_files(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"anything but a database" * 100)
    with pytest.raises(DataError, match=r"file cannot be used .*another path"):
        ResultCache(path)
    assert path.read_bytes().startswith(b"anything")
    for journal in ("DELETE", "WAL"):
        other = tmp_path / f"{journal}.sqlite"
        with contextlib.closing(sqlite3.connect(other)) as connection:
            connection.execute(f"PRAGMA journal_mode = {journal}")
            connection.execute("CREATE TABLE results (a)")
        content = other.read_bytes()
        with pytest.raises(DataError, match="another program"):
            ResultCache(other)
        assert other.read_bytes() == content
    with pytest.raises(DataError, match="cannot be"):
        ResultCache(tmp_path)
    with pytest.raises(DataError, match="cannot be made"):
        ResultCache(path / "below")


def test_a_file_that_was_cut_or_overwritten(cache):
    for i in range(40):
        cache.put("a", str(i), {"text": "x" * 1000})
    content = cache.path.read_bytes()
    cache.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot be used"):
        [cache.get("a", str(i)) for i in range(40)]
    cache.path.write_bytes(content.replace(b'{"text"', b'["text"'))
    with pytest.raises(DataError, match="no JSON object"):
        cache.get("a", "0")


@pytest.mark.parametrize("record", [{"a": {1, 2}}, {"a": np.zeros(2)}, [1, 2]])
def test_what_is_no_json_is_refused(cache, record):
    with pytest.raises(InvalidArgumentError, match="no JSON object"):
        cache.put("a", "x", record)
    assert len(cache) == 0


def test_fingerprints_do_not_depend_on_the_order_of_parts():
    parts = {"a": 1, "b": [0.5, {"c": True, "d": None}]}
    assert fingerprint(**parts) == fingerprint(b=[0.5, {"d": None, "c": True}], a=1)
    assert len({fingerprint(**parts, **more) for more in ({}, {"e": 1}, {"e": 2})}) == 3
    assert fingerprint(a=1) != fingerprint(a="1")


def test_fingerprints_tell_arrays_apart():
    array = np.arange(6.0)
    others = (array.astype(np.float32), array.reshape(2, 3), array + 1e-12, array[:5], [0.0, 1.0])
    keys = {fingerprint(data=value) for value in (array, *others)}
    assert len(keys) == 6
    assert fingerprint(data=np.repeat(array, 2)[::2]) == fingerprint(data=array)
    assert fingerprint(n=np.int64(3)) == fingerprint(n=3)
    with pytest.raises(InvalidArgumentError, match="of type function cannot be part"):
        fingerprint(data={"loss": fingerprint})
