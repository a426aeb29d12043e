"""Minimise losses of tasks with a quadratic coupling, or with a norm that has a proximal map.

Coupling A [M, M], a penalty tr(Wᵀ A W): one linear system for squared errors; L-BFGS (scipy)
else, in coordinates in which the coupling is harmless, so that a strong one does not slow it down.
A coupling that is learned is brought up to date with every step of L-BFGS.

Norms: FISTA (Beck & Teboulle, "A fast iterative shrinkage-thresholding algorithm", 2009) with
backtracking, and with restarts where the momentum points uphill (O'Donoghue & Candès, "Adaptive
restart for accelerated gradient schemes", 2015).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize

from metagym.baselines.multitask.losses import TaskLosses
from metagym.baselines.multitask.regularizers import Norm

DENSE = 2500  # unknowns up to which squared errors are one linear system
ROUND = 50  # steps of L-BFGS between two changes of its coordinates

Couple = Callable[[np.ndarray], tuple[np.ndarray, float]]
Function = Callable[[np.ndarray], tuple[float, np.ndarray]]


class Solution(NamedTuple):
    """Where a solver stopped.

    Attributes:
        parameters: [M, width].
        objective: there.
        iterations: that it took.
        converged: whether its criterion was met.
    """

    parameters: np.ndarray
    objective: float
    iterations: int
    converged: bool


def minimize_coupled(
    losses: TaskLosses,
    a: np.ndarray,
    *,
    start: np.ndarray | None = None,
    tol: float = 1e-6,
    max_iter: int = 1000,
) -> Solution:
    """min_W Σ_m a_m L_m(w^m) + tr(Wᵀ A W).

    Args:
        losses: of M tasks.
        a: A [M, M], symmetric, no negative eigenvalue.
        start: parameters [M, width] where L-BFGS begins; zeros by default.
        tol: L-BFGS ends where no entry of the gradient is larger, relative to the largest at 0.
        max_iter: of L-BFGS.
    """
    if losses.quadratic and losses.tasks * losses.width <= DENSE:
        found = _linear_system(losses, a)
        value, _ = _coupled(losses, a, found)
        return Solution(found, value, 1, True)
    found, value, result = _lbfgs(
        losses, a, lambda at: _coupled(losses, a, at),
        np.zeros((losses.tasks, losses.width)) if start is None else start, tol, max_iter,
    )  # fmt: skip
    return Solution(found, value, int(result.nit), bool(result.met))


def minimize_norm(
    losses: TaskLosses,
    norm: Norm,
    strength: float,
    a: np.ndarray,
    *,
    tol: float = 1e-6,
    max_iter: int = 1000,
) -> Solution:
    """min_W Σ_m a_m L_m(w^m) + tr(Wᵀ A W) + λ Reg(W) by FISTA.

    Args:
        losses: of M tasks.
        norm: Reg.
        strength: λ, at least 0.
        a: A [M, M], symmetric, no negative eigenvalue.
        tol: it ends where no entry of the gradient map, (point - next point) / step, is larger,
            relative to the largest entry of the gradient at 0.
        max_iter: proximal steps.
    """
    d = losses.features
    current = np.zeros((losses.tasks, losses.width))
    point, momentum = current, 1.0
    value, gradient = _coupled(losses, a, point)
    bound = float(losses.curvature.max()) + 2.0 * float(np.linalg.eigvalsh(a)[-1])
    # Four times what is safe: losses are mostly less curved than at the worst place.
    step = 4.0 / bound if bound > 0.0 else 1.0
    limit = tol * max(float(np.abs(gradient).max()), np.finfo(float).tiny)
    converged, iteration = False, 0
    while iteration < max_iter:
        iteration += 1
        while True:
            moved = point - step * gradient
            moved[:, :d] = norm.prox(moved[:, :d], step * strength)
            change = moved - point
            new_value, new_gradient = _coupled(losses, a, moved)
            allowed = value + np.vdot(gradient, change) + np.vdot(change, change) / (2.0 * step)
            # Rounding decides nothing, and the known bound is always safe.
            if new_value <= allowed + 1e-12 * abs(value) or step * bound <= 1.0 + 1e-9:
                break
            step = max(step / 2.0, 1.0 / bound)
        if np.abs(change).max() <= limit * step:
            current, converged = moved, True
            break
        if np.vdot(change, moved - current) < 0.0:  # uphill
            momentum = 1.0
        following = (1.0 + math.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        beta = (momentum - 1.0) / following
        momentum = following
        if beta > 0.0:
            point = moved + beta * (moved - current)
            value, gradient = _coupled(losses, a, point)
        else:
            point, value, gradient = moved, new_value, new_gradient
        current = moved
    objective = _coupled(losses, a, current)[0] + strength * norm.value(current[:, :d])
    return Solution(current, objective, iteration, converged)


def minimize_learned(
    losses: TaskLosses,
    couple: Couple,
    *,
    tol: float = 1e-6,
    max_iter: int = 100,
) -> tuple[Solution, list[float]]:
    """min over W and a family of couplings A of Σ_m a_m L_m(w^m) + tr(Wᵀ A W) + c(A).

    The papers find W and A in turns, which can take hundreds of turns. As the best A for a W has
    a closed form, L-BFGS minimises over W what is left once A is eliminated: at the best A the
    gradient is that with A held fixed. Its coordinates are renewed with A in every round, and the
    objective never rises.

    Args:
        losses: of M tasks.
        couple: W [M, d] -> the best A [M, M] for it, and c(A).
        tol: it ends where the objective falls by less, relative to itself, in a round.
        max_iter: rounds.

    Returns:
        The solution, and the objective after each round, that of the start first.
    """
    found = np.zeros((losses.tasks, losses.width))
    objectives = [_learned(losses, couple, found)[0]]
    for iteration in range(1, max_iter + 1):
        a, _ = couple(found[:, : losses.features])
        found, objective, _ = _lbfgs(
            losses, a, lambda at: _learned(losses, couple, at), found, tol * 0.01, ROUND
        )
        objectives.append(objective)
        if objectives[-2] - objective <= tol * abs(objective):
            return Solution(found, objective, iteration, True), objectives
    return Solution(found, objectives[-1], max_iter, False), objectives


def _learned(
    losses: TaskLosses, couple: Couple, parameters: np.ndarray
) -> tuple[float, np.ndarray]:
    """Losses and the best coupling, and their gradient."""
    a, constant = couple(parameters[:, : losses.features])
    value, gradient = _coupled(losses, a, parameters)
    return value + constant, gradient


def _coupled(losses: TaskLosses, a: np.ndarray, parameters: np.ndarray) -> tuple[float, np.ndarray]:
    """Losses and coupling, and their gradient."""
    value, gradient = losses.value_and_gradient(parameters)
    weights = parameters[:, : losses.features]
    pulled = a @ weights
    gradient[:, : losses.features] += 2.0 * pulled
    return value + float(np.vdot(weights, pulled)), gradient


def _linear_system(losses: TaskLosses, a: np.ndarray) -> np.ndarray:
    shape = (losses.tasks, losses.width)
    right = -_coupled(losses, a, np.zeros(shape))[1].ravel()
    matrix = np.kron(2.0 * a, np.eye(losses.width))
    matrix += scipy.linalg.block_diag(*losses.hessians)
    with warnings.catch_warnings():
        warnings.simplefilter("error", scipy.linalg.LinAlgWarning)
        try:
            found = scipy.linalg.solve(matrix, right, assume_a="pos")
        except (np.linalg.LinAlgError, scipy.linalg.LinAlgWarning):
            # Fewer examples than features and nothing to hold the weights: the shortest of them.
            found = scipy.linalg.lstsq(matrix, right)[0]
    return np.asarray(found).reshape(shape)


def _lbfgs(
    losses: TaskLosses,
    a: np.ndarray,
    function: Function,
    start: np.ndarray,
    tol: float,
    max_iter: int,
) -> tuple[np.ndarray, float, scipy.optimize.OptimizeResult]:
    """Minimise ``function`` in coordinates W = R V in which losses and A have similar curvature."""
    d, shape = losses.features, (losses.tasks, losses.width)
    values, vectors = np.linalg.eigh(2.0 * a)
    least = np.finfo(float).eps * values[-1]  # losses of constant features are flat
    typical = max(float(losses.curvature.mean()), float(least), np.finfo(float).tiny)
    values = np.maximum(values, 0.0) + typical
    root = (vectors * (typical / values) ** 0.5) @ vectors.T
    back = (vectors * (values / typical) ** 0.5) @ vectors.T

    def turned(parameters: np.ndarray, by: np.ndarray) -> np.ndarray:
        return np.hstack([by @ parameters[:, :d], parameters[:, d:]])

    def in_coordinates(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = function(turned(flat.reshape(shape), root))
        return value, turned(gradient, root).ravel()

    largest = float(np.abs(function(np.zeros(shape))[1]).max())
    if largest**2 < np.finfo(float).tiny:
        # As with constant labels: 0 is the minimum already, and scipy would divide by 0.
        zeros = np.zeros(shape)
        return zeros, function(zeros)[0], scipy.optimize.OptimizeResult(nit=0, met=True)
    result = scipy.optimize.minimize(
        in_coordinates, turned(start, back).ravel(), jac=True, method="L-BFGS-B",
        options={"maxiter": max_iter, "maxfun": 2 * max_iter, "gtol": tol * largest,
                 "ftol": 1e-15, "maxcor": 20},
    )  # fmt: skip
    # A line search that rounding ends (status 2) is as near as double precision gets.
    result.met = result.status == 0 or (
        result.status == 2 and np.abs(result.jac).max() <= 100.0 * tol * largest
    )
    return turned(result.x.reshape(shape), root), float(result.fun), result
