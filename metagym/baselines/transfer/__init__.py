"""Transfer learning: ``fit(X, y, Xt=..., yt=None)`` from a labelled source to a target domain.

Instances are reweighted (``ImportanceWeighted`` with a density ratio), features are mapped together
(``DomainAdapted`` with ``TCA``, ``CORAL``, ``SelfTaught``), or parameters are passed on
(``JointClassifier``, ``HierarchicalLogistic``). Networks do all three: ``make_deep_method("dann")``
and its like in ``deep_methods.DEEP_METHODS``. Torch loads with the first network.
"""

from __future__ import annotations

from typing import Any

from metagym.named import lazy_attribute

_HERE = "metagym.baselines.transfer"
_LAZY = {
    "CORAL": f"{_HERE}.alignment",
    "ClassifierRatio": f"{_HERE}.density_ratio",
    "DomainAdapted": f"{_HERE}.adapted",
    "HierarchicalLogistic": f"{_HERE}.hierarchical",
    "ImportanceWeighted": f"{_HERE}.importance",
    "JointClassifier": f"{_HERE}.joint",
    "JointRegressor": f"{_HERE}.joint",
    "KLIEP": f"{_HERE}.fitted_ratio",
    "KernelMeanMatching": f"{_HERE}.mean_matching",
    "LSIF": f"{_HERE}.least_squares_ratio",
    "Pooled": f"{_HERE}.features",
    "SelectionRatio": f"{_HERE}.density_ratio",
    "SelfTaught": f"{_HERE}.self_taught",
    "TCA": f"{_HERE}.subspace",
    "TwoDensities": f"{_HERE}.density_ratio",
    "ULSIF": f"{_HERE}.least_squares_ratio",
    "UnbiasedClicks": f"{_HERE}.unbiased",
    "WinningProbability": f"{_HERE}.unbiased",
    "make_deep_method": f"{_HERE}.deep_methods",
    "mmd_test": f"{_HERE}.discrepancy",
    "squared_mmd": f"{_HERE}.discrepancy",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, name, _LAZY)
