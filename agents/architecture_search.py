"""Searching for architectures under a budget: the loop, and the controls that all must beat.

A searcher acts on B independent runs at once: it proposes one architecture for each and is told
what they scored. ``search`` runs it until the budget of every run is spent, and decides for all
searchers alike what a repeated architecture costs. What a searcher sees are validation rewards;
the test score of the best of them is for the table only.

Lecture topic: neural architecture search, the searchers beside the controller.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from metagym.architectures.evaluator import Evaluation, Evaluator
from metagym.architectures.space import PAD, SearchSpace
from metagym.errors import InvalidArgumentError, check_choice, check_positive


class Searcher(ABC):
    """Proposes architectures [B, length] for B parallel runs and learns from their rewards [B].

    A run that has spent its budget is still asked and told (a reward of 0) until the last one
    has; what happens there is not recorded.
    """

    name = "searcher"

    @abstractmethod
    def reset(self, space: SearchSpace, runs: int) -> None:
        """Begin ``runs`` new searches in ``space``."""

    @abstractmethod
    def propose(self, rng: np.random.Generator) -> np.ndarray:
        """The next architecture of each run, [B, length]."""

    def observe(self, tokens: np.ndarray, reward: np.ndarray) -> None:  # noqa: B027
        """Learn what the proposals were worth; random search has no use for it."""


class Found(NamedTuple):
    """What B searches have found: reward [B], test [B] and the architecture [B, length]."""

    reward: np.ndarray
    test: np.ndarray
    best: np.ndarray


class SearchHistory(NamedTuple):
    """B searches, step by step; rows of runs that have ended repeat their last entry.

    Attributes:
        cost: seconds spent after each step, [steps, B].
        evaluations: architectures paid for after each step, [steps, B].
        reward: the best validation reward so far, [steps, B]; -inf before there is one.
        test: the test score of the architecture with that reward, [steps, B].
        best: that architecture, [steps, B, length], int16 to save memory.
    """

    cost: np.ndarray
    evaluations: np.ndarray
    reward: np.ndarray
    test: np.ndarray
    best: np.ndarray

    def at(self, seconds: float) -> Found:
        """The best when ``seconds`` had been spent; -inf, NaN and PAD where nothing had been found.

        For searchers that do not know their budget this is a shorter search's result.
        """
        step = np.maximum((self.cost <= seconds).sum(axis=0) - 1, 0)
        runs = np.arange(self.cost.shape[1])
        early = self.cost[0] > seconds
        return Found(
            np.where(early, -np.inf, self.reward[step, runs]),
            np.where(early, np.nan, self.test[step, runs]),
            np.where(early[:, None], PAD, self.best[step, runs].astype(np.int64)),
        )


def search(
    searcher: Searcher,
    evaluator: Evaluator,
    rng: np.random.Generator,
    *,
    budget_seconds: float | None = None,
    budget_evaluations: int | None = None,
    runs: int = 1,
    free_duplicates: bool = False,
    patience: int = 1000,
) -> SearchHistory:
    """Search until every run has spent its budget.

    An evaluation that the budget of seconds does not cover to its end does not count.

    Args:
        searcher: it is reset first.
        evaluator: its ``cost`` is what the seconds of the budget are spent on.
        rng: of the searcher's choices and of the evaluator's seeds, two streams.
        budget_seconds, budget_evaluations: of each run; one of them or both.
        runs: how many searches, B.
        free_duplicates: False: every proposal is paid for, as in the published searches. True:
            an architecture whose canonical key the run has seen before costs nothing and scores
            what the first of its kind scored, as if from a cache.
        patience: a run whose last so many proposals were all free has ended.

    Raises:
        InvalidArgumentError: no budget, or one that is not positive.
    """
    if budget_seconds is None and budget_evaluations is None:
        raise InvalidArgumentError("A search needs budget_seconds or budget_evaluations.")
    if budget_seconds is not None and not budget_seconds > 0:
        raise InvalidArgumentError(f"budget_seconds={budget_seconds!r} has to be above 0.")
    if budget_evaluations is not None:
        check_positive("budget_evaluations", budget_evaluations)
    runs = check_positive("runs", runs)
    own, noise = rng.spawn(2)
    searcher.reset(evaluator.space, runs)
    memory = _Memory(evaluator.space, runs) if free_duplicates else None
    most_seconds = np.inf if budget_seconds is None else budget_seconds
    most_evaluations = np.inf if budget_evaluations is None else budget_evaluations

    cost, test, reward = np.zeros(runs), np.full(runs, np.nan), np.full(runs, -np.inf)
    count, in_vain = np.zeros(runs, dtype=np.int64), np.zeros(runs, dtype=np.int64)
    best = evaluator.space.empty(runs).astype(np.int16)
    running = np.ones(runs, dtype=bool)
    steps: list[tuple[np.ndarray, ...]] = []
    while running.any():
        tokens = searcher.propose(own)
        found, paid = _evaluate(evaluator, tokens, noise, running, memory)
        running &= cost + found.cost <= most_seconds
        cost = np.where(running, cost + found.cost, cost)
        count += running & paid
        better = running & (found.reward > reward)
        reward, test = np.where(better, [found.reward, found.test], [reward, test])
        best[better] = tokens[better]
        steps.append((cost, count.copy(), reward, test, best.copy()))
        searcher.observe(tokens, np.where(running, found.reward, 0.0))
        in_vain = np.where(paid, 0, in_vain + 1)
        running = running & (count < most_evaluations) & (in_vain < patience)
    return SearchHistory(*(np.stack(column) for column in zip(*steps, strict=True)))


def _evaluate(
    evaluator: Evaluator,
    tokens: np.ndarray,
    rng: np.random.Generator,
    running: np.ndarray,
    memory: _Memory | None,
) -> tuple[Evaluation, np.ndarray]:
    """What the running rows' proposals [B, length] score, and which of them are paid for [B]."""
    if memory is None:
        known = np.zeros((len(tokens), 2))
        due = running
    else:
        known, due = memory.look_up(tokens, running)
    reward, test, cost = known[:, 0].copy(), known[:, 1].copy(), np.zeros(len(tokens))
    if due.any():
        seeds = rng.integers(2**31, size=len(tokens))
        reward[due], test[due], cost[due] = evaluator.evaluate(tokens[due], seeds[due])
    if memory is not None:
        memory.store(due, reward, test)
    return Evaluation(reward, test, cost), due


class _Memory:
    """What each run has evaluated, by canonical key."""

    def __init__(self, space: SearchSpace, runs: int) -> None:
        self._space = space
        self._keys: dict[bytes, str] = {}  # canonical forms may be slow to find
        self._seen: list[dict[str, tuple[float, float]]] = [{} for _ in range(runs)]
        self._asked: list[str] = []

    def look_up(self, tokens: np.ndarray, running: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(reward, test) [B, 2] of what is known, and which running rows [B] are new."""
        known, due = np.zeros((len(tokens), 2)), running.copy()
        self._asked = [""] * len(tokens)
        for row in np.flatnonzero(running):
            name = tokens[row].tobytes()
            key = self._keys.get(name)
            if key is None:
                key = self._keys[name] = self._space.canonical(tokens[row])
            self._asked[row] = key
            if (score := self._seen[row].get(key)) is not None:
                known[row], due[row] = score, False
        return known, due

    def store(self, rows: np.ndarray, reward: np.ndarray, test: np.ndarray) -> None:
        """Keep the scores of the rows [B] that ``look_up`` called new."""
        for row in np.flatnonzero(rows):
            self._seen[row][self._asked[row]] = (float(reward[row]), float(test[row]))


class RandomSearch(Searcher):
    """Draws every architecture from ``space.sample``."""

    name = "random search"

    def reset(self, space: SearchSpace, runs: int) -> None:
        self._space, self._runs = space, runs

    def propose(self, rng: np.random.Generator) -> np.ndarray:
        return self._space.sample(rng, self._runs)


class RegularizedEvolution(Searcher):
    """Regularised evolution (Real et al. 2019, algorithm 1): the oldest dies, not the worst.

    The parent of each child is the best of ``sample`` members drawn with replacement.

    Args:
        population, sample: 100 and 25 are the paper's; NAS-Bench-201 uses 10 and 3.
    """

    name = "regularised evolution"

    def __init__(self, population: int = 100, sample: int = 25) -> None:
        self._size = check_positive("population", population)
        self._sample = check_positive("sample", sample)

    def reset(self, space: SearchSpace, runs: int) -> None:
        self._space, self._rows = space, np.arange(runs)
        self._members = np.zeros((runs, self._size, space.length), dtype=np.int64)
        self._rewards = np.zeros((runs, self._size))
        self._born = 0

    def propose(self, rng: np.random.Generator) -> np.ndarray:
        runs = len(self._rows)
        if self._born < self._size:
            return self._space.sample(rng, runs)
        drawn = rng.integers(self._size, size=(runs, self._sample))
        best = self._rewards[self._rows[:, None], drawn].argmax(axis=1)
        return self._space.mutate(self._members[self._rows, drawn[self._rows, best]], rng)

    def observe(self, tokens: np.ndarray, reward: np.ndarray) -> None:
        oldest = self._born % self._size
        self._members[:, oldest], self._rewards[:, oldest] = tokens, reward
        self._born += 1


class LocalSearch(Searcher):
    """First-improvement local search with restarts.

    From a random architecture, its neighbours are tried in random order; the first that is
    better becomes the next centre. Where none is, the search begins anew at a random place.
    """

    name = "local search"

    def reset(self, space: SearchSpace, runs: int) -> None:
        self._space = space
        self._neighbours: dict[bytes, np.ndarray] = {}
        self._untried: list[list[np.ndarray]] = [[] for _ in range(runs)]
        self._centre = np.full(runs, -np.inf)  # its reward

    def propose(self, rng: np.random.Generator) -> np.ndarray:
        self._rng = rng
        tokens = self._space.sample(rng, len(self._untried))
        for row, untried in enumerate(self._untried):
            if untried:
                tokens[row] = untried.pop()
            else:
                self._centre[row] = -np.inf
        return tokens

    def observe(self, tokens: np.ndarray, reward: np.ndarray) -> None:
        for row in np.flatnonzero(reward > self._centre):
            self._centre[row] = reward[row]
            self._untried[row] = list(self._rng.permutation(self._around(tokens[row])))

    def _around(self, tokens: np.ndarray) -> np.ndarray:
        name = tokens.tobytes()
        if name not in self._neighbours:
            self._neighbours[name] = self._space.neighbours(tokens)
        return self._neighbours[name]


class ReinforceLogits(Searcher):
    """REINFORCE on one logit per position and token: NAS-Bench-201's own policy gradient.

    The defaults are those of Dong & Yang (2020): Adam with learning rate .01, one architecture
    per update, and as baseline the exponential moving average of the rewards, the present one
    included.

    Args:
        learning_rate: of Adam.
        baseline: "ema" with ``decay``, or "window": the mean of the last ``window`` rewards.
        advantage: "raw": reward minus baseline; "rank": the share of the last ``window`` rewards
            below the present one less the share above it, which needs no baseline.
        decay, window: see there.
        entropy: weight of the policy's entropy beside the advantage.
    """

    name = "REINFORCE"

    def __init__(
        self,
        learning_rate: float = 0.01,
        baseline: str = "ema",
        advantage: str = "raw",
        *,
        decay: float = 0.9,
        window: int = 100,
        entropy: float = 0.0,
    ) -> None:
        self._learning_rate = learning_rate
        self._baseline = check_choice("baseline", baseline, ("ema", "window"))
        self._advantage = check_choice("advantage", advantage, ("raw", "rank"))
        self._decay, self._window = decay, check_positive("window", window)
        self._entropy = entropy

    def reset(self, space: SearchSpace, runs: int) -> None:
        self._space, self._rows = space, np.arange(runs)
        shape = (runs, space.length, len(space.vocabulary))
        self.logits = np.zeros(shape)
        self._moments = np.zeros((2, *shape))
        self._average, self._updates = np.zeros(runs), 0
        self._past = np.full((runs, self._window), np.nan)

    def propose(self, rng: np.random.Generator) -> np.ndarray:
        tokens = self._space.empty(len(self._rows))
        self._probabilities = np.zeros_like(self.logits)
        for t in range(self._space.length):
            allowed = self._space.mask(tokens)
            due = np.asarray(allowed.any(axis=1))
            logits = np.where(allowed | ~due[:, None], self.logits[:, t], -np.inf)
            logits -= logits.max(axis=1, keepdims=True)
            weights = np.exp(logits) * due[:, None]
            self._probabilities[:, t] = weights / np.where(due, weights.sum(axis=1), 1.0)[:, None]
            drawn = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
            tokens[:, t] = np.where(due, drawn, tokens[:, t])
        return tokens

    def observe(self, tokens: np.ndarray, reward: np.ndarray) -> None:
        self._updates += 1
        chosen = tokens[:, :, None] == np.arange(self.logits.shape[2])
        gradient = self._advantages(reward)[:, None, None] * (chosen - self._probabilities)
        if self._entropy:
            gradient += self._entropy * self._entropy_gradient()
        first, second = self._moments
        first += 0.1 * (gradient - first)
        second += 0.001 * (gradient**2 - second)
        unbiased = second / (1 - 0.999**self._updates)
        step = first / (1 - 0.9**self._updates) / (np.sqrt(unbiased) + 1e-8)
        self.logits += self._learning_rate * step

    def _advantages(self, reward: np.ndarray) -> np.ndarray:
        """[B]; also takes the rewards into what later ones are compared with."""
        self._past[:, (self._updates - 1) % self._window] = reward
        self._average += (1 - self._decay) * (reward - self._average)
        if self._advantage == "rank":
            now = reward[:, None]
            filled = min(self._updates, self._window)
            beaten = (self._past < now).sum(axis=1) - (self._past > now).sum(axis=1)
            return np.asarray(beaten / filled)
        if self._baseline == "window":
            return np.asarray(reward - np.nanmean(self._past, axis=1))
        return np.asarray(reward - self._average / (1 - self._decay**self._updates))

    def _entropy_gradient(self) -> np.ndarray:
        p = self._probabilities
        logs = np.log(np.where(p > 0, p, 1.0))
        return np.asarray(-p * (logs - (p * logs).sum(axis=2, keepdims=True)))
