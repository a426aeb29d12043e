"""Checkpoints of multi-task training: what the next step depends on, and the way back from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from metagym.baselines.multitask.architectures import (
    ARCHITECTURES,
    architecture_class,
    make_architecture,
)
from metagym.baselines.multitask.data import TasksShape
from metagym.baselines.multitask.learner import Learner
from metagym.baselines.multitask.weighting import make_weighting
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
from metagym.errors import CheckpointError, InvalidArgumentError
from metagym.tasks.streams import choose_device

PREFIX = "multitask_"  # before the name of an architecture: what checkpoints and commands say


@dataclass
class Run:
    """How far a run has come.

    Attributes:
        step: of the optimiser.
        seconds: of training, before the last resume.
        best: mean validation score, of the best weights; None before the first look.
        waited: looks at validation examples since then.
        drawn: training examples that were drawn, by task.
    """

    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    waited: int = 0
    drawn: tuple[int, ...] = ()


@dataclass(frozen=True)
class Saved:
    """A moment of a run, in memory of its own."""

    model: dict[str, torch.Tensor]
    optimizer: dict[str, dict[str, torch.Tensor]]
    generator: torch.Tensor
    best: dict[str, torch.Tensor]
    run: dict[str, Any]

    @classmethod
    def of(
        cls,
        learner: Learner,
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
        best: dict[str, torch.Tensor],
        run: Run,
        seconds: float,
    ) -> Saved:
        """This moment."""
        return cls(
            copy_tensors(learner.state_dict()),
            copy_moments(optimizer),
            generator.get_state(), dict(best), {**asdict(run), "seconds": seconds},
        )  # fmt: skip


def describe(
    learner: Learner,
    tasks_name: str,
    tasks_kwargs: dict[str, Any],
    loop: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """What a checkpoint says besides how far the run is."""
    architecture, weighting = learner.architecture, learner.weighting
    alpha = getattr(weighting, "alpha", None)
    settings = {"weighting": weighting.name, "alpha": None if alpha is None else alpha.tolist()}
    return {
        "agent": PREFIX + architecture.name, "env_id": tasks_name, "env_kwargs": tasks_kwargs,
        "config": loop | asdict(architecture.config) | settings,
        "shape": asdict(architecture.shape), "tasks": list(learner.names),
        "training": run_record(seed),
    }  # fmt: skip


def save(out: Path, described: dict[str, Any], saved: Saved | None) -> None:
    """Write the checkpoint; its weights are the best ones where there are such."""
    if saved is None:
        return
    training = described["training"] | saved.run
    extra = {entry.name: arrays(getattr(saved, entry.name)) for entry in fields(saved)}
    weights = arrays(saved.best or saved.model)
    save_checkpoint(out, {**described, "training": training}, weights, extra)


def restore(
    out: Path,
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    data: str,
) -> tuple[Run, dict[str, torch.Tensor]]:
    """Continue from the checkpoint in ``out``; how far it was, and the best weights.

    Raises:
        CheckpointError: it is missing, damaged, or of another network.
    """
    checkpoint = load_checkpoint(out, PREFIX + learner.architecture.name)
    if checkpoint.config.get("tasks") != list(learner.names):
        raise CheckpointError(
            f"{out} was trained on the tasks {checkpoint.config.get('tasks')}, not on "
            f"{list(learner.names)}."
        )
    if checkpoint.config.get("data") != data:
        raise CheckpointError(f"{out} was trained on other examples; resume with the same.")
    state = checkpoint.extra()
    load_weights(learner, state["model"])
    load_moments(optimizer, state["optimizer"])
    load_generator(generator, state["generator"])
    best = {n: torch.tensor(x, device=learner.device) for n, x in state["best"].items()}
    return Run(**state["run"]), best


def load_learner(folder: str | Path, device: str = "auto") -> Learner:
    """The learner of a checkpoint that ``train_multitask`` wrote, in eval mode.

    Raises:
        CheckpointError: it is missing, damaged, or not of a network of ``ARCHITECTURES``.
    """
    saved = load_checkpoint(folder)
    agent = saved.config["agent"]
    name = agent.removeprefix(PREFIX)
    if not agent.startswith(PREFIX) or name not in ARCHITECTURES:
        raise CheckpointError(
            f"{folder} is a checkpoint of {agent!r}, which is no multi-task network; those are "
            f"{', '.join(PREFIX + known for known in ARCHITECTURES)}."
        )
    try:
        described = saved.config["shape"]
        shape = TasksShape(
            described["inputs"], tuple(described["kinds"]), tuple(described["outputs"]),
            tuple(tuple(z) for z in described["descriptors"]),
        )  # fmt: skip
        settings = tuples(saved.config["config"])
        kind = architecture_class(name).Config
        chosen = {entry.name: settings[entry.name] for entry in fields(kind)}
        architecture = make_architecture(name, shape, kind(**chosen))
        weighting = make_weighting(settings["weighting"], shape.kinds, settings["alpha"])
        learner = Learner(architecture, weighting, saved.config["tasks"])
        load_weights(learner, saved.weights)
    except (KeyError, TypeError, InvalidArgumentError) as error:
        raise CheckpointError(f"{folder} does not describe a {agent}: {error}.") from None
    learner.training_record = saved.config.get("training")
    return learner.to(choose_device(device)).eval()
