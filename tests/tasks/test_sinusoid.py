"""Sinusoids: MAML's definition, the knob of diversity, streams of the splits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from metagym.errors import InvalidArgumentError
from metagym.tasks.sinusoid import Sinusoid

SPLITS = ("train", "validation", "test")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_definition_of_maml():
    tasks, parameters = Sinusoid(10, 15, device="cpu").sample_with_parameters(
        20_000, "train", seeded()
    )
    assert tasks.support_x.shape == tasks.support_y.shape == (20_000, 10, 1)
    assert tasks.query_x.shape == tasks.query_y.shape == (20_000, 15, 1)
    for values, low, high in (
        (parameters.amplitude, 0.1, 5.0),
        (parameters.phase, 0.0, math.pi),
        (tasks.support_x, -5.0, 5.0),
        (tasks.query_x, -5.0, 5.0),
    ):
        assert values.dtype == torch.float32
        # Uniform: the quartiles are where they should be, and nothing lies outside.
        quartiles = np.quantile(values.numpy(), [0, 0.25, 0.5, 0.75, 1])
        expected = low + (high - low) * np.arange(5) / 4
        np.testing.assert_allclose(quartiles, expected, atol=0.015 * (high - low))
        assert quartiles[0] >= low and quartiles[-1] <= high
    amplitude, phase = (values.numpy()[:, None, None] for values in parameters)
    for x, y in (tasks[:2], tasks[2:]):
        expected = amplitude * np.sin(x.numpy() - phase)
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(parameters.value(x), y)


def test_sample_gives_the_tasks_of_sample_with_parameters():
    distribution = Sinusoid(3, 4, device="cpu")
    first = distribution.sample(5, "test", seeded())
    second, _ = distribution.sample_with_parameters(5, "test", seeded())
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_splits_are_different_streams_and_a_stream_goes_on():
    distribution, generator = Sinusoid(device="cpu"), seeded(3)
    amplitudes = [
        distribution.sample_with_parameters(200, split, seeded(seed))[1].amplitude
        for split in SPLITS
        for seed in range(5)
    ]
    amplitudes += [
        distribution.sample_with_parameters(200, "train", generator)[1].amplitude for _ in range(5)
    ][1:]
    numbers = torch.cat(amplitudes)
    # 24 bits of a float32 now and then agree by chance; a shared stream would agree 200 times.
    assert len(torch.unique(numbers)) > len(numbers) - 10


@pytest.mark.parametrize("diversity", [0.0, 0.3, 1.0])
def test_diversity_shrinks_the_ranges_about_their_middle(diversity):
    distribution = Sinusoid(diversity=diversity, device="cpu")
    _, parameters = distribution.sample_with_parameters(2000, "train", seeded())
    for values, low, high in (
        (parameters.amplitude, 0.1, 5.0),
        (parameters.phase, 0.0, math.pi),
    ):
        half = diversity * (high - low) / 2
        away = (values - (low + high) / 2).abs().max()
        assert 0.98 * half - 1e-6 <= away <= half + 1e-6


def test_what_methods_have_to_know():
    distribution = Sinusoid(shots=5, queries=7, device="cpu")
    assert (distribution.kind, distribution.input_shape, distribution.outputs) == (
        "regression", (1,), 1,
    )  # fmt: skip
    assert distribution.support == 5
    assert distribution.name == "sinusoid 5-shot"
    assert "diversity 0.5" in Sinusoid(diversity=0.5, device="cpu").name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shots": 0}, "shots=0"),
        ({"queries": 1.5}, "queries=1.5"),
        ({"diversity": 1.1}, "between 0 and 1"),
        ({"diversity": -0.1}, "diversity=-0.1 has to be a number of at least 0"),
        ({"diversity": float("nan")}, "diversity=nan has to be a number"),
        ({"diversity": "a"}, "diversity='a' has to be a number"),
        ({"device": "abacus"}, "'auto' and 'cpu'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Sinusoid(**arguments)


def test_bad_samples():
    with pytest.raises(InvalidArgumentError, match="split='dev'"):
        Sinusoid(device="cpu").sample(2, "dev", seeded())
    with pytest.raises(InvalidArgumentError, match="count=0"):
        Sinusoid(device="cpu").sample(0, "train", seeded())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_cpu_generator_gives_the_same_tasks_on_a_gpu():
    here = Sinusoid(device="cpu").sample(4, "train", seeded())
    there = Sinusoid().sample(4, "train", seeded())
    for a, b in zip(here, there, strict=True):
        assert b.is_cuda
        torch.testing.assert_close(a, b.cpu())
