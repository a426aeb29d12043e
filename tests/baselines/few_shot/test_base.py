"""The contract of few-shot methods, their networks, and how they are made by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metagym.baselines.few_shot import METHODS, make_method, method_class
from metagym.baselines.few_shot.base import (
    TaskShape,
    accuracy,
    check_tasks,
    mse,
    per_task_loss,
    scores,
)
from metagym.baselines.few_shot.gradient import MAML
from metagym.baselines.few_shot.judge import evaluate_few_shot
from metagym.baselines.few_shot.networks import MLP, Conv4, NetworkConfig, make_network
from metagym.errors import InvalidArgumentError
from metagym.tasks import make_tasks
from metagym.tasks.few_shot import Tasks

REGRESSION = TaskShape("regression", (1,), 1, 4)
IMAGES = TaskShape("classification", (16, 16), 3, 6)


def _draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_scores_are_per_task_and_equal_a_plain_loop():
    logits, classes = _draw(3, 5, 4), torch.tensor([[0, 1, 2, 3, 0]] * 3)
    losses = per_task_loss("classification", logits, classes)
    right = accuracy(logits, classes)
    for task in range(3):
        rows = logits[task].double().numpy()
        shares = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
        expected = -np.log(shares[np.arange(5), classes[task].numpy()]).mean()
        np.testing.assert_allclose(losses[task], expected, rtol=1e-5)
        assert right[task] == np.float32((rows.argmax(1) == classes[task].numpy()).mean())
    values, targets = _draw(3, 5, 2), _draw(3, 5, 2, seed=1)
    expected = ((values - targets) ** 2).reshape(3, -1).mean(1)
    torch.testing.assert_close(mse(values, targets), expected)
    torch.testing.assert_close(per_task_loss("regression", values, targets), expected)
    tasks = Tasks(values, targets, values, targets)
    torch.testing.assert_close(scores("regression", values, tasks), expected)


def test_a_task_without_a_prediction_has_no_accuracy_and_makes_no_result(blobs):
    logits, targets = torch.zeros(3, 2, 4), torch.zeros(3, 2, dtype=torch.int64)
    logits[0, :, 1:] = -torch.inf  # a class that is ruled out is a prediction
    logits[1, 1, 3] = torch.nan
    logits[2, 0] = -torch.inf
    found = accuracy(logits, targets)
    np.testing.assert_array_equal(found, [1, np.nan, np.nan])

    class Nothing(method_class("prototypical")):
        def predict(self, tasks):
            return super().predict(tasks) * torch.nan

    tasks = blobs(ways=2)
    with pytest.raises(InvalidArgumentError, match="finite"):
        evaluate_few_shot(Nothing(TaskShape.of(tasks)), tasks, count=3)


@pytest.mark.parametrize(
    ("part", "tensor", "message"),
    [
        ("support_x", torch.zeros(2, 4), r"support_x has the shape \(2, 4\)"),
        ("query_x", torch.zeros(2, 4, 3), "query_x"),
        ("query_y", torch.zeros(2, 4), "query_y is torch.float32"),
        ("support_y", torch.zeros(2, 4, 1, dtype=torch.int64), "regression needs floats"),
    ],
)
def test_tasks_of_another_shape_are_refused(part, tensor, message):
    tasks = Tasks(*(torch.zeros(2, 4, 1) for _ in range(4)))
    check_tasks(tasks, REGRESSION)
    with pytest.raises(InvalidArgumentError, match=message):
        check_tasks(tasks._replace(**{part: tensor}), REGRESSION)


@pytest.mark.parametrize(
    "name",
    ["maml", "fomaml", "anil", "meta_sgd", "maml_plus_plus", "reptile", "joint", "meta_lstm"],
)
def test_more_ways_than_outputs_are_refused_and_fewer_are_not(name):
    method = make_method(name, TaskShape("classification", (2,), 3, 3), hidden=(4,))
    x, labels = _draw(2, 4, 2), torch.tensor([[0, 1, 2, 3]] * 2)
    tasks = Tasks(x, labels, x, labels)
    with pytest.raises(InvalidArgumentError, match=f"{name} was built for 3 ways and met the .* 3"):
        method.predict(tasks)
    with pytest.raises(InvalidArgumentError, match="built for 3 ways"):
        method.meta_loss(tasks, torch.Generator())
    fewer = Tasks(x, labels // 2, x, labels // 2)
    assert method.predict(fewer).shape == (2, 4, 3)


@pytest.mark.parametrize("values", [("ranking", (1,), 1, 4), ("regression", (0,), 1, 4)])
def test_a_shape_that_cannot_be_is_refused(values):
    with pytest.raises(InvalidArgumentError):
        TaskShape(*values)


def test_make_method_is_deterministic_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, two, other = (make_method("maml", REGRESSION, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name])
    assert not torch.equal(one.network.head.weight, other.network.head.weight)


def test_make_method_takes_a_distribution_and_fields():
    tasks = make_tasks("sinusoid", shots=3, queries=2)
    method = make_method("maml", tasks, inner_steps=2)
    assert isinstance(method, MAML)
    assert method.config.inner_steps == 2
    assert method.shape == TaskShape("regression", (1,), 1, 3)


@pytest.mark.parametrize("name", METHODS)
def test_every_name_is_that_of_its_class(name):
    from metagym.baselines.few_shot import method_class

    assert method_class(name).name == name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "mamml"}, "Did you mean 'maml'"),
        ({"inner_rat": 1.0}, "Did you mean 'inner_lr'"),
        ({"inner_lr": 0.0}, "inner_lr"),
        ({"inner_steps": 0}, "inner_steps"),
        ({"test_steps": -1}, "test_steps"),
        ({"over_tasks": "map"}, "over_tasks"),
        ({"config": MAML.Config(), "chunk": 2}, "not both"),
        ({"config": 3}, "GradientConfig"),
        ({"hidden": 40}, "hidden=40 has to be a tuple"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        make_method(**{"name": "maml", "tasks": REGRESSION, **arguments})


def test_a_distribution_in_place_of_a_shape_is_refused():
    with pytest.raises(InvalidArgumentError, match=r"TaskShape\.of"):
        MAML(make_tasks("sinusoid"))


# -- networks ----------------------------------------------------------------------------------


def test_auto_takes_convolutions_for_images_and_an_mlp_for_vectors():
    assert isinstance(make_network(IMAGES, NetworkConfig(), 3), Conv4)
    assert isinstance(make_network(REGRESSION, NetworkConfig(), 1), MLP)
    flat = make_network(IMAGES, NetworkConfig(network="mlp"), 3)
    assert flat(_draw(2, 16, 16)).shape == (2, 3)


@pytest.mark.parametrize("pooling", ["stride", "max"])
@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (3, 32, 20)])
def test_conv4_takes_images_with_and_without_channels(pooling, shape):
    network = Conv4(shape, 5, filters=6, pooling=pooling)
    images = _draw(4, *shape)
    assert network.features(images).shape == (4, network.width)
    assert network(images).shape == (4, 5)
    without_head = Conv4(shape, None, filters=6, pooling=pooling)
    assert without_head(images).shape == (4, network.width)


def test_support_statistics_ignore_the_queries_and_batch_statistics_do_not():
    images = _draw(6, 16, 16)
    changed = torch.cat([images[:4], 5.0 * images[4:]])
    for norm, same in (("support", True), ("batch", False), ("none", True)):
        network = Conv4((16, 16), 3, filters=4, norm=norm)
        one, two = network(images, 4)[:4], network(changed, 4)[:4]
        assert torch.allclose(one, two, atol=1e-5) is same


def test_support_statistics_of_the_support_set_are_batch_statistics():
    images, network = _draw(6, 16, 16), Conv4((16, 16), 3, filters=4, norm="support")
    torch.testing.assert_close(network(images, 6), network(images), atol=1e-5, rtol=1e-5)


def test_running_statistics_are_learned_in_training_and_used_afterwards():
    network = Conv4((16, 16), None, filters=4, norm="running")
    network(3.0 + _draw(8, 16, 16))
    assert network.norms[0].mean.abs().sum() > 0
    network.eval()
    images = _draw(5, 16, 16)
    torch.testing.assert_close(network(images)[:2], network(images[:2]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (5,)}, "height, width"),
        ({"input_shape": (8, 8), "pooling": "max"}, "pooled"),
        ({"input_shape": (8, 8), "pooling": "mean"}, "pooling"),
        ({"input_shape": (8, 8), "norm": "layer"}, "norm"),
        ({"input_shape": (8, 8), "filters": 0}, "filters"),
    ],
)
def test_networks_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Conv4(**{"outputs": 2, **arguments})


def test_the_label_says_if_a_method_is_transductive():
    small = {"filters": 4}
    assert make_method("maml", IMAGES, **small).label == "maml (transductive)"
    assert make_method("maml", IMAGES, norm="support", **small).label == "maml"
    assert make_method("maml", REGRESSION).label == "maml"
    with pytest.raises(InvalidArgumentError, match="'support'"):
        make_method("maml", IMAGES, norm="running", **small)
