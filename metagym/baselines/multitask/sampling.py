"""Which examples a step of multi-task training sees, so that sizes of tasks do not decide.

Every step takes as many examples of one task as of another; a task with fewer of them goes round
sooner. Each round is a new permutation, so that an example comes again only after all others.
The streams are functions of (seed, stream, round): they do not depend on what the network or the
weighting draws, so that a resumed run needs nothing but how many were drawn. ``stream_of`` numbers
them by the inputs of a task, so that a single-task twin sees the same examples in the same order as
the network for all, and tasks that label the same inputs draw the same in one step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metagym.baselines.saving import digest
from metagym.errors import InvalidArgumentError, check_positive

_TASKS_KEY = 2**64  # no number of a stream: that of which tasks take part


def stream_of(x: np.ndarray) -> int:
    """The number of the stream of tasks with inputs ``x``, below 2⁶⁴."""
    return int(digest([x])[:16], 16)


class TaskBatches:
    """Endless minibatches of all tasks.

    Args:
        sizes: examples of each task.
        batch: examples of each task in a step; a task with fewer gives all of its own.
        tasks_per_step: tasks that take part in a step, drawn without replacement; None: all.
        seed: of the order.
        streams: which permutations each task follows; tasks of one stream have the same size and
            draw the same examples as long as they take part together. None: each its own.

    Attributes:
        step: batches drawn so far.
        drawn: examples drawn so far, by task; with ``step`` the whole state.

    Raises:
        InvalidArgumentError: a size below 1, or more tasks in a step than there are.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        batch: int,
        tasks_per_step: int | None = None,
        seed: int = 0,
        streams: Sequence[int] | None = None,
    ) -> None:
        self.sizes = [check_positive("a size of a task", size) for size in sizes]
        self.batch = check_positive("batch", batch)
        chosen = len(self.sizes) if tasks_per_step is None else tasks_per_step
        if check_positive("tasks_per_step", chosen) > len(self.sizes):
            raise InvalidArgumentError(
                f"tasks_per_step={tasks_per_step} is more than the {len(self.sizes)} tasks."
            )
        self.tasks_per_step, self.seed = chosen, seed
        self.streams = list(range(len(self.sizes)) if streams is None else streams)
        self.step = 0
        self.drawn = [0] * len(self.sizes)
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def next(self) -> list[np.ndarray]:
        """Numbers of examples, by task; none of a task that sits out this step."""
        taking_part = np.arange(len(self.sizes))
        if self.tasks_per_step < len(self.sizes):
            rng = self._rng(_TASKS_KEY, self.step)
            taking_part = rng.choice(taking_part, self.tasks_per_step, replace=False)
        batches = [np.empty(0, np.int64) for _ in self.sizes]
        for task in taking_part:
            batches[task] = self._take(int(task))
        self.step += 1
        return batches

    def _take(self, task: int) -> np.ndarray:
        """The next batch of a task, from at most two of its rounds."""
        size = self.sizes[task]
        wanted = min(self.batch, size)
        round_number, position = divmod(self.drawn[task], size)
        self.drawn[task] += wanted
        taken = self._order(task, round_number)[position : position + wanted]
        if len(taken) == wanted:
            return taken
        rest = self._order(task, round_number + 1)[: wanted - len(taken)]
        return np.concatenate([taken, rest])

    def _order(self, task: int, round_number: int) -> np.ndarray:
        known, order = self._orders.get(task, (-1, np.empty(0, np.int64)))
        if known != round_number:
            order = self._rng(self.streams[task], round_number).permutation(self.sizes[task])
            self._orders[task] = round_number, order
        return order

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
