"""UpdateRule: history -> Δx. Hand-designed and learned optimisers share this one interface.

Each rule is an Agent in the environments (``metagym.agents.optimizers.RuleAgent``) and a
``torch.optim.Optimizer`` outside of them (``metagym.optim.RuleOptimizer``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np


class UpdateRule(ABC):
    """A batched optimiser that sees, at each iterate, the loss, the gradient and its last step.

    State lives in ``self.state``: arrays or tensors whose leading axis is the row. A subclass
    writes ``update`` and reads state through ``self._get``, which starts it at zero.

    Attributes:
        name: the rule's name in tables and on the command line.
        config: its hyperparameters, JSON-able.
        state: everything it remembers.
    """

    name: ClassVar[str]

    def __init__(self, **hyperparameters: Any) -> None:
        self.config = hyperparameters
        self.state: dict[str, Any] = {}

    @abstractmethod
    def update(self, loss: np.ndarray, gradient: Any, last_update: Any) -> Any:
        """The next step of every row.

        Args:
            loss: f at the current iterate, numpy [B].
            gradient: its gradient [B, d], numpy or torch.
            last_update: the step that led here [B, d]; zero at the start of an episode.

        Returns:
            Δx [B, d], of the gradient's type.
        """

    def reset(self, mask: np.ndarray) -> None:
        """Forget the rows where ``mask`` (bool [B]) is True."""
        for name, value in self.state.items():
            if len(value) == len(mask):
                value[mask] = 0
            else:
                self.state[name] = value[:0]

    def scale_last_step(self, factor: float) -> None:  # noqa: B027
        """Told when the step that was taken is ``factor`` times the one that ``update`` gave."""

    def _get(self, name: str, like: Any) -> Any:
        """The state called ``name``; zeros of ``like``'s shape and type at the start."""
        value = self.state.get(name)
        if value is None or value.shape != like.shape:
            numpy = isinstance(like, np.ndarray)
            value = np.zeros_like(like) if numpy else like.new_zeros(like.shape)
            self.state[name] = value
        return value

    def _count(self, loss: np.ndarray) -> np.ndarray:
        """The number of updates so far, this one included, numpy [B]."""
        count = self._get("count", np.zeros(len(loss)))
        count += 1
        return count

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config.items())
        return f"{type(self).__name__}({arguments})"
