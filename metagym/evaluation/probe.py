"""How ``check_vector_env`` plays with an environment: recorded runs, and what compares them.

Kept apart from the rules in ``checks.py``, so that a rule reads as what it demands.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import iterate

# Steps over which the batch is compared with single environments, and its tolerances.
COMPARED_STEPS = 20
RTOL, ATOL = 1e-4, 1e-5


class Step(NamedTuple):
    """One transition, as deep copies. ``waiting``: rows whose episode was over before it."""

    waiting: np.ndarray
    actions: Any
    observations: Any
    rewards: Any
    terminated: Any
    truncated: Any
    infos: dict[str, Any]

    @property
    def done(self) -> np.ndarray:
        return np.asarray(self.terminated, dtype=bool) | np.asarray(self.truncated, dtype=bool)

    @property
    def outcome(self) -> tuple[Any, ...]:
        return self.observations, self.rewards, self.terminated, self.truncated


@dataclass
class Run:
    """A recorded run: the reset, the steps, and the very arrays that the environment returned."""

    observations: Any
    infos: dict[str, Any]
    steps: list[Step] = field(default_factory=list)
    returned: list[tuple[Any, Any]] = field(default_factory=list)  # (what came, its deep copy)

    @property
    def outcomes(self) -> list[Any]:
        return [self.observations, *(step.outcome for step in self.steps)]


@dataclass
class Probe:
    env: VectorEnv
    make_single: Callable[[], gym.Env] | None
    length: int
    seed: int

    @property
    def mode(self) -> AutoresetMode:
        return self.env.metadata["autoreset_mode"]

    @cached_property
    def run(self) -> Run:
        """The run that most rules look at."""
        return self.play(self.seed)

    def sampler(self, seed: int) -> Callable[[dict[str, Any]], Any]:
        """Random actions, legal where ``infos`` holds an action mask, from a stream of its own."""
        space = copy.deepcopy(self.env.action_space)
        space.seed(seed)

        def sample(infos: dict[str, Any]) -> Any:
            masks = infos.get("action_mask")
            if masks is None or not isinstance(space, gym.spaces.MultiDiscrete):
                return space.sample()
            return space.sample(mask=tuple(np.asarray(masks, dtype=np.int8)))

        return sample

    def play(
        self, seed: int, *, other_actions_on_reset: bool = False, scribble: bool = False
    ) -> Run:
        """Record a run; ``scribble`` overwrites every returned array once it is recorded."""
        env, sample, other = self.env, self.sampler(self.seed), self.sampler(self.seed + 1)
        observations, infos = env.reset(seed=seed)
        run = Run(copy.deepcopy(observations), copy.deepcopy(infos))
        run.returned.append(((observations, infos), (run.observations, run.infos)))
        waiting, latest = np.zeros(env.num_envs, dtype=bool), run.infos
        for _ in range(self.length):
            if scribble:
                _scribble(run.returned[-1][0])
            if self.mode is AutoresetMode.DISABLED and waiting.any():
                _, latest = env.reset(options={"reset_mask": waiting.copy()})
                waiting = np.zeros_like(waiting)
            actions = sample(latest)
            if other_actions_on_reset and waiting.any():
                actions[waiting] = other(latest)[waiting]
            returned = env.step(copy.deepcopy(actions))
            step = Step(waiting, actions, *copy.deepcopy(returned))
            run.steps.append(step)
            run.returned.append((returned, (*step.outcome, step.infos)))
            waiting, latest = step.done, step.infos
        return run


def leaves(tree: Any) -> Iterator[np.ndarray]:
    """The arrays in nested mappings, tuples and object arrays; numbers count as arrays."""
    if isinstance(tree, Mapping):
        tree = tuple(tree.values())
    if isinstance(tree, np.ndarray) and tree.dtype == object:
        tree = tuple(tree.flat)
    if isinstance(tree, (tuple, list)):
        for part in tree:
            yield from leaves(part)
    elif isinstance(tree, (np.ndarray, np.generic, int, float)):
        yield np.asarray(tree)


def _scribble(tree: Any) -> None:
    for leaf in leaves(tree):
        if leaf.flags.writeable:
            leaf[...] = ~leaf if leaf.dtype == bool else np.full_like(leaf, 113)


def same(a: Any, b: Any, close: bool = False) -> bool:
    """Whether two trees of arrays hold equal (or close) values; NaN equals NaN."""
    left, right = list(leaves(a)), list(leaves(b))
    if len(left) != len(right):
        return False
    for x, y in zip(left, right, strict=True):
        if x.shape != y.shape:
            return False
        if close and not np.allclose(x, y, rtol=RTOL, atol=ATOL, equal_nan=True):
            return False
        if not close and not np.array_equal(x, y, equal_nan=x.dtype.kind == "f"):
            return False
    return True


def take_row(tree: Any, row: int) -> Any:
    return tuple(leaf[row] for leaf in leaves(tree))


def take_rows(tree: Any, rows: np.ndarray) -> Any:
    return tuple(leaf[rows] for leaf in leaves(tree))


def all_finite(tree: Any) -> bool:
    return all(np.isfinite(leaf).all() for leaf in leaves(tree) if leaf.dtype.kind == "f")


def single_maker(p: Probe) -> Callable[[], gym.Env] | None:
    if p.make_single is not None or p.env.spec is None:
        return p.make_single
    spec, batch_only = p.env.spec, ("num_envs", "vectorization_mode", "autoreset_mode")
    kwargs = {name: value for name, value in spec.kwargs.items() if name not in batch_only}
    return lambda: gym.make(spec.id, disable_env_checker=True, **kwargs)


def play_tasks(
    p: Probe, task: dict[str, np.ndarray]
) -> tuple[list[list[Any]], list[list[tuple[Any, ...]]]]:
    """Actions [step][row] and outcomes [step + 1][row] of the batch on the given tasks."""
    sample = p.sampler(p.seed)
    observations, infos = p.env.reset(seed=p.seed, options={"task": copy.deepcopy(task)})
    rows = range(p.env.num_envs)
    outcomes = [[take_row(observations, row) for row in rows]]
    actions = []
    for _ in range(COMPARED_STEPS):
        chosen = sample(infos)
        actions.append(copy.deepcopy(list(iterate(p.env.action_space, chosen))))
        observations, rewards, terminated, truncated, infos = p.env.step(chosen)
        final = infos.get("final_obs", np.full(p.env.num_envs, None))
        outcomes.append(
            [
                (
                    take_row(observations, row) if final[row] is None else final[row],
                    rewards[row],
                    terminated[row],
                    truncated[row],
                )
                for row in rows
            ]
        )
        if p.mode is AutoresetMode.DISABLED and (terminated | truncated).any():
            break
    return actions, outcomes


def play_single(
    make_single: Callable[[], gym.Env], task: dict[str, Any], actions: list[Any], seed: int
) -> list[Any]:
    """The outcomes of one episode, of its start first, up to its end."""
    env = make_single()
    try:
        outcomes = [env.reset(seed=seed, options={"task": task})[0]]
        for action in actions:
            *outcome, _ = env.step(action)
            outcomes.append(tuple(outcome))
            if outcome[2] or outcome[3]:
                break
        return outcomes
    finally:
        env.close()
