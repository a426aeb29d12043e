"""REINFORCE (Williams 1992) with a per-step batch baseline, from top to bottom in one file.

All rows run one whole episode. The return that follows step t is compared with the mean over the
batch at the same t: problems differ, but at the same step of their optimisation they are alike
enough that this baseline needs no network. One gradient step per batch.

A run resumes bit for bit (on one thread): weights, Adam's moments, and the states of both
generators and of the environment are in the checkpoint.

Lecture topic: learning to optimise, by reinforcement learning.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import nn

from metagym.agents import trained
from metagym.agents.validation import Validation
from metagym.checkpoint import load_checkpoint, save_checkpoint
from metagym.core import Agent
from metagym.errors import InvalidArgumentError
from metagym.monitoring import RunLogger, progress_bar
from metagym.optim.policy import num_outputs
from metagym.rl.networks import MLP, policy_arrays
from metagym.rl.training import (
    Budget,
    Looks,
    Saver,
    get_training_state,
    make_training_env,
    one_thread,
    rows_for,
    set_training_state,
    training_record,
)

NAME = "reinforce"


@dataclass(frozen=True)
class Config:
    """REINFORCE with a per-step batch baseline.

    Args:
        view: gains per "problem", gains per "coordinate", the "raw" action, or "auto": per problem
            where the action is a parameter update, raw elsewhere.
        step_size: of the rule: one over the largest "curvature"; "polyak" or "rms" under minibatch
            noise.
        memory: how long the rule remembers the largest curvature; 1 is for ever.
        reward: the reward to train on, where the environment has it.
        steps: environment steps, unless the command line says how long.
        num_envs: episodes per gradient step.
        learning_rate: of Adam, annealed to 2 % of it.
        discount: γ.
        hidden: widths of the actor, tanh.
        log_std_init: log standard deviation of exploration at the start.
        max_grad_norm: gradients are clipped to this norm.
    """

    view: Literal["auto", "problem", "coordinate", "raw"] = "auto"
    step_size: Literal["curvature", "polyak", "rms"] = "curvature"
    memory: float = 0.98
    reward: str = "log_improvement"
    steps: int = 30_000_000
    num_envs: int = 256
    learning_rate: float = 1e-2
    discount: float = 0.95
    hidden: tuple[int, ...] = (32, 32)
    log_std_init: float = -1.0
    max_grad_norm: float = 0.5


ITERATIONS = 50  # about, of a recipe that knows how few steps there are


def recipe(
    env_id: str, steps: int | None = None, env_kwargs: dict[str, Any] | None = None
) -> Config:
    """The defaults, with fewer episodes a gradient step where there are few environment steps.

    Args:
        env_id: the environment.
        steps: of training, where they are few.
        env_kwargs: of the environment.
    """
    if steps is None:
        return Config()
    episodes = rows_for(env_id, steps, ITERATIONS, env_kwargs)
    return Config(num_envs=min(Config.num_envs, episodes))


class Actor(nn.Module):
    """Means by a small network over the last axis, with one log std per last-axis action.

    Without a ``log_std`` what the network gives are the logits of discrete actions.
    """

    def __init__(
        self, inputs: int, hidden: tuple[int, ...], outputs: int, log_std: float | None
    ) -> None:
        super().__init__()
        self.network = MLP((inputs, *hidden, outputs), output_gain=0.01)
        self.log_std = None if log_std is None else nn.Parameter(torch.full((outputs,), log_std))

    def act(self, observations: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
        """A draw for observations [B, ...]: actions [B, ...], or their numbers [B]."""
        means = self.network(observations)
        if self.log_std is None:
            return torch.multinomial(means.softmax(1), 1, generator=noise)[:, 0]
        return means + self.log_std.exp() * torch.randn(means.shape, generator=noise)

    def log_prob(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """[T, B] for observations [T, B, ...] and their actions."""
        means = self.network(observations)
        if self.log_std is None:
            return means.log_softmax(2).gather(2, actions[..., None])[..., 0]
        normal = torch.distributions.Normal(means, self.log_std.exp())
        return normal.log_prob(actions).flatten(2).sum(2)


@dataclass
class Batch:
    """One episode of every row; a row counts while ``alive``."""

    observations: torch.Tensor  # [T, B, ...]
    actions: torch.Tensor  # [T, B, ...]
    rewards: torch.Tensor  # [T, B]
    alive: torch.Tensor  # [T, B] bool
    scores: np.ndarray  # [B]


def train(
    env_id: str,
    out: str | Path,
    config: Config = Config(),
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
        env_id: the environment; its episodes have to end by themselves.
        out: the folder.
        config: hyperparameters.
        seed: of weights, tasks and exploration.
        steps: environment steps in total, those before a resume included; ``config.steps`` if
            neither it nor ``seconds`` is given.
        seconds: stop after so many, those before a resume included; with it the number of steps
            depends on the machine.
        resume: go on from the checkpoint in ``out``; with ``steps`` to the same numbers, bit for
            bit, as if there had been no break.
        env_kwargs: of the environment.
        progress: show a progress bar.

    Returns:
        ``out``.

    Raises:
        KeyboardInterrupt: after saving.
        CheckpointError: there is nothing to resume from, or ``env_kwargs`` cannot be stored.
    """
    out, env_kwargs = Path(out), env_kwargs or {}
    if steps is None and seconds is None:
        steps = config.steps
    with one_thread():
        env, rule = make_training_env(
            env_id, config.num_envs, "Disabled", view=config.view,
            step_size=config.step_size, memory=config.memory, reward=config.reward,
            env_kwargs=env_kwargs,
        )  # fmt: skip
        actor = _make_actor(env, config, seed)
        optimizer = torch.optim.Adam(actor.parameters(), lr=config.learning_rate)
        noise = torch.Generator().manual_seed(seed)
        steps_done, seconds_before = 0, 0.0
        env.reset(seed=seed)
        if resume:
            saved = load_checkpoint(out, NAME)
            set_training_state(saved.extra(), actor, optimizer, noise, env)
            steps_done, seconds_before = (saved.config["training"][k] for k in ("steps", "seconds"))
        budget = Budget(steps, seconds, seconds_before)

        def snapshot() -> tuple[Any, ...]:
            """The checkpoint of this moment, between two batches."""
            config_json = {
                "agent": NAME, "env_id": env_id, "env_kwargs": env_kwargs, "config": asdict(config),
                "rule": None if rule is None else rule.config,
                "training": training_record(
                    env, steps_done, budget.elapsed, seed
                ),
            }  # fmt: skip
            weights = policy_arrays(actor.network, actor.log_std)
            return config_json, weights, get_training_state(actor, optimizer, noise, env)

        # Ctrl-C falls anywhere in a batch; what it saves is the end of the last whole one.
        latest = snapshot()
        saver = Saver(lambda: save_checkpoint(out, *latest))
        validation = Validation(env_id, env_kwargs)
        settings = {"agent": NAME, "env": env_id, "seed": seed, **asdict(config)}
        with (
            RunLogger(out, settings, resume_step=steps_done if resume else None) as log,
            progress_bar(
                f"{NAME} {env_id}",
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
                    start = time.perf_counter()
                    batch = _play(env, actor, noise)
                    for group in optimizer.param_groups:
                        group["lr"] = config.learning_rate * max(0.02, 1.0 - used)
                    numbers = _update(actor, optimizer, batch, config)
                    steps_done += int(batch.alive.sum())
                    latest = snapshot()
                    saver.now_and_then()
                    numbers["train/seconds_per_update"] = time.perf_counter() - start
                    _log(log, batch, numbers, steps_done)
                    show(steps_done, f"score {batch.scores.mean():.2f}")
                    used = budget.used(steps_done)
                    if looks.due(used):
                        saver.now()
                        validation.look(load(out), NAME, log, steps_done)
            finally:
                saver.now()
                env.close()
    return out


def load(folder: str | Path) -> Agent:
    """The agent of a checkpoint folder, deterministic."""
    return trained.load(folder, NAME)


def _make_actor(env: VectorEnv, config: Config, seed: int) -> Actor:
    base: Any = env.unwrapped
    if base.horizon is None and getattr(base, "trial_length", None) is None:
        raise InvalidArgumentError(
            f"{env} has neither a horizon nor a trial length; REINFORCE needs whole episodes."
        )
    inputs, actions = env.single_observation_space.shape, env.single_action_space
    assert inputs
    log_std = None if isinstance(actions, gym.spaces.Discrete) else config.log_std_init
    with torch.random.fork_rng(devices=[]):  # torch initialises from its global generator
        torch.manual_seed(seed)
        return Actor(inputs[-1], config.hidden, num_outputs(actions), log_std)


@torch.no_grad()
def _play(env: VectorEnv, actor: Actor, noise: torch.Generator) -> Batch:
    """One episode of every row."""
    observation, _ = env.reset()
    alive = np.ones(env.num_envs, dtype=bool)
    scores = np.zeros(env.num_envs)
    steps: list[tuple[Any, ...]] = []
    while alive.any():
        observed = torch.as_tensor(observation)
        action = actor.act(observed, noise)
        observation, reward, terminated, truncated, infos = env.step(action.numpy())
        steps.append((observed, action, torch.as_tensor(reward), torch.as_tensor(alive)))
        ended = alive & (terminated | truncated)
        if ended.any() and "score" in infos:
            scores[ended] = infos["score"][ended]
        alive = alive & ~ended
    observations, actions, rewards, active = (torch.stack(c) for c in zip(*steps, strict=True))
    return Batch(observations, actions, rewards, active, scores)


def _update(
    actor: Actor, optimizer: torch.optim.Adam, batch: Batch, config: Config
) -> dict[str, float]:
    """One step up the policy gradient; returns what to log."""
    alive = batch.alive.float()
    togo = torch.zeros_like(batch.rewards)
    running = torch.zeros(batch.rewards.shape[1], dtype=batch.rewards.dtype)
    for t in range(len(togo) - 1, -1, -1):
        running = batch.rewards[t] * alive[t] + config.discount * running
        togo[t] = running
    count = alive.sum(1, keepdim=True).clamp(min=1)
    baseline = (togo * alive).sum(1, keepdim=True) / count
    advantage = (togo - baseline) * alive
    spread = (advantage.square().sum(1, keepdim=True) / count).sqrt()
    advantage = (advantage / (spread + 1e-8)).float()

    log_prob = actor.log_prob(batch.observations, batch.actions)
    loss = -(log_prob * advantage).sum() / alive.sum()
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(actor.parameters(), config.max_grad_norm)
    optimizer.step()
    numbers = {
        "train/policy_gradient_loss": float(loss.detach()),
        "train/grad_norm": float(norm),
        "train/learning_rate": optimizer.param_groups[0]["lr"],
    }
    if actor.log_std is not None:
        numbers["train/std"] = float(actor.log_std.detach().exp().mean())
    return numbers


def _log(log: RunLogger, batch: Batch, numbers: dict[str, float], steps_done: int) -> None:
    lengths = batch.alive.sum(0).numpy()
    returns = (batch.rewards * batch.alive).sum(0).numpy()
    log.rollout(returns, lengths, steps_done, score_mean=batch.scores)
    log.scalars(numbers, steps_done)
