"""Recurrent cells: strings, masks, isomorphism, and what the modules compute.

The reference cells here are written from the papers' formulas, one scalar operation at a time, and
share no code with the package.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.architectures import PAD
from metagym.architectures.enas_rnn import ENAS_CELL, ENASRecurrent
from metagym.architectures.recurrent_modules import BASELINES, TorchCell, baseline
from metagym.architectures.recurrent_tree import FIGURE_5, LSTM, NAS_CELL, RecurrentTree
from metagym.errors import InvalidArgumentError

SPACES = {
    "tree 2": RecurrentTree(2),
    "tree 4": RecurrentTree(4),
    "tree 8": RecurrentTree(),
    "enas 2": ENASRecurrent(2),
    "enas 12": ENASRecurrent(),
}
FUNCTIONS = {
    "identity": lambda x: x,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
}
MERGE = {"add": np.add, "mult": np.multiply}
spaces = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def same_weights_every_time():
    torch.manual_seed(0)


def architecture(space, seed):
    return space.sample(np.random.default_rng(seed), 1)[0]


def words_of(text):
    """The nodes and the last two groups of a tree's string, read without the package."""
    *levels, inject, cell = text.split(" / ")
    nodes = [tuple(node.split()) for level in levels for node in level.split(", ")]
    return nodes, tuple(inject.split()[1:]), tuple(map(int, cell.split()[1:]))


def tree_step(text, read, h_read, c):
    """One step of a tree; what its leaves read of x(t) and h(t-1), [leaves, ...] each."""
    nodes, inject, (memory, injected) = words_of(text)
    leaves = (len(nodes) + 1) // 2
    outputs, new_c = [], None
    for i, (merge, function) in enumerate(nodes):
        pair = (read[i], h_read[i]) if i < leaves else outputs[2 * (i - leaves) :][:2]
        combined = MERGE[merge](*pair)
        if i == memory:
            new_c = combined
        output = FUNCTIONS[function](combined)
        if i == injected:
            output = FUNCTIONS[inject[1]](MERGE[inject[0]](output, c))
        outputs.append(output)
    return outputs[-1], new_c


def run_tree(text, cell, x):
    """The outputs of a TreeCell's weights under ``tree_step``."""
    w, u = (p.detach().numpy() for p in (cell.input_weight, cell.hidden_weight))
    b = 0 if cell.bias is None else cell.bias.detach().numpy()[:, None]
    h = c = np.zeros((x.shape[1], cell.width))
    out = []
    for now in x:
        h, c = tree_step(
            text, np.einsum("lwi,bi->lbw", w, now), np.einsum("lwv,bv->lbw", u, h) + b, c
        )
        out.append(h)
    return np.array(out), c


def run_enas(text, cell, x):
    """The outputs of an ENASCell's weights, from the formula of the highway."""
    numbers = list(map(int, text.split()))
    names = ["tanh", "relu", "identity", "sigmoid"]
    functions = [names[n] for n in numbers[::2]]
    weights = [w.detach().numpy() for w in cell.weights]
    biases = [b.detach().numpy() for b in cell.biases] or [0] * len(weights)
    h, out = np.zeros((x.shape[1], cell.width)), []
    for now in x:
        states = []
        for i, function in enumerate(functions):
            source = h if i == 0 else states[numbers[2 * i - 1]]
            both = source @ weights[i].T + biases[i]
            if i == 0:
                both = both + now @ cell.input_weight.detach().numpy().T
            gate = FUNCTIONS["sigmoid"](both[:, cell.width :])
            value = FUNCTIONS[function](both[:, : cell.width])
            states.append(gate * value + (1 - gate) * source)
        loose = [s for i, s in enumerate(states) if i not in numbers[1::2]]
        h = sum(loose) / len(loose)
        out.append(h)
    return np.array(out)


# -- strings and masks ---------------------------------------------------------------------------


@spaces
@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_strings_go_there_and_back(space, seed):
    tokens = architecture(space, seed)
    assert tokens.shape == (space.length,) and space.valid(tokens[None]).all()
    text = space.to_string(tokens)
    np.testing.assert_array_equal(space.from_string(text), tokens)
    np.testing.assert_array_equal(space.encode(space.decode(tokens)), tokens)
    for count in range(space.length):
        part = np.where(np.arange(space.length) < count, tokens, PAD)
        assert text.startswith(space.to_string(part))


@pytest.mark.parametrize(
    ("name", "text", "length"),
    [
        ("tree 2", FIGURE_5, 10),
        ("tree 8", LSTM, 34),
        ("tree 8", NAS_CELL, 34),
        ("enas 12", ENAS_CELL, 23),
    ],
)
def test_published_cells_are_in_the_spaces(name, text, length):
    space = SPACES[name]
    tokens = space.from_string(text)
    assert len(tokens) == space.length == length
    assert space.to_string(tokens) == text


def test_the_tokens_of_figure_5_are_in_its_order():
    space = SPACES["tree 2"]
    words = [space.vocabulary[token] for token in space.from_string(FIGURE_5)]
    assert words == ["add", "tanh", "mult", "relu", "mult", "sigmoid", "add", "relu", "1", "0"]


def test_the_spaces_are_as_large_as_published():
    sizes = {
        name: math.prod(space._allowed[:-1].sum(axis=1).tolist()) for name, space in SPACES.items()
    }
    assert sizes["tree 8"] == 8**16 * 15**2  # "approximately 6 · 10^16"
    assert sizes["enas 12"] == 4**12 * math.factorial(11)  # "4^N × (N-1)!", about 10^15
    assert sizes["tree 2"] == 36864


@spaces
def test_masks_depend_on_the_place_alone_and_end(space):
    rng = np.random.default_rng(0)
    tokens = space.sample(rng, 64)
    cut = rng.integers(0, space.length + 1, size=64)
    tokens[np.arange(space.length) >= cut[:, None]] = PAD
    mask = space.mask(tokens)
    for row, length in zip(mask, cut, strict=True):
        np.testing.assert_array_equal(row, space._allowed[length])
    assert not mask[cut == space.length].any() and mask[cut < space.length].any(axis=1).all()
    mask[:] = True  # the caller's own
    assert not space.mask(space.sample(rng, 1)).any()


def test_an_enas_node_reads_only_nodes_before_it():
    space = SPACES["enas 12"]
    indices = space.sample(np.random.default_rng(0), 2000)[:, 1::2] - 4
    for node, column in enumerate(indices.T, 1):
        assert set(column) == set(range(node))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tree 2", FIGURE_5[:-1] + "3", "'3' stands where word 16"),
        ("tree 2", FIGURE_5.replace("mult relu", "mul relu"), "'mul' .* Did you mean 'mult'"),
        ("tree 2", FIGURE_5.replace(",", " /"), "'/' stands where word 3 has to be one of ','"),
        ("tree 2", "add tanh, mult", "it ends where word 5"),
        ("tree 2", FIGURE_5 + " 1", "goes on with '1'"),
        ("enas 2", "0 1 0", "'1' stands where word 2 has to be one of '0'"),
        ("enas 2", "4 0 0", "'4' stands where word 1"),
        ("enas 2", "", "it ends where word 1"),
    ],
)
def test_malformed_strings_are_refused_with_the_place(name, text, message):
    with pytest.raises(InvalidArgumentError, match=message):
        SPACES[name].from_string(text)


@spaces
def test_tokens_that_cannot_be_are_refused(space):
    tokens = architecture(space, 0)
    methods = (
        space.to_string,
        space.graph,
        space.canonical,
        lambda wrong: space.build(wrong, 2, 3),
    )
    # Outside the vocabulary on both sides, a hole, and a token of another place.
    for place, token in ((0, len(space.vocabulary)), (0, -2), (1, PAD), (2, 4)):
        wrong = tokens.copy()
        wrong[place] = token
        for method in methods:
            with pytest.raises(InvalidArgumentError):
                method(wrong)
    with pytest.raises(InvalidArgumentError, match="whole numbers"):
        space.to_string(tokens[:-1])
    with pytest.raises(InvalidArgumentError, match="complete"):
        space.build(np.where(np.arange(space.length) < 2, tokens, PAD), 2, 3)


@pytest.mark.parametrize(
    ("kind", "size"),
    [(RecurrentTree, 3), (RecurrentTree, 1), (ENASRecurrent, 1), (ENASRecurrent, 0)],
)
def test_sizes_that_cannot_be_are_refused(kind, size):
    with pytest.raises(InvalidArgumentError, match=f"={size} "):
        kind(size)


# -- isomorphism ---------------------------------------------------------------------------------


@spaces
@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_the_representative_represents_itself(space, seed):
    chosen = space.representative(architecture(space, seed))
    assert space.valid(chosen[None]).all()
    np.testing.assert_array_equal(space.representative(chosen), chosen)


def swapped(text, node):
    """The string with the two subtrees of ``node`` exchanged."""
    nodes, inject, cell = words_of(text)
    leaves = (len(nodes) + 1) // 2
    order = list(range(len(nodes)))
    level = [2 * (node - leaves), 2 * (node - leaves) + 1]
    while level[0] >= 0:
        half = len(level) // 2
        for a, b in zip(level[:half], level[half:], strict=True):
            order[a], order[b] = order[b], order[a]
        level = [2 * (i - leaves) + side for i in level for side in (0, 1)]
    levels, start = [], 0
    while leaves:
        levels.append(", ".join(" ".join(nodes[order[i]]) for i in range(start, start + leaves)))
        start, leaves = start + leaves, leaves // 2
    places = " ".join(str(order.index(i)) for i in cell)
    return " / ".join([*levels, "inject " + " ".join(inject), "cell " + places])


@settings(max_examples=50, deadline=None)
@given(seed=seeds, node=st.integers(8, 14))
def test_swapped_subtrees_have_one_key(seed, node):
    space = SPACES["tree 8"]
    tokens = architecture(space, seed)
    text = space.to_string(tokens)
    other = swapped(text, node)
    assert swapped(other, node) == text
    assert space.canonical(space.from_string(other)) == space.canonical(tokens)


def test_trees_of_base_2_compute_what_their_representatives_compute():
    """Up to an exchange of the two leaves' weights, which is tried both ways."""
    space = SPACES["tree 2"]
    rng = np.random.default_rng(0)
    wx, wh, x = rng.normal(size=(2, 1)), rng.normal(size=(2, 1)), rng.normal(size=(4, 8))

    def outputs(text, order):
        h = c = np.zeros(8)
        for now in x:
            h, c = tree_step(text, wx[order] * now, wh[order] * h + 0.3, c)
        return np.round(h, 9)

    others = 0
    for tokens in space.sample(rng, 800):
        text, chosen = space.to_string(tokens), space.canonical(tokens)
        others += text != chosen
        expected = outputs(text, [0, 1])
        assert any(np.array_equal(outputs(chosen, order), expected) for order in ([0, 1], [1, 0]))
    assert others > 200


def test_relu_of_what_is_never_negative_is_identity():
    space = SPACES["tree 2"]

    def key(text):
        return space.canonical(space.from_string(text))

    rest = " / inject add {} / cell 0 {}"
    positive = "add sigmoid, mult relu / mult "
    assert key(positive + "relu" + rest.format("tanh", 2)) == key(
        positive + "identity" + rest.format("tanh", 2)
    )
    # The injection makes a leaf negative, or keeps it positive.
    assert key(positive + "relu" + rest.format("tanh", 0)) != key(
        positive + "identity" + rest.format("tanh", 0)
    )
    assert key(positive + "relu" + rest.format("relu", 0)) == key(
        positive + "identity" + rest.format("relu", 0)
    )
    negative = "add sigmoid, mult tanh / mult "
    assert key(negative + "relu" + rest.format("tanh", 2)) != key(
        negative + "identity" + rest.format("tanh", 2)
    )


def test_classes_of_small_enas_cells_are_labelled_rooted_trees():
    """Their number follows by counting multisets of subtrees."""

    def multisets(kinds, size):
        return math.comb(kinds + size - 1, size)

    one = 4
    two = 4 * one
    three = 4 * (two + multisets(one, 2))
    four = 4 * (three + two * one + multisets(one, 3))
    for nodes, count in ((2, two), (3, three), (4, four)):
        space = ENASRecurrent(nodes)
        rows = itertools.product(*(np.flatnonzero(row) for row in space._allowed[:-1]))
        assert len({space.canonical(np.array(row)) for row in rows}) == count


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_equal_keys_of_enas_cells_are_equal_functions(seed):
    """The weights go with their nodes; which these are is found by trying all of them."""
    space = ENASRecurrent(4)
    tokens = architecture(space, seed)
    chosen = space.representative(tokens)
    one, two = (space.build(t, 2, 3).double() for t in (tokens, chosen))
    x = torch.randn(5, 2, 2, dtype=torch.float64)
    expected = one(x)[0]
    two.input_weight.data.copy_(one.input_weight)
    for order in itertools.permutations(range(1, 4)):
        for new, old in enumerate((0, *order)):
            two.weights[new].data.copy_(one.weights[old])
            two.biases[new].data.copy_(one.biases[old])
        if torch.allclose(two(x)[0], expected, atol=1e-10):
            return
    raise AssertionError(f"{space.to_string(tokens)} is not {space.to_string(chosen)}.")


# -- modules -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["tree 2", "tree 4", "tree 8"])
def test_trees_compute_what_the_paper_says(name, bias):
    space = SPACES[name]
    x = torch.randn(4, 3, 2, dtype=torch.float64)
    published = {"tree 2": [FIGURE_5], "tree 4": [], "tree 8": [LSTM, NAS_CELL]}[name]
    drawn = [space.to_string(row) for row in space.sample(np.random.default_rng(1), 40)]
    for text in published + drawn:
        cell = space.build(space.from_string(text), 2, 5, bias).double()
        out, (h, c) = cell(x)
        expected, expected_c = run_tree(text, cell, x.numpy())
        np.testing.assert_allclose(out.detach(), expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(c.detach(), expected_c, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(h, out[-1])


def test_figure_5_by_hand():
    """The five steps of section 3.4, as the paper writes them."""
    cell = SPACES["tree 2"].build(SPACES["tree 2"].from_string(FIGURE_5), 3, 2, bias=False)
    (w1, w3), (w2, w4) = cell.input_weight, cell.hidden_weight
    h, c = torch.randn(2, 1, 2)
    x = torch.randn(1, 3)
    a0 = torch.tanh(x @ w1.T + h @ w2.T)
    a1 = torch.relu((x @ w3.T) * (h @ w4.T))
    a0_new = torch.relu(a0 + c)
    a2 = torch.sigmoid(a0_new * a1)
    out, (new_h, new_c) = cell(x[None], (h, c))
    torch.testing.assert_close(out[0], a2)
    torch.testing.assert_close(new_h, a2)
    torch.testing.assert_close(new_c, (x @ w3.T) * (h @ w4.T))


def test_the_lstm_is_a_tree():
    """With the weights of torch's LSTM in five leaves and none in the three others."""
    reference = torch.nn.LSTMCell(3, 4)
    space = SPACES["tree 8"]
    cell = space.build(space.from_string(LSTM), 3, 4)
    for parameter in cell.parameters():
        torch.nn.init.zeros_(parameter)
    gates = {"input": 0, "forget": 1, "candidate": 2, "output": 3}  # torch's order
    for leaf, gate in ((0, "forget"), (2, "input"), (3, "candidate"), (4, "output")):
        rows = slice(4 * gates[gate], 4 * gates[gate] + 4)
        cell.input_weight.data[leaf] = reference.weight_ih.data[rows]
        cell.hidden_weight.data[leaf] = reference.weight_hh.data[rows]
        cell.bias.data[leaf] = (reference.bias_ih + reference.bias_hh).data[rows]
    x = 2 * torch.randn(20, 5, 3)
    h, c = torch.randn(2, 5, 4)
    out, (last_h, last_c) = cell(x, (h, c))
    for t in range(20):
        h, c = reference(x[t], (h, c))
        torch.testing.assert_close(out[t], h, atol=1e-5, rtol=0)
    torch.testing.assert_close(last_h, h, atol=1e-5, rtol=0)
    torch.testing.assert_close(last_c, c, atol=1e-5, rtol=0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("nodes", [2, 5, 12])
def test_enas_cells_compute_what_the_paper_says(nodes, bias):
    space = ENASRecurrent(nodes)
    x = torch.randn(4, 3, 2, dtype=torch.float64)
    texts = [space.to_string(row) for row in space.sample(np.random.default_rng(1), 20)]
    for text in texts + [ENAS_CELL] * (nodes == 12):
        cell = space.build(space.from_string(text), 2, 5, bias).double()
        out, (h,) = cell(x)
        np.testing.assert_allclose(out.detach(), run_enas(text, cell, x.numpy()), atol=1e-12)
        torch.testing.assert_close(h, out[-1])


def make_cell(name):
    if name in SPACES:
        return SPACES[name].build(architecture(SPACES[name], 3), 3, 4)
    return baseline(name)(3, 4)


@pytest.mark.parametrize("name", [*SPACES, *BASELINES])
def test_a_sequence_may_be_read_in_parts(name):
    cell = make_cell(name)
    x = torch.randn(7, 2, 3)
    whole, state = cell(x)
    assert whole.shape == (7, 2, 4) and len(state) == cell.states
    assert all(part.shape == (2, 4) for part in state)
    first, middle = cell(x[:3])
    second, last = cell(x[3:], middle)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    for a, b in zip(last, state, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", [*SPACES, *BASELINES])
def test_every_weight_matters(name):
    cell = make_cell(name)
    for parameter in cell.parameters():  # far from where a relu is always off
        torch.nn.init.uniform_(parameter, -0.5, 0.5)
    cell(torch.randn(9, 64, 3))[0].sin().sum().backward()
    for weight_name, parameter in cell.named_parameters():
        assert parameter.grad.isfinite().all(), weight_name
        # Of a tree, each leaf.
        parts = parameter.grad if parameter.dim() == 3 else parameter.grad[None]
        assert all(part.any() for part in parts), weight_name


def test_parameter_counts_by_hand():
    def count(cell):
        return sum(parameter.numel() for parameter in cell.parameters())

    inputs, width = 3, 5
    tree, enas = SPACES["tree 8"], SPACES["enas 12"]
    one = architecture(tree, 0)
    assert count(tree.build(one, inputs, width)) == 8 * width * (inputs + width + 1)
    assert count(tree.build(one, inputs, width, bias=False)) == 8 * width * (inputs + width)
    one = architecture(enas, 0)
    assert count(enas.build(one, inputs, width)) == 2 * width * (inputs + 12 * (width + 1))
    assert count(TorchCell("lstm", inputs, width)) == 4 * width * (inputs + width + 2)


def test_unknown_baselines_are_refused():
    with pytest.raises(InvalidArgumentError, match="Did you mean 'lstm'"):
        baseline("lst")


# -- drawings ------------------------------------------------------------------------------------


@spaces
def test_drawings_grow_with_the_string_and_have_no_cycle(space):
    for seed in range(5):
        tokens = architecture(space, seed)
        size = 0
        for count in range(space.length + 1):
            graph = space.graph(np.where(np.arange(space.length) < count, tokens, PAD))
            assert all(0 <= a < b < len(graph.nodes) for a, b, _ in graph.edges)
            assert len(graph.nodes) >= size
            size = len(graph.nodes)
        reached = {i for i, node in enumerate(graph.nodes) if node.kind == "input"}
        for a, b, _ in sorted(graph.edges, key=lambda edge: edge[1]):
            assert a in reached
            reached.add(b)
        assert len(reached) == size
        assert sum(node.kind == "output" for node in graph.nodes) == 1 + isinstance(
            space, RecurrentTree
        )


def test_the_drawing_of_figure_5():
    graph = SPACES["tree 2"].graph(SPACES["tree 2"].from_string(FIGURE_5))
    labels = [node.label.replace("\n", " ") for node in graph.nodes]
    x, c, a0, new, a1, a2, h, memory = range(8)
    assert labels == [
        "x(t), h(t-1)", "c(t-1)", "add tanh", "inject add relu", "mult relu", "mult sigmoid",
        "h(t)", "c(t)",
    ]  # fmt: skip
    assert set(graph.edges) == {
        (x, a0, ""), (a0, new, ""), (c, new, ""), (x, a1, ""), (new, a2, ""), (a1, a2, ""),
        (a2, h, ""), (a1, memory, "before relu"),
    }  # fmt: skip
