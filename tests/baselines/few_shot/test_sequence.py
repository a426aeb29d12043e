"""Reading the support set once equals reading it before each query; and both readers learn."""

from __future__ import annotations

import pytest
import torch

from metagym.baselines.few_shot.embedding import shuffle_support
from metagym.baselines.few_shot.sequence import LSTMConfig, LSTMMethod, SNAILConfig, SNAILMethod
from metagym.errors import InvalidArgumentError
from metagym.tasks.few_shot import TaskDistribution, Tasks

METHODS = {
    "lstm": (LSTMMethod, {"width": 32, "layers": 2}),
    "snail": (SNAILMethod, {"width": 16, "attention": (8, 16, 16)}),
}
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


class Lines(TaskDistribution):
    """y = a x + b."""

    name, kind, input_shape, outputs, support = "lines", "regression", (1,), 1, 6

    def sample(self, count, split, generator):
        slope, offset = torch.randn(2, count, 1, 1, generator=generator)
        x = torch.rand(count, 10, 1, generator=generator) * 2 - 1
        y = slope * x + offset
        return Tasks(x[:, :6], y[:, :6], x[:, 6:], y[:, 6:])


@pytest.fixture(params=METHODS)
def method(request, blobs, make):
    """In float64, for three ways and two shots."""
    cls, fields = METHODS[request.param]
    return make(cls, blobs(ways=3, shots=2, dtype=torch.float64), **fields).eval()


def read_one_by_one(method, support, query):
    """What the reader says at the end of the sequence of the support set and one query."""
    sequence = torch.cat([support, query], 1)
    if isinstance(method, LSTMMethod):
        return method.head(method.lstm(sequence)[0])[:, -1]
    for layer in method.layers:
        sequence = torch.cat([sequence, layer(sequence)], -1)
    return method.head(sequence)[:, -1]


@pytest.mark.parametrize("size", [1, 2, 6, 11])  # shorter and longer than training's
@torch.no_grad()
def test_the_support_set_may_be_read_once_for_all_queries(method, size):
    inputs = method.embedding.width + 3
    generator = torch.Generator().manual_seed(0)
    support = torch.randn(4, size, inputs, generator=generator, dtype=torch.float64)
    query = torch.randn(4, 5, inputs, generator=generator, dtype=torch.float64)
    answers = method.read(support, query)
    assert answers.shape == (4, 5, 3)
    for i in range(5):
        expected = read_one_by_one(method, support, query[:, i : i + 1])
        torch.testing.assert_close(answers[:, i], expected, **CLOSE)


@torch.no_grad()
def test_a_prediction_depends_on_its_own_support_set_and_query_alone(method, blobs):
    distribution = blobs(ways=3, shots=2, dtype=torch.float64)
    tasks = distribution.sample(3, "test", torch.Generator().manual_seed(0))
    whole = method.predict(tasks)
    torch.testing.assert_close(method.predict(tasks), whole, rtol=0, atol=0)
    one = Tasks(tasks.support_x[1:2], tasks.support_y[1:2], tasks.query_x[1:2, 3:4],
                tasks.query_y[1:2, 3:4])  # fmt: skip
    torch.testing.assert_close(method.predict(one), whole[1:2, 3:4], **CLOSE)
    unlabelled = tasks._replace(query_y=torch.zeros_like(tasks.query_y))
    torch.testing.assert_close(method.predict(unlabelled), whole, rtol=0, atol=0)
    other = tasks._replace(support_y=(tasks.support_y + 1) % 3)
    assert not torch.allclose(method.predict(other), whole)


def test_orders_are_drawn_for_training_and_fixed_for_predictions(blobs):
    tasks = blobs(ways=4, shots=3).sample(6, "train", torch.Generator().manual_seed(0))
    fixed, again = shuffle_support(tasks), shuffle_support(tasks)
    assert torch.equal(fixed.support_x, again.support_x)
    assert not torch.equal(fixed.support_y, tasks.support_y)
    drawn = shuffle_support(tasks, torch.Generator().manual_seed(0))
    assert not torch.equal(drawn.support_y[0], drawn.support_y[1])
    for shuffled in (fixed, drawn):
        assert torch.equal(shuffled.query_x, tasks.query_x)
        for task in range(6):  # every example keeps its label
            x, y = shuffled.support_x[task], shuffled.support_y[task]
            rows = [int((tasks.support_x[task] == one).all(-1).nonzero()) for one in x]
            assert sorted(rows) == list(range(12))
            assert torch.equal(tasks.support_y[task][rows], y)


@pytest.mark.parametrize("name", METHODS)
def test_each_learns_to_classify(name, blobs, make, learn):
    cls, fields = METHODS[name]
    distribution = blobs(ways=2, shots=2)
    assert learn(make(cls, distribution, **fields), distribution, iterations=150) > 0.75


@pytest.mark.parametrize("name", METHODS)
def test_each_learns_to_regress(name, make, learn):
    cls, fields = METHODS[name]
    lines = Lines()
    error = learn(make(cls, lines, **fields), lines, iterations=150, rate=3e-3)
    assert error < 0.6  # a constant has 1.33


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_gets_a_finite_gradient(name, shape, blobs, make):
    cls, fields = METHODS[name]
    if len(shape) > 1:
        fields = {**fields, "filters": 8, "pooling": "stride"}
    distribution = blobs(ways=3, shots=2, input_shape=shape)
    method = make(cls, distribution, **fields)
    generator = torch.Generator().manual_seed(0)
    loss, numbers = method.meta_loss(distribution.sample(3, "train", generator), generator)
    loss.backward()
    for key, parameter in method.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
    assert set(numbers) == {"loss", "accuracy"}


def test_batch_statistics_are_named(blobs, make):
    distribution = blobs(ways=3, input_shape=(1, 8, 8))
    fields = {"norm": "batch", "filters": 4, "pooling": "stride"}
    assert make(LSTMMethod, distribution, **fields).label == "lstm (transductive)"
    assert make(LSTMMethod, blobs()).label == "lstm"


def test_more_ways_than_it_was_built_for_are_refused(method, blobs):
    tasks = blobs(ways=4, dtype=torch.float64).sample(2, "test", torch.Generator().manual_seed(0))
    with pytest.raises(InvalidArgumentError, match="built for 3 ways and met the class 3"):
        method.predict(tasks)


def test_widths_have_to_be_positive():
    for config in (
        lambda: LSTMConfig(width=0),
        lambda: LSTMConfig(layers=0),
        lambda: SNAILConfig(width=0),
        lambda: SNAILConfig(attention=(8, 0, 8)),
    ):
        with pytest.raises(InvalidArgumentError, match="at least 1"):
            config()
