"""Training of children: rewards, limits, failures that are recorded, the cache and the workers."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from metagym.architectures import make_evaluator
from metagym.architectures.cache import ResultCache
from metagym.architectures.children import check_device, out_of_memory, too_small
from metagym.architectures.image_data import ImageData, check_image_data, load_images
from metagym.architectures.space import PAD, SearchSpace
from metagym.architectures.training import TrainingEvaluator
from metagym.architectures.training_child import Recipe
from metagym.errors import DataError, InvalidArgumentError

QUICK = Recipe(epochs=3, last=2)


class Layers(SearchSpace):
    """Two tokens, what a child does; the order of the two makes no difference to its key."""

    name = "layers"
    vocabulary = (
        "linear", "nothing", "diverges", "memory", "bug", "dies", "interrupt", "sleeps",
        "normalises", "judges slowly", "stumbles",
    )  # fmt: skip
    length = 2

    def mask(self, tokens):
        open_ = np.asarray(tokens)[:, -1] == PAD
        return np.repeat(open_[:, None], len(self.vocabulary), axis=1)

    def to_string(self, tokens):
        return "-".join(self.vocabulary[token] for token in tokens)

    def from_string(self, text):
        return np.array([self.vocabulary.index(name) for name in text.split("-")])

    def canonical(self, tokens):
        return self.to_string(np.sort(tokens))

    def build(self, tokens, input_shape, outputs, *, width=16):
        import torch
        from torch import nn

        class Layer(nn.Module):
            def __init__(self, kind):
                super().__init__()
                self.kind = kind

            def forward(self, x):
                if self.kind == "diverges":
                    return x * float("inf")
                if self.kind == "dies":
                    os.kill(os.getpid(), signal.SIGKILL)
                if self.kind == "interrupt":
                    raise KeyboardInterrupt
                if self.kind == "sleeps":
                    time.sleep(0.05)
                if self.kind == "judges slowly" and not self.training:
                    time.sleep(0.2)
                if self.kind == "stumbles":
                    raise ValueError("a bug of the module")
                if self.kind == "memory":
                    torch.empty(2**60)
                return x

        kinds = [self.vocabulary[token] for token in tokens]
        if "bug" in kinds:
            raise RuntimeError("a bug of the space")
        own = {
            "linear": lambda: nn.Linear(width, width),
            "normalises": lambda: nn.BatchNorm1d(width),
        }
        layers = [own[kind]() if kind in own else Layer(kind) for kind in kinds]
        size = int(np.prod(input_shape))
        if width == 0:  # a child without a parameter
            return nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(outputs))
        return nn.Sequential(
            nn.Flatten(), nn.Linear(size, width), *layers, nn.Linear(width, outputs)
        )


SPACE = Layers()


def tokens(*names):
    return np.stack([SPACE.from_string(name) for name in names])


@pytest.fixture(scope="module")
def small():
    """A hundred digits to train on, fifty each for validation and test."""
    data = load_images("digits")
    return ImageData(
        *(array[:size] for array, size in zip(data, (100, 100, 50, 50, 50, 50), strict=True))
    )


def test_children_learn_digits():
    evaluator = TrainingEvaluator(SPACE, recipe=Recipe(epochs=10))
    scores = evaluator.evaluate(tokens("linear-nothing"))
    (record,) = evaluator.records(tokens("linear-nothing"))
    assert record["status"] == "trained" and len(record["curve"]) == 10
    assert scores.reward[0] == record["validation"] > 0.85 and scores.test[0] > 0.85
    assert record["parameters"] == 65 * 16 + 17 * 16 + 17 * 10
    assert scores.cost[0] == record["seconds"] > 0


def test_the_reward_is_the_best_of_the_last_epochs_to_a_power(small):
    recipe = Recipe(epochs=6, last=3)
    one, three = (
        TrainingEvaluator(SPACE, small, recipe=recipe, power=power) for power in (1.0, 3.0)
    )
    (record,) = one.records(tokens("linear-linear"))
    best = max(record["curve"][3:])
    assert record["validation"] == best
    assert record["epoch"] == 4 + record["curve"][3:].index(best)
    (reward,) = one.evaluate(tokens("linear-linear")).reward
    assert reward == best
    np.testing.assert_allclose(three.evaluate(tokens("linear-linear")).reward, best**3)
    assert one.fingerprint == three.fingerprint  # the accuracies are the same


def test_the_test_score_is_of_the_weights_of_the_best_epoch(small):
    # Stopping at that epoch, on the schedule of the whole, is not an option of a recipe; but with
    # test data that are the validation data, the score says which weights were measured.
    same = small._replace(test_images=small.validation_images, test_labels=small.validation_labels)
    for recipe in (Recipe(epochs=6, last=6), Recipe(epochs=6, last=1)):
        evaluator = TrainingEvaluator(SPACE, same, recipe=recipe)
        for record in evaluator.records(tokens("linear-linear", "nothing-nothing")):
            assert record["test"] == record["validation"] > 0


def test_failures_score_nothing_and_say_why(small):
    names = ("linear-diverges", "memory-linear", "nothing-nothing")
    evaluator = TrainingEvaluator(SPACE, small, recipe=QUICK)
    scores = evaluator.evaluate(tokens(*names))
    statuses = [record["status"] for record in evaluator.records(tokens(*names))]
    assert statuses == ["diverged", "out of memory", "trained"]
    assert scores.reward[0] == scores.reward[1] == scores.test[0] == 0 < scores.reward[2]


def test_a_child_without_parameters_is_measured(small):
    evaluator = TrainingEvaluator(SPACE, small, recipe=QUICK, build_kwargs={"width": 0})
    (record,) = evaluator.records(tokens("nothing-nothing"))
    assert record["status"] == "trained" and record["parameters"] == 0
    assert 0 < record["test"] < 0.5


def test_limits(small):
    narrow = TrainingEvaluator(
        SPACE, small, recipe=Recipe(epochs=2, last=1, parameters=65 * 16 + 17 * 10)
    )
    statuses = [r["status"] for r in narrow.records(tokens("nothing-nothing", "linear-nothing"))]
    assert statuses == ["trained", "too many parameters"]
    hasty = TrainingEvaluator(SPACE, small, recipe=Recipe(epochs=1000, last=1, seconds=0.3))
    (record,) = hasty.records(tokens("sleeps-nothing"))
    assert record["status"] == "too slow" and 0.3 < record["seconds"] < 5
    assert hasty.evaluate(tokens("sleeps-nothing")).reward == 0


def test_a_child_for_which_the_batches_are_too_small_has_failed(small):
    """torch refuses to normalise a batch of one."""
    recipe = Recipe(epochs=1, last=1, batch_size=1, learning_rate=0.002)
    evaluator = TrainingEvaluator(SPACE, small, recipe=recipe)
    records = evaluator.records(tokens("normalises-linear", "nothing-linear"))
    assert [record["status"] for record in records] == ["failed", "trained"]
    assert "more than 1 value per channel" in records[0]["message"]
    assert records[0]["parameters"] == 65 * 16 + 2 * 16 + 17 * 16 + 17 * 10
    assert evaluator.evaluate(tokens("normalises-linear")).reward == 0


def test_what_torch_says_of_small_inputs():
    import torch
    from torch import nn

    for layer, size in (
        (nn.BatchNorm2d(1), 1), (nn.InstanceNorm2d(1), 1), (nn.Conv2d(1, 1, 5), 3),
        (nn.MaxPool2d(5), 3), (nn.AvgPool2d(5), 3), (nn.ReflectionPad2d(4), 3),
    ):  # fmt: skip
        with pytest.raises((RuntimeError, ValueError)) as caught:
            layer(torch.zeros(1, 1, size, size))
        assert too_small(caught.value) and not out_of_memory(caught.value), layer
    with pytest.raises(RuntimeError) as caught:
        nn.Linear(3, 3)(torch.zeros(1, 2))
    assert not too_small(caught.value)


def test_the_limit_of_seconds_holds_while_a_child_is_judged(small):
    """Ten parts of validation images, 0.2 s each."""
    images, labels = (np.concatenate([a] * 103)[:5120] for a in small[2:4])
    many = small._replace(validation_images=images, validation_labels=labels)
    evaluator = TrainingEvaluator(SPACE, many, recipe=Recipe(epochs=1, last=1, seconds=0.5))
    (record,) = evaluator.records(tokens("judges slowly-linear"))
    assert record["status"] == "too slow" and record["seconds"] < 2


def test_a_bug_and_an_interrupt_are_not_hidden(small):
    evaluator = TrainingEvaluator(SPACE, small, recipe=QUICK)
    with pytest.raises(RuntimeError, match="a bug of the space"):
        evaluator.evaluate(tokens("bug-linear"))
    with pytest.raises(ValueError, match="a bug of the module"):
        evaluator.evaluate(tokens("stumbles-linear"))
    with pytest.raises(KeyboardInterrupt):
        evaluator.evaluate(tokens("linear-linear", "interrupt-linear"))
    # What was trained before the interrupt is kept.
    assert list(evaluator._known) == ["linear-linear"]


def test_results_depend_on_the_seed_and_the_key_alone(small):
    import torch

    def curves(evaluator, *names):
        return [record["curve"] for record in evaluator.records(tokens(*names))]

    torch.manual_seed(5)
    state = torch.get_rng_state()
    both = curves(TrainingEvaluator(SPACE, small, recipe=QUICK), "linear-linear", "linear-nothing")
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(6)
    alone = curves(TrainingEvaluator(SPACE, small, recipe=QUICK), "linear-nothing")
    assert both[1] == alone[0]
    other = TrainingEvaluator(SPACE, small, recipe=Recipe(epochs=3, last=2, seed=1))
    assert curves(other, "linear-nothing") != alone


def test_isomorphic_architectures_are_trained_once(small):
    evaluator = TrainingEvaluator(SPACE, small, recipe=QUICK)
    records = evaluator.records(tokens("linear-nothing", "nothing-linear"))
    assert records[0] is records[1] and records[0]["architecture"] == "linear-nothing"


def test_the_cache_spares_training_and_knows_what_matters(small, tmp_path, monkeypatch):
    path = tmp_path / "results.sqlite"
    names = ("linear-linear", "linear-diverges")
    first = TrainingEvaluator(SPACE, small, recipe=QUICK, cache=path)
    records = first.records(tokens(*names))
    monkeypatch.setattr("metagym.architectures.training.train", lambda *_: pytest.fail("trained"))
    again = TrainingEvaluator(SPACE, small, recipe=QUICK, cache=ResultCache(path), power=2.0)
    assert again.records(tokens(*names)) == records
    changed = small._replace(train_labels=(small.train_labels + 1) % 10)
    for data, kwargs in (
        (small, {"recipe": Recipe(epochs=4, last=2)}),
        (small, {"recipe": QUICK, "build_kwargs": {"width": 8}}),
        (changed, {"recipe": QUICK}),
    ):
        other = TrainingEvaluator(SPACE, data, cache=path, **kwargs)
        assert other.fingerprint != first.fingerprint
        with pytest.raises(pytest.fail.Exception, match="trained"):
            other.records(tokens(*names))
    path.write_bytes(b"damaged" * 1000)
    with pytest.raises(DataError, match="cannot be used"):
        TrainingEvaluator(SPACE, small, cache=path)


def test_a_child_that_is_killed_twice_scores_nothing(small, tmp_path):
    names = ("linear-linear", "nothing-linear", "linear-diverges", "dies-linear")
    expected = TrainingEvaluator(SPACE, small, recipe=QUICK).records(tokens(*names[:3]))
    with TrainingEvaluator(
        SPACE, small, recipe=QUICK, workers=2, cache=tmp_path / "results.sqlite"
    ) as evaluator:
        records = evaluator.records(tokens(*names))
        assert records[3]["status"] == "killed" and records[3]["validation"] == 0
        assert len(evaluator.cache) == 4
    for record, wanted in zip(records[:3], expected, strict=True):
        assert record | {"seconds": 0} == wanted | {"seconds": 0}


def test_user_data_of_tensors(small):
    import torch

    tensors = {name: torch.from_numpy(array.copy()) for name, array in small._asdict().items()}
    tensors["train_images"] = tensors["train_images"][:, 0]  # without a channel axis
    given = TrainingEvaluator(SPACE, tensors, recipe=QUICK)
    plain = TrainingEvaluator(SPACE, small, recipe=QUICK)
    assert given.fingerprint == plain.fingerprint and given.data.input_shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_images": None}, "test_images"),
        ({"test_labels": np.zeros(3, int)}, r"test_images .* and test_labels \(3,\)"),
        ({"train_labels": np.zeros(100)}, "train_labels have to be whole numbers"),
        ({"train_labels": np.full(100, -1)}, "train_labels have to be whole numbers"),
        ({"test_labels": np.full(50, 10)}, "test data .* up to 10.* up to 9"),
        ({"validation_images": np.zeros((50, 1, 9, 8))}, "validation data"),
        ({"train_images": np.full((100, 1, 8, 8), np.nan)}, "no finite number"),
    ],
)
def test_user_data_that_cannot_be(small, change, message):
    with pytest.raises(InvalidArgumentError, match=message):
        check_image_data({**small._asdict(), **change})


def test_data_by_name_and_by_parts(small):
    data = load_images("digits")
    assert data.input_shape == (1, 8, 8) and data.classes == 10
    assert [len(labels) for labels in data[1::2]] == [898, 449, 450]
    with pytest.raises(InvalidArgumentError, match="Did you mean 'digits'"):
        TrainingEvaluator(SPACE, "digit")
    parts = small._asdict()
    del parts["test_labels"]
    with pytest.raises(InvalidArgumentError, match=r"instead of .*test_labels"):
        check_image_data(parts)
    with pytest.raises(InvalidArgumentError, match="5 parts"):
        check_image_data(tuple(small)[:5])


@pytest.mark.parametrize(
    "kwargs",
    [
        {"epochs": 0}, {"batch_size": 0}, {"last": 0}, {"seconds": 0}, {"parameters": 0},
        {"learning_rate": 0}, {"learning_rate": float("nan")}, {"momentum": 1.0},
        {"learning_rate": "a"}, {"seconds": "a"}, {"momentum": "a"}, {"weight_decay": -1},
        {"weight_decay": "a"}, {"weight_decay": float("nan")}, {"seed": 0.5}, {"seed": "a"},
    ],
)  # fmt: skip
def test_recipes_that_cannot_be(kwargs):
    with pytest.raises(InvalidArgumentError, match=next(iter(kwargs))):
        Recipe(**kwargs)


def test_arguments_that_cannot_be(small):
    for kwargs in (
        {"power": 0}, {"power": "a"}, {"workers": -1}, {"workers": 1.5}, {"workers": True},
        {"device": "foo"}, {"device": "cpu:a"}, {"device": "cuda:99"}, {"build_kwargs": 3},
        {"build_kwargs": {"depth": 3}}, {"recipe": 3},
    ):  # fmt: skip
        with pytest.raises(InvalidArgumentError, match=next(iter(kwargs))):
            TrainingEvaluator(SPACE, small, **kwargs)
    with pytest.raises(InvalidArgumentError, match=r"read text, not images.*'language'"):
        make_evaluator("train", "recurrent")
    with pytest.raises(InvalidArgumentError, match="space=3 is not one of 'cell201'"):
        TrainingEvaluator(3, small)
    assert TrainingEvaluator("cell201", small).space.name == "cell201"
    with pytest.raises(InvalidArgumentError, match="Architectures of the space 'layers'"):
        TrainingEvaluator(SPACE, small).evaluate(np.zeros((1, 3), int))


def test_a_device_may_be_on_another_machine(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert check_device("auto") == check_device("cpu") == "cpu"
    assert check_device("cuda", anywhere=True) == "cuda"
    for name in ("cuda", "cuda:0"):
        with pytest.raises(InvalidArgumentError, match=f"device='{name}' is not there"):
            check_device(name)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [check_device(name) for name in ("auto", "cuda", "cuda:1")] == ["cuda", "cuda", "cuda:1"]
    with pytest.raises(InvalidArgumentError, match="torch sees 2 GPUs"):
        check_device("cuda:2")


def test_importing_the_evaluator_loads_neither_torch_nor_sklearn():
    import subprocess
    import sys

    code = (
        "import sys, metagym.architectures.training;"
        "bad = {'torch', 'sklearn'} & set(sys.modules); sys.exit(str(bad) if bad else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_recipe_may_come_as_json():
    settings = {"epochs": 3, "last": 2}
    given = TrainingEvaluator(Layers(), recipe=settings)
    assert given.recipe == QUICK
    assert given.fingerprint == TrainingEvaluator(Layers(), recipe=QUICK).fingerprint
    with pytest.raises(InvalidArgumentError, match="Did you mean 'epochs'"):
        TrainingEvaluator(Layers(), recipe={"epoch": 3})
