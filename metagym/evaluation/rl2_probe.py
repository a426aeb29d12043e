"""How ``check_rl2_wrapper`` plays with a wrapper: the probe inside it, and what was recorded.

Kept apart from the rules in ``rl2_check.py``, so that a rule reads as what it demands.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from metagym.core.trial import TrialLayout, TrialView
from metagym.errors import InvalidArgumentError

STATES = 4
ACTION_SPACES: dict[str, gym.spaces.Discrete | gym.spaces.Box] = {
    "discrete": gym.spaces.Discrete(3),
    "box": gym.spaces.Box(-1.0, 1.0, (2,), np.float32),
}
# Length of the inner episodes and how they end, over and over. Both ends come early and late, and
# one of the episodes is a single step.
SCRIPT = (
    (3, "terminated"), (2, "truncated"), (1, "terminated"), (4, "truncated"), (1, "truncated"),
)  # fmt: skip
LONGEST = max(length for length, _ in SCRIPT)
TRIALS = 3

Decode = Callable[[Any], tuple[Any, ...]]


class Start(NamedTuple):
    """The probe was reset; ``cut``: in the middle of an episode."""

    state: np.ndarray
    cut: bool


class InnerStep(NamedTuple):
    """The probe was stepped."""

    action: Any
    state: np.ndarray  # where it led
    reward: float
    end: str  # "", "terminated" or "truncated"


class ProbeEnv(gym.Env):
    """An environment whose every state and reward tells when it was given.

    No state and no reward is zero, and none of them comes back within a trial. Episodes follow
    ``SCRIPT``; one that is reset before its first step is played next. ``events`` is the record.
    """

    def __init__(self, actions: str = "discrete") -> None:
        self.observation_space = gym.spaces.Box(0.0, 1.0, (STATES,), np.float32)
        self.action_space = copy.deepcopy(ACTION_SPACES[actions])
        self.events: list[Start | InnerStep] = []
        self._episodes = self._steps = self._time = 0
        self._start = 0.0
        self._running = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        cut = self._running and self._time > 0
        self._episodes += int(cut)
        self._time, self._running = 0, True
        self._start = self.np_random.uniform(0.1, 1.0)  # differs from episode to episode
        self.events.append(Start(self._state(), cut))
        return self._state(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if not self._running:
            raise RuntimeError("the inner environment was stepped after its episode's end.")
        if not self.action_space.contains(action):
            raise RuntimeError(f"the inner environment was given {action!r}.")
        length, end = SCRIPT[self._episodes % len(SCRIPT)]
        self._time, self._steps = self._time + 1, self._steps + 1
        reward = (self._steps % 89 + 1) / 128
        state = self._state()
        over = self._time == length
        self._running, self._episodes = not over, self._episodes + int(over)
        self.events.append(InnerStep(copy.copy(action), state, reward, end if over else ""))
        return state.copy(), reward, over and end == "terminated", over and end == "truncated", {}

    def _state(self) -> np.ndarray:
        codes = (self._episodes % 61 + 1) / 64, (self._time + 1) / 16, (self._steps % 97 + 1) / 128
        return np.array([*codes, self._start], dtype=np.float32)


class OneRow(gym.Env):
    """A vector environment of one row as a single one, through whose autoreset trials follow."""

    def __init__(self, env: VectorEnv) -> None:
        if env.num_envs != 1:
            raise InvalidArgumentError(
                f"make_env made a batch of {env.num_envs}; the check looks at one row, so wrap the "
                "one environment that is given. check_vector_env looks at batches."
            )
        self.env, self.layout = env, getattr(env.unwrapped, "layout", None)
        self.observation_space = env.single_observation_space
        self.action_space = env.single_action_space
        self._next: Any = None  # the first observation of a trial that has begun already

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        mode = self.env.metadata.get("autoreset_mode")
        if seed is None and mode is AutoresetMode.SAME_STEP:
            return self._next, {}
        if seed is None and mode is AutoresetMode.NEXT_STEP:
            return self.env.step(self.env.action_space.sample())[0][0], {}
        return self.env.reset(seed=seed)[0][0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observations, rewards, terminated, truncated, infos = self.env.step(
            np.asarray(action)[None]
        )
        observation = observations[0]
        if infos.get("_final_obs", [False])[0]:
            self._next, observation = observation, infos["final_obs"][0]
        return observation, float(rewards[0]), bool(terminated[0]), bool(truncated[0]), {}


class Tick(NamedTuple):
    """One step of the trial. ``step``: what the probe did, None where it was not stepped."""

    action: Any
    observation: Any
    reward: float
    terminated: bool
    truncated: bool
    events: list[Start | InnerStep]
    seen: TrialView

    @property
    def steps(self) -> list[InnerStep]:
        return [event for event in self.events if isinstance(event, InnerStep)]

    @property
    def step(self) -> InnerStep | None:
        return self.steps[0] if self.steps else None

    @property
    def starts(self) -> list[Start]:
        return [event for event in self.events if isinstance(event, Start)]


class Trial(NamedTuple):
    observation: Any
    seen: TrialView
    starts: list[Start]
    ticks: list[Tick]

    @property
    def ends(self) -> int:
        """How many inner episodes have ended."""
        return sum(bool(step.end) for tick in self.ticks for step in tick.steps)

    @property
    def over(self) -> bool:
        return bool(self.ticks) and (self.ticks[-1].terminated or self.ticks[-1].truncated)


@dataclass
class Play:
    """Plays with the user's wrapper; ``trials`` is the run that most rules look at."""

    make_env: Callable[[gym.Env, int], Any]
    decode: Decode | None
    episodes: int
    actions: str
    seed: int

    def __post_init__(self) -> None:
        self.returned: list[tuple[Any, Any]] = []  # (an observation that came, its copy)
        self.space: gym.Space | None = None

    @cached_property
    def trials(self) -> list[Trial]:
        return self.run(self.seed)

    def one_hot(self, action: Any) -> np.ndarray:
        """What the block a of ``action`` has to be."""
        if self.actions == "box":
            return np.asarray(action, dtype=np.float32)
        return np.eye(3, dtype=np.float32)[int(action)]

    def run(self, seed: int) -> list[Trial]:
        """``TRIALS`` trials in one environment, fewer where one of them does not end."""
        probe = ProbeEnv(self.actions)
        env = self.make_env(probe, self.episodes)
        if isinstance(env, VectorEnv):
            env = OneRow(env)
        self.space = env.observation_space
        decode = self.decode or _decoder(env, self.actions)
        actions = np.random.default_rng(seed)
        trials: list[Trial] = []
        try:
            for number in range(TRIALS):
                observation, _ = env.reset(**({"seed": seed} if number == 0 else {}))
                trial = Trial(self._keep(observation), _view(decode(observation)), [], [])
                trial.starts.extend(event for event in _drain(probe) if isinstance(event, Start))
                if number:
                    # What began in the trial's last step, as in a batch, is of this trial.
                    trial.starts[:0] = trials[-1].ticks[-1].starts
                trials.append(trial)
                while not trial.over and len(trial.ticks) < self.episodes * (LONGEST + 1) + 5:
                    action = self._choose(actions)
                    observation, reward, terminated, truncated, _ = env.step(action)
                    seen = _view(decode(observation))
                    trial.ticks.append(
                        Tick(action, self._keep(observation), reward, terminated, truncated,
                             _drain(probe), seen)
                    )  # fmt: skip
                if not trial.over:
                    break
        finally:
            env.close()
        return trials

    def _choose(self, rng: np.random.Generator) -> Any:
        if self.actions == "box":
            return rng.uniform(-1.0, 1.0, 2).astype(np.float32)
        return int(rng.integers(3))

    def _keep(self, observation: Any) -> Any:
        kept = copy.deepcopy(observation)
        self.returned.append((observation, kept))
        return kept

    def inside(self) -> Iterator[tuple[str, Trial, int, Tick, InnerStep]]:
        """All steps but a trial's last, after which nobody acts: name, trial, index, both steps."""
        for number, trial in enumerate(self.trials):
            for i, tick in enumerate(trial.ticks[:-1]):
                if tick.step is not None:
                    yield f"step {i} of trial {number}", trial, i, tick, tick.step


def _drain(probe: ProbeEnv) -> list[Start | InnerStep]:
    events, probe.events = probe.events, []
    return events


def _view(decoded: tuple[Any, ...]) -> TrialView:
    """What ``decode`` gave, as flat arrays; s' is empty where it gave four things."""
    if not isinstance(decoded, tuple) or len(decoded) not in (4, 5):
        raise InvalidArgumentError(
            "decode has to return a tuple (state, action, reward, done) or (state, action, reward, "
            f"done, final state); it returned {decoded!r}."
        )
    blocks = [np.array(block, dtype=np.float64).reshape(-1) for block in decoded]
    state, action, reward, done, final = (*blocks, np.zeros(0))[:5]
    return TrialView(state, action, reward, done, final)


def _decoder(env: gym.Env, actions: str) -> Decode:
    """The blocks of an observation in this suite's layout."""
    layout = getattr(env.unwrapped, "layout", None)
    if not isinstance(layout, TrialLayout):
        size = 3 if actions == "discrete" else 2
        layouts = (TrialLayout(STATES, size), TrialLayout(STATES, size, STATES))
        known = {each.size: each for each in layouts}
        layout = known.get((env.observation_space.shape or (0,))[-1])
        if layout is None:
            raise InvalidArgumentError(
                f"The observations are {env.observation_space}, which is not [s, a, r, d, s'] of "
                f"{STATES} states and {size} actions; pass decode=, a function from an observation "
                "to (state, action, reward, done)."
            )
    split = layout.split
    return lambda observation: tuple(split(np.asarray(observation)))
