"""Architecture search with randomised value functions (Osband, Van Roy & Wen 2016, RLSVI).

Building an architecture token by token is an episode with one reward at its end, so that the value
of a state is the value of the best architecture that can still be reached. It is learned by
least squares: linear in which token stands where and in which two tokens stand together. Each
episode acts greedily on values drawn from the posterior of that regression, which explores what
is uncertain and may be good. With one reward per episode this is Thompson sampling of a Bayesian
linear model; nothing in it knows what the tokens mean.

Rewards become the normal scores of their ranks: accuracies have a long tail of bad architectures,
which says little about the good ones.

Lecture topic: neural architecture search, by reinforcement learning.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import numpy as np

from metagym.agents.architecture_search import Searcher
from metagym.architectures.space import SearchSpace
from metagym.errors import InvalidArgumentError, check_positive


class RandomizedValues(Searcher):
    """Acts greedily on values that are drawn from their posterior.

    Under a space of at most ``pool`` architectures the greedy one is found exactly; in a larger
    one, among ``pool`` candidates: half random, half mutations of the ten best so far. An
    architecture that the run has proposed is not proposed again. The cost of a proposal grows with
    the square of the number of proposals before it.

    Args:
        noise: variance of the scores around the linear function.
        pairs: prior variance of all that pairs of tokens add, beside 1 for the single tokens.
        start: random architectures before the first regression.
        pool: see above.
        sampled: False: greedy on the posterior mean, for comparison; it does not explore.
    """

    name = "randomised values"

    def __init__(
        self,
        noise: float = 0.1,
        pairs: float = 0.5,
        *,
        start: int = 10,
        pool: int = 20_000,
        sampled: bool = True,
    ) -> None:
        if not noise > 0 or not pairs >= 0:
            raise InvalidArgumentError(
                f"noise={noise!r} has to be above 0, and pairs={pairs!r} at least 0."
            )
        self._noise, self._pairs, self._sampled = float(noise), float(pairs), sampled
        self._start, self._pool = check_positive("start", start), check_positive("pool", pool)

    def reset(self, space: SearchSpace, runs: int) -> None:
        self._space, self._rows = space, np.arange(runs)
        self._features = _Features(space, self._pairs)
        self._all = _everything(space, self._pairs, self._pool)
        self._proposed: list[set[bytes]] = [set() for _ in range(runs)]
        self._seen = np.zeros((runs, 0 if self._all is None else len(self._all.tokens)), dtype=bool)
        self._tokens = np.zeros((runs, 0, space.length), dtype=np.int64)
        self._x = np.zeros((runs, 0, self._features.count), dtype=np.float32)
        self._rewards = np.zeros((runs, 0))
        self._inverse = np.zeros((runs, 0, 0), dtype=np.float32)  # of the scores' covariance

    def propose(self, rng: np.random.Generator) -> np.ndarray:
        if self._rewards.shape[1] < self._start:
            return self._space.sample(rng, len(self._rows))
        weights = self._draw_weights(rng)
        if self._all is not None:
            values = weights @ self._all.features.T
            values[self._seen] = -np.inf
            return self._all.tokens[values.argmax(axis=1)]
        return np.stack([self._best_of_pool(row, weights[row], rng) for row in range(len(weights))])

    def observe(self, tokens: np.ndarray, reward: np.ndarray) -> None:
        x = self._features(tokens)
        self._extend_inverse(x)
        self._x = np.concatenate([self._x, x[:, None]], axis=1)
        self._tokens = np.concatenate([self._tokens, tokens[:, None]], axis=1)
        self._rewards = np.concatenate([self._rewards, reward[:, None]], axis=1)
        for row, proposed in enumerate(self._proposed):
            name = tokens[row].tobytes()
            proposed.add(name)
            if self._all is not None:
                self._seen[row, self._all.places[name]] = True

    def _draw_weights(self, rng: np.random.Generator) -> np.ndarray:
        """Weights [B, features] from their posterior, by Matheron's rule.

        A draw from the prior is corrected by what it gets wrong of the data.
        """
        from scipy.special import ndtri  # slow to import, and names of all agents come by here

        count = self._rewards.shape[1]
        ranks = self._rewards.argsort(axis=1, kind="stable").argsort(axis=1)
        error = ndtri((ranks + 0.5) / count).astype(np.float32)
        prior = np.zeros((len(self._rows), self._features.count), dtype=np.float32)
        if self._sampled:
            prior = rng.standard_normal(prior.shape, dtype=np.float32)
            error -= np.matvec(self._x, prior)
            error -= self._noise**0.5 * rng.standard_normal(error.shape, dtype=np.float32)
        return np.asarray(prior + np.vecmat(np.matvec(self._inverse, error), self._x))

    def _extend_inverse(self, x: np.ndarray) -> None:
        """One more row and column, for the features x [B, features] of a new architecture."""
        count = self._rewards.shape[1]
        cross = np.matvec(self._x, x)
        solved = np.matvec(self._inverse, cross)
        rest = (x**2).sum(axis=1) + self._noise - (cross * solved).sum(axis=1)
        column = np.concatenate([solved, -np.ones_like(x[:, :1])], axis=1)
        inverse = np.zeros((len(x), count + 1, count + 1), dtype=np.float32)
        inverse[:, :count, :count] = self._inverse
        inverse += column[:, :, None] * (column / rest[:, None])[:, None, :]
        self._inverse = inverse

    def _best_of_pool(self, row: int, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        best = self._tokens[row, self._rewards[row].argsort()[-10:]]
        parents = best[rng.integers(len(best), size=self._pool - self._pool // 2)]
        pool = [self._space.sample(rng, self._pool // 2), self._space.mutate(parents, rng)]
        candidates = np.concatenate(pool)
        order = (self._features(candidates) @ weights).argsort()[::-1]
        for place in order:
            if candidates[place].tobytes() not in self._proposed[row]:
                return np.asarray(candidates[place])
        return np.asarray(candidates[order[0]])


class _Features:
    """Architectures [N, length] as [N, count]: which token is where, and which two are."""

    def __init__(self, space: SearchSpace, pairs: float) -> None:
        self._length, self._size = space.length, len(space.vocabulary)
        self._places = list(itertools.combinations(range(self._length), 2)) if pairs else []
        self.count = self._length * self._size + len(self._places) * self._size**2
        self._single = self._length**-0.5
        self._pair = (pairs / max(1, len(self._places))) ** 0.5

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        hot = (tokens[:, :, None] == np.arange(self._size)).astype(np.float32)
        parts = [self._single * hot.reshape(len(tokens), -1)]
        for i, j in self._places:
            both = hot[:, i, :, None] * hot[:, j, None, :]
            parts.append(self._pair * both.reshape(len(tokens), -1))
        return np.concatenate(parts, axis=1)


class _Everything(NamedTuple):
    """All N architectures of a space: tokens [N, length], features [N, count], rows by bytes."""

    tokens: np.ndarray
    features: np.ndarray
    places: dict[bytes, int]


@functools.lru_cache(maxsize=2)  # many searchers of one space share it: tens of megabytes
def _everything(space: SearchSpace, pairs: float, most: int) -> _Everything | None:
    """What a space of at most ``most`` architectures holds, or None if there are more."""
    tokens = _enumerate(space, most)
    if tokens is None:
        return None
    places = {row.tobytes(): place for place, row in enumerate(tokens)}
    return _Everything(tokens, _Features(space, pairs)(tokens), places)


def _enumerate(space: SearchSpace, most: int) -> np.ndarray | None:
    """All architectures [N, length], or None if there are more than ``most``."""
    found = space.empty(1)
    for place in range(space.length):
        allowed = space.mask(found)
        rows, tokens = np.nonzero(allowed)
        done = found[np.logical_not(allowed.any(axis=1))]
        if len(rows) + len(done) > most:
            return None
        found = found[rows]
        found[:, place] = tokens
        found = np.concatenate([done, found])
    return found
