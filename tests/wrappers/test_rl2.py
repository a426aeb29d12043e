"""RL2Wrapper and its twin: what they show is what happened, and the batch is its singles."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordEpisodeStatistics
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.errors import InvalidActionError, InvalidArgumentError
from metagym.evaluation import check_vector_env, evaluate
from metagym.wrappers import RL2VectorWrapper, RL2Wrapper

MODES = ("NextStep", "SameStep", "Disabled")


def new_pole(env: gym.Env, rng: np.random.Generator) -> None:
    pole: Any = env.unwrapped
    pole.length = rng.uniform(0.25, 1.0)
    pole.polemass_length = pole.masspole * pole.length


cart_pole = partial(gym.make, "CartPole-v1", max_episode_steps=12)


def twin(mode: str = "SameStep", num_envs: int = 3, **kwargs: Any) -> RL2VectorWrapper:
    settings = {"episodes": 2, "new_task": new_pole, **kwargs}
    return RL2VectorWrapper(cart_pole, num_envs, autoreset_mode=mode, **settings)


class Diary(gym.Wrapper):
    """Notes what the environment inside was told and what it answered."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.starts: list[Any] = []
        self.steps: list[tuple[Any, ...]] = []
        self.resets: list[dict[str, Any]] = []

    def reset(self, **kwargs: Any) -> Any:
        self.resets.append(kwargs)
        out = self.env.reset(**kwargs)
        self.starts.append(out[0])
        return out

    def step(self, action: Any) -> Any:
        out = self.env.step(action)
        self.steps.append((action, *out))
        return out


def one_hot(n: int, i: int) -> np.ndarray:
    return np.eye(n)[i]


class Choices(gym.Env):
    """Any action space; three steps and a cut."""

    def __init__(self, action_space: gym.Space) -> None:
        self.action_space = action_space
        self.observation_space = gym.spaces.Box(-9, 9, (2, 2), np.int64)
        self.t = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._state(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.t += 1
        if isinstance(action, np.ndarray):
            action[...] = 0  # bad manners, which the wrapper survives
        return self._state(), 2.5 * self.t, False, self.t == 3, {}

    def _state(self) -> np.ndarray:
        return self.np_random.integers(-9, 10, (2, 2))


ENVIRONMENTS: dict[str, tuple[Any, Any]] = {
    # What makes it, and the block of an action.
    "CartPole": (cart_pole, partial(one_hot, 2)),
    "Pendulum": (partial(gym.make, "Pendulum-v1", max_episode_steps=6), np.ravel),
    "FrozenLake": (partial(gym.make, "FrozenLake-v1"), partial(one_hot, 4)),
    "Blackjack": (partial(gym.make, "Blackjack-v1"), partial(one_hot, 2)),
    "shifted": (lambda: Choices(gym.spaces.Discrete(3, start=-7)), lambda a: one_hot(3, a + 7)),
    "high": (lambda: Choices(gym.spaces.Discrete(3, start=7)), lambda a: one_hot(3, a - 7)),
    "several": (
        lambda: Choices(gym.spaces.MultiDiscrete([2, 3], start=[1, 5])),
        lambda a: np.concatenate([one_hot(2, a[0] - 1), one_hot(3, a[1] - 5)]),
    ),
    "bits": (lambda: Choices(gym.spaces.MultiBinary(3)), np.ravel),
    "matrix": (lambda: Choices(gym.spaces.Box(-1, 1, (2, 2), np.float32)), np.ravel),
    "whole": (lambda: Choices(gym.spaces.Box(-3, 3, (2,), np.int64)), np.ravel),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_observation_is_what_happened(name: str) -> None:
    make, encode = ENVIRONMENTS[name]
    diary = Diary(make())
    env = RL2Wrapper(diary, 3)
    env.action_space.seed(1)
    flat = partial(gym.spaces.flatten, diary.observation_space)
    for trial in range(2):
        observation, _ = env.reset(**({"seed": 4} if trial == 0 else {}))
        starts, steps = [diary.starts[-1]], len(diary.steps)
        seen, action = env.layout.split(observation), None
        np.testing.assert_allclose(seen.state, flat(starts[0]), rtol=1e-6)
        assert not observation[env.layout.state :].any()
        over, total, ended = False, 0.0, 0
        while not over:
            action = env.action_space.sample()
            before = len(diary.starts)
            observation, reward, over, truncated, info = env.step(action)
            assert env.observation_space.contains(observation) and not truncated
            seen = env.layout.split(observation)
            _, state, inner_reward, terminated, cut, _ = diary.steps[-1]
            ended += int(terminated or cut)
            total += reward
            assert reward == inner_reward and seen.reward == pytest.approx(inner_reward, rel=1e-6)
            assert seen.done == float(terminated or cut)
            assert info["inner_episode"] == ended and over == (ended == 3)
            np.testing.assert_allclose(seen.action, encode(action), rtol=1e-6)
            again = (terminated or cut) and not over
            assert len(diary.starts) == before + int(again)
            shown = diary.starts[-1] if again else state
            np.testing.assert_allclose(seen.state, flat(shown), rtol=1e-6)
            final = flat(state) if terminated or cut else np.zeros(env.layout.state)
            np.testing.assert_allclose(seen.final, final, rtol=1e-6)
        assert info["score"] == pytest.approx(total)
        assert info["inner_returns"].sum() == pytest.approx(total)
        assert info["inner_lengths"].sum() == len(diary.steps) - steps


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_it_keeps_the_promises_of_a_vector_environment(name: str, mode: str) -> None:
    make = ENVIRONMENTS[name][0]
    check_vector_env(
        RL2VectorWrapper(make, 3, 2, autoreset_mode=mode),
        make_single=lambda: RL2Wrapper(make(), 2),
        steps=40,
    )


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_gymnasiums_checker_has_nothing_to_say_but_of_bounds(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*infinity")
        # An action space in other units is the wrapped environment's affair.
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space")
        check_env(RL2Wrapper(ENVIRONMENTS[name][0](), 2), skip_render_check=True)


# -- the batch is its singles --------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_the_twin_is_its_singles_step_for_step(mode: str) -> None:
    """Over many trials that end at different times: every row is a single on the row's tasks."""
    env = twin(mode, num_envs=4)
    singles = [RL2Wrapper(cart_pole(), 2, new_task=new_pole) for _ in range(4)]
    observations, infos = env.reset(seed=3)

    def start(rows: np.ndarray) -> None:
        for row in np.flatnonzero(rows):
            task = {"seed": infos["task"]["seed"][row]}
            first, info = singles[row].reset(options={"task": task})
            np.testing.assert_array_equal(first, observations[row])
            assert info["task"] == task

    start(infos["_task"])
    env.action_space.seed(0)
    waiting, trials = np.zeros(4, dtype=bool), 0
    for _ in range(150):
        if mode == "Disabled" and waiting.any():
            observations, infos = env.reset(options={"reset_mask": waiting})
            start(waiting)
            waiting = np.zeros(4, dtype=bool)
        actions = env.action_space.sample()
        observations, rewards, terminated, truncated, infos = env.step(actions)
        for row in np.flatnonzero(~waiting):
            ended = mode == "SameStep" and terminated[row]
            final = infos["final_info"] if ended else infos
            seen = infos["final_obs"][row] if ended else observations[row]
            alone, reward, over, cut, info = singles[row].step(actions[row])
            np.testing.assert_array_equal(seen, alone)
            assert (reward, over, cut) == (rewards[row], terminated[row], truncated[row])
            assert {key for key in final if f"_{key}" in final and final[f"_{key}"][row]} - {
                "task", "final_obs", "final_info",
            } == set(info)  # fmt: skip
            for key, value in info.items():
                np.testing.assert_array_equal(final[key][row], value)
        if mode == "SameStep" and terminated.any():
            start(terminated)
        if mode == "NextStep" and waiting.any():
            assert not rewards[waiting].any() and not terminated[waiting].any()
            start(waiting)
        waiting, trials = terminated, trials + int(terminated.sum())
        if mode == "SameStep":
            waiting = np.zeros(4, dtype=bool)
    assert trials > 12


def test_the_task_is_the_whole_trial_with_its_noise() -> None:
    def trial(env: RL2Wrapper, **kwargs: Any) -> tuple[Any, list[np.ndarray]]:
        observation, info = env.reset(**kwargs)
        seen, over = [observation], False
        while not over:
            observation, _, over, *_ = env.step(len(seen) % 3)
            seen.append(observation)
        return info["task"], seen

    def make() -> RL2Wrapper:
        return RL2Wrapper(gym.make("FrozenLake-v1"), 4)  # slippery: every step is drawn

    env = make()
    task, seen = trial(env, seed=0)
    np.testing.assert_array_equal(trial(make(), seed=0)[1], seen)
    other_task, other = trial(env)
    assert other_task != task and not np.array_equal(other, seen)
    np.testing.assert_array_equal(trial(env, options={"task": task})[1], seen)


def test_inner_episodes_are_not_started_alike() -> None:
    diary = Diary(cart_pole())
    env = RL2Wrapper(diary, 4, new_task=new_pole)
    env.reset(seed=0)
    while not env.step(1)[2]:
        pass
    assert len({tuple(start) for start in diary.starts}) == 4
    seeds = [kwargs["seed"] for kwargs in diary.resets]
    assert isinstance(seeds[0], int) and seeds[1:] == [None] * 3


# -- tasks ---------------------------------------------------------------------------------------


def test_a_task_lasts_a_trial_and_comes_back_with_its_seed() -> None:
    env = RL2Wrapper(cart_pole(), 3, new_task=new_pole)
    pole: Any = env.env.unwrapped
    lengths, tasks = [], []
    for trial in range(5):
        _, info = env.reset(**({"seed": 0} if trial == 0 else {}))
        lengths.append(pole.length)
        tasks.append(info["task"])
        over = False
        while not over:
            *_, over, _, _ = env.step(0)
            assert pole.length == lengths[-1]
    assert len(set(lengths)) == 5 and min(lengths) >= 0.25 and max(lengths) <= 1.0
    env.reset(options={"task": tasks[2]})
    assert pole.length == lengths[2]


def test_options_of_new_task_reach_every_inner_reset() -> None:
    class Greedy(Diary):
        def reset(self, **kwargs: Any) -> Any:
            out = super().reset(seed=kwargs["seed"], options=dict(kwargs["options"]))
            kwargs["options"].clear()
            return out

    def near(env: gym.Env, rng: np.random.Generator) -> dict[str, float]:
        edge = rng.uniform(0.01, 0.1)
        return {"low": edge, "high": edge}

    diary = Greedy(cart_pole())
    env = RL2Wrapper(diary, 3, new_task=near)
    edges = []
    for _ in range(2):
        env.reset()
        while not env.step(0)[2]:
            pass
        options = [kwargs["options"] for kwargs in diary.resets[-3:]]
        assert options[0] == options[1] == options[2]
        edges.append(options[0]["low"])
        np.testing.assert_allclose(diary.starts[-3:], edges[-1], rtol=1e-6)
    assert edges[0] != edges[1]


def test_splits_have_tasks_of_their_own() -> None:
    seeds = {}
    for split in ("train", "validation", "test"):
        _, infos = twin(num_envs=50, split=split).reset(seed=0)
        seeds[split] = set(infos["task"]["seed"].tolist())
    assert len(set.union(*seeds.values())) == 150
    assert (
        RL2Wrapper(cart_pole(), 2, split="test").reset(seed=0)[1]["task"]["seed"] in seeds["test"]
    )


# -- checkpoints ---------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(MODES), st.integers(0, 60), st.integers(0, 2**20))
def test_a_saved_batch_goes_on_where_it_was(mode: str, steps: int, seed: int) -> None:
    def act(env: RL2VectorWrapper, terminated: np.ndarray) -> tuple[Any, np.ndarray]:
        if mode == "Disabled" and terminated.any():
            env.reset(options={"reset_mask": terminated})
        out = env.step(env.action_space.sample())
        return out[:2], out[2]

    env, other = twin(mode), twin(mode)
    terminated = np.zeros(3, dtype=bool)
    env.reset(seed=seed)
    env.action_space.seed(seed)
    for _ in range(steps):
        _, terminated = act(env, terminated)
    state = env.get_state()
    assert tree_of_data(state)
    assert len(state["_log"]) <= 2 * 12 * 2  # no longer than trials that overlap
    other.reset(seed=seed + 1)
    other.step(np.array([0, 1, 0]))
    other.set_state(state)
    ahead = terminated.copy()
    for env_again in (env, other):
        env_again.action_space.seed(7)
    for _ in range(40):
        expected, terminated = act(env, terminated)
        found, ahead = act(other, ahead)
        np.testing.assert_array_equal(ahead, terminated)
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_array_equal(a, b)


def tree_of_data(tree: Any) -> bool:
    if isinstance(tree, dict):
        return all(isinstance(key, str) and tree_of_data(value) for key, value in tree.items())
    if isinstance(tree, list):
        return all(map(tree_of_data, tree))
    return tree is None or isinstance(tree, (bool, int, float, str, np.ndarray, np.generic))


def test_a_single_one_is_saved_too() -> None:
    env, other = (RL2Wrapper(cart_pole(), 2, new_task=new_pole) for _ in range(2))
    env.reset(seed=0)
    for _ in range(13):
        env.step(1)
    other.set_state(env.get_state())
    for _ in range(3):
        np.testing.assert_array_equal(env.step(0)[0], other.step(0)[0])
    fresh = RL2Wrapper(cart_pole(), 2)
    other.set_state(fresh.get_state())  # of before the first reset


def test_a_row_that_waits_is_played_to_its_end_and_no_further() -> None:
    diaries: list[Diary] = []

    def make() -> gym.Env:
        # Longer episodes in one row, and actions among which the 0 of a waiting row is none.
        length = 3 if len(diaries) % 2 else 5
        inner = gym.wrappers.TimeLimit(Choices(gym.spaces.Discrete(2, start=4)), length - 2)
        diaries.append(Diary(inner))
        return diaries[-1]

    env, other = (RL2VectorWrapper(make, 2, 2, autoreset_mode="Disabled") for _ in range(2))
    env.reset(seed=0)
    for _ in range(4):
        *_, terminated, _, _ = env.step(np.array([4, 5]))
    assert terminated.tolist() == [False, True]
    other.set_state(env.get_state())
    assert [len(diary.steps) for diary in diaries] == [4, 2, 4, 2]
    np.testing.assert_array_equal(env.step(np.array([5, 5]))[0], other.step(np.array([5, 5]))[0])


# -- infos ---------------------------------------------------------------------------------------


class Talkative(gym.Wrapper):
    """Says much, some of it under names that the trial needs for itself."""

    def reset(self, **kwargs: Any) -> Any:
        observation, _ = self.env.reset(**kwargs)
        return observation, {
            "mood": "fresh",
            "steps": 0,
            "task": "mine",
            "action_mask": self.mask(0),
        }

    def step(self, action: Any) -> Any:
        *out, _ = self.env.step(action)
        steps = self.env.get_wrapper_attr("_elapsed_steps")
        info = {"steps": steps, "score": "mine", "_hidden": 1, "nested": {"x": steps / 2}}
        if out[2] or out[3]:
            info["episode_over"] = True
        return *out, {**info, "action_mask": self.mask(steps)}

    def mask(self, steps: int) -> np.ndarray:
        return np.array([1, int(steps != 0)], dtype=np.int8)


def talkative() -> gym.Env:
    return Talkative(gym.make("CartPole-v1", max_episode_steps=2))


def test_the_wrapped_environments_info_passes_through() -> None:
    env = RL2Wrapper(talkative(), 2)
    _, info = env.reset(seed=0)
    assert info["mood"] == "fresh" and info["steps"] == 0 and isinstance(info["task"]["seed"], int)
    *_, info = env.step(0)
    assert info["steps"] == 1 and info["nested"] == {"x": 0.5} and "mood" not in info
    assert "score" not in info and "_hidden" not in info and "episode_over" not in info
    *_, info = env.step(0)  # the second inner episode begins, and its reset comes on top
    assert info["episode_over"] is True and info["steps"] == 0 and info["nested"] == {"x": 1.0}
    assert info["action_mask"].tolist() == [1, 0]
    env.step(0)
    *_, over, _, info = env.step(0)
    assert over and info["score"] == 4.0 and info["steps"] == 2 and info["episode_over"] is True
    assert info["inner_returns"].tolist() == [2.0, 2.0] and info["inner_lengths"].tolist() == [2, 2]


def test_at_a_trials_end_the_batch_tells_last_things_and_first_things_apart() -> None:
    env = RL2VectorWrapper(talkative, 2, 1, autoreset_mode="SameStep")
    env.reset(seed=0)
    env.step(np.zeros(2, dtype=np.int64))
    *_, terminated, _, infos = env.step(np.zeros(2, dtype=np.int64))
    assert terminated.all()
    assert infos["steps"].tolist() == [0, 0] and infos["mood"].tolist() == ["fresh", "fresh"]
    final = infos["final_info"]
    assert final["steps"].tolist() == [2, 2] and final["nested"]["x"].tolist() == [1.0, 1.0]
    assert final["score"].tolist() == [2.0, 2.0] and final["_episode_over"].tolist() == [True, True]
    assert "episode_over" not in infos


def test_statistics_of_inner_episodes_are_told() -> None:
    env = RL2Wrapper(RecordEpisodeStatistics(cart_pole()), 2)
    env.reset(seed=0)
    lengths, over = [], False
    while not over:
        *_, over, _, info = env.step(1)
        if "episode" in info:
            lengths.append(info["episode"]["l"])
    assert lengths == info["inner_lengths"].tolist()


# -- the rest of the interface -------------------------------------------------------------------


def test_rewards_are_shown_clipped_and_paid_in_full() -> None:
    make = partial(gym.make, "Pendulum-v1", max_episode_steps=4)
    env = RL2VectorWrapper(make, 8, 2, reward_range=(-0.5, -0.25))
    space: Any = env.single_observation_space
    assert (space.low[4], space.high[4]) == (-0.5, 0.0)  # zero is the start's
    env.reset(seed=0)
    for _ in range(3):
        observations, rewards, *_ = env.step(np.zeros((8, 1), np.float32))
        shown = env.layout.split(observations).reward
        np.testing.assert_allclose(shown, np.clip(rewards, -0.5, -0.25), rtol=1e-6)
    assert rewards.min() < -1.0


def test_wide_bounds_do_not_overflow() -> None:
    class Wide(Choices):
        def __init__(self) -> None:
            super().__init__(gym.spaces.Discrete(2))
            biggest = np.finfo(np.float64).max
            self.observation_space = gym.spaces.Box(-biggest, biggest, (2, 2), np.float64)

        def _state(self) -> np.ndarray:
            return super()._state().astype(np.float64)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        space: Any = RL2Wrapper(Wide(), 1).observation_space
    assert np.isinf(space.low[:4]).all() and space.dtype == np.float32


def test_actions_are_checked_and_clipped_as_in_every_environment_here() -> None:
    diary = Diary(gym.make("Pendulum-v1"))
    env = RL2Wrapper(diary, 1)
    env.reset(seed=0)
    for action in (np.array([np.nan]), np.zeros(2), "left"):
        with pytest.raises(InvalidActionError):
            env.step(action)
    assert not diary.steps
    observation, *_ = env.step(np.array([5.0]))
    assert diary.steps[0][0] == 2.0 and env.layout.split(observation).action == 2.0
    with pytest.raises(InvalidActionError):
        twin().step(np.array([0, 1, 2]))


def test_the_trial_is_an_environment_of_its_own() -> None:
    made = []

    class Drawn(gym.Wrapper):
        closed = False

        def render(self) -> Any:
            return np.full((2, 2, 3), 9, np.uint8)

        def close(self) -> None:
            self.closed = True

    def make() -> gym.Env:
        made.append(Drawn(gym.make("CartPole-v1", render_mode="rgb_array")))
        return made[-1]

    env = RL2VectorWrapper(make, 2, 3)
    single = RL2Wrapper(make(), 3)
    for either in (env, single):
        unwrapped: Any = either.unwrapped
        assert unwrapped is either and unwrapped.layout.size == 12 and unwrapped.episodes == 3
        assert either.render_mode == "rgb_array" and either.metadata["render_fps"] == 50
        either.reset(seed=0)
    assert env.envs == tuple(made[:2]) and single.env is made[2]
    frames: Any = env.render()
    assert len(frames) == 2 and frames[0].shape == (2, 2, 3)
    frame: Any = single.render()
    assert frame.shape == (2, 2, 3) and "autoreset_mode" not in single.metadata
    env.close()
    single.close()
    assert all(each.closed for each in made)


def test_a_registered_trial_is_evaluated_like_any_environment() -> None:
    class LeansBack:
        """Pushes the way the pole falls."""

        def reset(self, mask: np.ndarray) -> None:
            pass

        def act(self, observations: np.ndarray, action_masks: Any = None) -> np.ndarray:
            return (observations[:, 2] + observations[:, 3] > 0).astype(np.int64)

    name = "metagym-tests/PoleTrial-v0"
    gym.register(name, entry_point=lambda: RL2Wrapper(cart_pole(), 2, new_task=new_pole))
    try:
        result = evaluate(LeansBack(), name, episodes=20, num_envs=10)
    finally:
        del gym.registry[name]
    assert result.scores == [24.0] * 20


# -- bad input -----------------------------------------------------------------------------------


class Odd(Choices):
    def __init__(self, states: gym.Space | None = None, actions: gym.Space | None = None) -> None:
        super().__init__(actions or gym.spaces.Discrete(2))
        self.observation_space = states or self.observation_space


BOX = gym.spaces.Box(-1, 1, (1,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"episodes": 0}, "episodes=0 has to be a whole number"),
        ({"episodes": 1.5}, r"episodes=1\.5 has to be"),
        ({"new_task": {"length": 0.5}}, "new_task={'length': 0.5} has to be a function"),
        ({"reward_range": (1.0, 0.0)}, r"reward_range=\(1\.0, 0\.0\) has to be two numbers"),
        ({"reward_range": 5}, "reward_range=5"),
        ({"reward_range": (0.0, np.nan)}, "reward_range"),
        ({"split": "tset"}, "Did you mean 'test'"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    arguments = {"episodes": 2, **arguments}
    with pytest.raises(InvalidArgumentError, match=message):
        RL2Wrapper(cart_pole(), **arguments)
    with pytest.raises(InvalidArgumentError, match=message):
        RL2VectorWrapper(cart_pole, 2, **arguments)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Odd(states=gym.spaces.Sequence(BOX)), "no flat array can hold"),
        (Odd(states=gym.spaces.Graph(BOX, None)), "no flat array can hold"),
        (Odd(actions=gym.spaces.Tuple([gym.spaces.Discrete(2)])), "a trial takes Discrete"),
        (Odd(actions=gym.spaces.Text(3)), "a trial takes Discrete"),
    ],
)
def test_spaces_that_have_no_flat_form_are_refused(env: gym.Env, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        RL2Wrapper(env, 2)


def test_wrong_environments_are_refused_with_the_fix() -> None:
    batch = gym.make_vec("CartPole-v1", 2)
    with pytest.raises(
        InvalidArgumentError, match=r"env is a CartPoleVectorEnv; .*RL2VectorWrapper"
    ):
        RL2Wrapper(batch, 2)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="takes a function that makes one"):
        RL2VectorWrapper(batch, 2, 2)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="takes a function that makes one"):
        RL2VectorWrapper(cart_pole(), 2, 2)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="make_env made a CartPoleVectorEnv"):
        RL2VectorWrapper(lambda: batch, 2, 2)  # type: ignore[arg-type, return-value]
    one = cart_pole()
    with pytest.raises(InvalidArgumentError, match="the same environment twice"):
        RL2VectorWrapper(lambda: one, 2, 2)
    kinds = iter([gym.spaces.Discrete(2), gym.spaces.Discrete(3)])
    with pytest.raises(InvalidArgumentError, match="environments with different spaces"):
        RL2VectorWrapper(lambda: Odd(actions=next(kinds)), 2, 2)
    with pytest.raises(InvalidArgumentError, match="num_envs=0"):
        RL2VectorWrapper(cart_pole, 0, 2)
    with pytest.raises(InvalidArgumentError, match="Did you mean 'SameStep'"):
        twin("Samestep")


@pytest.mark.parametrize("nonsense", [3, [0.1], cart_pole(), "length"])
def test_new_task_returns_options_or_nothing(nonsense: Any) -> None:
    env = RL2Wrapper(cart_pole(), 2, new_task=lambda env, rng: nonsense)
    with pytest.raises(InvalidArgumentError, match=r"new_task returned .* change it in place"):
        env.reset(seed=0)


def test_tasks_are_seeds() -> None:
    env = twin()
    for seeds, message in (
        ([1, 2, -3], "holds -3"),
        ([1, 2], r"shape \(2,\)"),
        ([0.5] * 3, "int64"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            env.reset(options={"task": {"seed": np.array(seeds)}})
    with pytest.raises(InvalidArgumentError, match="Did you mean 'task'"):
        env.reset(options={"tasks": {}})
