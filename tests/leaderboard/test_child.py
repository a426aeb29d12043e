"""A call in its own process: what it answers, and what becomes of it if it does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metagym.errors import InvalidArgumentError
from metagym.leaderboard.child import ChildError, call_in_child


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


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_every_call_has_a_process_of_its_own():
    (first, one), (second, other) = (call_in_child(double, n, 60) for n in (2, 3))
    assert (first, second) == (4, 6)
    assert len({one, other, os.getpid()}) == 3


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
    with pytest.raises(ChildError, match=message):
        call_in_child(fail, kind, 60)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to see processes")
def test_what_hangs_is_killed_with_all_that_it_has_started(tmp_path):
    call_in_child(double, 1, 60)  # the first start is slow
    with pytest.raises(ChildError, match="not through after 3 s"):
        call_in_child(hang, tmp_path / "pid", 3.0)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(pid)
