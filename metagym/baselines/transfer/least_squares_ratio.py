"""The density ratio as the least-squares fit of a sum of kernels: LSIF and uLSIF.

    J(α) = ½ E_S[(β(x) − p_T(x) / p_S(x))²] = ½ αᵀ H α − hᵀ α + constant,
    H = mean_S k(x) k(x)ᵀ,  h = mean_T k(x)

Lecture topic: instance transfer. Kanamori, Hido & Sugiyama (2009), A least-squares approach to
direct importance estimation, JMLR 10. The kernels are those of ``fitted_ratio``.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import scipy.linalg

from metagym.baselines.transfer.convex import nonnegative_minimum
from metagym.baselines.transfer.fitted_ratio import KernelRatio, splits
from metagym.errors import InvalidArgumentError, check_above_zero, check_positive

QUADRATIC = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # λ among which uLSIF chooses
LINEAR = (1e-4, 1e-3, 1e-2, 1e-1)  # of LSIF; at λ = 1 no kernel has a coefficient above 0


class LSIF(KernelRatio):
    """Least-squares importance fitting (Kanamori et al. 2009).

        min ½ αᵀ H α − hᵀ α + λ Σ α  subject to α ≥ 0

    A quadratic program with few unknowns, solved by ``nonnegative_minimum``. Candidates are
    judged by the criterion, without the penalty, on held-out examples of both domains: by its mean
    over folds plus the standard error of that mean. The mean alone falls without bound by chance,
    where a centre with few source examples about it has a large coefficient and a fold holds
    target examples there but none of the source.

    Args:
        width: σ; None: chosen among multiples of the median distance.
        regularization: λ > 0; None: chosen among ``LINEAR``.
        centres: at most so many target examples.
        folds: of cross-validation.
        random_state: of centres and folds.

    Attributes:
        regularization_: λ that was used.
    """

    def __init__(
        self,
        width: float | None = None,
        regularization: float | None = None,
        centres: int = 100,
        folds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.width = width
        self.regularization = regularization
        self.centres = centres
        self.folds = folds
        self.random_state = random_state

    def _fit_coefficients(
        self, source: np.ndarray, target: np.ndarray, widths: tuple[float, ...]
    ) -> None:
        penalties = _penalties(self.regularization, LINEAR)
        self.width_, self.regularization_ = widths[0], penalties[0]
        if len(widths) * len(penalties) > 1:
            for width in widths:
                self._score(*self._kernels(source, target, width), width, penalties)
            self.width_, self.regularization_ = self._best()
        in_source, in_target = self._kernels(source, target, self.width_)
        self.coef_ = nonnegative_minimum(
            in_source.T @ in_source / len(source),
            in_target.mean(axis=0) - self.regularization_,
        )

    def _score(
        self,
        in_source: np.ndarray,
        in_target: np.ndarray,
        width: float,
        penalties: tuple[float, ...],
    ) -> None:
        """Enter the negative criterion on held-out examples for each λ."""
        folds = min(len(in_source), len(in_target), check_positive("folds", self.folds))
        pairs = zip(
            splits(len(in_source), folds, self.random_state),
            splits(len(in_target), folds, self.random_state),
            strict=True,
        )
        held_out: dict[float, list[float]] = {penalty: [] for penalty in penalties}
        for (learn_s, judge_s), (learn_t, judge_t) in pairs:
            H = in_source[learn_s].T @ in_source[learn_s] / len(learn_s)
            h = in_target[learn_t].mean(axis=0)
            for penalty, scores in held_out.items():
                coef = nonnegative_minimum(H, h - penalty)
                scores.append(_criterion(in_source[judge_s] @ coef, in_target[judge_t] @ coef))
        for penalty, scores in held_out.items():
            self.scores_[width, penalty] = -_upper(scores) if scores else -np.inf


class ULSIF(KernelRatio):
    """Unconstrained least-squares importance fitting, uLSIF (Kanamori et al. 2009).

        α = max(0, (H + λ I)⁻¹ h)

    The criterion of ``LSIF`` with a quadratic penalty and without the constraint, hence one
    linear system; negative coefficients are set to 0 afterwards. Width and λ are those of the
    best leave-one-out score, which has a closed form (``leave_one_out``).

    Args:
        width: σ; None: chosen among multiples of the median distance.
        regularization: λ > 0; None: chosen among ``QUADRATIC``.
        centres: at most so many target examples.
        random_state: of the centres.

    Attributes:
        regularization_: λ that was used.
    """

    def __init__(
        self,
        width: float | None = None,
        regularization: float | None = None,
        centres: int = 100,
        random_state: int = 0,
    ) -> None:
        self.width = width
        self.regularization = regularization
        self.centres = centres
        self.random_state = random_state

    def _fit_coefficients(
        self, source: np.ndarray, target: np.ndarray, widths: tuple[float, ...]
    ) -> None:
        penalties = _penalties(self.regularization, QUADRATIC)
        self.width_, self.regularization_ = widths[0], penalties[0]
        if len(widths) * len(penalties) > 1:
            enough = min(len(source), len(target)) > 1
            for width, penalty in itertools.product(widths, penalties):
                score = -np.inf
                if enough:
                    score = -leave_one_out(*self._kernels(source, target, width), penalty)
                self.scores_[width, penalty] = score
            self.width_, self.regularization_ = self._best()
        in_source, in_target = self._kernels(source, target, self.width_)
        H = in_source.T @ in_source / len(source)
        self.coef_ = np.maximum(0.0, _solve(H, self.regularization_, in_target.mean(axis=0)))


def leave_one_out(in_source: np.ndarray, in_target: np.ndarray, penalty: float) -> float:
    """The leave-one-out criterion of uLSIF, ½ mean_S β² − mean_T β, in closed form.

    Example i of the source and example i of the target are left out together, for the first
    min(n, m) of each. Leaving one out changes H by a matrix of rank one, so that the inverse
    follows by the Sherman-Morrison formula from one system for all i.

    Args:
        in_source: kernels at the source [n, b].
        in_target: kernels at the target [m, b].
        penalty: λ.
    """
    n, m = len(in_source), len(in_target)
    k_source, k_target = in_source[: min(n, m)], in_target[: min(n, m)]  # [i, b]
    shrink = (n - 1) / n
    H = in_source.T @ in_source / n
    h = (m * in_target.mean(axis=0) - k_target) / (m - 1)  # [i, b], without example i
    solved = _solve(H, penalty * shrink, np.concatenate([k_source, h]).T).T
    P, Q = solved[: len(h)], solved[len(h) :]
    factor = (k_source * Q).sum(axis=1) / (n - (k_source * P).sum(axis=1))
    coef = np.maximum(0.0, shrink * (Q + factor[:, None] * P))
    return _criterion((k_source * coef).sum(axis=1), (k_target * coef).sum(axis=1))


def _solve(H: np.ndarray, penalty: float, right: np.ndarray) -> np.ndarray:
    """(H + λ I)⁻¹ ``right``."""
    try:
        factor = scipy.linalg.cho_factor(H + penalty * np.eye(len(H)))
    except np.linalg.LinAlgError:
        raise InvalidArgumentError(
            f"regularization={penalty:g} is too small: the kernel matrix stays singular. Raise it, "
            "or use a smaller width."
        ) from None
    solution: np.ndarray = scipy.linalg.cho_solve(factor, right)
    return solution


def _criterion(in_source: np.ndarray, in_target: np.ndarray) -> float:
    """½ mean_S β² − mean_T β of ratios [n] and [m]."""
    return float(0.5 * (in_source**2).mean() - in_target.mean())


def _upper(scores: list[float]) -> float:
    """The mean of two scores or more, plus its standard error."""
    return float(np.mean(scores) + np.std(scores, ddof=1) / np.sqrt(len(scores)))


def _penalties(regularization: Any, candidates: tuple[float, ...]) -> tuple[float, ...]:
    if regularization is None:
        return candidates
    return (check_above_zero("regularization", regularization),)
