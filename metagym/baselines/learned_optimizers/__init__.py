"""Optimisers learned by supervision: what reinforcement learning has to beat on the same problems.

``train`` trains the coordinatewise LSTM of Andrychowicz et al. (2016), ``black_box`` the query
network of Chen et al. (2017), and ``hypergradient`` tunes ordinary training by exact validation
gradients (Maclaurin et al. 2015). Torch loads with the first name that is asked for.
"""

from __future__ import annotations

from typing import Any

from metagym.named import lazy_attribute

_HERE = "metagym.baselines.learned_optimizers"
_LAZY = {
    "BlackBoxAgent": f"{_HERE}.black_box",
    "CoordinatewiseLSTM": f"{_HERE}.coordinatewise",
    "Hyperparameters": f"{_HERE}.hypergradient",
    "LSTMRule": f"{_HERE}.coordinatewise",
    "QueryRNN": f"{_HERE}.black_box",
    "differentiate_training": f"{_HERE}.hypergradient",
    "load_rule": f"{_HERE}.train",
    "log_and_sign": f"{_HERE}.coordinatewise",
    "optimize_hyperparameters": f"{_HERE}.hypergradient",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, name, _LAZY)
