"""REINFORCE on a controller that writes architectures (Zoph & Le 2017), in one file.

Every iteration writes ``num_envs`` architectures, has them scored, and takes one gradient step on
the log-probabilities of their tokens times (reward - baseline). The baseline is an average of past
rewards, so that no critic has to be learned.

A run resumes bit for bit (on one thread): weights, Adam's moments, the average, the best so far,
and the states of the generator and of the environment are in the checkpoint.

Lecture topic: neural architecture search, by reinforcement learning.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from metagym.architectures import PAD, SearchSpace
from metagym.architectures.chain import scheduled_depth
from metagym.checkpoint import load_checkpoint, save_checkpoint
from metagym.core import Agent
from metagym.errors import CheckpointError, InvalidArgumentError, ResetNeededError
from metagym.evaluation.evaluate import make_vector_env
from metagym.monitoring import RunLogger, progress_bar
from metagym.rl.architecture_reinforce import (
    Best,
    Critic,
    Written,
    describe,
    differentiate,
    make_policy,
    next_tokens,
    note,
    space_of,
    write,
)
from metagym.rl.controller import Controller
from metagym.rl.search_chart import SearchChart
from metagym.rl.training import (
    Budget,
    Looks,
    Saver,
    get_training_state,
    one_thread,
    set_training_state,
    training_record,
)

NAME = "controller"
NAMES = (NAME, "async_controller")  # whose checkpoints a ControllerAgent acts with


@dataclass(frozen=True)
class Config:
    """REINFORCE on an LSTM that writes architectures; the defaults are Zoph & Le's.

    Args:
        width: units of each layer of the LSTM.
        layers: of the LSTM.
        steps: tokens, unless the command line says how long.
        num_envs: architectures to a gradient step.
        learning_rate: of Adam.
        baseline: what rewards are compared with: an exponential moving average ("ema") or the
            mean of the last ones ("window").
        memory: of the baseline: the weight of what it was ("ema": in [0, 1)) or how many rewards
            ("window": a whole number).
        advantage: rewards minus the baseline as they are ("raw"), or their ranks among the last
            256 rewards, from -1 to 1 ("rank"), which make the scale of rewards irrelevant.
        entropy: coefficient of the entropy bonus.
        schedule: whether chains begin with their shortest depth and grow by two layers every
            1,600 architectures; see ``metagym.architectures.chain.scheduled_depth``.
        max_grad_norm: gradients are clipped to this norm.
    """

    width: int = 35
    layers: int = 2
    steps: int = 60_000
    num_envs: int = 8
    learning_rate: float = 6e-4
    baseline: Literal["ema", "window"] = "ema"
    memory: float = 0.95
    advantage: Literal["raw", "rank"] = "raw"
    entropy: float = 0.0
    schedule: bool = False
    max_grad_norm: float = 5.0

    def __post_init__(self) -> None:
        if self.baseline == "ema" and not 0.0 <= self.memory < 1.0:
            raise InvalidArgumentError(
                f"memory={self.memory!r} has to be in [0, 1) with baseline='ema'."
            )
        if self.baseline == "window" and not (self.memory >= 1 and self.memory == int(self.memory)):
            raise InvalidArgumentError(
                f"memory={self.memory!r} has to be a whole number of rewards with "
                "baseline='window'."
            )


def train(
    env_id: str,
    out: str | Path,
    config: Config | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    seconds: float | None = None,
    resume: bool = False,
    env_kwargs: dict[str, Any] | None = None,
    progress: bool = True,
) -> Path:
    """Train and keep checkpoints and TensorBoard logs in ``out``.

    Args:
        env_id: an architecture search.
        out: the folder.
        config: hyperparameters.
        seed: of weights, trainings and exploration.
        steps: tokens in total, those before a resume included; ``config.steps`` if neither it nor
            ``seconds`` is given.
        seconds: stop after so many, those before a resume included.
        resume: go on from the checkpoint in ``out``.
        env_kwargs: of the environment.
        progress: show a progress bar.

    Returns:
        ``out``.

    Raises:
        KeyboardInterrupt: after saving.
        InvalidArgumentError: ``env_id`` is no architecture search, or has no depth to schedule.
        CheckpointError: there is nothing to resume from, or ``env_kwargs`` cannot be stored.
    """
    out, env_kwargs, config = Path(out), env_kwargs or {}, config or Config()
    if steps is None and seconds is None:
        steps = config.steps
    env = make_vector_env(env_id, config.num_envs, "train", env_kwargs)
    space = space_of(env, env_id)
    check_schedule(config, space, env_id)
    policy = make_policy(space, config.width, config.layers, seed)
    optimizer = torch.optim.Adam(policy.parameters(), lr=config.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    critic = Critic(config.baseline, config.memory, config.advantage)
    best, steps_done, seconds_before = Best(), 0, 0.0
    env.reset(seed=seed)
    if resume:
        saved = load_checkpoint(out, NAME)
        state = saved.extra()
        set_training_state(state, policy, optimizer, generator, env)
        critic.set_state(state["critic"])
        best = Best(**state["best"])
        steps_done, seconds_before = (saved.config["training"][k] for k in ("steps", "seconds"))
    budget = Budget(steps, seconds, seconds_before)

    def snapshot() -> tuple[Any, ...]:
        """The checkpoint of this moment, between two iterations."""
        config_json = {
            "agent": NAME, "env_id": env_id, "env_kwargs": env_kwargs, "config": asdict(config),
            "space": describe(space),
            "training": training_record(env, steps_done, budget.elapsed, seed),
        }  # fmt: skip
        state = get_training_state(policy, optimizer, generator, env)
        state["critic"] = critic.get_state()
        state["best"] = asdict(best)
        return config_json, state["model"], state

    latest = snapshot()  # Ctrl-C falls anywhere; what it saves is the last whole iteration
    saver = Saver(lambda: save_checkpoint(out, *latest))
    chart = SearchChart(env.unwrapped.evaluator)  # type: ignore[attr-defined]
    settings = {"agent": NAME, "env": env_id, "seed": seed, **asdict(config)}
    before: dict[str, Any] = {"resume_step": steps_done, "resume_cost": best.cost} if resume else {}
    with (
        one_thread(),
        RunLogger(out, settings, **before) as log,
        progress_bar(
            f"controller {env_id}",
            steps=steps,
            seconds=seconds,
            before=budget.before,
            shown=progress,
        ) as show,
    ):
        used = budget.used(steps_done)
        looks = Looks(used)
        try:
            while used < 1.0:
                written = write(env, policy, generator, depth_of(config, space, best.count))
                numbers = update(policy, optimizer, written, critic, config)
                steps_done += int((written.tokens != PAD).sum())
                note(log, written, numbers, best, space, steps_done)
                used = budget.used(steps_done)
                if looks.due(used):
                    chart.look(best, log, steps_done)
                latest = snapshot()
                saver.now_and_then()
                show(steps_done, f"reward {written.rewards.mean():.4f}, best {best.reward:.4f}")
        finally:
            saver.now()
            env.close()
    return out


def update(
    policy: Controller,
    optimizer: torch.optim.Adam,
    written: Written,
    critic: Critic,
    config: Config,
) -> dict[str, float]:
    """One gradient step; returns what to log."""
    advantages = critic.advantages(written.rewards)
    critic.update(written.rewards)
    numbers = differentiate(
        policy, written, advantages,
        entropy_coefficient=config.entropy, max_grad_norm=config.max_grad_norm,
    )  # fmt: skip
    optimizer.step()
    return {**numbers, "train/baseline": float(critic.average or 0.0)}


def depth_of(config: Config, space: Any, count: int) -> int | None:
    """What ``write`` is told of the depth, when ``count`` architectures have been written."""
    if not config.schedule:
        return None
    return int(min(max(scheduled_depth(count), space.shortest), space.depth))


def check_schedule(config: Config, space: SearchSpace, env_id: str) -> None:
    """Raises InvalidArgumentError where there is no depth to schedule."""
    if not config.schedule:
        return
    if not hasattr(space, "depth_mask"):
        raise InvalidArgumentError(
            f"schedule=True needs a space of chains; {env_id} has {space.name!r}."
        )
    chain: Any = space
    if chain.shortest == chain.depth:
        raise InvalidArgumentError(
            f"schedule=True needs chains that can grow; those of {env_id} all have {chain.depth} "
            f"layers. Give it a space with shortest < depth, such as "
            f'space_kwargs={{"shortest": 6, "depth": 12}}.'
        )


def load(folder: str | Path) -> Agent:
    """The agent of a checkpoint folder; it writes by drawing from its distribution."""
    return ControllerAgent(folder)


class ControllerAgent:
    """A trained controller, acting in an architecture search over the space it was trained on.

    Args:
        folder: what the training wrote.
        stochastic: draw tokens; else take the likeliest, so that all architectures are one.
        seed: of the draws.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, or another agent's.
    """

    def __init__(self, folder: str | Path, *, stochastic: bool = True, seed: int = 0) -> None:
        self._checkpoint = load_checkpoint(folder)
        self.name = self._checkpoint.config["agent"]
        if self.name not in NAMES:
            raise CheckpointError(
                f"{folder} is a checkpoint of the agent {self.name!r}, not of {' or '.join(NAMES)}."
            )
        self.training = self._checkpoint.config["training"]
        self.config = {**self._checkpoint.config["config"], "checkpoint": Path(folder).name}
        self._generator = torch.Generator().manual_seed(seed) if stochastic else None
        self._policy: Controller | None = None

    def bind(self, env: VectorEnv) -> None:
        """Make the policy for ``env``.

        Raises:
            CheckpointError: it was trained on another space.
        """
        space = space_of(env, str(getattr(env.spec, "id", env)))
        if describe(space) != self._checkpoint.config["space"]:
            raise CheckpointError(
                f"{self._checkpoint.folder} was trained on {self._checkpoint.config['space']}, "
                f"this environment has {describe(space)}."
            )
        config = self._checkpoint.config["config"]
        self._policy = Controller(space, width=config["width"], layers=config["layers"])
        weights = {k: torch.tensor(v) for k, v in self._checkpoint.weights.items()}
        self._policy.load_state_dict(weights)

    def reset(self, mask: np.ndarray) -> None:
        """Nothing to forget: the observation holds all tokens so far."""

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        """The next token of every row [B]; rows may have written differently many."""
        if self._policy is None:
            raise ResetNeededError("Call bind(env) first, as metagym.evaluation.evaluate does.")
        tokens = np.asarray(observations)[:, 1:]
        tokens = np.where(tokens >= self._policy.head.out_features, PAD, tokens)
        if action_masks is None:
            action_masks = np.ones((len(tokens), self._policy.head.out_features), dtype=bool)
        counts = np.minimum((tokens != PAD).sum(axis=1), tokens.shape[1] - 1)
        actions = np.zeros(len(tokens), dtype=np.int64)
        with one_thread():
            for count in np.unique(counts):
                rows = np.flatnonzero(counts == count)
                actions[rows] = next_tokens(
                    self._policy, tokens[rows, :count], action_masks[rows], self._generator
                )
        return actions
