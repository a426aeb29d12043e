"""An RNN that asks queries: "Learning to learn without gradient descent by gradient descent".

Chen et al. (2017), equations 1-3 and section 2.3: (x_{t+1}, h_{t+1}) = RNN(x_t, y_t, h_t), trained
by backpropagation through the whole run, the functions it asks included: they are differentiable
while it trains (samples of a Gaussian process, test functions), and only asked for values when it
is used. The network reads what ``BlackBoxOptimize-v0`` shows of the newest query and nothing else.

Losses are of symlog values, as the network sees them: otherwise functions whose values reach
thousands would drown the others. The logarithm keeps the order, so the optima are the same.

Lecture topic: learning to optimise, without gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import nn

from metagym.baselines.learned_optimizers.loop import Learner, run
from metagym.checkpoint import Checkpoint, load_checkpoint
from metagym.core import Agent
from metagym.core.optimization import DIVERGENCE, OptimizationEnv
from metagym.core.task import Task
from metagym.errors import CheckpointError, InvalidArgumentError, check_choice, check_positive
from metagym.evaluation.evaluate import make_vector_env
from metagym.tasks.streams import choose_device

NAME = "black_box_rnn"

Memory = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Config:
    """A recurrent network that asks queries, trained through the functions' gradients.

    Args:
        width: units of an LSTM layer.
        layers: of the LSTM.
        objective: the "sum" of all values (eq. 2), or their observed "improvement" over the best
            so far (eq. 3), which is the lowest value found and what the score counts.
        steps: queries, all problems together, unless the command line says how long.
        num_envs: problems at a time.
        learning_rate: of Adam, annealed to 2 % of it.
        max_grad_norm: gradients are clipped to this norm.
        validate_every: batches between two validations; the best one's weights are kept.
        validation_problems: how many.
        device: "auto" is a GPU where there is one.
    """

    width: int = 64
    layers: int = 1
    objective: Literal["sum", "improvement"] = "improvement"
    steps: int = 10_000_000
    num_envs: int = 128
    learning_rate: float = 3e-3
    max_grad_norm: float = 1.0
    validate_every: int = 20
    validation_problems: int = 256
    device: str = "auto"


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
    """Train on a BlackBoxOptimize environment; for the rest see ``learned_optimizers.train``."""
    env = make_vector_env(env_id, 1, "train", env_kwargs or {})
    dim = getattr(env, "dim", 1)  # of another kind of environment, which run() refuses
    env.close()
    return run(
        BlackBoxLearner(dim, config, seed), env_id, out, config, seed=seed, steps=steps,
        seconds=seconds, resume=resume, env_kwargs=env_kwargs, progress=progress,
    )  # fmt: skip


def load(folder: str | Path) -> Agent:
    """The agent of a checkpoint folder.

    Raises:
        CheckpointError: it is missing, damaged, or of another agent.
    """
    return BlackBoxAgent(load_checkpoint(folder, NAME))


class QueryRNN(nn.Module):
    """From the newest entry of the history to the next query.

    Args:
        dim: coordinates of a query.
        width, layers: of the LSTM.
    """

    def __init__(self, dim: int, width: int = 64, layers: int = 1) -> None:
        super().__init__()
        self.dim = check_positive("dim", dim)
        self.lstm = nn.LSTM(
            dim + 2, check_positive("width", width), check_positive("layers", layers)
        )
        self.output = nn.Linear(width, dim)

    def memory(self, rows: int) -> Memory:
        """Zeros."""
        like = self.output.weight
        shape = (self.lstm.num_layers, rows, self.lstm.hidden_size)
        return like.new_zeros(shape), like.new_zeros(shape)

    def forward(
        self, values: torch.Tensor, queries: torch.Tensor, left: torch.Tensor, memory: Memory
    ) -> tuple[torch.Tensor, Memory]:
        """The next queries [B, d] in [-1, 1] and the memory after them.

        Args:
            values: of the last queries [B].
            queries: the last ones [B, d].
            left: the share of the budget that is left [B].
            memory: [layers, B, width] twice.
        """
        entry = torch.cat([symlog(values)[:, None], queries, left[:, None]], dim=1)
        hidden, memory = self.lstm(entry[None], memory)
        return self.output(hidden[0]).tanh(), memory


class BlackBoxAgent:
    """A trained ``QueryRNN`` in an environment.

    Args:
        checkpoint: what the training wrote.

    Raises:
        CheckpointError: this version does not know it.
    """

    name = NAME

    def __init__(self, checkpoint: Checkpoint) -> None:
        try:
            with torch.random.fork_rng(devices=[]):
                self._network = QueryRNN(**checkpoint.config.get("network") or {})
            self._network.load_state_dict(
                {name: torch.tensor(value) for name, value in checkpoint.weights.items()}
            )
        except (TypeError, RuntimeError, InvalidArgumentError) as error:
            raise CheckpointError(f"{checkpoint.folder}: its network is unknown: {error}") from None
        self.training = checkpoint.config.get("training")
        self.config = {**checkpoint.config["config"], "checkpoint": checkpoint.folder.name}
        self._memory = self._network.memory(0)

    def bind(self, env: VectorEnv) -> None:
        """Start afresh in ``env``.

        Raises:
            CheckpointError: its queries have another dimension than those of training, or it is
                no BlackBoxOptimize environment.
        """
        base: Any = env.unwrapped
        if not hasattr(base, "radius") or base.dim != self._network.dim:
            raise CheckpointError(
                f"The network asks queries in {self._network.dim} dimensions of BlackBoxOptimize "
                f"environments; {env} takes {env.single_action_space}. Train one there."
            )
        self._memory = self._network.memory(env.num_envs)

    def reset(self, mask: np.ndarray) -> None:
        """Forget these rows."""
        rows = torch.as_tensor(mask)
        for part in self._memory:
            part[:, rows] = 0.0

    @torch.no_grad()
    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        """The next queries [num_envs, d]."""
        newest = torch.as_tensor(observations[:, -(self._network.dim + 2) :])
        queries, self._memory = self._network(
            newest[:, 0], newest[:, 1:-1], newest[:, -1], self._memory
        )
        return np.asarray(queries.numpy())


class BlackBoxLearner(Learner):
    """Backpropagation through all queries of a run and the function between them.

    Args:
        dim: coordinates of a query.
        config: hyperparameters.
        seed: of the weights.
    """

    name = NAME
    quantity = "lowest f found"
    baselines = ("random_search", "one_plus_one_es")
    model: QueryRNN

    def __init__(self, dim: int, config: Config, seed: int) -> None:
        check_choice("objective", config.objective, ("sum", "improvement"))
        self.config = config
        with torch.random.fork_rng(devices=[]):  # torch initialises from its global generator
            torch.manual_seed(seed)
            self.model = QueryRNN(dim, config.width, config.layers)
        self.model.to(choose_device(config.device))

    def check(self, env: OptimizationEnv) -> None:
        if not hasattr(env, "radius"):
            raise InvalidArgumentError(
                "The query network trains on BlackBoxOptimize environments; "
                f"{type(env).__name__} takes no queries."
            )

    def describe(self) -> dict[str, Any]:
        config = self.config
        return {"network": {"dim": self.model.dim, "width": config.width, "layers": config.layers}}

    def episode(
        self, env: OptimizationEnv, task: Task, used: float, rng: np.random.Generator
    ) -> Iterator[tuple[torch.Tensor, int]]:
        values = symlog(torch.stack(self._ask(env, task, rng)))  # [horizon + 1, B]
        if self.config.objective == "sum":
            loss = values[1:].mean()
        else:
            best = values.cummin(dim=0).values
            loss = (values[1:] - best[:-1]).clamp(max=0.0).sum(dim=0).mean()
        yield loss, len(values) - 1

    @torch.no_grad()
    def curves(self, env: OptimizationEnv, task: Task, rng: np.random.Generator) -> np.ndarray:
        values = torch.stack(self._ask(env, task, rng), dim=1).double()
        return np.asarray(values.cummin(dim=1).values.cpu().numpy())

    def _ask(
        self, env: OptimizationEnv, task: Task, rng: np.random.Generator
    ) -> list[torch.Tensor]:
        """The values [B] of the centre and of every query, differentiable; without noise."""
        assert env.horizon is not None
        like = self.model.output.weight
        queries = like.new_zeros((len(task["initial"]), self.model.dim))
        memory = self.model.memory(len(queries))
        values = []
        for t in range(env.horizon + 1):
            values.append(Ask.apply(queries, env, task, rng))
            if t < env.horizon:
                noise = env.noise * rng.standard_normal(len(queries)) if env.noise > 0.0 else 0.0
                observed = values[-1] + torch.as_tensor(noise).to(like)
                left = torch.full_like(observed, 1.0 - t / env.horizon)
                queries, memory = self.model(observed, queries, left, memory)
        return values


class Ask(torch.autograd.Function):
    """f [B] of queries [B, d] in [-1, 1], with the problem's own gradient on the way back.

    A value that is not finite or beyond the environment's bound counts as the bound, and has no
    slope.
    """

    @staticmethod
    def forward(
        ctx: Any, queries: torch.Tensor, env: Any, task: Task, rng: np.random.Generator
    ) -> torch.Tensor:
        x = env.radius * queries.detach().cpu().numpy().astype(env.dtype)
        with np.errstate(all="ignore"):
            given = (rng,) if env.problem.stochastic else ()
            value, slope = env.problem.value_and_grad(task, x, *given)
            fine = np.isfinite(value) & (value <= DIVERGENCE) & np.isfinite(slope).all(axis=1)
        value = np.where(fine, value, DIVERGENCE)
        slope = np.where(fine[:, None], env.radius * slope, 0.0)
        ctx.save_for_backward(torch.as_tensor(slope).to(queries))
        return torch.as_tensor(value).to(queries)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return grads[0][:, None] * slope, None, None, None


def symlog(values: torch.Tensor) -> torch.Tensor:
    """sign(v) log(1 + |v|)."""
    return values.sign() * values.abs().log1p()
