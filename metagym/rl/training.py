"""What every training run of ours needs: the view of the environment, the budget, one thread."""

from __future__ import annotations

import contextlib
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import nn

from metagym.core.optimization import REWARDS, OptimizationEnv, acts_by_updates
from metagym.errors import CheckpointError, InvalidArgumentError, check_choice, check_positive
from metagym.evaluation.evaluate import make_vector_env
from metagym.optim.gains import GainRule
from metagym.wrappers import GainActions, SymlogObservations

VIEWS = ("auto", "problem", "coordinate", "raw")
SAVE_SECONDS = 60.0  # between two saves of a run
LOOKS = 10  # at held-out tasks, after the first
FEWEST_ROWS = 16


def make_training_env(
    env_id: str,
    num_envs: int,
    autoreset_mode: str,
    *,
    view: str,
    step_size: str = "curvature",
    memory: float = 1.0,
    reward: str | None,
    env_kwargs: dict[str, Any],
) -> tuple[VectorEnv, GainRule | None]:
    """The train split of ``env_id`` as an agent sees it.

    Args:
        env_id, num_envs, autoreset_mode, env_kwargs: of the environment.
        view: ``"problem"`` and ``"coordinate"`` act with the gains of a ``GainRule``; ``"raw"``
            acts as the environment does, on symlog observations; ``"auto"`` is "problem" where
            the action is a parameter update and "raw" elsewhere.
        step_size, memory: of the ``GainRule``.
        reward: what to train on, where the environment has it and ``env_kwargs`` does not say.

    Returns:
        The wrapped batch, and the rule whose gains are the action (None for the raw view).

    Raises:
        InvalidArgumentError: the view does not fit, there is no such reward, the environment is
            not one of metagym's, or a small network can neither read its observations nor write
            its actions.
    """
    check_choice("view", view, VIEWS)
    if reward is not None:
        check_choice("reward", reward, REWARDS)
    for name in ("num_envs", "split", "autoreset_mode"):
        if name in env_kwargs:
            raise InvalidArgumentError(f"env_kwargs cannot hold {name!r}; training sets it.")
    kwargs = {"split": "train", "autoreset_mode": autoreset_mode, **env_kwargs}
    try:
        env = gym.make_vec(env_id, num_envs, **kwargs)
    except TypeError as error:
        raise InvalidArgumentError(
            f"{env_id} cannot be trained on, only metagym's environments can: {error}."
        ) from error
    base = env.unwrapped
    if not isinstance(base.single_observation_space, gym.spaces.Box):
        raise InvalidArgumentError(
            f"{env_id} has the observations {base.single_observation_space}; this agent needs a "
            "Box. Architectures are written by the agents 'controller' and 'async_controller'."
        )
    if not isinstance(base.single_action_space, gym.spaces.Box | gym.spaces.Discrete):
        raise InvalidArgumentError(
            f"{env_id} has the actions {base.single_action_space}; this agent needs a Box or "
            "discrete ones."
        )
    if isinstance(base, OptimizationEnv) and reward in base.rewards and "reward" not in env_kwargs:
        env.close()
        env = gym.make_vec(env_id, num_envs, **kwargs, reward=reward)
    if view == "auto":
        view = "problem" if acts_by_updates(base) else "raw"
    if view == "raw":
        return SymlogObservations(env), None
    rule = GainRule(per=view, step_size=step_size, memory=memory)
    return GainActions(env, rule), rule


def episode_length(env: VectorEnv) -> int:
    """The most steps of an episode, as far as the environment tells."""
    base: Any = env.unwrapped
    for name in ("trial_length", "horizon"):
        if isinstance(length := getattr(base, name, None), int):
            return length
    return int(getattr(env.spec, "max_episode_steps", None) or 100)


def rows_for(env_id: str, steps: int, iterations: int, env_kwargs: dict[str, Any] | None) -> int:
    """How many rows of whole episodes make about so many iterations of so few steps.

    Args:
        env_id, env_kwargs: the environment, by which episodes are as long as they are.
        steps: environment steps of the training.
        iterations: of one episode in every row; the last one ends not far beyond ``steps``.

    Returns:
        A multiple of four, ``FEWEST_ROWS`` at least.
    """
    env = make_vector_env(env_id, 1, "train", env_kwargs or {})
    length = episode_length(env)
    env.close()
    return max(FEWEST_ROWS, steps // (iterations * length) // 4 * 4)


@dataclass
class Budget:
    """How long to train: environment steps, seconds, or whichever ends first.

    Args:
        steps: environment steps of all rows together, those before a resume included.
        seconds: of training, those before a resume included; the clock starts with the first
            ``used``.
        before: seconds of training before a resume.

    Raises:
        InvalidArgumentError: there is no limit, or one that is not positive.
    """

    steps: int | None
    seconds: float | None
    before: float = 0.0
    _start: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None:
            raise InvalidArgumentError("A training run needs a limit: steps or seconds.")
        if self.steps is not None:
            check_positive("steps", self.steps)
        if self.seconds is not None and not 0.0 < self.seconds < float("inf"):
            raise InvalidArgumentError(f"seconds={self.seconds!r} has to be positive and finite.")

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, those before a resume included."""
        now = time.perf_counter()
        return self.before + (0.0 if self._start is None else now - self._start)

    def used(self, steps_done: int) -> float:
        """The share of the budget that is used up, in [0, 1]."""
        if self._start is None:
            self._start = time.perf_counter()
        shares = [0.0]
        if self.steps:
            shares.append(steps_done / self.steps)
        if self.seconds:
            shares.append(self.elapsed / self.seconds)
        return min(1.0, max(shares))


class Looks:
    """When a run looks at held-out tasks: at its start, ten times more, the last time at its end.

    Args:
        used: the share of the budget that was used up before a resume.
    """

    def __init__(self, used: float = 0.0) -> None:
        self._next = used

    def due(self, used: float) -> bool:
        """Whether to look after an iteration, when the share ``used`` of the budget is gone."""
        if used < self._next:
            return False
        self._next = (math.floor(used * LOOKS) + 1) / LOOKS
        return True


class Saver:
    """Saves a run while it goes on, so that one that is killed has lost a minute.

    The first time is at once: what cannot be stored is refused before anything has been trained.

    Args:
        save: writes the checkpoint of the last whole iteration.

    Raises:
        CheckpointError: the checkpoint cannot be stored.
    """

    def __init__(self, save: Callable[[], object]) -> None:
        self._save = save
        self.now()

    def now(self) -> None:
        """Save."""
        self._save()
        self._last = time.monotonic()

    def now_and_then(self) -> None:
        """Save if the last time is a minute ago."""
        if time.monotonic() - self._last >= SAVE_SECONDS:
            self.now()


def training_record(env: VectorEnv, steps: int, seconds: float, seed: int) -> dict[str, Any]:
    """What a checkpoint says of its training: cost, seed, reward, command and versions."""
    return {
        "steps": steps,
        "seconds": round(seconds, 1),
        "seed": seed,
        "reward": getattr(env.unwrapped, "reward", None),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def get_training_state(
    model: nn.Module, optimizer: torch.optim.Adam, generator: torch.Generator, env: VectorEnv
) -> dict[str, Any]:
    """All that the next iteration depends on, as arrays and JSON; it shares no memory."""
    base: Any = env.unwrapped
    moments = optimizer.state_dict()["state"]
    return {
        "model": {name: _array(tensor) for name, tensor in model.state_dict().items()},
        "adam": {
            str(index): {name: _array(tensor) for name, tensor in state.items()}
            for index, state in moments.items()
        },
        "generator": generator.get_state().numpy().copy(),
        "environment": base.get_state() if hasattr(base, "get_state") else None,
    }


def set_training_state(
    state: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Adam,
    generator: torch.Generator,
    env: VectorEnv,
) -> None:
    """Continue from what ``get_training_state`` returned.

    Raises:
        CheckpointError: the model has other weights than the state.
    """
    try:
        model.load_state_dict({name: torch.tensor(value) for name, value in state["model"].items()})
    except RuntimeError as error:
        raise CheckpointError(f"Resume with the config of training: {error}.") from None
    whole = optimizer.state_dict()
    whole["state"] = {
        int(index): {name: torch.tensor(value) for name, value in moments.items()}
        for index, moments in state["adam"].items()
    }
    optimizer.load_state_dict(whole)
    generator.set_state(torch.tensor(state["generator"]))
    base: Any = env.unwrapped
    if state["environment"] is not None:
        base.set_state(state["environment"])


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """``count`` threads of torch inside of the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread() -> AbstractContextManager[None]:
    """One torch thread: faster for small networks, and the same numbers every time."""
    return torch_threads(1)
