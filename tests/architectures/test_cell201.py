"""cell201: strings, numbers, isomorphism, and the network around the cell."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.architectures import PAD
from metagym.architectures.cell201 import CLASSES, COUNT, EDGES, NONE, OPERATIONS, Cell201
from metagym.architectures.cell201_modules import Cell, CellNetwork
from metagym.architectures.counting import count
from metagym.errors import InvalidArgumentError

SPACE = Cell201()
EVERY = SPACE.tokens(np.arange(COUNT))
KNOWN = "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"
SMALL = {"channels": 4, "cells": 1, "stages": 2}
architectures = st.lists(st.integers(0, 4), min_size=6, max_size=6).map(np.array)


def _values(tokens):
    """Each cell [B, 6] as a sum of numbers, with a function for every operation and f(0) = 0."""
    functions = {1: lambda x: x, 2: np.sin, 3: lambda x: np.expm1(x / 7), 4: lambda x: x**2 / 3}
    nodes = [np.full(len(tokens), 1.1), *np.zeros((3, len(tokens)))]
    for edge, (source, target) in enumerate(EDGES):
        for token, function in functions.items():
            nodes[target] = nodes[target] + (tokens[:, edge] == token) * function(nodes[source])
    return nodes[3]


# -- strings and numbers ---------------------------------------------------------------------------


def test_the_string_is_nas_bench_201s():
    tokens = np.array([3, 1, 0, 4, 0, 2])
    assert SPACE.to_string(tokens) == KNOWN
    assert SPACE.from_string(KNOWN).tolist() == tokens.tolist()


@given(architectures)
def test_strings_and_numbers_bring_the_tokens_back(tokens):
    np.testing.assert_array_equal(SPACE.from_string(SPACE.to_string(tokens)), tokens)
    np.testing.assert_array_equal(SPACE.tokens(SPACE.index(tokens[None]))[0], tokens)


def test_numbers_count_in_base_five():
    assert SPACE.index(EVERY).tolist() == list(range(COUNT))
    assert EVERY[1].tolist() == [0, 0, 0, 0, 0, 1]
    assert EVERY[5**5].tolist() == [1, 0, 0, 0, 0, 0]
    assert SPACE.tokens(np.array([], dtype=int)).shape == (0, 6)


@pytest.mark.parametrize("numbers", [[COUNT], [-1], [0.5]])
def test_numbers_outside_are_refused(numbers):
    with pytest.raises(InvalidArgumentError, match="from 0 to 15624"):
        SPACE.tokens(np.array(numbers))


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ([], ""),
        ([3], "|nor_conv_3x3~0|"),
        ([3, 1], "|nor_conv_3x3~0|+|skip_connect~0|"),
        ([3, 1, 0, 4], "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|"),
    ],
)
def test_a_partial_architecture_is_what_it_is_so_far(chosen, text):
    tokens = SPACE.empty(1)[0]
    tokens[: len(chosen)] = chosen
    assert SPACE.to_string(tokens) == text
    drawn = SPACE.graph(tokens).edges
    assert [label for _, _, label in drawn] == [OPERATIONS[t] for t in chosen if t != NONE]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at character 0, node 1 has to begin with '|'"),
        ("none~0|", "at character 0, node 1"),
        ("|none~0|", "at character 8, node 2 has to begin with '+|'"),
        ("|nor_conv3x3~0|", "at character 1, 'nor_conv3x3' is not one of none, skip"),
        (KNOWN.replace("none~1", "none~0"), "at character 33, edge 2 comes from node 1, not 0"),
        (KNOWN.replace("~2|", "~2"), "at character 64, 'operation~2|' is expected"),
        (KNOWN + "+", "at character 79, nothing may follow, but there is '+'"),
        (KNOWN.replace("+", ""), "at character 16, node 2"),
    ],
)
def test_a_malformed_string_is_refused_with_the_place(text, message):
    with pytest.raises(InvalidArgumentError, match=re.escape(message)):
        SPACE.from_string(text)


@pytest.mark.parametrize("tokens", [[0, 0, 0, 0, 0, 5], [0, 0, 0, 0, 0, PAD], [0] * 5, [0.0] * 6])
def test_what_is_no_architecture_is_refused(tokens):
    for method in (SPACE.index, SPACE.live):
        with pytest.raises(InvalidArgumentError, match="cell201"):
            method(np.array([tokens]))


def test_the_mask_is_open_until_all_six_are_chosen():
    tokens = SPACE.empty(3)
    tokens[1, :5] = tokens[2] = 0
    assert SPACE.mask(tokens).tolist() == [[True] * 5, [True] * 5, [False] * 5]


def test_samples_are_uniform():
    tokens = SPACE.sample(np.random.default_rng(0), 20_000)
    for edge in range(6):
        np.testing.assert_allclose(np.bincount(tokens[:, edge]) / 4000, 1.0, atol=0.08)


# -- isomorphism -----------------------------------------------------------------------------------


def test_there_are_6466_classes_and_they_are_those_of_canonical():
    classes = SPACE.classes()
    assert classes.shape == (COUNT,) and len(np.unique(classes)) == CLASSES == 6466
    firsts = np.unique(classes, return_index=True)[1]
    assert (np.diff(firsts) > 0).all()  # numbered in the order of their first members
    keys: dict[str, int] = {}
    for number in np.random.default_rng(0).choice(COUNT, 3000, replace=False):
        key = SPACE.canonical(EVERY[number])
        assert keys.setdefault(key, classes[number]) == classes[number]
    assert len(set(keys.values())) == len(keys)


def test_members_of_a_class_compute_the_same_expression():
    values, classes = _values(EVERY), SPACE.classes()
    firsts = np.unique(classes, return_index=True)[1]
    np.testing.assert_allclose(values, values[firsts[classes]], rtol=1e-12, atol=1e-12)
    # The published rule is not complete: some equal sums have different keys.
    assert len(np.unique(values.round(9))) < CLASSES


def test_classes_are_those_of_the_real_benchmark():
    folder = Path(os.environ.get("METAGYM_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = folder / "nasbench201" / "nats_bench.csv"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    tokens = np.array([SPACE.from_string(row["ArchitectureString"]) for row in rows])
    classes = SPACE.classes()[SPACE.index(tokens)]
    pairs = {(row["UniqueString"], number) for row, number in zip(rows, classes, strict=True)}
    assert len(pairs) == len({text for text, _ in pairs}) == len({n for _, n in pairs}) == CLASSES


def test_live_edges_are_those_whose_change_changes_the_cell():
    values, live = _values(EVERY), SPACE.live(EVERY)
    for edge in range(6):
        without = EVERY.copy()
        without[:, edge] = NONE
        np.testing.assert_array_equal(live[:, edge], ~np.isclose(values, _values(without)))


# -- the network -----------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(tokens=architectures, size=st.integers(1, 9), channels=st.integers(1, 3))
def test_every_architecture_can_be_built_and_trained(tokens, size, channels):
    network = SPACE.build(tokens, (channels, size, size + 1), 7, **SMALL)
    logits = network(torch.randn(3, channels, size, size + 1))
    assert logits.shape == (3, 7)
    logits.square().sum().backward()
    gradients = [value.grad for value in network.parameters() if value.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)


def test_the_largest_architecture_has_its_published_size():
    network = SPACE.build(np.full(6, OPERATIONS.index("nor_conv_3x3")), (3, 32, 32), 10)
    assert count(network, (3, 32, 32)).parameters == 1_531_546


def test_the_cell_is_the_sum_over_its_paths():
    # 0→1 a convolution, 0→2 pooled, 1→2 skipped, 0→3 skipped, 2→3 a convolution.
    cell = Cell([3, 4, 1, 1, 0, 2], 5).eval()
    x = torch.randn(2, 5, 6, 6)
    first, last = cell.operations["0"], cell.operations["5"]
    pooled = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(cell(x), x + last(pooled + first(x)))
    assert torch.equal(cell.operations["1"](torch.ones(1, 5, 4, 4)), torch.ones(1, 5, 4, 4))


def test_a_cell_without_a_path_is_zero_and_has_no_parameters():
    tokens = SPACE.from_string("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|")
    network = SPACE.build(tokens, (1, 4, 4), 3, channels=4, cells=1, stages=1)
    cell = next(part for part in network.modules() if isinstance(part, Cell))
    assert list(cell.parameters()) == []
    assert not cell(torch.randn(1, 4, 4, 4)).any()


def test_members_of_a_class_have_the_same_convolutions_but_for_430_classes():
    live = np.where(SPACE.live(EVERY), EVERY, NONE)
    convolutions = np.stack([(live == token).sum(axis=1) for token in (2, 3)], axis=1)
    classes = SPACE.classes()
    firsts = np.unique(classes, return_index=True)[1]
    other = (convolutions != convolutions[firsts[classes]]).any(axis=1)
    assert len(np.unique(classes[other])) == 430


def test_replicas_are_independent_networks_with_the_same_gradients():
    operations = [3, 4, 2, 2, 1, 3]
    sizes = {"channels": 4, "cells": 1, "stages": 2}
    torch.manual_seed(0)
    together = CellNetwork(operations, (2, 6, 6), 5, replicas=3, **sizes)
    single = CellNetwork(operations, (2, 6, 6), 5, **sizes)
    images = torch.randn(7, 3, 2, 6, 6)
    target = torch.randn(7, 3, 5)
    logits = together(images.flatten(1, 2))
    (logits * target).sum().backward()
    for replica in range(3):
        own = {
            name: value.detach().chunk(3)[replica] if value.ndim else value
            for name, value in together.state_dict().items()
        }
        single.load_state_dict(own)
        single.zero_grad()
        alone = single(images[:, replica])
        torch.testing.assert_close(alone, logits[:, replica], rtol=1e-4, atol=1e-5)
        (alone * target[:, replica]).sum().backward()
        for mine, theirs in zip(single.parameters(), together.parameters(), strict=True):
            torch.testing.assert_close(
                mine.grad, theirs.grad.chunk(3)[replica], rtol=1e-3, atol=1e-4
            )


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"cells": 0}, {"stages": -1}, {"outputs": 0}])
def test_sizes_that_cannot_be_are_refused(wrong):
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        SPACE.build(EVERY[0], **{"input_shape": (1, 8, 8), "outputs": 10, **wrong})
