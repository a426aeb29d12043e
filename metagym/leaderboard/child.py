"""Calls in processes of their own, so that what hangs can be ended and what crashes is caught."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import Any, TypeVar

from metagym.errors import MetagymError

TOO_SLOW = "not through after"  # so many seconds; how the message of what was killed begins

# Processes are forked off one that has imported these and has done nothing else, so that each
# begins alike, and within milliseconds. The last is what torch's optimisers import for seconds.
_PRELOAD = ["__main__", "metagym.leaderboard.play", "torch", "torch._dynamo"]

Item = TypeVar("Item")


class ChildError(MetagymError, RuntimeError):
    """A call in a process of its own raised, hung, or took its process with it."""


def call_in_children(
    work: Callable[[Any], Any], items: Iterable[Item], seconds: float, workers: int = 1
) -> Iterator[tuple[Item, Any | ChildError, float]]:
    """``work(item)`` for each item, each in a new process.

    Args:
        work: a function of a module.
        items: its arguments; they and the results are pickled. The next one is taken when a
            process is free for it.
        seconds: a process, and what it has started, is killed after so many.
        workers: processes at a time.

    Yields:
        Each item with its result and how many seconds it took, in the order in which they end. In
        place of a result, a ``ChildError`` (not raised) if the call raised, ended its process, or
        was not through in time; its message is one line and says which.
    """
    context, rest = _context(), iter(items)
    running: dict[Any, tuple[Item, Any, float]] = {}
    try:
        while True:
            for item in itertools.islice(rest, workers - len(running)):
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_serve, args=(theirs, work, item))
                process.start()
                theirs.close()  # so that the line ends when the process does
                running[ours] = item, process, time.monotonic()
            if not running:
                return
            oldest = min(start for _, _, start in running.values())
            ready = connection.wait(list(running), max(0.0, oldest + seconds - time.monotonic()))
            now = time.monotonic()
            late = [line for line, (*_, start) in running.items() if now >= start + seconds]
            for line in dict.fromkeys([*ready, *late]):
                item, process, start = running[line]
                if line in ready:
                    answer = _answer(line, process)
                else:
                    answer = ChildError(f"{TOO_SLOW} {seconds:g} s")
                del running[line]
                _end(process, line)
                yield item, answer, now - start
    finally:
        for line, (_, process, _) in running.items():
            _end(process, line)


def one_line(error: BaseException) -> str:
    """What was raised, in one line; where, too, if it was not on purpose."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, MetagymError):
        return text
    where = traceback.extract_tb(error.__traceback__)[-1]
    name = type(error).__name__
    return f"{name}: {text} ({Path(where.filename).name}, line {where.lineno})"


# -- the inside --------------------------------------------------------------------------------


def _context() -> Any:
    """Processes forked off one that has imported ``_PRELOAD``, where the system can do that."""
    # Small arrays: more threads than one only get into each other's way, and change last digits.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    with _interrupts_ignored(), _same_path():
        forkserver.ensure_running()
    return context


@contextlib.contextmanager
def _same_path() -> Iterator[None]:
    """What is started here imports from the working folder only if this process does, too.

    Else files that somebody has put there could take the place of modules.
    """
    if "PYTHONSAFEPATH" in os.environ or {"", os.getcwd()} & set(sys.path):
        yield
        return
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTHONSAFEPATH"]


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """What is started here does not see Ctrl-C; whoever waits for it does, and ends it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _answer(line: Any, process: Any) -> Any:
    """What the process has sent."""
    try:
        error, result = line.recv()
    except EOFError:
        process.join(5.0)
        return ChildError(f"the process ended with exit code {process.exitcode}")
    return result if error is None else ChildError(error)


def _end(process: Any, line: Any) -> None:
    """Kill the process and whatever it has started."""
    with contextlib.suppress(OSError, AttributeError):  # not on Windows; nobody is left
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
    line.close()


def _serve(connection: Any, work: Callable[[Any], Any], item: Any) -> None:
    """The life of the process."""
    with contextlib.suppress(AttributeError):
        os.setsid()  # a group of its own, which Ctrl-C does not reach: whoever waits ends it
    try:
        answer: tuple[str | None, Any] = None, work(item)
    except BaseException as error:  # also sys.exit() of an agent
        answer = one_line(error), None
    connection.send(answer)
