"""ImageTasks: N-way K-shot classification, whole batches of tasks by one gather on the device.

Images stay on the device as uint8; only those of a batch become float32. Tasks are as in
matching networks (Vinyals et al. 2016): classes are drawn without replacement and numbered in the
order of drawing, and of each class ``shots + queries`` images are drawn without replacement.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from metagym.core.task import SPLITS
from metagym.errors import InvalidArgumentError, check_bool, check_choice, check_positive
from metagym.tasks.few_shot import TaskDistribution, Tasks
from metagym.tasks.glyphs import load_glyphs
from metagym.tasks.image_folder import load_digits, load_folder
from metagym.tasks.image_sets import ImageSet, load_image_set
from metagym.tasks.omniglot import load_omniglot
from metagym.tasks.streams import choose_device

ROTATIONS = ("none", "train", "all")


class ImageTasks(TaskDistribution):
    """Classify the query images of ``ways`` classes after seeing ``shots`` images of each.

    Inputs are float32 [channels, height, width] in [0, 1]; the ink of drawings is 1.

    Args:
        images: an image set, or the name of one.
        ways: classes in a task.
        shots: images of each class to learn from.
        queries: images of each class to be judged on.
        rotations: whose classes come four times, turned by 0°, 90°, 180° and 270° as classes of
            their own: of "none" of the splits, of "train" only, or of "all" (as published
            Omniglot numbers mostly do).
        turn: task augmentation in training: each class of a task is turned as a whole by a
            random multiple of 90°.
        shift: image augmentation in training: every image is moved by up to this many pixels
            each way; what comes in is 0.
        device: where images and tasks lie; "auto" is a GPU where there is one.

    Raises:
        InvalidArgumentError: a bad argument; a split with fewer classes than ways; a class with
            fewer images than shots + queries; images that are not square and are to be turned.
    """

    kind = "classification"

    def __init__(
        self,
        images: ImageSet | str = "glyphs",
        ways: int = 5,
        shots: int = 1,
        queries: int = 15,
        rotations: str = "none",
        turn: bool = False,
        shift: int = 0,
        device: str | torch.device = "auto",
    ) -> None:
        self.images = load_image_set(images) if isinstance(images, str) else images
        self.ways, self.shots = check_positive("ways", ways), check_positive("shots", shots)
        self.queries = check_positive("queries", queries)
        self.rotations = check_choice("rotations", rotations, ROTATIONS)
        self.turn = check_bool("turn", turn)
        self.input_shape = tuple(self.images.images.shape[1:])
        self.shift = _check_shift(shift, self.input_shape)
        self.device = choose_device(device)
        self.outputs, self.support = self.ways, self.ways * self.shots
        self.name = f"{self.images.name} {self.ways}-way {self.shots}-shot"
        height, width = self.input_shape[1:]
        if height != width and (self.turn or self.rotations != "none"):
            raise InvalidArgumentError(
                f"Images of {height} × {width} pixels cannot be turned by 90°; leave "
                "rotations='none' and turn=False, or load them with a square size."
            )
        self._check_counts()
        self._stored = torch.from_numpy(np.array(self.images.images)).to(self.device)
        self._starts = torch.from_numpy(self.images.starts.copy()).to(self.device)
        self._counts = torch.from_numpy(np.array(self.images.counts)).to(self.device)
        self._split = {
            split: torch.from_numpy(np.array(self.images.split[split])).to(self.device)
            for split in SPLITS
        }
        pixels = torch.arange(height * width, device=self.device).view(height, width)
        self._turned = torch.stack([torch.rot90(pixels, k).flatten() for k in range(4)]) if (
            height == width
        ) else pixels.view(1, -1)  # fmt: skip

    def classes(self, split: str) -> int:
        """How many classes tasks of a split are drawn from, turned ones counted."""
        return len(self.images.split[check_choice("split", split, SPLITS)]) * self._times(split)

    def sample(self, count: int, split: str, generator: torch.Generator) -> Tasks:
        """``count`` tasks of a split; see ``TaskDistribution.sample``.

        Raises:
            InvalidArgumentError: a count below 1, no such split, or more tasks than fit in memory.
        """
        count = check_positive("count", count)
        check_choice("split", split, SPLITS)
        self._check_memory(count, split)
        try:
            return self._sample(count, split, generator)
        except (torch.OutOfMemoryError, MemoryError):
            raise self._too_large(count, split) from None
        except RuntimeError as error:
            if "allocate" not in str(error):  # what the CPU says when it has no memory left
                raise
            raise self._too_large(count, split) from None

    # -- the inside ----------------------------------------------------------------------------

    def _sample(self, count: int, split: str, generator: torch.Generator) -> Tasks:
        of_split, total = self._split[split], self.classes(split)
        drawn = self._rand(generator, count, total).topk(self.ways, largest=False).indices
        classes, turns = of_split[drawn % len(of_split)], drawn // len(of_split)
        counts = self._counts[classes]  # [count, ways]
        keys = self._rand(generator, count, self.ways, int(self._counts[of_split].max()))
        missing = torch.arange(keys.shape[-1], device=self.device) >= counts[..., None]
        each = self.shots + self.queries
        examples = keys.masked_fill_(missing, 2.0).topk(each, largest=False).indices
        images = self._stored[self._starts[classes][..., None] + examples]
        if self.turn and split == "train":
            turns = (turns + (4 * self._rand(generator, count, self.ways)).long()) % 4
        if (self.turn and split == "train") or self._times(split) > 1:
            pixels = self._turned[turns][:, :, None, None]  # [count, ways, 1, 1, height · width]
            flat = images.flatten(-2)
            images = flat.gather(-1, pixels.expand_as(flat)).view_as(images)
        if self.shift and split == "train":
            images = self._shifted(images, generator)
        support, query = images[:, :, : self.shots], images[:, :, self.shots :]
        labels = torch.arange(self.ways, device=self.device).expand(count, -1)
        return Tasks(
            _to_float(support.flatten(1, 2)), labels.repeat_interleave(self.shots, 1),
            _to_float(query.flatten(1, 2)), labels.repeat_interleave(self.queries, 1),
        )  # fmt: skip

    def _rand(self, generator: torch.Generator, *shape: int) -> torch.Tensor:
        """Uniform numbers on our device, drawn on that of the generator.

        A CPU generator so gives the same tasks on every device.
        """
        return torch.rand(*shape, generator=generator, device=generator.device).to(self.device)

    def _shifted(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Each image [count, ways, each, channels, height, width] moved by its own offset."""
        shape, shift = images.shape, self.shift
        padded = torch.nn.functional.pad(images.flatten(0, 2), (shift,) * 4)
        offsets = (self._rand(generator, 2, len(padded)) * (2 * shift + 1)).long()
        rows = offsets[0][:, None] + torch.arange(shape[-2], device=self.device)
        columns = offsets[1][:, None] + torch.arange(shape[-1], device=self.device)
        number = torch.arange(len(padded), device=self.device)[:, None, None]
        moved = padded.movedim(1, -1)[number, rows[:, :, None], columns[:, None, :]]
        return moved.movedim(-1, 1).reshape(shape)

    def _times(self, split: str) -> int:
        return 4 if self.rotations == "all" or self.rotations == split else 1

    def _check_counts(self) -> None:
        each = self.shots + self.queries
        for split in SPLITS:
            # A turned digit may be another one.
            may_turn = self._times(split) == 1 and self.images.name != "digits"
            if self.classes(split) < self.ways:
                raise InvalidArgumentError(
                    f"ways={self.ways}, but the {split} split of {self.images.name} has "
                    f"{self.classes(split)} classes; lower ways"
                    + (", or count turned classes with rotations='all'." if may_turn else ".")
                )
            of_split = self.images.split[split]
            least = of_split[np.argmin(self.images.counts[of_split])]
            if self.images.counts[least] < each:
                raise InvalidArgumentError(
                    f"shots={self.shots} and queries={self.queries} need {each} images of a class, "
                    f"but class {self.images.classes[least]!r} ({split}) of {self.images.name} has "
                    f"{self.images.counts[least]}; lower shots or queries."
                )

    def _bytes(self, count: int, split: str) -> int:
        """About what a batch takes: the draws, and each image as uint8 and as float32."""
        pixels = int(np.prod(self.input_shape)) * self.ways * (self.shots + self.queries)
        return count * (5 * pixels + 4 * self.classes(split))

    def _check_memory(self, count: int, split: str) -> None:
        # An operating system may promise more than it has, and end the process that believes it.
        if self.device.type == "cpu" and hasattr(os, "sysconf"):
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            if self._bytes(count, split) > memory > 0:
                raise self._too_large(count, split)

    def _too_large(self, count: int, split: str) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"A batch of {count:,} tasks ({self.ways} ways × {self.shots} + {self.queries} images) "
            f"takes about {self._bytes(count, split) / 2**30:.1f} GiB, more than {self.device} has "
            "left; lower the number of tasks (the meta-batch), queries or ways."
        )


def _to_float(images: torch.Tensor) -> torch.Tensor:
    return images.to(torch.float32).div_(255)


def _check_shift(shift: Any, input_shape: tuple[int, ...]) -> int:
    limit = min(input_shape[1:]) - 1
    if isinstance(shift, bool) or not hasattr(shift, "__index__") or not 0 <= shift <= limit:
        raise InvalidArgumentError(f"shift={shift!r} has to be whole pixels from 0 to {limit}.")
    return int(shift)


# -- the image sets as tasks: ``make_tasks`` finds these by name ---------------------------------


def _tasks_of(load: Callable[..., ImageSet], **defaults: Any) -> Callable[..., ImageTasks]:
    """A factory that takes the arguments of ``load`` and those of ``ImageTasks``.

    Its ``defaults`` go before those of ``ImageTasks``.
    """
    own = inspect.signature(load).parameters
    others = [
        parameter.replace(
            kind=inspect.Parameter.KEYWORD_ONLY, default=defaults.get(name, parameter.default)
        )
        for name, parameter in inspect.signature(ImageTasks).parameters.items()
        if name != "images"
    ]

    def make(**kwargs: Any) -> ImageTasks:
        loaded = load(**{name: kwargs.pop(name) for name in list(kwargs) if name in own})
        return ImageTasks(loaded, **{**defaults, **kwargs})

    first = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own.values()]
    make.__signature__ = inspect.Signature([*first, *others])  # type: ignore[attr-defined]
    return make


glyphs = _tasks_of(load_glyphs)
omniglot = _tasks_of(load_omniglot)
digits = _tasks_of(load_digits, ways=3)  # as many as its smallest split has
folder = _tasks_of(load_folder)
