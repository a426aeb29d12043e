"""Comparisons in closed form, their symmetries, and that each of them learns."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from metagym.baselines.few_shot.base import TaskShape
from metagym.baselines.few_shot.embedding import shuffle_support
from metagym.baselines.few_shot.metric import (
    FullContext,
    MatchingConfig,
    MatchingNetwork,
    PrototypicalConfig,
    PrototypicalNetwork,
    SiameseNetwork,
    attention_log_probabilities,
    best_of_class,
    class_means,
    class_members,
    cosine_similarities,
    squared_distances,
)
from metagym.baselines.few_shot.relation import Relation, RelationConfig, RelationNetwork
from metagym.errors import InvalidArgumentError

METHODS = {
    "prototypical": (PrototypicalNetwork, {}),
    "cosine": (PrototypicalNetwork, {"distance": "cosine"}),
    "matching": (MatchingNetwork, {}),
    "full context": (MatchingNetwork, {"full_context": True, "reads": 2}),
    "siamese": (SiameseNetwork, {}),
    "relation": (RelationNetwork, {}),
}
# Full-context embeddings read the support set in an order.
UNORDERED = [name for name in METHODS if name != "full context"]
DOUBLE = {"rtol": 1e-9, "atol": 1e-9}


class Identity(nn.Module):
    norm, width, convolutional = "none", 2, False

    def forward(self, x, context=None):
        return x


@pytest.fixture
def tasks(blobs):
    """Five ways, three shots, float64, in a random order."""
    generator = torch.Generator().manual_seed(1)
    drawn = blobs(shots=3, dtype=torch.float64).sample(7, "train", generator)
    return shuffle_support(drawn, generator)


def predict(method, tasks):
    method.eval()
    with torch.no_grad():
        return method.predict(tasks)


# -- functions of embeddings -------------------------------------------------------------------


def test_class_means_equal_a_loop(tasks):
    means = class_means(tasks.support_x, class_members(tasks.support_y))
    for task, (x, y) in enumerate(zip(tasks.support_x, tasks.support_y, strict=True)):
        for label in range(5):
            torch.testing.assert_close(means[task, label], x[y == label].mean(0))


def test_distances_and_cosines_equal_torchs(tasks):
    query, support = tasks.query_x, tasks.support_x
    torch.testing.assert_close(squared_distances(query, support), torch.cdist(query, support) ** 2)
    torch.testing.assert_close(
        cosine_similarities(query, support),
        nn.functional.cosine_similarity(query[:, :, None], support[:, None], dim=-1),
    )
    assert (squared_distances(query, query) >= 0).all()


def test_attention_is_the_sum_of_labels_under_a_softmax(tasks):
    scores = 50.0 * squared_distances(tasks.query_x, tasks.support_x)
    labels = nn.functional.one_hot(tasks.support_y).to(scores.dtype)
    log_probabilities = attention_log_probabilities(scores, class_members(tasks.support_y))
    torch.testing.assert_close(log_probabilities.exp(), scores.softmax(-1) @ labels)
    assert log_probabilities.isfinite().all()  # also where the probability is 0 in floats


def test_the_best_of_a_class_equals_a_loop(tasks):
    scores = squared_distances(tasks.query_x, tasks.support_x)
    best = best_of_class(scores, class_members(tasks.support_y))
    for label in range(5):
        for task in range(len(scores)):
            of_class = scores[task][:, tasks.support_y[task] == label]
            torch.testing.assert_close(best[task, :, label], of_class.amax(1))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 1, 2], [0, 2, 2]], r"0 … 2.*one task has \[0, 2\]"),
        ([[0, 1, -1]], r"one task has \[-1, 0, 1\]"),
        ([[-1, -1]], r"one task has \[-1\]"),
        ([[]], "empty"),
    ],
)
def test_labels_that_cannot_be(labels, message):
    with pytest.raises(InvalidArgumentError, match=message):
        class_members(torch.tensor(labels, dtype=torch.int64))


# -- the methods -------------------------------------------------------------------------------


def test_prototypes_of_plain_inputs_are_the_nearest_class_mean(blobs, make, tasks):
    method = make(PrototypicalNetwork, blobs(shots=3, dtype=torch.float64))
    method.embedding = Identity()
    chosen = predict(method, tasks).argmax(-1)
    for task in range(len(chosen)):
        x, y = tasks.support_x[task], tasks.support_y[task]
        means = torch.stack([x[y == label].mean(0) for label in range(5)])
        nearest = torch.stack([(means - q).norm(dim=-1).argmin() for q in tasks.query_x[task]])
        torch.testing.assert_close(chosen[task], nearest)


def test_one_shot_prototypes_are_the_nearest_neighbour(blobs, make):
    distribution = blobs(dtype=torch.float64)
    tasks = distribution.sample(20, "test", torch.Generator().manual_seed(0))
    method = make(PrototypicalNetwork, distribution)
    support, query = method.embed(tasks)
    nearest = torch.cdist(query, support).argmin(-1)
    expected = tasks.support_y.gather(1, nearest)
    torch.testing.assert_close(predict(method, tasks).argmax(-1), expected)


@pytest.mark.parametrize("name", UNORDERED)
def test_the_order_of_the_support_set_changes_nothing(name, blobs, make, tasks):
    cls, fields = METHODS[name]
    method = make(cls, blobs(shots=3, dtype=torch.float64), **fields)
    other = shuffle_support(tasks, torch.Generator().manual_seed(2))
    assert not torch.equal(tasks.support_y, other.support_y)
    torch.testing.assert_close(predict(method, tasks), predict(method, other), **DOUBLE)


@pytest.mark.parametrize("name", METHODS)
def test_other_numbers_for_the_classes_permute_the_answers(name, blobs, make, tasks):
    cls, fields = METHODS[name]
    method = make(cls, blobs(shots=3, dtype=torch.float64), **fields)
    renamed = torch.tensor([3, 0, 4, 1, 2])
    other = tasks._replace(support_y=renamed[tasks.support_y])
    torch.testing.assert_close(
        predict(method, other)[..., renamed], predict(method, tasks), **DOUBLE
    )


@pytest.mark.parametrize("name", METHODS)
def test_no_task_and_no_query_sees_another(name, blobs, make, tasks):
    cls, fields = METHODS[name]
    method = make(cls, blobs(shots=3, dtype=torch.float64), **fields)
    whole = predict(method, tasks)
    alone = tasks._replace(query_x=tasks.query_x[:, 2:3], query_y=tasks.query_y[:, 2:3])
    torch.testing.assert_close(predict(method, alone), whole[:, 2:3], **DOUBLE)
    single = type(tasks)(*(part[3:4] for part in tasks))
    torch.testing.assert_close(predict(method, single), whole[3:4], **DOUBLE)


@pytest.mark.parametrize("norm", ["running", "support", "none", "batch"])
@pytest.mark.parametrize("cls", [PrototypicalNetwork, RelationNetwork])
def test_the_batch_norm_decides_if_a_method_is_transductive(cls, norm, blobs, make):
    if (cls, norm) == (RelationNetwork, "support"):
        pytest.skip("a pair is half a query; refused in another test")
    distribution = blobs(ways=3, input_shape=(8, 8), dtype=torch.float64)
    fields = {"norm": norm, "pooling": "stride", "filters": 4}
    method = make(cls, distribution, **fields)
    tasks = distribution.sample(2, "test", torch.Generator().manual_seed(0))
    alone = tasks._replace(query_x=tasks.query_x[:, :1], query_y=tasks.query_y[:, :1])
    same = torch.allclose(predict(method, tasks)[:, :1], predict(method, alone))
    assert same == (norm != "batch") == (not method.transductive)
    assert method.label.endswith("(transductive)") == method.transductive
    single = type(tasks)(*(part[1:] for part in tasks))  # other tasks never matter
    torch.testing.assert_close(predict(method, single), predict(method, tasks)[1:], **DOUBLE)


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_gets_a_finite_gradient(name, shape, blobs, make):
    cls, fields = METHODS[name]
    distribution = blobs(shots=2, input_shape=shape)
    if len(shape) > 1:
        fields = {**fields, "filters": 8, "pooling": "stride"}
    method = make(cls, distribution, **fields)
    generator = torch.Generator().manual_seed(0)
    loss, numbers = method.meta_loss(distribution.sample(3, "train", generator), generator)
    loss.backward()
    for key, parameter in method.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
    assert set(numbers) == {"loss", "accuracy"} and not numbers["loss"].requires_grad


@pytest.mark.parametrize("name", METHODS)
def test_each_learns_and_takes_other_ways_and_shots_than_it_was_trained_with(
    name, blobs, make, learn
):
    cls, fields = METHODS[name]
    train = blobs(ways=6, input_shape=(4,))
    method = make(cls, train, **fields)
    assert learn(method, train, blobs(ways=4, shots=2, input_shape=(4,)), iterations=60) > 0.75


def test_full_context_equals_a_loop_over_queries():
    torch.manual_seed(0)
    context = FullContext(3, reads=2).double()
    support, query = torch.randn(2, 5, 3).double(), torch.randn(2, 4, 3).double()
    known, answers = context(support, query)
    both = context.both_ways(support)[0]
    torch.testing.assert_close(known, both[..., :3] + both[..., 3:] + support)
    for task in range(2):
        for i, x in enumerate(query[task]):
            h, r, c = x, torch.zeros(3).double(), torch.zeros(3).double()
            for _ in range(2):
                state, c = context.attend(torch.cat([x, r]), (h, c))
                h = state + x
                r = (known[task] @ h).softmax(0) @ known[task]
            torch.testing.assert_close(answers[task, i], h)


def test_full_context_predictions_are_repeatable_and_named(blobs, make, tasks):
    method = make(MatchingNetwork, blobs(dtype=torch.float64), full_context=True)
    assert method.label == "matching + FCE"
    assert make(MatchingNetwork, blobs()).label == "matching"
    torch.testing.assert_close(predict(method, tasks), predict(method, tasks), rtol=0, atol=0)


def test_siamese_similarities_and_their_balanced_loss(blobs, make, tasks):
    method = make(SiameseNetwork, blobs(shots=3, dtype=torch.float64))
    with torch.no_grad():
        method.bias.fill_(0.7)
        method.weights.uniform_(-1.0, 1.0)
        support, query = method.embed(tasks)
        gaps = (query[:, :, None] - support[:, None]).abs()
        expected = 0.7 - (gaps * method.weights.abs()).sum(-1)
        torch.testing.assert_close(method.similarities(support, query), expected)
        same = tasks.query_y[:, :, None] == tasks.support_y[:, None]
        p = expected.sigmoid()
        loss = -(p[same].log().mean() + (1 - p[~same]).log().mean()) / 2
        generator = torch.Generator()
        torch.testing.assert_close(method.meta_loss(tasks, generator)[0], loss)


@pytest.mark.parametrize("maps", [None, (4, 3, 3)])
def test_a_relation_reads_the_class_and_the_query_laid_on_one_another(maps):
    torch.manual_seed(0)
    relation = Relation(36, maps, RelationConfig(filters=4, norm="none")).double()
    shape = (36,) if maps is None else maps
    classes, query = torch.randn(2, 3, *shape).double(), torch.randn(2, 5, *shape).double()
    parts = relation.of_class, relation.of_query
    weight = torch.cat([part.weight for part in parts], 1)
    bias = parts[0].bias + parts[1].bias
    for q in range(5):
        for n in range(3):
            pair = torch.cat([classes[:, n], query[:, q]], 1)
            if maps is None:
                first = nn.functional.linear(pair, weight, bias)
            else:
                first = nn.functional.conv2d(pair, weight, bias, padding=1)
            expected = relation.score(relation.pair(first).flatten(1)).squeeze(-1)
            torch.testing.assert_close(relation(classes, query)[:, q, n], expected)


@pytest.mark.parametrize("name", METHODS)
def test_regression_and_other_inputs_are_refused(name, blobs, make, tasks):
    cls, fields = METHODS[name]
    with pytest.raises(InvalidArgumentError, match="compares examples of classes"):
        cls(TaskShape("regression", (1,), 1, 10))
    method = make(cls, blobs(input_shape=(3,)), **fields)
    with pytest.raises(InvalidArgumentError, match="support_x has the shape"):
        method.predict(tasks)


def test_configs_that_cannot_work():
    with pytest.raises(InvalidArgumentError, match=r"distance='euclid'.*'euclidean'"):
        PrototypicalConfig(distance="euclid")
    with pytest.raises(InvalidArgumentError, match="scale"):
        PrototypicalConfig(scale=0.0)
    with pytest.raises(InvalidArgumentError, match="reads"):
        MatchingConfig(reads=0)
    with pytest.raises(InvalidArgumentError, match="norm='support'"):
        RelationNetwork(TaskShape("classification", (8, 8), 5, 5), RelationConfig(norm="support"))
