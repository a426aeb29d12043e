"""Multi-task learning: an architecture says what tasks share, a weighting how they are balanced.

Linear models are scikit-learn estimators whose last column names the task; networks are trained by
``MultiTaskNetwork``, any of ``architectures.ARCHITECTURES`` under any of ``weighting.WEIGHTINGS``,
and ``twins`` says what each task gained over learning alone. Torch loads with the first network.
"""

from __future__ import annotations

from typing import Any

from metagym.named import lazy_attribute

_HERE = "metagym.baselines.multitask"
_LAZY = {
    "ClusteredClassifier": f"{_HERE}.clustered",
    "ClusteredRegressor": f"{_HERE}.clustered",
    "Gains": f"{_HERE}.twins",
    "MultiTaskClassifier": f"{_HERE}.linear",
    "MultiTaskNetwork": f"{_HERE}.network",
    "MultiTaskRegressor": f"{_HERE}.linear",
    "NewTaskClassifier": f"{_HERE}.asymmetric",
    "NewTaskRegressor": f"{_HERE}.asymmetric",
    "RelationshipClassifier": f"{_HERE}.relationship",
    "RelationshipRegressor": f"{_HERE}.relationship",
    "TaskData": f"{_HERE}.data",
    "Twins": f"{_HERE}.twins",
    "make_architecture": f"{_HERE}.architectures",
    "mgda": f"{_HERE}.weighting",
    "pcgrad": f"{_HERE}.weighting",
    "stack_tasks": f"{_HERE}.stacked",
    "train_multitask": f"{_HERE}.train",
    "train_twins": f"{_HERE}.twins",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, name, _LAZY)
