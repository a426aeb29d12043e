"""A new task joins tasks that are already learned and stay as they are (Zhang & Yeung, "A convex
formulation for learning task relationships in multi-task learning", 2010, section on asymmetric
multi-task learning).

With old weights W [M, d], their covariance Ω, and w for the new task,

    min over w and Ω̃:   L(X, y, w) + λ₁ ‖w‖² + λ₂ tr(W̃ᵀ Ω̃⁻¹ W̃),
    W̃ = [W; w],   Ω̃ = [[(1 - σ) Ω, ω], [ωᵀ, σ]] ≽ 0

that is, relations among old tasks stay, and those with the new one are learned. Written with
θ = Ω⁻¹ω / (1 - σ) and the Schur complement s = σ - ωᵀθ, and with c = tr(Wᵀ Ω⁻¹ W), the last term is

    c (1 + θᵀΩθ) / (1 - s)  +  ‖w - Wᵀθ‖² / s

so that w is drawn to a combination of the old weights, of which distant ones (θᵀΩθ) cost. The best
θ has a closed form and leaves c / (1 - s) + wᵀ (s I + (1 - s) WᵀΩ⁻¹W / c)⁻¹ w: old tasks are a
prior of where weights lie, and s says how much of it is not believed. The paper solves a
second-order cone programme in turns with w; here a line search over s, in which the minimum over
w is convex, solves one task with a quadratic penalty at each of its points.

Lecture topic: multi-task learning, asymmetric: new tasks learn from old ones, not the reverse.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from metagym.baselines.multitask.losses import TaskLosses
from metagym.baselines.multitask.relationship import best_covariance, correlation
from metagym.baselines.multitask.solvers import minimize_coupled
from metagym.baselines.multitask.stacked import check_stacked
from metagym.baselines.transfer.base import check_examples
from metagym.errors import (
    InvalidArgumentError,
    check_above_zero,
    check_not_negative,
    check_positive,
)


class Relation(NamedTuple):
    """How the new task stands to M old ones.

    Attributes:
        theta: θ [M], the combination of old weights that the new ones are drawn to.
        s: in (0, 1), how far they may stray from it.
    """

    theta: np.ndarray
    s: float

    def penalty(self, weights: np.ndarray, old: np.ndarray, covariance: np.ndarray) -> float:
        """tr(W̃ᵀ Ω̃⁻¹ W̃) for w [d], W [M, d] and Ω [M, M]."""
        fixed = float(np.vdot(old, np.linalg.solve(covariance, old)))
        reach = 1.0 + float(self.theta @ covariance @ self.theta)
        distance = float(((weights - old.T @ self.theta) ** 2).sum())
        return fixed * reach / (1.0 - self.s) + distance / self.s

    def covariance(self, covariance: np.ndarray) -> np.ndarray:
        """Ω̃ [M + 1, M + 1] of trace 1; the new task is the last."""
        reach = float(self.theta @ covariance @ self.theta)
        share = (1.0 - self.s) / (1.0 + reach)  # 1 - σ
        between = share * covariance @ self.theta
        return np.block([[share * covariance, between[:, None]], [between, np.array(1.0 - share)]])


class _NewTask(BaseEstimator):  # type: ignore[misc]
    """What ``NewTaskRegressor`` and ``NewTaskClassifier`` minimise."""

    _classify: ClassVar[bool]

    def __init__(
        self,
        old_coef: Any,
        old_covariance: Any = None,
        strength: float = 1.0,
        *,
        ridge: float = 0.0,
        smoothing: float = 1e-6,
        fit_intercept: bool = True,
        tol: float = 1e-6,
        max_iter: int = 500,
    ) -> None:
        self.old_coef = old_coef
        self.old_covariance = old_covariance
        self.strength = strength
        self.ridge = ridge
        self.smoothing = smoothing
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any) -> Any:
        """Learn the new task.

        Args:
            X: its examples [n, d], without a column of tasks.
            y: [n], values or two classes.

        Returns:
            Itself.

        Raises:
            InvalidArgumentError: shapes that do not fit those of the old tasks, a covariance with
                an eigenvalue that is not above 0, a negative strength, or not two classes.
            DataError: NaN or infinity.
        """
        table = check_examples("X", X)
        old, covariance = self._old(table.shape[1])
        strength = check_above_zero("strength", self.strength)
        ridge = check_not_negative("ridge", self.ridge)
        check_above_zero("tol", self.tol)
        check_positive("max_iter", self.max_iter)
        labelled = np.column_stack([table, np.zeros(len(table))])
        data = check_stacked(labelled, y, -1, classify=self._classify)
        if self._classify:
            self.classes_ = np.unique(data.y)
            data = data._replace(y=np.where(data.y == self.classes_[1], 1.0, -1.0))
        prior = old.T @ np.linalg.solve(covariance, old)  # WᵀΩ⁻¹W, [d, d]
        fixed = float(np.trace(prior))
        values, directions = np.linalg.eigh(prior / max(fixed, np.finfo(float).tiny))
        values = np.maximum(values, 0.0)

        def at(s: float) -> tuple[float, np.ndarray, float, bool]:
            """The objective at s, with weights, intercept and whether the solver got there."""
            penalties = ridge + strength / (s + (1.0 - s) * values)
            turn = directions / np.sqrt(penalties)  # w = turn v, penalised by ‖v‖²
            losses = TaskLosses(
                data._replace(X=data.X @ turn), "logistic" if self._classify else "squared",
                fit_intercept=self.fit_intercept,
            )  # fmt: skip
            found = minimize_coupled(losses, np.eye(1), tol=self.tol, max_iter=self.max_iter)
            coefficients, intercepts = losses.finish(found.parameters)
            objective = found.objective + strength * fixed / (1.0 - s)
            return objective, turn @ coefficients[0], float(intercepts[0]), found.converged

        search = scipy.optimize.minimize_scalar(
            lambda s: at(s)[0], bounds=(0.0, 1.0), method="bounded",
            options={"xatol": self.tol, "maxiter": 100},
        )  # fmt: skip
        self.objective_, self.coef_, self.intercept_, converged = at(float(search.x))
        matrix = fixed * search.x / (1.0 - search.x) * covariance + old @ old.T
        relation = Relation(scipy.linalg.lstsq(matrix, old @ self.coef_)[0], float(search.x))
        self.combination_ = relation.theta
        self.task_covariance_ = relation.covariance(covariance)
        self.task_correlation_ = correlation(self.task_covariance_)
        self.n_features_in_, self.n_iter_ = table.shape[1], int(search.nfev)
        if not (converged and search.success):
            warnings.warn(
                f"{type(self).__name__} stopped before its criterion was met: raise "
                f"max_iter={self.max_iter} or tol={self.tol:g}, or scale the features.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _old(self, features: int) -> tuple[np.ndarray, np.ndarray]:
        """W [M, d] and Ω [M, M]."""
        old = check_examples("old_coef", self.old_coef)
        if old.shape[1] != features:
            raise InvalidArgumentError(
                f"X has {features} features and old_coef is for {old.shape[1]}; a new task joins "
                "on the same ones."
            )
        if self.old_covariance is None:
            smoothing = check_above_zero("smoothing", self.smoothing)
            typical = max(float((old**2).sum()) / len(old), np.finfo(float).tiny)
            return old, best_covariance(old, smoothing * typical)
        given = check_examples("old_covariance", self.old_covariance)
        if given.shape != (len(old), len(old)) or not np.allclose(given, given.T):
            raise InvalidArgumentError(
                f"old_covariance of shape {given.shape} has to be a symmetric matrix, a row for "
                f"each of {len(old)} old tasks."
            )
        if (least := float(np.linalg.eigvalsh(given)[0])) <= 0.0:
            raise InvalidArgumentError(
                f"old_covariance has the eigenvalue {least:.3g}; all have to be above 0."
            )
        return old, given / np.trace(given)

    def _answers(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        table = check_examples("X", X)
        if table.shape[1] != self.n_features_in_:
            raise InvalidArgumentError(
                f"X has {table.shape[1]} features; it had {self.n_features_in_} when fitted."
            )
        answers: np.ndarray = table @ self.coef_ + self.intercept_
        return answers


class NewTaskRegressor(RegressorMixin, _NewTask):  # type: ignore[misc]
    """Linear regression of a task that joins old ones.

    Args:
        old_coef: W [M, d], such as ``coef_`` of a ``RelationshipRegressor``.
        old_covariance: Ω [M, M], such as its ``task_covariance_``; None: that which fits W best.
        strength: λ₂, of the relation to old tasks, above 0.
        ridge: λ₁, of the squared length of the new weights.
        smoothing: as of ``RelationshipRegressor``, where Ω is not given.
        fit_intercept: whether there is one, which no penalty sees.
        tol: of s, and of the solver for weights.
        max_iter: of that; a ConvergenceWarning says that they were not enough.

    Attributes:
        coef_: [d].
        intercept_: a number.
        combination_: θ [M].
        task_covariance_: Ω̃ [M + 1, M + 1], the new task last.
        task_correlation_: Ω̃ scaled to a diagonal of 1.
        objective_: the minimum found.
    """

    _classify = False

    def predict(self, X: Any) -> np.ndarray:
        """Values [n] of examples [n, d].

        Raises:
            InvalidArgumentError: other features than when fitted.
            DataError: NaN or infinity.
        """
        return self._answers(X)


class NewTaskClassifier(ClassifierMixin, _NewTask):  # type: ignore[misc]
    """Logistic regression of a task that joins old ones.

    Args:
        old_coef: W [M, d], such as ``coef_`` of a ``RelationshipClassifier``.
        old_covariance: Ω [M, M], such as its ``task_covariance_``; None: that which fits W best.
        strength: λ₂, of the relation to old tasks, above 0.
        ridge: λ₁, of the squared length of the new weights.
        smoothing: as of ``RelationshipClassifier``, where Ω is not given.
        fit_intercept: whether there is one, which no penalty sees.
        tol: of s, and of the solver for weights.
        max_iter: of that; a ConvergenceWarning says that they were not enough.

    Attributes:
        coef_: [d].
        intercept_: a number.
        classes_: [2].
        combination_: θ [M].
        task_covariance_: Ω̃ [M + 1, M + 1], the new task last.
        task_correlation_: Ω̃ scaled to a diagonal of 1.
        objective_: the minimum found.
    """

    _classify = True

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits [n] of ``classes_[1]``; errors as of ``predict``."""
        return self._answers(X)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities [n, 2] of ``classes_``; errors as of ``predict``."""
        upper = expit(self._answers(X))
        return np.column_stack([1.0 - upper, upper])

    def predict(self, X: Any) -> np.ndarray:
        """Classes [n] of examples [n, d].

        Raises:
            InvalidArgumentError: other features than when fitted.
            DataError: NaN or infinity.
        """
        chosen: np.ndarray = self.classes_[(self._answers(X) > 0.0).astype(int)]
        return chosen
