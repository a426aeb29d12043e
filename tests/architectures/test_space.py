"""What every search space has to keep: properties of the base class on all spaces there are."""

from __future__ import annotations

import doctest
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.architectures import make_evaluator
from metagym.architectures import space as space_module
from metagym.architectures.cell201 import Cell201
from metagym.architectures.chain import Chain
from metagym.architectures.enas_rnn import ENASRecurrent
from metagym.architectures.nasnet import NASNET_OPERATIONS, NASNet
from metagym.architectures.recurrent_tree import RecurrentTree
from metagym.architectures.space import PAD, SearchSpace
from metagym.errors import InvalidArgumentError


class Widths(SearchSpace):
    """A space of one's own in a few lines: up to three layers, none wider than the one before."""

    vocabulary, length = ("8", "16", "32", "end"), 3

    def mask(self, tokens):
        count = (tokens != PAD).sum(axis=1)
        last = np.where(count > 0, tokens[np.arange(len(tokens)), count - 1], 2)
        allowed = np.arange(4) <= last[:, None]
        allowed[:, 3] = count > 0
        allowed[(last == 3) | (count == 3)] = False
        return allowed

    def to_string(self, tokens):
        return "-".join(self.vocabulary[token] for token in tokens if token != PAD)

    def from_string(self, text):
        row = self.empty(1)[0]
        words = text.split("-")
        row[: len(words)] = [self.vocabulary.index(word) for word in words]
        return self.check(row[None])[0]

    def build(self, tokens, inputs):
        from torch import nn

        widths = [inputs, *(int(self.vocabulary[token]) for token in tokens if 0 <= token < 3)]
        layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
        return nn.Sequential(*layers)


SPACES = [
    Widths(),
    Chain(),
    Chain(3, skips=False, heights=(3,), filters=(4, 8)),
    Chain(4, shortest=1, strides=(1, 2), types=("conv", "pool", "batch_norm")),
    Chain(5, shortest=2, widths=(1, 5)),
    NASNet(),
    NASNet(2, operations=NASNET_OPERATIONS, combine=("add", "concat")),
    Cell201(),
    RecurrentTree(),
    RecurrentTree(2),
    ENASRecurrent(),
    ENASRecurrent(3),
]
every_space = pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)


def seeds(test):
    """The test on some random generators, all strings that they lead to being examples."""
    return settings(max_examples=6, deadline=None)(given(seed=st.integers(0, 2**32 - 1))(test))


def walk(space, rng, count=1):
    """Random walks along the masks, in plain Python, with all the strings on the way."""
    tokens = space.empty(count)
    prefixes = [tokens.copy()]
    for t in range(space.length):
        for row, allowed in zip(tokens, space.mask(tokens), strict=True):
            if allowed.any():
                row[t] = rng.choice(np.flatnonzero(allowed))
        prefixes.append(tokens.copy())
    return tokens, prefixes


@every_space
@seeds
def test_every_walk_along_the_masks_ends_in_a_valid_string(space, seed):
    tokens, prefixes = walk(space, np.random.default_rng(seed), 4)
    assert space.valid(tokens).all()
    assert space.finished(tokens).all()
    assert not space.mask(tokens).any()
    np.testing.assert_array_equal(space.check(tokens), tokens)
    for t, prefix in enumerate(prefixes[:-1]):
        open_rows = (prefix[:, :t] != PAD).all(axis=1) & (tokens[:, t] != PAD)
        assert not space.valid(prefix)[open_rows].any()
        assert not space.finished(prefix)[open_rows].any()


@every_space
@seeds
def test_strings_come_back_and_so_do_their_keys(space, seed):
    tokens, prefixes = walk(space, np.random.default_rng(seed))
    text = space.to_string(tokens[0])
    again = space.from_string(text)
    np.testing.assert_array_equal(again, tokens[0])
    assert space.to_string(again) == text
    assert space.canonical(again) == space.canonical(tokens[0])
    assert all(isinstance(space.to_string(prefix[0]), str) for prefix in prefixes)


@every_space
@seeds
def test_the_masks_of_a_row_do_not_depend_on_the_other_rows(space, seed):
    rng = np.random.default_rng(seed)
    _, prefixes = walk(space, rng, 3)
    rows = np.concatenate(prefixes)
    rows = rows[rng.permutation(len(rows))]  # of all lengths
    together = space.mask(rows)
    assert together.shape == (len(rows), len(space.vocabulary))
    assert together.dtype == bool
    for row, allowed in zip(rows[:20], together[:20], strict=True):
        np.testing.assert_array_equal(space.mask(row[None])[0], allowed)


@every_space
def test_a_mask_may_be_changed_by_its_reader(space):
    before = space.mask(space.empty(2))
    space.mask(space.empty(2))[:] = True
    np.testing.assert_array_equal(space.mask(space.empty(2)), before)


@every_space
@seeds
def test_mutations_are_valid_and_different(space, seed):
    rng = np.random.default_rng(seed)
    tokens = space.sample(rng, 5)
    kept = tokens.copy()
    mutated = space.mutate(tokens, rng)
    np.testing.assert_array_equal(tokens, kept)
    assert space.valid(mutated).all()
    assert (mutated != tokens).any(axis=1).all()
    # Up to the change both are the same; the change itself is one that the masks allowed.
    for old, new in zip(tokens, mutated, strict=True):
        place = int(np.argmax(old != new))
        prefix = space.empty(1)
        prefix[0, :place] = old[:place]
        assert space.mask(prefix)[0, [old[place], new[place]]].all()


@every_space
def test_all_valid_strings_with_one_other_token_are_neighbours(space):
    tokens = space.sample(np.random.default_rng(0), 1)[0]
    found = space.neighbours(tokens)
    assert space.valid(found).all()
    names = {row.tobytes() for row in found}
    assert len(names) == len(found) and tokens.tobytes() not in names
    candidates = np.repeat(tokens[None], space.length * len(space.vocabulary), axis=0)
    places = np.repeat(np.arange(space.length), len(space.vocabulary))
    candidates[np.arange(len(places)), places] = np.tile(
        np.arange(len(space.vocabulary)), space.length
    )
    candidates = candidates[(candidates != tokens).any(axis=1)]
    expected = [row.tobytes() for row in candidates[space.valid(candidates)]]
    assert set(expected) <= names
    if not isinstance(space, (Widths, Chain)):  # the others have no other neighbours
        assert [row.tobytes() for row in found] == expected  # in this order


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


TINY = {"heights": (1, 3), "widths": (3,), "filters": (4, 8)}
SMALL = {
    "widths": Widths(),
    "chain": Chain(2, **TINY),
    "chain of types": Chain(2, types=("conv", "pool"), **TINY),
    "chain of all types": Chain(2, skips=False, types=("conv", "pool", "batch_norm"), **TINY),
    "chain of several depths": Chain(3, shortest=1, skips=False, **TINY),
    "chain of all": Chain(2, shortest=1, types=("conv", "batch_norm"), **TINY),
    "nasnet": NASNet(1, operations=("identity",), combine=("add", "concat")),
    "enas_recurrent": ENASRecurrent(3),
}


@pytest.mark.parametrize("name", SMALL)
def test_neighbours_lead_from_everywhere_to_everywhere(name):
    """From one string to all, and from all back to it, by breadth-first search."""
    space = SMALL[name]
    rows = every_string(space)
    numbers = {row.tobytes(): i for i, row in enumerate(rows)}
    edges = [
        (i, numbers[near.tobytes()]) for i, row in enumerate(rows) for near in space.neighbours(row)
    ]
    ways = np.zeros((len(rows), len(rows)), dtype=bool)
    ways[tuple(np.transpose(edges))] = True
    for graph in (ways, ways.T):
        reached = np.zeros(len(rows), dtype=bool)
        new = reached.copy()
        new[0] = True
        while new.any():
            reached |= new
            new = graph[new].any(axis=0) & ~reached
        assert reached.all()


@every_space
@seeds
def test_a_neighbour_has_one_more_token_of_any_other_string(space, seed):
    """So that there are ways to everywhere in spaces that are too large to walk them."""
    if isinstance(space, Chain):
        return  # its ways are others
    here, there = space.sample(np.random.default_rng(seed), 2)
    if (here == there).all():
        return
    common = int(np.argmax(here != there))
    near = space.neighbours(here)
    assert (near[:, : common + 1] == there[: common + 1]).all(axis=1).any()


@every_space
def test_sampling_depends_on_the_generator_alone(space):
    first, again, other = (space.sample(np.random.default_rng(seed), 6) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    mutations = [space.mutate(first, np.random.default_rng(5)) for _ in range(2)]
    np.testing.assert_array_equal(*mutations)


@every_space
def test_no_rows_are_no_problem(space):
    rng = np.random.default_rng(0)
    assert space.sample(rng, 0).shape == (0, space.length)
    assert space.mutate(space.empty(0), rng).shape == (0, space.length)
    assert space.check(space.empty(0)).shape == (0, space.length)


@every_space
def test_what_is_no_architecture_is_refused(space):
    good = space.sample(np.random.default_rng(0), 3)
    for wrong in (len(space.vocabulary), -2, PAD, 2**40):
        bad = good.copy()
        bad[1, 0] = wrong
        np.testing.assert_array_equal(space.valid(bad), [True, False, True])
        with pytest.raises(InvalidArgumentError, match=r"Row 1 is no complete architecture"):
            space.check(bad)
        with pytest.raises(InvalidArgumentError, match="Row 0"):
            space.neighbours(bad[1])
        with pytest.raises(InvalidArgumentError, match="Row 1"):
            space.mutate(bad, np.random.default_rng(0))
    for malformed in (good[0], good[:, 1:], good.astype(float), [["a"]]):
        with pytest.raises(InvalidArgumentError, match=r"whole numbers \[B, "):
            space.check(malformed)


@every_space
def test_graphs_of_partial_architectures_have_edges_forwards(space):
    _, prefixes = walk(space, np.random.default_rng(1))
    for prefix in prefixes:
        nodes, edges = space.graph(prefix[0])
        assert {node.kind for node in nodes} <= {"input", "output", "operation", "sum"}
        assert all(0 <= a < b < len(nodes) for a, b, _ in edges)


def test_a_space_of_ones_own_samples_mutates_and_builds():
    """It is small enough to know the probability of every string."""
    space = Widths()
    tokens = space.sample(np.random.default_rng(0), 4000)
    texts, counts = np.unique([space.to_string(row) for row in tokens], return_counts=True)
    expected = {}
    widths = ("8", "16", "32")
    for a in range(3):
        expected[f"{widths[a]}-end"] = 1 / 3 / (a + 2)
        for b in range(a + 1):
            expected[f"{widths[a]}-{widths[b]}-end"] = 1 / 3 / (a + 2) / (b + 2)
            for c in range(b + 1):
                text = f"{widths[a]}-{widths[b]}-{widths[c]}"
                expected[text] = 1 / 3 / (a + 2) / (b + 2)
    assert sum(expected.values()) == pytest.approx(1)
    assert set(texts) == set(expected)
    shares = dict(zip(texts, counts / 4000, strict=True))
    assert all(abs(shares[text] - expected[text]) < 0.03 for text in expected)
    # From "16-16-end" (1, 1, 3) a mutation changes any of the three tokens, equally often.
    start = np.repeat([[1, 1, 3]], 3000, axis=0)
    mutated = space.mutate(start, np.random.default_rng(1))
    place = (mutated != start).argmax(axis=1)
    np.testing.assert_allclose(np.bincount(place) / 1000, 1.0, atol=0.1)
    # Behind the change the old tokens stay where they can: 32-16-end, but not 8-16-end.
    rest = {space.to_string(row) for row in mutated[place == 0]}
    assert rest == {"32-16-end", "8-8-end", "8-end"}
    network = space.build(space.from_string("16-8-end"), 4)
    assert [tuple(weight.shape) for weight in network.parameters()] == [
        (16, 4),
        (16,),
        (8, 16),
        (8,),
    ]


def test_the_example_of_a_space_of_ones_own_runs():
    example = doctest.DocTestFinder().find(space_module, "space", globs=vars(space_module).copy())
    results = [doctest.DocTestRunner().run(part) for part in example]
    assert sum(result.attempted for result in results) >= 5
    assert not any(result.failed for result in results)
    names = vars(space_module).copy()
    for step in doctest.DocTestParser().get_examples(space_module.__doc__):
        exec(step.source, names)
    evaluator = make_evaluator("train", names["Hidden"](), recipe={"epochs": 1})
    assert evaluator.evaluate(evaluator.space.from_string("64 relu")[None]).reward[0] > 0.2


def test_a_space_is_called_what_it_says_or_what_its_class_is_called():
    class Fancy(Widths):
        name = "fancy chains"

    class Narrow(Fancy):
        pass

    assert [space.name for space in (Widths(), Fancy(), Narrow())] == [
        "widths", "fancy chains", "narrow",
    ]  # fmt: skip


def test_behind_a_changed_token_old_ones_stay_where_they_can():
    space = Widths()
    near = {space.to_string(row) for row in space.neighbours(space.from_string("32-16-end"))}
    # The first token, the second and the end changed; "8" is the first word of the vocabulary.
    assert near == {"8-8-end", "16-16-end", "32-8-end", "32-32-end", "32-end", "32-16-8",
                    "32-16-16"}  # fmt: skip


def test_rows_without_an_alternative_stay_as_they_are():
    class Only(Widths):
        """There is one string, 32-8-end."""

        def mask(self, tokens):
            count = (tokens != PAD).sum(axis=1)
            return super().mask(tokens) & (np.arange(4) == np.array([2, 0, 3, PAD])[count, None])

    space = Only()
    only = space.sample(np.random.default_rng(0), 3)
    np.testing.assert_array_equal(only, np.tile([2, 0, 3], (3, 1)))
    np.testing.assert_array_equal(space.mutate(only, np.random.default_rng(0)), only)
    assert space.neighbours(only[0]).shape == (0, 3)


def test_masks_are_only_asked_about_strings_without_gaps():
    class Strict(Widths):
        def mask(self, tokens):
            chosen = tokens != PAD
            assert (chosen[:, 1:] <= chosen[:, :-1]).all(), "a gap"
            assert ((tokens >= PAD) & (tokens < 4)).all(), "no token"
            return super().mask(tokens)

    space, rng = Strict(), np.random.default_rng(0)
    bad = rng.integers(-3, 7, (500, 3))
    good = Widths().valid(bad)
    assert 0 < good.sum() < 500
    np.testing.assert_array_equal(space.valid(bad), good)
    space.mutate(space.sample(rng, 200), rng)
    space.neighbours(space.sample(rng, 1)[0])


def test_a_table_has_a_space_of_its_own():
    with pytest.raises(InvalidArgumentError, match=r"A table has a space of its own: leave .* out"):
        make_evaluator("digits201", "cell201")
    with pytest.raises(InvalidArgumentError, match="Did you mean 'path'"):
        make_evaluator("digits201", pth="table.npz")
