"""Drawings of architectures: nothing lies on anything else, and everything is there."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.architectures.chain import Chain
from metagym.architectures.graph import Graph, Node
from metagym.architectures.nasnet import NASNet
from metagym.rendering.canvas import HEIGHT, PAPER, WIDTH
from metagym.rendering.graphs import _COLOURS, describe_graph, draw_graph
from metagym.rendering.layout import lay_out

ROOM = (16.0, 60.0, 816.0, 496.0)
CELL = Graph(
    (Node("input", "input"), Node("1", "sum"), Node("2", "sum"), Node("output", "output")),
    tuple((a, b, f"nor_conv_{b}x{a}") for a, b in combinations(range(4), 2)),
)
TREE = Graph(
    tuple(Node(f"add\nnode {i}") for i in range(15)),
    tuple((child, 8 + parent, "") for parent in range(7) for child in (2 * parent, 2 * parent + 1)),
)


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 12))
    kinds = draw(st.lists(st.sampled_from(list(_COLOURS)), min_size=count, max_size=count))
    words = st.sampled_from(["+", "conv 3×3", "a longer label\nof two lines"])
    pairs = list(combinations(range(count), 2))
    edges = draw(st.lists(st.sampled_from(pairs), max_size=20)) if pairs else []
    notes = draw(st.lists(st.sampled_from(["", "", "skip_connect"]), min_size=20, max_size=20))
    return Graph(
        tuple(Node(draw(words), kind) for kind in kinds),
        tuple((*edge, note) for edge, note in zip(edges, notes, strict=False)),
    )


def _laid_out(graph):
    """The layout, and the boxes of the labels."""
    sizes = [(20.0 + 50 * (i % 3), 20.0 + 30 * (i % 2)) for i in range(len(graph.nodes))]
    notes = [(80.0, 18.0) if label else (0.0, 0.0) for _, _, label in graph.edges]
    layout = lay_out(graph, sizes, notes, ROOM)
    middles = [place for place in layout.labels if place is not None]
    half = (layout.scale * 40, layout.scale * 9)
    return layout, [(x - half[0], y - half[1], x + half[0], y + half[1]) for x, y in middles]


def _curves(layout):
    """Points [n, 2] on each line, as the canvas draws it."""
    share = np.linspace(0, 1, 13)
    turn = share**2 * (3 - 2 * share)
    steps = np.stack([turn, share] if layout.down else [share, turn], axis=1)
    return [
        np.concatenate([a + (np.array(b) - a) * steps for a, b in pairwise(line)])
        for line in layout.lines
    ]


def _apart(one, other, margin=1e-6):
    return (
        one[2] <= other[0] + margin or other[2] <= one[0] + margin
        or one[3] <= other[1] + margin or other[3] <= one[1] + margin
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(graph=graphs())
def test_nothing_lies_on_anything_else(graph):
    layout, notes = _laid_out(graph)
    along = 1 if layout.down else 0
    for box in [*layout.boxes, *notes]:
        assert ROOM[0] - 1e-6 <= box[0] < box[2] <= ROOM[2] + 1e-6
        assert ROOM[1] - 1e-6 <= box[1] < box[3] <= ROOM[3] + 1e-6
    assert len(notes) == sum(bool(label) for _, _, label in graph.edges)
    assert all(_apart(a, b) for a, b in combinations([*layout.boxes, *notes], 2))
    for (a, b, label), curve, note in zip(graph.edges, _curves(layout), layout.labels, strict=True):
        assert (np.diff(curve[:, along]) >= -1e-6).all()  # never backwards
        assert curve[0, along] == pytest.approx(layout.boxes[a][along + 2])
        assert curve[-1, along] == pytest.approx(layout.boxes[b][along])
        for node, box in enumerate(layout.boxes):
            low, high = np.array(box[:2]) + 1e-6, np.array(box[2:]) - 1e-6
            inside = ((curve > low) & (curve < high)).all(axis=1)
            assert not inside.any(), (a, b, node)
        assert (note is not None) == bool(label)
        if note is not None:
            assert np.abs(curve - note).sum(axis=1).min() < 80 * layout.scale


def _crossings(layout):
    """How many pairs of lines cross, from the points on them."""

    def left(a, b, c):
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) > 0

    def inner(curve):  # lines may meet where they begin and end
        far = np.minimum(*(np.abs(curve - end).max(axis=1) for end in (curve[0], curve[-1])))
        return curve[far > 12]

    count = 0
    for one, other in combinations(map(inner, _curves(layout)), 2):
        count += any(
            left(a, b, c) != left(a, b, d) and left(c, d, a) != left(c, d, b)
            for a, b in pairwise(one)
            for c, d in pairwise(other)
        )
    return count


@pytest.mark.parametrize("graph", [CELL, TREE], ids=["cell", "tree"])
def test_what_can_be_drawn_without_crossings_is(graph):
    assert _crossings(_laid_out(graph)[0]) == 0


def test_crossings_that_must_be_are_found():
    """Three nodes that are each joined to three others are no planar graph."""
    nodes = tuple(Node(str(i)) for i in range(6))
    graph = Graph(nodes, tuple((a, b, "") for a in range(3) for b in range(3, 6)))
    assert _crossings(_laid_out(graph)[0]) > 0


def test_a_plain_chain_is_a_straight_line():
    space = Chain(6, skips=False)
    graph = space.graph(space.sample(np.random.default_rng(0), 1)[0])
    layout, _ = _laid_out(graph)
    across = 0 if layout.down else 1
    middles = [(box[across] + box[across + 2]) / 2 for box in layout.boxes]
    np.testing.assert_allclose(middles, middles[0])
    for line in layout.lines:
        np.testing.assert_allclose([point[across] for point in line], middles[0])


def test_components_are_drawn_beside_each_other():
    space = NASNet(3)
    graph = space.graph(space.sample(np.random.default_rng(0), 1)[0])
    layout, _ = _laid_out(graph)
    across = 0 if layout.down else 1
    half = len(graph.nodes) // 2
    first, second = (layout.boxes[:half], layout.boxes[half:])
    assert max(b[across + 2] for b in first) < min(b[across] for b in second)


# -- frames ----------------------------------------------------------------------------------------


def _has(frame, colour):
    """Whether some pixels of the frame have exactly this colour."""
    value = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (frame == value).all(axis=2).sum() > 20


@pytest.mark.parametrize(
    "space",
    [Chain(6, strides=(1, 2)), Chain(20, skips=False), Chain(12), NASNet()],
    ids=["chain", "long", "deep", "nasnet"],
)
def test_architectures_are_drawn_from_the_first_token_to_the_last(space):
    tokens = space.sample(np.random.default_rng(0), 1)[0]
    frames = []
    for k in np.linspace(0, space.length, 5).astype(int):
        graph = space.graph(np.where(np.arange(space.length) < k, tokens, -1))
        frame = draw_graph(graph, space.name, "one after the other")
        assert (frame.shape, frame.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
        for kind, (filling, _) in _COLOURS.items():
            assert _has(frame, filling) == any(node.kind == kind for node in graph.nodes)
        frames.append(frame)
    assert all((a != b).any() for a, b in pairwise(frames))
    again = draw_graph(space.graph(tokens), space.name, "one after the other")
    np.testing.assert_array_equal(again, frames[-1])


def test_labels_of_edges_are_written():
    plain = Graph(CELL.nodes, tuple((a, b, "") for a, b, _ in CELL.edges))
    other = Graph(CELL.nodes, tuple((a, b, "none") for a, b, _ in CELL.edges))
    frames = [draw_graph(graph) for graph in (CELL, plain, other)]
    assert all((a != b).any() for a, b in combinations(frames, 2))


def test_words_stay_in_the_frame_however_many_there_are():
    frame = draw_graph(CELL, "A title", "sep_conv_5x5(0) + avg_pool_3x3(1); " * 40)
    paper = [int(PAPER[i : i + 2], 16) for i in (1, 3, 5)]
    for edge in (frame[:8], frame[-8:], frame[:, :8], frame[:, -8:]):
        assert (edge == paper).all()
    assert (draw_graph(CELL, "A title") != draw_graph(CELL)).any()


def test_a_graph_without_nodes_is_an_empty_frame():
    assert (draw_graph(Graph((), ())) == draw_graph(Graph((), ()))[0, 0]).all()
    assert describe_graph(Graph((), ())) == ""


# -- text ------------------------------------------------------------------------------------------


def test_the_text_says_what_each_node_reads():
    assert describe_graph(CELL).split("\n") == [
        "0  input",
        "1  1       <- 0 (nor_conv_1x0)",
        "2  2       <- 0 (nor_conv_2x0), 1 (nor_conv_2x1)",
        "3  output  <- 0 (nor_conv_3x0), 1 (nor_conv_3x1), 2 (nor_conv_3x2)",
    ]
    space = Chain(2, strides=(1, 2))
    tokens = space.from_string("conv 3x5x36 s1x2 <- image; conv 1x1x24 s1x1 <- image")
    assert describe_graph(space.graph(tokens)).split("\n") == [
        "0  image",
        "1  conv 3×5×36 stride 1×2  <- 0",
        "2  conv 1×1×24 stride 1×1  <- 0",
        "3  classifier              <- 1, 2",
    ]
