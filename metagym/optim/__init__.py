"""Update rules, history -> Δx: hand-designed and learned ones share one interface.

In the environments a rule acts through ``metagym.agents.optimizers``; in a training loop it is
a torch optimiser through ``RuleOptimizer`` and ``LearnedOptimizer``. Torch loads only for these.
"""

from __future__ import annotations

from typing import Any

from metagym.optim.base import UpdateRule
from metagym.optim.gains import GainRule
from metagym.optim.learned import load_rule, pretrained_names

__all__ = [
    "GainRule",
    "LearnedOptimizer",
    "RuleOptimizer",
    "UpdateRule",
    "load_rule",
    "pretrained_names",
]


def __getattr__(name: str) -> Any:
    if name in ("LearnedOptimizer", "RuleOptimizer"):
        from metagym.optim import torch_optimizer

        return getattr(torch_optimizer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
