"""Parameters and multiply-adds against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from metagym.architectures import make_space
from metagym.architectures.counting import Cost, count
from metagym.architectures.recurrent_modules import baseline


@pytest.mark.parametrize(
    ("layer", "shape", "parameters", "flops"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (3, 5, 7), 3 * 8 * 9 + 8, 5 * 7 * 8 * 3 * 9),
        (nn.Conv2d(4, 8, 3, stride=2, groups=2, bias=False), (4, 9, 9), 8 * 2 * 9, 16 * 8 * 2 * 9),
        (nn.Conv1d(2, 3, 5), (2, 9), 2 * 3 * 5 + 3, 5 * 3 * 2 * 5),
        (nn.ConvTranspose2d(2, 3, 2, stride=2, bias=False), (2, 4, 4), 24, 4 * 4 * 2 * 3 * 4),
        (nn.Linear(6, 4), (6,), 28, 24),
        (nn.Linear(6, 4), (10, 6), 28, 240),
        (nn.BatchNorm2d(3), (3, 4, 4), 6, 48),
        (nn.AvgPool2d(3, stride=1, padding=1), (2, 4, 4), 0, 2 * 16 * 9),
        (nn.AdaptiveAvgPool2d(1), (2, 4, 4), 0, 32),
        (nn.MaxPool2d(2), (2, 4, 4), 0, 0),
        (nn.ReLU(), (9,), 0, 0),
        (nn.LSTM(5, 4, batch_first=True), (7, 5), 4 * 4 * (5 + 4) + 32, 7 * 4 * 4 * (5 + 4)),
    ],
)
def test_single_layers(layer, shape, parameters, flops):
    assert count(layer, shape) == Cost(parameters, flops)


def test_a_layer_counts_at_every_call_and_its_parameters_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(torch.relu(self.layer(x)))

    assert count(nn.Sequential(Twice(), nn.Linear(4, 2)), (4,)) == Cost(20 + 10, 32 + 8)


def test_products_without_a_layer_count():
    class Functions(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 4))
            self.kernel = nn.Parameter(torch.ones(2, 1, 3))
            self.layer = nn.Linear(3, 3)

        def forward(self, x):  # [1, 5, 4]
            x = self.layer(nn.functional.linear(x, self.weight)) @ self.weight
            return nn.functional.conv1d(x.flatten(1)[:, None], self.kernel)

    flops = 5 * 3 * 4 + 5 * 3 * 3 + 5 * 4 * 3 + 18 * 2 * 3
    assert count(Functions(), (5, 4)) == Cost(12 + 6 + 12, flops)


def test_recurrent_cells_count_as_torchs_do():
    """Per symbol W x and U h of each leaf of a tree, of which torch's LSTM would have four."""
    symbols, inputs, width = 7, 5, 6
    shape = (symbols, inputs)
    torchs = count(baseline("lstm")(inputs, width), shape).flops
    assert torchs == symbols * 4 * width * (inputs + width)
    tree = make_space("recurrent")
    (tokens,) = tree.sample(np.random.default_rng(0), 1)
    cell = tree.build(tokens, inputs, width)
    assert count(cell, shape).flops * 4 == torchs * cell.leaves
    enas = make_space("enas_recurrent")
    (tokens,) = enas.sample(np.random.default_rng(0), 1)
    found = count(enas.build(tokens, inputs, width), shape).flops
    assert found == symbols * 2 * width * (inputs + width * len(enas.decode(tokens)))


def test_frozen_parameters_do_not_count():
    layer = nn.Linear(4, 4).requires_grad_(False)
    assert count(layer, (4,)) == Cost(0, 16)


def test_the_module_is_left_as_it_was():
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.BatchNorm1d(4))
    module[1].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    count(module, (4,))
    assert [part.training for part in module] == [True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(part._forward_hooks for part in module.modules())
    with pytest.raises(RuntimeError):
        count(module, (5,))
    assert not any(part._forward_hooks for part in module.modules())
