"""BlackBoxOptimize-v0: an agent minimises a function that it can only ask for values.

The setting of Chen et al. (2017), Learning to learn without gradient descent by gradient descent.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from metagym.core.optimization import DIVERGENCE, OptimizationEnv
from metagym.core.single import SingleEnv
from metagym.core.task import Task
from metagym.errors import reject_unknown_kwargs
from metagym.problems import ProblemFamily


class BlackBoxOptimizeVectorEnv(OptimizationEnv):
    """
    ## Description

    An agent has `horizon` queries to find a low value of an unknown function in a cube. It sees
    the points that it asked for and their values, and no gradient: hyperparameter tuning,
    experiment design and bandits with a continuum of arms have this form.

    What counts is the best value found, not the last one.

    ## Action Space

    `Box(-1, 1, (d,), float32)`: the next query, absolute (not a step from the last one), in
    coordinates in which the family's domain [-radius, radius]^d is [-1, 1]^d.

    | index | meaning | range |
    |---|---|---|
    | 0 … d-1 | the query, divided by `radius` | [-1, 1] |

    ## Observation Space

    The last `history` queries, oldest first, newest last, as blocks of d + 2 numbers; the shape
    is `(history · (d + 2),)`, float32. Blocks of queries not made yet are zero.

    | index in the block | meaning | range |
    |---|---|---|
    | 0 | value f at the query | [-1e8, 1e8] |
    | 1 … d | the query, divided by `radius` | [-1, 1] |
    | d+1 | share of the budget that was left after it | [0, 1] |

    The share is there because the budget ends the episode: how much is left decides between
    exploring and refining. The domain is the family's (`radius`; 5 where a family states none).

    ## Rewards

    - `"negative_loss"` (default): -f at the query, without noise.
    - `"observed_improvement"`: how much lower f at the query is than the lowest f so far, or 0;
      the return is f(first) - f(best). Chen et al., equation for L_OI, with the sign of a reward.

    ## Starting State

    The centre of the cube has been asked already, at no cost: every agent starts from the same
    knowledge, and the first observation is not empty. Optima are not at the centre, families
    shift them.

    ## Task Distribution

    `problem` names a family of functions; each episode draws one of `split`. The splits are
    disjoint. `reset(options={"task": task})` sets tasks, in the form of `info["task"]`, whose
    array `initial` is the first query in the problem's own coordinates.

    ## Episode End

    ### Termination

    After `horizon` queries: the budget defines the task, so nothing lies beyond it. No value
    ends an episode early: one that is not finite or above 1e8 counts as 1e8.

    ### Truncation

    Never.

    ## Information

    | key | when | meaning |
    |---|---|---|
    | `loss`, `best_loss` | always | f at the last query; the lowest so far (without noise) |
    | `task` | reset | the arrays of the task |
    | `score` | end | the lowest f found; smaller is better |

    ## Arguments

    | name | type | default | meaning |
    |---|---|---|---|
    | `num_envs` | int | `1` | rows of the batch (`gym.make_vec` only) |
    | `problem` | str or ProblemFamily | `"test_function"` | a name of `metagym.problems.FAMILIES` or a family of your own |
    | `dim` | int or None | `None` | number of coordinates d; None is the family's default |
    | `problem_kwargs` | dict or None | `None` | further arguments of the family |
    | `horizon` | int | `100` | the budget of queries |
    | `history` | int | `25` | queries that the observation shows |
    | `reward` | str | `"negative_loss"` | `"negative_loss"` or `"observed_improvement"` |
    | `noise` | float | `0.0` | standard deviation of noise on the values as observed; never on rewards |
    | `dtype` | str | `"float32"` | precision of the dynamics, `"float32"` or `"float64"` |
    | `split` | str | `"train"` | `"train"`, `"validation"` or `"test"` |
    | `autoreset_mode` | AutoresetMode or str | `AutoresetMode.NEXT_STEP` | what follows the end of an episode (`gym.make_vec` only) |
    | `render_mode` | str or None | `None` | `"rgb_array"`: values and queries |

    ## Registered Configurations

    | id | arguments |
    |---|---|
    | `BlackBoxOptimize-v0` | the defaults: the shifted, rotated sphere in 10 dimensions |
    | `BlackBoxOptimizeGP-v0` | `problem="gaussian_process"`: samples in 2 dimensions |
    | `BlackBoxOptimizeRosenbrock-v0` | `problem_kwargs={"name": "rosenbrock"}` |
    | `BlackBoxOptimizeRastrigin-v0` | `problem_kwargs={"name": "rastrigin"}` |
    | `BlackBoxOptimizeAckley-v0` | `problem_kwargs={"name": "ackley"}` |
    | `BlackBoxOptimizeGriewank-v0` | `problem_kwargs={"name": "griewank"}` |
    | `BlackBoxOptimizeStyblinskiTang-v0` | `problem_kwargs={"name": "styblinski_tang"}` |

    ## References

    - Y. Chen et al. Learning to learn without gradient descent by gradient descent. ICML 2017.
    - N. Hansen. The CMA evolution strategy: a tutorial. arXiv:1604.00772, 2016 (the baseline).

    ## Version History

    - v0: first version.
    """  # noqa: E501

    score_name = "lowest f found"
    rewards = ("negative_loss", "observed_improvement")

    def __init__(
        self,
        num_envs: int = 1,
        *,
        problem: str | ProblemFamily = "test_function",
        dim: int | None = None,
        problem_kwargs: dict[str, Any] | None = None,
        horizon: int = 100,
        history: int = 25,
        reward: str = "negative_loss",
        noise: float = 0.0,
        dtype: str = "float32",
        split: str = "train",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        reject_unknown_kwargs(type(self), unknown)
        super().__init__(
            num_envs,
            problem=problem,
            dim=dim,
            problem_kwargs=problem_kwargs,
            horizon=horizon,
            history=history,
            reward=reward,
            noise=noise,
            dtype=dtype,
            split=split,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
        )
        # Families without a domain of their own are searched in [-5, 5]^d.
        self.radius = float(getattr(self.problem, "radius", 5.0))
        self._gradient = np.zeros((num_envs, 0), self.dtype)  # nobody sees one
        self._budget_left = np.ones(num_envs, np.float32)

    def _make_action_space(self) -> gym.spaces.Box:
        return gym.spaces.Box(-1.0, 1.0, (self.dim,), np.float32)

    def _entry_bounds(self) -> np.ndarray:
        return np.concatenate([[DIVERGENCE], np.ones(self.dim + 1)])

    def _initial(self, task: Task, rng: np.random.Generator) -> np.ndarray:
        return np.zeros((len(next(iter(task.values()))), self.dim))

    def _start(self, rows: Any) -> None:
        self._budget_left[rows] = 1.0
        super()._start(rows)

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        assert self.horizon is not None
        spent = self._elapsed + 1
        self._budget_left = (1.0 - np.minimum(spent / self.horizon, 1.0)).astype(np.float32)
        rewards, _, infos = super()._advance(actions)
        return rewards, spent >= self.horizon, infos

    def _next_iterate(self, actions: np.ndarray) -> np.ndarray:
        return self.radius * actions.astype(self.dtype)

    def _evaluate(
        self, task: Task, x: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The loss and what is observed of it; the gradient has no columns."""
        with np.errstate(all="ignore"):
            loss = self.problem.value(task, x)
            observed = loss.copy()
            if self.problem.stochastic:
                observed = self.problem.value_and_grad(task, x, rng)[0]
        if self.noise > 0.0:
            assert rng is not None
            observed += self.noise * rng.standard_normal(len(x)).astype(self.dtype)
        capped = (
            np.where(
                np.isfinite(values) & (values <= DIVERGENCE), values, self.dtype.type(DIVERGENCE)
            )
            for values in (loss, observed)
        )
        return *capped, np.zeros((len(x), 0), self.dtype)  # type: ignore[return-value]

    def _entry(
        self, rows: Any, loss: np.ndarray, gradient: np.ndarray, update: np.ndarray
    ) -> np.ndarray:
        entry = np.empty((len(loss), self.dim + 2), np.float32)
        entry[:, 0] = loss
        entry[:, 1:-1] = np.clip(self._x[rows] / self.radius, -1.0, 1.0)
        entry[:, -1] = self._budget_left[rows]
        return entry

    def _end_info(self) -> dict[str, np.ndarray]:
        return {"score": self._best_loss.astype(np.float64)}

    def _render_row(self, row: int) -> np.ndarray:
        from metagym.rendering.optimization import draw_optimization  # matplotlib is slow to import

        task = {name: values[row : row + 1] for name, values in self._task.items()}
        return draw_optimization(
            self.problem, task, self._trace[row], self.horizon, radius=self.radius
        )


class BlackBoxOptimizeEnv(SingleEnv):
    batched = BlackBoxOptimizeVectorEnv
