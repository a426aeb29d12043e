"""Many sources, of which some are missing: what may not matter does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from metagym.baselines.multitask.architectures import make_architecture
from metagym.baselines.multitask.data import TaskData, TasksShape
from metagym.baselines.multitask.network import MultiTaskNetwork
from metagym.baselines.multitask.train import TrainConfig
from metagym.errors import DataError, InvalidArgumentError

SHAPE = TasksShape(6, ("regression", "multiclass"), (1, 3), ((1.0, 0.0), (0.0, 1.0)))


def make(**fields):
    fields = {"sources": (1, 2, 3), "widths": (8,), "trunk_widths": (7,)} | fields
    return make_architecture("multi_source", SHAPE, **fields)


def batches(*sizes):
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(n, 6, generator=rng) for n in sizes]


def columns(present):
    """A mask of sources as a mask of the columns."""
    return present.repeat_interleave(torch.tensor([1, 2, 3]), dim=1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1e3, float("nan"), float("inf")]))
def test_answers_and_gradients_do_not_depend_on_what_is_missing(seed, junk):
    network = make().eval()
    rng = torch.Generator().manual_seed(seed)
    present = [torch.rand(n, 3, generator=rng) < 0.5 for n in (4, 5)]
    for mask in present:
        mask[:, seed % 3] = True
    inputs = batches(4, 5)
    changed = [
        torch.where(columns(m), x, junk) for x, m in zip(inputs, present, strict=True)
    ]  # fmt: skip
    results = []
    for given_inputs in (inputs, changed):
        network.zero_grad()
        predictions = network(given_inputs, present).predictions
        sum(p.square().sum() for p in predictions).backward()
        gradients = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
        results.append((predictions, gradients))
    for a, b in zip(*(r[0] for r in results), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(*(r[1] for r in results), strict=True):
        assert torch.equal(a, b)


def test_features_are_the_mean_over_those_present():
    network = make().eval()
    x, _ = batches(4, 0)
    codes = [e(part) for e, part in zip(network.encoders, x.split((1, 2, 3), dim=1), strict=True)]
    present = torch.tensor([True, False, True])
    mean = (codes[0] + codes[2]) / 2
    expected = network.own[0](network.trunk(mean))
    everyone = torch.ones(3, dtype=torch.bool)
    found = network([x, x[:0]], [present, everyone]).predictions[0]
    torch.testing.assert_close(found, expected)
    expected = network.own[0](network.trunk(sum(codes) / 3))
    torch.testing.assert_close(network([x, x[:0]]).predictions[0], expected)
    torch.testing.assert_close(network([x, x], [everyone] * 2).predictions[0], expected)
    torch.testing.assert_close(network([x, x], [None, everyone]).predictions[0], expected)


def test_training_leaves_out_sources_at_the_given_rate_and_never_all():
    network = make(drop_sources=0.4)
    mask = network._mask([torch.zeros(20_000, 6), torch.zeros(0, 6)], None)
    assert mask.any(dim=1).all()
    # A source stays with 1 − p, or as the luckiest of three that all were to go: p³/3.
    rate = mask.double().mean(dim=0)
    assert torch.allclose(rate, torch.tensor(0.6 + 0.4**3 / 3).double(), atol=0.015)
    present = torch.tensor([False, True, False]).expand(50, 3)
    kept = network._mask([torch.zeros(50, 6), torch.zeros(0, 6)], [present, present[:0]])
    assert torch.equal(kept, present)
    assert make(drop_sources=0.0)._mask([torch.zeros(50, 6)] * 2, None).all()


def test_a_missing_source_costs_little_after_training_with_missing_ones():
    """Each source alone tells the label; a network that never missed one relies on all."""

    def error(drop):
        network = make(drop_sources=drop)
        rng = torch.Generator().manual_seed(3)
        signal = torch.randn(200, 1, generator=rng)
        noise = 0.3 * torch.randn(200, 6, generator=rng)
        inputs = [signal + noise, torch.zeros(0, 6)]
        adam = torch.optim.Adam(network.parameters(), lr=0.02)
        for _ in range(100):
            adam.zero_grad()
            (network(inputs).predictions[0] - signal).square().mean().backward()
            adam.step()
        network.eval()
        masks = ~torch.eye(3, dtype=torch.bool)  # each source missing in turn
        errors = [
            (network(inputs, [mask, mask]).predictions[0] - signal).square().mean()
            for mask in masks
        ]
        return float(torch.stack(errors).mean().detach())

    prepared = error(0.3)
    assert prepared < 0.15 and prepared < 0.7 * error(0.0)


def test_predictions_without_a_source_are_better_than_with_zeros_put_in():
    """Two sources that say the same, far from 0: what is missing should not count as 0."""
    rng = np.random.default_rng(0)

    def tasks(count):
        signal = rng.uniform(2.0, 4.0, size=(count, 1))
        x = signal + 0.2 * rng.normal(size=(count, 4))
        return [TaskData("level", "regression", x, signal[:, 0]),
                TaskData("high", "binary", x, signal[:, 0] > 3.0)]  # fmt: skip

    train, test = tasks(200), tasks(200)
    network = MultiTaskNetwork(
        "multi_source", config=TrainConfig(steps=200, learning_rate=0.01, device="cpu"),
        architecture_kwargs={"widths": (16,), "trunk_widths": (16,), "drop_sources": 0.3},
    ).fit(train)  # fmt: skip
    x, y, there = test[0].x.copy(), test[0].y, [True, False]
    x[:, 2:] = 0.0
    zeros = r2_score(y, network.predict("level", x))
    x[:, 2:] = np.nan  # whatever stands there
    answers = network.predict("level", x, there)
    assert r2_score(y, answers) > 0.7 > zeros
    score = network.score(test, there)
    assert score["level"] == pytest.approx(r2_score(y, answers))
    assert score["high"] > 0.8
    # A mask by example; where all is there it is the prediction without one.
    each = np.array([[True, False], [True, True]] * 100)
    mixed = network.predict("level", np.where(each.repeat(2, axis=1), test[0].x, np.nan), each)
    np.testing.assert_array_equal(mixed[::2], answers[::2])
    np.testing.assert_array_equal(mixed[1::2], network.predict("level", test[0].x)[1::2])
    with pytest.raises(DataError, match="x has NaN"):
        network.predict("level", x, [False, True])
    with pytest.raises(InvalidArgumentError, match="has to be bool"):
        network.predict("level", x, [1, 0])
    with pytest.raises(InvalidArgumentError, match="none of its 2 sources"):
        network.predict("level", x, [False, False])


def test_networks_that_need_all_features_take_no_mask():
    train = [TaskData("a", "regression", np.eye(2), [0, 1])]
    network = MultiTaskNetwork(config=TrainConfig(steps=1, device="cpu")).fit(train)
    for ask in (lambda: network.predict("a", np.eye(2), [True, False]),
                lambda: network.score(train, [True, False])):  # fmt: skip
        with pytest.raises(InvalidArgumentError, match="'hard' takes no present"):
            ask()


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ([torch.tensor([True, True, True])], "mask for each task"),
        ([torch.ones(2, dtype=torch.bool)] * 2, "has to be bool"),
        ([torch.ones(3)] * 2, "has to be bool"),
        (["abc"] * 2, "it is 'abc'"),
        ([torch.ones(5, 3, dtype=torch.bool)] * 2, "has to be bool"),
        ([torch.zeros(3, dtype=torch.bool)] * 2, "none of its 3 sources"),
        (
            [torch.tensor([[True] * 3, [False] * 3, [True] * 3]), torch.ones(3, dtype=torch.bool)],
            "none of its 3 sources",
        ),
    ],
)
def test_masks_that_cannot_work_are_refused(present, message):
    with pytest.raises(InvalidArgumentError, match=message):
        make().eval()(batches(3, 4), present)


def test_sources_have_to_be_the_columns():
    with pytest.raises(InvalidArgumentError, match="are 5 columns"):
        make(sources=(2, 3))
    assert make(sources=()).sources == (3, 3)
    single = TasksShape(1, ("binary",), (1,), ((1.0,),))
    with pytest.raises(InvalidArgumentError, match="at least 1"):
        make_architecture("multi_source", single)
    assert make_architecture("multi_source", single, sources=(1,)).sources == (1,)
