"""MetaTabularMDP-v0 against closed forms."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from metagym.errors import InvalidArgumentError
from metagym.evaluation import check_vector_env

ID = "MetaTabularMDP-v0"


def make(rows, **kwargs):
    kwargs.setdefault("autoreset_mode", AutoresetMode.DISABLED)
    return gym.make_vec(ID, num_envs=rows, **kwargs)


def one_task(rows, states=3, actions=2, seed=0):
    """The same task in every row."""
    rng = np.random.default_rng(seed)
    task = {
        "transitions": rng.dirichlet(np.ones(states), (states, actions)),
        "reward_means": rng.normal(1.0, 1.0, (states, actions)),
    }
    return {name: np.repeat(values[None], rows, axis=0) for name, values in task.items()}


def test_transitions_have_the_frequencies_of_the_task():
    rows, task = 20_000, one_task(20_000)
    env = make(rows, states=3, actions=2, inner_horizon=4, n=1)
    observations, _ = env.reset(seed=0, options={"task": task})
    before = env.unwrapped.layout.split(observations).state.argmax(axis=1)
    assert (before == 0).all()
    actions = np.arange(rows) % 2
    for _ in range(3):
        observations, *_ = env.step(actions)
        after = env.unwrapped.layout.split(observations).state.argmax(axis=1)
        for state in set(before):
            for action in range(2):
                chosen = (before == state) & (actions == action)
                counts = np.bincount(after[chosen], minlength=3)
                expected = chosen.sum() * task["transitions"][0, state, action]
                assert ((counts - expected) ** 2 / expected).sum() < 20.0  # χ², 2 degrees
        before = after
    assert set(before) == {0, 1, 2}


def test_rewards_are_the_means_and_unit_noise_and_the_score_leaves_it_out():
    rows, task = 20_000, one_task(20_000)
    env = make(rows, states=3, actions=2, inner_horizon=2, n=2)
    env.reset(seed=0, options={"task": task})
    actions, state, score = np.arange(rows) % 2, np.zeros(rows, dtype=int), 0.0
    noise = []
    for t in range(4):
        means = task["reward_means"][0, state, actions]
        observations, rewards, terminated, _, info = env.step(actions)
        noise.append(rewards - means)
        score = score + means
        state = env.unwrapped.layout.split(observations).state.argmax(axis=1)
        if t == 1:
            assert (state == 0).all()
    noise = np.array(noise)
    assert abs(noise.mean()) < 0.015
    assert noise.std() == pytest.approx(1.0, abs=0.015)
    np.testing.assert_allclose(np.corrcoef(noise) - np.eye(4), 0.0, atol=0.04)
    np.testing.assert_allclose(info["score"], score)
    assert terminated.all()
    np.testing.assert_allclose(info["inner_returns"].sum(axis=1) - score, noise.sum(axis=0))
    assert (info["inner_lengths"] == 2).all()


def test_the_boundary_shows_where_the_last_step_led_and_where_the_next_begins():
    task = one_task(2, states=4, actions=2)
    task["transitions"][:] = np.eye(4)[[1, 2, 3, 0]][:, None]  # round and round
    env = make(2, states=4, actions=2, inner_horizon=3, n=2)
    observations, _ = env.reset(seed=0, options={"task": task})
    split = env.unwrapped.layout.split
    assert observations[0].tolist() == [1.0] + [0.0] * (env.unwrapped.layout.size - 1)
    seen = []
    for t in range(6):
        observations, rewards, terminated, truncated, info = env.step(np.array([0, 1]))
        view = split(observations)
        seen.append((view.state[0].argmax(), view.done[0], view.final[0].tolist()))
        np.testing.assert_array_equal(view.action, [[1.0, 0.0], [0.0, 1.0]])
        np.testing.assert_allclose(view.reward, rewards, rtol=1e-6)
        assert info["inner_episode"].tolist() == [(t + 1) // 3] * 2
        assert terminated.tolist() == [t == 5] * 2 and not truncated.any()
    nowhere, at_three = [0.0] * 4, [0.0, 0.0, 0.0, 1.0]
    assert seen[:4] == [(1, 0, nowhere), (2, 0, nowhere), (0, 1, at_three), (1, 0, nowhere)]
    assert seen[5] == (3, 1, at_three)  # the trial is over: nothing begins


def test_tasks_are_flat_dirichlet_rows_and_means_around_one():
    _, info = make(1000).reset(seed=0)
    transitions, means = info["task"]["transitions"], info["task"]["reward_means"]
    assert transitions.shape == (1000, 10, 5, 10) and means.shape == (1000, 10, 5)
    np.testing.assert_allclose(transitions.sum(axis=-1), 1.0)
    # The marginals of a flat Dirichlet distribution are Beta(1, 9): P(p > x) = (1 - x)^9.
    for x in (0.02, 0.1, 0.3):
        assert (transitions > x).mean() == pytest.approx((1 - x) ** 9, abs=0.004)
    assert means.mean() == pytest.approx(1.0, abs=0.02)
    assert means.std() == pytest.approx(1.0, abs=0.02)


def test_actions_never_shift_the_noise_and_the_seed_decides():
    def rewards(seed, action):
        env = make(64)
        _, info = env.reset(seed=seed)
        state, out = np.zeros(64, dtype=int), []
        for _ in range(25):
            means = info["task"]["reward_means"][np.arange(64), state, action]
            observations, reward, *_ = env.step(np.full(64, action))
            out.append(reward - means)
            state = env.unwrapped.layout.split(observations).state.argmax(axis=1)
        return np.array(out)

    np.testing.assert_allclose(rewards(0, 0), rewards(0, 3), atol=1e-12)
    assert not np.allclose(rewards(0, 0), rewards(1, 0))


def test_a_state_goes_on_where_it_was_taken():
    env, other = make(5, n=2), make(5, n=2)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(13):
        env.step(rng.integers(5, size=5))
    other.reset(seed=9)
    other.set_state(env.get_state())
    for _ in range(7):
        actions = rng.integers(5, size=5)
        first, second = env.step(actions), other.step(actions)
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])
    np.testing.assert_array_equal(first[4]["score"], second[4]["score"])


def test_rounding_never_leads_out_of_the_table():
    task = one_task(400, states=3, actions=1)
    task["transitions"][:] = [1.0 - 1e-6, 0.0, 0.0]  # within the tolerance for the sum
    env = make(400, states=3, actions=1, inner_horizon=50)
    env.reset(seed=0, options={"task": task})
    for _ in range(50):
        observations, *_ = env.step(np.zeros(400, dtype=int))
        assert (env.unwrapped.layout.split(observations).state.sum(axis=1) == 1.0).all()


@pytest.mark.parametrize("kwargs", [{}, {"states": 1}, {"actions": 1, "n": 1, "inner_horizon": 1}])
def test_passes_the_vector_check(kwargs):
    env = gym.make_vec(ID, num_envs=3, **{"n": 3, "inner_horizon": 4, **kwargs})
    single = {"n": 3, "inner_horizon": 4, **kwargs}
    check_vector_env(env, steps=30, make_single=lambda: gym.make(ID, **single).unwrapped)


@pytest.mark.parametrize(
    ("name", "value"),
    [("states", 0), ("actions", -1), ("n", 0), ("inner_horizon", 2.5), ("n", True)],
)
def test_impossible_arguments_are_refused(name, value):
    with pytest.raises(InvalidArgumentError, match=f"{name}={value}"):
        gym.make(ID, **{name: value})


def test_a_misspelt_argument_names_the_right_one():
    with pytest.raises(InvalidArgumentError, match="'inner_horizon'"):
        gym.make(ID, innerhorizon=3)


def test_tasks_that_are_no_processes_are_refused():
    env = make(2, states=3, actions=2)
    task = one_task(2)
    for change, told in ((0.1, "sum is 1.1"), (-2.0, "not negative")):
        bad = {name: values.copy() for name, values in task.items()}
        bad["transitions"][1, 2, 0, 1] += change
        with pytest.raises(InvalidArgumentError, match=told):
            env.reset(options={"task": bad})
    bad = {**task, "reward_means": np.full((2, 3, 2), np.nan)}
    with pytest.raises(InvalidArgumentError, match="reward_means"):
        env.reset(options={"task": bad})
    env.reset(options={"task": {k: v.astype(np.float32) for k, v in task.items()}})
