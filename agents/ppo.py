"""PPO (Schulman et al. 2017) through Stable-Baselines3, on the native batch.

SB3 does the learning; this file gives it the environment (through ``SB3VecEnv``), a policy whose
actor is one small network over the last axis (means of a Gaussian, or logits of discrete actions),
and keeps the checkpoint. It has no memory; RL² is PPO with one. On LearnToOptimize the default
view lets the policy choose two gains per problem, so that what it learns is an update rule for any
dimension (``metagym.optim.GainRule``).

Lecture topic: learning to optimise, by reinforcement learning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger, filter_excluded_keys

from metagym.agents import trained
from metagym.agents.validation import Validation
from metagym.checkpoint import load_checkpoint, save_checkpoint
from metagym.core import Agent
from metagym.errors import CheckpointError
from metagym.monitoring import RunLogger, progress_bar
from metagym.optim.gains import GainRule
from metagym.rl.networks import policy_arrays
from metagym.rl.policies import SharedMLPPolicy
from metagym.rl.sb3 import SB3VecEnv
from metagym.rl.training import (
    Budget,
    Looks,
    Saver,
    make_training_env,
    one_thread,
    training_record,
)

NAME = "ppo"
MODEL = "model.zip"  # Stable-Baselines3's own: weights, optimiser


@dataclass(frozen=True)
class Config:
    """PPO; the defaults are the recipe of the shipped quadratics policy.

    Args:
        view: gains per "problem", gains per "coordinate", the "raw" action, or "auto": per problem
            where the action is a parameter update, raw elsewhere.
        step_size: of the rule: one over the largest "curvature"; "polyak" or "rms" under minibatch
            noise.
        memory: how long the rule remembers the largest curvature; 1 is for ever.
        reward: the reward to train on, where the environment has it.
        steps: environment steps, unless the command line says how long.
        num_envs: rows of the batch.
        num_steps: steps of every row between two updates.
        minibatch_size: transitions of one gradient step.
        epochs: passes over the transitions.
        learning_rate: of Adam, annealed quadratically to 1 % of it.
        discount: γ.
        gae_lambda: λ.
        clip_range: of the probability ratio.
        target_kl: no further epoch once the policy moved 1.5 times this far from the one that
            acted; as exploration narrows, clipping alone lets it jump.
        entropy: weight of the entropy bonus.
        hidden: widths of the actor, tanh.
        critic_hidden: widths of the critic, tanh.
        log_std_init: log standard deviation of exploration at the start.
    """

    view: Literal["auto", "problem", "coordinate", "raw"] = "auto"
    step_size: Literal["curvature", "polyak", "rms"] = "curvature"
    memory: float = 0.98
    reward: str = "log_improvement"
    steps: int = 24_000_000
    num_envs: int = 256
    num_steps: int = 50
    minibatch_size: int = 1600
    epochs: int = 4
    learning_rate: float = 1e-3
    discount: float = 0.97
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    target_kl: float | None = 0.02
    entropy: float = 0.0
    hidden: tuple[int, ...] = (32, 32)
    critic_hidden: tuple[int, ...] = (64, 64)
    log_std_init: float = -1.0


# The best of four settings at MetaBandit-v0, on the validation split after 500,000 steps, one
# seed: 5.9 where the defaults stay at 5, as at random. At MetaTabularMDP-v0 the four hardly differ.
_DISCRETE = Config(num_envs=64, learning_rate=3e-3, target_kl=None, entropy=0.01)
RECIPES: dict[str, Config] = dict.fromkeys(
    (
        "MetaBandit-v0", "MetaBandit-n10-k10-v0", "MetaBandit-n10-k50-v0",
        *(f"MetaBandit-n{n}-k{k}-v0" for n in (100, 500) for k in (5, 10, 50)),
        "MetaTabularMDP-v0", *(f"MetaTabularMDP-n{n}-v0" for n in (25, 50, 75, 100)),
        "MetaMaze-v0", "MetaMaze-9x9-v0", "ArchitectureSearchTrial-v0",
    ),
    _DISCRETE,
)  # fmt: skip


def recipe(
    env_id: str, steps: int | None = None, env_kwargs: dict[str, Any] | None = None
) -> Config:
    """The hyperparameters for ``env_id``: the defaults, others where our actions are discrete.

    Args:
        env_id: the environment, also as ``module:id``.
        steps, env_kwargs: of no matter; other agents' recipes read them.
    """
    return RECIPES.get(env_id.rpartition(":")[2], Config())


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
        env_id: the environment.
        out: the folder.
        config: hyperparameters; ``recipe(env_id)`` by default.
        seed: of weights, tasks and exploration.
        steps: environment steps in total, those before a resume included; ``config.steps`` if
            neither it nor ``seconds`` is given.
        seconds: stop after so many, those before a resume included; with it the number of steps
            depends on the machine.
        resume: go on from the checkpoint in ``out`` (weights, optimiser and step count; SB3 keeps
            no state of random streams, so the tasks go on with a new seed).
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
    before = load_checkpoint(out, NAME).config["training"] if resume else {"steps": 0, "seconds": 0}
    with one_thread():
        env, rule = make_training_env(
            env_id, config.num_envs, "SameStep", view=config.view,
            step_size=config.step_size, memory=config.memory, reward=config.reward,
            env_kwargs=env_kwargs,
        )  # fmt: skip
        budget = Budget(steps, seconds, before["seconds"])
        model = _model(env, config, seed + before["steps"], budget)
        model.num_timesteps = before["steps"]
        if resume:
            if not (out / MODEL).is_file():
                raise CheckpointError(f"{out / MODEL} is missing; training cannot resume.")
            try:
                model.set_parameters(str(out / MODEL))
            except (RuntimeError, ValueError, KeyError, OSError, EOFError) as error:
                raise CheckpointError(
                    f"{out / MODEL} is damaged or of another config; resume with the options of "
                    f"training ({type(error).__name__})."
                ) from error

        def save() -> None:
            spent = budget.elapsed
            training = training_record(env, model.num_timesteps, spent, seed)
            _save(out, model, env_id, env_kwargs, config, rule, training)

        saver = Saver(save)
        settings = {"agent": NAME, "env": env_id, "seed": seed, **asdict(config)}
        with (
            RunLogger(out, settings, resume_step=before["steps"] if resume else None) as log,
            progress_bar(
                f"ppo {env_id}", steps=steps, seconds=seconds, before=budget.before, shown=progress
            ) as show,
        ):
            model.set_logger(Logger(str(out), [_Charts(log)]))
            validation = Validation(env_id, env_kwargs)

            def look(steps_done: int) -> None:
                saver.now()
                validation.look(load(out), NAME, log, steps_done)

            monitor = _Monitor(budget, saver, show, look)
            # Without a number of steps the callback ends the run.
            remaining = (steps or 2**62) - model.num_timesteps
            # A crash leaves the last checkpoint alone.
            try:
                if remaining > 0 and budget.used(model.num_timesteps) < 1.0:
                    model.learn(remaining, callback=monitor, reset_num_timesteps=False)
                saver.now()
            except KeyboardInterrupt:
                saver.now()
                raise
            finally:
                env.close()
    return out


def load(folder: str | Path) -> Agent:
    """The agent of a checkpoint folder, deterministic."""
    return trained.load(folder, NAME)


def _model(env: Any, config: Config, seed: int, budget: Budget) -> PPO:
    model: PPO

    def learning_rate(_: float) -> float:
        return config.learning_rate * max(0.01, (1.0 - budget.used(model.num_timesteps)) ** 2)

    model = PPO(
        SharedMLPPolicy,
        SB3VecEnv(env),
        learning_rate=config.learning_rate,
        n_steps=config.num_steps,
        batch_size=config.minibatch_size,
        n_epochs=config.epochs,
        gamma=config.discount,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        target_kl=config.target_kl,
        ent_coef=config.entropy,
        policy_kwargs={
            "hidden": config.hidden,
            "critic_hidden": config.critic_hidden,
            "log_std_init": config.log_std_init,
        },
        seed=seed,
        device="cpu",
    )
    model.lr_schedule = learning_rate
    return model


class _Charts(KVWriter):
    """Writes what SB3 records to the charts of the run."""

    def __init__(self, log: RunLogger) -> None:
        self.log = log

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        self.log.scalars(filter_excluded_keys(key_values, key_excluded, "tensorboard"), step)
        self.log.flush()

    def close(self) -> None:
        """The run closes its charts."""


class _Monitor(BaseCallback):
    """Progress, scores, looks at validation tasks and checkpoints; ends the run with its budget."""

    def __init__(
        self,
        budget: Budget,
        saver: Saver,
        show: Callable[[int, str], None],
        look: Callable[[int], None],
    ) -> None:
        super().__init__()
        self.budget, self.saver, self.show, self.look = budget, saver, show, look
        self._scores: list[float] = []

    def _on_training_start(self) -> None:
        self.looks = Looks(self.budget.used(self.num_timesteps))

    def _on_step(self) -> bool:
        if self.locals["dones"].any():
            infos = self.locals["infos"]
            self._scores += [info["score"] for info in infos if "score" in info]
        # Steps are SB3's to count: it ends after the update, not before it.
        return self.budget.seconds is None or self.budget.elapsed < self.budget.seconds

    def _on_rollout_end(self) -> None:
        note = ""
        if self._scores:
            self.logger.record("rollout/score_mean", float(np.mean(self._scores)))
            note = f"score {np.mean(self._scores):.2f}"
            self._scores.clear()
        self.show(self.num_timesteps, note)
        self.saver.now_and_then()
        used = self.budget.used(self.num_timesteps)
        if used < 1.0 and self.looks.due(used):
            self.look(self.num_timesteps)

    def _on_training_end(self) -> None:
        self.look(self.num_timesteps)


def _save(
    out: Path,
    model: PPO,
    env_id: str,
    env_kwargs: dict[str, Any],
    config: Config,
    rule: GainRule | None,
    training: dict[str, Any],
) -> None:
    policy = model.policy
    assert isinstance(policy, SharedMLPPolicy)
    out.mkdir(parents=True, exist_ok=True)
    # The schedule belongs to the run; what is left is written whole or not at all.
    model.save(out / f"new-{MODEL}", exclude=["lr_schedule"])
    (out / f"new-{MODEL}").replace(out / MODEL)
    save_checkpoint(
        out,
        {
            "agent": NAME, "env_id": env_id, "env_kwargs": env_kwargs, "config": asdict(config),
            "rule": None if rule is None else rule.config, "training": training,
        },
        policy_arrays(policy.actor, None if policy.discrete else policy.log_std),
    )  # fmt: skip
