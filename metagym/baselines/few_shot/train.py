"""The one meta-training loop for every few-shot method.

A run resumes bit for bit (on one thread): weights, the outer optimiser's moments, the generator
and the best weights so far are in the checkpoint. Early stopping looks at validation tasks; test
tasks are for ``judge.evaluate_few_shot`` alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from metagym.baselines.few_shot import METHODS, make_method, method_class
from metagym.baselines.few_shot.base import FewShotMethod, TaskShape
from metagym.baselines.few_shot.chart import ScoreChart
from metagym.baselines.few_shot.judge import few_shot_scores, memory_hint, to_device
from metagym.baselines.merged_config import pick
from metagym.baselines.saving import (
    arrays,
    copy_moments,
    copy_tensors,
    load_generator,
    load_moments,
    load_weights,
    run_record,
    tuples,
)
from metagym.checkpoint import load_checkpoint, save_checkpoint
from metagym.errors import (
    CheckpointError,
    InvalidArgumentError,
    check_above_zero,
    check_choice,
    check_positive,
)
from metagym.monitoring import RunLogger, progress_bar
from metagym.rl.training import Budget, torch_threads
from metagym.tasks.few_shot import TaskDistribution
from metagym.tasks.streams import choose_device

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("constant", "linear", "cosine")
AMP = ("auto", "on", "off")
# Steps in a row of a gradient that is no number: one wild task is no divergence.
_MOST_SKIPPED = 10
_VALIDATION_SEED = 0  # the same validation tasks every time, so that their scores compare


@dataclass(frozen=True)
class TrainConfig:
    """Meta-training.

    Args:
        iterations: outer steps, unless the command line says how long.
        meta_batch: tasks per outer step.
        outer_lr: learning rate of the outer optimiser.
        optimizer: the outer one: "adam" or "sgd".
        schedule: of the outer rate: "constant", or to 0 along a "linear" or "cosine" curve.
        max_grad_norm: meta-gradients are clipped to this norm; None: never.
        eval_every: iterations between looks at validation tasks; each saves a checkpoint too.
        eval_tasks: how many validation tasks.
        eval_batch: how many of them at a time.
        patience: stop after so many looks without a better score, and keep the best weights;
            None: train to the end and keep the last weights.
        amp: mixed precision: "on" computes in bfloat16 where autocast says that it is safe, "auto"
            does so on a device that has instructions for it. It pays for large batches of
            convolutions, and costs where kernels are small, as in MAML's inner steps.
        threads: of torch on a CPU; more than one pays for convolutions, and only one resumes bit
            for bit.
        log_every: iterations between points of the charts.
        device: "auto" is a GPU where there is one.
    """

    iterations: int = 10_000
    meta_batch: int = 25
    outer_lr: float = 1e-3
    optimizer: Literal["adam", "sgd"] = "adam"
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    max_grad_norm: float | None = None
    eval_every: int = 1000
    eval_tasks: int = 200
    eval_batch: int = 100
    patience: int | None = None
    amp: Literal["auto", "on", "off"] = "off"
    threads: int = 1
    log_every: int = 100
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("iterations", "meta_batch", "eval_every", "eval_tasks", "eval_batch",
                     "threads", "log_every"):  # fmt: skip
            check_positive(name, getattr(self, name))
        check_above_zero("outer_lr", self.outer_lr)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("amp", self.amp, AMP)
        if self.max_grad_norm is not None:
            check_above_zero("max_grad_norm", self.max_grad_norm)
        if self.patience is not None:
            check_positive("patience", self.patience)


@dataclass
class _Run:
    """How far a run has come.

    Attributes:
        iteration: outer steps done.
        seconds: of training, before the last resume.
        best: validation score, of ``best_weights``; None before the first look.
        waited: looks at validation tasks since then.
    """

    iteration: int = 0
    seconds: float = 0.0
    best: float | None = None
    waited: int = 0


def train_few_shot(
    method: FewShotMethod,
    tasks: TaskDistribution,
    out: str | Path,
    config: TrainConfig | None = None,
    *,
    seed: int = 0,
    iterations: int | None = None,
    seconds: float | None = None,
    resume: bool = False,
    tasks_name: str | None = None,
    tasks_kwargs: dict[str, Any] | None = None,
    progress: bool = True,
    measure: Callable[[FewShotMethod], Mapping[str, float]] | None = None,
) -> FewShotMethod:
    """Meta-train ``method`` and keep checkpoints and TensorBoard logs in ``out``.

    Args:
        method: with fresh weights; it is moved to the device and changed.
        tasks: "train" tasks are learned from, "validation" tasks are looked at.
        out: the folder.
        config: of the loop.
        seed: of the tasks and of the method's randomness.
        iterations: in total, those before a resume included; ``config.iterations`` if neither it
            nor ``seconds`` is given.
        seconds: stop after so many, those before a resume included; with it the result depends
            on the machine.
        resume: go on from the checkpoint in ``out``.
        tasks_name, tasks_kwargs: what the checkpoint says of the tasks; their name by default.
        progress: show a progress bar.
        measure: gives further numbers of the method for the charts, below ``validation/``, at
            each look at validation tasks; it must leave the method as it is.

    Returns:
        ``method``, in eval mode, with the weights that the checkpoint holds.

    Raises:
        KeyboardInterrupt: after saving.
        CheckpointError: there is nothing to resume from, or it is of another method.
        InvalidArgumentError: the loss is no longer finite, or a batch does not fit into memory.
    """
    out, config = Path(out), config or TrainConfig()
    if iterations is None and seconds is None:
        iterations = config.iterations
    method = method.to(choose_device(config.device))
    optimizer = _make_optimizer(method, config)
    generator = torch.Generator(method.device).manual_seed(seed)
    run, best_weights = _Run(), dict[str, torch.Tensor]()
    if resume:
        run, best_weights = _restore(out, method, optimizer, generator)
    budget = Budget(iterations, seconds, run.seconds)
    described = _describe(method, tasks_name or tasks.name, tasks_kwargs or {}, config)

    def save(snapshot: dict[str, Any]) -> None:
        """Write the checkpoint; its weights are the best ones where there are such."""
        method.training_record = {**run_record(seed), **snapshot["run"]}
        save_checkpoint(
            out, {**described, "training": method.training_record},
            arrays(snapshot["best"] or snapshot["model"]), arrays(snapshot),
        )  # fmt: skip

    def snapshot() -> dict[str, Any]:
        """All that the next iteration depends on; it shares no memory with what goes on."""
        elapsed = round(budget.elapsed, 3)
        return {
            "model": copy_tensors(method.state_dict()),
            "optimizer": copy_moments(optimizer),
            "generator": generator.get_state(),
            "best": dict(best_weights),
            "run": {**asdict(run), "seconds": elapsed},
        }

    larger_is_better = method.shape.kind == "classification"
    chart = ScoreChart(tasks, config.eval_tasks, _VALIDATION_SEED, config.eval_batch)
    settings = {"agent": method.name, "env": described["env_id"], "seed": seed}
    with (
        torch_threads(config.threads),
        RunLogger(
            out, settings | described["config"], resume_step=run.iteration if resume else None
        ) as log,
        progress_bar(
            f"{method.label} {tasks.name}",
            steps=iterations,
            seconds=seconds,
            before=budget.before,
            shown=progress,
        ) as show,
    ):
        # Ctrl-C falls anywhere in an iteration; what it saves is the end of the last whole one.
        latest = snapshot()
        start, first, skipped = time.perf_counter(), run.iteration, 0
        try:
            while (used := budget.used(run.iteration)) < 1.0:
                if config.patience is not None and run.waited >= config.patience:
                    break
                method.progress = used
                rate = config.outer_lr * _factor(config.schedule, used)
                numbers = _outer_step(method, optimizer, tasks, generator, config, rate)
                skipped = 0 if math.isfinite(numbers["grad_norm"]) else skipped + 1
                if skipped > _MOST_SKIPPED:
                    raise _diverged(run.iteration + 1, numbers)
                run.iteration += 1
                if not skipped and (run.iteration % config.log_every == 0 or run.iteration == 1):
                    values = _finite(numbers, run.iteration)
                    log.scalars({f"train/{k}": v for k, v in values.items()}, run.iteration)
                    log.scalar("train/learning_rate", rate, run.iteration)
                    done = (run.iteration - first) * config.meta_batch
                    speed = done / max(1e-9, time.perf_counter() - start)
                    log.scalar("time/tasks_per_second", speed, run.iteration)
                    show(run.iteration, " ".join(f"{k} {v:.3f}" for k, v in values.items()))
                if run.iteration % config.eval_every == 0:
                    score = _validation_score(method, tasks, config)
                    chart.look(method, score, log, run.iteration)
                    more = measure(method) if measure else {}
                    log.scalars({f"validation/{k}": v for k, v in more.items()}, run.iteration)
                    if math.isfinite(score) and (
                        run.best is None
                        or (score > run.best if larger_is_better else score < run.best)
                    ):
                        run.best, run.waited = score, 0
                        if config.patience is not None:
                            best_weights = copy_tensors(method.state_dict())
                    else:
                        run.waited += 1
                    save(latest := snapshot())
                else:
                    latest = snapshot()
        finally:
            save(latest)
            method.progress = 1.0
    if best_weights:
        method.load_state_dict(best_weights)
    return method.eval()


def load_method(
    folder: str | Path, device: str = "auto", *, of: type[FewShotMethod] | None = None
) -> FewShotMethod:
    """The method of a checkpoint that ``train_few_shot`` wrote, in eval mode.

    Args:
        folder: of the checkpoint.
        device: "auto" is a GPU where there is one.
        of: the class of the method, if it is none of ``METHODS``.

    Raises:
        CheckpointError: it is missing, damaged, or of another method.
    """
    saved = load_checkpoint(folder)
    name = saved.config["agent"]
    if of is not None and of.name != name:
        raise CheckpointError(f"{folder} is a checkpoint of {name!r}, not of {of.name!r}.")
    if of is None and name not in METHODS:
        raise CheckpointError(
            f"{folder} is a checkpoint of {name!r}, which is no few-shot method of metagym's; "
            f"those are {', '.join(METHODS)}. One of yours is loaded with of=Class."
        )
    method_type = method_class(name) if of is None else of
    try:
        shape = TaskShape(**tuples(saved.config["shape"]))
        kind, settings = method_type.Config, tuples(saved.config["config"])
        config = kind(**pick(kind, settings))
        known = {field.name for source in (kind, TrainConfig) for field in fields(source)}
        if unknown := [field for field in settings if field not in known]:
            raise InvalidArgumentError(f"it has no {', '.join(unknown)}")
        method = make_method(method_type, shape, config)
        load_weights(method, saved.weights)
    except KeyError as error:
        raise CheckpointError(f"{folder} does not describe a {name}: it lacks {error}.") from None
    except (TypeError, InvalidArgumentError) as error:
        raise CheckpointError(f"{folder} does not describe a {name}: {error}.") from None
    method.training_record = saved.config.get("training")
    return method.to(choose_device(device)).eval()


# -- the inside --------------------------------------------------------------------------------


def _validation_score(method: FewShotMethod, tasks: TaskDistribution, config: TrainConfig) -> float:
    """The mean score on the validation tasks of a run."""
    found = few_shot_scores(
        method, tasks, "validation", config.eval_tasks, seed=_VALIDATION_SEED,
        batch=config.eval_batch,
    )  # fmt: skip
    return float(found.mean())


def _outer_step(
    method: FewShotMethod,
    optimizer: torch.optim.Optimizer,
    tasks: TaskDistribution,
    generator: torch.Generator,
    config: TrainConfig,
    rate: float,
) -> dict[str, torch.Tensor]:
    """One meta-gradient step; returns what to log, on the device."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    method.train()
    with memory_hint(f"a meta_batch of {config.meta_batch} tasks"):
        drawn = to_device(tasks.sample(config.meta_batch, "train", generator), method.device)
        mixed = _is_mixed(config.amp, method.device)
        with torch.autocast(method.device.type, torch.bfloat16, enabled=mixed):
            loss, numbers = method.meta_loss(drawn, generator)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(method.parameters(), config.max_grad_norm or math.inf)
    if torch.isfinite(norm):  # else the weights stay what they were
        optimizer.step()
    return {**numbers, "grad_norm": norm}


def _is_mixed(amp: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16 on ``device``."""
    if amp != "auto":
        return amp == "on"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def _make_optimizer(method: FewShotMethod, config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.Adam(method.parameters(), lr=config.outer_lr)
    return torch.optim.SGD(method.parameters(), lr=config.outer_lr)


def _factor(schedule: str, used: float) -> float:
    """What the outer rate is multiplied by when ``used`` of the budget is gone."""
    if schedule == "constant":
        return 1.0
    return 1.0 - used if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * used))


def _finite(numbers: dict[str, torch.Tensor], iteration: int) -> dict[str, float]:
    values = {name: float(value) for name, value in numbers.items()}
    if not all(map(math.isfinite, values.values())):
        raise _diverged(iteration, numbers)
    return values


def _diverged(iteration: int, numbers: dict[str, torch.Tensor]) -> InvalidArgumentError:
    values = {name: float(value) for name, value in numbers.items()}
    return InvalidArgumentError(
        f"Meta-training diverged in iteration {iteration}: {values}. Lower outer_lr or inner_lr, "
        "or set max_grad_norm. The checkpoint holds the last good weights."
    )


def _describe(
    method: FewShotMethod, tasks_name: str, tasks_kwargs: dict[str, Any], config: TrainConfig
) -> dict[str, Any]:
    """What the checkpoint says besides how far the run is."""
    return {
        "agent": method.name, "env_id": tasks_name, "env_kwargs": tasks_kwargs,
        "config": asdict(config) | asdict(method.config), "shape": asdict(method.shape),
    }  # fmt: skip


def _restore(
    out: Path,
    method: FewShotMethod,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> tuple[_Run, dict[str, torch.Tensor]]:
    """Continue from the checkpoint in ``out``; how far it was, and the best weights."""
    state = load_checkpoint(out, method.name).extra()
    load_weights(method, state["model"])
    load_moments(optimizer, state["optimizer"])
    load_generator(generator, state["generator"])
    best = {n: torch.tensor(x, device=method.device) for n, x in state["best"].items()}
    return _Run(**state["run"]), best
