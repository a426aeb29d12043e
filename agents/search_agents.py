"""The searchers of ``architecture_search`` as agents of ``ArchitectureSearchTrial-v0``.

    metagym evaluate regularized_evolution ArchitectureSearchTrial-v0

There a whole search is one episode, so that what was written by hand and what was learned, such as
RL², do the same work in the same trials. Random search is missing in ``AGENTS``: the agent
``random`` plays it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from metagym.agents.architecture_search import (
    LocalSearch,
    RegularizedEvolution,
    ReinforceLogits,
    Searcher,
)
from metagym.agents.randomized_values import RandomizedValues
from metagym.architectures.space import PAD
from metagym.envs.architecture_search_trial import ArchitectureSearchTrialVectorEnv
from metagym.errors import InvalidArgumentError, nearest


class SearchAgent:
    """A searcher for each row: it writes what that proposes, token by token, and tells the score.

    With the same random stream it finds what ``search`` finds with a budget of evaluations, where
    the evaluator trains all architectures of a trial with one seed, as the environment does. Rows
    need not be in step. Proposals follow the masks by themselves, and orders of tokens that change
    from trial to trial are nothing to a searcher that begins anew in each.

    Args:
        searcher: the class, or what else makes one.
        name: for tables.
        seed: of the agent's own random stream, restarted by every ``bind``; each search has a
            stream of its own that derives from it.
        **hyperparameters: of the searcher.

    Raises:
        InvalidArgumentError: the searcher has no such hyperparameter, or it has another range.
    """

    def __init__(
        self, searcher: Callable[..., Searcher], name: str, seed: int = 0, **hyperparameters: Any
    ) -> None:
        signature = inspect.signature(searcher)
        for argument in hyperparameters:
            if argument not in signature.parameters:
                raise InvalidArgumentError(
                    f"{name} has no hyperparameter {argument!r}."
                    f"{nearest(argument, signature.parameters)} "
                    f"It has: {', '.join(['seed', *signature.parameters])}."
                )
        given = signature.bind(**hyperparameters)
        given.apply_defaults()
        self.name, self.seed = name, seed
        self.config = {**given.arguments, "seed": seed}
        self.searcher = partial(searcher, **hyperparameters)
        self.searcher()  # values out of range are told here, not in the first trial

    def bind(self, env: VectorEnv) -> None:
        """Learn the space of ``env``, an architecture search trial's vector environment.

        Raises:
            InvalidArgumentError: another environment, or one that shows ranks.
        """
        base = env.unwrapped
        if not isinstance(base, ArchitectureSearchTrialVectorEnv):
            raise InvalidArgumentError(
                f"{env.spec.id if env.spec else type(base).__name__} is no trial of several "
                f"architectures; {self.name} searches in ArchitectureSearchTrial-v0 and its kin."
            )
        if base.scores != "raw":
            raise InvalidArgumentError(
                f"{self.name} compares the scores of a whole trial, and scores={base.scores!r} "
                "shows each one's place among those before it; use scores='raw'."
            )
        self._space, self._layout = base.space, base.layout
        self._rng = np.random.default_rng(self.seed)
        self._scores = np.zeros(env.num_envs)
        self._searches: list[Iterator[int]] = [iter(())] * env.num_envs

    def reset(self, mask: np.ndarray) -> None:
        """Begin new searches in the rows where ``mask`` (bool [num_envs]) is True."""
        rows = np.flatnonzero(mask)
        for row, rng in zip(rows, self._rng.spawn(len(rows)), strict=True):
            self._searches[row] = self._search(int(row), rng)

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        """The next token of every row, int64 [num_envs]."""
        self._scores = self._layout.split(observations).state[:, -2].astype(np.float64)
        return np.array([next(search) for search in self._searches], dtype=np.int64)

    def _search(self, row: int, rng: np.random.Generator) -> Iterator[int]:
        """The tokens of one architecture after the other.

        It is asked for the first of the next when ``self._scores`` holds the score of the last.
        """
        searcher = self.searcher()
        searcher.reset(self._space, 1)
        while True:
            tokens = searcher.propose(rng)
            yield from tokens[tokens != PAD]
            searcher.observe(tokens, self._scores[[row]])


# The population and the sample of NAS-Bench-201: the paper's 100 would be random all trial long.
AGENTS: dict[str, Callable[..., SearchAgent]] = {
    "regularized_evolution": partial(
        SearchAgent, RegularizedEvolution, "regularized_evolution", population=10, sample=3
    ),
    "local_search": partial(SearchAgent, LocalSearch, "local_search"),
    "reinforce_logits": partial(SearchAgent, ReinforceLogits, "reinforce_logits"),
    "randomized_values": partial(SearchAgent, RandomizedValues, "randomized_values"),
}
