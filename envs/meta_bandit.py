"""MetaBandit-v0: a trial is n pulls of k arms that the agent has never seen.

The bandits of Duan et al. (2016), RL², section 3.1.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from metagym.core.single import SingleEnv
from metagym.core.task import Task
from metagym.core.trial import TrialEnv
from metagym.errors import (
    InvalidArgumentError,
    check_above_zero,
    check_choice,
    check_positive,
    reject_unknown_kwargs,
)

ARMS = ("bernoulli", "gaussian")
REWARD_BOUND = 100.0  # of what an agent is shown of a Gaussian arm


class MetaBanditVectorEnv(TrialEnv):
    """
    ## Description

    A row of k slot machines whose chances of a win are unknown, and n pulls. Every trial has new
    machines: what can be learned is how to explore. The optimum is known exactly (n = 10) or
    bounded from above (`metagym.planning`), so that a score can be set beside its ceiling.

    ## Action Space

    `Discrete(k)`: the arm to pull.

    ## Observation Space

    `Box((k + 2,), float32)`: what the last pull said; all zero before the first.

    | index | meaning | range |
    |---|---|---|
    | 0 … k-1 | the arm pulled last, one-hot | {0, 1} |
    | k | its reward | [0, 1]; Gaussian arms: clipped to [-100, 100] |
    | k+1 | done: 1 after every pull, since a pull is an inner episode of its own | {0, 1} |

    There is no state. `env.unwrapped.layout.split(observation)` gives the blocks by name.

    ## Rewards

    - `arms="bernoulli"`: 1 with the arm's probability, else 0.
    - `arms="gaussian"`: the arm's mean plus standard normal noise times `noise`.

    ## Starting State

    Before the first pull; nothing is known but the prior.

    ## Task Distribution

    k independent means each: `Beta(alpha, beta)` for Bernoulli arms, uniform by default, and
    standard normal for Gaussian arms. Splits are disjoint streams of random numbers.
    `reset(options={"task": {"means": array}})` sets them.

    ## Episode End

    ### Termination

    After n pulls: they define the task.

    ### Truncation

    Never.

    ## Information

    | key | when | meaning |
    |---|---|---|
    | `regret` | every step | n · the best arm's mean so far minus the means of the arms pulled: the expected loss to date |
    | `expected_reward` | every step | the mean of the arm just pulled |
    | `task` | reset | `means` [k] |
    | `score` | end | sum of the means of the arms pulled: the expected return, without the luck |

    ## Arguments

    | name | type | default | meaning |
    |---|---|---|---|
    | `num_envs` | int | `1` | rows of the batch (`gym.make_vec` only) |
    | `k` | int | `5` | arms |
    | `n` | int | `10` | pulls |
    | `arms` | str | `"bernoulli"` | `"bernoulli"` or `"gaussian"` |
    | `alpha` | float | `1.0` | of the Beta prior of Bernoulli arms |
    | `beta` | float | `1.0` | of the Beta prior of Bernoulli arms |
    | `noise` | float | `1.0` | standard deviation of a Gaussian arm's rewards |
    | `split` | str | `"train"` | `"train"`, `"validation"` or `"test"` |
    | `autoreset_mode` | AutoresetMode or str | `AutoresetMode.NEXT_STEP` | what follows the end of an episode (`gym.make_vec` only) |
    | `render_mode` | str or None | `None` | `"rgb_array"`: the arms' means, and the pulls so far |

    ## Registered Configurations

    | id | arguments |
    |---|---|
    | `MetaBandit-v0` | the defaults: 5 arms, 10 pulls |
    | `MetaBandit-n10-k10-v0` | `n=10, k=10` |
    | `MetaBandit-n10-k50-v0` | `n=10, k=50` |
    | `MetaBandit-n100-k5-v0` | `n=100, k=5` |
    | `MetaBandit-n100-k10-v0` | `n=100, k=10` |
    | `MetaBandit-n100-k50-v0` | `n=100, k=50` |
    | `MetaBandit-n500-k5-v0` | `n=500, k=5` |
    | `MetaBandit-n500-k10-v0` | `n=500, k=10` |
    | `MetaBandit-n500-k50-v0` | `n=500, k=50` |

    ## References

    - Y. Duan et al. RL²: fast reinforcement learning via slow reinforcement learning.
      arXiv:1611.02779, 2016 (Table 1).
    - N. Mishra et al. A simple neural attentive meta-learner. ICLR 2018 (Table 3).

    ## Version History

    - v0: first version.
    """  # noqa: E501

    score_name = "expected reward"
    _state_names = (*TrialEnv._state_names, "_best", "_score", "_regret", "_trace")

    def __init__(
        self,
        num_envs: int = 1,
        *,
        k: int = 5,
        n: int = 10,
        arms: str = "bernoulli",
        alpha: float = 1.0,
        beta: float = 1.0,
        noise: float = 1.0,
        split: str = "train",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        reject_unknown_kwargs(type(self), unknown)
        self.k, self.n = check_positive("k", k), check_positive("n", n)
        self.arms = check_choice("arms", arms, ARMS)
        self.alpha, self.beta = check_above_zero("alpha", alpha), check_above_zero("beta", beta)
        self.noise = check_above_zero("noise", noise)
        super().__init__(
            num_envs,
            state_space=gym.spaces.Box(0.0, 1.0, (0,), np.float32),
            action_space=gym.spaces.Discrete(self.k),
            reward_range=(0.0, 1.0) if arms == "bernoulli" else (-REWARD_BOUND, REWARD_BOUND),
            final_state=False,
            split=split,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
        )
        self.trial_length = self.n
        self._offsets = self._every_row * self.k
        self._best = np.zeros(self.num_envs)  # the best arm's mean
        self._score = np.zeros(self.num_envs)
        self._regret = np.zeros(self.num_envs)
        self._trace = np.full((self.num_envs, self.n if render_mode else 0), -1, dtype=np.int64)

    def _sample_tasks(self, rng: np.random.Generator, n: int) -> Task:
        if self.arms == "gaussian":
            return {"means": rng.standard_normal((n, self.k))}
        if self.alpha == self.beta == 1.0:
            return {"means": rng.random((n, self.k))}
        return {"means": rng.beta(self.alpha, self.beta, (n, self.k))}

    def _check_task_values(self, task: Task) -> None:
        means = task["means"]
        if self.arms == "bernoulli" and not ((means >= 0.0) & (means <= 1.0)).all():
            raise InvalidArgumentError(
                f"options['task']['means'] holds {means[(means < 0) | (means > 1)][0]}; Bernoulli "
                "arms have probabilities in [0, 1]."
            )

    def _start(self, rows: Any) -> None:
        self._best[rows] = self._task["means"][rows].max(axis=1)
        self._score[rows] = self._regret[rows] = 0.0
        self._shown[rows] = 0.0
        self._trace[rows] = -1

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        assert self._noise_rng is not None
        means = self._task["means"].ravel()[self._offsets + actions]
        if self.arms == "bernoulli":
            rewards = (self._noise_rng.random(self.num_envs) < means).astype(np.float64)
        else:
            rewards = means + self.noise * self._noise_rng.standard_normal(self.num_envs)
        self._score += means
        self._regret += self._best - means
        if self._trace.size:
            self._trace[self._every_row, np.minimum(self._elapsed, self.n - 1)] = actions
        self._show(actions, rewards, 1.0)
        return (
            rewards,
            self._elapsed + 1 >= self.n,
            {
                "regret": self._regret.copy(),
                "expected_reward": means,
            },
        )

    def _end_info(self) -> dict[str, np.ndarray]:
        return {"score": self._score}

    def _render_row(self, row: int) -> np.ndarray:
        from metagym.rendering.trials import draw_bandit  # pillow is slow to import

        return draw_bandit(self._task["means"][row], self._trace[row], self.n)


class MetaBanditEnv(SingleEnv):
    batched = MetaBanditVectorEnv
