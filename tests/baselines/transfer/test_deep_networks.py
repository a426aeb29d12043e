"""Layers and distances of deep transfer, against closed forms and finite differences."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.baselines.gradient_reversal import reverse_gradient
from metagym.baselines.transfer.fine_tuning import l2_sp
from metagym.baselines.transfer.networks import (
    MMD_BANDWIDTHS,
    Network,
    coral_distance,
    domain_strength,
    mmd_distance,
    weighted_cross_entropy,
)
from metagym.baselines.transfer.train_deep import rate_factor
from metagym.errors import InvalidArgumentError


def finite_differences(function, x, step=1e-6):
    gradient = torch.zeros_like(x)
    for index in np.ndindex(*x.shape):
        ahead, behind = x.clone(), x.clone()
        ahead[index] += step
        behind[index] -= step
        gradient[index] = (function(ahead) - function(behind)) / (2 * step)
    return gradient


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.0, 5.0), st.integers(0, 99))
def test_gradient_reversal_is_minus_strength_times_finite_differences(strength, seed):
    x = randn(3, 4, seed=seed).requires_grad_()

    def after(z):
        return (z.sin() * z.square()).sum()

    passed = reverse_gradient(x, strength)
    torch.testing.assert_close(passed, x)
    after(passed).backward()
    wanted = -strength * finite_differences(after, x.detach())
    torch.testing.assert_close(x.grad, wanted, atol=1e-6, rtol=1e-6)


def test_schedules_of_the_paper():
    assert domain_strength(0.0) == 0.0
    assert domain_strength(1.0) == pytest.approx(math.tanh(5.0))
    assert domain_strength(0.3, gamma=2.0) == pytest.approx(math.tanh(0.3))
    assert rate_factor("dann", 0.0) == 1.0 and rate_factor("dann", 1.0) == pytest.approx(11**-0.75)
    assert rate_factor("linear", 0.25) == 0.75 and rate_factor("cosine", 0.5) == pytest.approx(0.5)


def test_coral_is_the_distance_of_numpy_covariances():
    source, target = randn(20, 3), 2.0 * randn(15, 3, seed=1)
    difference = np.cov(source.numpy().T) - np.cov(target.numpy().T)
    wanted = np.square(difference).sum() / (4 * 3**2)
    assert float(coral_distance(source, target)) == pytest.approx(wanted)
    # It sees no shift, which is why deep CORAL cannot mend one in the last layer.
    assert float(coral_distance(source, source + 5.0)) == pytest.approx(0.0, abs=1e-12)
    assert float(coral_distance(source[:1], target[:1])) == 0.0


def test_mmd_is_brute_force():
    source, target = randn(5, 2), randn(7, 2, seed=1) + 1.0
    joint = torch.cat([source, target]).numpy()
    scale = np.mean([((a - b) ** 2).sum() for a in joint for b in joint])

    def kernel(a, b):
        square = ((a - b) ** 2).sum()
        return np.mean([np.exp(-square / (b * scale)) for b in MMD_BANDWIDTHS])

    def mean(xs, ys):
        return np.mean([kernel(a, b) for a in xs for b in ys])

    s, t = source.numpy(), target.numpy()
    found = float(mmd_distance(source, target))
    assert found == pytest.approx(mean(s, s) + mean(t, t) - 2 * mean(s, t))
    assert float(mmd_distance(source, source)) == pytest.approx(0.0, abs=1e-12)
    assert found > 0.0


def test_mmd_has_a_gradient_where_rows_are_equal():
    x = randn(4, 3).requires_grad_()
    mmd_distance(x, x.detach().clone()).backward()
    assert torch.isfinite(x.grad).all()


def test_l2_sp_gradient():
    w, w0, v = randn(3, 2).requires_grad_(), randn(3, 2, seed=1), randn(4, seed=2).requires_grad_()
    l2_sp([w], [w0], [v], pull=0.7, head_decay=0.3).backward()
    torch.testing.assert_close(w.grad, 0.7 * (w.detach() - w0))
    torch.testing.assert_close(v.grad, 0.3 * v.detach())
    assert l2_sp([w], [w], [], 1.0, 1.0).item() == 0.0


def test_weighted_cross_entropy_is_unbiased():
    """The mean over all batches is the weighted loss of all data: batches are not normalised."""
    logits, labels = randn(4, 3), torch.tensor([0, 1, 2, 1])
    weights = torch.tensor([3.0, 0.5, 0.5, 0.0], dtype=torch.float64)
    whole = weighted_cross_entropy(logits, labels, weights)
    pairs = [[i, j] for i in range(4) for j in range(4)]
    parts = [weighted_cross_entropy(logits[p], labels[p], weights[p]) for p in pairs]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_standardise():
    x = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    network = Network(2, 2)
    network.standardise(x)  # a constant feature is not divided by 0
    torch.testing.assert_close(
        (x - network.shift) * network.scale, torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    )
    image = Network(16, 2, image_shape=(4, 4), filters=(2,))
    image.standardise(torch.arange(32.0).reshape(2, 16))
    assert image.shift.shape == () and float(image.shift) == 15.5


def test_convolutions_see_the_image_and_not_its_columns():
    """A row is read line by line: with a filter that looks to the right, so does the output."""
    network = Network(16, 2, image_shape=(4, 4), filters=(1,), hidden=(3,))
    convolution = network.blocks[0][0]
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[0, 0, 2, 3] = 1.0  # the right neighbour
        convolution.bias.zero_()
        seen = convolution(torch.arange(16.0).reshape(1, 1, 4, 4))
    assert seen[0, 0, 0].tolist() == [1.0, 2.0, 3.0, 0.0]
    assert network.features(torch.rand(5, 16)).shape == (5, 3)


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"image_shape": (5, 5)}, "does not fit"),
        ({"image_shape": (16,)}, "does not fit"),
        ({"image_shape": (2, 8), "filters": (4, 4)}, "too small"),
        ({"hidden": ()}, "hidden"),
        ({"hidden": (0,)}, "hidden"),
    ],
)
def test_networks_that_cannot_be(kwargs, said):
    with pytest.raises(InvalidArgumentError, match=said):
        Network(16, 2, **kwargs)
