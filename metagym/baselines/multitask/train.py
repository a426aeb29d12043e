"""The one training loop for every multi-task architecture and every weighting.

A run resumes bit for bit (on one thread): weights, the optimiser's moments, the generator, how
many examples were drawn and the best weights so far are in the checkpoint. Early stopping looks at
validation examples; test examples are for ``Learner.score`` alone.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from metagym.baselines.multitask.chart import ScoreChart
from metagym.baselines.multitask.data import TaskData, TasksShape
from metagym.baselines.multitask.learner import Learner
from metagym.baselines.multitask.sampling import TaskBatches, stream_of
from metagym.baselines.multitask.saving import (
    Run,
    Saved,
    describe,
    restore,
    save,
)
from metagym.baselines.multitask.weighting import GradientWeighting
from metagym.baselines.saving import copy_tensors, digest
from metagym.errors import InvalidArgumentError, check_above_zero, check_positive
from metagym.monitoring import RunLogger, progress_bar
from metagym.rl.training import Budget, torch_threads
from metagym.tasks.streams import choose_device


@dataclass(frozen=True)
class TrainConfig:
    """Training.

    Args:
        steps: of the optimiser, unless the command line says how many.
        batch: examples of each task in a step, so that sizes of tasks do not decide.
        tasks_per_step: tasks that take part in a step, drawn at random; None: all.
        learning_rate: of AdamW.
        weight_decay: of AdamW, for the network's weights.
        max_grad_norm: what is descended is clipped to this norm; None: never.
        eval_every: steps between looks at validation examples; each saves a checkpoint too.
        patience: stop after so many looks without a better mean score over tasks, and keep the
            best weights; None: train to the end and keep the last weights.
        threads: of torch on a CPU; only one resumes bit for bit.
        log_every: steps between points of the charts.
        device: "auto" is a GPU where there is one.
    """

    steps: int = 2000
    batch: int = 32
    tasks_per_step: int | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    max_grad_norm: float | None = None
    eval_every: int = 100
    patience: int | None = None
    threads: int = 1
    log_every: int = 50
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "eval_every", "threads", "log_every"):
            check_positive(name, getattr(self, name))
        for name in ("tasks_per_step", "patience"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        check_above_zero("learning_rate", self.learning_rate)
        if self.weight_decay != 0:
            check_above_zero("weight_decay", self.weight_decay)
        if self.max_grad_norm is not None:
            check_above_zero("max_grad_norm", self.max_grad_norm)


def train_multitask(
    learner: Learner,
    tasks: Sequence[TaskData],
    validation: Sequence[TaskData] | None = None,
    out: str | Path | None = None,
    config: TrainConfig | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    seconds: float | None = None,
    resume: bool = False,
    tasks_name: str = "tasks",
    tasks_kwargs: dict[str, Any] | None = None,
    progress: bool = False,
) -> Learner:
    """Train ``learner`` on ``tasks``, all together.

    Args:
        learner: with fresh weights; it is moved to the device and changed.
        tasks: training examples, in the order of the learner's tasks.
        validation: of the same tasks; early stopping needs them.
        out: folder for checkpoints and TensorBoard logs; None: nothing is written.
        config: of the loop.
        seed: of the order of examples and of the weighting's randomness.
        steps: in total, those before a resume included; ``config.steps`` if neither it nor
            ``seconds`` is given.
        seconds: stop after so many, those before a resume included; with it the result depends
            on the machine.
        resume: go on from the checkpoint in ``out``.
        tasks_name, tasks_kwargs: what the checkpoint says of the tasks.
        progress: show a progress bar.

    Returns:
        ``learner``, in eval mode, with the weights that the checkpoint holds.

    Raises:
        KeyboardInterrupt: after saving.
        CheckpointError: there is nothing to resume from, or it is of another network.
        InvalidArgumentError: other tasks than the learner's, a task with one class only, early
            stopping without validation examples, or a loss that is no longer finite.
    """
    config, out = config or TrainConfig(), None if out is None else Path(out)
    steps = config.steps if steps is None and seconds is None else steps
    _check(learner, tasks, validation, config, out, resume)
    learner.to(choose_device(config.device))
    optimizer = _make_optimizer(learner, config)
    generator = torch.Generator().manual_seed(seed)
    batches = _Batches(learner, tasks, config, seed)
    data = digest(array for task in tasks for array in (task.x, task.y))
    run, best = Run(), dict[str, torch.Tensor]()
    if resume and out is not None:
        run, best = restore(out, learner, optimizer, generator, data)
        batches.counts.step, batches.counts.drawn = run.step, list(run.drawn)
    budget = Budget(steps, seconds, run.seconds)
    described = describe(learner, tasks_name, tasks_kwargs or {}, asdict(config), seed)
    described["data"] = data

    def now() -> Saved | None:
        """All that the next step depends on; it shares no memory with what goes on."""
        if out is None:
            return None
        run.drawn = tuple(batches.counts.drawn)
        elapsed = round(budget.elapsed, 3)
        return Saved.of(learner, optimizer, generator, best, run, elapsed)

    settings = {"agent": described["agent"], "env": tasks_name, "seed": seed, **described["config"]}
    log = None
    if out is not None:
        at = run.step if resume else None
        log = RunLogger(out, settings, resume_step=at, tasks=learner.names)
    chart = None if validation is None else ScoreChart(tasks, validation)
    label = f"{learner.architecture.name}, {learner.weighting.name}"
    with (
        torch_threads(config.threads),
        contextlib.nullcontext() if log is None else log,
        progress_bar(
            f"{label} {tasks_name}",
            steps=steps,
            seconds=seconds,
            before=budget.before,
            shown=progress,
        ) as show,
    ):
        # Ctrl-C falls anywhere in a step; what it saves is the end of the last whole one.
        latest = now()
        start, first = time.perf_counter(), run.step
        try:
            while budget.used(run.step) < 1.0:
                if config.patience is not None and run.waited >= config.patience:
                    break
                numbers = _step(learner, optimizer, batches, generator, config)
                if not math.isfinite(numbers["grad_norm"]):
                    _finite(numbers, run.step + 1)
                run.step += 1
                if run.step % config.log_every == 0 or run.step == 1:
                    values = _finite(numbers, run.step)
                    speed = (run.step - first) / max(1e-9, time.perf_counter() - start)
                    if log is not None:
                        log.scalars({f"train/{k}": v for k, v in values.items()}, run.step)
                        log.scalar("time/steps_per_second", speed, run.step)
                    show(run.step, f"loss {values['loss']:.3f}")
                if run.step % config.eval_every == 0:
                    if validation is not None:
                        scores = _look(learner, validation, run, best, config)
                        if log is not None and chart is not None:
                            chart.look(scores, log, run.step)
                    if out is not None:
                        save(out, described, latest := now())
                else:
                    latest = now()
        finally:
            if out is not None:
                save(out, described, latest)
    if best:
        learner.load_state_dict(best)
    run.seconds = round(budget.elapsed, 3)
    learner.training_record = described["training"] | asdict(run)
    return learner.eval()


# -- one step ----------------------------------------------------------------------------------


class _Batches:
    """Minibatches as tensors on the learner's device."""

    def __init__(
        self, learner: Learner, tasks: Sequence[TaskData], config: TrainConfig, seed: int
    ) -> None:
        self.x = [torch.as_tensor(task.x, device=learner.device) for task in tasks]
        self.y = [learner.targets(number, task.y) for number, task in enumerate(tasks)]
        self.streams = [stream_of(task.x) for task in tasks]
        self.counts = TaskBatches(
            [len(task.y) for task in tasks], config.batch, config.tasks_per_step, seed,
            self.streams,
        )  # fmt: skip

    def next(self) -> tuple[list[torch.Tensor], list[torch.Tensor], list[int]]:
        """Inputs and targets by task, and the numbers of the tasks that take part.

        Tasks of one stream get the same tensor, which a network need not see twice.
        """
        drawn = list(self.counts.drawn)
        chosen = self.counts.next()
        inputs: dict[tuple[int, int, int], torch.Tensor] = {}
        for x, rows, stream, before in zip(self.x, chosen, self.streams, drawn, strict=True):
            inputs.setdefault((stream, before, len(rows)), x[torch.from_numpy(rows)])
        return (
            [inputs[s, b, len(rows)] for s, b, rows in zip(self.streams, drawn, chosen,
                                                         strict=True)],
            [y[torch.from_numpy(rows)] for y, rows in zip(self.y, chosen, strict=True)],
            [number for number, rows in enumerate(chosen) if len(rows)],
        )  # fmt: skip


def _step(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    batches: _Batches,
    generator: torch.Generator,
    config: TrainConfig,
) -> dict[str, torch.Tensor]:
    """One step of the optimiser; returns what to log, on the device."""
    learner.train()
    inputs, targets, present = batches.next()
    predictions, penalty = learner.architecture(inputs)
    losses = torch.stack([learner.loss(i, predictions[i], targets[i]) for i in present])
    optimizer.zero_grad()
    if isinstance(learner.weighting, GradientWeighting):
        _surgery(learner, learner.weighting, losses, penalty, generator)
    else:
        (learner.weighting(losses, present) + penalty).backward()
    limit = math.inf if config.max_grad_norm is None else config.max_grad_norm
    norm = nn.utils.clip_grad_norm_(learner.parameters(), limit)
    if torch.isfinite(norm):  # else the weights stay what they were
        optimizer.step()
    logged = {f"loss_{learner.names[i]}": x for i, x in zip(present, losses.detach(), strict=True)}
    return {"loss": losses.detach().mean(), **logged, "penalty": penalty.detach(),
            "grad_norm": norm}  # fmt: skip


def _surgery(
    learner: Learner,
    weighting: GradientWeighting,
    losses: torch.Tensor,
    penalty: torch.Tensor,
    generator: torch.Generator,
) -> None:
    """Fill in gradients: of what is shared by the weighting, of the rest by its own task's loss."""
    shared = learner.architecture.shared_parameters()
    known = {id(parameter) for parameter in shared}
    own = [p for p in learner.architecture.parameters() if id(p) not in known]
    rows = torch.autograd.grad(
        losses, shared, torch.eye(len(losses), device=losses.device), retain_graph=True,
        allow_unused=True, is_grads_batched=True,
    )  # fmt: skip
    flat = [
        losses.new_zeros(len(losses), parameter.numel()) if row is None else row.flatten(1)
        for parameter, row in zip(shared, rows, strict=True)
    ]
    direction = weighting.direction(torch.cat(flat, dim=1), generator)
    sizes = [parameter.numel() for parameter in shared]
    for parameter, part in zip(shared, direction.split(sizes), strict=True):
        parameter.grad = part.view_as(parameter).clone()
    _add_gradients(losses.sum(), own)
    if penalty.requires_grad:
        _add_gradients(penalty, [*shared, *own])


def _add_gradients(loss: torch.Tensor, parameters: list[nn.Parameter]) -> None:
    if not parameters:
        return
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    for parameter, gradient in zip(parameters, found, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


# -- the inside --------------------------------------------------------------------------------


def _look(
    learner: Learner,
    validation: Sequence[TaskData],
    run: Run,
    best: dict[str, torch.Tensor],
    config: TrainConfig,
) -> dict[str, float]:
    """The scores of validation examples; remember the weights if they are the best so far."""
    scores = learner.score(validation)
    mean = float(np.mean(list(scores.values())))
    if run.best is None or mean > run.best:
        run.best, run.waited = mean, 0
        if config.patience is not None:
            best.update(copy_tensors(learner.state_dict()))
    else:
        run.waited += 1
    return scores


def _make_optimizer(learner: Learner, config: TrainConfig) -> torch.optim.Optimizer:
    learned = list(learner.weighting.parameters())
    groups = [{"params": list(learner.architecture.parameters())}]
    if learned:
        groups.append({"params": learned, "weight_decay": 0.0})  # type: ignore[dict-item]
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )


def _finite(numbers: dict[str, torch.Tensor], step: int) -> dict[str, float]:
    values = {name: float(value) for name, value in numbers.items()}
    if not all(map(math.isfinite, values.values())):
        raise InvalidArgumentError(
            f"Training diverged by step {step}: {values}. Lower learning_rate or set max_grad_norm."
        )
    return values


def _check(
    learner: Learner,
    tasks: Sequence[TaskData],
    validation: Sequence[TaskData] | None,
    config: TrainConfig,
    out: Path | None,
    resume: bool,
) -> None:
    for given in (tasks, validation):
        if given is None:
            continue
        names = tuple(task.name for task in given)
        if names != learner.names or TasksShape.of(given) != learner.architecture.shape:
            raise InvalidArgumentError(
                f"The learner was made for the tasks {list(learner.names)} with other kinds, "
                f"features or descriptors than the given {list(names)}; give those."
            )
    for task in tasks:
        if task.kind != "regression" and (task.y == task.y[0]).all():
            raise InvalidArgumentError(
                f"All training examples of task {task.name!r} are of class {task.y[0]}; give "
                "examples of at least two."
            )
    if config.patience is not None and validation is None:
        raise InvalidArgumentError("patience needs validation tasks; give them, or patience=None.")
    if config.tasks_per_step is not None and config.tasks_per_step > len(tasks):
        raise InvalidArgumentError(
            f"tasks_per_step={config.tasks_per_step} is more than the {len(tasks)} tasks."
        )
    if resume and out is None:
        raise InvalidArgumentError("resume=True needs out, the folder of the checkpoint.")
