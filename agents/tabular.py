"""Classical learners for ``MetaTabularMDP``: the baselines of Duan et al. (2016), Table 2.

PSRL, OPSRL, UCRL2, BEB, ε-greedy, greedy; the oracle is in ``tabular_base``. The published numbers
come from agents that did not know the distribution of the tasks (``prior="published"``); with the
tasks' own prior, the default, all but UCRL2 are other agents.

Lecture topic: meta-reinforcement learning, random MDPs: the agents beside RL².
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from metagym.agents.tabular_base import BayesianAgent, TabularAgent
from metagym.errors import InvalidArgumentError, check_above_zero, check_choice, check_positive
from metagym.evaluation import evaluate
from metagym.planning.mdp import action_values, optimistic_action_values
from metagym.planning.posterior import ALL


class OPSRL(BayesianAgent):
    """Optimistic posterior sampling (Osband and Van Roy 2017): act by the largest of K samples' Q.

    K processes are drawn from the posterior; the plan maximises, at each step and state, over
    actions and over what any of the K would pay.

    Args:
        samples: K; with 1 it is PSRL.
        prior: see BayesianAgent.
        seed: of the random stream.
    """

    name = "opsrl"

    def __init__(self, samples: int = 10, prior: str = "tasks", seed: int = 0) -> None:
        self.samples = check_positive("samples", samples)
        super().__init__(prior, seed, samples=self.samples)

    def _plan(self, rows: Any) -> np.ndarray:
        best = self._sampled(rows)
        for _ in range(self.samples - 1):
            np.maximum(best, self._sampled(rows), out=best)
        return np.asarray(best.argmax(axis=-1))

    def _sampled(self, rows: Any) -> np.ndarray:
        transitions, rewards = self.posterior.sample(self.rng, rows)
        return action_values(transitions, rewards, self.horizon)


class PSRL(OPSRL):
    """Posterior sampling (Strens 2000; Osband et al. 2013): one process is drawn and believed.

    Args:
        prior: see BayesianAgent.
        seed: of the random stream.
    """

    name = "psrl"

    def __init__(self, prior: str = "tasks", seed: int = 0) -> None:
        super().__init__(1, prior, seed)
        del self.config["samples"]


class BEB(BayesianAgent):
    """Bayesian exploration bonus (Kolter and Ng 2009), on the posterior mean.

    The bonus is 1 / (1 + n) for a reward, with n the reward's precision, and β / (1 + n) for each
    step that follows, with n the weight of the transitions: what a better idea of the next state
    is worth grows with the time left to use it. It is the form that the published numbers were
    made with; Kolter and Ng have the same bonus at every step.

    Args:
        beta: β.
        prior: see BayesianAgent.
        seed: of the random stream, which breaks ties.
    """

    name = "beb"

    def __init__(self, beta: float = 1.0, prior: str = "tasks", seed: int = 0) -> None:
        self.beta = _not_negative("beta", beta)
        super().__init__(prior, seed, beta=self.beta)

    def _plan(self, rows: Any) -> np.ndarray:
        rewards = self.posterior.reward_mean(rows)
        rewards = rewards + 1.0 / (1.0 + self.posterior.reward_precision(rows))
        bonus = self.beta / (1.0 + self.posterior.transition_weight(rows))
        left = np.arange(self.horizon - 1, -1, -1.0)[:, None, None]
        by_step = rewards[:, None] + left * bonus[:, None]
        return self._best(
            action_values(self.posterior.transition_mean(rows), by_step, self.horizon)
        )


class EpsilonGreedy(BayesianAgent):
    """Plans on the posterior mean; with probability ε an action is uniform instead.

    Args:
        epsilon: ε.
        prior: see BayesianAgent.
        seed: of the random stream.
    """

    name = "mdp_epsilon_greedy"
    # None to speak of: what was never seen has reward 0 and uniform transitions.
    published_prior: ClassVar[dict[str, float]] = {
        "prior_mean": 0.0, "prior_precision": 1e-4, "concentration": 1e-4,
    }  # fmt: skip

    def __init__(self, epsilon: float = 0.1, prior: str = "tasks", seed: int = 0) -> None:
        self.epsilon = _not_negative("epsilon", epsilon)
        if self.epsilon > 1.0:
            raise InvalidArgumentError(f"epsilon={epsilon!r} has to be a probability.")
        super().__init__(prior, seed, epsilon=self.epsilon)

    def _plan(self, rows: Any) -> np.ndarray:
        model = self.posterior.transition_mean(rows), self.posterior.reward_mean(rows)
        return self._best(action_values(*model, self.horizon))

    def _explore(self, actions: np.ndarray) -> np.ndarray:
        if self.epsilon == 0.0:
            return actions
        explores = self.rng.random(len(actions)) < self.epsilon
        return np.where(explores, self.rng.integers(self.actions, size=len(actions)), actions)


class Greedy(EpsilonGreedy):
    """ε-greedy with ε = 0: the best plan for the process that it expects.

    Args:
        prior: see BayesianAgent.
        seed: of the random stream, which breaks ties.
    """

    name = "mdp_greedy"

    def __init__(self, prior: str = "tasks", seed: int = 0) -> None:
        super().__init__(0.0, prior, seed)
        del self.config["epsilon"]


class UCRL2(TabularAgent):
    """UCRL2 (Jaksch, Ortner and Auer 2010): the best process of the confidence set, no prior.

    After t steps, n of them from (s, a), the set holds mean rewards within
    sqrt(7 log(2 S A t / δ) / (2 n)) and transitions within an L1 distance of
    sqrt(14 S log(2 A t / δ) / n) of the empirical ones, n at least 1 (their equations 3 and 4),
    both radii times ``scale``. What was never seen counts as reward 0 and uniform transitions. It
    plans for T steps at the start of each inner episode instead of at doubled counts.

    Args:
        scale: of both radii; 1 is made for rewards in [0, 1].
        delta: δ.
        seed: of the random stream, which breaks ties.

    Raises:
        InvalidArgumentError: a scale or δ that is not positive, or δ above 1.
    """

    name = "ucrl2"

    def __init__(self, scale: float = 0.3, delta: float = 0.05, seed: int = 0) -> None:
        self.scale, self.delta = check_above_zero("scale", scale), check_above_zero("delta", delta)
        if self.delta > 1.0:
            raise InvalidArgumentError(f"delta={delta!r} has to be a probability.")
        super().__init__(seed, scale=self.scale, delta=self.delta)

    def optimistic_model(self, rows: Any = ALL) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Transitions [n, S, A, S], the upper bounds of the rewards, and the radii [n, S, A]."""
        counts, visits = self.posterior.transitions[rows], self.posterior.visits[rows]
        n = np.maximum(visits, 1.0)
        t = 1.0 + visits.sum(axis=(1, 2), keepdims=True)
        rewards = self.posterior.reward_sums[rows] / n
        transitions = np.where(visits[..., None] > 0, counts / n[..., None], 1.0 / self.states)
        s, a = self.states, self.actions
        reward_radius = np.sqrt(3.5 * np.log(2 * s * a * t / self.delta) / n)
        radius = np.sqrt(14 * s * np.log(2 * a * t / self.delta) / n)
        return transitions, rewards + self.scale * reward_radius, self.scale * radius

    def _plan(self, rows: Any) -> np.ndarray:
        return self._best(optimistic_action_values(*self.optimistic_model(rows), self.horizon))


AGENTS: dict[str, Callable[..., TabularAgent]] = {
    agent.name: agent for agent in (PSRL, OPSRL, UCRL2, BEB, EpsilonGreedy, Greedy)
}

GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "opsrl": {"samples": (2, 5, 10, 20)},
    "ucrl2": {"scale": (0.02, 0.03, 0.04, 0.06, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)},
    "beb": {"beta": (0.0, 0.2, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0)},
    "mdp_epsilon_greedy": {"epsilon": (0.01, 0.02, 0.05, 0.1, 0.2)},
}


def tune(
    name: str,
    env_id: str,
    episodes: int = 1024,
    seed: int = 1_000_000,
    grid: dict[str, tuple[Any, ...]] | None = None,
    report: Callable[[str], None] = print,
    **fixed: Any,
) -> dict[str, Any]:
    """The hyperparameters with the best mean score on the train split, by grid search.

    Args:
        name: one of ``AGENTS``.
        env_id: the environment.
        episodes: trials of each grid point; all points meet the same tasks and noise.
        seed: of the tasks.
        grid: {hyperparameter: values}; ``GRIDS[name]`` by default.
        report: receives the grid, its scores and the winner as a line of text.
        **fixed: hyperparameters that are not searched, such as the prior; they are returned too.
    """
    make = AGENTS[check_choice("name", name, AGENTS)]
    grid = GRIDS.get(name, {}) if grid is None else grid
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if len(points) == 1:
        return {**fixed, **points[0]}
    scores = [
        evaluate(make(**fixed, **point), env_id, "train", episodes, seed).mean for point in points
    ]
    best = int(np.argmax(scores))
    tried = ", ".join(
        f"{'/'.join(map(str, point.values()))}: {score:.1f}"
        for point, score in zip(points, scores, strict=True)
    )
    told = "".join(f", {key} {value}" for key, value in fixed.items())
    report(f"{env_id} {name}{told}: {'/'.join(grid)} {tried}; best {points[best]} (train)")
    return {**fixed, **points[best]}


def _not_negative(argument: str, value: Any) -> float:
    return 0.0 if value == 0 else check_above_zero(argument, value)
