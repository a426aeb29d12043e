"""Sinusoid regression, the first task distribution of MAML (Finn et al. 2017, section 5.1)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from metagym.errors import InvalidArgumentError, check_not_negative, check_positive
from metagym.tasks.few_shot import TaskDistribution, Tasks
from metagym.tasks.streams import choose_device, split_stream

AMPLITUDES = (0.1, 5.0)
PHASES = (0.0, math.pi)
INPUTS = (-5.0, 5.0)


class SinusoidParameters(NamedTuple):
    """What defines each task of a batch; an oracle may know it, a learner may not.

    Attributes:
        amplitude: float32 [B].
        phase: in radians, float32 [B].
    """

    amplitude: torch.Tensor
    phase: torch.Tensor

    def value(self, x: torch.Tensor) -> torch.Tensor:
        """The true y = A sin(x - φ) at inputs [B, N, 1], of the same shape."""
        return self.amplitude[:, None, None] * torch.sin(x - self.phase[:, None, None])


class Sinusoid(TaskDistribution):
    """y = A sin(x - φ) with A from U[0.1, 5], φ from U[0, π] and x from U[-5, 5], without noise.

    Splits are disjoint random streams of the one distribution.

    Args:
        shots: examples to learn from.
        queries: examples to be judged on, from the same range of inputs.
        diversity: of the tasks, in [0, 1]. It shrinks the ranges of amplitude and phase about
            their middle: at 0 all tasks are 2.55 sin(x - π/2), 1 is MAML's distribution.
        device: where the tasks lie; "auto" is a GPU where there is one.

    Raises:
        InvalidArgumentError: shots or queries below 1, a diversity outside [0, 1], or a device
            that is not there.
    """

    kind = "regression"
    input_shape = (1,)
    outputs = 1

    def __init__(
        self,
        shots: int = 10,
        queries: int = 10,
        diversity: float = 1.0,
        device: str | torch.device = "auto",
    ) -> None:
        self.support = check_positive("shots", shots)
        self.queries = check_positive("queries", queries)
        self.diversity = check_not_negative("diversity", diversity)
        if self.diversity > 1.0:
            raise InvalidArgumentError(f"diversity={diversity!r} has to be between 0 and 1.")
        self.device = choose_device(device)
        self.name = f"sinusoid {self.support}-shot"
        if self.diversity < 1.0:
            self.name += f", diversity {self.diversity:g}"

    def sample(self, count: int, split: str, generator: torch.Generator) -> Tasks:
        return self.sample_with_parameters(count, split, generator)[0]

    def sample_with_parameters(
        self, count: int, split: str, generator: torch.Generator
    ) -> tuple[Tasks, SinusoidParameters]:
        """The tasks that ``sample`` would give, and what an oracle knows of them.

        Args:
            count: number of tasks.
            split: "train", "validation" or "test".
            generator: of any device; it advances by one draw.

        Raises:
            InvalidArgumentError: a count below 1, or no such split.
        """
        count = check_positive("count", count)
        stream = split_stream(generator, split)

        def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
            draws = torch.rand(count, *shape, generator=stream, device=stream.device)
            return (low + (high - low) * draws).to(self.device)

        parameters = SinusoidParameters(
            uniform(*self._shrunk(*AMPLITUDES)), uniform(*self._shrunk(*PHASES))
        )
        x = uniform(*INPUTS, self.support + self.queries, 1)
        y = parameters.value(x)
        k = self.support
        return Tasks(x[:, :k], y[:, :k], x[:, k:], y[:, k:]), parameters

    def _shrunk(self, low: float, high: float) -> tuple[float, float]:
        """The range about its middle, ``diversity`` times as wide."""
        middle, half = (low + high) / 2, (high - low) / 2 * self.diversity
        return middle - half, middle + half
