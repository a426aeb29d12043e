"""TrainingEvaluator: how good an architecture is, by training it on images.

A child is trained with SGD, Nesterov momentum and a cosine schedule; what it is worth is its best
validation accuracy of the last epochs, as in Zoph & Le (2017), section 3.2, and its test score
is measured with the weights of that epoch. What went wrong with a child is part of its record.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from metagym.architectures import make_space
from metagym.architectures.cache import Record, ResultCache, fingerprint
from metagym.architectures.children import Child, ChildEvaluator, check_build, make_settings
from metagym.architectures.evaluator import Evaluation
from metagym.architectures.image_data import ImageData, check_image_data, load_images
from metagym.architectures.recurrent import RecurrentSpace
from metagym.architectures.space import SearchSpace
from metagym.architectures.training_child import Recipe, failed, train
from metagym.errors import InvalidArgumentError, check_above_zero, check_kwargs

_VERSION = 1  # of the training itself: raised with every change that changes its results


class TrainingEvaluator(ChildEvaluator):
    """Builds and trains each architecture on images.

    The reward is (the highest validation accuracy of the last ``recipe.last`` epochs) ** power,
    the test score the test accuracy of the weights of that epoch, and the cost the seconds that
    the child trained. A child that diverges, exceeds a limit or does not fit into memory scores 0
    with a test score of 0; so does one for which the data or the batches are too small, as torch
    says when maps shrink below a layer's kernel, or leave a batch normalisation one number. All
    else that ``space.build`` or its module raises is taken for a bug, and raised.

    Architectures with one canonical key are trained once, and their result is kept: in memory,
    and in ``cache`` between processes. A child's random numbers come from ``recipe.seed`` and its
    key, and it trains on one thread, so that on a CPU its result depends neither on the others
    nor on the number of workers (a limit of seconds aside). ``seeds`` change nothing.

    Args:
        space: ``space.build(tokens, input_shape, outputs, **build_kwargs)`` makes the child. Or
            the name of a space.
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
        device: "cpu", "cuda", "cuda:1" and so on; "auto" is a GPU where there is one.
        build_kwargs: what ``space.build`` is told besides.

    Attributes:
        fingerprint: of everything that the results depend on, but for the code of ``space.build``.
            Whoever changes that gives the space another ``name``, or takes another cache.

    Raises:
        InvalidArgumentError: an argument cannot work.
        DataError: the images or the cache cannot be read.
    """

    name = "train"

    def __init__(
        self,
        space: SearchSpace | str,
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
        super().__init__(cache, workers, pool, address, device)
        self.space = space = make_space(space)
        if isinstance(space, RecurrentSpace):
            raise InvalidArgumentError(
                f"The cells of the space {space.name!r} read text, not images; score them with "
                "evaluator='language'."
            )
        self.build_kwargs = check_kwargs("build_kwargs", build_kwargs)
        check_build(space, ("tokens", "input_shape", "outputs"), self.build_kwargs)
        self.data: ImageData = (
            load_images(data, folder) if isinstance(data, str) else check_image_data(data)
        )
        self.power = check_above_zero("power", power)
        self.recipe = make_settings("recipe", Recipe, recipe)
        self.fingerprint = fingerprint(
            version=_VERSION, space=[space.name, space.length, list(space.vocabulary)],
            data=list(self.data), recipe=self.recipe.as_dict(), build=self.build_kwargs,
        )  # fmt: skip

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
        of memory", "killed", or "failed", which a ``message`` of torch explains), the accuracies
        ``validation`` and ``test``, ``curve`` (validation accuracy by epoch), ``epoch`` (the one
        that counts, from 1 on), ``seconds``, ``parameters`` and ``architecture`` (the string of
        the one that was trained).
        """
        tokens = self.space.check(tokens)
        children: dict[str, Child] = {}
        keys = [self.space.canonical(row) for row in tokens]
        for key, row in zip(keys, tokens, strict=True):
            children.setdefault(key, Child(key, row, self.space.to_string(row)))
        self._train(children.values())
        return [self._known[key] for key in keys]

    def _work(self) -> tuple[Callable[[Child, Any], Record], Any]:
        return train, {
            "space": self.space, "data": self.data, "recipe": self.recipe,
            "device": self.device, "build_kwargs": self.build_kwargs,
        }  # fmt: skip

    def _killed(self, child: Child) -> Record:
        return failed(child, "killed")
