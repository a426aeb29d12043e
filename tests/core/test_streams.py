"""Seeds, splits, the two random streams, and checkpoints that continue exactly."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import metagym  # noqa: F401
from metagym.core import SPLITS
from metagym.errors import InvalidArgumentError

MODES = [mode.value for mode in AutoresetMode]


def lto(**kwargs: Any) -> Any:
    return gym.make_vec("LearnToOptimize-v0", **{"num_envs": 3, "dim": 4, "horizon": 6, **kwargs})


def play(env: Any, steps: int, seed: int = 5) -> list[Any]:
    """Outcomes of ``steps`` random actions, without a reset."""
    space = env.action_space
    space.seed(seed)
    return [env.step(space.sample())[:4] for _ in range(steps)]


def assert_equal(a: list[Any], b: list[Any]) -> None:
    for left, right in zip(a, b, strict=True):
        for x, y in zip(left, right, strict=True):
            np.testing.assert_array_equal(x, y)


def task_of(infos: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: value for name, value in infos["task"].items() if name[0] != "_"}


@pytest.mark.parametrize("mode", MODES)
def test_same_seed_same_trajectory_exactly(mode: str) -> None:
    runs = []
    for seed in (0, 0, 1):
        env = lto(noise=0.3, autoreset_mode=mode)
        env.reset(seed=seed)
        runs.append(play(env, 20))
    assert_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0][0][0], runs[2][0][0])


def test_seed_zero_is_a_seed_and_no_seed_goes_on(drift: Any) -> None:
    env = drift()
    first = env.reset(seed=0)[1]["task"]["gain"]
    second = env.reset()[1]["task"]["gain"]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(env.reset(seed=0)[1]["task"]["gain"], first)
    np.testing.assert_array_equal(env.reset()[1]["task"]["gain"], second)
    assert not np.array_equal(
        drift().reset()[1]["task"]["gain"], drift().reset()[1]["task"]["gain"]
    )


def test_a_single_environment_is_the_batch_of_one(drift: Any, drift_single: Any) -> None:
    single, batch = drift_single(noise=0.5), drift(num_envs=1, noise=0.5, autoreset_mode="Disabled")
    single.reset(seed=9)
    batch.reset(seed=9)
    for action in np.linspace(-1, 1, 5, dtype=np.float32):
        observation, reward = single.step(np.array([action]))[:2]
        observations, rewards = batch.step(np.array([[action]]))[:2]
        np.testing.assert_array_equal(observation, observations[0])
        assert reward == rewards[0]


def test_splits_are_disjoint_under_the_same_seed() -> None:
    tasks = {}
    for split in SPLITS:
        _, infos = lto(num_envs=50, split=split).reset(seed=0)
        tasks[split] = infos["task"]["W"]
    for a, b in [("train", "validation"), ("train", "test"), ("validation", "test")]:
        assert np.intersect1d(tasks[a], tasks[b]).size == 0


def test_noise_does_not_shift_the_tasks() -> None:
    tasks = []
    for noise in (0.0, 0.5):
        env = lto(noise=noise)
        seen = [env.reset(seed=3)[1]]
        seen += [env.step(np.zeros((3, 4)))[4] for _ in range(14)]
        tasks.append([infos["task"] for infos in seen if "task" in infos])
    assert len(tasks[0]) == 3  # the reset and two autoresets
    for quiet, noisy in zip(*tasks, strict=True):
        for name in quiet:
            np.testing.assert_array_equal(quiet[name], noisy[name])


@pytest.mark.parametrize("mode", MODES)
def test_actions_of_one_row_do_not_shift_the_noise_of_another(drift: Any, mode: str) -> None:
    rows = []
    for push in (0.0, 1.0):  # with 1 the episodes of row 0 end early
        env = drift(noise=0.01, autoreset_mode=mode)
        env.reset(seed=3)
        steps = [env.step(np.array([[push], [0.1], [0.1]])) for _ in range(6)]
        rows.append(np.stack([step[0][1:] for step in steps]))
        assert any(step[2][0] for step in steps) == (push == 1.0)
    np.testing.assert_array_equal(rows[0], rows[1])


@pytest.mark.parametrize("mode", MODES)
def test_a_restart_of_one_row_does_not_shift_the_noise_of_another(mode: str) -> None:
    """The start of an episode is observed with noise too; it must not come from the same stream."""
    rows = []
    for push in (0.0, 1.0):
        env = lto(noise=0.5, action_scale=1e6, horizon=50, autoreset_mode=mode)
        env.reset(seed=3)
        actions = np.zeros((3, 4), dtype=np.float32)
        actions[0] = push  # diverges at once
        steps = [env.step(actions) for _ in range(6)]
        rows.append(np.stack([step[0][1:] for step in steps]))
        assert any(step[2][0] for step in steps) == (push == 1.0)
    np.testing.assert_array_equal(rows[0], rows[1])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("after", [0, 4, 6, 7, 13])
def test_a_state_continues_exactly_in_another_environment(mode: str, after: int) -> None:
    kwargs = {"noise": 0.3, "autoreset_mode": mode, "history": 3}
    env = lto(**kwargs)
    env.reset(seed=1)
    play(env, after)
    state = env.get_state()
    expected = play(env, 15, seed=8)
    fresh_start = env.reset()[0]

    other = lto(**kwargs)
    other.reset(seed=77)
    play(other, 2)
    for _ in range(2):  # the state is not used up by continuing from it
        other.set_state(state)
        assert_equal(play(other, 15, seed=8), expected)
        np.testing.assert_array_equal(other.reset()[0], fresh_start)


def test_a_state_needs_no_reset_and_fits_the_single_environment(drift_single: Any) -> None:
    env = drift_single(noise=0.2)
    env.reset(seed=0)
    env.step(np.array([0.1]))
    state = env.get_state()
    expected = [env.step(np.array([0.1]))[0] for _ in range(4)]
    other = drift_single(noise=0.2)
    other.set_state(state)
    np.testing.assert_array_equal([other.step(np.array([0.1]))[0] for _ in range(4)], expected)


def test_a_state_of_another_size_is_refused() -> None:
    env = lto()
    env.reset(seed=0)
    with pytest.raises(InvalidArgumentError, match="of 3 environments, this batch has 2"):
        lto(num_envs=2).set_state(env.get_state())


def test_a_state_of_another_environment_is_refused(drift: Any) -> None:
    env = drift()
    env.reset(seed=0)
    with pytest.raises(InvalidArgumentError, match="not of a LearnToOptimizeVectorEnv"):
        lto().unwrapped.set_state(env.get_state())


def test_a_task_travels_from_the_batch_to_single_environments() -> None:
    batch = lto(autoreset_mode="Disabled")
    observations, infos = batch.reset(seed=4)
    actions = np.random.default_rng(0).uniform(-0.1, 0.1, (6, 3, 4)).astype(np.float32)
    steps = [batch.step(a) for a in actions]
    for row in range(3):
        single = gym.make("LearnToOptimize-v0", dim=4, horizon=6)
        task = {name: value[row] for name, value in task_of(infos).items()}
        observation, info = single.reset(seed=99, options={"task": task})
        np.testing.assert_array_equal(observation, observations[row])
        for name, value in task.items():
            np.testing.assert_array_equal(info["task"][name], value)
        for t, step in enumerate(steps):
            observation, reward, terminated, truncated, info = single.step(actions[t, row])
            np.testing.assert_allclose(observation, step[0][row], rtol=1e-4, atol=1e-4)
            assert reward == pytest.approx(step[1][row], rel=1e-5)
            assert (terminated, truncated) == (step[2][row], step[3][row])
        assert info["score"] == pytest.approx(step[4]["score"][row], rel=1e-5)


def test_a_given_task_with_a_mask_goes_to_the_masked_rows_only(drift: Any) -> None:
    env = drift()
    _, infos = env.reset(seed=0)
    before = infos["task"]["gain"]
    given = {"gain": np.array([7.0, 8.0, 9.0]), "kind": np.array([1, 2, 3])}
    mask = np.array([False, True, False])
    _, infos = env.reset(options={"task": given, "reset_mask": mask})
    np.testing.assert_array_equal(infos["task"]["gain"], [before[0], 8.0, before[2]])
    given["gain"][:] = -1.0  # the environment keeps a copy
    assert env.step(np.ones((3, 1)))[0][1, 0] == 8.0


def test_a_given_task_does_not_use_up_the_stream(drift: Any) -> None:
    env, control = drift(), drift()
    given = task_of(env.reset(seed=0)[1])
    control.reset(seed=0)
    env.reset(options={"task": given})
    np.testing.assert_array_equal(
        env.reset()[1]["task"]["gain"], control.reset()[1]["task"]["gain"]
    )
