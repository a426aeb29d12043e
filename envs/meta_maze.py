"""MetaMaze-v0: a trial is n attempts to find a target in a maze that the agent has never seen.

The visual navigation of Duan et al. (2016), RL², section 3.3, on a grid instead of in three
dimensions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from metagym.core.batch import ALL
from metagym.core.single import SingleEnv
from metagym.core.task import Task, copy_task
from metagym.core.trial import InnerEpisodesEnv
from metagym.errors import (
    InvalidArgumentError,
    check_bool,
    check_choice,
    check_positive,
    reject_unknown_kwargs,
)
from metagym.mazes.grid import HEADINGS, check_mazes, draw_places
from metagym.mazes.lists import frozen_mazes, load_mazes
from metagym.mazes.view import CHANNELS, DEPTH, OPEN_AHEAD, WIDTH, view_codes, views, window

FORWARD, LEFT, RIGHT = range(3)
GOAL_REWARD, STEP_REWARD, BUMP_REWARD = 1.0, -0.04, -0.001
OBSERVATIONS = ("flat", "image")
MIN_SIZE, MAX_SIZE = 3, 15
_TURN = np.array([0, -1, 1])


class MetaMazeVectorEnv(InnerEpisodesEnv):
    """
    ## Description

    A maze, somewhere in it a target, and n inner episodes that all start in the same place. The
    first is for exploring; what it found makes the others short. The agent sees a few rooms ahead
    and no map, so that it has to remember.

    From the paper: sizes, actions, rewards, horizons, and that maze and target stay for the whole
    trial. Ours: the world is a grid, a step forward is a room and a turn is 90°; the mazes come
    from depth-first searches; the start, too, stays for the whole trial, its heading included.
    Lengths of paths therefore do not compare with the published ones, the pattern does: an
    episode that comes later should be shorter.

    ## Action Space

    `Discrete(3)`: 0 one room forward, 1 turn left, 2 turn right. A wall stops a step forward.

    ## Observation Space

    `observation="flat"`: `Box((155,), float32)`.

    | index | meaning | range |
    |---|---|---|
    | 0 … 74 | the view s: 3 channels (wall, open, target) of 5 × 5 tiles | {0, 1} |
    | 75 … 77 | the previous action, one-hot | {0, 1} |
    | 78 | the previous reward | [-0.041, 1] |
    | 79 | done: 1 where the previous step ended an inner episode, found or not | {0, 1} |
    | 80 … 154 | the view s' to which that step led, where done is 1; else 0 | {0, 1} |

    The view is egocentric: the agent stands in the middle of the bottom row and looks up. Tiles
    are rooms and, between them, walls or openings: 3 × 3 rooms. A room is seen if a straight
    corridor ahead and at most one turn off it lead there; a tile that is not seen is 0 in all
    channels. There is no compass. `env.unwrapped.layout.split(observation)` gives the blocks by
    name.

    `observation="image"`: `Box((11, 5, 5), float32)`, channels first: the view s (3), then one
    constant plane for each of the 3 actions, for the reward and for done, then the view s' (3).

    ## Rewards

    1 for reaching the target's room, -0.04 for every step, -0.001 for walking into a wall.

    ## Starting State

    In the maze's start, at its heading: at the beginning of every inner episode.

    ## Task Distribution

    The 1,000 frozen mazes of the split; no layout is in two splits. Rows that are reset together
    get different mazes as long as there are any: 1,000 rows are the whole list. Sizes other than 5
    and 9 have no frozen file: their lists are generated the same way when they are asked for.
    `reset(options={"task": task})` sets mazes: `walls` (bool, (2 · size + 1)² tiles, see
    `metagym.mazes.grid`), `start` (row, column, heading: 0 north, 1 east, 2 south, 3 west) and `target`
    (row, column), in rooms.

    ## Episode End

    An inner episode ends at the target or after `inner_horizon` steps; both are told as done.

    ### Termination

    After n inner episodes: they define the task.

    ### Truncation

    Never.

    ## Information

    | key | when | meaning |
    |---|---|---|
    | `success` | always | whether this step reached the target |
    | `inner_episode` | always | how many inner episodes are over |
    | `task` | reset | `walls`, `start` and `target` |
    | `score` | end | the sum of all rewards |
    | `inner_returns`, `inner_lengths`, `inner_success` | end | of each inner episode, [n] |

    ## Arguments

    | name | type | default | meaning |
    |---|---|---|---|
    | `num_envs` | int | `1` | rows of the batch (`gym.make_vec` only) |
    | `size` | int | `5` | rooms along each wall, 3 to 15 |
    | `n` | int | `2` | inner episodes |
    | `inner_horizon` | int or None | `None` | steps after which an inner episode ends; None is 250 at size 5, 1000 at size 9, 250 · ⌈(size / 5)²⌉ in general |
    | `observation` | str | `"flat"` | `"flat"` or `"image"` |
    | `augment` | bool | `False` | every trial has a start, a heading and a target of its own in the layout of the list: for training, since a thousand mazes are few enough to learn by heart |
    | `mazes` | str, Path or None | `None` | a file of your own mazes, written by `metagym.mazes.lists.save_mazes` |
    | `split` | str | `"train"` | `"train"`, `"validation"` or `"test"` |
    | `autoreset_mode` | AutoresetMode or str | `AutoresetMode.NEXT_STEP` | what follows the end of an episode (`gym.make_vec` only) |
    | `render_mode` | str or None | `None` | `"rgb_array"`: the maze, what is seen of it, and the paths |

    ## Registered Configurations

    | id | arguments |
    |---|---|
    | `MetaMaze-v0` | the defaults: 5 × 5 rooms |
    | `MetaMaze-9x9-v0` | `size=9` |

    ## References

    - Y. Duan et al. RL²: fast reinforcement learning via slow reinforcement learning.
      arXiv:1611.02779, 2016 (section 3.3, Table 3).
    - N. Mishra et al. A simple neural attentive meta-learner. ICLR 2018 (section 5.2.4).

    ## Version History

    - v0: first version.
    """  # noqa: E501

    _state_names = (
        *InnerEpisodesEnv._state_names,
        "_codes", "_pose", "_view", "_steps", "_inner_success", "_trail",
    )  # fmt: skip

    def __init__(
        self,
        num_envs: int = 1,
        *,
        size: int = 5,
        n: int = 2,
        inner_horizon: int | None = None,
        observation: str = "flat",
        augment: bool = False,
        mazes: str | Path | None = None,
        split: str = "train",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        reject_unknown_kwargs(type(self), unknown)
        self.size, self.n = check_positive("size", size), check_positive("n", n)
        if not MIN_SIZE <= self.size <= MAX_SIZE:
            raise InvalidArgumentError(
                f"size={size} has to be from {MIN_SIZE} to {MAX_SIZE} rooms; 5 and 9 are published."
            )
        self.inner_horizon = (
            250 * -(-self.size * self.size // 25)
            if inner_horizon is None
            else check_positive("inner_horizon", inner_horizon)
        )
        self.observation = check_choice("observation", observation, OBSERVATIONS)
        self.augment = check_bool("augment", augment)
        super().__init__(
            num_envs,
            episodes=self.n,
            state_space=gym.spaces.Box(0.0, 1.0, (len(CHANNELS) * DEPTH * WIDTH,), np.float32),
            action_space=gym.spaces.Discrete(3),
            reward_range=(STEP_REWARD + BUMP_REWARD, GOAL_REWARD),
            split=split,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
        )
        if self.observation == "image":
            flat = self.single_observation_space
            assert isinstance(flat, gym.spaces.Box)
            self.single_observation_space = gym.spaces.Box(
                self._as_image(flat.low[None])[0], self._as_image(flat.high[None])[0]
            )
            self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._list = (
            frozen_mazes(self.size, self.split)
            if mazes is None
            else load_mazes(mazes, self.size)[self.split]
        )
        poses = 4 * self.size * self.size
        self._ahead = HEADINGS @ [self.size, 1]  # from a room to the next one, by heading
        self._offsets = self._every_row * poses
        self._codes = np.zeros((self.num_envs, poses), dtype=np.uint16)  # of the views
        self._pose = np.zeros(self.num_envs, dtype=np.int64)  # 4 · room + heading
        self._view = np.zeros(self.num_envs, dtype=np.uint16)  # the code of the current view
        self._steps = np.zeros(self.num_envs, dtype=np.int64)  # of the current inner episode
        self._inner_success = np.zeros((self.num_envs, self.n), dtype=bool)
        drawn = self.inner_horizon + 1 if render_mode else 0
        self._trail = np.full((self.num_envs, self.n, drawn), -1, dtype=np.int64)  # poses

    @property
    def trial_length(self) -> int:
        """The most steps that a trial can take."""
        return self.n * self.inner_horizon

    def _sample_tasks(self, rng: np.random.Generator, n: int) -> Task:
        count = len(self._list["walls"])
        whole, rest = divmod(n, count)
        index = [rng.permutation(count) for _ in range(whole)]
        index.append(rng.choice(count, rest, replace=False))
        task = copy_task(self._list, np.concatenate(index))
        if self.augment:
            task |= draw_places(rng, n, self.size)
        return task

    def _check_task_values(self, task: Task) -> None:
        check_mazes(task, self.size, "options['task']")

    # -- the dynamics --------------------------------------------------------------------------

    def _start(self, rows: Any) -> None:
        self._codes[rows] = view_codes(self._task["walls"][rows], self._task["target"][rows])
        self._inner_success[rows] = False
        self._trail[rows] = -1
        super()._start(rows)

    def _start_episode(self, rows: Any) -> None:
        self._pose[rows] = self._task["start"][rows] @ [4 * self.size, 4, 1]
        self._view[rows] = self._codes[self._every_row[rows], self._pose[rows]]
        self._steps[rows] = 0
        if self._trail.size:
            self._trail[self._every_row[rows], self._episode[rows], 0] = self._pose[rows]

    def _inner_step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        room, heading = self._pose >> 2, self._pose & 3
        forward = actions == FORWARD
        moves = forward & ((self._view & OPEN_AHEAD) == 1)
        room = room + self._ahead[heading] * moves
        self._pose = 4 * room + ((heading + _TURN[actions]) & 3)
        self._view = self._codes.ravel()[self._offsets + self._pose]
        self._steps += 1
        success = room == self._task["target"] @ [self.size, 1]
        rewards = STEP_REWARD + BUMP_REWARD * (forward & ~moves) + GOAL_REWARD * success
        if self._trail.size:
            going = np.flatnonzero(self._episode < self.n)
            self._trail[going, self._episode[going], self._steps[going]] = self._pose[going]
        if success.any():
            episode = np.minimum(self._episode, self.n - 1)
            self._inner_success[self._every_row, episode] |= success & (self._episode < self.n)
        return rewards, success | (self._steps >= self.inner_horizon), {"success": success}

    def _states(self, rows: Any = ALL) -> np.ndarray:
        return views(self._view[rows])

    def _end_info(self) -> dict[str, np.ndarray]:
        return {**super()._end_info(), "inner_success": self._inner_success}

    # -- what is shown -------------------------------------------------------------------------

    def _observe(self, rows: Any = ALL) -> np.ndarray:
        flat = super()._observe(rows)
        return flat if self.observation == "flat" else self._as_image(flat)

    def _as_image(self, flat: np.ndarray) -> np.ndarray:
        """The blocks of observations [n, 155] as planes [n, 11, 5, 5]."""
        blocks = self.layout.split(flat)
        numbers = flat[:, self.layout.state : self.layout.state + self.layout.action + 2]
        shape = (len(flat), -1, DEPTH, WIDTH)
        planes = np.broadcast_to(numbers[..., None, None], (*numbers.shape, DEPTH, WIDTH))
        return np.concatenate(
            [blocks.state.reshape(shape), planes, blocks.final.reshape(shape)], axis=1
        )

    def _render_row(self, row: int) -> np.ndarray:
        from metagym.rendering.trials import draw_maze  # pillow is slow to import

        done = int(min(self._episode[row], self.n))
        trails = [poses[poses >= 0] for poses in self._trail[row]]
        now = trails[min(done, self.n - 1)][-1:]  # a frozen row is drawn as it ended
        explored, lit = (self._seen_from(row, poses) for poses in (np.concatenate(trails), now))
        return draw_maze(
            self._task["walls"][row],
            self._task["target"][row],
            trails,
            views(self._codes[row, now]).reshape(len(CHANNELS), DEPTH, WIDTH),
            lit=lit,
            explored=explored,
            finished=done,
            success=self._inner_success[row],
            returns=self._inner_returns[row],
            inner_horizon=self.inner_horizon,
        )

    def _seen_from(self, row: int, poses: np.ndarray) -> np.ndarray:
        """The tiles of one row's maze that are seen from any of the poses, bool [side, side]."""
        shape = self._task["walls"].shape[1:]
        wall, way, _ = views(self._codes[row, poses]).reshape(len(poses), 3, -1).swapaxes(0, 1)
        tiles = np.zeros(shape[0] * shape[1] + 1, dtype=bool)
        tiles[window(self.size)[poses].reshape(len(poses), -1)[wall + way > 0]] = True
        return tiles[:-1].reshape(shape)


class MetaMazeEnv(SingleEnv):
    batched = MetaMazeVectorEnv
