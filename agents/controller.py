"""REINFORCE on a controller that writes architectures (Zoph & Le 2017), in one file.

Every iteration writes ``num_envs`` architectures, has them scored, and takes one gradient step on
the log-probabilities of their tokens times (reward - baseline). The baseline is an average of past
rewards, so that no critic has to be learned.

A run resumes bit for bit (on one thread): weights, Adam's moments, the average, the best so far,
and the states of the generator and of the environment are in the checkpoint.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import nn

from metagym.architectures import PAD, SearchSpace
from metagym.architectures.chain import scheduled_depth
from metagym.checkpoint import load_checkpoint, save_checkpoint
from metagym.core import Agent
from metagym.errors import CheckpointError, InvalidArgumentError, ResetNeededError
from metagym.evaluation.evaluate import make_vector_env
from metagym.monitoring import RunLogger, progress_bar
from metagym.rl.controller import Controller
from metagym.rl.training import (
    Budget,
    get_training_state,
    one_thread,
    set_training_state,
    training_record,
)

NAME = "controller"


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


RANKED = 256  # rewards that ranks are taken among


class Critic:
    """What rewards are compared with: an average of past ones, or all of the last ones."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.average: float | None = None
        self.past = np.zeros(0)

    def advantages(self, rewards: np.ndarray) -> np.ndarray:
        """Of the newest rewards [B], before they are taken into account."""
        if self.config.advantage == "rank":
            known = np.concatenate([self.past[-RANKED:], rewards])
            below, upto = ((known[None] < rewards[:, None]), (known[None] <= rewards[:, None]))
            return np.asarray(below.mean(axis=1) + upto.mean(axis=1) - 1.0)
        return rewards - (rewards.mean() if self.average is None else self.average)

    def update(self, rewards: np.ndarray) -> None:
        """Take rewards [B] into account, in their order."""
        longest = max(RANKED, int(self.config.memory))
        self.past = np.concatenate([self.past, rewards])[-longest:]
        if self.config.baseline == "window":
            self.average = float(self.past[-int(self.config.memory) :].mean())
            return
        for reward in rewards:
            before = reward if self.average is None else self.average
            self.average = float(self.config.memory * before + (1.0 - self.config.memory) * reward)


@dataclass
class Best:
    """The best architecture so far by reward, and what the search has cost."""

    reward: float = -np.inf
    test: float = np.nan
    architecture: str = ""
    tokens: np.ndarray | None = None
    cost: float = 0.0
    count: int = 0


@dataclass
class Written:
    """The architectures of one iteration."""

    tokens: torch.Tensor  # [B, length]
    allowed: torch.Tensor  # bool [B, length, V]
    rewards: np.ndarray  # [B]
    infos: dict[str, Any]  # of their ends


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
        seconds: stop after so many seconds.
        resume: go on from the checkpoint in ``out``.
        env_kwargs: of the environment.
        progress: show a progress bar.

    Returns:
        ``out``.

    Raises:
        KeyboardInterrupt: after saving.
        InvalidArgumentError: ``env_id`` is no architecture search, or has no depth to schedule.
        CheckpointError: there is nothing to resume from.
    """
    out, env_kwargs, config = Path(out), env_kwargs or {}, config or Config()
    if steps is None and seconds is None:
        steps = config.steps
    env = make_vector_env(env_id, config.num_envs, "train", env_kwargs)
    space = _space(env, env_id)
    if config.schedule and not hasattr(space, "depth_mask"):
        raise InvalidArgumentError(
            f"schedule=True needs a space of chains; {env_id} has {space.name!r}."
        )
    policy = _make_policy(space, config, seed)
    optimizer = torch.optim.Adam(policy.parameters(), lr=config.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    critic, best, steps_done, seconds_before = Critic(config), Best(), 0, 0.0
    env.reset(seed=seed)
    if resume:
        saved = load_checkpoint(out, NAME)
        state = saved.extra()
        set_training_state(state, policy, optimizer, generator, env)
        critic.average, critic.past = state["critic"]["average"], state["critic"]["past"]
        best = Best(**state["best"])
        steps_done, seconds_before = (saved.config["training"][k] for k in ("steps", "seconds"))
    budget = Budget(steps, seconds)

    def snapshot() -> tuple[Any, ...]:
        """The checkpoint of this moment, between two iterations."""
        config_json = {
            "agent": NAME, "env_id": env_id, "env_kwargs": env_kwargs, "config": asdict(config),
            "space": _describe(space),
            "training": training_record(env, steps_done, seconds_before + budget.elapsed, seed),
        }  # fmt: skip
        state = get_training_state(policy, optimizer, generator, env)
        state["critic"] = {"average": critic.average, "past": critic.past}
        state["best"] = asdict(best)
        return config_json, state["model"], state

    with (
        one_thread(),
        RunLogger(out, resume_step=steps_done if resume else None) as log,
        progress_bar(f"controller {env_id}", steps=steps, seconds=seconds, shown=progress) as show,
    ):
        log.hyperparameters(asdict(config))
        latest = snapshot()  # Ctrl-C falls anywhere; what it saves is the last whole iteration
        try:
            while budget.used(steps_done) < 1.0:
                written = write(env, policy, generator, config, best.count)
                numbers = update(policy, optimizer, written, critic, config)
                steps_done += int((written.tokens != PAD).sum())
                _note(log, written, numbers, best, space, steps_done)
                latest = snapshot()
                show(steps_done, f"reward {written.rewards.mean():.4f}, best {best.reward:.4f}")
        finally:
            save_checkpoint(out, *latest)
            env.close()
    return out


def write(
    env: VectorEnv,
    policy: Controller,
    generator: torch.Generator,
    config: Config,
    count: int,
) -> Written:
    """One architecture in every row; ``count`` have been written before."""
    base: Any = env.unwrapped
    space: Any = base.space
    env.reset()
    tokens = space.empty(env.num_envs)
    masks = np.ones((env.num_envs, space.length, len(space.vocabulary)), dtype=bool)
    rewards, over = np.zeros(env.num_envs), np.zeros(env.num_envs, dtype=bool)
    infos: dict[str, Any] = {}
    for t in range(space.length):
        allowed = base.action_masks()
        if config.schedule:
            depth = min(max(scheduled_depth(count), space.shortest), space.depth)
            allowed = np.where(over[:, None], True, space.depth_mask(tokens, depth))
        # Rows that are over write on behind their end; nobody looks at it.
        actions = _next(policy, tokens[:, :t], allowed, generator)
        masks[:, t] = allowed
        tokens[~over, t] = actions[~over]
        _, reward, terminated, _, infos = env.step(actions)
        rewards += reward
        over = terminated
        if over.all():
            break
    return Written(torch.as_tensor(tokens), torch.as_tensor(masks), rewards, infos)


def update(
    policy: Controller,
    optimizer: torch.optim.Adam,
    written: Written,
    critic: Critic,
    config: Config,
) -> dict[str, float]:
    """One gradient step; returns what to log."""
    advantages = torch.as_tensor(critic.advantages(written.rewards), dtype=torch.float32)
    critic.update(written.rewards)
    alive = written.tokens != PAD
    log_probs = policy.log_probs(written.tokens, written.allowed)
    chosen = log_probs.gather(2, written.tokens.clamp(min=0)[..., None])[..., 0]
    entropies = -(log_probs.exp() * log_probs * written.allowed).sum(dim=2)
    gain = ((chosen * alive).sum(dim=1) * advantages).mean()
    entropy = (entropies * alive).sum() / alive.sum()
    optimizer.zero_grad()
    (-gain - config.entropy * entropy).backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm)
    optimizer.step()
    by_position = ((entropies * alive).sum(dim=0) / alive.sum(dim=0).clamp(min=1)).detach()
    return {
        "train/policy_gradient_loss": -gain.item(), "train/entropy": entropy.item(),
        "train/baseline": float(critic.average or 0.0), "train/grad_norm": norm.item(),
        **{f"tokens/entropy_{t:02}": float(value) for t, value in enumerate(by_position)
           if alive[:, t].any()},
    }  # fmt: skip


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
        self._checkpoint = load_checkpoint(folder, NAME)
        self.name = NAME
        self.training = self._checkpoint.config["training"]
        self.config = {**self._checkpoint.config["config"], "checkpoint": Path(folder).name}
        self._generator = torch.Generator().manual_seed(seed) if stochastic else None
        self._policy: Controller | None = None

    def bind(self, env: VectorEnv) -> None:
        """Make the policy for ``env``.

        Raises:
            CheckpointError: it was trained on another space.
        """
        space = _space(env, str(getattr(env.spec, "id", env)))
        if _describe(space) != self._checkpoint.config["space"]:
            raise CheckpointError(
                f"{self._checkpoint.folder} was trained on {self._checkpoint.config['space']}, "
                f"this environment has {_describe(space)}."
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
                actions[rows] = _next(
                    self._policy, tokens[rows, :count], action_masks[rows], self._generator
                )
        return actions


# -- the inside --------------------------------------------------------------------------------


def _space(env: VectorEnv, env_id: str) -> SearchSpace:
    space = getattr(env.unwrapped, "space", None)
    if not isinstance(space, SearchSpace) or not isinstance(
        env.single_observation_space, gym.spaces.MultiDiscrete
    ):
        raise InvalidArgumentError(
            f"{env_id} is no architecture search; the controller writes architectures in "
            "NeuralArchitectureSearch-v0 and its kin."
        )
    return space


def _describe(space: SearchSpace) -> dict[str, Any]:
    return {"name": space.name, "length": space.length, "vocabulary": list(space.vocabulary)}


def _make_policy(space: SearchSpace, config: Config, seed: int) -> Controller:
    with torch.random.fork_rng(devices=[]):  # torch initialises from its global generator
        torch.manual_seed(seed)
        return Controller(space, width=config.width, layers=config.layers)


def _next(
    policy: Controller, tokens: np.ndarray, allowed: np.ndarray, generator: torch.Generator | None
) -> np.ndarray:
    return policy.next_token(torch.as_tensor(tokens), torch.as_tensor(allowed), generator).numpy()


def _note(
    log: RunLogger,
    written: Written,
    numbers: dict[str, float],
    best: Best,
    space: SearchSpace,
    steps_done: int,
) -> None:
    """Keep the best so far and write the charts; a new best is drawn."""
    infos, tokens = written.infos, written.tokens.numpy()
    best.count += len(tokens)
    best.cost += float(infos["cost"].sum())
    row = int(np.argmax(written.rewards))
    if written.rewards[row] > best.reward:
        from metagym.rendering.graphs import draw_graph

        best.reward, best.tokens = float(written.rewards[row]), tokens[row]
        best.test = float(infos["test"][row]) if "test" in infos else float("nan")
        best.architecture = str(infos["architecture"][row])
        log.text("search/best_architecture", best.architecture, steps_done)
        frame = draw_graph(space.graph(tokens[row]), f"reward {best.reward:.4f}", best.architecture)
        log.image("search/best_architecture", frame, steps_done)
    lengths = (tokens != PAD).sum(axis=1)
    log.rollout(written.rewards, lengths, steps_done, score_mean=infos["score"])
    log.scalars(
        {**numbers, "search/best_reward": best.reward, "search/best_test": best.test,
         "search/architectures": best.count}, steps_done,
    )  # fmt: skip
    log.scalar("search/best_reward_by_cost", best.reward, round(best.cost))  # x: seconds
