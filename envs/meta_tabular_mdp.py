"""MetaTabularMDP-v0: a trial is n short episodes in a random MDP that the agent has never seen.

The tabular MDPs of Duan et al. (2016), RL², section 3.2.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from metagym.core.batch import ALL
from metagym.core.single import SingleEnv
from metagym.core.task import Task
from metagym.core.trial import InnerEpisodesEnv
from metagym.errors import InvalidArgumentError, check_positive, reject_unknown_kwargs

REWARD_BOUND = 100.0  # of what an agent is shown; rewards of the task distribution are far within
SUM_TOLERANCE = 1e-5  # of the rows of a given task, so that float32 rows pass


class MetaTabularMDPVectorEnv(InnerEpisodesEnv):
    """
    ## Description

    A Markov decision process with random transitions and random rewards, both unknown, and n inner
    episodes of T steps to learn it in while earning. Every trial has a new process. Who knows it
    plays the optimum of `metagym.planning.mdp.trial_optimum`, the exact ceiling of a trial.

    ## Action Space

    `Discrete(actions)`.

    ## Observation Space

    `Box((2 * states + actions + 2,), float32)`; all but the state is zero at the trial's start.
    S and A are the numbers of states and actions.

    | index | meaning | range |
    |---|---|---|
    | 0 … S-1 | s, the state, one-hot | {0, 1} |
    | S … S+A-1 | the previous action, one-hot | {0, 1} |
    | S+A | its reward | clipped to [-100, 100] |
    | S+A+1 | done: 1 where it ended an inner episode | {0, 1} |
    | S+A+2 … 2S+A+1 | s', the state to which the step with done = 1 led, one-hot; else zero | {0, 1} |

    `env.unwrapped.layout.split(observation)` gives the blocks by name.

    ## Rewards

    The mean reward of state and action, plus standard normal noise.

    ## Starting State

    State 0, at the start of every inner episode.

    ## Task Distribution

    Each row of transition probabilities is drawn from the flat Dirichlet distribution, each mean
    reward from the normal distribution with mean 1 and variance 1, all independently. Splits are
    disjoint streams of random numbers. `reset(options={"task": task})` sets both arrays.

    ## Episode End

    ### Termination

    After n inner episodes: they define the task.

    ### Truncation

    Never.

    ## Information

    | key | when | meaning |
    |---|---|---|
    | `inner_episode` | always | inner episodes that are over |
    | `expected_reward` | every step | the mean of the reward, given the state left and the action |
    | `task` | reset | `transitions` [states, actions, states] and `reward_means` [states, actions] |
    | `score` | end | sum of the reward *means* of the states and actions visited: the return without the rewards' noise, and with the same expectation |
    | `inner_returns` | end | the return of each inner episode, noise included [n] |
    | `inner_lengths` | end | the steps of each inner episode [n] |

    ## Arguments

    | name | type | default | meaning |
    |---|---|---|---|
    | `num_envs` | int | `1` | rows of the batch (`gym.make_vec` only) |
    | `states` | int | `10` | states |
    | `actions` | int | `5` | actions |
    | `inner_horizon` | int | `10` | T, steps of an inner episode |
    | `n` | int | `10` | inner episodes of a trial |
    | `split` | str | `"train"` | `"train"`, `"validation"` or `"test"` |
    | `autoreset_mode` | AutoresetMode or str | `AutoresetMode.NEXT_STEP` | what follows the end of an episode (`gym.make_vec` only) |
    | `render_mode` | str or None | `None` | `"rgb_array"`: the states, the steps so far, and what they tell of each action |

    ## Registered Configurations

    | id | arguments |
    |---|---|
    | `MetaTabularMDP-v0` | the defaults: 10 states, 5 actions, 10 inner episodes of 10 steps |
    | `MetaTabularMDP-n25-v0` | `n=25` |
    | `MetaTabularMDP-n50-v0` | `n=50` |
    | `MetaTabularMDP-n75-v0` | `n=75` |
    | `MetaTabularMDP-n100-v0` | `n=100` |

    ## References

    - Y. Duan et al. RL²: fast reinforcement learning via slow reinforcement learning.
      arXiv:1611.02779, 2016 (Table 2).
    - N. Mishra et al. A simple neural attentive meta-learner. ICLR 2018 (Table 4).

    ## Version History

    - v0: first version.
    """  # noqa: E501

    score_name: ClassVar[str] = "expected reward"
    _state_names = (
        *InnerEpisodesEnv._state_names,
        "_state", "_step", "_score", "_cumulative", "_visited", "_taken", "_earned",
    )  # fmt: skip

    def __init__(
        self,
        num_envs: int = 1,
        *,
        states: int = 10,
        actions: int = 5,
        inner_horizon: int = 10,
        n: int = 10,
        split: str = "train",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        reject_unknown_kwargs(type(self), unknown)
        self.states = check_positive("states", states)
        self.actions = check_positive("actions", actions)
        self.inner_horizon = check_positive("inner_horizon", inner_horizon)
        self.n = check_positive("n", n)
        self.trial_length = self.n * self.inner_horizon
        super().__init__(
            num_envs,
            episodes=self.n,
            state_space=gym.spaces.Box(0.0, 1.0, (self.states,), np.float32),
            action_space=gym.spaces.Discrete(self.actions),
            reward_range=(-REWARD_BOUND, REWARD_BOUND),
            split=split,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
        )
        pairs = self.states * self.actions
        self._offsets = self._every_row * pairs  # of a row's first (s, a) in the flat tables
        self._one_hot = np.eye(self.states, dtype=np.float32)
        self._state = np.zeros(self.num_envs, dtype=np.int64)
        self._step = np.zeros(self.num_envs, dtype=np.int64)  # within the inner episode
        self._score = np.zeros(self.num_envs)
        # P(next state <= j); infinite for the last j, whatever the rounding of the sum says.
        self._cumulative = np.zeros((self.num_envs, pairs, self.states))
        drawn = self.inner_horizon if render_mode else -1
        self._visited = np.full((self.num_envs, self.n, drawn + 1), -1, dtype=np.int64)  # states
        self._taken = np.full((self.num_envs, self.n, max(drawn, 0)), -1, dtype=np.int64)  # actions
        self._earned = np.zeros(self._taken.shape)  # rewards

    def _sample_tasks(self, rng: np.random.Generator, n: int) -> Task:
        # Independent exponential variables over their sum have the flat Dirichlet distribution.
        transitions = rng.standard_exponential((n, self.states, self.actions, self.states))
        transitions /= transitions.sum(axis=-1, keepdims=True)
        means = 1.0 + rng.standard_normal((n, self.states, self.actions))
        return {"transitions": transitions, "reward_means": means}

    def _check_task_values(self, task: Task) -> None:
        transitions = task["transitions"]
        if (transitions < 0.0).any():
            raise InvalidArgumentError(
                f"options['task']['transitions'] holds {transitions[transitions < 0.0][0]}; "
                "probabilities are not negative."
            )
        sums = transitions.sum(axis=-1)
        if (wrong := np.abs(sums - 1.0) > SUM_TOLERANCE).any():
            raise InvalidArgumentError(
                f"options['task']['transitions'] has a row whose sum is {sums[wrong][0]}; the "
                "probabilities of the next states, on the last axis, sum to 1."
            )

    def _start(self, rows: Any) -> None:
        cumulative = self._task["transitions"][rows].cumsum(axis=-1)
        cumulative[..., -1] = np.inf
        self._cumulative[rows] = cumulative.reshape(-1, *self._cumulative.shape[1:])
        self._score[rows] = self._earned[rows] = 0.0
        self._visited[rows] = self._taken[rows] = -1
        super()._start(rows)

    def _start_episode(self, rows: Any) -> None:
        self._state[rows] = 0
        self._step[rows] = 0
        if self._visited.size:
            self._visited[self._every_row[rows], self._episode[rows], 0] = 0

    def _inner_step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        assert self._noise_rng is not None
        pairs = self._offsets + self._state * self.actions + actions
        means = self._task["reward_means"].ravel()[pairs]
        rewards = means + self._noise_rng.standard_normal(self.num_envs)
        cumulative = self._cumulative.reshape(-1, self.states).take(pairs, axis=0)
        drawn = self._noise_rng.random(self.num_envs)[:, None]
        self._state = (drawn < cumulative).argmax(axis=1)  # the first True
        self._step += 1
        self._score += means
        if self._visited.size:
            going = np.flatnonzero(self._episode < self.n)  # a frozen row is drawn as it ended
            episode, step = self._episode[going], self._step[going]
            self._visited[going, episode, step] = self._state[going]
            self._taken[going, episode, step - 1] = actions[going]
            self._earned[going, episode, step - 1] = rewards[going]
        return rewards, self._step >= self.inner_horizon, {"expected_reward": means}

    def _states(self, rows: Any = ALL) -> np.ndarray:
        return self._one_hot.take(self._state[rows], axis=0)

    def _end_info(self) -> dict[str, np.ndarray]:
        return {**super()._end_info(), "score": self._score}

    def _render_row(self, row: int) -> np.ndarray:
        from metagym.rendering.processes import draw_process  # pillow is slow to import

        return draw_process(
            self._task["transitions"][row],
            self._task["reward_means"][row],
            self._visited[row],
            self._taken[row],
            self._earned[row],
            finished=int(self._episode[row]),
        )


class MetaTabularMDPEnv(SingleEnv):
    batched = MetaTabularMDPVectorEnv
