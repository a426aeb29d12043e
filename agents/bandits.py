"""What is known to work on bandits, as agents that see observations only: the controls of RL².

They are the agents of Duan et al. (2016, Table 1), which know the prior of the arms too; with the
optimum of short trials, and an oracle. Of arms that look equal the first is pulled. Between arms
with the same history that is as good as any; greedy, to whom one win in two pulls looks like no
pull at all, would gain by preferring the newer arm.

Lecture topic: meta-reinforcement learning, bandits: the agents beside RL².
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from metagym.agents.bandits_base import BanditAgent
from metagym.core.task import Task
from metagym.errors import InvalidArgumentError, check_choice, check_positive
from metagym.evaluation import evaluate


class Greedy(BanditAgent):
    """The arm of the largest posterior mean."""

    name = "greedy"

    def _choose(self) -> np.ndarray:
        return self._means.argmax(axis=1)


class EpsilonGreedy(BanditAgent):
    """The arm of the largest posterior mean, or with probability ``epsilon`` any arm.

    Args:
        epsilon: probability of an arm drawn uniformly.
        seed: of the random stream.
    """

    name = "epsilon_greedy"

    def __init__(self, epsilon: float = 0.05, seed: int = 0) -> None:
        super().__init__(seed, epsilon=epsilon)
        if not 0.0 <= epsilon <= 1.0:
            raise InvalidArgumentError(f"epsilon={epsilon!r} has to lie in [0, 1].")
        self.epsilon = epsilon

    def _choose(self) -> np.ndarray:
        arms = self._means.argmax(axis=1)
        exploring = np.flatnonzero(self.rng.random(len(arms)) < self.epsilon)
        arms[exploring] = self.rng.integers(self.k, size=len(exploring))
        return arms


class UCB1(BanditAgent):
    """mean + c · sqrt(2 log t / T): Auer, Cesa-Bianchi & Fischer (2002), with a width to tune.

    The mean is the posterior's, T counts the prior's pulls too (the Beta(1, 1) initialisation of
    Duan et al.: 2), and t is the number of the pull that is about to be made.

    Args:
        c: the width; the UCB1 of the theorem has 1.
        seed: unused; it is there for all agents to be built alike.
    """

    name = "ucb1"

    def __init__(self, c: float = 0.3, seed: int = 0) -> None:
        super().__init__(seed, c=c)
        if not 0.0 <= c < float("inf"):
            raise InvalidArgumentError(f"c={c!r} has to be a number of at least 0.")
        self.c = c

    def bind(self, env: VectorEnv) -> None:
        super().bind(env)
        self._widths, self._upper = np.zeros_like(self.pulls), np.zeros_like(self.pulls)

    def _forget(self, rows: Any) -> None:
        self._widths[rows] = self._strength**-0.5

    def _learn(self, entries: np.ndarray, rewards: np.ndarray) -> None:
        self._widths.ravel()[entries] = (self._flat_pulls[entries] + self._strength) ** -0.5

    def _choose(self) -> np.ndarray:
        scale = self.c * np.sqrt(2.0 * np.log(self._elapsed + 1.0))
        np.multiply(self._widths, scale[:, None], out=self._upper)
        self._upper += self._means
        return self._upper.argmax(axis=1)


class OptimisticThompson(BanditAgent):
    """Thompson sampling with several draws from the posterior, of which the best counts.

    Best can mean two things. By "draw", an arm stands for its largest draw: more optimism, more
    exploration than Thompson sampling. By "mean", each draw of all arms proposes its best arm, and
    of these the one of the largest posterior mean is pulled: less exploration. Duan et al. (2016)
    do not say which they took; their column lies between the two.

    Args:
        samples: draws per arm; 1 is Thompson sampling.
        best: "draw" or "mean".
        seed: of the random stream.
    """

    name = "optimistic_thompson"

    def __init__(self, samples: int = 3, best: str = "draw", seed: int = 0) -> None:
        super().__init__(seed, samples=samples, best=best)
        self.samples = check_positive("samples", samples)
        self.best = check_choice("best", best, ("draw", "mean"))

    def _choose(self) -> np.ndarray:
        if self.best == "draw":
            return self._largest(self.samples).argmax(axis=1)
        arms = self._largest(1).argmax(axis=1)
        for _ in range(self.samples - 1):
            other = self._largest(1).argmax(axis=1)
            better = (
                self._flat_means[self._offsets + other] > self._flat_means[self._offsets + arms]
            )
            arms[better] = other[better]
        return arms

    def _largest(self, samples: int) -> np.ndarray:
        """The largest of so many draws from each arm's posterior, [B, k]."""
        if self.arms == "gaussian":
            shape = self.pulls.shape
            largest = _maximum(samples, lambda: np.asarray(self.rng.standard_normal(shape)))
            largest *= self.noise / np.sqrt(self.pulls + self._strength)
            largest += self._means
            return largest
        uniform = self.alpha == self.beta == 1.0
        entries = np.flatnonzero(self.pulls) if uniform else np.arange(self.pulls.size)
        wins = self._flat_rewards[entries]
        a, b = wins + self.alpha, self._flat_pulls[entries] - wins + self.beta
        # The largest of N uniform draws is one draw to the power 1/N; arms that were never pulled
        # are many, and numpy is slow at Beta(1, 1).
        largest = self.rng.random(self.pulls.size) ** (1.0 / samples)
        largest[entries] = _maximum(samples, lambda: np.asarray(self.rng.beta(a, b)))
        return np.reshape(largest, self.pulls.shape)


class Thompson(OptimisticThompson):
    """Thompson (1933) sampling: the arm whose draw from the posterior is largest."""

    name = "thompson"

    def __init__(self, seed: int = 0) -> None:
        super().__init__(samples=1, seed=seed)
        self.config = {"seed": seed}


class Gittins(BanditAgent):
    """The arm of the highest finite-horizon Gittins index; see ``metagym.planning.gittins``.

    Args:
        discount: of the reward; 1 for what a trial pays. The classical index has a discount.
        seed: unused; it is there for all agents to be built alike.
    """

    name = "gittins"
    needs_bernoulli = True

    def __init__(self, discount: float = 1.0, seed: int = 0) -> None:
        super().__init__(seed, discount=discount)
        self.discount = discount

    def bind(self, env: VectorEnv) -> None:
        from metagym.planning.gittins import gittins_table

        super().bind(env)
        self._table = gittins_table(self.n, self.alpha, self.beta, self.discount)
        self._indices = np.zeros(self.pulls.shape, np.float32)
        self._row = np.full(env.num_envs, -1)

    def _forget(self, rows: Any) -> None:
        self._row[rows] = -1

    def _learn(self, entries: np.ndarray, rewards: np.ndarray) -> None:
        m = np.minimum(self._flat_pulls[entries], self.n - 1).astype(np.int64)
        s = self._flat_rewards[entries].astype(np.int64)
        row = np.maximum(self._row[entries // self.k], 0)
        self._indices.ravel()[entries] = self._table.indices[row, m, np.minimum(s, m)]

    def _choose(self) -> np.ndarray:
        row = self._table.row[self.n - self._elapsed]
        stale = np.flatnonzero(row != self._row)  # they look less far ahead than before
        if len(stale):
            m = np.minimum(self.pulls[stale], self.n - 1).astype(np.int64)
            s = np.minimum(self.rewards[stale].astype(np.int64), m)
            self._indices[stale] = self._table.indices[row[stale, None], m, s]
            self._row[stale] = row[stale]
        return self._indices.argmax(axis=1)


class BayesOptimal(BanditAgent):
    """The policy that no agent beats, by dynamic programming: for short trials only."""

    name = "bayes_optimal"
    needs_bernoulli = True

    def bind(self, env: VectorEnv) -> None:
        """As BanditAgent; InvalidArgumentError too where there are too many states."""
        from metagym.planning.bandits import bayes_optimal

        super().bind(env)
        self._plan = bayes_optimal(self.n, self.k, self.alpha, self.beta)
        self._pairs = np.zeros(self.pulls.shape, np.int32)
        self._keys = np.zeros(env.num_envs, np.uint64)

    def _forget(self, rows: Any) -> None:
        self._pairs[rows] = 0
        self._keys[rows] = 0

    def _learn(self, entries: np.ndarray, rewards: np.ndarray) -> None:
        before = self._pairs.ravel()[entries]
        after = before + self._plan.pulls[before] + 1 + rewards.astype(np.int64)
        self._pairs.ravel()[entries] = after
        self._keys[entries // self.k] += self._plan.weights[after] - self._plan.weights[before]

    def _choose(self) -> np.ndarray:
        wanted = self._plan.choose(self._keys).astype(np.int32)
        return (self._pairs == wanted[:, None]).argmax(axis=1)


class BestArm(BanditAgent):
    """The oracle that is told the means: its regret is zero."""

    name = "best_arm"
    privileged = True

    def bind(self, env: VectorEnv) -> None:
        super().bind(env)
        self._best = np.zeros(env.num_envs, dtype=np.int64)

    def observe_task(self, task: Task, mask: np.ndarray) -> None:
        """The means [B, k] of the rows where ``mask`` is True."""
        self._best[mask] = task["means"].argmax(axis=1)[mask]

    def _choose(self) -> np.ndarray:
        return self._best.copy()


AGENTS: dict[str, Callable[..., BanditAgent]] = {
    agent.name: agent
    for agent in (
        BayesOptimal, Gittins, Thompson, OptimisticThompson, UCB1, EpsilonGreedy, Greedy, BestArm,
    )
}  # fmt: skip

GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "optimistic_thompson": {"best": ("draw", "mean"), "samples": (1, 2, 3, 5, 10, 20)},
    "ucb1": {"c": (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)},
    "epsilon_greedy": {"epsilon": (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2)},
}


def tune(
    name: str,
    env_id: str,
    episodes: int = 10_000,
    seed: int = 1_000_000,
    grid: dict[str, tuple[Any, ...]] | None = None,
    report: Callable[[str], None] = print,
    num_envs: int | None = None,
    **env_kwargs: Any,
) -> dict[str, Any]:
    """The hyperparameters with the best mean score on the train split, by grid search.

    Args:
        name: one of ``AGENTS``; those without hyperparameters need no run.
        env_id: the environment.
        episodes: of each grid point; all points meet the same tasks.
        seed: of the tasks.
        grid: {hyperparameter: values}; ``GRIDS[name]`` by default.
        report: receives the grid, its scores and the result as lines of text.
        num_envs: rows per batch.
        **env_kwargs: of the environment.
    """
    make = AGENTS[check_choice("name", name, AGENTS)]
    grid = GRIDS.get(name, {}) if grid is None else grid
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if len(points) < 2:
        return points[0]
    scores = [
        evaluate(
            make(**point), env_id, "train", episodes, seed,
            group=math.gcd(episodes, 1000), num_envs=num_envs, **env_kwargs,
        ).mean
        for point in points
    ]  # fmt: skip
    best = int(np.argmax(scores))
    tried = ", ".join(
        f"{'/'.join(map(str, point.values()))}: {score:.3f}"
        for point, score in zip(points, scores, strict=True)
    )
    report(f"{name} ({'/'.join(grid)}), {episodes:,} trials of the train split: {tried}")
    report(f"{name}: best of {len(points)}: {points[best]}")
    return points[best]


def _maximum(count: int, draw: Callable[[], np.ndarray]) -> np.ndarray:
    """The largest of ``count`` draws, entry by entry."""
    largest = draw()
    for _ in range(count - 1):
        np.maximum(largest, draw(), out=largest)
    return largest
