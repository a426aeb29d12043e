"""The contract of a multi-task network: a batch for each task in, an answer for each task out.

What tasks share is the architecture's business, how their losses are balanced is the weighting's
(``weighting.py``), and neither knows the other: the training loop puts them together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from metagym.baselines.multitask.data import TasksShape
from metagym.errors import InvalidArgumentError


class Output(NamedTuple):
    """What a network says of one batch for each task.

    Attributes:
        predictions: by task [n, outputs]: values, logits of class 1, or a logit per class.
        penalty: a scalar that training adds to the losses: distances of softly shared weights,
            orthogonality, an adversary's loss (through a reversed gradient), a prior; 0 if none.
    """

    predictions: list[torch.Tensor]
    penalty: torch.Tensor


class Architecture(nn.Module, ABC):
    """A network for all tasks together.

    Subclasses set ``name``, and ``Config``: a frozen dataclass of hyperparameters, all with
    defaults. Their ``__init__(shape, config=None)`` calls this one and builds the networks.

    Args:
        shape: of the tasks.
        config: hyperparameters; ``Config()`` by default.
    """

    name: ClassVar[str]
    Config: ClassVar[type]
    config: Any

    def __init__(self, shape: TasksShape, config: Any = None) -> None:
        super().__init__()
        config = self.Config() if config is None else config
        if not isinstance(config, self.Config):
            raise InvalidArgumentError(
                f"{type(self).__name__} takes a {self.Config.__qualname__}, not a "
                f"{type(config).__qualname__}."
            )
        self.shape, self.config = shape, config

    @abstractmethod
    def forward(self, inputs: Sequence[torch.Tensor]) -> Output:
        """Answers to a batch of every task.

        Args:
            inputs: by task [n, features]; n may differ and may be 0.
        """

    def shared_parameters(self) -> list[nn.Parameter]:
        """The parameters that the losses of several tasks reach, for gradient weightings.

        All but those of which the name starts with ``own.``; architectures keep what belongs to
        one task alone in a module called ``own``.
        """
        return [p for name, p in self.named_parameters() if not name.startswith("own.")]
