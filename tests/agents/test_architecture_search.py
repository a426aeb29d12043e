"""The budgeted loop and its searchers, on spaces that are small enough to know the answer."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from metagym.agents.architecture_search import (
    LocalSearch,
    RandomSearch,
    RegularizedEvolution,
    ReinforceLogits,
    Searcher,
    search,
)
from metagym.agents.randomized_values import RandomizedValues
from metagym.architectures.evaluator import Evaluation, Evaluator
from metagym.architectures.nasbench201 import VALIDATION, NASBench201
from metagym.architectures.space import PAD, SearchSpace
from metagym.errors import InvalidArgumentError

SEARCHERS = {
    "random": RandomSearch,
    "evolution": lambda: RegularizedEvolution(10, 3),
    "local": LocalSearch,
    "reinforce": lambda: ReinforceLogits(0.1),
    "rank": lambda: ReinforceLogits(0.1, advantage="rank", window=20, entropy=0.01),
    "window": lambda: ReinforceLogits(0.1, "window"),
    "values": RandomizedValues,
    "values, pool": lambda: RandomizedValues(pool=30),
}


class Words(SearchSpace):
    """Words over a, b, c and d of one to four letters; a full stop ends a shorter one."""

    name = "words"
    vocabulary = ("a", "b", "c", "d", ".")
    length = 4

    def mask(self, tokens):
        tokens = np.asarray(tokens)
        open_ = ~(tokens == 4).any(axis=1) & (tokens[:, -1] == PAD)
        allowed = np.repeat(open_[:, None], 5, axis=1)
        allowed[:, 4] &= tokens[:, 0] != PAD
        return allowed

    def to_string(self, tokens):
        return "".join(self.vocabulary[token] for token in tokens if token != PAD)

    def from_string(self, text):
        raise NotImplementedError

    def build(self, tokens, *args, **kwargs):
        raise NotImplementedError

    def canonical(self, tokens):
        return "".join(sorted(self.to_string(tokens)))


class Table(Evaluator):
    """A word is worth its letters' ranks, "d" the most; each evaluation takes 1 s a letter."""

    name = "words"
    space = Words()

    def __init__(self, noise=0.0):
        self.noise, self.calls, self.asked = noise, 0, []

    def evaluate(self, tokens, seeds=None):
        self.calls += len(tokens)
        self.asked.append(tokens.copy())
        letters = (tokens >= 0) & (tokens < 4)
        worth = np.where(letters, tokens + 1.0, 0.0).sum(axis=1)
        noise = self.noise * np.sin(seeds) if self.noise else 0.0
        return Evaluation(worth + noise, -worth, letters.sum(axis=1).astype(float))


class Scripted(Searcher):
    """Proposes given words, the same in all runs, and keeps what it is told."""

    def __init__(self, *words):
        self.words, self.told = words, []

    def reset(self, space, runs):
        self.space, self.runs, self.steps = space, runs, iter(self.words)

    def propose(self, rng):
        word = next(self.steps)
        tokens = self.space.empty(self.runs)
        tokens[:, : len(word)] = [self.space.vocabulary.index(letter) for letter in word]
        return tokens

    def observe(self, tokens, reward):
        self.told.append(reward.copy())


def test_the_ledger_of_a_search():
    searcher = Scripted("a.", "dd.", "b.", "dddd", "c.")
    history = search(searcher, Table(), np.random.default_rng(0), budget_seconds=7.5, runs=2)
    # 1 + 2 + 1 + 4 seconds: the last of these four does not fit into the budget.
    np.testing.assert_array_equal(history.cost[:, 0], [1, 3, 4, 4])
    np.testing.assert_array_equal(history.evaluations[:, 1], [1, 2, 3, 3])
    np.testing.assert_array_equal(history.reward[:, 0], [1, 8, 8, 8])
    np.testing.assert_array_equal(history.test[:, 1], [-1, -8, -8, -8])
    assert Words().to_string(history.best[-1, 0]) == "dd."
    np.testing.assert_array_equal(np.array(searcher.told)[:, 0], [1, 8, 2, 0])
    for seconds, reward in ((0.5, -np.inf), (1, 1), (2.9, 1), (3, 8), (100, 8)):
        assert history.at(seconds)[0].tolist() == [reward, reward]
    assert Words().to_string(history.at(2.9).best[1]) == "a."
    assert np.isnan(history.at(0.5).test).all() and (history.at(0.5).best == PAD).all()


def test_a_budget_that_is_met_exactly_counts():
    history = search(
        Scripted("a.", "b.", "c."), Table(), np.random.default_rng(0), budget_seconds=2
    )
    assert history.cost[-1] == 2 and history.reward[-1] == 2


def test_duplicates_are_free_only_if_asked_for():
    words = ("ab.", "ba.", "ab.", "c.", "d.")
    charged, free = (
        search(
            Scripted(*words), Table(), np.random.default_rng(0),
            budget_evaluations=3, free_duplicates=free,
        )
        for free in (False, True)
    )  # fmt: skip
    np.testing.assert_array_equal(charged.cost[:, 0], [2, 4, 6])
    np.testing.assert_array_equal(free.cost[:, 0], [2, 2, 2, 3, 4])
    np.testing.assert_array_equal(free.evaluations[:, 0], [1, 1, 1, 2, 3])


def test_a_free_duplicate_scores_what_the_first_of_its_kind_scored():
    table, searcher = Table(noise=1.0), Scripted("ab.", "ba.", "c.", "ab.")
    search(
        searcher, table, np.random.default_rng(0), budget_evaluations=2, runs=3,
        free_duplicates=True, patience=3,
    )  # fmt: skip
    first, second = searcher.told[:2]
    np.testing.assert_array_equal(first, second)
    assert len(set(first)) == 3 and table.calls == 6  # each run has its own noise and memory


def test_a_run_that_only_repeats_itself_ends():
    history = search(
        Scripted(*["a."] * 50), Table(), np.random.default_rng(0),
        budget_seconds=10, free_duplicates=True, patience=5,
    )  # fmt: skip
    assert len(history.cost) == 6 and history.evaluations[-1] == 1


@pytest.mark.parametrize("name", SEARCHERS)
def test_every_searcher_proposes_architectures_and_finds_the_best_word(name):
    for free in (False, True):
        table = Table()
        history = search(
            SEARCHERS[name](), table, np.random.default_rng(0),
            budget_evaluations=200, runs=2, free_duplicates=free, patience=50,
        )  # fmt: skip
        assert table.space.valid(np.concatenate(table.asked)).all()
        wanted = 13 if name == "random" else 15
        assert (history.reward[-1] >= wanted).all()
        np.testing.assert_array_equal(history.test[-1], -history.reward[-1])
        assert (np.diff(history.cost, axis=0) >= 0).all()
        assert (np.diff(history.reward, axis=0) >= 0).all()


@pytest.mark.parametrize("name", SEARCHERS)
def test_same_seed_same_search(name):
    first, again, other = (
        search(
            SEARCHERS[name](), Table(0.1), np.random.default_rng(seed),
            budget_evaluations=40, runs=2,
        )
        for seed in (0, 0, 1)
    )  # fmt: skip
    np.testing.assert_array_equal(first.reward, again.reward)
    assert not np.array_equal(first.reward, other.reward)
    assert not np.array_equal(first.reward[:, 0], first.reward[:, 1])


@pytest.mark.parametrize("advantage", ["raw", "rank"])
def test_the_gradient_of_reinforce_is_that_of_the_log_probability(advantage):
    """Against finite differences of log π, for words of several lengths."""
    space, searcher = Words(), ReinforceLogits(advantage=advantage)
    searcher.reset(space, 5)
    rng = np.random.default_rng(0)
    searcher.logits += rng.standard_normal(searcher.logits.shape)
    tokens = searcher.propose(rng)

    def log_probability(logits):
        prefix, total = space.empty(len(tokens)), np.zeros(len(tokens))
        for t in range(space.length):
            allowed = space.mask(prefix)
            for row in np.flatnonzero(allowed.any(axis=1)):
                weights = np.exp(logits[row, t]) * allowed[row]
                total[row] += np.log(weights[tokens[row, t]] / weights.sum())
            prefix[:, t] = tokens[:, t]
        return total

    expected = np.zeros_like(searcher.logits)
    for t, v in itertools.product(range(4), range(5)):
        shift = np.zeros_like(searcher.logits)
        shift[:, t, v] = 1e-5
        change = log_probability(searcher.logits + shift) - log_probability(searcher.logits - shift)
        expected[:, t, v] = change / 2e-5
    chosen = tokens[:, :, None] == np.arange(5)
    np.testing.assert_allclose(chosen - searcher._probabilities, expected, atol=1e-8)


def test_ranks_do_not_see_the_scale_of_the_rewards():
    class Stretched(Table):
        def evaluate(self, tokens, seeds=None):
            scores = super().evaluate(tokens, seeds)
            return scores._replace(reward=np.exp(scores.reward))

    for make in (
        lambda: ReinforceLogits(0.1, advantage="rank"), RandomizedValues, LocalSearch
    ):  # fmt: skip
        plain, stretched = (
            search(make(), table, np.random.default_rng(0), budget_evaluations=60, runs=2)
            for table in (Table(), Stretched())
        )
        np.testing.assert_array_equal(plain.best, stretched.best)
        np.testing.assert_array_equal(plain.cost, stretched.cost)


def test_evolution_forgets_the_oldest_and_mutates_the_best_of_its_sample():
    space, searcher = Words(), RegularizedEvolution(population=2, sample=50)
    searcher.reset(space, 4)
    rng = np.random.default_rng(0)
    best = np.tile([3, 3, 3, 3], (4, 1))
    for tokens, reward in ((best, 9.0), (best * 0, 1.0)):
        searcher.propose(rng)
        searcher.observe(tokens, np.full(4, reward))
    child = searcher.propose(rng)  # 50 draws of two members miss neither
    assert ((child != best).sum(axis=1) >= 1).all() and (child[:, 0] == 3).any()
    searcher.observe(best * 0 + 1, np.full(4, 5.0))  # takes the place of the best
    near = np.concatenate([space.neighbours(np.array([1, 1, 1, 1]))])
    for child in searcher.propose(rng):
        assert (near == child).all(axis=1).any()


def test_local_search_moves_at_the_first_improvement_and_starts_anew():
    space = Words()
    table = Table()
    search(LocalSearch(), table, np.random.default_rng(3), budget_evaluations=200)
    words = np.concatenate(table.asked)
    worth = Table().evaluate(words).reward
    centre, tried, restarts = words[0], 0, 0
    value = worth[0]
    for word, reward in zip(words[1:], worth[1:], strict=True):
        near = space.neighbours(centre)
        if tried == len(near):
            centre, value, tried = word, reward, 0
            restarts += 1
            continue
        assert (near == word).all(axis=1).any()
        tried += 1
        if reward > value:
            centre, value, tried = word, reward, 0
    assert restarts > 1


def test_posterior_draws_have_the_mean_and_spread_of_bayesian_regression():
    space, runs = Words(), 4000
    searcher = RandomizedValues(noise=0.3, start=1)
    searcher.reset(space, runs)
    rng = np.random.default_rng(0)
    words = space.sample(rng, 12)
    rewards = rng.standard_normal(12)
    for word, reward in zip(words, rewards, strict=True):
        searcher.observe(np.tile(word, (runs, 1)), np.full(runs, reward))
    drawn = searcher._draw_weights(rng)
    x = searcher._features(words).astype(float)
    scores = norm.ppf((np.arange(12) + 0.5) / 12)[rewards.argsort().argsort()]
    precision = np.eye(x.shape[1]) + x.T @ x / 0.3
    covariance = np.linalg.inv(precision)
    mean = covariance @ x.T @ scores / 0.3
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.08)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.12)
    greedy = RandomizedValues(noise=0.3, sampled=False)
    greedy.__dict__ |= {k: v for k, v in searcher.__dict__.items() if k != "_sampled"}
    np.testing.assert_allclose(greedy._draw_weights(rng)[0], mean, atol=1e-4)


def test_randomised_values_never_repeat_themselves():
    table = Table()
    search(RandomizedValues(), table, np.random.default_rng(0), budget_evaluations=200)
    words = [row.tobytes() for row in np.concatenate(table.asked)]
    assert len(set(words[10:])) == 190 and not set(words[10:]) & set(words[:10])


def test_bad_arguments():
    rng = np.random.default_rng(0)
    for kwargs in (
        {}, {"budget_seconds": 0}, {"budget_seconds": float("nan")}, {"budget_evaluations": 0},
        {"budget_evaluations": 5, "runs": 0},
    ):  # fmt: skip
        with pytest.raises(InvalidArgumentError):
            search(RandomSearch(), Table(), rng, **kwargs)
    for make in (
        lambda: ReinforceLogits(baseline="mean"), lambda: ReinforceLogits(advantage="ranks"),
        lambda: ReinforceLogits(window=0), lambda: RegularizedEvolution(0),
        lambda: RandomizedValues(noise=0), lambda: RandomizedValues(pairs=-1),
    ):  # fmt: skip
        with pytest.raises(InvalidArgumentError):
            make()


def test_published_numbers_on_the_real_table():
    """Means of 500 runs within three of their standard errors (and rounding) of REFERENCES."""
    folder = Path(os.environ.get("METAGYM_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not any((folder / below / VALIDATION).exists() for below in ("nasbench201", ".")):
        pytest.skip(f"no NAS-Bench-201 files in {folder}; set METAGYM_DATA")
    table = NASBench201(folder)
    for searcher, published in (
        (RandomSearch(), (93.76, 93.90)),
        (RegularizedEvolution(10, 3), (93.93, 94.08)),
        (ReinforceLogits(), (93.80, 93.92)),
    ):
        history = search(searcher, table, np.random.default_rng(0), budget_seconds=20_000, runs=500)
        for seconds, wanted in zip((12_000, 20_000), published, strict=True):
            assert abs(100 * history.at(seconds)[1].mean() - wanted) < 0.06
