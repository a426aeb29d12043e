"""Search without gradients, for ``BlackBoxOptimize-v0``: what a learned searcher has to beat.

Random search, the (1+1) evolution strategy with Rechenberg's one-fifth rule, and CMA-ES (Hansen
and Ostermeier 2001) through the ``cma`` library. All are Agents that ask one query per step.

Lecture topic: learning to optimise, without gradients: search designed by hand.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from metagym.errors import InvalidArgumentError, MetagymError
from metagym.problems.checks import check_scale


class BlackBoxAgent(ABC):
    """Base: reads the newest query and its value, and knows which rows have just started.

    A subclass implements ``_ask(queries, values, fresh) -> queries``, all rows at once.

    Args:
        seed: of the agent's own random stream, restarted by every ``bind``.
        **hyperparameters: go into ``config``.
    """

    name = "black_box"

    def __init__(self, seed: int = 0, **hyperparameters: Any) -> None:
        self.seed = seed
        self.config = {**hyperparameters, "seed": seed}

    def bind(self, env: VectorEnv) -> None:
        """Learn the sizes of ``env``, a BlackBoxOptimize vector environment, and start over."""
        self.dim = int(np.prod(env.single_action_space.shape or (0,)))
        width = int(np.prod(env.single_observation_space.shape or (0,)))
        if getattr(env.unwrapped, "history", 0) * (self.dim + 2) != width:
            raise InvalidArgumentError(
                f"{self.name} reads the observations of BlackBoxOptimize environments; "
                f"{type(env.unwrapped).__name__} has others."
            )
        self.rng = np.random.default_rng(self.seed)
        self._fresh = np.ones(env.num_envs, dtype=bool)

    def reset(self, mask: np.ndarray) -> None:
        """Forget the rows where ``mask`` (bool [num_envs]) is True."""
        self._fresh |= mask

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        """The next queries [num_envs, d] in [-1, 1]."""
        newest = observations[:, -(self.dim + 2) :].astype(np.float64)
        queries = self._ask(newest[:, 1:-1], newest[:, 0], self._fresh)
        self._fresh[:] = False
        return np.clip(queries, -1.0, 1.0).astype(np.float32)

    @abstractmethod
    def _ask(self, queries: np.ndarray, values: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        """The next queries [B, d] after the last ones [B, d] had the given values [B]."""


class RandomSearch(BlackBoxAgent):
    """Uniform queries."""

    name = "random_search"

    def _ask(self, queries: np.ndarray, values: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        return self.rng.uniform(-1.0, 1.0, queries.shape)


class OnePlusOneES(BlackBoxAgent):
    """The (1+1)-ES: a Gaussian step from the best point, kept if it is no worse.

    The step size grows by exp(4/5 / damping) on success and shrinks by exp(-1/5 / damping) on
    failure, with damping sqrt(d + 1): in balance where one step in five succeeds (Rechenberg
    1973; the form of Kern et al. 2004).

    Args:
        sigma: first step size, in units of the domain [-1, 1].
        seed: of the random stream.
    """

    name = "one_plus_one_es"

    def __init__(self, sigma: float = 0.3, seed: int = 0) -> None:
        super().__init__(seed, sigma=check_scale("sigma", sigma))
        self.sigma = float(sigma)

    def bind(self, env: VectorEnv) -> None:
        super().bind(env)
        rows = len(self._fresh)
        self._parent = np.zeros((rows, self.dim))
        self._parent_value = np.full(rows, np.inf)
        self._log_sigma = np.full(rows, np.log(self.sigma))

    def _ask(self, queries: np.ndarray, values: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        success = values <= self._parent_value
        self._log_sigma += (success - 0.2) / np.sqrt(self.dim + 1)
        self._log_sigma[fresh] = np.log(self.sigma)
        taken = success | fresh
        self._parent[taken] = queries[taken]
        self._parent_value[taken] = values[taken]
        step = self.rng.standard_normal(queries.shape)
        return self._parent + np.exp(self._log_sigma)[:, None] * step


class CMAES(BlackBoxAgent):
    """CMA-ES of the ``cma`` library, one per row: a generation is asked query by query.

    Args:
        sigma: first step size, in units of the domain [-1, 1].
        population: queries per generation; None is the library's 4 + 3 log d.
        seed: of the random stream, from which every row's own derives.

    Raises:
        MetagymError: ``cma`` is not installed.
    """

    name = "cma_es"

    def __init__(self, sigma: float = 0.3, population: int | None = None, seed: int = 0) -> None:
        super().__init__(seed, sigma=check_scale("sigma", sigma), population=population)
        self.sigma, self.population = float(sigma), population
        try:
            import cma
        except ImportError:
            raise MetagymError(
                "The agent 'cma_es' needs the library cma: pip install cma."
            ) from None
        self._cma = cma

    def bind(self, env: VectorEnv) -> None:
        super().bind(env)
        if self.dim < 2:
            raise InvalidArgumentError("cma_es needs a problem of at least 2 dimensions.")
        rows = len(self._fresh)
        self._strategies: list[Any] = [None] * rows
        # What each row still has to ask of its generation, and the values it got so far.
        self._generation: list[list[np.ndarray]] = [[] for _ in range(rows)]
        self._values: list[list[float]] = [[] for _ in range(rows)]

    def _ask(self, queries: np.ndarray, values: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        asked = np.empty_like(queries)
        for row in range(len(queries)):
            if fresh[row]:
                self._begin(row, queries[row])
            else:
                self._values[row].append(float(values[row]))
                if len(self._values[row]) == len(self._generation[row]):
                    self._strategies[row].tell(self._generation[row], self._values[row])
                    self._next_generation(row)
            asked[row] = self._generation[row][len(self._values[row])]
        return asked

    def _begin(self, row: int, start: np.ndarray) -> None:
        rng = self.rng.spawn(1)[0]
        options = {
            "bounds": [-1.0, 1.0],
            "randn": lambda *shape: rng.standard_normal(shape),
            "seed": np.nan,  # the library leaves numpy's global stream alone
            "verbose": -9,
        }
        if self.population is not None:
            options["popsize"] = self.population
        self._strategies[row] = self._cma.CMAEvolutionStrategy(start, self.sigma, options)
        self._next_generation(row)

    def _next_generation(self, row: int) -> None:
        self._generation[row] = self._strategies[row].ask()
        self._values[row] = []
