"""Several inputs, of which some may be missing: many sources in, many tasks out.

The columns of x are groups, one for each source s, with an encoder e_s each. What is known of an
example is the mean over the sources that are there,

    h = Σ_s m_s e_s(x_s) / Σ_s m_s,    y_t = head_t(trunk(h)),    m_s ∈ {0, 1},

so that h keeps its scale whatever is missing. Training leaves out sources at random, as dropout
does with units, and a source that is missing later costs accuracy but does not break the network:
``MultiTaskNetwork.predict(task, x, present=(True, False))``.

=============================  ==========================================================
what                           source
=============================  ==========================================================
mean of those there            Havaei et al. (2016), "HeMIS", first moment
sources dropped in training    Neverova et al. (2016), "ModDrop"
=============================  ==========================================================

Lecture topic: inputs and outputs of multi-task networks (MISO; SIMO is several tasks that share
one ``x``, which every network here with a trunk passes once).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from metagym.baselines.multitask.architecture import Architecture, Output
from metagym.baselines.multitask.data import TasksShape
from metagym.baselines.multitask.layers import (
    check_inputs,
    check_widths,
    heads,
    mlp,
    zero_penalty,
)
from metagym.baselines.multitask.sharing import Widths
from metagym.errors import InvalidArgumentError


@dataclass(frozen=True)
class MultiSourceConfig(Widths):
    """Hyperparameters of ``MultiSource``; ``widths`` are those of each source's encoder.

    Args:
        sources: numbers of columns of the sources, in their order in x; (): two halves.
        trunk_widths: hidden layers behind the mean.
        drop_sources: probability that training leaves out a source of an example; one always stays.
    """

    widths: tuple[int, ...] = (64,)
    sources: tuple[int, ...] = ()
    trunk_widths: tuple[int, ...] = (64,)
    drop_sources: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sources", "trunk_widths"):
            object.__setattr__(self, name, check_widths(name, getattr(self, name), empty=True))
        if isinstance(self.drop_sources, bool) or not 0.0 <= self.drop_sources < 1.0:
            raise InvalidArgumentError(
                f"drop_sources={self.drop_sources!r} has to be at least 0 and below 1."
            )


class MultiSource(Architecture):
    """An encoder for each source, the mean of those that are there, a trunk, and heads.

    What training leaves out is drawn from a generator of the network's own, whose state is part
    of ``state_dict``.

    Attributes:
        sources: numbers of columns of the sources.

    Raises:
        InvalidArgumentError: ``config.sources`` does not sum to the number of features.
    """

    name = "multi_source"
    Config = MultiSourceConfig

    def __init__(self, shape: TasksShape, config: Any = None) -> None:
        super().__init__(shape, config)
        config, half = self.config, shape.inputs // 2
        self.sources: tuple[int, ...] = config.sources or (half, shape.inputs - half)
        if sum(self.sources) != shape.inputs or 0 in self.sources:
            raise InvalidArgumentError(
                f"sources={self.sources} are {sum(self.sources)} columns, each at least 1; "
                f"examples have {shape.inputs}."
            )
        self.encoders = nn.ModuleList(mlp(size, config.widths) for size in self.sources)
        self.trunk = mlp(config.widths[-1], config.trunk_widths)
        self.own = heads([*config.widths, *config.trunk_widths][-1], shape)
        self.rng = torch.Generator().manual_seed(int(torch.randint(2**62, ())))

    def forward(
        self,
        inputs: Sequence[torch.Tensor],
        present: Sequence[torch.Tensor | None] | None = None,
    ) -> Output:
        """Answers to a batch of every task.

        Args:
            inputs: by task [n, features]; the columns of a missing source may hold anything.
            present: by task, which sources are there: bool [sources], or [n, sources] if that
                differs by example; None, of a task or instead of all: all. Training leaves out
                more of them.

        Raises:
            InvalidArgumentError: a mask of another shape or type, or an example of which all
                sources are missing.
        """
        inputs = check_inputs(self.shape, inputs)
        mask = self._mask(inputs, present)
        # An example and what is there of it go together: no batch is merged by identity here.
        rows = self.trunk(self._fuse(torch.cat(inputs), mask))
        parts = rows.split([len(x) for x in inputs])
        predictions = [head(h) for head, h in zip(self.own, parts, strict=True)]
        return Output(predictions, zero_penalty(inputs))

    def _mask(
        self, inputs: list[torch.Tensor], present: Sequence[torch.Tensor | None] | None
    ) -> torch.Tensor:
        """Which sources are used, bool [all examples, sources]."""
        given = [None] * len(inputs) if present is None else list(present)
        if len(given) != len(inputs):
            raise InvalidArgumentError(
                f"present has masks for {len(given)} tasks; there are {len(inputs)}. Give a list "
                "with a mask for each task."
            )
        masks = [self.check_present(m, len(x)) for x, m in zip(inputs, given, strict=True)]
        mask = torch.cat(masks).to(inputs[0].device)
        return self._leave_out(mask) if self.training and self.config.drop_sources > 0 else mask

    def check_present(self, present: Any, count: int) -> torch.Tensor:
        """Which sources of each example of a task are there, bool [count, sources].

        Args:
            present: bool [sources] or [count, sources]; None: all.
            count: of examples.

        Raises:
            InvalidArgumentError: another shape or type, or an example without any source.
        """
        sources = len(self.sources)
        if present is None:
            return torch.ones(count, sources, dtype=torch.bool)
        shapes = f"present has to be bool, of shape ({sources},) or ({count}, {sources})"
        try:
            mask = torch.as_tensor(present)
        except (TypeError, ValueError):
            raise InvalidArgumentError(f"{shapes}; it is {present!r}.") from None
        if mask.dtype != torch.bool or tuple(mask.shape) not in {(sources,), (count, sources)}:
            raise InvalidArgumentError(f"{shapes}; it is {mask.dtype} {tuple(mask.shape)}.")
        if not mask.any(dim=-1).all():
            raise InvalidArgumentError(
                f"present leaves an example none of its {sources} sources; at least one has to be "
                "there for an answer."
            )
        return mask.cpu().expand(count, sources)

    def columns(self, present: Any, count: int) -> np.ndarray:
        """``check_present`` by feature instead of by source: bool [count, features]."""
        return self.check_present(present, count).numpy().repeat(self.sources, axis=1)

    def _leave_out(self, mask: torch.Tensor) -> torch.Tensor:
        """Drop sources of each example at random; the luckiest one that is there stays."""
        luck = torch.rand(mask.shape, generator=self.rng).to(mask.device)
        luck = torch.where(mask, luck, -1.0)
        best = nn.functional.one_hot(luck.argmax(dim=1), mask.shape[1]).bool()
        return (luck >= self.config.drop_sources) | best

    def _fuse(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[n, features] and bool [n, sources] to the mean of the codes [n, widths[-1]]."""
        total = x.new_zeros(())
        for source, (columns, encoder) in enumerate(
            zip(x.split(self.sources, dim=1), self.encoders, strict=True)
        ):
            there = mask[:, source, None]
            # Zeros go in as well as out: 0 times the gradient of what is no number is none either.
            code = encoder(torch.where(there, columns, 0.0))
            total = total + torch.where(there, code, 0.0)
        return total / mask.sum(dim=1, keepdim=True)

    def get_extra_state(self) -> torch.Tensor:
        """State of the generator, for ``state_dict``."""
        return self.rng.get_state()

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Continue from a state of the generator."""
        self.rng.set_state(state.cpu())
