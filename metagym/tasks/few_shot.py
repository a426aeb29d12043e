"""Few-shot tasks: a handful of examples to learn from, and others to be judged on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch


class Tasks(NamedTuple):
    """A batch of B tasks as tensors on one device.

    Attributes:
        support_x: what to learn from, float32 [B, S, *input_shape].
        support_y: its targets: int64 [B, S] (classes 0 … ways - 1, S = ways · shots, sorted by
            class), or float32 [B, S, outputs] in regression.
        query_x: what to predict, float32 [B, Q, *input_shape].
        query_y: its targets, as ``support_y``.
    """

    support_x: torch.Tensor
    support_y: torch.Tensor
    query_x: torch.Tensor
    query_y: torch.Tensor


class TaskDistribution(ABC):
    """Where tasks come from; a batch of them is an array program, never a loop over tasks.

    Attributes:
        name: for tables and checkpoints.
        kind: "classification" or "regression".
        input_shape: of one example.
        outputs: ways, or numbers to predict.
        support: examples to learn from in a task, S.
    """

    name: str
    kind: str
    input_shape: tuple[int, ...]
    outputs: int
    support: int

    @abstractmethod
    def sample(self, count: int, split: str, generator: torch.Generator) -> Tasks:
        """``count`` tasks of a split ("train", "validation" or "test"; no class is in two).

        Raises:
            InvalidArgumentError: there is no such split.
        """
