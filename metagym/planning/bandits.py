"""The best that any agent can do on Bernoulli bandits: Bayes-optimal dynamic programming, exact.

What an agent knows is a pair (pulls, wins) per arm, and arms with the same pair are alike: a
state is a *multiset* of pairs. That leaves so few states at n = 10 that the optimum is computed
in milliseconds. Far longer trials have too many; `metagym.planning.bandit_bounds` bounds those.

A state's key is the sum of one random 64-bit number per pair (Zobrist 1970), so that a pull
updates it with one addition and the order of the arms does not matter. That no two states share
a key is verified against their number, which is known in closed form.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from metagym.errors import InvalidArgumentError, check_positive

MAX_STATES = 1_000_000  # a few seconds and half a gigabyte, at most


@dataclass(frozen=True)
class BayesOptimal:
    """The optimal policy of a Bernoulli bandit.

    A *pair* (pulls m, wins s) has the number m(m+1)/2 + s: 0 is an arm never pulled, a win leads
    from number i to i + m + 2 and a loss to i + m + 1.

    Attributes:
        value: expected reward of a whole trial.
        keys: of all states before the last pull, sorted, uint64 [N].
        choices: the number of the pair to pull there, int64 [N].
        weights: uint64 [pairs]; the key of a state is the sum of its arms' weights, modulo 2^64.
        pulls: m of each pair, int64 [pairs].
    """

    value: float
    keys: np.ndarray
    choices: np.ndarray
    weights: np.ndarray
    pulls: np.ndarray

    def choose(self, keys: np.ndarray) -> np.ndarray:
        """The pairs to pull [...] in the states with these keys [...]."""
        at = np.searchsorted(self.keys, keys)
        return self.choices[np.minimum(at, len(self.keys) - 1)]


def layer_sizes(n: int, k: int) -> np.ndarray:
    """How many states there are after 0, 1, … n - 1 pulls of k arms, float64 [n].

    They are the coefficients of x^t, summed over the first min(k, n) powers of y, of
    Π_m (1 - y x^m)^-(m+1): an arm pulled m times has won any of 0 … m of them.
    """
    arms = min(k, n)
    ways = np.zeros((arms + 1, n))  # [arms pulled, pulls]
    ways[0, 0] = 1.0
    for m in range(1, n):
        more = ways.copy()
        for j in range(1, min(arms, (n - 1) // m) + 1):  # arms with exactly m pulls
            more[j:, j * m :] += math.comb(m + j, j) * ways[: arms + 1 - j, : n - j * m]
        ways = more
    sizes: np.ndarray = ways.sum(axis=0)
    return sizes


def feasible(n: int, k: int) -> bool:
    """Whether ``bayes_optimal`` takes on n pulls of k arms: at most ``MAX_STATES`` states."""
    return _states(n, k) <= MAX_STATES


@functools.lru_cache(maxsize=32)
def bayes_optimal(n: int, k: int, alpha: float = 1.0, beta: float = 1.0) -> BayesOptimal:
    """The optimum of n pulls of k arms whose chances of a win are independent Beta(alpha, beta).

    At n = 10: 6.65999 for k = 5 and 6.71395 for k of 10 and more, since n pulls touch at most
    n arms.

    Raises:
        InvalidArgumentError: there are more than ``MAX_STATES`` states.
    """
    n, k = check_positive("n", n), check_positive("k", k)
    if not feasible(n, k):
        raise InvalidArgumentError(
            f"n={n}, k={k}: the exact optimum has at least {_states(n, k):.3g} states, more than "
            f"{MAX_STATES:,}. Use metagym.planning.bandit_bounds.upper_bound, or the agent "
            "gittins, which comes close."
        )
    pulls = np.repeat(np.arange(n + 1), np.arange(1, n + 2))
    wins = np.arange(len(pulls)) - pulls * (pulls + 1) // 2
    chance = (wins + alpha) / (pulls + alpha + beta)
    sizes = layer_sizes(n, k)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        weights = rng.integers(0, 2**64, size=len(pulls), dtype=np.uint64)
        weights[0] = 0
        layers = _layers(n, min(k, n), pulls, weights)
        if all(len(keys) == size for (keys, _), size in zip(layers, sizes, strict=True)):
            break
    values = np.zeros(0)
    choices = []
    for t in range(n - 1, -1, -1):
        keys, pairs = layers[t]
        q = p = chance[pairs]
        if t + 1 < n:
            won, lost = (
                values[np.searchsorted(layers[t + 1][0], child)]
                for child in _children(keys, pairs, pulls, weights)
            )
            q = p * (1.0 + won) + (1.0 - p) * lost
        best = q.argmax(axis=1)[:, None]
        values = np.take_along_axis(q, best, 1)[:, 0]
        choices.append(np.take_along_axis(pairs, best, 1)[:, 0])
    all_keys = np.concatenate([keys for keys, _ in layers])
    order = np.argsort(all_keys)
    return BayesOptimal(
        float(values[0]), all_keys[order], np.concatenate(choices[::-1])[order], weights, pulls
    )


def _states(n: int, k: int) -> float:
    """The number of states, or, where it is hopeless, a number that is smaller."""
    return float(layer_sizes(min(n, 2000), min(k, 12)).sum())


def _layers(
    n: int, arms: int, pulls: np.ndarray, weights: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For t = 0 … n - 1 pulls: the sorted keys [N] of the states and their arms' pairs [N, arms].

    A state has a column for every arm it has pulled and one for the rest, if there is a rest.
    """
    keys, pairs = np.zeros(1, np.uint64), np.zeros((1, 1), np.int64)
    layers = [(keys, pairs)]
    for t in range(1, n):
        children = np.stack(_children(keys, pairs, pulls, weights))
        keys, first = np.unique(children, return_index=True)
        lost, parent, column = np.unravel_index(first, children.shape)
        pairs = pairs[parent]
        rows = np.arange(len(pairs))
        pairs[rows, column] += pulls[pairs[rows, column]] + 2 - lost
        if pairs.shape[1] < min(arms, t + 1):
            pairs = np.pad(pairs, ((0, 0), (0, 1)))
        layers.append((keys, pairs))
    return layers


def _children(
    keys: np.ndarray, pairs: np.ndarray, pulls: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Keys of the states after a win and after a loss with each arm, [N, arms] both."""
    without = keys[:, None] - weights[pairs]
    after = pairs + pulls[pairs]
    return without + weights[after + 2], without + weights[after + 1]
