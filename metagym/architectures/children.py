"""What evaluators that train children share: results that are kept, workers, what failures mean."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np

from metagym.architectures.cache import Record, ResultCache
from metagym.architectures.evaluator import Evaluator
from metagym.architectures.pools import Pool, check_pool, make_pool
from metagym.architectures.space import SearchSpace
from metagym.errors import InvalidArgumentError, check_kwargs, reject_unknown_kwargs

Settings = TypeVar("Settings")

# torch has a class for a GPU without memory, and only messages for the rest.
_OUT_OF_MEMORY = (
    "not enough memory", "allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
)  # fmt: skip
_TOO_SMALL = (
    "Expected more than 1 value per channel", "Expected more than 1 spatial element",
    "Kernel size can't be greater than actual input size", "Output size is too small",
    "Padding size should be less than the corresponding input dimension",
)  # fmt: skip


@dataclass(frozen=True)
class Child:
    """An architecture to train.

    Attributes:
        key: of its result, and what its random numbers come from.
        tokens: [length].
        architecture: its string, for the record.
    """

    key: str
    tokens: np.ndarray
    architecture: str


class ChildEvaluator(Evaluator):
    """Trains each child once, here or in a pool, and keeps what became of it.

    A subclass sets ``space`` and ``fingerprint`` and says how a child is trained.

    Args:
        cache: a ``ResultCache`` or the path of one; None keeps results in memory only.
        workers, pool, address: see ``metagym.architectures.pools.make_pool``; without workers
            children are trained in this process, but for Ray.
        device: see ``check_device``.

    Attributes:
        fingerprint: of all that results depend on, under which the cache keeps them.

    Raises:
        InvalidArgumentError: an argument cannot work.
        DataError: the cache cannot be read.
    """

    fingerprint: str

    def __init__(
        self,
        cache: ResultCache | str | os.PathLike[str] | None,
        workers: int,
        pool: str,
        address: str | None,
        device: str,
    ) -> None:
        check_pool(pool, workers, address)
        self.workers, self.pool, self.address = workers, pool, address
        self.device = check_device(device, anywhere=pool == "ray")
        self.cache = ResultCache(cache) if isinstance(cache, str | os.PathLike) else cache
        self._known: dict[str, Record] = {}
        self._pool: Pool | None = None

    @abstractmethod
    def _work(self) -> tuple[Callable[[Child, Any], Record], Any]:
        """``train(child, task)``, a function of a module, and the task."""

    @abstractmethod
    def _killed(self, child: Child) -> Record:
        """The record of a child whose worker was killed, twice."""

    def _train(self, children: Iterable[Child]) -> None:
        """Afterwards all of them are known."""
        new = {child.key: child for child in children if not self._knows(child.key)}
        train, task = self._work()
        if not self.workers and self.pool != "ray":
            for key, child in new.items():
                self._keep(key, train(child, task))
        elif new:
            if self._pool is None:
                self._pool = make_pool(
                    self.pool, train, task, self.workers, self.address,
                    gpu=self.device.startswith("cuda"),
                )  # fmt: skip
            with contextlib.closing(self._pool.run(new.values())) as results:
                for child, found in results:
                    self._keep(child.key, found or self._killed(child))

    def _knows(self, key: str) -> bool:
        """Whether it has been trained, here or by whoever wrote into the cache."""
        if key not in self._known and self.cache is not None:
            record = self.cache.get(self.fingerprint, key)
            if record is not None:
                self._known[key] = record
        return key in self._known

    def _keep(self, key: str, record: Record) -> None:
        if self.cache is not None:  # which keeps the first record where two processes write
            record = self.cache.put(self.fingerprint, key, record)
        self._known[key] = record

    def close(self) -> None:
        """End the workers; the next evaluation starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def child_seed(seed: int, key: str) -> int:
    """The seed of a child, 63 bits as torch takes them: nothing but these two matter."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def check_seed(seed: Any) -> int:
    """Return ``seed`` as an int if it is a whole number, else raise."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise InvalidArgumentError(f"seed={seed!r} has to be a whole number.")
    return int(seed)


def make_settings(argument: str, kind: type[Settings], settings: Any) -> Settings:
    """A dataclass of settings: as it is, or its defaults but for what a mapping says.

    Raises:
        InvalidArgumentError: an unknown or impossible setting, or no settings at all.
    """
    if isinstance(settings, kind):
        return settings
    given, known = check_kwargs(argument, settings), _names(kind)
    reject_unknown_kwargs(kind, {name: given[name] for name in given if name not in known})
    return kind(**given)


def _names(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def check_device(name: str, anywhere: bool = False) -> str:
    """The name of a device that is there: "auto" is a GPU if there is one.

    Args:
        name: "auto", "cpu", "cuda", or "cuda:1" and so on.
        anywhere: it may be on another machine.

    Raises:
        InvalidArgumentError: there is no such device.
    """
    if name == "cpu":
        return name
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    kind, _, number = str(name).partition(":")
    if kind == "cuda" and (not number or number.isdecimal()):
        if anywhere or int(number or 0) < count:
            return str(name)
        raise InvalidArgumentError(
            f"device={name!r} is not there: torch sees {count} GPUs on this machine; use 'cpu'."
        )
    raise InvalidArgumentError(f"device={name!r} is not one of 'auto', 'cpu', 'cuda', 'cuda:1', ….")


def check_build(space: SearchSpace, arguments: tuple[str, ...], kwargs: Mapping[str, Any]) -> None:
    """Raises InvalidArgumentError unless ``space.build`` takes such arguments."""
    try:
        inspect.signature(space.build).bind(*arguments, **kwargs)
    except TypeError as error:
        raise InvalidArgumentError(
            f"build of the space {space.name!r} does not take ({', '.join(arguments)}) and "
            f"build_kwargs={dict(kwargs)!r}: {error}."
        ) from None


def out_of_memory(error: BaseException) -> bool:
    """Whether there was no room for a child."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or _says(error, _OUT_OF_MEMORY)


def too_small(error: BaseException) -> bool:
    """Whether torch says that what a layer is given is too small for it."""
    return _says(error, _TOO_SMALL)


def _says(error: BaseException, signs: tuple[str, ...]) -> bool:
    return any(sign in str(error) for sign in signs)
