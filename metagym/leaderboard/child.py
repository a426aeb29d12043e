"""One call in a process of its own, so that what hangs can be ended and what crashes is caught."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metagym.errors import MetagymError

# Processes are forked off one that has imported these and has done nothing else, so that each
# begins alike, and within milliseconds.
_PRELOAD = ["__main__", "metagym.leaderboard.play", "torch"]


class ChildError(MetagymError, RuntimeError):
    """A call in a process of its own raised, hung, or took its process with it."""


def call_in_child(work: Callable[[Any], Any], item: Any, seconds: float) -> Any:
    """``work(item)``, run in a new process.

    Args:
        work: a function of a module.
        item: its argument; it and the result are pickled.
        seconds: the process, and what it has started, is killed after so many.

    Raises:
        ChildError: the call raised, ended its process, or was not through in time; the message is
            one line and says which.
    """
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload(_PRELOAD)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, work, item))
    process.start()
    theirs.close()  # so that the line ends when the process does
    try:
        if not ours.poll(seconds):
            raise ChildError(f"not through after {seconds:g} s")
        error, result = ours.recv()
    except EOFError:
        process.join(5.0)
        raise ChildError(f"the process ended with exit code {process.exitcode}") from None
    finally:
        _end(process)
        ours.close()
    if error is not None:
        raise ChildError(error)
    return result


def one_line(error: BaseException) -> str:
    """What was raised, in one line; where, too, if it was not on purpose."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, MetagymError):
        return text
    where = traceback.extract_tb(error.__traceback__)[-1]
    name = type(error).__name__
    return f"{name}: {text} ({Path(where.filename).name}, line {where.lineno})"


# -- the inside --------------------------------------------------------------------------------


def _end(process: Any) -> None:
    """Kill the process and whatever it has started."""
    with contextlib.suppress(OSError, AttributeError):  # not on Windows; nobody is left
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _serve(connection: Any, work: Callable[[Any], Any], item: Any) -> None:
    """The life of the process."""
    with contextlib.suppress(AttributeError):
        os.setsid()  # a group of its own, which Ctrl-C does not reach: whoever waits ends it
    try:
        answer: tuple[str | None, Any] = None, work(item)
    except BaseException as error:  # also sys.exit() of an agent
        answer = one_line(error), None
    connection.send(answer)
