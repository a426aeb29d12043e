"""MetaNavigation2D-v0: a trial is n walks of a point to a goal that it is not shown.

The 2-D navigation of Finn et al. (2017), MAML, section 5.3: the continuous case.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from metagym.core.batch import ALL
from metagym.core.single import SingleEnv
from metagym.core.task import Task
from metagym.core.trial import InnerEpisodesEnv
from metagym.errors import (
    InvalidArgumentError,
    check_above_zero,
    check_positive,
    reject_unknown_kwargs,
)


class MetaNavigation2DVectorEnv(InnerEpisodesEnv):
    """
    ## Description

    A point in the plane and a goal that only the rewards tell of. The agent sees where it is; each
    inner episode starts in the middle again, and the goal stays for the whole trial. Rewards at
    three places that are not in a line give the goal away, so that a good agent loses little in
    its first walk and nothing in the others.

    From the paper: goals, velocities, horizon, the reward and the end of an episode. Ours: actions
    are given in units of the greatest velocity, and n walks are one episode of Gymnasium's. (The
    code that was published with the paper differs from its text: it pays the distance, not the
    squared distance, and ends where both coordinates are near enough.)

    ## Action Space

    `Box(-1, 1, (2,), float32)`: the velocity, divided by `action_scale`. What lies beyond is
    clipped, each coordinate for itself.

    | index | meaning | range |
    |---|---|---|
    | 0, 1 | step in x and y, in units of `action_scale` | [-1, 1] |

    ## Observation Space

    `Box((8,), float32)`.

    | index | meaning | range |
    |---|---|---|
    | 0, 1 | the position s | ±`action_scale` · `inner_horizon` |
    | 2, 3 | the previous action | [-1, 1] |
    | 4 | the previous reward | not above 0 |
    | 5 | done: 1 where the previous step ended an inner episode, at the goal or not | {0, 1} |
    | 6, 7 | the position s' to which that step led, where done is 1; else 0 | as s |

    `env.unwrapped.layout.split(observation)` gives the blocks by name.

    ## Rewards

    Minus the squared distance to the goal, after the step.

    ## Starting State

    At (0, 0), at the beginning of every inner episode.

    ## Task Distribution

    Goals are uniform in [-`goal_range`, `goal_range`]². Splits are disjoint streams of random
    numbers. `reset(options={"task": {"goal": array}})` sets them.

    ## Episode End

    An inner episode ends within `tolerance` of the goal or after `inner_horizon` steps; both are
    told as done.

    ### Termination

    After n inner episodes: they define the task.

    ### Truncation

    Never.

    ## Information

    | key | when | meaning |
    |---|---|---|
    | `success` | always | whether this step reached the goal |
    | `inner_episode` | always | how many inner episodes are over |
    | `task` | reset | `goal` [2] |
    | `score` | end | the sum of all rewards |
    | `inner_returns`, `inner_lengths`, `inner_success` | end | of each inner episode, [n] |

    ## Arguments

    | name | type | default | meaning |
    |---|---|---|---|
    | `num_envs` | int | `1` | rows of the batch (`gym.make_vec` only) |
    | `n` | int | `3` | inner episodes |
    | `inner_horizon` | int | `100` | steps after which an inner episode ends |
    | `action_scale` | float | `0.1` | the greatest velocity in x and in y |
    | `goal_range` | float | `0.5` | half the side of the square of goals |
    | `tolerance` | float | `0.01` | distance at which the goal is reached |
    | `split` | str | `"train"` | `"train"`, `"validation"` or `"test"` |
    | `autoreset_mode` | AutoresetMode or str | `AutoresetMode.NEXT_STEP` | what follows the end of an episode (`gym.make_vec` only) |
    | `render_mode` | str or None | `None` | `"rgb_array"`: the goal and the paths to it |

    ## Registered Configurations

    | id | arguments |
    |---|---|
    | `MetaNavigation2D-v0` | the defaults |

    ## References

    - C. Finn, P. Abbeel, S. Levine. Model-agnostic meta-learning for fast adaptation of deep
      networks. ICML 2017 (section 5.3).

    ## Version History

    - v0: first version.
    """  # noqa: E501

    _state_names = (
        *InnerEpisodesEnv._state_names, "_position", "_steps", "_inner_success", "_trail",
    )  # fmt: skip

    def __init__(
        self,
        num_envs: int = 1,
        *,
        n: int = 3,
        inner_horizon: int = 100,
        action_scale: float = 0.1,
        goal_range: float = 0.5,
        tolerance: float = 0.01,
        split: str = "train",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        reject_unknown_kwargs(type(self), unknown)
        self.n = check_positive("n", n)
        self.inner_horizon = check_positive("inner_horizon", inner_horizon)
        self.action_scale = check_above_zero("action_scale", action_scale)
        self.goal_range = check_above_zero("goal_range", goal_range)
        self.tolerance = check_above_zero("tolerance", tolerance)
        reach = self.action_scale * self.inner_horizon
        super().__init__(
            num_envs,
            episodes=self.n,
            state_space=gym.spaces.Box(-reach, reach, (2,), np.float32),
            action_space=gym.spaces.Box(-1.0, 1.0, (2,), np.float32),
            reward_range=(-2.0 * (reach + self.goal_range) ** 2, 0.0),
            split=split,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
        )
        self._position = np.zeros((self.num_envs, 2))
        self._steps = np.zeros(self.num_envs, dtype=np.int64)  # of the current inner episode
        self._inner_success = np.zeros((self.num_envs, self.n), dtype=bool)
        drawn = self.inner_horizon + 1 if render_mode else 0
        self._trail = np.full((self.num_envs, self.n, drawn, 2), np.nan)

    @property
    def trial_length(self) -> int:
        """The most steps that a trial can take."""
        return self.n * self.inner_horizon

    def _sample_tasks(self, rng: np.random.Generator, n: int) -> Task:
        return {"goal": rng.uniform(-self.goal_range, self.goal_range, (n, 2))}

    def _check_task_values(self, task: Task) -> None:
        beyond = np.abs(task["goal"]) > self.goal_range
        if beyond.any():
            raise InvalidArgumentError(
                f"options['task']['goal'] holds {task['goal'][beyond][0]}; goals lie in "
                f"[-{self.goal_range}, {self.goal_range}]², see goal_range."
            )

    def _start(self, rows: Any) -> None:
        self._inner_success[rows] = False
        self._trail[rows] = np.nan
        super()._start(rows)

    def _start_episode(self, rows: Any) -> None:
        self._position[rows] = 0.0
        self._steps[rows] = 0
        if self._trail.size:
            self._trail[self._every_row[rows], self._episode[rows], 0] = 0.0

    def _inner_step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        going = self._episode < self.n  # a frozen row stays where it is
        self._position += self.action_scale * actions * going[:, None]
        self._steps += going
        squared = np.square(self._position - self._task["goal"]).sum(axis=1)
        success = squared <= self.tolerance**2
        if self._trail.size:
            rows = np.flatnonzero(going)
            self._trail[rows, self._episode[rows], self._steps[rows]] = self._position[rows]
        if success.any():
            episode = np.minimum(self._episode, self.n - 1)
            self._inner_success[self._every_row, episode] |= success & going
        return -squared, success | (self._steps >= self.inner_horizon), {"success": success}

    def _states(self, rows: Any = ALL) -> np.ndarray:
        return self._position[rows].astype(np.float32)

    def _end_info(self) -> dict[str, np.ndarray]:
        return {**super()._end_info(), "inner_success": self._inner_success}

    def _render_row(self, row: int) -> np.ndarray:
        from metagym.rendering.trials import draw_navigation  # pillow is slow to import

        return draw_navigation(
            self._task["goal"][row],
            [points[~np.isnan(points[:, 0])] for points in self._trail[row]],
            goal_range=self.goal_range,
            tolerance=self.tolerance,
            finished=int(min(self._episode[row], self.n)),
            success=self._inner_success[row],
            returns=self._inner_returns[row],
            inner_horizon=self.inner_horizon,
        )


class MetaNavigation2DEnv(SingleEnv):
    batched = MetaNavigation2DVectorEnv
