"""LearningRateControl-v0: an agent sets the hyperparameters of an optimiser, step by step.

The optimiser itself (SGD with momentum, or Adam) is part of the environment and batched, as in
dynamic algorithm configuration (Daniel et al. 2016; Eimer et al. 2021, DACBench).
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from metagym.core.optimization import DIVERGENCE, OptimizationEnv
from metagym.core.single import SingleEnv
from metagym.errors import InvalidArgumentError, check_choice, reject_unknown_kwargs
from metagym.problems import ProblemFamily

# What an optimiser is steered by: the size of its action.
OPTIMIZERS = {"sgd": 2, "adam": 3}
ADAM_EPSILON = 1e-8


class LearningRateControlVectorEnv(OptimizationEnv):
    """
    ## Description

    A run of SGD with momentum, or of Adam, whose learning rate and momenta the agent chooses
    anew before every step. Problems, losses and divergence are those of `LearnToOptimize-v0`,
    but the action has 2 or 3 numbers whatever the dimension of the problem, so that one policy
    can serve them all (with `observation="summary"` also through one network).

    The optimiser's state (momentum buffer; Adam's two moments) belongs to the episode: it starts
    at zero and is kept per row. With a constant action the run equals `torch.optim.SGD` or
    `torch.optim.Adam` with these hyperparameters.

    ## Action Space

    `Box(-1, 1, (2,), float32)` for `optimizer="sgd"`, `Box(-1, 1, (3,), float32)` for `"adam"`.
    The zero action is a sensible optimiser: learning rate 0.03, momentum 0.9, betas (0.9, 0.999).

    | index | meaning | mapping of a in [-1, 1] | at -1 | at 0 | at 1 |
    |---|---|---|---|---|---|
    | 0 | learning rate | 10^(log10 of `lr_range`, linear in a) | 1e-4 | 0.032 | 10 |
    | 1 | momentum (`"sgd"`) or beta1 (`"adam"`) | 1 - 10^-(1 + a) | 0 | 0.9 | 0.99 |
    | 2 | beta2 (`"adam"`) | 1 - 10^-(3 + 2a) | 0.9 | 0.999 | 0.99999 |

    SGD: b <- momentum · b + g, x <- x - lr · b. Adam: moments with the betas of this step, each
    divided by the weight that its gradients carry so far (1 - the product of all betas, which is
    Kingma and Ba's correction where the beta stays the same), epsilon 1e-8. The iterate is kept
    within ±1e8.

    ## Observation Space

    The last `history` steps, oldest first, newest last; zeros where there was no step yet. Each
    step is one block. For `observation="full"` the shape is `(history · (1 + 2d + k),)`, float32,
    with k = 2 or 3:

    | index in the block | meaning | range |
    |---|---|---|
    | 0 | loss f at the iterate | [-1e8, 1e8] |
    | 1 … d | gradient at the iterate | [-1e8, 1e8] |
    | 1+d … 2d | update that led to it | [-1e8, 1e8] |
    | 1+2d … 2d+k | action that led to it | [-1, 1] |

    For `observation="summary"`, `(history · (4 + k),)`, float32, independent of d:

    | index in the block | meaning | range |
    |---|---|---|
    | 0 | loss f at the iterate | [-1e8, 1e8] |
    | 1 | norm of the gradient | [0, 1e8] |
    | 2 | norm of the update that led to it | [0, 1e8] |
    | 3 | cosine between this gradient and the last one (0 at the start) | [-1, 1] |
    | 4 … 3+k | action that led to it | [-1, 1] |

    Values outside their range are clipped to it.

    ## Rewards

    - `"negative_loss"` (default): -f at the new iterate, the full loss, without noise.
    - `"log_improvement"`: log(f_before - lower + 1e-12) - log(f_after - lower + 1e-12), which
      telescopes to the whole run's improvement; `lower` is the family's lower bound of f.

    The step that diverges pays for the rest of the episode: see Episode End.

    ## Starting State

    The family's initial point (`info["task"]["initial"]`), the optimiser's state at zero. The
    first observation shows loss and gradient there, with a zero update and a zero action.

    ## Task Distribution

    `problem` names a family of functions; each episode draws one of `split`. The splits are
    disjoint. `reset(options={"task": task})` sets tasks, in the form of `info["task"]`.

    ## Episode End

    ### Termination

    Divergence: the loss or the gradient is not finite, or the loss exceeds 1e8. The loss then
    counts as 1e8 and the iterate stays where it was. With `"negative_loss"` the reward of this
    step is -1e8 for every step that is left, itself included; with `"log_improvement"` the fall
    to 1e8 is charged at once. Neither is better than staying at 1e8 until the horizon.

    ### Truncation

    After `horizon` steps: a cut of a process that has no end.

    ## Information

    | key | when | meaning |
    |---|---|---|
    | `loss`, `best_loss` | always | full loss at the iterate; the lowest so far |
    | `learning_rate` | every step | what the action set |
    | `momentum` or `beta1`, `beta2` | every step | what the action set |
    | `task` | reset | the arrays of the task |
    | `score` | end | log10(f - lower + 1e-12) at the last step; smaller is better |
    | `diverged` | end | terminated, or the last loss above the first |

    ## Arguments

    | name | type | default | meaning |
    |---|---|---|---|
    | `num_envs` | int | `1` | rows of the batch (`gym.make_vec` only) |
    | `problem` | str or ProblemFamily | `"quadratic"` | a name of `metagym.problems.FAMILIES` or a family of your own |
    | `dim` | int or None | `None` | number of parameters d; None is the family's default |
    | `problem_kwargs` | dict or None | `None` | further arguments of the family |
    | `optimizer` | str | `"sgd"` | `"sgd"` or `"adam"`: what the agent steers |
    | `lr_range` | (float, float) | `(0.0001, 10.0)` | learning rates at the ends of the first action |
    | `observation` | str | `"full"` | `"full"` or `"summary"` |
    | `horizon` | int | `100` | steps until truncation |
    | `history` | int | `25` | steps that the observation shows |
    | `reward` | str | `"negative_loss"` | `"negative_loss"` or `"log_improvement"` |
    | `noise` | float | `0.0` | standard deviation of noise on the loss and each gradient coordinate as observed and as used by the optimiser; never on rewards |
    | `dtype` | str | `"float32"` | precision of the dynamics, `"float32"` or `"float64"` |
    | `split` | str | `"train"` | `"train"`, `"validation"` or `"test"` |
    | `autoreset_mode` | AutoresetMode or str | `AutoresetMode.NEXT_STEP` | what follows the end of an episode (`gym.make_vec` only) |
    | `render_mode` | str or None | `None` | `"rgb_array"`: loss curve and trajectory |

    ## Registered Configurations

    | id | arguments |
    |---|---|
    | `LearningRateControl-v0` | the defaults: SGD on quadratics |
    | `LearningRateControlAdam-v0` | `optimizer="adam"` |
    | `LearningRateControlLogistic-v0` | `problem="logistic"`, `horizon=40` |
    | `LearningRateControlDigits-v0` | `problem="softmax"` on scikit-learn's digits, `observation="summary"` |
    | `LearningRateControlAdamDigits-v0` | the same with `optimizer="adam"` |

    ## References

    - C. Daniel, J. Taylor and S. Nowozin. Learning step size controllers for robust neural
      network training. AAAI 2016.
    - A. Biedenkapp et al. Dynamic algorithm configuration: foundation of a new meta-algorithmic
      framework. ECAI 2020.
    - T. Eimer et al. DACBench: a benchmark library for dynamic algorithm configuration.
      IJCAI 2021.
    - D. P. Kingma and J. Ba. Adam: a method for stochastic optimization. ICLR 2015.

    ## Version History

    - v0: first version.
    """  # noqa: E501

    rewards = ("negative_loss", "log_improvement")
    _state_names = (
        *OptimizationEnv._state_names,
        "_action", "_momentum", "_square", "_weight_left",
    )  # fmt: skip

    def __init__(
        self,
        num_envs: int = 1,
        *,
        problem: str | ProblemFamily = "quadratic",
        dim: int | None = None,
        problem_kwargs: dict[str, Any] | None = None,
        optimizer: str = "sgd",
        lr_range: tuple[float, float] = (1e-4, 10.0),
        observation: str = "full",
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
        self.optimizer = check_choice("optimizer", optimizer, OPTIMIZERS)
        self.observation = check_choice("observation", observation, ("full", "summary"))
        self.lr_range = _check_lr_range(lr_range)
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
        # The action that led to the iterate, and the optimiser's state.
        self._action = np.zeros((num_envs, OPTIMIZERS[self.optimizer]), np.float32)
        self._momentum, self._square = np.zeros((2, num_envs, self.dim), self.dtype)
        # The products of all beta1 and of all beta2 so far: the share of the zeros that Adam's
        # moments started from.
        self._weight_left = np.ones((num_envs, 2), self.dtype)

    def _make_action_space(self) -> gym.spaces.Box:
        return gym.spaces.Box(-1.0, 1.0, (OPTIMIZERS[self.optimizer],), np.float32)

    def _entry_bounds(self) -> np.ndarray:
        action = np.ones(OPTIMIZERS[self.optimizer])
        if self.observation == "full":
            return np.concatenate([np.full(1 + 2 * self.dim, DIVERGENCE), action])
        return np.concatenate([np.full(3, DIVERGENCE), [1.0], action])

    def hyperparameters(self, actions: np.ndarray) -> dict[str, np.ndarray]:
        """What actions [n, 2 or 3] mean, by name: arrays [n] in the dtype of the dynamics."""
        actions = actions.astype(self.dtype)
        low, high = map(math.log10, self.lr_range)  # Python's floats leave the dtype alone
        learning_rate = 10.0 ** (low + (high - low) * (actions[:, 0] + 1.0) / 2.0)
        first = 1.0 - 10.0 ** -(1.0 + actions[:, 1])
        if self.optimizer == "sgd":
            return {"learning_rate": learning_rate, "momentum": first}
        second = 1.0 - 10.0 ** -(3.0 + 2.0 * actions[:, 2])
        return {"learning_rate": learning_rate, "beta1": first, "beta2": second}

    def _start(self, rows: Any) -> None:
        for state in (self._action, self._gradient, self._momentum, self._square):
            state[rows] = 0.0
        self._weight_left[rows] = 1.0
        super()._start(rows)

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        rewards, terminated, infos = super()._advance(actions)
        return rewards, terminated, infos | self.hyperparameters(actions)

    def _next_iterate(self, actions: np.ndarray) -> np.ndarray:
        self._action = actions
        values = self.hyperparameters(actions)
        with np.errstate(all="ignore"):  # divergence is for _advance to see
            step = self._sgd(values) if self.optimizer == "sgd" else self._adam(values)
            x = self._x - values["learning_rate"][:, None] * step
        return np.clip(x, -DIVERGENCE, DIVERGENCE)

    def _sgd(self, values: dict[str, np.ndarray]) -> np.ndarray:
        self._momentum = values["momentum"][:, None] * self._momentum + self._gradient
        return self._momentum

    def _adam(self, values: dict[str, np.ndarray]) -> np.ndarray:
        gradient = self._gradient
        betas = np.stack([values["beta1"], values["beta2"]], axis=1)  # [batch, 2]
        self._weight_left *= betas
        beta1, beta2 = betas[:, :1], betas[:, 1:]
        self._momentum = beta1 * self._momentum + (1.0 - beta1) * gradient
        self._square = beta2 * self._square + (1.0 - beta2) * gradient**2
        first, second = (1.0 - self._weight_left).T[..., None]  # [batch, 1] each
        return self._momentum / first / (np.sqrt(self._square / second) + ADAM_EPSILON)

    def _entry(
        self, rows: Any, loss: np.ndarray, gradient: np.ndarray, update: np.ndarray
    ) -> np.ndarray:
        parts = [gradient, update]
        if self.observation == "summary":
            last, norm = self._gradient[rows], np.linalg.norm(gradient, axis=1)
            product = np.maximum(norm * np.linalg.norm(last, axis=1), 1e-30)
            cosine = np.clip(np.vecdot(gradient, last) / product, -1.0, 1.0)
            parts = [np.stack([norm, np.linalg.norm(update, axis=1), cosine], axis=1)]
        entry = np.concatenate([loss[:, None], *parts, self._action[rows]], axis=1)
        return entry.astype(np.float32, copy=False)


class LearningRateControlEnv(SingleEnv):
    batched = LearningRateControlVectorEnv


def _check_lr_range(lr_range: Any) -> tuple[float, float]:
    try:
        low, high = (float(bound) for bound in lr_range)
    except (TypeError, ValueError):
        low = high = np.nan
    if not 0.0 < low < high < np.inf:
        raise InvalidArgumentError(
            f"lr_range={lr_range!r} has to be two positive learning rates, the smaller one first."
        )
    return low, high
