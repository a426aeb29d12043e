"""Task distributions to train on that differ from those to be judged on.

TrainOn(thirty_ways, five_ways)                     more ways in training (Snell et al. 2017)
TrainOn(AllClasses(examples, labels), five_ways)    ordinary classification, for controls

``training_tasks(recipe, tasks)`` makes them as a recipe says; ``all_classes(tasks)`` is ordinary
classification of the training classes that ``tasks`` are drawn from.
"""

from __future__ import annotations

import torch

from metagym.baselines.few_shot.recipes import Recipe
from metagym.core.task import SPLITS
from metagym.errors import InvalidArgumentError, check_positive
from metagym.tasks.episodes import ImageTasks
from metagym.tasks.few_shot import TaskDistribution, Tasks


class TrainOn(TaskDistribution):
    """Training tasks of one distribution, validation and test tasks of another.

    Its shape (ways, support) is that of what is judged.

    Args:
        train: gives the split "train".
        judged: gives all others.

    Raises:
        InvalidArgumentError: the two differ in kind or inputs.
    """

    def __init__(self, train: TaskDistribution, judged: TaskDistribution) -> None:
        for name in ("kind", "input_shape"):
            one, other = getattr(train, name), getattr(judged, name)
            if one != other:
                raise InvalidArgumentError(
                    f"Training tasks with the {name} {one!r} do not prepare for {other!r}."
                )
        self.train, self.judged = train, judged
        self.name = f"{judged.name}, trained on {train.name}"
        self.kind, self.input_shape = judged.kind, tuple(judged.input_shape)
        self.outputs, self.support = judged.outputs, judged.support

    def sample(self, count: int, split: str, generator: torch.Generator) -> Tasks:
        source = self.train if split == "train" else self.judged
        return source.sample(count, split, generator)


class AllClasses(TaskDistribution):
    """Minibatches of ordinary classification, as tasks with nothing to learn from.

    ``query_y`` are classes of the data set, not of a task. There is a train split only.

    Args:
        examples: all of training, [n, *input_shape], on their device; uint8 is divided by 255.
        labels: int64 [n], 0 … classes - 1.
        batch: examples in a "task".

    Attributes:
        classes: how many there are.

    Raises:
        InvalidArgumentError: not as many labels as examples, or a class without any.
    """

    name, kind = "all classes", "classification"

    def __init__(self, examples: torch.Tensor, labels: torch.Tensor, batch: int = 64) -> None:
        if labels.shape != examples.shape[:1] or not len(labels):
            raise InvalidArgumentError(
                f"Labels {tuple(labels.shape)} do not fit to examples {tuple(examples.shape)}."
            )
        found = torch.unique(labels)
        if found[0] != 0 or found[-1] != len(found) - 1:
            raise InvalidArgumentError(
                f"{len(found)} classes have to be numbered 0 … {len(found) - 1}, not "
                f"{int(found[0])} … {int(found[-1])}."
            )
        self.examples, self.labels = examples, labels.to(examples.device)
        self.batch, self.classes = check_positive("batch", batch), len(found)
        self.input_shape = tuple(examples.shape[1:])
        self.outputs, self.support = self.classes, 1

    def sample(self, count: int, split: str, generator: torch.Generator) -> Tasks:
        if split != "train":
            raise InvalidArgumentError(
                f"split={split!r}: its classes are no training classes; judge on few-shot tasks."
            )
        device = self.examples.device
        rows = torch.randint(
            len(self.labels), (count, self.batch), generator=generator, device=generator.device
        ).to(device)
        x = self.examples[rows]
        x = x.float() / 255.0 if x.dtype == torch.uint8 else x
        return Tasks(x[:, :0], self.labels[rows][:, :0], x, self.labels[rows])


def all_classes(tasks: ImageTasks, batch: int = 64) -> AllClasses:
    """Ordinary classification of the training classes of ``tasks``, turned ones included.

    Args:
        tasks: whose images, rotations and device are taken.
        batch: examples in a minibatch.
    """
    source = tasks.images
    parts, labels = [], []
    for label, number in enumerate(source.split["train"]):
        start, count = int(source.starts[number]), int(source.counts[number])
        parts.append(torch.from_numpy(source.images[start : start + count].copy()))
        labels.append(torch.full((count,), label))
    examples, classes = torch.cat(parts), torch.cat(labels)
    if tasks.rotations in ("train", "all"):
        turned = [torch.rot90(examples, k, (-2, -1)) for k in range(4)]
        examples = torch.cat(turned)
        classes = torch.cat([classes + k * len(parts) for k in range(4)])
    return AllClasses(examples.to(tasks.device), classes.to(tasks.device), batch)


def training_tasks(recipe: Recipe, judged: TaskDistribution) -> TaskDistribution:
    """What a recipe trains on for the tasks ``judged``; those themselves where it changes nothing.

    More ways than a split has classes become as many as there are.

    Raises:
        InvalidArgumentError: classes do not have as many images as the recipe needs.
    """
    if not isinstance(judged, ImageTasks):
        return judged
    if recipe.all_classes:
        return TrainOn(all_classes(judged), judged)
    changes = dict(recipe.tasks)
    if "ways" in changes:  # small sets have few classes to train on
        most = min(judged.classes(split) for split in SPLITS)
        changes["ways"] = max(judged.ways, min(changes["ways"], most))
    if not changes:
        return judged
    same = {
        name: getattr(judged, name)
        for name in ("ways", "shots", "queries", "rotations", "turn", "shift", "device")
    }
    return TrainOn(ImageTasks(judged.images, **{**same, **changes}), judged)
