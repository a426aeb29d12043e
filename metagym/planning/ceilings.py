"""``ceiling``: the score that no agent beats in an environment, and how well it is known."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from metagym.core import BatchedEnv
from metagym.core.task import Task
from metagym.errors import check_positive

# What computes it, by the environment's class: a function of the environment and of ``samples``.
CEILINGS: dict[str, str] = {
    "MetaBanditVectorEnv": "metagym.planning.ceilings:_bandit",
    "MetaTabularMDPVectorEnv": "metagym.planning.ceilings:_tabular_mdp",
    "MetaMazeVectorEnv": "metagym.planning.ceilings:_maze",
    "MetaNavigation2DVectorEnv": "metagym.planning.ceilings:_navigation",
}
TASKS = 4096  # whose optima are averaged, by default


class Ceiling(NamedTuple):
    """The highest expected score.

    Attributes:
        value: in units of ``info["score"]``.
        kind: "exact": the expected score of the best agent. "upper bound": no agent is better and
            the best one may be worse. "monte carlo": the mean over sampled tasks of the optimum
            with the task known, which an agent that has to learn it does not reach.
        standard_error: of a value that was sampled, else 0.
    """

    value: float
    kind: str
    standard_error: float = 0.0


def ceiling(
    env: VectorEnv | str, *, samples: int | None = None, **env_kwargs: Any
) -> Ceiling | None:
    """The ceiling of an environment, in a second or two; None where none is known.

    Args:
        env: a vector environment, or the id of one.
        samples: how much is sampled, where it has to be; more takes longer and says more.
        **env_kwargs: arguments of the environment, with an id.

    Raises:
        InvalidArgumentError: ``samples`` is no positive whole number, or the environment does not
            take the arguments.
    """
    if samples is not None:
        check_positive("samples", samples)
    if isinstance(env, str):
        made = gym.make_vec(env, 1, **env_kwargs)
        try:
            return ceiling(made, samples=samples)
        finally:
            made.close()
    base = env.unwrapped
    # Only these classes themselves: a subclass may well have other rewards.
    target = CEILINGS.get(type(base).__name__)
    if target is None or not isinstance(base, BatchedEnv):
        return None
    module, _, name = target.partition(":")
    compute: Callable[..., Ceiling] = getattr(importlib.import_module(module), name)
    return compute(base, samples)


def _bandit(env: Any, samples: int | None) -> Ceiling:
    from metagym.planning import bandit_bounds, bandits

    if env.arms == "gaussian":
        bound = bandit_bounds.gaussian_bound(env.n, env.k, env.noise, samples)
        return Ceiling(bound.value, "upper bound", bound.standard_error)
    known = (env.n, env.k, env.alpha, env.beta)
    if bandits.feasible(env.n, env.k):
        return Ceiling(bandits.bayes_optimal(*known).value, "exact")
    bound = bandit_bounds.bernoulli_bound(*known, samples)
    return Ceiling(bound.value, "upper bound", bound.standard_error)


def _tabular_mdp(env: Any, samples: int | None) -> Ceiling:
    from metagym.planning.mdp import trial_optimum

    return _mean(env, samples, lambda task: trial_optimum(task, env.inner_horizon, env.n))


def _maze(env: Any, samples: int | None) -> Ceiling:
    from metagym.planning.mazes import shortest_return

    return _mean(env, samples, lambda task: shortest_return(task, env.n, env.inner_horizon))


def _navigation(env: Any, samples: int | None) -> Ceiling:
    from metagym.planning.navigation import straight_return

    walk = env.n, env.inner_horizon, env.action_scale, env.tolerance
    return _mean(env, samples, lambda task: straight_return(task, *walk))


def _mean(env: Any, samples: int | None, optimum: Callable[[Task], np.ndarray]) -> Ceiling:
    """The mean of ``optimum`` over tasks of the environment's split."""
    optima = optimum(env._sample_tasks(np.random.default_rng(0), samples or TASKS))
    error = float(optima.std() / max(1, len(optima) - 1) ** 0.5)
    return Ceiling(float(optima.mean()), "monte carlo", error)
