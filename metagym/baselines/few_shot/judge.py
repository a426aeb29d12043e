"""How a few-shot method is judged: scores of tasks that it has not seen, and a Result of them."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from metagym.baselines.few_shot.base import FewShotMethod, score_name, scores
from metagym.errors import InvalidArgumentError, check_positive
from metagym.evaluation.results import Result, machine
from metagym.tasks.few_shot import TaskDistribution, Tasks


def few_shot_scores(
    method: FewShotMethod,
    tasks: TaskDistribution,
    split: str,
    count: int,
    *,
    seed: int = 0,
    batch: int = 100,
    steps: int | None = None,
) -> np.ndarray:
    """The score of each of ``count`` tasks, float64 [count].

    Args:
        method: it is left in the mode that it was in.
        tasks: where they come from.
        split: of the tasks.
        count: how many.
        seed: of the tasks; with ``batch`` it determines all of them.
        batch: tasks at a time.
        steps: gradient steps, for methods that adapt so; None: as the method was made.

    Raises:
        InvalidArgumentError: ``steps`` for a method that takes none, or a batch that does not
            fit into memory.
    """
    chosen: dict[str, Any] = {}
    if steps is not None:
        if "steps" not in inspect.signature(method.predict).parameters:
            raise InvalidArgumentError(f"{method.label} does not adapt in steps; leave them out.")
        chosen = {"steps": steps}
    check_positive("count", count)
    generator = torch.Generator().manual_seed(seed)
    was_training, found = method.training, []
    method.eval()
    try:
        with torch.no_grad(), memory_hint(f"the batch of {check_positive('batch', batch)} tasks"):
            for start in range(0, count, batch):
                drawn = to_device(
                    tasks.sample(min(batch, count - start), split, generator), method.device
                )
                found.append(scores(method.shape.kind, method.predict(drawn, **chosen), drawn))
    finally:
        method.train(was_training)
    return torch.cat(found).double().cpu().numpy()


def evaluate_few_shot(
    method: FewShotMethod,
    tasks: TaskDistribution,
    split: str = "test",
    count: int = 1000,
    seed: int = 0,
    *,
    batch: int = 100,
    steps: int | None = None,
    tasks_kwargs: dict[str, Any] | None = None,
) -> Result:
    """How a method does on tasks it has not seen, with 95 % bootstrap intervals over tasks.

    Args:
        method, tasks, split, count, seed, batch, steps: as for ``few_shot_scores``.
        tasks_kwargs: of the distribution, for the record.

    Returns:
        A ``Result`` whose episodes are tasks: a score is the accuracy or the mean squared error
        on the query set of one task, and a length is the size of its support set.

    Raises:
        InvalidArgumentError: as ``few_shot_scores``, or a score that is not finite.
    """
    start = time.perf_counter()
    found = few_shot_scores(method, tasks, split, count, seed=seed, batch=batch, steps=steps)
    return make_result(
        method, tasks, found, split, seed, batch=batch, steps=steps, tasks_kwargs=tasks_kwargs,
        seconds=time.perf_counter() - start,
    )  # fmt: skip


def make_result(
    method: FewShotMethod,
    tasks: TaskDistribution,
    found: np.ndarray,
    split: str,
    seed: int,
    *,
    batch: int,
    steps: int | None = None,
    tasks_kwargs: dict[str, Any] | None = None,
    seconds: float = 0.0,
) -> Result:
    """The Result of scores that ``few_shot_scores`` gave for the same arguments.

    Args:
        found: one score a task.
        seconds: that judging took.
        method, tasks, split, seed, batch, steps, tasks_kwargs: as for ``evaluate_few_shot``.

    Raises:
        InvalidArgumentError: a score is not finite.
    """
    return Result.of_scores(
        found, env_id=tasks.name, env_kwargs=dict(tasks_kwargs or {}), split=split,
        agent=method.label,
        agent_config=asdict(method.config) | ({} if steps is None else {"test_steps": steps}),
        privileged=method.privileged, training=getattr(method, "training_record", None), seed=seed,
        num_envs=batch, metric=score_name(method.shape.kind),
        minimize=method.shape.kind == "regression", lengths=[tasks.support] * len(found),
        env_steps=tasks.support * len(found), wall_time_s=seconds,
        device=f"{method.device}, {machine()}",
    )  # fmt: skip


def to_device(tasks: Tasks, device: torch.device) -> Tasks:
    """The same tasks where the method is."""
    return Tasks(*(tensor.to(device) for tensor in tasks))


@contextlib.contextmanager
def memory_hint(what: str) -> Iterator[None]:
    """Turn "out of memory" into an error that says what to lower.

    Raises:
        InvalidArgumentError: the memory of the device was not enough.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in text:
            raise InvalidArgumentError(
                f"There is not enough memory for {what}; lower it, or adapt with "
                "over_tasks='chunk' where the method has it."
            ) from None
        raise
