"""What the optimisation environments share: one episode is one run of an optimiser.

``OptimizationEnv`` owns the iterate, the losses, divergence, the rewards and what ``info`` tells;
an environment adds its action space, how an action becomes the next iterate, and what of the
history is observed.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from metagym.core.batch import ALL, BatchedEnv
from metagym.core.history import History
from metagym.core.task import Task
from metagym.errors import InvalidArgumentError, check_choice, check_positive
from metagym.problems import ProblemFamily, make_problem
from metagym.problems.checks import check_scale

# Divergence: a loss that is not finite or exceeds this. It is also the bound of observations.
DIVERGENCE = 1e8
# In log(f - lower + EPSILON), for rewards and scores.
EPSILON = 1e-12

REWARDS = ("negative_loss", "log_improvement", "observed_improvement")


def acts_by_updates(env: object) -> bool:
    """Whether actions are parameter updates in units of ``action_scale``, as in LearnToOptimize.

    Args:
        env: a batch without its wrappers.
    """
    return hasattr(env, "action_scale") and hasattr(env, "dim")


class OptimizationEnv(BatchedEnv):
    """Base of the environments in which an episode minimises a function.

    A subclass implements ``_make_action_space``, ``_next_iterate`` and, for what is observed,
    ``_entry`` and ``_entry_bounds``; see ``LearnToOptimizeVectorEnv``.

    The loss of a stochastic family is always the full one in rewards, ``info`` and scores; the
    observation shows what the minibatch showed. ``noise`` adds N(0, noise^2) to every observed
    loss and gradient coordinate, never to the reward.
    """

    score_name = "log10(f - lower + 1e-12) at the last step"
    score_minimize = True
    rewards: ClassVar[tuple[str, ...]] = REWARDS
    _state_names: ClassVar[tuple[str, ...]] = (
        "_x", "_gradient", "_loss", "_best_loss", "_initial_loss", "_diverged", "_lower",
        "_history", "_start_seed", "_trace",
    )  # fmt: skip

    def __init__(
        self,
        num_envs: int,
        *,
        problem: str | ProblemFamily,
        dim: int | None,
        problem_kwargs: dict[str, Any] | None,
        horizon: int,
        history: int,
        reward: str,
        noise: float,
        dtype: str,
        **kwargs: Any,
    ) -> None:
        self.problem = make_problem(problem, dim, **(problem_kwargs or {}))
        self.dim = self.problem.dim
        self.reward = check_choice("reward", reward, self.rewards)
        self.history = check_positive("history", history)
        self.noise = check_scale("noise", noise, zero=True)
        name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
        self.dtype = np.dtype(check_choice("dtype", name, ("float32", "float64")))
        entry_bounds = self._entry_bounds().astype(np.float32)
        bounds = np.tile(entry_bounds, self.history)
        super().__init__(
            num_envs,
            single_observation_space=gym.spaces.Box(-bounds, bounds, dtype=np.float32),
            single_action_space=self._make_action_space(),
            horizon=check_positive("horizon", horizon),
            **kwargs,
        )
        self._history = History(num_envs, self.history, len(entry_bounds))
        self._x, self._gradient = np.zeros((2, num_envs, self.dim), self.dtype)
        self._loss, self._best_loss, self._initial_loss, self._lower = np.zeros(
            (4, num_envs), self.dtype
        )
        self._diverged = np.zeros(num_envs, dtype=bool)
        self._start_seed = 0
        self._trace: list[list[tuple[np.ndarray, float]]] = [[] for _ in range(num_envs)]

    # -- what an environment implements --------------------------------------------------------

    @abstractmethod
    def _make_action_space(self) -> gym.spaces.Box:
        """The action space of one row."""

    @abstractmethod
    def _entry_bounds(self) -> np.ndarray:
        """The largest absolute value of each of the floats [width] that show one step."""

    @abstractmethod
    def _next_iterate(self, actions: np.ndarray) -> np.ndarray:
        """The next iterate [B, d] that the actions lead to."""

    @abstractmethod
    def _entry(
        self, rows: Any, loss: np.ndarray, gradient: np.ndarray, update: np.ndarray
    ) -> np.ndarray:
        """The newest entry [n, width] of the given rows' history (float32, unclipped).

        ``self._x`` is the new iterate already, ``self._gradient`` still the last one's gradient.
        """

    # -- the hooks of BatchedEnv ---------------------------------------------------------------

    def _sample_tasks(self, rng: np.random.Generator, n: int) -> Task:
        task = self.problem.sample(rng, n, self.split)
        for name, values in task.items():
            if getattr(values, "shape", ())[:1] != (n,):
                raise InvalidArgumentError(
                    f"{type(self.problem).__name__}.sample(rng, n={n}, split): {name!r} has to be "
                    f"an array with the leading axis {n}; its shape is "
                    f"{getattr(values, 'shape', None)}."
                )
        task["initial"] = self._initial(task, rng)
        return {
            name: values.astype(self.dtype) if values.dtype.kind == "f" else values
            for name, values in task.items()
        }

    def _initial(self, task: Task, rng: np.random.Generator) -> np.ndarray:
        """Where the episodes of ``task`` start [n, d]."""
        return self.problem.initial(task, rng)

    def _start(self, rows: Any) -> None:
        task = {name: values[rows] for name, values in self._task.items()}
        x = task["initial"]
        if isinstance(rows, slice):  # an explicit reset; otherwise the step drew the seed
            self._draw_start_seed()
        rng = np.random.default_rng(self._start_seed)
        self._start_seed += 1
        loss, observed, gradient = self._evaluate(task, x, rng)
        self._cap(loss, observed, gradient)
        self._x[rows] = x
        self._lower[rows] = self.problem.lower(task)
        self._check_lower(loss, self._lower[rows])
        self._loss[rows] = self._best_loss[rows] = self._initial_loss[rows] = loss
        self._diverged[rows] = False
        self._history.restart(rows, self._entry_clipped(rows, observed, gradient, np.zeros_like(x)))
        self._gradient[rows] = gradient
        if self.render_mode is not None:
            for row in np.arange(self.num_envs)[rows]:
                self._trace[row] = [(self._x[row].copy(), float(self._loss[row]))]

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        x = self._next_iterate(actions)
        loss, observed, gradient = self._evaluate(self._task, x, self._noise_rng)
        self._draw_start_seed()
        diverged = self._cap(loss, observed, gradient)
        if diverged.any():
            x[diverged] = self._x[diverged]
        rewards = self._reward(loss, diverged)
        update = x - self._x
        self._x, self._loss, self._diverged = x, loss, diverged
        np.minimum(self._best_loss, loss, out=self._best_loss)
        self._history.push(self._entry_clipped(ALL, observed, gradient, update))
        self._gradient = gradient
        if self.render_mode is not None:
            for row in np.flatnonzero(~(self._terminated | self._truncated)):
                self._trace[row].append((x[row].copy(), float(loss[row])))
        return rewards, diverged, {"loss": loss.copy(), "best_loss": self._best_loss.copy()}

    def _observe(self, rows: Any = ALL) -> np.ndarray:
        window = self._history.window(rows)
        return window.reshape(len(window), -1)

    def _start_info(self) -> dict[str, np.ndarray]:
        return {"loss": self._loss, "best_loss": self._best_loss}

    def _end_info(self) -> dict[str, np.ndarray]:
        """The score; a diverged run counts with its loss at the cap of 1e8."""
        self._check_lower(self._loss, self._lower)
        return {
            "score": np.log10(self._gap(self._loss)),
            "diverged": self._diverged | (self._loss > self._initial_loss),
        }

    # -- the inside ----------------------------------------------------------------------------

    def _evaluate(
        self, task: Task, x: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The full loss, and the loss and gradient that are observed: three fresh arrays."""
        with np.errstate(all="ignore"):  # divergence is for _cap to see
            if self.problem.stochastic:
                loss = self.problem.value(task, x)
                observed, gradient = self.problem.value_and_grad(task, x, rng)
            else:
                observed, gradient = self.problem.value_and_grad(task, x)
                loss = observed
        self._check_shapes(x, loss, observed, gradient)
        if self.noise > 0.0:
            assert rng is not None
            draw = rng.standard_normal((len(x), 1 + self.dim))
            observed = observed + self.noise * draw[:, 0].astype(self.dtype)
            gradient = gradient + self.noise * draw[:, 1:].astype(self.dtype)
        elif loss is observed:
            observed = loss.copy()
        return loss, observed, gradient

    def _check_lower(self, loss: np.ndarray, lower: np.ndarray) -> None:
        """A loss below its bound would count as perfect."""
        if (loss - lower < -1e-3 * (1.0 + np.abs(lower))).any():
            raise InvalidArgumentError(
                f"{type(self.problem).__name__}: a loss of {loss.min():.4g} lies below its "
                f"lower(task), {lower.max():.4g}; override lower() with a bound of f."
            )

    def _check_shapes(self, x: np.ndarray, *found: np.ndarray) -> None:
        """A family that returned other shapes would broadcast, silently, into wrong numbers."""
        wanted = (x.shape[:1], x.shape[:1], x.shape)
        shapes = tuple(getattr(array, "shape", None) for array in found)
        if shapes != wanted:
            raise InvalidArgumentError(
                f"{type(self.problem).__name__}: for x of shape {x.shape}, value has to return an "
                f"array of shape {wanted[0]}, value_and_grad {wanted[1:]}; they returned "
                f"{shapes[0]} and {shapes[1:]}."
            )

    def _draw_start_seed(self) -> None:
        """Noise at the start of episodes has a generator per step, so that a row that restarts
        does not shift the noise of the others."""
        if self.noise > 0.0 or self.problem.stochastic:
            assert self._noise_rng is not None
            self._start_seed = int(self._noise_rng.integers(2**62))

    def _cap(self, loss: np.ndarray, observed: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Which rows [n] diverge; nothing non-finite of theirs is left in the arrays."""
        finite = np.isfinite(loss) & np.isfinite(observed) & (loss <= DIVERGENCE)
        numbers = np.isfinite(gradient)
        if not numbers.all():  # the row by row question is ten times as slow
            finite &= numbers.all(axis=1)
        diverged = ~finite
        if diverged.any():
            gradient[diverged], loss[diverged], observed[diverged] = 0.0, DIVERGENCE, DIVERGENCE
        return diverged

    def _entry_clipped(self, rows: Any, *parts: np.ndarray) -> np.ndarray:
        entry = self._entry(rows, *parts)
        np.maximum(entry, -DIVERGENCE, out=entry)
        return np.minimum(entry, DIVERGENCE, out=entry)

    def _reward(self, loss: np.ndarray, diverged: np.ndarray) -> np.ndarray:
        """The reward [B] (float64) of moving from ``self._loss`` to ``loss``.

        A diverged row has its loss at the threshold already. With ``negative_loss`` it pays for
        every step that is left, as if it stayed there until the horizon; the other two rewards
        telescope, so that staying would cost nothing more.
        """
        if self.reward == "negative_loss":
            rewards = -loss.astype(np.float64)
            if diverged.any():
                assert self.horizon is not None
                rewards[diverged] *= self.horizon - self._elapsed[diverged]
            return rewards
        if self.reward == "observed_improvement":
            return np.maximum(self._best_loss.astype(np.float64) - loss, 0.0)
        return np.log(self._gap(self._loss) / self._gap(loss))

    def _gap(self, loss: np.ndarray) -> np.ndarray:
        """loss - lower + 1e-12 [B] (float64), positive whatever the rounding."""
        return np.maximum(loss.astype(np.float64) - self._lower, 0.0) + EPSILON

    def _render_row(self, row: int) -> np.ndarray:
        from metagym.rendering.optimization import draw_optimization  # matplotlib is slow to import

        task = {name: values[row : row + 1] for name, values in self._task.items()}
        return draw_optimization(self.problem, task, self._trace[row], self.horizon)
