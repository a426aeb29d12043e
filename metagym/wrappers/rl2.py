"""RL2Wrapper and its vector twin: any Gymnasium environment as a trial of n inner episodes.

The setting of Duan et al. (2016), RL²: fast reinforcement learning via slow reinforcement
learning: a task is drawn, the agent plays n episodes of it, and keeps its memory from one to the
next. What it is shown is the same as in this suite's own trials (``metagym.core.trial``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from metagym.core.single import SingleEnv
from metagym.core.task import Task
from metagym.core.trial import InnerEpisodesEnv
from metagym.errors import InvalidArgumentError, check_positive
from metagym.wrappers.flat import checked_range, checked_spaces, flat_actions, flat_box, made

NewTask = Callable[[gym.Env, np.random.Generator], Mapping[str, Any] | None]

# What the trial itself says in its info; the same names of the wrapped environment give way.
OWN_INFO = ("final_info", "final_obs", "inner_episode", "inner_lengths", "inner_returns",
            "score", "task")  # fmt: skip


class RL2VectorWrapper(InnerEpisodesEnv):
    """Trials of ``episodes`` inner episodes of any environment, one or many of them.

        def new_pole(env, rng):
            pole = env.unwrapped
            pole.length = rng.uniform(0.25, 1.0)
            pole.polemass_length = pole.masspole * pole.length

        make = partial(gym.make, "CartPole-v1")
        one = RL2Wrapper(make(), episodes=2, new_task=new_pole)
        many = RL2VectorWrapper(make, num_envs=64, episodes=2, new_task=new_pole)

    It is an environment of its own: ``unwrapped`` is the trial, with its ``layout``, and what it
    wraps is ``one.env`` or ``many.envs``.

    **Observation.** ``layout``: ``[s, a, r, d, s']``, float32 and flat. s is the wrapped
    environment's observation, flattened as Gymnasium does it; a is one-hot for discrete actions
    (one block for each part of a MultiDiscrete) and the numbers themselves for a Box. No step
    goes to waste: after the last step of an inner episode s is the first state of the next one,
    (a, r, d = 1) are of that step, and s' is where it led. A time limit of the wrapped
    environment (``truncated``) is flagged like any other end.

    **Reward, end, info.** The reward is the wrapped environment's. The trial ends ``terminated``
    after n inner episodes and is never truncated; an environment whose episodes may last for ever
    wants a ``TimeLimit`` inside. ``info`` says ``inner_episode`` (how many are over) at every
    step and ``inner_returns``, ``inner_lengths`` and ``score``, the trial's return, at the end.
    The wrapped environment's info passes through; where a new inner episode starts, what its
    ``reset`` said comes on top.

    **Randomness.** A task is one number, ``info["task"]["seed"]``: the generator that
    ``new_task`` receives and the seed of the trial's first inner ``reset`` derive from it; the
    later ones are not seeded. A wrapped environment that draws from its own ``np_random`` thus
    repeats a whole trial with ``reset(options={"task": info["task"]})``, and different agents
    meet the same tasks and the same noise. ``get_state`` holds the actions of the running trials,
    and ``set_state`` plays them again.

    Args:
        env: (``RL2Wrapper``) the environment.
        make_env: (``RL2VectorWrapper``) makes one environment; called ``num_envs`` times. Batches
            that Gymnasium vectorised cannot be wrapped: they have one set of options for all rows.
        num_envs: (``RL2VectorWrapper``) number of trials side by side.
        episodes: inner episodes of a trial.
        new_task: called as ``new_task(env, rng)`` when a trial starts. It changes the environment
            in place or returns the options of every inner ``reset`` of this trial, or both. None:
            there is one task only.
        reward_range: rewards are shown to agents clipped to it, and the observation space says
            so; what they are paid is untouched.
        split: ``"train"``, ``"validation"`` or ``"test"``: disjoint streams of tasks.
        autoreset_mode: (``RL2VectorWrapper``) what follows the end of a *trial*.

    Raises:
        InvalidArgumentError: an argument cannot work, or ``new_task`` returned no options.
    """

    _state_names: ClassVar[tuple[str, ...]] = (*InnerEpisodesEnv._state_names, "_log", "_began")
    envs: tuple[gym.Env, ...] = ()

    def __init__(
        self,
        make_env: Callable[[], gym.Env],
        num_envs: int,
        episodes: int,
        *,
        new_task: NewTask | None = None,
        reward_range: tuple[float, float] = (-np.inf, np.inf),
        split: str = "train",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        if not callable(make_env):
            raise InvalidArgumentError(
                f"make_env is {make_env}; RL2VectorWrapper takes a function that makes one "
                "environment, e.g. lambda: gym.make('CartPole-v1')."
            )
        if new_task is not None and not callable(new_task):
            raise InvalidArgumentError(
                f"new_task={new_task!r} has to be a function of the environment and a generator."
            )
        check_positive("episodes", episodes)
        self.envs = made(make_env, check_positive("num_envs", num_envs))
        self._state_space, self._wrapped_actions = checked_spaces(self.envs)
        super().__init__(
            num_envs,
            episodes=episodes,
            state_space=flat_box(self._state_space),
            action_space=flat_box(self._wrapped_actions),
            reward_range=checked_range(reward_range),
            split=split,
            autoreset_mode=autoreset_mode,
        )
        self.single_action_space = self._wrapped_actions
        self.action_space = batch_space(self._wrapped_actions, self.num_envs)
        self.render_mode = self.envs[0].render_mode
        self.metadata = {**self.envs[0].metadata, "autoreset_mode": self.autoreset_mode}
        self._new_task = new_task
        self._options: list[dict[str, Any] | None] = [None] * self.num_envs
        self._first_seeds: dict[int, int] = {}  # of the rows whose trial is about to start
        self._seen = np.zeros((self.num_envs, self.layout.state), np.float32)
        # What the wrapped environments told during the current call, by row.
        self._from_steps: dict[int, dict[str, Any]] = {}
        self._from_starts: dict[int, dict[str, Any]] = {}
        # The actions since the oldest running trial began, and where in them each trial begins.
        self._log: list[np.ndarray] = []
        self._began = np.zeros(self.num_envs, dtype=np.int64)

    # -- the trials ----------------------------------------------------------------------------

    def _sample_tasks(self, rng: np.random.Generator, n: int) -> Task:
        return {"seed": rng.integers(2**63, size=n)}

    def _check_task_values(self, task: Task) -> None:
        if (task["seed"] < 0).any():
            raise InvalidArgumentError(
                f"options['task']['seed'] holds {task['seed'].min()}; seeds are at least 0."
            )

    def _start(self, rows: Any) -> None:
        self._began[rows] = len(self._log)
        forgotten = int(self._began.min())
        del self._log[:forgotten]
        self._began -= forgotten
        for row in self._every_row[rows].tolist():
            self._begin_trial(row)
        super()._start(rows)

    def _start_episode(self, rows: Any) -> None:
        for row in self._every_row[rows].tolist():
            observation, self._from_starts[row] = self._reset_env(row)
            self._seen[row] = self._flat_state(observation)

    def _inner_step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        rewards, ended = np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=bool)
        self._log.append(actions)
        for row in np.flatnonzero(~(self._terminated | self._truncated)).tolist():
            # A copy: the environment may keep or change what it is given.
            observation, reward, terminated, truncated, info = self.envs[row].step(
                np.array(actions[row])[()]
            )
            self._seen[row] = self._flat_state(observation)
            rewards[row], ended[row] = reward, terminated or truncated
            self._from_steps[row] = info
        return rewards, ended, {}

    def _states(self, rows: Any = slice(None)) -> np.ndarray:
        return np.array(self._seen[rows])

    def _show(self, actions: np.ndarray, rewards: np.ndarray, ended: np.ndarray | float) -> None:
        super()._show(flat_actions(actions, self._wrapped_actions), rewards, ended)

    # -- the wrapped environments --------------------------------------------------------------

    def _begin_trial(self, row: int) -> None:
        """Draw the row's task; the next ``_reset_env`` is the trial's first."""
        rng = np.random.default_rng(self._task["seed"][row])
        self._first_seeds[row] = int(rng.integers(2**31))
        options = None if self._new_task is None else self._new_task(self.envs[row], rng)
        if options is not None and not isinstance(options, Mapping):
            raise InvalidArgumentError(
                f"new_task returned {options!r}; it returns the options (a dict) of the trial's "
                "inner resets, or None. To change the environment, change it in place."
            )
        self._options[row] = None if options is None else dict(options)

    def _reset_env(self, row: int) -> tuple[Any, dict[str, Any]]:
        options = self._options[row]  # a copy again: some environments take keys out
        return self.envs[row].reset(
            seed=self._first_seeds.pop(row, None), options=None if options is None else {**options}
        )

    def _flat_state(self, observation: Any) -> np.ndarray:
        if isinstance(self._state_space, gym.spaces.Box):
            return np.asarray(observation).reshape(-1)
        return np.asarray(gym.spaces.flatten(self._state_space, observation))

    # -- Gymnasium's interface -----------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start new trials; see ``BatchedEnv.reset``."""
        self._from_starts = {}
        observations, infos = super().reset(seed=seed, options=options)
        self._pass_on(infos, self._from_starts)
        return observations, infos

    def step(
        self, actions: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of every inner episode; see ``BatchedEnv.step``."""
        self._from_steps, self._from_starts = {}, {}
        observations, rewards, terminated, truncated, infos = super().step(actions)
        told = self._from_steps
        if self.autoreset_mode is AutoresetMode.SAME_STEP and terminated.any():
            last = {row: told.pop(row) for row in np.flatnonzero(terminated).tolist()}
            self._pass_on(infos["final_info"], last)
        self._pass_on(infos, told)
        self._pass_on(infos, self._from_starts)
        return observations, rewards, terminated, truncated, infos

    def _pass_on(self, infos: dict[str, Any], told: dict[int, dict[str, Any]]) -> None:
        """Add the wrapped environments' infos; Gymnasium's underscore marks a mask."""
        for row, info in told.items():
            if info:
                shown = {k: v for k, v in info.items() if k not in OWN_INFO and k[:1] != "_"}
                self._add_info(infos, shown, row)

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from ``state``: the running trials are played again, action by action."""
        super().set_state(state)
        for row in range(self.num_envs) if self._task else ():
            self._begin_trial(row)
            self._reset_env(row)
            over = 0
            for actions in self._log[self._began[row] :]:
                *_, terminated, truncated, _ = self.envs[row].step(np.array(actions[row])[()])
                over += int(terminated or truncated)
                if over == self.episodes:
                    break
                if terminated or truncated:
                    self._reset_env(row)

    def _render_row(self, row: int) -> Any:
        return self.envs[row].render()

    def close_extras(self, **kwargs: Any) -> None:
        """Close the wrapped environments."""
        for env in self.envs:
            env.close()


class RL2Wrapper(SingleEnv):
    batched = RL2VectorWrapper

    def __init__(
        self,
        env: gym.Env,
        episodes: int,
        *,
        new_task: NewTask | None = None,
        reward_range: tuple[float, float] = (-np.inf, np.inf),
        split: str = "train",
    ) -> None:
        if not isinstance(env, gym.Env):
            raise InvalidArgumentError(
                f"env is a {type(env).__name__}; RL2Wrapper takes one Gymnasium environment. For a "
                "batch of trials: RL2VectorWrapper(lambda: gym.make(...), num_envs=..., ...)."
            )
        self.env = env
        self._batch = RL2VectorWrapper(
            lambda: env, 1, episodes, new_task=new_task, reward_range=reward_range, split=split,
            autoreset_mode=AutoresetMode.DISABLED,
        )  # fmt: skip
        self.render_mode, self.metadata = env.render_mode, dict(env.metadata)
        self.observation_space = self._batch.single_observation_space
        self.action_space = self._batch.single_action_space
