"""Linear models of several tasks, learned together, with scikit-learn's face.

The objective of the lectures, for tasks m = 1 … M with weights w^m:

    min_W  Σ_m a_m L(X^m, y^m, w^m)  +  λ Reg(W)  +  λ₁ Σ_m ‖w^m‖²

with λ = ``strength``, λ₁ = ``ridge`` and Reg of ``regularizers.py``. For two tasks,
``task_weights=(α, 1 - α)`` and ``regularizer="pairwise"`` make it
α L₁ + (1 - α) L₂ + λ₁ (‖w¹‖² + ‖w²‖²) + λ₂ ‖w¹ - w²‖². With ``regularizer="none"`` every task is
on its own: the single-task twin that shows what sharing gains.

``X`` holds the examples of all tasks, and one column that says which task a row belongs to
(``stacked.py``). Features should have similar scales, as for every penalty on weights.

Lecture topic: multi-task learning, linear models.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from metagym.baselines.multitask.losses import TaskLosses
from metagym.baselines.multitask.regularizers import NORMS, REGULARIZERS, coupling
from metagym.baselines.multitask.solvers import Solution, minimize_coupled, minimize_norm
from metagym.baselines.multitask.stacked import check_stacked, split_column
from metagym.baselines.transfer.base import check_labels
from metagym.errors import (
    InvalidArgumentError,
    check_above_zero,
    check_choice,
    check_not_negative,
    check_positive,
)


class LinearTasks(BaseEstimator, ABC):  # type: ignore[misc]
    """What linear models of tasks have in common: input, fitting, answers.

    Attributes:
        coef_: [M, d].
        intercept_: [M], not penalised.
        task_names_: [M], values of the column of tasks, sorted; row m of ``coef_`` is task m's.
        classes_: of a classifier, [2].
        objective_: the minimum found.
        n_iter_: iterations of the solver.
    """

    _classify: ClassVar[bool]
    task_column: int | str
    strength: float
    ridge: float
    reduction: str
    task_weights: Sequence[float] | None
    fit_intercept: bool
    tol: float
    max_iter: int

    @abstractmethod
    def _solve(self, losses: TaskLosses) -> Solution:
        """Minimise, and set attributes of what else is learned."""

    def fit(self, X: Any, y: Any) -> Any:
        """Learn all tasks.

        Args:
            X: array or DataFrame [n, d + 1], examples with their task in ``task_column``.
            y: [n], values or two classes.

        Returns:
            Itself.

        Raises:
            InvalidArgumentError: shapes that do not fit, a negative strength, another choice than
                those documented, not two classes in every task.
            DataError: NaN or infinity.
        """
        data = check_stacked(X, y, self.task_column, classify=self._classify)
        check_not_negative("strength", self.strength)
        check_not_negative("ridge", self.ridge)
        check_above_zero("tol", self.tol)
        check_positive("max_iter", self.max_iter)
        if self._classify:
            self.classes_ = np.unique(data.y)
            data = data._replace(y=np.where(data.y == self.classes_[1], 1.0, -1.0))
        losses = TaskLosses(
            data, "logistic" if self._classify else "squared", reduction=self.reduction,
            task_weights=self.task_weights, fit_intercept=self.fit_intercept,
        )  # fmt: skip
        solution = self._solve(losses)
        self.coef_, self.intercept_ = losses.finish(solution.parameters)
        self.task_names_, self.n_features_in_ = data.names, losses.features + 1
        self.objective_, self.n_iter_ = solution.objective, solution.iterations
        if not solution.converged:
            warnings.warn(
                f"{type(self).__name__} stopped after {solution.iterations} iterations before its "
                f"criterion was met: raise max_iter={self.max_iter} or tol={self.tol:g}, scale "
                "the features, or add ridge, without which separable classes have no solution.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _answers(self, X: Any) -> np.ndarray:
        """[n]: w·x + b of the task of each row."""
        check_is_fitted(self)
        table, names = split_column(X, self.task_column)
        if table.shape[1] + 1 != self.n_features_in_:
            raise InvalidArgumentError(
                f"X has {table.shape[1] + 1} columns; it had {self.n_features_in_} when fitted."
            )
        known = {name: number for number, name in enumerate(self.task_names_.tolist())}
        distinct, which = np.unique(names, return_inverse=True)
        if unknown := [name for name in distinct.tolist() if name not in known]:
            raise InvalidArgumentError(
                f"Task {unknown[0]!r} was not among those fitted: "
                f"{', '.join(map(repr, list(known)[:10]))}."
            )
        task = np.array([known[name] for name in distinct.tolist()])[which]
        answers: np.ndarray = np.einsum("nd,nd->n", table, self.coef_[task]) + self.intercept_[task]
        return answers


class TasksRegressor(RegressorMixin, LinearTasks):  # type: ignore[misc]
    """Values: squared error."""

    _classify = False

    def predict(self, X: Any) -> np.ndarray:
        """Values [n] of examples [n, d + 1].

        Raises:
            InvalidArgumentError: other columns than when fitted, or an unknown task.
            DataError: NaN or infinity.
        """
        return self._answers(X)

    def score(self, X: Any, y: Any) -> float:
        """The mean of the tasks' R², so that neither units nor sizes of tasks decide.

        R² of all rows together would count as explained that tasks have different means.

        Args:
            X: examples [n, d + 1], two or more of each task that occurs.
            y: values [n].

        Raises:
            InvalidArgumentError: as of ``predict``, labels that do not fit, or a single example.
            DataError: NaN or infinity.
        """
        answers = self.predict(X)
        labels = check_labels("y", y, len(answers), classify=False)
        names, task = np.unique(split_column(X, self.task_column)[1], return_inverse=True)
        counts = np.bincount(task)
        if counts.min() < 2:
            raise InvalidArgumentError(
                f"X has one example of task {names.tolist()[counts.argmin()]!r}, and R² needs two; "
                "give more."
            )
        rows = [task == number for number in range(len(names))]
        return float(np.mean([r2_score(labels[mine], answers[mine]) for mine in rows]))


class TasksClassifier(ClassifierMixin, LinearTasks):  # type: ignore[misc]
    """Two classes, the same in all tasks: logistic loss."""

    _classify = True

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits [n] of ``classes_[1]``; errors as of ``predict``."""
        return self._answers(X)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities [n, 2] of ``classes_``; errors as of ``predict``."""
        upper = expit(self._answers(X))
        return np.column_stack([1.0 - upper, upper])

    def predict(self, X: Any) -> np.ndarray:
        """Classes [n] of examples [n, d + 1].

        Raises:
            InvalidArgumentError: other columns than when fitted, or an unknown task.
            DataError: NaN or infinity.
        """
        chosen: np.ndarray = self.classes_[(self._answers(X) > 0.0).astype(int)]
        return chosen


class _MultiTask(LinearTasks):
    """What ``MultiTaskRegressor`` and ``MultiTaskClassifier`` minimise."""

    def __init__(
        self,
        regularizer: str = "mean",
        strength: float = 1.0,
        *,
        ridge: float = 0.0,
        task_column: int | str = -1,
        reduction: str = "mean",
        task_weights: Sequence[float] | None = None,
        fit_intercept: bool = True,
        tol: float = 1e-6,
        max_iter: int = 2000,
    ) -> None:
        self.regularizer = regularizer
        self.strength = strength
        self.ridge = ridge
        self.task_column = task_column
        self.reduction = reduction
        self.task_weights = task_weights
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    def _solve(self, losses: TaskLosses) -> Solution:
        name = check_choice("regularizer", self.regularizer, REGULARIZERS)
        a = self.ridge * np.eye(losses.tasks)
        if name in NORMS:
            return minimize_norm(
                losses, NORMS[name], self.strength, a, tol=self.tol, max_iter=self.max_iter
            )
        a += self.strength * coupling(name, losses.tasks)
        return minimize_coupled(losses, a, tol=self.tol, max_iter=self.max_iter)


class MultiTaskRegressor(TasksRegressor, _MultiTask):
    """Linear regression of several tasks with a penalty on how they differ.

    Args:
        regularizer: "mean" or "pairwise" (soft sharing), "l21" (the same features for all),
            "trace" (low rank), or "none".
        strength: λ, of the regulariser.
        ridge: λ₁, of the squared lengths of weights.
        task_column: of X: an index, or a name in a DataFrame.
        reduction: "mean": L is the mean over a task's examples, and sizes of tasks do not decide;
            "sum": every example counts the same.
        task_weights: a_m, in the order of ``task_names_``; None: 1 for all.
        fit_intercept: whether tasks have intercepts, which no penalty sees.
        tol: of the solvers, see ``solvers.py``.
        max_iter: of the solvers; a ConvergenceWarning says that they were not enough.
    """


class MultiTaskClassifier(TasksClassifier, _MultiTask):
    """Logistic regression of several tasks with a penalty on how they differ.

    Args:
        regularizer: "mean" or "pairwise" (soft sharing), "l21" (the same features for all),
            "trace" (low rank), or "none".
        strength: λ, of the regulariser.
        ridge: λ₁, of the squared lengths of weights.
        task_column: of X: an index, or a name in a DataFrame.
        reduction: "mean": L is the mean over a task's examples, and sizes of tasks do not decide;
            "sum": every example counts the same.
        task_weights: a_m, in the order of ``task_names_``; None: 1 for all.
        fit_intercept: whether tasks have intercepts, which no penalty sees.
        tol: of the solvers, see ``solvers.py``.
        max_iter: of the solvers; a ConvergenceWarning says that they were not enough.
    """
