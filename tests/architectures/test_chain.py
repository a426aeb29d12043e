"""Chains of convolutions: tokens, notation, keys, networks."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from metagym.architectures.chain import Chain, scheduled_depth
from metagym.architectures.chain_layers import unread
from metagym.architectures.chain_modules import concatenate
from metagym.architectures.isomorphism import structural_order
from metagym.architectures.space import PAD
from metagym.errors import InvalidArgumentError

ALL = {"strides": (1, 2, 3), "types": ("conv", "pool", "batch_norm")}
EXAMPLE = (
    "conv 3x5x36 s1x2 <- image; pool 3x3 s2x2 <- image; batch_norm <- 0,1; conv 7x1x24 s3x1 <- 1"
)


def every_string(space):
    """All strings of a small space, by following the masks everywhere."""
    rows, done = space.empty(1), []
    while len(rows):
        allowed = space.mask(rows)
        done.append(rows[~allowed.any(axis=1)])
        parents, tokens = np.nonzero(allowed)
        count = (rows[parents] != PAD).sum(axis=1)
        rows = rows[parents]
        rows[np.arange(len(rows)), count] = tokens
    return np.concatenate(done)


# -- tokens ----------------------------------------------------------------------------------------


def test_the_default_is_the_published_space():
    space = Chain()
    assert space.length == 6 * 3 + 15  # height, width, filters; one bit for every earlier layer
    assert space.vocabulary[:5] == ("height 1", "height 3", "height 5", "height 7", "width 1")
    assert len(space.vocabulary) == 3 * 4 + 2
    bits = np.flatnonzero(space.anchors[:, 0] >= 0)
    written = [3, 6, 10, 15, 21, 28]  # the three sizes of each layer, behind the bits before it
    assert [tuple(pair) for pair in space.anchors[bits]] == [
        (written[i], written[j]) for i in range(6) for j in range(i)
    ]
    walk = space.sample(np.random.default_rng(0), 1)
    assert all("skip" in space.vocabulary[token] for token in walk[0, bits])


@pytest.mark.parametrize(
    ("kwargs", "count"),
    [
        ({"depth": 2}, 4**2 * 2),
        ({"depth": 2, "skips": False}, 4**2),
        ({"depth": 3, "heights": (3,), "widths": (3,)}, 2**3),
        ({"depth": 2, "strides": (1, 2)}, 16**2 * 2),
        # With both types: 4 convolutions, 2 windows of a pool, 1 normalisation.
        ({"depth": 2, "types": ALL["types"]}, 7**2 * 2),
        ({"depth": 3, "shortest": 1, "skips": False}, 4 + 4**2 + 4**3),
        ({"depth": 2, "shortest": 1, **ALL}, (36 + 18 + 1) + 2 * (36 + 18 + 1) ** 2),
    ],
    ids=str,
)
def test_there_are_as_many_strings_as_combinations(kwargs, count):
    skips = {"skips": False} if kwargs["depth"] == 3 else {}
    space = Chain(**{"heights": (1, 3), "widths": (5,), "filters": (2, 4), **skips, **kwargs})
    rows = every_string(space)
    assert len(rows) == count
    texts = {space.to_string(row) for row in rows}
    assert len(texts) == count  # no two strings read alike
    assert space.valid(rows).all()


def test_masks_of_a_given_depth_lead_to_that_depth():
    space = Chain(5, shortest=2, **ALL)
    rng = np.random.default_rng(0)
    for depth in (2, 3, 5):
        tokens = space.empty(20)
        while (allowed := space.depth_mask(tokens, depth)).any():
            rows = np.flatnonzero(allowed.any(axis=1))
            for row in rows:
                place = (tokens[row] != PAD).sum()
                tokens[row, place] = rng.choice(np.flatnonzero(allowed[row]))
        assert space.valid(tokens).all()
        assert {len(space.layers(row)) for row in tokens} == {depth}
    for depth in (1, 6):
        with pytest.raises(InvalidArgumentError, match="2 to 5 layers"):
            space.depth_mask(tokens, depth)
    fixed = Chain(3)
    np.testing.assert_array_equal(fixed.depth_mask(fixed.empty(2), 3), fixed.mask(fixed.empty(2)))


def test_the_published_schedule():
    samples = (0, 1599, 1600, 3199, 3200, 12_799)
    assert [scheduled_depth(n) for n in samples] == [6, 6, 8, 8, 10, 20]
    assert scheduled_depth(10, first=2, step=1, every=5) == 4


@pytest.mark.parametrize(
    "kwargs",
    [
        {"depth": 3, "shortest": 1, "skips": False},
        {"depth": 2, "types": ALL["types"]},
        {"depth": 2, "shortest": 1, "types": ("batch_norm", "conv")},
        {"depth": 2},
    ],
    ids=str,
)
def test_all_strings_are_sampled_equally_often(kwargs):
    space = Chain(**{"heights": (1, 3), "widths": (5,), "filters": (2, 4), **kwargs})
    rows = every_string(space)
    count = 200 * len(rows)
    found, times = np.unique(space.sample(np.random.default_rng(0), count), axis=0, return_counts=1)
    np.testing.assert_array_equal(found, np.unique(rows, axis=0))
    # A sum of squares as chance has it: mean n - 1, variance 2 (n - 1).
    excess = ((times - 200) ** 2 / 200).sum() - (len(rows) - 1)
    assert abs(excess) < 5 * np.sqrt(2 * len(rows))


def test_samples_of_deep_chains_do_not_overflow():
    """2^1225 skips and more: the share of the shortest chains is no number of a float."""
    space = Chain(50, shortest=1, types=ALL["types"])
    tokens = space.sample(np.random.default_rng(0), 3)
    assert space.valid(tokens).all()
    assert [len(space.layers(row)) for row in tokens] == [50] * 3


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"depth": 0}, "depth=0"),
        ({"depth": 3, "shortest": 4}, "shortest=4 is more than depth=3"),
        ({"heights": (1, 2)}, "odd"),
        ({"widths": ()}, "widths"),
        ({"filters": (8, 8)}, "each once"),
        ({"strides": (0,)}, "strides=0"),
        ({"types": ("conv", "pol")}, "Did you mean 'pool'"),
        ({"types": ("pool",)}, "hold 'conv'"),
        ({"skips": "no"}, "skips='no' has to be True or False"),
    ],
    ids=str,
)
def test_spaces_that_cannot_be(kwargs, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Chain(**kwargs)


# -- notation --------------------------------------------------------------------------------------


def test_the_notation_says_what_the_layers_are():
    space = Chain(4, **ALL)
    tokens = space.from_string(EXAMPLE)
    assert space.to_string(tokens) == EXAMPLE
    first, second, third, last = space.layers(tokens)
    assert first[:6] == ("conv", 3, 5, 36, 1, 2)
    assert second[:6] == ("pool", 3, 3, 0, 2, 2)
    assert third.inputs == (0, 1)
    assert (last.inputs, last.filters, last.stride_height) == ((1,), 24, 3)
    spaced = EXAMPLE.replace("0,1", "0, 1").replace("; ", " ;  ")
    np.testing.assert_array_equal(space.from_string(spaced), tokens)


def test_partial_chains_show_what_is_open():
    space = Chain(2, strides=(1, 2))
    tokens = space.from_string("conv 3x5x36 s1x2 <- image; conv 1x1x24 s1x1 <- 0")
    texts = []
    for k in range(space.length + 1):
        partial = np.where(np.arange(space.length) < k, tokens, PAD)
        texts.append(space.to_string(partial))
        if k < space.length:
            with pytest.raises(InvalidArgumentError, match="not complete"):
                space.from_string(texts[-1])
    assert texts[:3] == ["?", "conv 3x?x? s?x? <- image", "conv 3x5x? s?x? <- image"]
    assert texts[5] == "conv 3x5x36 s1x2 <- image; ?"
    assert texts[6] == "conv 3x5x36 s1x2 <- image; conv 1x?x? s?x? <- ?"
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Layer 0.*not written like 'conv 1x1x24 s1x1 <- image'"),
        ("conv 3x3", "it has no filters"),
        ("conv 3x3x24 <- image", "it has no stride height"),
        ("conv 3x3x24 s1x1", "it has no inputs"),
        ("conv 3x3x25 s1x1 <- image", "Layer 0, .*filters 25 is not one of 24, 36, 48, 64"),
        ("conv 3x3x24 s1x4 <- image", "stride width 4 is not one of 1, 2, 3"),
        ("cnv 3x3x24 s1x1 <- image", "Did you mean 'conv'"),
        ("pool 3x3x24 s1x1 <- image", "no place for filters.*'pool 1x1 s1x1 <- image'"),
        ("batch_norm 3x3 <- image", "no place for height"),
        ("batch_norm <- 0", "Layer 0.*earlier layers"),
        ("batch_norm <- image; batch_norm <- 1", "Layer 1.*earlier layers"),
        ("batch_norm <- image; batch_norm <- 0; batch_norm <- 1,0", "rising order"),
        ("batch_norm <- image; batch_norm <- 0,0", "rising order"),
        ("conv \u0663x3x24 s1x1 <- image", "not written like"),  # an Arabic 3
        (None, "not from None"),
        (7, "not from 7"),
        ("; ".join(["batch_norm <- image"] * 4), "4 layers; those of this space have 1 to 3"),
    ],
)
def test_malformed_chains_are_refused(text, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Chain(3, shortest=1, **ALL).from_string(text)


def test_tokens_that_are_no_part_of_a_chain_are_refused():
    space = Chain(3, shortest=1, **ALL)
    tokens = space.from_string(EXAMPLE.rpartition("; ")[0])
    for count in range(space.length + 1):
        part = np.where(np.arange(space.length) < count, tokens, PAD)
        space.to_string(part)
        for place, wrong in ((count - 1, 99), (count - 1, -2), (count - 2, PAD)):
            if place >= 0:
                bad = part.copy()
                bad[place] = wrong
                for read in (space.to_string, space.graph, space.layers):
                    with pytest.raises(InvalidArgumentError, match=f"at place {place}"):
                        read(bad)
    for token in range(len(space.vocabulary)):  # what the masks say, this says
        part = np.where(np.arange(space.length) < 6, tokens, PAD)
        allowed = space.mask(part[None])[0, token]
        part[6] = token
        if allowed:
            space.to_string(part)
            continue
        with pytest.raises(InvalidArgumentError, match=f"Token {token} at place 6 is not allowed"):
            space.to_string(part)
    for malformed in (tokens[1:], tokens.astype(float), tokens[None], "conv"):
        with pytest.raises(InvalidArgumentError, match=r"whole numbers \[21\]"):
            space.to_string(malformed)


def test_inputs_have_no_place_where_there_are_no_skips():
    with pytest.raises(InvalidArgumentError, match="no place for inputs"):
        Chain(1, skips=False).from_string("conv 3x3x24 <- image")


# -- keys ------------------------------------------------------------------------------------------


def _renumbered(layers, order):
    """The same layers in another order, as a set of facts; None where that cannot be."""
    place = {layer: i for i, layer in enumerate(order)}
    if any(place[j] >= place[i] for i in order for j in layers[i].inputs):
        return None
    return tuple(
        layers[i]._replace(inputs=tuple(sorted(place[j] for j in layers[i].inputs))) for i in order
    )


def test_keys_are_equal_exactly_where_a_renumbering_makes_the_layers_equal():
    space = Chain(4, heights=(1, 3), widths=(1,), filters=(2,))
    rows = every_string(space)
    assert len(rows) == 2**4 * 2**6
    classes = {}
    for row in rows:
        layers = space.layers(row)
        orders = (_renumbered(layers, order) for order in permutations(range(4)))
        smallest = min(o for o in orders if o is not None)
        classes.setdefault(smallest, set()).add(space.canonical(row))
    assert all(len(keys) == 1 for keys in classes.values())
    assert len(set.union(*classes.values())) == len(classes) < len(rows)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 9))
def test_the_structural_order_does_not_depend_on_numbers(seed, count):
    rng = np.random.default_rng(seed)
    labels = rng.choice(["a", "b"], count).tolist()
    inputs = [
        [(j, rng.choice(["x", "y"]).item()) for j in range(i) if rng.random() < 0.4]
        for i in range(count)
    ]
    moved = rng.permutation(count).tolist()  # node i is now called moved[i]
    other_labels, other_inputs = [""] * count, [[]] * count
    for i in range(count):
        other_labels[moved[i]] = labels[i]
        other_inputs[moved[i]] = [(moved[j], label) for j, label in inputs[i]]

    def rewritten(labels, inputs):
        order = structural_order(labels, inputs)
        place = {node: i for i, node in enumerate(order)}
        assert all(place[j] < place[i] for i in range(count) for j, _ in inputs[i])
        return [(labels[i], sorted((place[j], label) for j, label in inputs[i])) for i in order]

    assert rewritten(labels, inputs) == rewritten(other_labels, other_inputs)


@pytest.mark.parametrize("seed", range(6))
def test_chains_with_one_key_compute_the_same(seed):
    """With weights that are moved where the channels went, to the last bits."""
    space = Chain(5, heights=(1, 3), widths=(3,), filters=(2, 3), **ALL)
    rng = np.random.default_rng(seed)
    tokens = space.sample(rng, 1)[0]
    layers = space.layers(tokens)
    order = structural_order(  # any order of the layers that is allowed, here drawn by labels
        rng.permutation(5).astype(str).tolist(), [[(j, "") for j in la.inputs] for la in layers]
    )
    other = space.from_string(space._notation.write(_renumbered(layers, order)))
    assert space.canonical(other) == space.canonical(tokens)
    first = space.build(tokens, (2, 7, 6), 3).eval()
    second = space.build(other, (2, 7, 6), 3).eval()
    with torch.no_grad():
        for buffer in first.state_dict().values():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5)
        _move_weights(first, second, layers, order)
        images = torch.rand(2, 2, 7, 6)
        torch.testing.assert_close(first(images), second(images), rtol=1e-4, atol=1e-5)


def _move_weights(first, second, layers, order):
    """Copy the weights of ``first``, whose layer ``order[i]`` is the i-th of ``second``."""
    place = {layer: i for i, layer in enumerate(order)}

    def channels(i, inputs_of):
        """What the output channels of a layer of ``first`` are, in the order of its inputs."""
        if layers[i].type == "conv":
            return [(i, k) for k in range(layers[i].filters)]
        return [(i, *c) for c in read(i, inputs_of)]

    def read(i, inputs_of):
        sources = inputs_of(layers[i].inputs)
        if not sources:
            return [("image", c) for c in range(2)]
        return [c for j in sources for c in channels(j, inputs_of)]

    def by_place(inputs):
        return sorted(inputs, key=place.get)

    for i, layer in enumerate(layers):
        old, new = first.layers[i], second.layers[place[i]]
        moved = [read(i, sorted).index(c) for c in read(i, by_place)]
        new.load_state_dict(
            {
                name: value[:, moved]
                if value.ndim == 4
                else value[moved]
                if value.ndim and layer.type == "batch_norm"
                else value
                for name, value in old.state_dict().items()
            }
        )
    ends = [[c for i in f(unread(layers)) for c in channels(i, f)] for f in (sorted, by_place)]
    second.head.weight.copy_(first.head.weight[:, [ends[0].index(c) for c in ends[1]]])
    second.head.bias.copy_(first.head.bias)


# -- neighbours ------------------------------------------------------------------------------------


def test_a_type_or_the_last_layer_may_change():
    space = Chain(3, shortest=1, heights=(1, 3), widths=(3, 5), filters=(4, 8), types=ALL["types"])
    tokens = space.from_string("pool 3x5 <- image; batch_norm <- image")
    near = [space.to_string(row) for row in space.neighbours(tokens)]
    assert near == [
        "pool 1x5 <- image; batch_norm <- image",  # one token
        "pool 3x3 <- image; batch_norm <- image",
        "pool 3x5 <- image; batch_norm <- 0",
        "conv 3x5x4 <- image; batch_norm <- image",  # the first type
        "conv 3x5x8 <- image; batch_norm <- image",
        "batch_norm <- image; batch_norm <- image",
        "pool 3x5 <- image; conv 1x3x4 <- image",  # the second
        "pool 3x5 <- image; conv 3x5x8 <- image",
        "pool 3x5 <- image; pool 1x3 <- image",
        "pool 3x5 <- image; pool 3x5 <- image",
        *(
            f"pool 3x5 <- image; batch_norm <- image; {layer} <- 1"
            for layer in ("conv 1x3x4", "conv 3x5x8", "pool 1x3", "pool 3x5", "batch_norm")
        ),
        "pool 3x5 <- image",
    ]


@pytest.mark.parametrize("skips", [False, True])
def test_climbing_neighbours_changes_types_and_depths(skips):
    """From the smallest chain to the largest; only wide filters of convolutions are worth much."""
    space = Chain(4, shortest=1, skips=skips, types=("conv", "pool"), filters=(4, 8, 16))

    def worth(row):
        return sum(layer.width + layer.filters for layer in space.layers(row))

    row = space.from_string("pool 1x1" + " <- image" * skips)
    while worth(best := max(space.neighbours(row), key=worth)) > worth(row):
        row = best
    assert worth(row) == 4 * (7 + 16)


def test_chains_of_one_type_and_depth_have_one_token_neighbours():
    space = Chain(3, filters=(4, 8))
    tokens = space.sample(np.random.default_rng(0), 1)[0]
    near = space.neighbours(tokens)
    assert ((near != tokens).sum(axis=1) == 1).all()
    assert len(near) == 3 * (3 + 3 + 1) + 3


# -- networks --------------------------------------------------------------------------------------


def test_a_network_computes_what_the_notation_says():
    """Against the same network written out by hand."""
    network = Chain(4, **ALL).build(Chain(4, **ALL).from_string(EXAMPLE), (2, 9, 8), 5).eval()
    images = torch.randn(3, 2, 9, 8)
    one, _, three, four = network.layers
    with torch.no_grad():
        for part in (one[1], three, four[1]):
            for value in (part.weight, part.bias, part.running_mean, part.running_var):
                value.uniform_(0.5, 1.5)

        def normalise(x, part):
            mean, var, weight, bias = (
                v.view(1, -1, 1, 1)
                for v in (part.running_mean, part.running_var, part.weight, part.bias)
            )
            return (x - mean) / (var + part.eps).sqrt() * weight + bias

        a = F.conv2d(F.pad(images, (2, 2, 1, 1)), one[0].weight, stride=(1, 2))
        a = normalise(a, one[1]).relu()  # [3, 36, 9, 4]
        b = F.max_pool2d(F.pad(images, (1, 1, 1, 1), value=-9e9), 3, 2)  # [3, 2, 5, 4]
        assert (a.shape, b.shape) == ((3, 36, 9, 4), (3, 2, 5, 4))
        both = torch.zeros(3, 38, 9, 4)
        both[:, :36], both[:, 36:, :5] = a, b
        c = normalise(both, three)
        d = F.conv2d(F.pad(b, (0, 0, 3, 3)), four[0].weight, stride=(3, 1))
        d = normalise(d, four[1]).relu()  # [3, 24, 2, 4]
        assert d.shape == (3, 24, 2, 4)
        features = torch.cat([c.sum((2, 3)), d.sum((2, 3))], dim=1) / (9 * 4)
        expected = features @ network.head.weight.T + network.head.bias
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        # Filters without biases, two numbers a channel of the normalisation, the classifier.
        ("conv 3x5x36 <- image", 3 * 36 * 15 + 2 * 36 + 37 * 10),
        ("conv 3x5x36 <- image; conv 1x1x24 <- 0", 1620 + 72 + 36 * 24 + 48 + 25 * 10),
        # The second layer reads the image, so that the classifier reads both.
        ("conv 3x5x36 <- image; conv 1x1x24 <- image", 1620 + 72 + 3 * 24 + 48 + 61 * 10),
        ("pool 3x3 <- image; batch_norm <- image", 2 * 3 + 7 * 10),
        (
            "pool 3x3 <- image; conv 1x1x24 <- image; conv 3x3x24 <- 0,1",
            3 * 24 + 48 + 27 * 24 * 9 + 48 + 25 * 10,
        ),
    ],
)
def test_parameters_are_those_counted_by_hand(text, parameters):
    space = Chain(3, shortest=1, types=ALL["types"])
    network = space.build(space.from_string(text), (3, 8, 8), 10)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(
    "space",
    [Chain(4), Chain(5, shortest=1, filters=(4,), **ALL), Chain(3, skips=False, strides=(3,))],
    ids=["skips", "all", "plain"],
)
def test_random_networks_learn_from_small_images(space):
    torch.manual_seed(0)
    images, labels = torch.randn(4, 1, 8, 7), torch.tensor([0, 1, 2, 1])
    for row in space.sample(np.random.default_rng(0), 8):
        network = space.build(row, (1, 8, 7), 3)
        outputs = network(images)
        assert outputs.shape == (4, 3)
        F.cross_entropy(outputs, labels).backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, (space.to_string(row), name)
            assert parameter.grad.isfinite().all()
        assert network.head.weight.grad.abs().sum() > 0


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.tuples(*[st.integers(1, 5)] * 3), min_size=1, max_size=4))
def test_concatenated_maps_keep_their_corner_and_are_zero_beyond(sizes):
    maps = [torch.rand(2, *size) + 1 for size in sizes]
    joined = concatenate(maps)
    assert joined.shape == (
        2,
        sum(s[0] for s in sizes),
        *(max(s[i] for s in sizes) for i in (1, 2)),
    )
    assert joined.sum() == pytest.approx(float(sum(m.sum() for m in maps)), rel=1e-5)
    first = 0
    for each in maps:
        _, channels, height, width = each.shape
        assert torch.equal(joined[:, first : first + channels, :height, :width], each)
        first += channels


def test_networks_that_cannot_be_built():
    space = Chain(2)
    tokens = space.sample(np.random.default_rng(0), 1)[0]
    with pytest.raises(InvalidArgumentError, match=r"input_shape=\(8, 8\)"):
        space.build(tokens, (8, 8), 3)
    with pytest.raises(InvalidArgumentError, match="outputs=0"):
        space.build(tokens, (1, 8, 8), 0)
    tokens[-1] = PAD
    with pytest.raises(InvalidArgumentError, match="no complete architecture"):
        space.build(tokens, (1, 8, 8), 3)


# -- drawing ---------------------------------------------------------------------------------------


def test_the_graph_has_the_inputs_of_the_notation():
    space = Chain(4, **ALL)
    nodes, edges = space.graph(space.from_string(EXAMPLE))
    assert [node.label for node in nodes] == [
        "image", "conv 3×5×36\nstride 1×2", "pool 3×3\nstride 2×2", "batch_norm",
        "conv 7×1×24\nstride 3×1", "classifier",
    ]  # fmt: skip
    assert set(edges) == {
        (0, 1, ""), (0, 2, ""), (1, 3, ""), (2, 3, ""), (2, 4, ""), (3, 5, ""), (4, 5, ""),
    }  # fmt: skip
    tokens = space.from_string(EXAMPLE)
    tokens[17:] = PAD  # in the third layer, before it has chosen its inputs
    nodes, edges = space.graph(tokens)
    assert len(nodes) == 4
    assert set(edges) == {(0, 1, ""), (0, 2, "")}
