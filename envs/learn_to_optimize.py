"""LearnToOptimize-v0: an agent is the optimiser (Li & Malik 2016; Andrychowicz et al. 2016)."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from metagym.core.optimization import DIVERGENCE, OptimizationEnv
from metagym.core.single import SingleEnv
from metagym.errors import reject_unknown_kwargs
from metagym.problems import ProblemFamily
from metagym.problems.checks import check_scale


class LearnToOptimizeVectorEnv(OptimizationEnv):
    """
    ## Description

    The agent is the optimiser. An episode is one run on one function f, drawn from a family: the
    agent sees losses, gradients and its own past updates, and answers with the next update. What
    it learns over many functions is an update rule, to be used on functions it has never seen.

    ## Action Space

    `Box(-1, 1, (d,), float32)`: the update, x <- x + action_scale · a.

    | index | meaning | range |
    |---|---|---|
    | 0 … d-1 | update of this coordinate, divided by `action_scale` | [-1, 1] |

    The default scale of 10 is wide on purpose: with 1, the updates of a tuned optimiser are
    clipped on most of the default quadratics, with 10 hardly ever. Actions outside are clipped.

    ## Observation Space

    The last `history` steps, oldest first, newest last, as blocks of 1 + 2d numbers; the shape
    is `(history · (1 + 2d),)`, float32. Blocks before the start of the episode are zero.

    | index in the block | meaning | range |
    |---|---|---|
    | 0 | loss f at the iterate | [-1e8, 1e8] |
    | 1 … d | gradient at the iterate | [-1e8, 1e8] |
    | 1+d … 2d | update that led to the iterate (in x, not divided by `action_scale`) | [-1e8, 1e8] |

    So the current loss is at index `(history - 1) · (1 + 2d)`, the current gradient follows it.
    Values outside their range are clipped to it. On families with minibatches loss and gradient
    are the minibatch's, and `noise` is in both.

    ## Rewards

    - `"negative_loss"` (default): -f at the new iterate.
    - `"log_improvement"`: log(f_before - lower + 1e-12) - log(f_after - lower + 1e-12), where
      `lower` is the family's lower bound of f. It telescopes: the return is the whole run's
      improvement, and a factor of ten counts the same at the start and near the minimum.

    Both use the full loss, without minibatch and without noise. The step that diverges pays for
    the rest of the episode: see Episode End.

    ## Starting State

    The family's initial point (`info["task"]["initial"]`). The first observation shows loss and
    gradient there in the newest block, with a zero update.

    ## Task Distribution

    `problem` names a family of functions; each episode draws one of `split`. The splits are
    disjoint. `reset(options={"task": task})` sets tasks, in the form of `info["task"]`. A family
    of your own is an object with the methods of `metagym.problems.ProblemFamily`.

    ## Episode End

    ### Termination

    Divergence: the loss or the gradient is not finite, or the loss exceeds 1e8. The loss then
    counts as 1e8, and the iterate stays where it was. With `"negative_loss"` the reward of this
    step is -1e8 for every step that is left, itself included; with `"log_improvement"` the fall
    to 1e8 is charged at once. Neither is better than staying at 1e8 until the horizon: quitting
    does not pay.

    ### Truncation

    After `horizon` steps: a cut of a process that has no end.

    ## Information

    | key | when | meaning |
    |---|---|---|
    | `loss`, `best_loss` | always | full loss at the iterate; the lowest so far |
    | `task` | reset | the arrays of the task, `initial` among them |
    | `score` | end | log10(f - lower + 1e-12) at the last step, 1e8 in it if diverged; smaller is better |
    | `diverged` | end | terminated, or the last loss above the first |

    ## Arguments

    | name | type | default | meaning |
    |---|---|---|---|
    | `num_envs` | int | `1` | rows of the batch (`gym.make_vec` only) |
    | `problem` | str or ProblemFamily | `"quadratic"` | a name of `metagym.problems.FAMILIES` or a family of your own |
    | `dim` | int or None | `None` | number of parameters d; None is the family's default |
    | `problem_kwargs` | dict or None | `None` | further arguments of the family |
    | `horizon` | int | `100` | steps until truncation |
    | `history` | int | `25` | steps that the observation shows |
    | `reward` | str | `"negative_loss"` | `"negative_loss"` or `"log_improvement"` |
    | `noise` | float | `0.0` | standard deviation of Gaussian noise on the observed loss and on each coordinate of the observed gradient; never on rewards |
    | `action_scale` | float | `10.0` | the update that an action of 1 means |
    | `dtype` | str | `"float32"` | precision of the dynamics, `"float32"` (fast) or `"float64"` (for convergence below 1e-7); observations and actions are float32 |
    | `split` | str | `"train"` | `"train"`, `"validation"` or `"test"` |
    | `autoreset_mode` | AutoresetMode or str | `AutoresetMode.NEXT_STEP` | what follows the end of an episode (`gym.make_vec` only) |
    | `render_mode` | str or None | `None` | `"rgb_array"`: loss curve and trajectory |

    ## Registered Configurations

    | id | problem | arguments |
    |---|---|---|
    | `LearnToOptimize-v0` | Gaussian quadratics, d = 10 | the defaults |
    | `LearnToOptimizeLogistic-v0` | logistic regression on two Gaussians, d = 3 | `problem="logistic"`, `horizon=40` |
    | `LearnToOptimizeRobust-v0` | Geman-McClure regression, d = 3 | `problem="robust"`, `horizon=40` |
    | `LearnToOptimizeSmallNet-v0` | 2-2-2 network, d = 12 | `problem="small_net"`, `horizon=40` |
    | `LearnToOptimizeNet-v0` | one 48-48-10 network on projected digits, d = 2842 | `problem="digits_net"`, `problem_kwargs={"fixed": 0}`, `horizon=400`, `history=5` |
    | `LearnToOptimizeDigits-v0` | softmax regression on digits, d = 650 | `problem="softmax"`, `history=5` |
    | `LearnToOptimizeBreastCancer-v0` | softmax regression on breast cancer, d = 62 | `problem="softmax"`, `problem_kwargs={"dataset": "breast_cancer"}` |
    | `LearnToOptimizeWine-v0` | softmax regression on wine, d = 42 | `problem="softmax"`, `problem_kwargs={"dataset": "wine"}` |
    | `LearnToOptimizeMLP-v0` | 64-20-10 network on digits, d = 1510 | `problem="mlp"`, `history=5` |
    | `LearnToOptimizeSphere-v0` | shifted, rotated sphere, d = 10 | `problem="test_function"`, `problem_kwargs={"name": "sphere"}` |
    | `LearnToOptimizeRosenbrock-v0` | Rosenbrock's valley | the same, `"rosenbrock"` |
    | `LearnToOptimizeRastrigin-v0` | Rastrigin's function | the same, `"rastrigin"` |
    | `LearnToOptimizeAckley-v0` | Ackley's function | the same, `"ackley"` |
    | `LearnToOptimizeGriewank-v0` | Griewank's function | the same, `"griewank"` |
    | `LearnToOptimizeStyblinskiTang-v0` | Styblinski and Tang's function | the same, `"styblinski_tang"` |
    | `LearnToOptimizeGP-v0` | samples of a Gaussian process, d = 2 | `problem="gaussian_process"` |

    ## References

    - K. Li and J. Malik. Learning to optimize. arXiv:1606.01885, 2016.
    - K. Li and J. Malik. Learning to optimize neural nets. arXiv:1703.00441, 2017.
    - M. Andrychowicz et al. Learning to learn by gradient descent by gradient descent. NeurIPS
      2016.

    ## Version History

    - v0: first version.
    """  # noqa: E501

    rewards = ("negative_loss", "log_improvement")

    def __init__(
        self,
        num_envs: int = 1,
        *,
        problem: str | ProblemFamily = "quadratic",
        dim: int | None = None,
        problem_kwargs: dict[str, Any] | None = None,
        horizon: int = 100,
        history: int = 25,
        reward: str = "negative_loss",
        noise: float = 0.0,
        action_scale: float = 10.0,
        dtype: str = "float32",
        split: str = "train",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        reject_unknown_kwargs(type(self), unknown)
        self.action_scale = check_scale("action_scale", action_scale)
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

    def _make_action_space(self) -> gym.spaces.Box:
        return gym.spaces.Box(-1.0, 1.0, (self.dim,), np.float32)

    def _entry_bounds(self) -> np.ndarray:
        return np.full(1 + 2 * self.dim, DIVERGENCE)

    def _next_iterate(self, actions: np.ndarray) -> np.ndarray:
        x = actions.astype(self.dtype)
        x *= self.action_scale
        x += self._x
        return x

    def _entry(
        self, rows: Any, loss: np.ndarray, gradient: np.ndarray, update: np.ndarray
    ) -> np.ndarray:
        entry = np.empty((len(loss), 1 + 2 * self.dim), dtype=np.float32)
        entry[:, 0] = loss
        entry[:, 1 : 1 + self.dim] = gradient
        entry[:, 1 + self.dim :] = update
        return entry


class LearnToOptimizeEnv(SingleEnv):
    batched = LearnToOptimizeVectorEnv
