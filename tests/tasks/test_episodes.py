"""ImageTasks: the gather against a slow reference, splits, augmentation, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metagym.errors import InvalidArgumentError
from metagym.tasks.episodes import ImageTasks
from metagym.tasks.image_sets import pack

COUNTS = (9, 6, 7, 8, 6, 9, 6, 7, 8, 6, 7, 9)
SPLIT = {"train": [0, 3, 6, 7, 9, 11], "validation": [1, 4, 10], "test": [2, 5, 8]}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images():
    """Twelve classes of unlike counts; no two images are equal, not even when turned."""
    rng = np.random.default_rng(0)
    groups = {
        f"class {i}": rng.integers(0, 256, (count, 2, 5, 5), dtype=np.uint8)
        for i, count in enumerate(COUNTS)
    }
    return pack("toy", groups, SPLIT)


@pytest.fixture(scope="module")
def where(images):
    """``where(image)``: (class, number, turn) of a float image, by looking at them all."""
    known = {}
    for row, image in enumerate(images.images):
        of_class = int(np.searchsorted(images.starts, row, side="right") - 1)
        for turn in range(4):
            turned = np.rot90(image, turn, (1, 2)).tobytes()
            known[turned] = of_class, row - int(images.starts[of_class]), turn
    assert len(known) == 4 * len(images.images)
    return lambda image: known[np.rint(np.asarray(image) * 255).astype(np.uint8).tobytes()]


def check_tasks(where, tasks, distribution, split):
    """A batch against the definition, image by image; returns (class, turn) by task and label."""
    ways, shots, queries = distribution.ways, distribution.shots, distribution.queries
    batch = len(tasks.support_x)
    assert tasks.support_x.shape == (batch, ways * shots, 2, 5, 5)
    assert tasks.query_x.shape == (batch, ways * queries, 2, 5, 5)
    assert tasks.support_x.dtype == tasks.query_x.dtype == torch.float32
    assert tasks.support_y.dtype == tasks.query_y.dtype == torch.int64
    found = []
    for task in range(batch):
        assert tasks.support_y[task].tolist() == np.repeat(np.arange(ways), shots).tolist()
        assert tasks.query_y[task].tolist() == np.repeat(np.arange(ways), queries).tolist()
        by_label = {}
        numbers = {}
        for x, y in ((tasks.support_x, tasks.support_y), (tasks.query_x, tasks.query_y)):
            for image, label in zip(x[task], y[task].tolist(), strict=True):
                of_class, number, turn = where(image)
                assert of_class in SPLIT[split]
                # All images of a label are of one class, and turned alike.
                assert by_label.setdefault(label, (of_class, turn)) == (of_class, turn)
                numbers.setdefault(label, []).append(number)
        # No image comes twice, in support and query together; no class is two labels.
        assert all(len(set(drawn)) == shots + queries for drawn in numbers.values())
        assert len(set(by_label.values())) == ways
        found.append([by_label[label] for label in range(ways)])
    return found


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("rotations", ["none", "train", "all"])
def test_tasks_are_what_the_definition_says(images, where, split, rotations):
    distribution = ImageTasks(images, 3, 2, 3, rotations=rotations, device="cpu")
    assert distribution.support == 6 and distribution.outputs == 3
    tasks = distribution.sample(8, split, seeded())
    found = check_tasks(where, tasks, distribution, split)
    turns = {turn for task in found for _, turn in task}
    turned = rotations == "all" or rotations == split
    assert (turns > {0}) if turned else turns == {0}
    assert distribution.classes(split) == len(SPLIT[split]) * (4 if turned else 1)


def test_every_class_turn_and_image_is_drawn_equally_often(images, where):
    distribution = ImageTasks(images, 2, 1, 1, rotations="all", device="cpu")
    tasks = distribution.sample(600, "validation", seeded())
    found = check_tasks(where, tasks, distribution, "validation")
    classes = [of_class * 4 + turn for task in found for of_class, turn in task]
    _, counts = np.unique(classes, return_counts=True)
    # 1,200 draws of 12; five standard errors of a binomial count.
    assert len(counts) == 12 and np.abs(counts - 100).max() < 5 * np.sqrt(1200 / 12)
    numbers = [where(image)[:2] for image in tasks.support_x.flatten(0, 1)]
    for of_class in SPLIT["validation"]:
        drawn = np.bincount([n for c, n in numbers if c == of_class], minlength=COUNTS[of_class])
        assert len(drawn) == COUNTS[of_class]
        assert np.abs(drawn - drawn.mean()).max() < 5 * np.sqrt(drawn.mean())


def test_labels_say_nothing_of_classes(images, where):
    distribution = ImageTasks(images, 3, 1, 1, device="cpu")
    tasks = distribution.sample(300, "test", seeded())
    found = check_tasks(where, tasks, distribution, "test")
    first = np.bincount([task[0][0] for task in found], minlength=9)[SPLIT["test"]]
    assert np.abs(first - 100).max() < 5 * np.sqrt(100)


def test_the_same_seed_gives_the_same_tasks_and_the_stream_goes_on(images):
    distribution = ImageTasks(images, 3, 1, 2, rotations="train", turn=True, shift=1, device="cpu")
    generator = seeded(1)
    first, second = (distribution.sample(4, "train", generator) for _ in range(2))
    for a, b in zip(first, distribution.sample(4, "train", seeded(1)), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.support_x, second.support_x)


def test_classes_are_turned_as_a_whole_in_training_only(images, where):
    distribution = ImageTasks(images, 3, 2, 2, turn=True, device="cpu")
    found = check_tasks(where, distribution.sample(8, "train", seeded()), distribution, "train")
    assert {turn for task in found for _, turn in task} == {0, 1, 2, 3}
    # The classes of a task still differ, turned or not.
    assert all(len({of_class for of_class, _ in task}) == 3 for task in found)
    found = check_tasks(where, distribution.sample(8, "test", seeded()), distribution, "test")
    assert {turn for task in found for _, turn in task} == {0}


def test_images_are_moved_in_training_only(images):
    plain = ImageTasks(images, 2, 2, 2, device="cpu")
    moved = ImageTasks(images, 2, 2, 2, shift=2, device="cpu")
    for a, b in zip(
        plain.sample(3, "test", seeded()), moved.sample(3, "test", seeded()), strict=True
    ):
        assert torch.equal(a, b)
    # The draws of the shift come last, so that the tasks before it are the same.
    before = plain.sample(30, "train", seeded()).query_x.flatten(0, 1).numpy()
    after = moved.sample(30, "train", seeded()).query_x.flatten(0, 1).numpy()
    offsets = set()
    for one, other in zip(before, after, strict=True):
        padded = np.pad(one, ((0, 0), (2, 2), (2, 2)))
        fits = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if np.array_equal(padded[:, down : down + 5, right : right + 5], other)
        ]
        assert len(fits) == 1
        offsets.add(fits[0])
    assert len(offsets) > 15


def test_images_become_numbers_from_0_to_1(images):
    distribution = ImageTasks(images, 2, 1, 1, device="cpu")
    x = distribution.sample(50, "train", seeded()).support_x
    assert x.min() == 0 and x.max() == 1
    assert torch.equal(x * 255, (x * 255).round())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ways": 4}, r"ways=4, but the validation split of toy has 3 classes.*rotations='all'"),
        ({"ways": 13, "rotations": "all"}, "validation split of toy has 12 classes; lower ways."),
        ({"ways": 3, "shots": 2, "queries": 5}, r"need 7 images.*'class 6' \(train\).* has 6"),
        ({"ways": 0}, "ways=0"),
        ({"rotations": "test"}, "rotations='test'"),
        ({"turn": "yes"}, "turn='yes'"),
        ({"shift": 5}, "shift=5 .* 0 to 4"),
        ({"shift": -1}, "shift=-1"),
        ({"device": "abacus"}, "device='abacus'"),
    ],
)
def test_bad_arguments(images, arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        ImageTasks(images, **{"ways": 3, "shots": 1, "queries": 1, **arguments})


def test_images_that_are_not_square_are_not_turned():
    groups = {str(i): np.zeros((2, 4, 6), np.uint8) for i in range(3)}
    flat = pack("flat", groups, {"train": [0], "validation": [1], "test": [2]})
    tasks = ImageTasks(flat, 1, 1, 1, shift=1, device="cpu").sample(2, "train", seeded())
    assert tasks.query_x.shape == (2, 1, 1, 4, 6)
    for arguments in ({"turn": True}, {"rotations": "train"}):
        with pytest.raises(InvalidArgumentError, match="4 × 6 pixels cannot be turned"):
            ImageTasks(flat, 1, 1, 1, **arguments)


def test_turned_classes_are_no_advice_for_digits(images):
    with pytest.raises(InvalidArgumentError, match="or count turned classes"):
        ImageTasks(images, 4, 1, 1, device="cpu")
    with pytest.raises(InvalidArgumentError, match=r"digits has 4 classes; lower ways\.$"):
        ImageTasks("digits", 5, device="cpu")


def test_bad_samples(images):
    distribution = ImageTasks(images, 3, 1, 1, device="cpu")
    with pytest.raises(InvalidArgumentError, match="split='dev'"):
        distribution.sample(2, "dev", seeded())
    with pytest.raises(InvalidArgumentError, match="count=0"):
        distribution.sample(0, "train", seeded())


def test_a_batch_larger_than_memory_says_what_to_lower(images, monkeypatch):
    distribution = ImageTasks(images, 3, 1, 1, device="cpu")
    with pytest.raises(InvalidArgumentError, match="lower the number of tasks"):
        distribution.sample(10**12, "train", seeded())
    # Without the estimate, the allocator's own words come to the same.
    monkeypatch.setattr(distribution, "_check_memory", lambda *_: None)
    with pytest.raises(InvalidArgumentError, match=r"GiB.*lower the number of tasks"):
        distribution.sample(10**14, "train", seeded())

    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(distribution, "_sample", no_memory)
    with pytest.raises(InvalidArgumentError, match="lower the number of tasks"):
        distribution.sample(1, "train", seeded())

    def broken(*_):
        raise RuntimeError("something else")

    monkeypatch.setattr(distribution, "_sample", broken)
    with pytest.raises(RuntimeError, match="something else"):
        distribution.sample(1, "train", seeded())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_cpu_generator_gives_the_same_tasks_on_a_gpu(images):
    arguments = {"ways": 3, "queries": 2, "rotations": "train", "turn": True, "shift": 1}
    here = ImageTasks(images, **arguments, device="cpu").sample(4, "train", seeded())
    there = ImageTasks(images, **arguments).sample(4, "train", seeded())
    for a, b in zip(here, there, strict=True):
        assert b.is_cuda
        assert torch.equal(a, b.cpu())
