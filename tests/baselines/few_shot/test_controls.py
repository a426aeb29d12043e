"""Controls: closed forms, references by loops, and pretraining on all classes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from metagym.baselines.few_shot.base import TaskShape
from metagym.baselines.few_shot.controls import (
    FineTuning,
    FineTuningConfig,
    NearestNeighbour,
    NearestNeighbourConfig,
    PretrainedConfig,
    SinusoidOracle,
    fit_head,
)
from metagym.baselines.few_shot.judge import evaluate_few_shot
from metagym.baselines.few_shot.metric import class_members
from metagym.baselines.few_shot.training_tasks import AllClasses, TrainOn
from metagym.errors import InvalidArgumentError
from metagym.tasks.sinusoid import Sinusoid

METHODS = {
    "nearest neighbour": (NearestNeighbour, {}),
    "euclidean": (NearestNeighbour, {"distance": "euclidean"}),
    "head": (FineTuning, {}),
    "all": (FineTuning, {"layers": "all", "steps": 20, "lr": 0.1}),
}


@pytest.fixture
def tasks(blobs):
    generator = torch.Generator().manual_seed(1)
    return blobs(ways=3, shots=2, dtype=torch.float64).sample(4, "test", generator)


@pytest.fixture
def all_classes():
    """Eight blobs, twenty examples each."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(8).repeat_interleave(20)
    means = torch.randn(8, 2, generator=generator)
    examples = means[labels] + 0.1 * torch.randn(160, 2, generator=generator)
    return AllClasses(examples, labels, batch=32)


def test_a_head_equals_gradient_descent_by_autograd(tasks):
    members = class_members(tasks.support_y)
    logits = fit_head(tasks.support_x, members, tasks.query_x, steps=7)
    for task in range(4):
        x, y = tasks.support_x[task], tasks.support_y[task]
        weight = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
        bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        rate = 2.0 / (x.square().sum(-1).mean() + 1.0)
        for _ in range(7):
            loss = F.cross_entropy(F.linear(x, weight, bias), y)
            gradients = torch.autograd.grad(loss, [weight, bias])
            with torch.no_grad():
                for parameter, gradient in zip((weight, bias), gradients, strict=True):
                    parameter -= rate * gradient
        torch.testing.assert_close(logits[task], F.linear(tasks.query_x[task], weight, bias))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_head_descends_at_every_scale_of_the_features(tasks, scale):
    members, x = class_members(tasks.support_y), scale * tasks.support_x
    losses = []
    for steps in range(30):
        logits = fit_head(x, members, x, steps).flatten(0, 1)
        losses.append(float(F.cross_entropy(logits, tasks.support_y.flatten())))
    assert all(later < earlier for earlier, later in pairwise(losses))


def test_nearest_neighbours_equal_a_loop(blobs, make, tasks):
    method = make(NearestNeighbour, blobs(ways=3, shots=2, dtype=torch.float64)).eval()
    with torch.no_grad():
        support, query = method.embed(tasks)
        chosen = method.predict(tasks).argmax(-1)
    for task in range(4):
        for i, features in enumerate(query[task]):
            nearest = F.cosine_similarity(features[None], support[task]).argmax()
            assert chosen[task, i] == tasks.support_y[task, nearest]


@pytest.mark.parametrize("name", METHODS)
def test_pretraining_and_then_few_shot_tasks(name, blobs, make, learn, all_classes):
    cls, fields = METHODS[name]
    judged = blobs(ways=3, shots=2)
    distribution = TrainOn(all_classes, judged)
    assert (distribution.outputs, distribution.support) == (3, 6)
    method = make(cls, distribution, classes=8, **fields)
    assert learn(method, distribution, judged, iterations=80, batch=2) > 0.7
    generator = torch.Generator().manual_seed(0)
    _, numbers = method.meta_loss(distribution.sample(4, "train", generator), generator)
    assert numbers["accuracy"] > 0.7


@pytest.mark.parametrize("name", METHODS)
def test_the_answers_follow_the_numbers_of_the_classes_and_no_order(name, blobs, make, tasks):
    cls, fields = METHODS[name]
    method = make(cls, blobs(ways=3, shots=2, dtype=torch.float64), **fields).eval()
    renamed, order = torch.tensor([2, 0, 1]), torch.tensor([4, 0, 5, 2, 1, 3])
    other = tasks._replace(support_y=renamed[tasks.support_y][:, order],
                           support_x=tasks.support_x[:, order])  # fmt: skip
    with torch.no_grad():
        torch.testing.assert_close(method.predict(other)[..., renamed], method.predict(tasks))


def test_fine_tuning_leaves_the_features_as_they_were(blobs, make):
    distribution = blobs(ways=3, input_shape=(1, 8, 8))
    method = make(FineTuning, distribution, layers="all", filters=4, pooling="stride", steps=3)
    before = {name: value.clone() for name, value in method.eval().state_dict().items()}
    tasks = distribution.sample(2, "test", torch.Generator().manual_seed(0))
    with torch.no_grad():
        predictions = method.predict(tasks)
    assert predictions.shape == (2, 12, 3) and predictions.isfinite().all()
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_all_classes_hands_out_examples_with_their_labels():
    labels = torch.tensor([0, 1, 1, 2])
    images = (labels * 60).to(torch.uint8)[:, None, None].expand(4, 2, 2)
    distribution = AllClasses(images, labels, batch=50)
    tasks = distribution.sample(3, "train", torch.Generator().manual_seed(0))
    assert distribution.classes == 3
    assert tasks.support_x.shape == (3, 0, 2, 2) and tasks.support_y.shape == (3, 0)
    assert tasks.query_x.dtype == torch.float32 and tasks.query_y.shape == (3, 50)
    torch.testing.assert_close(tasks.query_x[..., 0, 0] * 255.0 / 60.0, tasks.query_y.float())
    assert set(tasks.query_y.flatten().tolist()) == {0, 1, 2}
    again = distribution.sample(3, "train", torch.Generator().manual_seed(0))
    assert torch.equal(again.query_y, tasks.query_y)


def test_train_on_takes_training_tasks_from_one_and_the_rest_from_the_other(blobs):
    both = TrainOn(blobs(ways=6), blobs(ways=3))
    generator = torch.Generator().manual_seed(0)
    ways = {s: int(both.sample(2, s, generator).query_y.max()) + 1
            for s in ("train", "validation", "test")}  # fmt: skip
    assert ways == {"train": 6, "validation": 3, "test": 3}
    with pytest.raises(InvalidArgumentError, match="input_shape"):
        TrainOn(blobs(input_shape=(3,)), blobs())


def test_what_cannot_be(blobs, make, tasks, all_classes):
    with pytest.raises(InvalidArgumentError, match="do not fit"):
        AllClasses(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InvalidArgumentError, match=r"numbered 0 … 1, not 0 … 2"):
        AllClasses(torch.zeros(2, 2), torch.tensor([0, 2]))
    with pytest.raises(InvalidArgumentError, match="split='test'"):
        all_classes.sample(1, "test", torch.Generator())
    method = make(NearestNeighbour, blobs(ways=3, dtype=torch.float64), classes=4)
    with pytest.raises(InvalidArgumentError, match="not on few-shot tasks"):
        method.meta_loss(tasks, torch.Generator())
    method = make(NearestNeighbour, all_classes, classes=4)
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(InvalidArgumentError, match="classes=4 is too few"):
        method.meta_loss(all_classes.sample(4, "train", generator), generator)
    with pytest.raises(InvalidArgumentError, match="needs classes"):
        FineTuning(TaskShape("regression", (1,), 1, 5))
    for make_config, message in (
        (lambda: PretrainedConfig(classes=0), "classes=0"),
        (lambda: NearestNeighbourConfig(distance="l1"), "distance='l1'"),
        (lambda: FineTuningConfig(layers="body"), "layers='body'"),
        (lambda: FineTuningConfig(steps=0), "steps=0"),
        (lambda: FineTuningConfig(lr=-1.0), "lr=-1.0"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            make_config()


def test_the_oracle_of_sinusoids_is_exact_and_says_that_it_is_privileged():
    tasks = Sinusoid(5, 20, device="cpu")
    oracle = SinusoidOracle(TaskShape.of(tasks))
    result = evaluate_few_shot(oracle, tasks, count=30)
    assert result.privileged and "oracle" in result.agent and result.training is None
    assert result.mean < 1e-6
    drawn = tasks.sample(2, "test", torch.Generator().manual_seed(0))
    blind = drawn._replace(query_y=torch.zeros_like(drawn.query_y))
    # Close, not equal: BLAS may add in another order where the memory lies otherwise.
    torch.testing.assert_close(oracle.predict(drawn), oracle.predict(blind))
    noisy = drawn._replace(support_y=drawn.support_y + torch.randn(drawn.support_y.shape))
    x, y = noisy.support_x[0].double(), noisy.support_y[0].double()
    waves = torch.cat([x.sin(), x.cos()], 1)
    normal = torch.linalg.solve(waves.T @ waves, waves.T @ y)
    x = noisy.query_x[0].double()
    expected = normal[0] * x.sin() + normal[1] * x.cos()
    torch.testing.assert_close(oracle.predict(noisy)[0], expected)
    with pytest.raises(InvalidArgumentError, match="nothing to train"):
        oracle.meta_loss(drawn, torch.Generator())
    with pytest.raises(InvalidArgumentError, match="not the shape of sinusoids"):
        SinusoidOracle(TaskShape("regression", (2,), 1, 5))
