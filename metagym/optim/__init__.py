"""Update rules, history -> Δx: hand-designed and learned ones share one interface.

In the environments a rule acts through ``metagym.agents.optimizers``; in a training loop it is
a torch optimiser through ``RuleOptimizer`` and ``LearnedOptimizer``. Torch loads only for these.
"""

from __future__ import annotations

from typing import Any

from metagym.named import lazy_attribute
from metagym.optim.base import UpdateRule
from metagym.optim.gains import GainRule
from metagym.optim.learned import load_rule, pretrained_names

_LAZY = dict.fromkeys(("LearnedOptimizer", "RuleOptimizer"), "metagym.optim.torch_optimizer")

__all__ = [
    "GainRule",
    "LearnedOptimizer",
    "RuleOptimizer",
    "UpdateRule",
    "load_rule",
    "pretrained_names",
]


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, name, _LAZY)
