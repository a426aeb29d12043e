"""RL² (Duan et al. 2016) trained by PPO (Schulman et al. 2017), from top to bottom in one file.

A recurrent policy plays whole trials on tasks it does not know. Its memory is reset between
trials and kept within one, and it maximises the return of the trial: what its weights learn,
slowly, is an algorithm that learns, fast, in its activations.

Every iteration plays one trial in each of ``num_envs`` rows and takes a few epochs of minibatches
of whole trials, back-propagated through all their steps. Advantages are generalised advantage
estimates across the inner episodes of a trial.

A run resumes bit for bit (on one thread): weights, Adam's moments, and the states of the
generator and of the environment are in the checkpoint.

Lecture topic: meta-reinforcement learning, RL².
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from matplotlib.figure import Figure
from torch import nn

from metagym.agents.recurrent import RecurrentAgent
from metagym.agents.validation import Validation
from metagym.checkpoint import load_checkpoint, save_checkpoint
from metagym.core import Agent
from metagym.core.trial import TrialLayout, inner_return_curve
from metagym.errors import InvalidArgumentError
from metagym.evaluation.evaluate import make_vector_env
from metagym.monitoring import RunLogger, progress_bar
from metagym.planning import Ceiling
from metagym.rl.actor_critic import RecurrentActorCritic, describe_space
from metagym.rl.gae import gae
from metagym.rl.training import (
    Budget,
    Looks,
    Saver,
    episode_length,
    get_training_state,
    one_thread,
    rows_for,
    set_training_state,
    training_record,
)

NAME = "rl2"


@dataclass(frozen=True)
class Config:
    """RL² by PPO over whole trials.

    Args:
        core: what remembers: "gru", "lstm" or "snail" (causal convolutions and attention).
        width: of the core.
        interactions: let last state, action and reward multiply on their way in, and read the
            memory by the state; see ``RecurrentActorCritic``.
        steps: environment steps, unless the command line says how long.
        num_envs: trials per iteration.
        minibatch: trials per gradient step.
        epochs: passes over an iteration's trials.
        learning_rate: of Adam, annealed linearly to 2 % of it.
        discount: γ within a trial.
        lam: λ of the generalised advantage estimates.
        entropy: coefficient of the entropy bonus, annealed linearly to 0.
        reward: what to maximise: the rewards as "observed", or their expectations given the task
            where the environment tells them ("expected"): the same objective without the luck of
            the draw. Policies never see them, only the learning signal does.
        clip: of PPO's probability ratios.
        value_coefficient: of the value loss.
        max_grad_norm: gradients are clipped to this norm.
        device: "auto" is a GPU where there is one.
    """

    core: Literal["gru", "lstm", "snail"] = "gru"
    width: int = 48
    interactions: bool = False
    steps: int = 8_000_000
    num_envs: int = 1024
    minibatch: int = 256
    epochs: int = 4
    learning_rate: float = 1e-2
    discount: float = 1.0
    lam: float = 1.0
    entropy: float = 0.01
    reward: Literal["observed", "expected"] = "observed"
    clip: float = 0.2
    value_coefficient: float = 0.5
    max_grad_norm: float = 1.0
    device: str = "auto"


_BANDIT = Config(reward="expected")
_LONG_BANDIT = Config(
    interactions=True, reward="expected", lam=0.9, entropy=0.05, steps=72_000_000,
)  # fmt: skip
_MDP = Config(
    width=128, interactions=True, reward="expected", lam=0.9, entropy=0.03, num_envs=200,
    minibatch=50, epochs=1, learning_rate=6e-3, steps=40_000_000,
)  # fmt: skip
_MAZE = Config(
    width=96, discount=0.99, lam=0.95, entropy=0.02, num_envs=256, minibatch=64, epochs=2,
    learning_rate=3e-3, steps=40_000_000,
)  # fmt: skip

_SEARCH = Config(
    width=64, num_envs=128, minibatch=32, epochs=2, learning_rate=3e-3, lam=0.95, steps=20_000_000,
)  # fmt: skip

# Found on the train split, scored on the validation split: at MetaBandit-v0, MetaBandit-n100-k5-v0,
# MetaTabularMDP-v0 and MetaMaze-v0. Their relatives have the same and were not tried out, but for
# MetaBandit-n10-k10-v0. Mazes want augment=True besides, and architecture searches
# scores="rank" and reward="rarity", with which two short runs were compared on the train split.
RECIPES: dict[str, Config] = {
    "MetaBandit-v0": _BANDIT,
    "MetaBandit-n10-k10-v0": _BANDIT,
    "MetaBandit-n10-k50-v0": _BANDIT,
    **{f"MetaBandit-n{n}-k{k}-v0": _LONG_BANDIT for n in (100, 500) for k in (5, 10, 50)},
    "MetaTabularMDP-v0": _MDP,
    **{f"MetaTabularMDP-n{n}-v0": _MDP for n in (25, 50, 75, 100)},
    "MetaMaze-v0": _MAZE,
    "MetaMaze-9x9-v0": _MAZE,
    "ArchitectureSearchTrial-v0": _SEARCH,
}


ITERATIONS = 10  # about, of a recipe that knows how few steps there are


def recipe(
    env_id: str, steps: int | None = None, env_kwargs: dict[str, Any] | None = None
) -> Config:
    """The hyperparameters that were found to work on ``env_id``; the defaults elsewhere.

    Args:
        env_id: the environment, also as ``module:id``.
        steps: of training, where they are few: an iteration then has fewer trials, so that there
            are about ``ITERATIONS`` of two minibatches, and the last one ends not far beyond.
        env_kwargs: of the environment, by which its trials are as long as they are.
    """
    found = RECIPES.get(env_id.rpartition(":")[2], Config())
    if steps is None:
        return found
    trials = rows_for(env_id, steps, ITERATIONS, env_kwargs)
    if trials >= found.num_envs:
        return found
    return replace(found, num_envs=trials, minibatch=trials // 2)


@dataclass
class Trials:
    """One trial of every row; a step counts where ``alive``."""

    observations: torch.Tensor  # [T, B, ...]
    actions: torch.Tensor  # [T, B] or [T, B, A]
    log_probs: torch.Tensor  # [T, B]
    values: np.ndarray  # [T, B]
    rewards: np.ndarray  # [T, B]
    alive: np.ndarray  # [T, B]
    final_values: np.ndarray  # [B]
    scores: np.ndarray  # [B]
    regrets: np.ndarray | None  # [B], where the environment tells it

    @property
    def lengths(self) -> np.ndarray:
        """Steps per trial, [B]."""
        return self.alive.sum(axis=0)


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
        env_id: the environment; every episode of it is a trial.
        out: the folder.
        config: hyperparameters; ``recipe(env_id)`` by default.
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
    config = recipe(env_id) if config is None else config
    if steps is None and seconds is None:
        steps = config.steps
    device = torch.device(_device(config.device))
    env = make_vector_env(env_id, config.num_envs, "train", env_kwargs)
    policy = _make_policy(env, config, seed).to(device)
    optimizer = torch.optim.Adam(policy.parameters(), lr=config.learning_rate, eps=1e-5)
    generator = torch.Generator(device).manual_seed(seed)
    steps_done, seconds_before = 0, 0.0
    env.reset(seed=seed)
    if resume:
        saved = load_checkpoint(out, NAME)
        set_training_state(saved.extra(), policy, optimizer, generator, env)
        steps_done, seconds_before = (saved.config["training"][k] for k in ("steps", "seconds"))
    budget = Budget(steps, seconds, seconds_before)

    def snapshot() -> tuple[Any, ...]:
        """The checkpoint of this moment, between two iterations."""
        config_json = {
            "agent": NAME, "env_id": env_id, "env_kwargs": env_kwargs, "config": asdict(config),
            "observations": describe_space(env.single_observation_space),
            "actions": describe_space(env.single_action_space),
            "length": episode_length(env),
            "training": training_record(env, steps_done, budget.elapsed, seed),
        }  # fmt: skip
        state = get_training_state(policy, optimizer, generator, env)
        return config_json, state["model"], state

    # Ctrl-C falls anywhere in an iteration; what it saves is the end of the last whole one.
    latest = snapshot()
    saver = Saver(lambda: save_checkpoint(out, *latest))
    validation = Validation(env_id, env_kwargs)
    settings = {"agent": NAME, "env": env_id, "seed": seed, **asdict(config)}
    layout = getattr(env.unwrapped, "layout", None)
    with (
        one_thread(),
        RunLogger(out, settings, resume_step=steps_done if resume else None) as log,
        progress_bar(
            f"rl2 {env_id}", steps=steps, seconds=seconds, before=budget.before, shown=progress
        ) as show,
    ):
        used = budget.used(steps_done)
        looks = Looks(used)
        try:
            while used < 1.0:
                trials = play(env, policy, generator, config.reward)
                if steps_done == 0:
                    policy.set_value_scale(_size_of_returns(trials, config.discount))
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * max(0.02, 1.0 - used)
                entropy = config.entropy * (1.0 - used)
                numbers = update(policy, optimizer, trials, config, entropy, generator)
                steps_done += int(trials.alive.sum())
                latest = snapshot()
                saver.now_and_then()
                curve = _log(log, trials, numbers, layout, steps_done)
                show(steps_done, f"score {trials.scores.mean():.3f}{_beside(validation.ceiling)}")
                used = budget.used(steps_done)
                if looks.due(used):
                    saver.now()
                    drawing = None if curve is None else _figure(curve)
                    validation.look(load(out), NAME, log, steps_done, drawing)
        finally:
            saver.now()
            env.close()
    return out


@torch.no_grad()
def play(
    env: VectorEnv, policy: RecurrentActorCritic, generator: torch.Generator, reward_kind: str
) -> Trials:
    """One trial in every row."""
    device = policy.value.weight.device
    observation, _ = env.reset()
    memory = policy.memory(env.num_envs)  # of the rows that are alive; only they cost a step
    alive = np.ones(env.num_envs, dtype=bool)
    final_values, scores = np.zeros(env.num_envs), np.zeros(env.num_envs)
    returns, regrets = np.zeros(env.num_envs), None
    discrete = policy.discrete
    actions = np.zeros((env.num_envs, *policy.action_shape), np.int64 if discrete else np.float32)
    values, log_probs = np.zeros(env.num_envs, np.float32), np.zeros(env.num_envs, np.float32)
    steps: list[tuple[np.ndarray, ...]] = []
    while True:
        observed = observation if alive.all() else observation[alive]
        decision = policy.act(torch.as_tensor(observed).to(device), memory, generator)
        memory = decision.memory
        actions[alive] = decision.actions.cpu().numpy()
        log_probs[alive], values[alive] = decision.log_probs.cpu(), decision.values.cpu()
        following, reward, terminated, truncated, infos = env.step(actions)
        if reward_kind == "expected":
            if "expected_reward" not in infos:
                raise InvalidArgumentError(
                    f"{env} does not tell the expected_reward; train on reward='observed'."
                )
            reward = infos["expected_reward"]
        steps.append((observation, actions.copy(), log_probs.copy(), values.copy(), reward, alive))
        observation = following
        returns += reward * alive
        if "regret" in infos:
            regrets = np.where(alive, infos["regret"], 0.0 if regrets is None else regrets)
        over = alive & (terminated | truncated)
        if over.any():
            scores[over] = infos["score"][over] if "score" in infos else returns[over]
            if (cut := over & truncated).any():
                stay = torch.as_tensor(cut[alive])
                kept = {name: value[stay] for name, value in memory.items()}
                last = torch.as_tensor(following[cut]).to(device)
                final_values[cut] = policy.act(last, kept, None).values.cpu()
            stay = torch.as_tensor(~over[alive])
            memory = {name: value[stay] for name, value in memory.items()}
            alive = alive & ~over
            if not alive.any():
                break
    parts = [np.stack(column) for column in zip(*steps, strict=True)]
    return Trials(
        observations=torch.as_tensor(parts[0]).to(device),
        actions=torch.as_tensor(parts[1]).to(device),
        log_probs=torch.as_tensor(parts[2]).to(device),
        values=parts[3], rewards=parts[4], alive=parts[5],
        final_values=final_values, scores=scores, regrets=regrets,
    )  # fmt: skip


def update(
    policy: RecurrentActorCritic,
    optimizer: torch.optim.Adam,
    trials: Trials,
    config: Config,
    entropy_coefficient: float,
    generator: torch.Generator,
) -> dict[str, float]:
    """PPO's epochs over one iteration's trials; returns what to log."""
    device = policy.value.weight.device
    advantage = gae(
        trials.rewards, trials.values, trials.alive, trials.final_values,
        discount=config.discount, lam=config.lam,
    )  # fmt: skip
    counted = advantage[trials.alive]
    advantages = torch.as_tensor((advantage - counted.mean()) / (counted.std() + 1e-8)).to(device)
    targets = torch.as_tensor(advantage + trials.values).to(device) / policy.value_scale
    alive = torch.as_tensor(trials.alive).to(device)
    lengths = torch.as_tensor(trials.lengths)
    ragged = bool((lengths != lengths[0]).any())
    numbers: list[torch.Tensor] = []
    for _ in range(config.epochs):
        order = torch.randperm(len(lengths), generator=generator, device=device)
        for rows in order.split(config.minibatch):
            end = int(lengths[rows.cpu()].max())
            mask = alive[:end, rows] if ragged else None
            log_probs, entropies, values = policy.judge(
                trials.observations[:end, rows], trials.actions[:end, rows]
            )
            log_ratio = log_probs - trials.log_probs[:end, rows]
            if mask is not None:  # behind a trial's end it may be of any size
                log_ratio = log_ratio * mask
            ratio, gains = log_ratio.exp(), advantages[:end, rows]
            gain = torch.minimum(
                ratio * gains, ratio.clamp(1.0 - config.clip, 1.0 + config.clip) * gains
            )
            error = (values - targets[:end, rows]).square()
            policy_loss, entropy, value_loss = (_mean(x, mask) for x in (-gain, entropies, error))
            loss = policy_loss - entropy_coefficient * entropy
            loss = loss + config.value_coefficient * value_loss
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm)
            optimizer.step()
            with torch.no_grad():
                kl = _mean(ratio - 1.0 - log_ratio, mask)
                outside = _mean(((ratio - 1.0).abs() > config.clip).float(), mask)
                numbers.append(
                    torch.stack([policy_loss, value_loss, entropy, kl, outside, norm]).cpu()
                )
    names = ("policy_gradient_loss", "value_loss", "entropy", "approx_kl", "clip_fraction",
             "grad_norm")  # fmt: skip
    means = torch.stack(numbers).mean(dim=0).tolist()
    return {f"train/{name}": value for name, value in zip(names, means, strict=True)}


def load(folder: str | Path) -> Agent:
    """The agent of a checkpoint folder; it takes the likeliest actions."""
    return RecurrentAgent(folder, NAME)


# -- the inside --------------------------------------------------------------------------------


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def _make_policy(env: VectorEnv, config: Config, seed: int) -> RecurrentActorCritic:
    with torch.random.fork_rng(devices=[]):  # torch initialises from its global generator
        torch.manual_seed(seed)
        return RecurrentActorCritic(
            env.single_observation_space, env.single_action_space,
            core=config.core, width=config.width, length=episode_length(env),
            layout=getattr(env.unwrapped, "layout", None) if config.interactions else None,
        )  # fmt: skip


def _mean(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The mean where ``mask``; everywhere if there is none."""
    return values.mean() if mask is None else (values * mask).sum() / mask.sum()


def _size_of_returns(trials: Trials, discount: float) -> float:
    """The root mean square of the returns that follow the steps of ``trials``."""
    nothing = np.zeros_like(trials.values)
    togo = gae(
        trials.rewards, nothing, trials.alive, np.zeros(nothing.shape[1]),
        discount=discount, lam=1.0,
    )  # fmt: skip
    return float(np.sqrt(np.square(togo[trials.alive]).mean())) or 1.0


def _log(
    log: RunLogger,
    trials: Trials,
    numbers: dict[str, float],
    layout: TrialLayout | None,
    steps_done: int,
) -> np.ndarray | None:
    """SB3's charts, and those of a trial: how the return grows from its first part to its last.

    Returns:
        The returns of those parts, where the observations tell where inner episodes end.
    """
    returns = (trials.rewards * trials.alive).sum(axis=0)
    log.rollout(returns, trials.lengths, steps_done, score_mean=trials.scores)
    if trials.regrets is not None:
        numbers["rollout/regret"] = float(trials.regrets.mean())
    curve = None
    if layout is not None:
        done = layout.split(trials.observations.cpu().numpy()).done
        curve = inner_return_curve(done, trials.rewards, trials.alive)
        for part, value in enumerate(curve, 1):
            numbers[f"trial/inner_return_{part:02}_of_{len(curve):02}"] = float(value)
    log.scalars(numbers, steps_done)
    return curve


def _figure(curve: np.ndarray) -> Figure:
    """How a trial gets better while it goes on."""
    drawing = Figure(figsize=(5.5, 4.2), dpi=100, layout="constrained")
    axes = drawing.subplots()
    axes.plot(np.arange(1, len(curve) + 1), curve, "o-")
    axes.set_title("training trials of this iteration", fontsize=10)
    axes.set_xlabel(f"part of the trial, of {len(curve)}")
    axes.set_ylabel("mean return of an inner episode")
    axes.grid(alpha=0.25)
    return drawing


def _beside(ceiling: Ceiling | None) -> str:
    return "" if ceiling is None else f", ceiling {ceiling.value:.3f} ({ceiling.kind})"
