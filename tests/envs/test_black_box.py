"""BlackBoxOptimize-v0 and the agents that search without gradients."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from metagym.agents.black_box import CMAES, OnePlusOneES, RandomSearch
from metagym.core import Agent
from metagym.errors import InvalidArgumentError, MetagymError


def test_the_episode_starts_with_the_centre_and_shows_queries_values_and_budget():
    env = gym.make("BlackBoxOptimize-v0", dim=3, history=4, horizon=8, dtype="float64").unwrapped
    observation, info = env.reset(seed=0)
    shift, radius = info["task"]["shift"], env.problem.radius
    queries = np.random.default_rng(0).uniform(-1, 1, (8, 3)).astype(np.float32)
    blocks = [np.zeros(5)] * 3 + [np.array([shift @ shift, 0, 0, 0, 1])]
    np.testing.assert_allclose(observation, np.concatenate(blocks), rtol=1e-5)
    best = shift @ shift
    for t, query in enumerate(queries):
        observation, reward, terminated, truncated, info = env.step(query)
        value = np.sum((radius * query - shift) ** 2)
        best = min(best, value)
        blocks.append(np.array([value, *query, 1 - (t + 1) / 8]))
        np.testing.assert_allclose(observation, np.concatenate(blocks[-4:]), rtol=1e-5, atol=1e-6)
        assert reward == pytest.approx(-value, rel=1e-5)
        assert info["best_loss"] == pytest.approx(best, rel=1e-5)
        assert (terminated, truncated) == (t == 7, False)
    assert info["score"] == pytest.approx(best, rel=1e-5)  # the best, not the last
    assert best < value


def test_observed_improvement_adds_up_to_first_minus_best():
    env = gym.make(
        "BlackBoxOptimizeGP-v0", reward="observed_improvement", horizon=30, dtype="float64"
    ).unwrapped
    env.action_space.seed(0)
    _, info = env.reset(seed=0)
    first, done, rewards = info["loss"], False, []
    while not done:
        _, reward, done, _, info = env.step(env.action_space.sample())
        rewards.append(reward)
    assert min(rewards) == 0.0
    assert sum(rewards) == pytest.approx(first - info["score"])
    assert sum(rewards) > 0.1


def test_noise_blurs_what_is_seen_and_not_what_is_found():
    seen, found = [], []
    for noise in (0.0, 1.0):
        env = gym.make("BlackBoxOptimizeGP-v0", noise=noise, horizon=40, history=40).unwrapped
        env.action_space.seed(0)
        env.reset(seed=0)
        for _ in range(40):
            observation, *_, info = env.step(env.action_space.sample())
        seen.append(observation.reshape(40, 4)[:, 0])
        found.append(info["score"])
    assert found[0] == found[1]
    assert 0.6 < np.std(seen[1] - seen[0]) < 1.4


@pytest.mark.parametrize("value", [3.0, np.inf])
def test_queries_outside_the_domain_are_clipped(value):
    env = gym.make("BlackBoxOptimize-v0", dim=2).unwrapped
    env.reset(seed=0)
    observation = env.step(np.array([value, -value], np.float32))[0]
    np.testing.assert_array_equal(observation[-3:-1], [1.0, -1.0])


# -- agents ----------------------------------------------------------------------------------------


def _scores(agent, env_id="BlackBoxOptimize-v0", rows=24, **kwargs):
    env = gym.make_vec(env_id, num_envs=rows, autoreset_mode=AutoresetMode.DISABLED, **kwargs)
    agent.bind(env)
    observations, _ = env.reset(seed=0)
    agent.reset(np.ones(rows, dtype=bool))
    while True:
        observations, _, terminated, _, infos = env.step(agent.act(observations))
        if terminated.all():
            return infos["score"]


@pytest.mark.parametrize("make", [OnePlusOneES, CMAES])
def test_strategies_beat_random_search_on_the_sphere(make):
    if make is CMAES:
        pytest.importorskip("cma")
    agent = make()
    assert isinstance(agent, Agent)
    assert np.median(_scores(agent)) < 0.4 * np.median(_scores(RandomSearch()))


@pytest.mark.parametrize("make", [OnePlusOneES, CMAES])
def test_strategies_converge_given_time(make):
    if make is CMAES:
        pytest.importorskip("cma")
    assert np.median(_scores(make(), dim=3, horizon=500, rows=8)) < 1e-4


@pytest.mark.parametrize("make", [RandomSearch, OnePlusOneES, CMAES])
def test_the_seed_decides_and_numpys_global_stream_is_left_alone(make):
    if make is CMAES:
        pytest.importorskip("cma")
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (_scores(make(seed=seed), rows=3) for seed in (0, 0, 1))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


@pytest.mark.parametrize("make", [OnePlusOneES, CMAES])
def test_a_reset_row_starts_over_from_what_it_sees(make):
    if make is CMAES:
        pytest.importorskip("cma")
    env = gym.make_vec("BlackBoxOptimize-v0", num_envs=2, horizon=30)
    agent = make(sigma=1e-3)
    agent.bind(env)
    observations, _ = env.reset(seed=0)
    done = np.zeros(2, dtype=bool)
    agent.reset(~done)
    for _ in range(40):
        observations, _, terminated, truncated, _ = env.step(agent.act(observations))
        agent.reset(done)  # in NEXT_STEP mode the new episode shows one step later
        done = terminated | truncated
    assert agent.config == {"sigma": 1e-3, "seed": 0} or "population" in agent.config
    # With a tiny step size the strategy is still near the new centre, not near the old optimum.
    assert np.abs(agent.act(observations)).max() < 0.2


def test_agents_say_what_does_not_fit(monkeypatch):
    env = gym.make_vec("LearnToOptimize-v0", num_envs=2)
    with pytest.raises(InvalidArgumentError, match="BlackBoxOptimize"):
        RandomSearch().bind(env)
    with pytest.raises(InvalidArgumentError, match="sigma"):
        OnePlusOneES(sigma=0.0)
    monkeypatch.setitem(__import__("sys").modules, "cma", None)
    with pytest.raises(MetagymError, match="pip install cma"):
        CMAES()
