"""A call in its own process: what it answers, and what becomes of it if it does not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metagym.errors import InvalidArgumentError
from metagym.leaderboard.child import ChildError, call_in_children


def double(number):
    return 2 * number, os.getpid()


def fail(kind):
    if kind == "exit":
        sys.exit("enough")
    if kind == "crash":
        os._exit(3)
    if kind == "on purpose":
        raise InvalidArgumentError("one line,\n  however written")
    raise KeyError("a bug")


def hang(path):
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(path).write_text(str(grandchild.pid))
    time.sleep(60)


def first_hangs(item):
    path, hangs = item
    if hangs:
        path.with_suffix(".new").write_text(str(os.getpid()))
        path.with_suffix(".new").rename(path)
        time.sleep(60)
    while not path.is_file():
        time.sleep(0.01)
    return "done"


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def meet(place):
    """Return once both have come."""
    folder, name = place
    (folder / name).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.01)
    return name


def test_every_call_has_a_process_of_its_own():
    pids = []
    for number, (doubled, pid), seconds in call_in_children(double, [2, 3], 60):
        assert doubled == 2 * number and 0 < seconds < 60
        pids.append(pid)
    assert len({*pids, os.getpid()}) == 3


def test_so_many_workers_work_at_the_same_time(tmp_path):
    places = [(tmp_path, "here"), (tmp_path, "there")]
    answers = {place: name for place, name, _ in call_in_children(meet, places, 60, workers=2)}
    assert answers == {place: place[1] for place in places}


def test_what_is_left_is_killed_when_nobody_waits_any_more(tmp_path):
    items = [(tmp_path / "pid", hangs) for hangs in (True, False)]
    calls = call_in_children(first_hangs, items, 60, workers=2)
    assert next(calls)[:2] == (items[1], "done")
    pid = int((tmp_path / "pid").read_text())
    assert is_running(pid)
    calls.close()
    assert not is_running(pid)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("exit", r"SystemExit: enough \(test_child\.py, line \d+\)$"),
        ("crash", "the process ended with exit code 3"),
        ("on purpose", "^one line, however written$"),
        ("bug", r"KeyError: 'a bug' \(test_child\.py, line \d+\)$"),
    ],
)
def test_what_goes_wrong_is_one_line(kind, message):
    [(item, error, _)] = call_in_children(fail, [kind], 60)
    assert item == kind and isinstance(error, ChildError)
    assert re.search(message, str(error))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to see processes")
def test_what_hangs_is_killed_with_all_that_it_has_started(tmp_path):
    assert len(list(call_in_children(double, [1], 60))) == 1  # the first start is slow
    [(_, error, seconds)] = call_in_children(hang, [tmp_path / "pid"], 3.0)
    assert str(error) == "not through after 3 s" and 3 <= seconds < 30
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(pid)
