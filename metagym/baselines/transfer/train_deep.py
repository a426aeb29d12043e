"""The one training loop of deep transfer: every method is a loss, phase by phase.

A run resumes bit for bit (on one thread): weights, what a method keeps beside them, the optimiser's
moments and the generator are in the checkpoint. Nothing here looks at labels that a method was not
given.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from metagym.baselines.saving import (
    arrays,
    copy_tensors,
    digest,
    load_generator,
    load_moments,
    load_weights,
    run_record,
)
from metagym.baselines.transfer.networks import Network
from metagym.checkpoint import load_checkpoint, save_checkpoint
from metagym.errors import CheckpointError, InvalidArgumentError
from metagym.monitoring import RunLogger, progress_bar
from metagym.rl.training import Looks, one_thread

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("constant", "linear", "cosine", "dann")
MOMENTUM = 0.9  # of "sgd"
_FREE = ("iterations", "log_every", "save_every")  # settings that a resumed run may change


class Data(NamedTuple):
    """All that a method may learn from, on the device.

    Attributes:
        x, y: the source, [n, d] and classes from 0, [n].
        xt: the target [m, d].
        yt: classes of its first rows; None: there are none.
    """

    x: torch.Tensor
    y: torch.Tensor
    xt: torch.Tensor
    yt: torch.Tensor | None


class Batch(NamedTuple):
    """Rows drawn with replacement; empty where a phase does not draw them.

    Attributes:
        x, y, w: of the source, with their weights.
        xt: of all of the target.
        xl, yl: of the labelled rows of the target.
    """

    x: torch.Tensor
    y: torch.Tensor
    w: torch.Tensor
    xt: torch.Tensor
    xl: torch.Tensor
    yl: torch.Tensor


@dataclass(frozen=True)
class Phase:
    """A stretch of training with an optimiser of its own.

    Attributes:
        name: of the phase.
        iterations: how long it is.
        draws: what a minibatch holds: "source", "target", "labelled".
        rate: where its learning rate starts.
    """

    name: str
    iterations: int
    draws: tuple[str, ...]
    rate: float


class Model(nn.Module):
    """What is trained and what a method keeps: all that a checkpoint has to hold.

    Args:
        network: what predicts.
        examples: of the source.
        **parts: further modules of a method, such as a domain head.

    Attributes:
        weights: of the examples of the source [n]; 1 but for importance weighting.
    """

    weights: torch.Tensor

    def __init__(self, network: Network, examples: int, **parts: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.parts = nn.ModuleDict(parts)
        self.register_buffer("weights", torch.ones(examples))


class Method(Protocol):
    """What the loop asks of a method.

    Attributes:
        label: in the progress bar.
        ramps: whether the loss depends on ``progress``.
    """

    label: str
    ramps: bool

    def phases(self) -> tuple[Phase, ...]:
        """One after the other."""

    def begin(self, phase: Phase, model: Model, data: Data) -> None:
        """Called once when a phase starts, not when it is resumed."""

    def trained(self, phase: Phase, model: Model) -> Sequence[nn.Parameter]:
        """The parameters that a phase changes."""

    def loss(
        self, phase: Phase, model: Model, batch: Batch, progress: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """What is minimised, and what to log; ``progress`` is the share of the phase done."""


@dataclass(frozen=True)
class Loop:
    """Settings of the loop; see ``DeepConfig``."""

    batch: int
    optimizer: str
    schedule: str
    weight_decay: float
    max_grad_norm: float | None
    log_every: int
    save_every: int


@dataclass(frozen=True)
class Place:
    """Where a run is written.

    Attributes:
        folder: of checkpoints and event files.
        resume: go on from the checkpoint there.
        described: what the checkpoint says besides how far the run is.
        seed: for the record.
        seconds: stop after so many; schedules go by iterations all the same.
        look: writes what a person watches, given the charts and the step; training does not
            depend on it.
    """

    folder: Path | None
    resume: bool
    described: dict[str, Any]
    seed: int
    seconds: float | None = None
    look: Callable[[RunLogger, int], None] | None = None


def train(
    method: Method,
    model: Model,
    data: Data,
    loop: Loop,
    generator: torch.Generator,
    place: Place,
    *,
    progress: bool = False,
) -> dict[str, Any]:
    """Run all phases of ``method``; the model is changed.

    Returns:
        A record of the run: seed, iterations, seconds, command and versions.

    Raises:
        KeyboardInterrupt: after saving, where there is a folder.
        CheckpointError: there is nothing to resume from, or it is of other data, settings or seed;
            of the settings ``_FREE`` may differ, and see ``_check_length``.
        InvalidArgumentError: the loss is no longer finite.
    """
    phases = [phase for phase in method.phases() if phase.iterations]
    total = sum(phase.iterations for phase in phases)
    described = {**place.described, "data": digest((*data, model.weights))}
    step, before, moments = 0, 0.0, dict[str, Any]()
    if place.resume and place.folder is not None:
        state = _saved_state(place.folder, described, place.seed)
        step, before = int(state["run"]["iterations"]), float(state["run"]["seconds"])
        is_steady = loop.schedule == "constant" and not method.ramps
        _check_length(place.folder, step, state["phases"], phases, is_steady)
        load_weights(model, state["model"])
        load_generator(generator, state["generator"])
        moments = {
            index: {name: torch.tensor(value) for name, value in found.items()}
            for index, found in state["optimizer"].items()
        }
    start, first = time.perf_counter(), step
    optimizer: torch.optim.Optimizer | None = None
    is_kept = place.folder is not None

    def record() -> dict[str, Any]:
        return {
            **run_record(place.seed), "iterations": step, "finished": step >= total,
            "seconds": round(before + time.perf_counter() - start, 3),
        }  # fmt: skip

    def snapshot() -> dict[str, Any]:
        """All that the next iteration depends on; it shares no memory with what goes on."""
        # Before the first step after a resume there is no optimiser yet, but its moments are.
        state = moments if optimizer is None else optimizer.state_dict()["state"]
        return {
            "model": copy_tensors(model.state_dict()),
            "optimizer": {str(index): copy_tensors(found) for index, found in state.items()},
            "generator": generator.get_state(),
            "phases": [[phase.name, phase.iterations] for phase in phases],
            "run": record(),
        }

    def save(state: dict[str, Any]) -> None:
        if place.folder is not None:
            network = {
                name.removeprefix("network."): value
                for name, value in state["model"].items()
                if name.startswith("network.")
            }
            save_checkpoint(
                place.folder, {**described, "training": state["run"]}, arrays(network),
                arrays(state),
            )  # fmt: skip

    with (
        one_thread(),
        _logger(place, step) as log,
        progress_bar(
            method.label, steps=total, seconds=place.seconds, before=before, shown=progress
        ) as show,
    ):
        looks = Looks(step / total)
        # Ctrl-C falls anywhere in an iteration; what it saves is the end of the last whole one.
        latest = snapshot() if is_kept else {}
        try:
            while step < total:
                spent = before + time.perf_counter() - start
                if place.seconds is not None and spent >= place.seconds:
                    break
                phase, done = _locate(phases, step)
                if done == 0:
                    method.begin(phase, model, data)
                    optimizer = None
                if optimizer is None:
                    optimizer = _make_optimizer(method.trained(phase, model), model, phase, loop)
                    if done:
                        load_moments(optimizer, moments)
                share = done / phase.iterations
                rate = phase.rate * rate_factor(loop.schedule, share)
                numbers = _step(method, phase, model, data, optimizer, generator, loop, share, rate)
                if not math.isfinite(numbers["grad_norm"]):
                    _finite(numbers, step + 1)
                step += 1
                if step % loop.log_every == 0 or step == total:
                    values = _finite(numbers, step)
                    if log is not None:
                        log.scalars({f"train/{k}": v for k, v in values.items()}, step)
                        log.scalar("train/learning_rate", rate, step)
                        speed = (step - first) / max(1e-9, time.perf_counter() - start)
                        log.scalar("time/iterations_per_second", speed, step)
                    show(step, " ".join(f"{k} {v:.3f}" for k, v in values.items()))
                if log is not None and place.look is not None and looks.due(step / total):
                    mode = model.training
                    place.look(log, step)
                    model.train(mode)
                if is_kept:
                    latest = snapshot()
                    if step % loop.save_every == 0:
                        save(latest)
        finally:
            if is_kept:
                save(latest)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return record()


def rate_factor(schedule: str, progress: float) -> float:
    """What the learning rate is multiplied by when the share ``progress`` of a phase is done.

    "dann" is (1 + 10 p)^−0.75 of Ganin et al. (2016), section 5.2.2.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "dann":
        return float((1.0 + 10.0 * progress) ** -0.75)
    return 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))


# -- the inside --------------------------------------------------------------------------------


def _step(
    method: Method,
    phase: Phase,
    model: Model,
    data: Data,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    loop: Loop,
    progress: float,
    rate: float,
) -> dict[str, torch.Tensor]:
    """One gradient step; returns what to log, on the device."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    batch = _draw(phase.draws, model, data, loop.batch, generator)
    loss, numbers = method.loss(phase, model, batch, progress)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    limit = math.inf if loop.max_grad_norm is None else loop.max_grad_norm
    norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
    if torch.isfinite(norm):  # else the weights stay what they were
        optimizer.step()
    return {
        "loss": loss.detach(), **{k: v.detach() for k, v in numbers.items()}, "grad_norm": norm,
    }  # fmt: skip


def _draw(
    draws: tuple[str, ...], model: Model, data: Data, size: int, generator: torch.Generator
) -> Batch:
    """A minibatch of ``size`` rows of each kind that ``draws`` names."""

    def rows(kind: str, count: int) -> torch.Tensor:
        drawn = size if kind in draws else 0
        return torch.randint(max(1, count), (drawn,), generator=generator, device=data.x.device)

    labels = data.y[:0] if data.yt is None else data.yt
    source = rows("source", len(data.y))
    target, labelled = rows("target", len(data.xt)), rows("labelled", len(labels))
    return Batch(
        data.x[source], data.y[source], model.weights[source], data.xt[target],
        data.xt[labelled], labels[labelled],
    )  # fmt: skip


def _locate(phases: Sequence[Phase], step: int) -> tuple[Phase, int]:
    """The phase of ``step``, and how many of its iterations are done."""
    for phase in phases:
        if step < phase.iterations:
            return phase, step
        step -= phase.iterations
    raise AssertionError("no phase is left")


def _make_optimizer(
    trained: Sequence[nn.Parameter], model: Model, phase: Phase, loop: Loop
) -> torch.optim.Optimizer:
    """An optimiser of the parameters of a phase; all others are left without gradients."""
    chosen = {id(parameter) for parameter in trained}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    if loop.optimizer == "adam":
        return torch.optim.Adam(trained, phase.rate, weight_decay=loop.weight_decay)
    return torch.optim.SGD(trained, phase.rate, momentum=MOMENTUM, weight_decay=loop.weight_decay)


def _saved_state(folder: Path, described: dict[str, Any], seed: int) -> dict[str, Any]:
    """The training state in ``folder``, if it is of the same data, settings and seed."""
    saved = load_checkpoint(folder, described["agent"])
    if saved.config.get("data") != described["data"]:
        raise CheckpointError(f"{folder} was trained on other data; resume with the same.")
    state = saved.extra()
    before = {**saved.config["config"], "seed": state["run"]["seed"]}
    asked = {**json.loads(json.dumps(described["config"])), "seed": seed}
    other = [name for name in asked if name not in _FREE and asked[name] != before.get(name)]
    if other:
        found = "; ".join(f"{name} was {before.get(name)!r}, not {asked[name]!r}" for name in other)
        raise CheckpointError(
            f"{folder} was trained with other settings ({found}). Resume with those, or train anew."
        )
    return state


def _check_length(
    folder: Path, step: int, saved: Sequence[Any], phases: Sequence[Phase], is_steady: bool
) -> None:
    """Refuse another length of the last phase, unless what was done of it would have been the same.

    Args:
        folder: of the checkpoint.
        step: how many gradient steps it has done.
        saved: names and lengths of its phases.
        phases: those that are asked for.
        is_steady: neither the rate nor the loss depends on the share of a phase that is done.
    """
    asked = [(phase.name, phase.iterations) for phase in phases]
    saved = [(str(name), int(iterations)) for name, iterations in saved]
    if asked == saved:
        return
    if [name for name, _ in asked] != [name for name, _ in saved]:
        raise CheckpointError(
            f"{folder} was trained in the phases {saved}, not {asked}: with weights of the "
            "examples, or without. Resume as it was trained."
        )
    done = step - sum(phase.iterations for phase in phases[:-1])
    if done > 0 and not is_steady:
        raise CheckpointError(
            f"{folder} is laid out for {saved[-1][1]} iterations, not {asked[-1][1]}: its learning "
            "rate or loss goes by the share that is done. Resume with the former, or train anew."
        )
    if done > asked[-1][1]:
        raise CheckpointError(
            f"{folder} has done {done} iterations, more than {asked[-1][1]}; ask for as many at "
            "least."
        )


def _finite(numbers: dict[str, torch.Tensor], step: int) -> dict[str, float]:
    values = {name: float(value) for name, value in numbers.items()}
    if not all(map(math.isfinite, values.values())):
        raise InvalidArgumentError(
            f"Training diverged by iteration {step}: {values}. Lower the rate or the strength of a "
            "penalty, or set max_grad_norm."
        )
    return values


@contextlib.contextmanager
def _logger(place: Place, step: int) -> Iterator[RunLogger | None]:
    if place.folder is None:
        yield None
        return
    settings = {
        "agent": place.described["agent"], "env": place.described["env_id"], "seed": place.seed,
        **place.described["config"],
    }  # fmt: skip
    with RunLogger(place.folder, settings, resume_step=step if place.resume else None) as log:
        yield log
