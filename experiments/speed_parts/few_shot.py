"""MAML's meta-gradients: one array program for all tasks (vmap), chunks of it, or a loop.

Timed is what a step of meta-training does before the outer optimiser: the loss of a meta-batch
after one inner step per task, and its gradient. The tasks are those of sinusoid regression, and
5-way 1-shot classification of 28 × 28 pictures by Conv-4; the pictures are noise, which takes as
long as any other. The CPU is timed with one thread, and a GPU where there is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from metagym.baselines.few_shot import make_method
from metagym.baselines.few_shot.base import FewShotMethod, TaskShape
from metagym.rl.training import one_thread
from metagym.tasks.few_shot import Tasks
from metagym.tasks.sinusoid import Sinusoid
from speed_parts.timing import ratio, show_ratio, summary, turns

CHOICES = ("vmap", "chunk", "loop")
SIDE, WAYS, QUERIES = 28, 5, 5  # of a picture, of a task, of a class
GOALS = {"vmapped_maml_over_loop": ">= 6", "vmapped_fomaml_over_loop": "reported"}
DEFAULT_GOAL = ">= 0.9"


class Case(NamedTuple):
    """A meta-batch to be timed.

    Attributes:
        network: "mlp" on sinusoids, or Conv-4 with its "stride" or "max" pooling.
        method: "maml", or "fomaml" without second derivatives.
        tasks: in the meta-batch.
        repeat: meta-batches in a row for one measurement.
    """

    network: str
    method: str
    tasks: int
    repeat: int


CASES = (
    Case("mlp", "maml", 25, 20),
    Case("mlp", "fomaml", 25, 20),
    Case("mlp", "maml", 1, 100),
    Case("stride", "maml", 16, 1),
    Case("max", "maml", 16, 1),
)
GPU_CASES = tuple(
    Case(network, method, tasks, 5)
    for network, tasks in (("mlp", 25), ("stride", 32), ("max", 32))
    for method in ("maml", "fomaml")
)


def measure(repetitions: int) -> dict[str, Any]:
    """Tasks per second of every choice, and vmap against the loop on 25 sinusoids.

    Args:
        repetitions: of each comparison.
    """
    with one_thread():
        rows = [compare(case, torch.device("cpu"), repetitions) for case in CASES]
    results: dict[str, Any] = {
        f"vmapped_{row['method']}_over_loop": row["vmap_over_loop"] for row in rows[:2]
    }
    if torch.cuda.is_available():
        rows += [compare(case, torch.device("cuda"), repetitions) for case in GPU_CASES]
    return {**results, "few_shot": rows, "gpu": _gpu()}


def show(results: dict[str, Any]) -> str:
    """The lines that are printed of ``measure``."""
    lines = [show_ratio(name, results[name], goal, "tasks/s") for name, goal in GOALS.items()]
    lines.append(
        f"\n{'device':6} {'network':8} {'method':7} {'tasks':>5}"
        + "".join(f" {f'{choice}, tasks/s':>16}" for choice in CHOICES)
        + f"  default / loop, goal {DEFAULT_GOAL}"
    )
    for row in results["few_shot"]:
        default = row["default_over_loop"]
        low, high = default["range"]
        lines.append(
            f"{row['device']:6} {row['network']:8} {row['method']:7} {row['tasks']:5}"
            + "".join(f" {row['tasks_per_second'][choice]['median']:16,.1f}" for choice in CHOICES)
            + f"  {row['default']:5} {default['median']:.2f} [{low:.2f}, {high:.2f}]"
        )
    lines.append(
        f"cuda is {results['gpu']}." if results["gpu"] else "There is no GPU here to be timed."
    )
    return "\n".join(lines)


def compare(case: Case, device: torch.device, repetitions: int) -> dict[str, Any]:
    """Tasks per second of each choice, in turns, and what the default choice is."""
    shape, tasks = make_tasks(case, device)
    fields = {} if case.network == "mlp" else {"pooling": case.network}

    def method(choice: str) -> FewShotMethod:
        return make_method(case.method, shape, over_tasks=choice, **fields).to(device)

    rates = turns(
        {choice: meta_gradients(method(choice), tasks, case.repeat) for choice in CHOICES},
        repetitions,
    )
    default: str = method("auto").how()  # type: ignore[attr-defined]
    return {
        "device": device.type,
        **case._asdict(),
        "tasks_per_second": {choice: summary(values) for choice, values in rates.items()},
        "vmap_over_loop": ratio(rates["vmap"], rates["loop"]),
        "default": default,
        "default_over_loop": ratio(rates[default], rates["loop"]),
    }


def make_tasks(case: Case, device: torch.device) -> tuple[TaskShape, Tasks]:
    """The meta-batch of a case, on the device."""
    generator = torch.Generator().manual_seed(0)
    if case.network == "mlp":
        sinusoids = Sinusoid(device=device)
        return TaskShape.of(sinusoids), sinusoids.sample(case.tasks, "train", generator)

    def pictures(each: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(WAYS).repeat_interleave(each).repeat(case.tasks, 1)
        noise = torch.rand(*labels.shape, SIDE, SIDE, generator=generator)
        return noise.to(device), labels.to(device)

    shape = TaskShape("classification", (SIDE, SIDE), WAYS, WAYS)
    return shape, Tasks(*pictures(1), *pictures(QUERIES))


def meta_gradients(method: FewShotMethod, tasks: Tasks, repeat: int) -> Callable[[], float]:
    """A contestant: tasks per second, after one meta-batch to warm up."""
    generator = torch.Generator(method.device).manual_seed(0)
    count = len(tasks.support_x)

    def step() -> None:
        method.zero_grad()
        method.meta_loss(tasks, generator)[0].backward()  # type: ignore[no-untyped-call]

    def run() -> float:
        _wait(method.device)
        start = time.perf_counter()
        for _ in range(repeat):
            step()
        _wait(method.device)
        return count * repeat / (time.perf_counter() - start)

    step()
    return run


def _wait(device: torch.device) -> None:
    """A GPU is given its work and does it later."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def _gpu() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
