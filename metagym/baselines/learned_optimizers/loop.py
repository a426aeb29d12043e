"""The loop that trains a learned optimiser by gradients: budget, validation, charts, checkpoints.

Tasks come from an environment's train split, and what is kept is the network with the best mean
score on its validation split: early stopping never sees a test problem. A run resumes bit for
bit (on one thread): weights, Adam's moments, and the states of all random streams are in the
checkpoint.
"""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn

from metagym.checkpoint import load_checkpoint, save_checkpoint
from metagym.core.optimization import OptimizationEnv
from metagym.core.task import Task
from metagym.errors import CheckpointError, InvalidArgumentError, check_positive
from metagym.evaluation.evaluate import make_vector_env
from metagym.loading import load_agent
from metagym.monitoring import RunLogger, progress_bar
from metagym.rl.training import (
    Budget,
    get_training_state,
    one_thread,
    set_training_state,
    training_record,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LoopConfig(Protocol):
    """What the loop reads of a config; the frozen dataclass of a method has more."""

    @property
    def steps(self) -> int: ...
    @property
    def num_envs(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def max_grad_norm(self) -> float: ...
    @property
    def validate_every(self) -> int: ...
    @property
    def validation_problems(self) -> int: ...


class Learner(ABC):
    """What is trained.

    Attributes:
        name: the agent's name in checkpoints.
        model: the network.
        quantity: what ``curves`` returns, for the axis of the figure.
        baselines: names of agents that validation tasks are given to as well; their score has to
            be what ``curves`` ends with.
    """

    name: str
    model: nn.Module
    quantity: str
    baselines: tuple[str, ...]

    @abstractmethod
    def episode(
        self, env: OptimizationEnv, task: Task, used: float, rng: np.random.Generator
    ) -> Iterator[tuple[torch.Tensor, int]]:
        """The losses of one batch of episodes, one for every part that is differentiated at once.

        The loop takes a gradient step between a loss and the next. Each comes with the number of
        steps of a row that it covers.

        Args:
            env: whose problem the tasks are of.
            task: [B, ...], ``initial`` among its arrays.
            used: the share of the budget that is used up.
            rng: of minibatches and augmentation.
        """

    @abstractmethod
    def curves(self, env: OptimizationEnv, task: Task, rng: np.random.Generator) -> np.ndarray:
        """What a whole run reaches on ``task`` [B, horizon + 1]; smaller is better."""

    @abstractmethod
    def check(self, env: OptimizationEnv) -> None:
        """Raise InvalidArgumentError where the learner cannot act in ``env``."""

    def describe(self) -> dict[str, Any]:
        """What the checkpoint has to say besides the config, JSON-able."""
        return {}


def run(
    learner: Learner,
    env_id: str,
    out: str | Path,
    config: LoopConfig,
    *,
    seed: int,
    steps: int | None,
    seconds: float | None,
    resume: bool,
    env_kwargs: dict[str, Any] | None,
    progress: bool,
) -> Path:
    """Train ``learner``; for the arguments see ``metagym.agents.reinforce.train``.

    Raises:
        InvalidArgumentError: the environment does not optimise, or a number is impossible.
        KeyboardInterrupt: after saving.
        CheckpointError: there is nothing to resume from, or it is of another config.
    """
    out, env_kwargs = Path(out), env_kwargs or {}
    if steps is None and seconds is None:
        steps = config.steps
    for name in ("num_envs", "validate_every", "validation_problems"):
        check_positive(name, getattr(config, name))
    env = _environment(env_id, config.num_envs, "train", env_kwargs)
    learner.check(env)
    held_out = _environment(env_id, config.validation_problems, "validation", env_kwargs)
    validation_task = held_out.reset(seed=seed)[1]["task"]
    model = learner.model
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    rng, generator = np.random.default_rng(seed), torch.Generator()
    keep = _Best(_weights(model))
    steps_done, batches, seconds_before = 0, 0, 0.0
    env.reset(seed=seed)
    if resume:
        saved = load_checkpoint(out, learner.name)
        state = saved.extra()
        set_training_state(state, model, optimizer, generator, env)
        rng.bit_generator.state = state["rng"]
        keep = _Best(state["best"]["weights"], state["best"]["score"])
        batches = state["batches"]
        steps_done, seconds_before = (saved.config["training"][k] for k in ("steps", "seconds"))
        _check_same(saved.config, learner.describe(), out)
    budget = Budget(steps, seconds, seconds_before)

    def snapshot() -> tuple[Any, ...]:
        """The checkpoint of this moment, between two batches."""
        record = training_record(env, steps_done, budget.elapsed, seed)
        config_json = {
            "agent": learner.name, "env_id": env_id, "env_kwargs": env_kwargs,
            "config": asdict(config), **learner.describe(),  # type: ignore[call-overload]
            "training": {**record, "reward": None, "validation_score": keep.score},
        }  # fmt: skip
        extra = get_training_state(model, optimizer, generator, env) | {
            "rng": copy.deepcopy(rng.bit_generator.state),
            "best": {"weights": keep.weights, "score": keep.score},
            "batches": batches,
        }
        # Before the first validation there is no best: then what training has reached.
        return config_json, extra["model"] if keep.score is None else keep.weights, extra

    label = f"{learner.name} {env_id}"
    described = {"agent": learner.name, "env": env_id, "seed": seed}
    settings = described | asdict(config)  # type: ignore[call-overload]
    baselines = _baselines(learner, held_out, seed)
    with (
        one_thread(),
        RunLogger(out, settings, resume_step=steps_done if resume else None) as log,
        progress_bar(
            label, steps=steps, seconds=seconds, before=budget.before, shown=progress
        ) as show,
    ):
        # Ctrl-C falls anywhere in a batch; what it saves is the end of the last whole one.
        latest = snapshot()
        try:
            while (used := budget.used(steps_done)) < 1.0:
                start = time.perf_counter()
                task = env.reset()[1]["task"]
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * max(0.02, 1.0 - used)
                numbers, length = _learn(learner, env, task, used, rng, optimizer, config)
                done = steps_done + length * config.num_envs
                numbers["train/learning_rate"] = optimizer.param_groups[0]["lr"]
                numbers["train/seconds_per_update"] = time.perf_counter() - start
                last = budget.used(done) >= 1.0
                if last or (batches + 1) % config.validate_every == 0:
                    curves = learner.curves(held_out, validation_task, np.random.default_rng(seed))
                    score = float(curves[:, -1].mean())
                    keep = keep.better(score, model)
                    figure = _figure(learner, curves, baselines)
                    log.evaluation(done, score, baselines=baselines, figure=figure)
                    show(done, f"validation {score:.3f}, best {keep.score:.3f}")
                steps_done, batches = done, batches + 1
                latest = snapshot()
                log.scalars(numbers, steps_done)
                if last or batches % config.validate_every == 0:
                    save_checkpoint(out, *latest)
        finally:
            save_checkpoint(out, *latest)
            env.close()
            held_out.close()
    return out


class _Best:
    """The weights with the best validation score so far; those of the start before the first."""

    def __init__(self, weights: dict[str, np.ndarray], score: float | None = None) -> None:
        self.weights, self.score = weights, score

    def better(self, score: float, model: nn.Module) -> _Best:
        if np.isfinite(score) and (self.score is None or score < self.score):
            return _Best(_weights(model), score)
        return self


def _weights(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy().copy() for name, value in model.state_dict().items()}


def _learn(
    learner: Learner,
    env: OptimizationEnv,
    task: Task,
    used: float,
    rng: np.random.Generator,
    optimizer: torch.optim.Adam,
    config: LoopConfig,
) -> tuple[dict[str, float], int]:
    """Gradient steps along one batch of episodes; what to log, and the steps of a row."""
    losses, norms, length = [], [], 0
    for loss, steps in learner.episode(env, task, used, rng):
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(learner.model.parameters(), config.max_grad_norm)
        if torch.isfinite(norm):
            optimizer.step()
        losses.append(float(loss.detach()))
        norms.append(float(norm))
        length += steps
    return {"train/loss": float(np.mean(losses)), "train/grad_norm": float(np.mean(norms))}, length


def _environment(
    env_id: str, num_envs: int, split: str, env_kwargs: dict[str, Any]
) -> OptimizationEnv:
    # Nobody reads the observations: a short history costs nothing.
    kwargs = {"history": 1, **env_kwargs}
    try:
        env = make_vector_env(env_id, num_envs, split, kwargs)
    except InvalidArgumentError:  # an environment of another kind, or a wrong argument of the user
        env = make_vector_env(env_id, num_envs, split, env_kwargs)
    if not isinstance(env, OptimizationEnv):
        env.close()
        raise InvalidArgumentError(
            f"{env_id} has no function to differentiate; learned optimisers train on "
            "LearnToOptimize and BlackBoxOptimize environments."
        )
    return env


def _check_same(saved: dict[str, Any], described: dict[str, Any], out: Path) -> None:
    for name, value in described.items():
        if saved.get(name) != value:
            raise CheckpointError(
                f"{out} was trained with the {name} {saved.get(name)}, not {value}; resume it "
                "with the config of training."
            )


def _baselines(learner: Learner, env: OptimizationEnv, seed: int) -> dict[str, float]:
    """The mean scores of the learner's baselines on the tasks that ``env`` has for ``seed``."""
    found = {}
    for name in learner.baselines:
        agent: Any = load_agent(name)
        agent.bind(env)
        observations, _ = env.reset(seed=seed)
        running, scores = np.ones(env.num_envs, dtype=bool), np.zeros(env.num_envs)
        agent.reset(running)
        while running.any():
            # What has diverged stays where it is, whatever the action.
            actions = np.where(running[:, None], agent.act(observations), np.float32(0.0))
            observations, _, terminated, truncated, infos = env.step(actions)
            over = running & (terminated | truncated)
            if over.any():
                scores[over] = infos["score"][over]
            running &= ~over
        found[name] = float(scores.mean())
    return found


def _figure(learner: Learner, curves: np.ndarray, baselines: dict[str, float]) -> Figure:
    """Mean and middle 80 % over the validation problems by step; where baselines end."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(5.5, 4.2), dpi=100, layout="constrained")
    axes = drawing.subplots()
    low, high = np.quantile(curves, (0.1, 0.9), axis=0)
    axes.fill_between(np.arange(curves.shape[1]), low, high, alpha=0.15, linewidth=0)
    axes.plot(curves.mean(axis=0), label=learner.name)
    for row, (name, score) in enumerate(baselines.items(), 1):
        axes.axhline(score, color=f"C{row}", linestyle="--", label=f"{name}, at its end")
    axes.legend(fontsize=8)
    axes.set_xlabel("step")
    axes.set_ylabel(learner.quantity)
    axes.set_title("validation problems, mean and middle 80 %", fontsize=10)
    axes.grid(alpha=0.25)
    return drawing
