"""What every planner of ``MetaTabularMDP`` does: read the observation, count, keep to its plan.

It plans at the start of each inner episode, over its T steps, in all trials at once. It learns
from the observation alone: from s, a, r and the state that followed, which is s' where the step
ended an inner episode.

Lecture topic: meta-reinforcement learning, random MDPs: the agents beside RL².
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from metagym.errors import InvalidArgumentError, check_choice
from metagym.planning.mdp import trial_optimum, value_iteration
from metagym.planning.posterior import ALL, TabularPosterior

TIE = 1e-9  # rounding sets the values of equal actions so much apart at most


class TabularAgent(ABC):
    """Base: ``self.posterior`` holds what was seen in every row, a subclass plans.

    A subclass implements ``_plan(rows) -> policy [n, T, S]``.

    Args:
        seed: of the agent's own random stream, restarted by every ``bind``.
        **hyperparameters: go into ``config``.
    """

    name = "tabular"
    prior: ClassVar[dict[str, float]] = {}

    def __init__(self, seed: int = 0, **hyperparameters: Any) -> None:
        self.seed = seed
        self.config: dict[str, Any] = {**hyperparameters, "seed": seed}

    def bind(self, env: VectorEnv) -> None:
        """Learn the sizes of ``env``, a MetaTabularMDP vector environment, and start over.

        Raises:
            InvalidArgumentError: another environment.
        """
        base: Any = env.unwrapped
        if not hasattr(base, "inner_horizon") or not hasattr(base, "layout"):
            raise InvalidArgumentError(
                f"{self.name} plans in MetaTabularMDP environments; {type(base).__name__} is none."
            )
        assert isinstance(env.single_action_space, gym.spaces.Discrete)
        self.layout, self.episodes, self.horizon = base.layout, base.episodes, base.inner_horizon
        self.states, self.actions = self.layout.state, int(env.single_action_space.n)
        self.rng = np.random.default_rng(self.seed)
        rows = env.num_envs
        self.posterior = TabularPosterior(rows, self.states, self.actions, **self.prior)
        self._rows = np.arange(rows)
        self._fresh = np.ones(rows, dtype=bool)
        self._step = np.zeros(rows, dtype=np.int64)
        self._state = np.zeros(rows, dtype=np.int64)
        self._policy = np.zeros((rows, self.horizon, self.states), dtype=np.int64)

    def reset(self, mask: np.ndarray) -> None:
        """Forget the trials of the rows where ``mask`` (bool [num_envs]) is True."""
        self._fresh |= mask

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        """The plan's actions [num_envs]."""
        view = self.layout.split(observations)
        states, ended = view.state.argmax(axis=1), view.done > 0.5
        if self._fresh.any():
            self.posterior.forget(self._fresh)
        if not self._fresh.all():
            rows = np.flatnonzero(~self._fresh)
            following = np.where(ended, view.final.argmax(axis=1), states)
            self.posterior.observe(
                rows, self._state[rows], view.action[rows].argmax(axis=1),
                view.reward[rows].astype(np.float64), following[rows],
            )  # fmt: skip
        begins = self._fresh | ended
        if begins.all():
            self._policy[:] = self._plan(ALL)
        elif begins.any():
            self._policy[begins] = self._plan(np.flatnonzero(begins))
        # Rows that wait for a reset are asked for actions too, beyond the last step.
        self._step = np.where(begins, 0, np.minimum(self._step + 1, self.horizon - 1))
        self._state, self._fresh = states, np.zeros_like(self._fresh)
        return self._explore(self._policy[self._rows, self._step, states])

    @abstractmethod
    def _plan(self, rows: Any) -> np.ndarray:
        """The policy [n, T, S] of the inner episode that begins in ``rows``."""

    def _explore(self, actions: np.ndarray) -> np.ndarray:
        return actions

    def _best(self, q: np.ndarray) -> np.ndarray:
        """The best of the actions by Q [n, T, S, A], any of equals.

        Actions that were never tried are equal, and a state may be met twice in an inner episode:
        who takes the first of equals tries the same one again.
        """
        tied = q >= q.max(axis=-1, keepdims=True) - TIE
        lots = self.rng.random(q.shape, dtype=np.float32)
        return np.asarray(np.where(tied, lots, -1.0).argmax(axis=-1))


class BayesianAgent(TabularAgent):
    """Base of the agents with a prior.

    Args:
        prior: "tasks" is the distribution that the tasks are drawn from; "published" is that of
            the code behind the published numbers, ``published_prior``.
        seed: of the random stream.
        **hyperparameters: of the subclass.

    Raises:
        InvalidArgumentError: another prior.
    """

    # I. Osband's TabulaRL, which the authors of RL² used as it is: mean rewards around 0, where
    # those of the tasks lie around 1.
    published_prior: ClassVar[dict[str, float]] = {"prior_mean": 0.0}

    def __init__(self, prior: str = "tasks", seed: int = 0, **hyperparameters: Any) -> None:
        check_choice("prior", prior, ("tasks", "published"))
        super().__init__(seed, prior=prior, **hyperparameters)
        self.prior = self.published_prior if prior == "published" else {}  # type: ignore[misc]


class ValueIteration(TabularAgent):
    """The oracle: finite-horizon value iteration on the true process.

    Args:
        seed: of nothing; it draws no random numbers.

    Attributes:
        ceilings: of each batch of tasks that it was shown, their exact optima [num_envs].
    """

    name = "value_iteration"
    privileged = True

    def bind(self, env: VectorEnv) -> None:
        """As TabularAgent; ``ceilings`` starts anew."""
        super().bind(env)
        self.ceilings: list[np.ndarray] = []

    def observe_task(self, task: dict[str, Any], mask: np.ndarray) -> None:
        """Plan for the tasks, and note what their optima are."""
        self._known = value_iteration(task["transitions"], task["reward_means"], self.horizon)
        self.ceilings.append(trial_optimum(task, self.horizon, self.episodes))

    def _plan(self, rows: Any) -> np.ndarray:
        return np.asarray(self._known.policy[rows])
