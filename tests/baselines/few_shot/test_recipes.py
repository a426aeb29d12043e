"""The table of recipes: published settings, the same on the command line and in experiments."""

from __future__ import annotations

import pytest
import torch

from metagym.baselines.few_shot import METHODS, method_class
from metagym.baselines.few_shot.command import Face
from metagym.baselines.few_shot.recipes import IMAGES, SINUSOID, recipe
from metagym.baselines.few_shot.train import TrainConfig
from metagym.baselines.few_shot.training_tasks import AllClasses, TrainOn, training_tasks
from metagym.errors import InvalidArgumentError
from metagym.tasks import make_tasks


@pytest.mark.parametrize("long", [True, False])
@pytest.mark.parametrize("ways", [5, 20])
@pytest.mark.parametrize("row", IMAGES)
def test_recipes_are_settings_that_their_method_and_the_loop_take(row, ways, long):
    found = recipe(row, "images", ways, 1, long=long)
    config = method_class(found.method).Config(**found.fields)
    loop = TrainConfig(**found.loop)
    assert config and loop
    assert row.startswith(found.method) and found.method in METHODS


def test_recipes_of_sinusoids_too():
    for name in METHODS:
        found = recipe(name, "sinusoid")
        method_class(name).Config(**found.fields)
        TrainConfig(**found.loop)
        assert found.tasks == {} and not found.all_classes
    assert set(SINUSOID) <= set(METHODS)
    with pytest.raises(InvalidArgumentError, match="kind='sinusoids'"):
        recipe("maml", "sinusoids")


def test_published_settings_depend_on_ways_and_shots():
    five, twenty = recipe("maml"), recipe("maml", ways=20)
    numbers = [(r.fields["inner_lr"], r.fields["inner_steps"], r.fields["test_steps"],
                r.loop["meta_batch"], r.loop["iterations"]) for r in (five, twenty)]  # fmt: skip
    assert numbers == [(0.4, 1, 3, 32, 60_000), (0.1, 5, 5, 16, 60_000)]
    five, twenty = recipe("reptile"), recipe("reptile", ways=20)
    assert (five.fields["minibatch"], five.loop["iterations"]) == (10, 100_000)
    assert (twenty.fields["minibatch"], twenty.fields["inner_steps"]) == (20, 10)
    assert recipe("prototypical", shots=5).tasks == {"ways": 60, "shots": 5, "queries": 5}
    assert recipe("prototypical", shots=1).tasks["shots"] == 1


def test_short_recipes_are_the_same_for_all_ways_and_shots():
    for row in IMAGES:
        short = recipe(row, ways=20, shots=5, long=False)
        assert short == recipe(row, long=False) == IMAGES[row]
        assert "patience" not in short.loop
    assert recipe("prototypical", shots=5, long=False).tasks["shots"] == 1
    assert recipe("maml", long=False).loop["meta_batch"] == 16


def test_the_command_line_takes_the_same_recipes():
    for name in METHODS:
        for ways in (5, 20):
            found = recipe(name, "images", ways)
            config = Face(name).recipe("Glyphs", {"ways": ways})
            for field, value in {**found.fields, **found.loop}.items():
                assert getattr(config, field) == value, (name, field)
    assert Face("maml_plus_plus").recipe("omniglot").inner_lr == 0.1
    assert Face("maml").recipe("omniglot").test_steps == 3
    assert Face("reptile").recipe("sinusoid").optimizer == "sgd"


def test_training_tasks_are_those_of_the_recipe():
    judged = make_tasks("digits", ways=3, shots=2, queries=4, device="cpu")
    generator = torch.Generator().manual_seed(0)
    many = training_tasks(recipe("prototypical", ways=3, shots=2), judged)
    tasks = many.sample(2, "train", generator)
    assert tasks.support_y.shape == (2, 6) and tasks.query_y.shape == (2, 15)  # no more classes
    assert many.sample(2, "test", generator).query_y.shape == (2, 12)
    controls = training_tasks(recipe("fine_tuning"), judged)
    assert isinstance(controls, TrainOn) and isinstance(controls.train, AllClasses)
    assert controls.train.classes == len(judged.images.split["train"])
    sinusoid = make_tasks("sinusoid", shots=2)
    assert training_tasks(recipe("prototypical"), sinusoid) is sinusoid


def test_all_classes_are_the_training_images_with_turned_ones_as_further_classes():
    from metagym.baselines.few_shot.training_tasks import all_classes

    judged = make_tasks("digits", ways=3, queries=4, rotations="train", device="cpu")
    found, images = all_classes(judged, batch=7), judged.images
    numbers = images.split["train"]
    count = int(images.counts[numbers].sum())
    assert found.classes == 4 * len(numbers) and len(found.labels) == 4 * count
    for label, number in enumerate(numbers):
        own = images.images[images.starts[number] :][: images.counts[number]]
        assert torch.equal(found.examples[found.labels == label], torch.tensor(own))
        turned = found.examples[found.labels == label + 2 * len(numbers)]
        assert torch.equal(turned, torch.tensor(own).flip((-1, -2)))
    assert found.sample(2, "train", torch.Generator()).query_y.shape == (2, 7)
