"""How fast architectures are written, and how fast children are trained.

Tokens: the vector environment of the embedded table, every row a new token in every step, with
the evaluations and resets that this brings; and the same as a SyncVectorEnv of single ones.

Children: the same cells, of equal cost, trained by one worker and by two in turns, in processes
and, where Ray is installed, by Ray. Workers have started, and trained something small, before the
clock does.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

import metagym  # noqa: F401
from metagym.architectures.cell201 import CONV_1X1, CONV_3X3, EDGES, NONE, SKIP, Cell201
from metagym.architectures.pools import POOLS
from metagym.architectures.training import TrainingEvaluator
from metagym.architectures.training_child import Recipe
from metagym.errors import InvalidArgumentError
from speed_parts.timing import rate, ratio, seconds, show_ratio, summary, turns

ID = "NeuralArchitectureSearch-v0"
TOKENS_GOAL = 2e6
WORKERS_GOAL = ">= 1.4"
MOST_CHILDREN = len(EDGES)
SAME_STEP = AutoresetMode.SAME_STEP


def measure(repetitions: int, children: int, child_seconds: float) -> dict[str, Any]:
    """Tokens per second, and children per minute of one worker and of two.

    Args:
        repetitions: of each comparison.
        children: to train in each repetition, at most 6.
        child_seconds: the least that one of them should take.

    Raises:
        InvalidArgumentError: there are no so many children of equal cost.
    """
    if not 1 <= children <= MOST_CHILDREN:
        raise InvalidArgumentError(f"children={children} has to be from 1 to {MOST_CHILDREN}.")
    rates = turns({"batch": batch, "sync": sync}, repetitions)
    epochs = epochs_for(child_seconds)
    results = {
        "tokens_per_second": summary(rates["batch"]),
        "tokens_1024_over_sync": ratio(rates["batch"], rates["sync"]),
        "child": {"epochs": epochs, "seconds": []},
    }
    for pool in pools():
        taken: list[float] = results["child"]["seconds"]
        runs = {
            str(workers): partial(children_per_minute, workers, pool, children, epochs, taken)
            for workers in (2, 1)
        }
        rates = turns(runs, repetitions)
        results[f"children_{pool}_2_over_1"] = ratio(rates["2"], rates["1"])
    return results


def show(results: dict[str, Any]) -> str:
    """The lines that are printed of ``measure``."""
    tokens = results["tokens_per_second"]
    low, high = tokens["range"]
    lines = [
        f"{ID}, 1,024 rows: {tokens['median']:,.0f} tokens/s  [{low:,.0f}, {high:,.0f}]"
        f"  goal >= {TOKENS_GOAL:,.0f}",
        show_ratio(
            "tokens_1024_over_sync", results["tokens_1024_over_sync"], "reported", "tokens/s"
        ),
    ]
    lines += [
        show_ratio(name, result, WORKERS_GOAL, "children/min")
        for name, result in results.items()
        if name.startswith("children_")
    ]
    taken = results["child"]["seconds"]
    lines.append(
        f"A child alone took {min(taken):.1f} to {max(taken):.1f} s,"
        f" {results['child']['epochs']} epochs each."
    )
    if "children_ray_2_over_1" not in results:
        lines.append("Ray is left out: pip install -e '.[ray]'.")
    return "\n".join(lines)


# -- tokens --------------------------------------------------------------------------------------


def batch(num_envs: int = 1024, steps: int = 600) -> float:
    """Tokens per second of the native batch, resets included."""
    return _tokens(gym.make_vec(ID, num_envs, autoreset_mode=SAME_STEP), steps)


def sync(num_envs: int = 64, steps: int = 60) -> float:
    """Tokens per second of a SyncVectorEnv of singles."""
    kwargs = {"autoreset_mode": SAME_STEP}
    env = gym.make_vec(ID, num_envs, vectorization_mode="sync", vector_kwargs=kwargs)
    return _tokens(env, steps)


def _tokens(env: Any, steps: int) -> float:
    """Random tokens, all of which cell201 allows; with SAME_STEP each step writes one per row."""
    env.reset(seed=0)
    env.action_space.seed(0)
    # As many as 64 steps, not a multiple of the 6 of an architecture: they are always others.
    actions = itertools.cycle([env.action_space.sample() for _ in range(64)])
    found = rate(lambda: env.step(next(actions)), steps) * env.num_envs
    env.close()
    return found


# -- children ------------------------------------------------------------------------------------


def pools() -> list[str]:
    """What can train children at once here."""
    return [name for name in POOLS if name != "ray" or importlib.util.find_spec("ray")]


def costly(count: int) -> np.ndarray:
    """Cells [count, 6] of equal cost: one 1 × 1 convolution among five of 3 × 3."""
    return np.where(np.eye(MOST_CHILDREN, dtype=bool), CONV_1X1, CONV_3X3)[:count]


def cheap(count: int) -> np.ndarray:
    """Other cells [count, 6], with nothing to train in them."""
    rows = itertools.product((SKIP, NONE), repeat=5)
    return np.array([(SKIP, *row) for row in itertools.islice(rows, count)])


def epochs_for(child_seconds: float) -> int:
    """How many epochs a costly cell needs to take so long."""
    evaluator(1).evaluate(cheap(1))  # the first training of a process takes longer
    first, last = (evaluator(epochs).evaluate(costly(1)).cost[0] for epochs in (1, 4))
    # A fifth more, so that the fastest child takes long enough, too.
    return max(1, math.ceil(1.2 * child_seconds / max(1e-3, (last - first) / 3)))


def children_per_minute(
    workers: int, pool: str, children: int, epochs: int, taken: list[float]
) -> float:
    """Children per minute of a fresh evaluator; one worker's seconds of each go into ``taken``."""
    with evaluator(epochs, workers=workers, pool=pool) as trainer:
        trainer.evaluate(cheap(2 * workers))  # enough that each worker gets some
        records: list[Any] = []
        spent = seconds(lambda: records.extend(trainer.records(costly(children))))
    if workers == 1:
        taken += [record["seconds"] for record in records]
    return 60 * children / spent


def evaluator(epochs: int, **kwargs: Any) -> TrainingEvaluator:
    """Trains small networks on scikit-learn's digits; it knows nothing of other evaluators."""
    return TrainingEvaluator(
        Cell201(), recipe=Recipe(epochs=epochs), device="cpu",
        build_kwargs={"channels": 16, "cells": 3}, **kwargs,
    )  # fmt: skip
