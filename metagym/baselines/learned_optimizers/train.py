"""Supervised training of the coordinatewise LSTM, by truncated backpropagation through its run.

Loss of a run: the sum over its steps of f(x_t) (Andrychowicz et al. 2016, eq. 3), or of log f(x_t),
in which a factor of ten counts the same at the start and near the minimum. As in the paper,
gradients g_t are taken not to depend on the network's weights φ, so that

    dL/dφ = sum_t w_t g_t · dx_t/dφ,  x_t = x_0 + sum_{s<t} u_s(φ)
          = sum_s (sum_{t>s} w_t g_t) · du_s/dφ

with w_t = 1, or 1 / (f(x_t) - lower) for the logarithm. Then what the network reads does not
depend on φ either, and an unroll is an ordinary sequence: play it without a graph, then pass all
its steps through the LSTM at once, and weigh the outputs with sums of numpy gradients that any
``ProblemFamily`` gives. No second derivative and no graph of the problem is needed.
``second_derivatives`` leaves nothing out, step by step; see ``unrolled.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from metagym.baselines.learned_optimizers.coordinatewise import LSTMRule, Observation
from metagym.baselines.learned_optimizers.loop import Learner, run
from metagym.baselines.learned_optimizers.unrolled import Evaluate, unroll
from metagym.checkpoint import Checkpoint, load_checkpoint
from metagym.core.optimization import DIVERGENCE, EPSILON, OptimizationEnv, acts_by_updates
from metagym.core.task import Task
from metagym.errors import (
    CheckpointError,
    InvalidArgumentError,
    check_above_zero,
    check_choice,
    check_positive,
)
from metagym.problems import ProblemFamily
from metagym.tasks.streams import choose_device

NAME = "l2l"


@dataclass(frozen=True)
class Config:
    """The coordinatewise LSTM optimiser, trained by truncated backpropagation.

    Args:
        inputs: what a coordinate reads: "gradient" (alone, it is the published form), its last
            "update", "momentum", and how the "loss" changed.
        step: the unit of the output: "absolute" (published) or "relative" to recent gradients.
        scale: the step that an output of 1 means, in that unit; None: 0.1 and 0.02.
        width: units of an LSTM layer.
        layers: of the LSTM.
        objective: minimise the sum of the "loss" or of its "log" along the run.
        unroll: steps that are differentiated at once.
        coordinates: of each problem that an unroll is differentiated for, drawn anew each time;
            all coordinates share the network, so that a few thousand in a batch say enough.
        second_derivatives: differentiate what the network reads, too: exact and slower; the
            published form does not.
        curriculum: share of the training during which runs grow from one unroll to the horizon.
        random_scaling: coordinates are multiplied by e^u, u uniform in ± this; the optimiser then
            meets curvatures that its training problems do not have (Lv et al. 2017).
        steps: optimisation steps, all problems together, unless the command line says how long.
        num_envs: problems at a time.
        learning_rate: of Adam, annealed to 2 % of it.
        max_grad_norm: gradients are clipped to this norm.
        validate_every: batches between two validations; the best one's weights are kept.
        validation_problems: how many.
        device: "auto" is a GPU where there is one.
    """

    inputs: tuple[Literal["gradient", "update", "momentum", "loss"], ...] = (
        "gradient", "update", "momentum", "loss",
    )  # fmt: skip
    step: Literal["absolute", "relative"] = "relative"
    scale: float | None = None
    width: int = 20
    layers: int = 2
    objective: Literal["log", "loss"] = "log"
    unroll: int = 20
    coordinates: int = 256
    second_derivatives: bool = False
    curriculum: float = 0.0
    random_scaling: float = 0.0
    steps: int = 10_000_000
    num_envs: int = 128
    learning_rate: float = 1e-2
    max_grad_norm: float = 1.0
    validate_every: int = 20
    validation_problems: int = 256
    device: str = "auto"


# The optimiser as it was published, for comparison.
PUBLISHED = Config(inputs=("gradient",), step="absolute", objective="loss", learning_rate=3e-3)


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
        env_id: a LearnToOptimize environment; its problem and horizon are used, its reward is not.
        out: the folder.
        config: hyperparameters.
        seed: of weights, tasks and minibatches.
        steps: optimisation steps in total, those before a resume included; ``config.steps`` if
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
        InvalidArgumentError: the environment is of another kind, or a hyperparameter impossible.
        KeyboardInterrupt: after saving.
        CheckpointError: there is nothing to resume from.
    """
    return run(
        LSTMLearner(config, seed), env_id, out, config, seed=seed, steps=steps, seconds=seconds,
        resume=resume, env_kwargs=env_kwargs, progress=progress,
    )  # fmt: skip


def load_rule(folder: str | Path) -> LSTMRule:
    """The trained rule of a checkpoint folder.

    Raises:
        CheckpointError: it is missing, damaged, or of another agent.
    """
    return rule_of(load_checkpoint(folder, NAME))


def rule_of(checkpoint: Checkpoint) -> LSTMRule:
    """The rule that a loaded checkpoint describes, on the CPU.

    Raises:
        CheckpointError: this version does not know it.
    """
    arguments = dict(checkpoint.config.get("rule") or {})
    try:
        with torch.random.fork_rng(devices=[]):
            rule = LSTMRule(**arguments)
        rule.network.load_state_dict(
            {name: torch.tensor(value) for name, value in checkpoint.weights.items()}
        )
    except (TypeError, RuntimeError, InvalidArgumentError) as error:
        raise CheckpointError(f"{checkpoint.folder}: its optimiser is unknown: {error}") from None
    rule.config["checkpoint"] = checkpoint.folder.name
    return rule


class LSTMLearner(Learner):
    """Truncated backpropagation along runs of an ``LSTMRule``.

    Args:
        config: hyperparameters.
        seed: of the weights.

    Raises:
        InvalidArgumentError: a hyperparameter has an impossible value.
    """

    name = NAME
    quantity = "log10(f - lower + 1e-12)"
    baselines = ("sgd", "momentum", "adam")

    def __init__(self, config: Config, seed: int) -> None:
        check_choice("objective", config.objective, ("log", "loss"))
        check_positive("unroll", config.unroll)
        check_positive("coordinates", config.coordinates)
        check_above_zero("learning_rate", config.learning_rate)
        for name in ("curriculum", "random_scaling"):
            if not 0.0 <= getattr(config, name) < float("inf"):
                raise InvalidArgumentError(f"{name}={getattr(config, name)!r} has to be 0 or more.")
        self.config = config
        with torch.random.fork_rng(devices=[]):  # torch initialises from its global generator
            torch.manual_seed(seed)
            self.rule = LSTMRule(
                config.inputs, config.step, config.scale, width=config.width, layers=config.layers
            )
        self.model = self.rule.network.to(choose_device(config.device))

    def check(self, env: OptimizationEnv) -> None:
        if not acts_by_updates(env):
            raise InvalidArgumentError(
                "The LSTM optimiser trains where the action is a parameter update, as in "
                f"LearnToOptimize-v0; {type(env).__name__} has other actions."
            )

    def describe(self) -> dict[str, Any]:
        return {"rule": self.rule.config}

    def episode(
        self, env: OptimizationEnv, task: Task, used: float, rng: np.random.Generator
    ) -> Iterator[tuple[torch.Tensor, int]]:
        walk = Walk(self.rule, env.problem, task, rng, self.config.random_scaling)
        left = self._length(env, used)
        while left > 0:
            steps = min(self.config.unroll, left)
            if self.config.second_derivatives:
                yield unroll(walk, steps, self.config.objective), steps
            else:
                yield self.surrogate(walk, steps), steps
            left -= steps

    def surrogate(self, walk: Walk, steps: int) -> torch.Tensor:
        """Walk on; a scalar whose gradient is that of the mean objective of these steps."""
        memory = self.rule.memory(walk.like).clone()
        seen: list[Observation] = []
        slopes: list[torch.Tensor] = []
        for _ in range(steps):
            seen.append(walk.advance())
            slopes.append(walk.slope(self.config.objective))
        following = torch.stack(slopes).flip(0).cumsum(0).flip(0)  # sum over t > s, [T, B, d]
        features = torch.stack([each.features for each in seen])
        unit = torch.stack([each.unit for each in seen])
        dim, count = features.shape[2], self.config.coordinates
        if count < dim:  # the mean over draws is the sum over all
            kept = torch.from_numpy(walk.rng.choice(dim, count, replace=False)).to(features.device)
            following = following[:, :, kept] * (dim / count)
            features, unit, memory = features[:, :, kept], unit[:, :, kept], memory[:, kept]
        outputs, _ = self.model(features, memory)
        return (outputs * unit * following).sum() / (steps * len(memory))

    def curves(self, env: OptimizationEnv, task: Task, rng: np.random.Generator) -> np.ndarray:
        walk = Walk(self.rule, env.problem, task, rng)
        values = [walk.value()]
        assert env.horizon is not None
        for _ in range(env.horizon):
            walk.advance()
            values.append(walk.value())
        gap = np.maximum(np.stack(values, axis=1) - walk.lower[:, None], 0.0) + EPSILON
        return np.log10(np.minimum(gap, DIVERGENCE))

    def _length(self, env: OptimizationEnv, used: float) -> int:
        """Steps of a run at this point of the training."""
        assert env.horizon is not None
        if used >= self.config.curriculum:
            return env.horizon
        first = min(self.config.unroll, env.horizon)
        return first + int((env.horizon - first) * used / self.config.curriculum)


class Walk:
    """A rule's runs on a batch of problems, in scaled coordinates θ = x / c.

    A row whose loss is no number or beyond the environment's bound stays where it was; it then
    teaches nothing more.

    Args:
        rule: its state is cleared.
        problem, task: with the starting points ``initial`` [B, d].
        rng: of c and of minibatches.
        random_scaling: c = e^u with u uniform in ± this, per coordinate.
    """

    def __init__(
        self,
        rule: LSTMRule,
        problem: ProblemFamily,
        task: Task,
        rng: np.random.Generator,
        random_scaling: float = 0.0,
    ) -> None:
        rule.state.clear()
        self.rule, self.problem, self.task, self.rng = rule, problem, task, rng
        self.x = task["initial"].copy()
        self.lower = problem.lower(task)
        self.scales = np.ones_like(self.x)
        if random_scaling > 0.0:
            self.scales = np.exp(rng.uniform(-random_scaling, random_scaling, self.x.shape))
            self.scales = self.scales.astype(self.x.dtype)
        self.last = np.zeros_like(self.x)
        self.alive = np.ones(len(self.x), dtype=bool)
        self.loss, self.gradient = self.evaluation()(self.x)

    @property
    def like(self) -> torch.Tensor:
        """A tensor [B, d] on the rule's device."""
        return torch.zeros(self.x.shape, device=self.rule.device)

    def advance(self) -> Observation:
        """One step of every row; returns what the rule saw before it."""
        with torch.no_grad():
            seen = self.rule.observe(self.loss, self.scales * self.gradient, self.last)
            step = self.rule.act(seen).cpu().numpy().astype(self.x.dtype)
        x = self.x + self.scales * step
        loss, gradient = self.evaluation()(x)
        with np.errstate(invalid="ignore"):
            fine = np.isfinite(loss) & (loss <= DIVERGENCE) & np.isfinite(gradient).all(axis=1)
        self.alive &= fine
        ok = self.alive[:, None]
        self.last = np.where(ok, step, 0.0).astype(self.x.dtype)
        self.x, self.gradient = np.where(ok, x, self.x), np.where(ok, gradient, self.gradient)
        self.loss = np.where(self.alive, loss, self.loss)
        return seen

    def slope(self, objective: str) -> torch.Tensor:
        """The gradient [B, d] of the objective at the iterate, in θ; 0 where a row has diverged."""
        slope = self.scales * self.gradient * self.alive[:, None]
        if objective == "log":
            slope = slope / (np.maximum(self.loss - self.lower, 0.0) + EPSILON)[:, None]
        return torch.as_tensor(slope).to(self.rule.device, torch.float32)

    def value(self) -> np.ndarray:
        """The full loss [B] (float64); a row that diverged counts with the environment's bound."""
        value = self.problem.value(self.task, self.x) if self.problem.stochastic else self.loss
        return np.where(self.alive, value, DIVERGENCE).astype(np.float64)

    def evaluation(self) -> Evaluate:
        """f [B] and its gradient [B, d] as a function of x; of a minibatch that stays the same."""
        seed = int(self.rng.integers(2**63)) if self.problem.stochastic else None

        def evaluate(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            with np.errstate(all="ignore"):  # divergence is for the walk to see
                if seed is None:
                    return self.problem.value_and_grad(self.task, x)
                return self.problem.value_and_grad(self.task, x, np.random.default_rng(seed))

        return evaluate
