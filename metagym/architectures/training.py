"""TrainingEvaluator: how good an architecture is, by training it on images.

A child is trained with SGD, Nesterov momentum and a cosine schedule; what it is worth is its best
validation accuracy of the last epochs, as in Zoph & Le (2017), section 3.2, and its test score
is measured with the weights of that epoch. What went wrong with a child is part of its record.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from metagym.architectures.cache import Record, ResultCache, fingerprint
from metagym.architectures.evaluator import Evaluation, Evaluator
from metagym.architectures.image_data import ImageData, check_image_data, load_images
from metagym.architectures.pools import Pool, check_pool, make_pool
from metagym.architectures.space import SearchSpace
from metagym.architectures.training_child import Child, Recipe, make_recipe, train
from metagym.errors import InvalidArgumentError

_VERSION = 1  # of the training itself: raised with every change that changes its results


class TrainingEvaluator(Evaluator):
    """Builds and trains each architecture on images.

    The reward is (the highest validation accuracy of the last ``recipe.last`` epochs) ** power,
    the test score the test accuracy of the weights of that epoch, and the cost the seconds that
    the child trained. A child that diverges, exceeds a limit or does not fit into memory scores 0
    with a test score of 0.

    Architectures with one canonical key are trained once, and their result is kept: in memory,
    and in ``cache`` between processes. A child's random numbers come from ``recipe.seed`` and its
    key, and it trains on one thread, so that on a CPU its result depends neither on the others
    nor on the number of workers (a limit of seconds aside). ``seeds`` change nothing.

    Args:
        space: ``space.build(tokens, input_shape, outputs, **build_kwargs)`` makes the child.
        data: "digits", "mnist", or images of your own: see ``check_image_data``.
        folder: of MNIST's files.
        recipe: how a child is trained, and its limits; a ``Recipe`` or what differs from it.
        power: of the accuracy; Zoph & Le use 3.
        cache: a ``ResultCache`` or the path of one; None keeps results in memory only.
        workers: children that are trained at once. 0: one after the other in this process, or
            with Ray as many as it has CPUs.
        pool: who trains children at once: "processes" of this machine, or "ray". A worker that
            is killed costs its child a second try and the others nothing; a child that is killed
            twice scores 0.
        address: of a Ray cluster, such as "auto"; None: a Ray of our own on this machine.
        device: "auto" is a GPU where there is one.
        build_kwargs: what ``space.build`` is told besides.

    Attributes:
        fingerprint: of everything that the results depend on.

    Raises:
        InvalidArgumentError: an argument cannot work.
        DataError: the images or the cache cannot be read.
    """

    name = "train"

    def __init__(
        self,
        space: SearchSpace,
        data: str | Mapping[str, Any] | tuple[Any, ...] = "digits",
        *,
        folder: str | os.PathLike[str] | None = None,
        recipe: Recipe | Mapping[str, Any] | None = None,
        power: float = 1.0,
        cache: ResultCache | str | os.PathLike[str] | None = None,
        workers: int = 0,
        pool: str = "processes",
        address: str | None = None,
        device: str = "auto",
        build_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.space = space
        self.data: ImageData = (
            load_images(data, folder) if isinstance(data, str) else check_image_data(data)
        )
        if not power > 0:
            raise InvalidArgumentError(f"power={power!r} has to be above 0.")
        check_pool(pool, workers, address)
        self.power = float(power)
        self.recipe = recipe if isinstance(recipe, Recipe) else make_recipe(recipe or {})
        self.workers, self.pool, self.address = workers, pool, address
        self.device = _device(device)
        self.build_kwargs = dict(build_kwargs or {})
        self.cache = ResultCache(cache) if isinstance(cache, str | os.PathLike) else cache
        self.fingerprint = fingerprint(
            version=_VERSION, space=[space.name, space.length, list(space.vocabulary)],
            data=list(self.data), recipe=self.recipe.as_dict(), build=self.build_kwargs,
        )  # fmt: skip
        self._known: dict[str, Record] = {}
        self._pool: Pool | None = None

    def evaluate(self, tokens: np.ndarray, seeds: np.ndarray | None = None) -> Evaluation:
        records = self.records(tokens)
        reward, test, cost = (
            np.array([record[name] for record in records], dtype=np.float64)
            for name in ("validation", "test", "seconds")
        )
        return Evaluation(reward**self.power, test, cost)

    def records(self, tokens: np.ndarray) -> list[Record]:
        """All that is known of each architecture [B, length], after training those that are new.

        A record holds ``status`` ("trained", "diverged", "too slow", "too many parameters", "out
        of memory" or "killed"), the accuracies ``validation`` and ``test``, ``curve`` (validation
        accuracy by epoch), ``epoch`` (the one that counts, from 1 on), ``seconds``,
        ``parameters`` and ``architecture`` (the string of the one that was trained).
        """
        tokens = self.space.check(tokens)
        keys = [self.space.canonical(row) for row in tokens]
        new: dict[str, Child] = {}
        for key, row in zip(keys, tokens, strict=True):
            if key in self._known or key in new:
                continue
            record = None if self.cache is None else self.cache.get(self.fingerprint, key)
            if record is None:
                new[key] = Child(key, row, self.space.to_string(row))
            else:
                self._known[key] = record
        if self.workers or self.pool == "ray":
            self._train_in_pool(list(new.values()))
        else:
            for key, child in new.items():
                self._keep(key, train(child, self._task()))
        return [self._known[key] for key in keys]

    def close(self) -> None:
        """End the workers; the next evaluation starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def __enter__(self) -> TrainingEvaluator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keep(self, key: str, record: Record) -> None:
        if self.cache is not None:
            record = self.cache.put(self.fingerprint, key, record)
        self._known[key] = record

    def _task(self) -> dict[str, Any]:
        """What ``train`` needs besides the child."""
        return {
            "space": self.space, "data": self.data, "recipe": self.recipe,
            "device": self.device, "build_kwargs": self.build_kwargs,
        }  # fmt: skip

    def _train_in_pool(self, new: list[Child]) -> None:
        if not new:
            return
        if self._pool is None:
            self._pool = make_pool(
                self.pool, train, self._task(), self.workers, self.address,
                gpu=self.device.startswith("cuda"),
            )  # fmt: skip
        with contextlib.closing(self._pool.run(new)) as results:
            for child, found in results:
                self._keep(child.key, found or child.failed("killed"))


def _device(name: str) -> str:
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
