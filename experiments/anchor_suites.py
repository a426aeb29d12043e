"""Measure the floors, ceilings and targets of the suites, and write them into their files.

    METAGYM_DATA=... python experiments/anchor_suites.py [--suites core-v0 ...] [--tasks maze ...]

No such number is typed by hand. What is measured is measured by the protocol, on the seeds and
test tasks of the suite. A suite that is out keeps its numbers: run this on a new version only, or
without ``--write``, to see that they are still true.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium.vector import VectorEnv

from metagym.agents.optimizers import HandDesigned
from metagym.architectures import make_evaluator
from metagym.core import Agent
from metagym.evaluation import evaluate
from metagym.evaluation.results import Result
from metagym.evaluation.suites import SUITES, Anchor, Suite, SuiteTask, make_suite
from metagym.files import write_atomically
from metagym.loading import load_agent
from metagym.planning import bandits
from metagym.planning.bandit_bounds import bernoulli_bound
from metagym.planning.mazes import shortest_return
from metagym.planning.mdp import trial_optimum
from metagym.planning.navigation import straight_return
from metagym.tasks import make_tasks

# Of the held-out variants of optimize-v0: per task, the values of which each argument draws one,
# uniformly and independently, in this order, with ``np.random.default_rng(VARIANT_SEED)``.
VARIANT_SEED = 0
VARIANTS: dict[str, dict[str, tuple[Any, ...]]] = {
    "quadratics": {"dim": (3, 5, 15, 20, 30), "horizon": (50, 150, 200)},
    "logistic": {"dim": (4, 6, 8, 12), "horizon": (20, 60, 80)},
    "rosenbrock": {"dim": (2, 4, 6, 15), "horizon": (50, 150, 200)},
    "digits": {"problem_kwargs.batch_size": (8, 16, 64, 128), "horizon": (50, 150, 200)},
    "mlp": {"problem_kwargs.hidden": (10, 30, 40), "problem_kwargs.batch_size": (16, 64, 128)},
    "rates": {"dim": (3, 5, 15, 20, 30), "horizon": (50, 150, 200)},
    "adam_rates": {
        "problem_kwargs.dataset": ("breast_cancer", "wine"),
        "problem_kwargs.batch_size": (8, 16, 24),
    },
    "sphere": {"dim": (3, 5, 15), "horizon": (50, 150)},
    "gaussian_process": {
        "problem_kwargs.lengthscale": (1.0, 1.5, 3.0), "dim": (1, 3), "horizon": (50, 150),
    },
}  # fmt: skip

ACTIONS = (-0.6, -0.4, -0.2, 0.0)
LONG, LONG_RATE = 500, 0.03  # steps of the runs that stand for an optimum, and Adam's rate in them


@dataclass(frozen=True)
class Config:
    """What to measure.

    Args:
        suites: names; all by default.
        tasks: names of tasks; all by default.
        write: keep what was measured.
    """

    suites: tuple[str, ...] = tuple(SUITES)
    tasks: tuple[str, ...] = ()
    write: tyro.conf.FlagCreatePairsOff[bool] = False


def main(config: Config) -> None:
    """Measure, print beside what the file says, and write the file after each task."""
    for name in config.suites:
        suite = make_suite(name)
        for task in suite.tasks:
            if config.tasks and task.name not in config.tasks:
                continue
            start = time.perf_counter()
            measured = anchored(task, suite.seeds)
            print(
                f"{name} {task.name}: floor {task.floor.value:.6g} -> {measured.floor.value:.6g}, "
                f"ceiling {task.ceiling.value:.6g} -> {measured.ceiling.value:.6g}, "
                f"target {task.target} -> {measured.target}, {time.perf_counter() - start:.0f} s",
                flush=True,
            )
            tasks = tuple(measured if t.name == task.name else t for t in suite.tasks)
            suite = replace(suite, tasks=tasks)
            if config.write:
                Suite.from_json(suite.to_json())  # raises what is wrong with it
                write_atomically(SUITES[name], suite.to_json().encode())


def anchored(task: SuiteTask, seeds: tuple[int, ...]) -> SuiteTask:
    """The task with its anchors, and its target if it has one, measured anew."""
    return replace(
        task,
        floor=measure(task.floor, task, seeds),
        ceiling=measure(task.ceiling, task, seeds),
        target=None if task.target is None else target(task, seeds),
    )


def measure(anchor: Anchor, task: SuiteTask, seeds: tuple[int, ...]) -> Anchor:
    """The anchor with its value: the mean over the seeds of what its ``what`` stands for."""
    compute = {**COMPUTED, **MEASURED}[anchor.what]
    value = float(np.mean([compute(task, seed) for seed in seeds]))
    return Anchor(anchor.what, float(f"{value:.7g}"), exact=anchor.what in COMPUTED)


def target(task: SuiteTask, seeds: tuple[int, ...]) -> float:
    """Where a tuned baseline is after three quarters of the steps, on average; to a tenth.

    Adam, tuned for the id; the best of ``ACTIONS``, held constant, where rates are set; and of the
    queries of CMA-ES the lowest value.
    """
    if task.env_id.startswith("BlackBox"):
        steps = 3 * task.kwargs.get("horizon", 100) // 4
        lowest = np.mean([play("cma_es", task, seed, horizon=steps).mean for seed in seeds])
        return round(math.log10(lowest), 1)
    agents: list[Any] = ["adam"]
    if task.env_id.startswith("LearningRate"):
        agents = [Constant(value) for value in ACTIONS]

    def level(agent: Agent | str) -> float:
        curves = [(play(agent, task, seed, curves=True).curves or {})["mean"] for seed in seeds]
        return float(np.mean(curves, axis=0)[3 * (len(curves[0]) - 1) // 4])

    return round(min(map(level, agents)), 1)


def draw_variants(suite: Suite) -> dict[str, dict[str, Any]]:
    """The arguments of the held-out variant of each task in ``VARIANTS``, by the task's name."""
    rng, drawn = np.random.default_rng(VARIANT_SEED), {}
    for name, ranges in VARIANTS.items():
        task = suite.task(name)
        kwargs: dict[str, Any] = {**task.kwargs}
        for argument, choices in ranges.items():
            value = choices[rng.integers(len(choices))]
            *group, key = argument.split(".")
            if group:  # an argument within problem_kwargs, which replace the registered ones
                registered = gym.spec(task.env_id).kwargs.get(group[0], {})
                kwargs[group[0]] = {**registered, **kwargs.get(group[0], {}), key: value}
            else:
                kwargs[key] = value
        drawn[name] = kwargs
    return drawn


def play(agent: Agent | str, task: SuiteTask, seed: int, **changes: Any) -> Result:
    """What the protocol says of an agent; ``changes`` are of the task's arguments."""
    return evaluate(
        load_agent(agent, task.env_id, seed=seed) if isinstance(agent, str) else agent,
        task.env_id, "test", task.episodes, seed, num_envs=task.num_envs,
        **{**task.kwargs, **changes},
    )  # fmt: skip


class Constant:
    """One action for ever: of updates 0 stands still, of rates -1 is the lowest, 0 the default."""

    name = "constant"

    def __init__(self, value: float) -> None:
        self.value = value

    def bind(self, env: VectorEnv) -> None:
        self._shape = env.action_space.shape or ()

    def reset(self, mask: np.ndarray) -> None:
        """Nothing to forget."""

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        return np.full(self._shape, self.value, np.float32)


class Watcher:
    """Acts at random and notes the optimum of every task that it meets, the task known."""

    name, privileged = "watcher", True

    def bind(self, env: VectorEnv) -> None:
        self._env: Any = env.unwrapped
        self._space = env.action_space
        self.optima: list[np.ndarray] = []

    def reset(self, mask: np.ndarray) -> None:
        """Nothing to forget."""

    def observe_task(self, task: dict[str, np.ndarray], mask: np.ndarray) -> None:
        env, kind = self._env, type(self._env).__name__
        if kind == "MetaTabularMDPVectorEnv":
            self.optima.append(trial_optimum(task, env.inner_horizon, env.n))
        elif kind == "MetaMazeVectorEnv":
            self.optima.append(shortest_return(task, env.n, env.inner_horizon))
        else:
            walk = env.n, env.inner_horizon, env.action_scale, env.tolerance
            self.optima.append(straight_return(task, *walk))

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        return np.asarray(self._space.sample())


def known_optimum(task: SuiteTask, seed: int) -> float:
    """The mean over the very tasks of this seed of the best expected score, the task known."""
    watcher = Watcher()
    play(watcher, task, seed)
    return float(np.concatenate(watcher.optima)[: task.episodes].mean())


def best_in_the_table(task: SuiteTask, seed: int) -> float:
    """The highest test score that there is."""
    evaluator = make_evaluator(
        task.kwargs.get("evaluator", "digits201"), None, None,
        **task.kwargs.get("evaluator_kwargs", {}),
    )  # fmt: skip
    assert evaluator.optimum is not None
    return evaluator.optimum


def bandit(task: SuiteTask) -> tuple[int, int]:
    """n and k of a bandit."""
    kwargs = {"n": 10, "k": 5} | gym.spec(task.env_id).kwargs | dict(task.kwargs)
    return kwargs["n"], kwargs["k"]


def long_runs(task: SuiteTask, seed: int) -> float:
    """Of two optimisers on the same problems, without minibatches, the better one on each."""
    known = {**gym.spec(task.env_id).kwargs, **task.kwargs}
    problem = dict(known.get("problem_kwargs", {}))
    if known["problem"] in ("softmax", "mlp"):
        problem["batch_size"] = None
    agents = HandDesigned("lbfgs", lr=0.5, first_lr=0.01), HandDesigned("adam", lr=LONG_RATE)
    scores = [
        evaluate(
            agent, "LearnToOptimize-v0", "test", task.episodes, seed, num_envs=task.num_envs,
            horizon=LONG, history=1, dtype="float64", problem=known["problem"],
            dim=known.get("dim"), problem_kwargs=problem,
        ).scores
        for agent in agents
    ]  # fmt: skip
    return float(np.min(scores, axis=0).mean())


def zero_prediction(task: SuiteTask, seed: int) -> float:
    """The mean squared error of predicting 0."""
    tasks = make_tasks(task.env_id, **task.kwargs)
    drawn = tasks.sample(task.episodes, "test", torch.Generator().manual_seed(seed))
    return float(drawn.query_y.square().mean())


Compute = Callable[[SuiteTask, int], float]

COMPUTED: dict[str, Compute] = {
    "loss of zero": lambda task, seed: -12.0,
    "minimum of f": lambda task, seed: 0.0,
    "no error": lambda task, seed: 0.0,
    "all right": lambda task, seed: 1.0,
    "chance": lambda task, seed: 1.0 / task.kwargs.get("ways", 5),
    "optimum": lambda task, seed: bandits.bayes_optimal(*bandit(task)).value,
    "optimum, the task known": known_optimum,
    "best in the table": best_in_the_table,
}
MEASURED: dict[str, Compute] = {
    "random": lambda task, seed: play("random", task, seed).mean,
    "standing still": lambda task, seed: play(Constant(0.0), task, seed).mean,
    "lowest rate": lambda task, seed: play(Constant(-1.0), task, seed).mean,
    "upper bound": lambda task, seed: bernoulli_bound(*bandit(task)).value,
    "better of L-BFGS and Adam, full batches, 500 steps": long_runs,
    "best of 10,000 random queries": lambda task, seed: (
        play("random_search", task, seed, horizon=10_000, history=1).mean
    ),
    "prediction of zero": zero_prediction,
}


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
