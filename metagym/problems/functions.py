"""Shifted and rotated test functions: six classics, with a minimum of 0 at a random place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from metagym.core.task import Task
from metagym.errors import check_choice
from metagym.problems.base import ProblemFamily
from metagym.problems.checks import check_dim

ValueAndGrad = tuple[np.ndarray, np.ndarray]


class TestFunction(ProblemFamily):
    """f(x) = g(scale R (x - s)), with g a classic moved so that its minimum is g(0) = 0.

    - Functions, in u = z - z*, with z the variable of the textbook and z* its minimum:

      | name | g | scale |
      |---|---|---|
      | sphere | sum z_i^2 | 1 |
      | rosenbrock | sum 100 (z_{i+1} - z_i^2)^2 + (1 - z_i)^2, z* = 1 | 0.4 |
      | rastrigin | sum z_i^2 + 10 (1 - cos 2 pi z_i) | 1 |
      | ackley | 20 (1 - exp(-rms(z)/5)) + e - exp(mean cos 2 pi z_i) | 6.4 |
      | griewank | sum z_i^2/4000 + 1 - prod cos(z_i/sqrt i) | 120 |
      | styblinski_tang | sum (z_i^4 - 16 z_i^2 + 5 z_i)/2 + 39.166..., z_i* = -2.9035... | 1 |

      The scale maps every function's usual domain to [-5, 5]^d. All are written without
      cancellation near the minimum, so that log(f) stays meaningful down to the rounding of x.
    - Task: ``shift`` s [n, d] ~ U[-4, 4]^d, where the minimum is; ``rotation`` R [n, d, d], a
      random orthogonal matrix (uniform).
    - Start: uniform in [-radius, radius]^d, radius 5.
    - Splits: the environment's stream of tasks carries the split.
    - Source: Hansen et al. (2009), "Real-parameter black-box optimization benchmarking" for
      domain, shift and rotation; the functions are textbook ones. ``lower`` is 0, attained at s.

    Args:
        name: which function.
        dim: d; Rosenbrock needs at least 2.
    """

    __test__ = False  # pytest would take the name for a class of tests

    radius = 5.0

    def __init__(self, name: str = "sphere", dim: int = 10) -> None:
        self.name = check_choice("name", name, _FUNCTIONS)
        self._function, self._scale = _FUNCTIONS[name]
        self.dim = check_dim(name, dim, 2 if name == "rosenbrock" else 1)

    def sample(self, rng: np.random.Generator, n: int, split: str) -> Task:
        Q, R = np.linalg.qr(rng.standard_normal((n, self.dim, self.dim)))
        # Without the signs of R's diagonal Q would not be uniform (Mezzadri 2007).
        Q *= np.sign(np.diagonal(R, axis1=1, axis2=2))[:, None]
        return {"shift": rng.uniform(-4, 4, (n, self.dim)), "rotation": Q}

    def initial(self, task: Task, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(-self.radius, self.radius, task["shift"].shape)

    def value_and_grad(
        self, task: Task, x: np.ndarray, rng: np.random.Generator | None = None
    ) -> ValueAndGrad:
        u = np.matvec(task["rotation"], x - task["shift"])
        u *= self._scale
        value, slope = self._function(u)
        slope *= self._scale
        return value, np.vecmat(slope, task["rotation"])


# Each takes u [n, d], the distance from the minimum, and returns g [n] and its gradient [n, d].


def _sphere(u: np.ndarray) -> ValueAndGrad:
    return np.vecdot(u, u), 2 * u


def _rosenbrock(u: np.ndarray) -> ValueAndGrad:
    head = u[:, :-1]
    valley = u[:, 1:] - head * (2 + head)  # z_{i+1} - z_i^2 with z = 1 + u
    gradient = np.zeros_like(u)
    gradient[:, 1:] = 200 * valley
    gradient[:, :-1] += 2 * head - 400 * valley * (1 + head)
    return 100 * np.vecdot(valley, valley) + np.vecdot(head, head), gradient


def _rastrigin(u: np.ndarray) -> ValueAndGrad:
    half = np.sin(np.pi * u)  # 1 - cos 2a = 2 sin^2 a
    gradient = 2 * u + 20 * np.pi * np.sin(2 * np.pi * u)
    return np.vecdot(u, u) + 20 * np.vecdot(half, half), gradient


def _ackley(u: np.ndarray) -> ValueAndGrad:
    d = u.shape[1]
    rms = np.sqrt(np.vecdot(u, u) / d)
    half = np.sin(np.pi * u)
    ripple = -2 * np.vecdot(half, half) / d  # mean of cos(2 pi u) - 1
    value = -20 * np.expm1(-rms / 5) - np.e * np.expm1(ripple)
    # At u = 0 there is a kink; the gradient there is 0.
    radial = 4 * np.exp(-rms / 5) / (d * np.where(rms > 0, rms, 1))
    wave = (2 * np.pi * np.e / d) * np.exp(ripple)
    return value, radial[:, None] * u + wave[:, None] * np.sin(2 * np.pi * u)


def _griewank(u: np.ndarray) -> ValueAndGrad:
    root = np.sqrt(np.arange(1, u.shape[1] + 1)).astype(u.dtype)
    v = u / root
    cos = np.cos(v)
    before, after = np.ones_like(u), np.ones_like(u)  # products of the other cosines
    np.cumprod(cos[:, :-1], axis=1, out=before[:, 1:])
    after[:, :-1] = np.cumprod(cos[:, :0:-1], axis=1)[:, ::-1]
    # 1 - prod cos_i = sum of (1 - cos_i) prod_{j<i} cos_j, and 1 - cos v = 2 sin^2(v/2).
    value = np.vecdot(u, u) / 4000 + 2 * np.vecdot(np.sin(v / 2) ** 2, before)
    return value, u / 2000 + before * after * np.sin(v) / root


# The minimum of (z^4 - 16 z^2 + 5 z)/2: the least root of 4 z^3 - 32 z + 5, by Newton.
_A = -2.903534027771177


def _styblinski_tang(u: np.ndarray) -> ValueAndGrad:
    # With a double root at u = 0 the quartic divides into u^2 and a positive quadratic.
    rest = u * (u + 4 * _A) + (6 * _A**2 - 16)
    return np.vecdot(u * rest, u) / 2, u * (rest + u * (u + 2 * _A))


_FUNCTIONS: dict[str, tuple[Callable[[np.ndarray], ValueAndGrad], float]] = {
    "sphere": (_sphere, 1.0),
    "rosenbrock": (_rosenbrock, 0.4),
    "rastrigin": (_rastrigin, 1.0),
    "ackley": (_ackley, 6.4),
    "griewank": (_griewank, 120.0),
    "styblinski_tang": (_styblinski_tang, 1.0),
}
