"""NASNet's cells: tokens, notation, keys, networks."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from metagym.architectures import nasnet_modules
from metagym.architectures.nasnet import NASNet
from metagym.architectures.nasnet_blocks import (
    ENAS_OPERATIONS,
    NASNET_OPERATIONS,
    Block,
    loose_ends,
)
from metagym.architectures.space import PAD
from metagym.errors import InvalidArgumentError

EXAMPLE = (
    "normal: sep_conv_3x3(0) + identity(1); max_pool_3x3(2) + sep_conv_5x5(0) | "
    "reduction: avg_pool_3x3(1) + avg_pool_3x3(1); identity(0) + sep_conv_3x3(1)"
)
BOTH = ("add", "concat")


# -- tokens and notation ---------------------------------------------------------------------------


@pytest.mark.parametrize("combine", [("add",), BOTH], ids=str)
def test_masks_allow_the_states_that_are_there(combine):
    space = NASNet(3, combine=combine)
    width = 3 + len(combine)
    assert space.length == 2 * 3 * width
    tokens = space.sample(np.random.default_rng(0), 1)
    counts = [
        int(space.mask(np.where(np.arange(space.length) < t, tokens, PAD)).sum())
        for t in range(space.length)
    ]
    tail = [2] * (len(combine) - 1)
    cell = [count for b in range(3) for count in (b + 2, b + 2, 5, 5, *tail)]
    assert counts == cell + cell


def test_the_notation_says_what_the_blocks_are():
    space = NASNet(2)
    tokens = space.from_string(EXAMPLE)
    assert space.to_string(tokens) == EXAMPLE
    assert [space.vocabulary[token] for token in tokens[:8]] == [
        "state 0", "state 1", "sep_conv_3x3", "identity",
        "state 2", "state 0", "max_pool_3x3", "sep_conv_5x5",
    ]  # fmt: skip
    normal, reduction = space.cells(tokens)
    assert normal[1] == Block((2, 0), ("max_pool_3x3", "sep_conv_5x5"), "add")
    assert loose_ends(normal) == [3]
    assert loose_ends(reduction) == [2, 3]


def test_partial_cells_show_what_is_open():
    space = NASNet(1, combine=BOTH)
    tokens = space.from_string(
        "normal: identity(0) & identity(1) | reduction: identity(0) + identity(1)"
    )
    texts = []
    for k in range(space.length + 1):
        texts.append(space.to_string(np.where(np.arange(space.length) < k, tokens, PAD)))
        if k < space.length:
            with pytest.raises(InvalidArgumentError, match="not complete"):
                space.from_string(texts[-1])
    assert texts[0] == "normal: ? | reduction: ?"
    assert texts[1] == "normal: ?(0) ? ?(?) | reduction: ?"
    assert texts[4] == "normal: identity(0) ? identity(1) | reduction: ?"
    assert texts[6] == "normal: identity(0) & identity(1) | reduction: ?(0) ? ?(?)"
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("normal: ", "", "written like 'normal: block"),
        ("(2)", "(3)", "Block 1 of the normal cell, .*no state 3 yet, only 0 to 2"),
        ("identity(1); max_pool_3x3(2) + ", "", "normal cell has 1 blocks.* have 2"),
        ("max_pool_3x3(2) + ", "", "Block 1 of the normal cell, .* is not written like"),
        ("identity(0)", "idenity(0)", "Block 1 of the reduction cell.*Did you mean 'identity'"),
        ("sep_conv_5x5", "conv_1x1", "'conv_1x1' is not one of identity, sep_conv_3x3"),
        ("+", "&", r"combines with '\+'"),
        ("(0) +", "(0) -", "is not written like"),
    ],
)
def test_malformed_cells_are_refused(old, new, message):
    assert old in EXAMPLE
    with pytest.raises(InvalidArgumentError, match=message):
        NASNet(2).from_string(EXAMPLE.replace(old, new, 1))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"blocks": 0}, "blocks=0"),
        ({"operations": ()}, "each once"),
        ({"operations": ("identity", "identity")}, "each once"),
        ({"operations": ("sep_conv_3",)}, "Did you mean 'sep_conv_3x3'"),
        ({"combine": ("sum",)}, "'add', 'concat'"),
    ],
)
def test_spaces_that_cannot_be(kwargs, message):
    with pytest.raises(InvalidArgumentError, match=message):
        NASNet(**kwargs)


# -- keys ------------------------------------------------------------------------------------------


def _rewritten(blocks, order, swaps):
    """The blocks in another order, their halves perhaps swapped; None where that cannot be."""
    place = {0: 0, 1: 1} | {b + 2: i + 2 for i, b in enumerate(order)}
    new = []
    for i, b in enumerate(order):
        halves = [
            (place[s], o) for s, o in zip(blocks[b].states, blocks[b].operations, strict=True)
        ]
        if any(state >= i + 2 for state, _ in halves):
            return None
        (s0, o0), (s1, o1) = halves[:: -1 if swaps[b] else 1]
        new.append(Block((s0, s1), (o0, o1), blocks[b].combine))
    return tuple(new)


def _all_cells(operations, combine):
    """All cells of three blocks."""
    choices = [
        [
            Block(states, names, how)
            for states in product(range(b + 2), repeat=2)
            for names in product(operations, repeat=2)
            for how in combine
        ]
        for b in range(3)
    ]
    return list(product(*choices))


def test_keys_are_equal_exactly_where_reordering_makes_the_cells_equal():
    space = NASNet(3, operations=("identity", "avg_pool_3x3"))
    other = space._notation.write(space.cells(space.sample(np.random.default_rng(0), 1)[0])[1])
    cells = _all_cells(space.operations, space.combine)
    assert len(cells) == (4 * 4) * (9 * 4) * (16 * 4)
    rng = np.random.default_rng(1)
    classes = {}
    for i in rng.choice(len(cells), 150, replace=False):
        orders = [
            _rewritten(cells[i], order, swaps)
            for order in permutations(range(3))
            for swaps in product((False, True), repeat=3)
        ]
        orders = [order for order in orders if order is not None]
        some = [cells[i], *(orders[j] for j in rng.integers(len(orders), size=2))]
        for blocks in some:
            tokens = space.from_string(
                f"normal: {space._notation.write(blocks)} | reduction: {other}"
            )
            classes.setdefault(min(orders), set()).add(space.canonical(tokens).split(" | ")[0])
    assert all(len(keys) == 1 for keys in classes.values())
    assert len(set.union(*classes.values())) == len(classes) > 100


@pytest.mark.parametrize("seed", range(3))
def test_cells_with_one_key_compute_the_same(seed):
    """With the weights of each block moved where the block went."""
    space = NASNet(4, combine=BOTH, operations=NASNET_OPERATIONS)
    rng = np.random.default_rng(seed)
    tokens = space.sample(rng, 1)[0]
    cells = space.cells(tokens)
    plans = []
    for blocks in cells:
        possible = [o for o in permutations(range(4)) if _rewritten(blocks, o, [False] * 4)]
        plans.append((possible[rng.integers(len(possible))], rng.random(4) < 0.5))
    texts = [
        space._notation.write(_rewritten(blocks, *plan))
        for blocks, plan in zip(cells, plans, strict=True)
    ]
    other = space.from_string(f"normal: {texts[0]} | reduction: {texts[1]}")
    assert space.canonical(other) == space.canonical(tokens)
    sizes = {"channels": 3, "cells": 1, "reductions": 1}
    first = space.build(tokens, (1, 6, 5), 3, **sizes).eval()
    second = space.build(other, (1, 6, 5), 3, **sizes).eval()
    with torch.no_grad():
        for value in first.state_dict().values():
            if value.is_floating_point():
                value.uniform_(0.5, 1.0)
        second.stem.load_state_dict(first.stem.state_dict())
        moved = [torch.arange(3)] * 2  # of the two outputs before a cell: where channels come from
        for number, (old, new) in enumerate(zip(first.cells, second.cells, strict=True)):
            kind = number % 2  # normal, reduction, normal
            order, swaps = plans[kind]
            for read, one, two in zip(moved[-2:], old.prepare, new.prepare, strict=True):
                _load(two, one, read)
            for i, b in enumerate(order):
                for half in range(2):
                    source = old.operations[2 * b + (half ^ int(swaps[b]))]
                    _load(new.operations[2 * i + half], source)
                width = old.channels // len(loose_ends(cells[kind]))
                both = torch.arange(2 * width).view(2, width)
                _load(new.merge[i], old.merge[b], both.flip(0).flatten() if swaps[b] else None)
            ends = [state - 2 for state in loose_ends(cells[kind])]
            blocks = [ends.index(b) for b in order if b in ends]
            moved.append((torch.tensor(blocks)[:, None] * width + torch.arange(width)).flatten())
        second.head.weight.copy_(first.head.weight[:, moved[-1]])
        second.head.bias.copy_(first.head.bias)
        images = torch.rand(2, 1, 6, 5)
        torch.testing.assert_close(first(images), second(images), rtol=1e-4, atol=1e-5)


def _load(target, source, read=None):
    """Copy a module; convolutions that are not depthwise read the channels ``read``."""
    state = source.state_dict()
    if read is not None:
        state = {k: v[:, read] if v.ndim == 4 else v for k, v in state.items()}
    target.load_state_dict(state)


# -- networks --------------------------------------------------------------------------------------

C = 4
NORM = 2 * C
PARAMETERS = {  # of an operation on 4 channels, stride 1
    "identity": 0,
    "avg_pool_3x3": 0,
    "max_pool_3x3": 0,
    "max_pool_5x5": 0,
    "max_pool_7x7": 0,
    "conv_1x1": C * C + NORM,
    "conv_3x3": 9 * C * C + NORM,
    "conv_1x3_3x1": 2 * 3 * C * C + NORM,
    "conv_1x7_7x1": 2 * 7 * C * C + NORM,
    "sep_conv_3x3": 2 * (9 * C + C * C + NORM),
    "sep_conv_5x5": 2 * (25 * C + C * C + NORM),
    "sep_conv_7x7": 2 * (49 * C + C * C + NORM),
    "dil_conv_3x3": 9 * C + C * C + NORM,
}


@pytest.mark.parametrize("name", NASNET_OPERATIONS)
def test_operations_have_their_parameters_and_sizes(name):
    assert (
        sum(p.numel() for p in nasnet_modules.operation(name, C, 1).parameters())
        == PARAMETERS[name]
    )
    for size, stride in product((1, 2, 5, 8), (1, 2)):
        maps = nasnet_modules.operation(name, C, stride)(torch.randn(2, C, size, 7))
        assert maps.shape == (2, C, -(-size // stride), -(-7 // stride))


@pytest.mark.parametrize(("name", "reach"), [
    ("conv_1x1", (0, 0)), ("conv_3x3", (1, 1)), ("conv_1x3_3x1", (1, 1)), ("conv_1x7_7x1", (3, 3)),
    ("dil_conv_3x3", (2, 2)), ("max_pool_5x5", (2, 2)), ("avg_pool_3x3", (1, 1)),
    ("sep_conv_5x5", (4, 4)), ("identity", (0, 0)),
])  # fmt: skip
def test_operations_see_as_far_as_their_names_say(name, reach):
    torch.manual_seed(0)  # with some weights all its ReLUs are off there
    module = nasnet_modules.operation(name, C, 1).eval()
    maps = (torch.rand(1, C, 13, 13) + 1).requires_grad_()
    module(maps)[0, :, 6, 6].sum().backward()
    seen = maps.grad[0].abs().sum(0)
    if name == "max_pool_5x5":  # it sees one pixel a channel; put the maximum in each corner
        for corner in product((4, 8), repeat=2):
            lit = torch.zeros(1, C, 13, 13)
            lit[0, :, corner[0], corner[1]] = 1
            assert (module(lit)[0, :, 6, 6] == 1).all()
    else:
        rows, columns = np.nonzero(seen.numpy())
        assert (np.abs(rows - 6).max(), np.abs(columns - 6).max()) == reach


def test_halving_reads_both_diagonals_of_all_pixels():
    for size in (5, 6):
        maps = torch.rand(1, 2, size, size, requires_grad=True)
        halved = nasnet_modules.Halving(2, 4)(maps)
        assert halved.shape == (1, 4, 3, 3)
        halved.sum().backward()
        read = maps.grad[0].abs().sum(0).numpy() > 0
        rows, columns = np.indices((size, size))
        np.testing.assert_array_equal(read, rows % 2 == columns % 2)
    assert nasnet_modules.Halving(2, 1)(maps).shape == (1, 1, 3, 3)


def test_a_cell_computes_what_the_notation_says():
    """Against the same cell written out by hand; the reduction cell, after a reduction cell."""
    space = NASNet(2, operations=("identity", "avg_pool_3x3", "max_pool_3x3"), combine=BOTH)
    text = "max_pool_3x3(1) & identity(1); avg_pool_3x3(2) + max_pool_3x3(0)"
    blocks = space.cells(space.from_string(f"normal: {text} | reduction: {text}"))[1]
    cell = nasnet_modules.Cell(blocks, (3, 2), 4, stride=2, halve_older=True).eval()
    older, last = torch.randn(2, 3, 14, 14), torch.randn(2, 2, 7, 7)
    with torch.no_grad():
        zero, one = cell.prepare[0](older), cell.prepare[1](last)
        assert zero.shape == one.shape == (2, 4, 7, 7)
        convolution, norm = cell.prepare[1][1:]
        torch.testing.assert_close(
            one, F.conv2d(last.relu(), convolution.weight) / (1 + norm.eps) ** 0.5
        )
        small = cell.operations[1](one)  # the identity with stride 2
        joined = torch.cat([F.max_pool2d(one, 3, 2, 1), small], dim=1)
        two = cell.merge[0](joined)
        pooled = F.avg_pool2d(F.pad(two, (1, 1, 1, 1)), 3, 1) * 9
        pixels = F.avg_pool2d(F.pad(torch.ones_like(two), (1, 1, 1, 1)), 3, 1) * 9
        three = pooled / pixels + F.max_pool2d(zero, 3, 2, 1)
        torch.testing.assert_close(cell(older, last), three)  # state 2 is taken
        assert cell.channels == 4


def test_parameters_are_those_counted_by_hand():
    text = "sep_conv_3x3(1) + identity(1); conv_1x1(1) + max_pool_3x3(0)"
    space = NASNet(2, operations=NASNET_OPERATIONS)
    tokens = space.from_string(f"normal: {text} | reduction: {text}")
    network = space.build(tokens, (3, 8, 8), 10, channels=4, cells=1, reductions=1)

    def ready(read, channels):  # pointwise or halving: the same number
        return read * channels + 2 * channels

    def separable(channels):
        return 2 * (9 * channels + channels**2 + 2 * channels)

    def points(channels):
        return channels**2 + 2 * channels

    stem = 3 * 4 * 9 + 8
    normal = ready(4, 4) + ready(4, 4) + separable(4) + points(4)
    # The reduction cell has 8 channels, reads the stem and the normal cell's two loose ends, and
    # its identity on an input is a halving.
    reduction = ready(4, 8) + ready(8, 8) + separable(8) + points(8) + ready(8, 8)
    second = ready(8, 8) + ready(16, 8) + separable(8) + points(8)
    expected = stem + normal + reduction + second + (16 + 1) * 10
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize("size", [(8, 8), (5, 7)], ids=str)
@pytest.mark.parametrize(
    "space", [NASNet(5), NASNet(3, operations=NASNET_OPERATIONS, combine=BOTH)], ids=["5", "13"]
)
def test_random_networks_learn_from_small_images(space, size):
    torch.manual_seed(0)
    images, labels = torch.randn(4, 1, *size), torch.tensor([0, 1, 2, 1])
    for row in space.sample(np.random.default_rng(0), 3):
        network = space.build(row, (1, *size), 3, channels=4, cells=1)
        outputs = network(images)
        assert outputs.shape == (4, 3)
        F.cross_entropy(outputs, labels).backward()
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert network.stem[0].weight.grad.abs().sum() > 0
        assert sum(isinstance(m, nasnet_modules.Cell) for m in network.modules()) == 5


def test_inputs_that_no_block_takes_cost_nothing():
    space = NASNet(1)
    text = "normal: identity(1) + avg_pool_3x3(1) | reduction: identity(1) + avg_pool_3x3(1)"
    network = space.build(space.from_string(text), (1, 8, 8), 3, channels=4, cells=1, reductions=1)
    assert all(isinstance(cell.prepare[0], nn.Identity) for cell in network.cells)
    network(torch.randn(2, 1, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_networks_that_cannot_be_built():
    space = NASNet(1)
    tokens = space.sample(np.random.default_rng(0), 1)[0]
    with pytest.raises(InvalidArgumentError, match="input_shape"):
        space.build(tokens, (8, 8), 3)
    for argument in ("channels", "cells", "reductions"):
        with pytest.raises(InvalidArgumentError, match=f"{argument}=0"):
            space.build(tokens, (1, 8, 8), 3, **{argument: 0})
    with pytest.raises(InvalidArgumentError, match="no complete architecture"):
        space.build(np.full_like(tokens, PAD), (1, 8, 8), 3)


# -- drawing ---------------------------------------------------------------------------------------


def test_the_graph_has_two_cells_with_operations_between_states():
    space = NASNet(2, operations=ENAS_OPERATIONS)
    nodes, edges = space.graph(space.from_string(EXAMPLE))
    labels = [node.label for node in nodes]
    cell = ["cell k−2", "cell k−1", "sep 3×3", "identity", "+", "max 3×3", "sep 5×5", "+"]
    assert labels[:9] == [*cell, "normal\ncell k"]
    assert len(labels) == 18
    # Inputs, first block (2 and 3 into 4), second block (5 and 6 into 7), the only loose end.
    assert {(a, b) for a, b, _ in edges if b < 9} == {
        (0, 2), (1, 3), (2, 4), (3, 4), (4, 5), (0, 6), (5, 7), (6, 7), (7, 8),
    }  # fmt: skip
    assert not any(a < 9 <= b for a, b, _ in edges)
    partial = space.from_string(EXAMPLE)
    partial[6:] = PAD  # the second block has its states only
    nodes, edges = space.graph(partial)
    assert [node.label for node in nodes[5:]] == ["?", "?", "+", "normal\ncell k"]
