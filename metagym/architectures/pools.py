"""Pools: children trained at once, in processes of this machine or by Ray.

A worker has one child at a time, so that one that is killed (for its memory, say) takes nothing
else with it. Its child is tried once more; a child whose worker is killed twice has no result.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any

from metagym.cluster import start_ray
from metagym.errors import InvalidArgumentError, check_choice

POOLS = ("processes", "ray")
ATTEMPTS = 2

Work = Callable[[Any, Any], Any]


class Pool(ABC):
    """Calls ``work(item, task)`` for many items at once.

    Args:
        work: a function of a module.
        task: what it needs besides the item; it travels to a worker once.
        workers: how many items are worked on at once.
    """

    def __init__(self, work: Work, task: Any, workers: int) -> None:
        self.work, self.task, self.workers = work, task, workers

    def run(self, items: Iterable[Any]) -> Generator[tuple[Any, Any], None, None]:
        """``(item, result)`` as they finish, in any order.

        The result is None for an item whose worker was killed twice. What ``work`` raises is
        raised here, and ends what the other workers do, as does closing the generator.
        """
        waiting = deque((item, 1) for item in items)
        running: dict[Any, tuple[Any, int]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    item, attempt = waiting.popleft()
                    running[self._start(item)] = item, attempt
                for handle in self._finished(list(running)):
                    item, attempt = running.pop(handle)
                    try:
                        result = self._result(handle)
                    except WorkerKilledError:
                        if attempt < ATTEMPTS:
                            waiting.appendleft((item, attempt + 1))
                            continue
                        result = None
                    yield item, result
        except BaseException:
            self._stop(list(running))
            raise

    def close(self) -> None:
        """End the workers; the next ``run`` starts new ones."""
        self._stop([])

    @abstractmethod
    def _start(self, item: Any) -> Any:
        """Give an item to a worker that is free; what stands for the work that was begun."""

    @abstractmethod
    def _finished(self, handles: list[Any]) -> list[Any]:
        """Wait until at least one is over; those that are."""

    @abstractmethod
    def _result(self, handle: Any) -> Any:
        """Of one that is over; raises what the work raised, or ``WorkerKilledError``."""

    @abstractmethod
    def _stop(self, handles: list[Any]) -> None:
        """Give up what was begun."""


class WorkerKilledError(Exception):
    """A worker ended before its work."""


def make_pool(
    kind: str,
    work: Work,
    task: Any,
    workers: int,
    address: str | None = None,
    gpu: bool = False,
) -> Pool:
    """The pool called ``kind``, one of ``POOLS``.

    Args:
        kind: "processes" of this machine, or "ray".
        work, task: see ``Pool``.
        workers: see ``Pool``; with "ray", 0 stands for as many as it has CPUs.
        address: of a Ray cluster; see ``metagym.cluster.start_ray``.
        gpu: whether each worker of Ray has a GPU for itself; processes share what there is.

    Raises:
        InvalidArgumentError: there is no such pool, or Ray is missing or cannot be reached.
    """
    check_choice("pool", kind, POOLS)
    if kind == "ray":
        return RayPool(work, task, workers, address, gpu)
    return ProcessPool(work, task, workers)


def check_pool(kind: str, workers: Any, address: str | None) -> None:
    """Refuse what no pool can be made of, before anything is started.

    Raises:
        InvalidArgumentError: a wrong name or number, or an address without Ray.
    """
    check_choice("pool", kind, POOLS)
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise InvalidArgumentError(f"workers={workers!r} has to be a whole number from 0 on.")
    if address is not None and kind != "ray":
        raise InvalidArgumentError(f"address={address!r} is Ray's; it needs pool='ray'.")


# -- processes of this machine ---------------------------------------------------------------------


class ProcessPool(Pool):
    """Processes of this machine, started when there is work and kept until ``close``."""

    def __init__(self, work: Work, task: Any, workers: int) -> None:
        super().__init__(work, task, workers)
        self._idle: list[_Process] = []

    def _start(self, item: Any) -> _Process:
        while self._idle:
            with contextlib.suppress(OSError):  # it was killed while it had nothing to do
                worker = self._idle.pop()
                worker.connection.send(item)
                return worker
        worker = _Process(self.work, self.task)
        with contextlib.suppress(OSError):  # it is gone already, which its result will say
            worker.connection.send(item)
        return worker

    def _finished(self, handles: list[_Process]) -> list[_Process]:
        while True:
            ready = multiprocessing.connection.wait([worker.connection for worker in handles])
            over = [w for w in handles if w.connection in ready and not w.greets()]
            if over:
                return over

    def _result(self, worker: _Process) -> Any:
        error, value = worker.answer()
        self._idle.append(worker)
        if error is not None:
            raise error
        return value

    def _stop(self, handles: list[_Process]) -> None:
        for worker in [*handles, *self._idle]:
            worker.kill()
        self._idle = []


class _Process:
    """One worker, and the line to it."""

    def __init__(self, work: Work, task: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work, task), daemon=True)
        self.process.start()
        theirs.close()  # so that the line ends when the worker does
        self._greeted = False

    def greets(self) -> bool:
        """Whether all it has to say is that it has started."""
        if self._greeted:
            return False
        try:
            self.connection.recv()
        except (EOFError, OSError):
            return False
        self._greeted = True
        return True

    def answer(self) -> tuple[Exception | None, Any]:
        """What it raised, and its result."""
        try:
            answer: tuple[Exception | None, Any] = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(5.0)
            code = self.process.exitcode
            self.kill()
            if not self._greeted and code is not None and code > 0:
                raise InvalidArgumentError(
                    "A worker could not start; its message stands above. A script that asks for "
                    "workers keeps what it runs below `if __name__ == '__main__':`."
                ) from None
            raise WorkerKilledError from None
        return answer

    def kill(self) -> None:
        self.process.kill()
        self.process.join(5.0)
        self.connection.close()


def _serve(connection: Any, work: Work, task: Any) -> None:
    """A worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started us
    # oneDNN keeps what it compiled for each shape, and children have ever new ones: gigabytes.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    connection.send("started")
    while True:
        try:
            item = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer: tuple[Exception | None, Any] = None, work(item, task)
        except Exception as error:
            error.add_note(traceback.format_exc())
            answer = error, None
        try:
            connection.send(answer)
        except Exception as error:  # what cannot be pickled
            connection.send((RuntimeError(f"{error}\n{traceback.format_exc()}"), None))


# -- Ray -------------------------------------------------------------------------------------------


class RayPool(Pool):
    """Tasks of Ray, on this machine or a cluster, each on one CPU.

    metagym, and the module of a space of one's own, have to be installed on the cluster's machines.
    """

    def __init__(
        self, work: Work, task: Any, workers: int, address: str | None = None, gpu: bool = False
    ) -> None:
        self._ray: Any = start_ray(address, max(1, workers))
        there = self._ray.cluster_resources()
        if gpu and there.get("GPU", 0) < 1:
            raise InvalidArgumentError("Ray has no GPU to train children on: use device='cpu'.")
        super().__init__(work, self._ray.put(task), workers or max(1, int(there.get("CPU", 1))))
        # Ray would repeat without end what was killed for its memory; we count ourselves.
        options = {"num_cpus": 1, "num_gpus": int(gpu), "max_retries": 0}
        self._remote = self._ray.remote(**options)(work)

    def _start(self, item: Any) -> Any:
        return self._remote.remote(item, self.task)

    def _finished(self, handles: list[Any]) -> list[Any]:
        over: list[Any] = self._ray.wait(handles, num_returns=1)[0]
        return over

    def _result(self, handle: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(handle)
        except errors.RayTaskError:  # what the work raised, whatever that was
            raise
        except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError):
            raise WorkerKilledError from None

    def _stop(self, handles: list[Any]) -> None:
        if self._ray.is_initialized():
            for handle in handles:
                self._ray.cancel(handle, force=True)
