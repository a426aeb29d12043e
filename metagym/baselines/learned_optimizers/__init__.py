"""Optimisers learned by supervision: what reinforcement learning has to beat on the same problems.

``train`` trains the coordinatewise LSTM of Andrychowicz et al. (2016), ``black_box`` the query
network of Chen et al. (2017), and ``hypergradient`` tunes ordinary training by exact validation
gradients (Maclaurin et al. 2015). Torch loads with the first name that is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = "metagym.baselines.learned_optimizers"
_NAMES = {
    "BlackBoxAgent": "black_box",
    "CoordinatewiseLSTM": "coordinatewise",
    "Hyperparameters": "hypergradient",
    "LSTMRule": "coordinatewise",
    "QueryRNN": "black_box",
    "differentiate_training": "hypergradient",
    "load_rule": "train",
    "log_and_sign": "coordinatewise",
    "optimize_hyperparameters": "hypergradient",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{_HOME}.{_NAMES[name]}"), name)
