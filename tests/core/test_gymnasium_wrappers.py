"""Gymnasium's own vector wrappers and worker processes take our environments as they are."""

from __future__ import annotations

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv
from gymnasium.wrappers.vector import NormalizeObservation, RecordEpisodeStatistics

import metagym  # noqa: F401

STILL = np.zeros((2, 10), dtype=np.float32)


# Spawned workers import what it names, and cannot import this file.
make_by_module_and_id = partial(gym.make, "metagym:LearnToOptimize-v0", horizon=3)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_record_episode_statistics(mode: str) -> None:
    env = RecordEpisodeStatistics(
        gym.make_vec("LearnToOptimize-v0", num_envs=2, horizon=3, autoreset_mode=mode)
    )
    env.reset(seed=0)
    for episode in range(2):
        total = np.zeros(2)
        for _ in range(3):
            _, rewards, _, truncated, infos = env.step(STILL)
            total += rewards
        assert truncated.all() and infos["_episode"].all(), episode
        np.testing.assert_allclose(infos["episode"]["r"], total, rtol=1e-6)
        assert infos["episode"]["l"].tolist() == [3, 3]
        if mode == "NextStep":
            assert not env.step(STILL)[1].any()
        elif mode == "Disabled":
            env.reset(options={"reset_mask": np.array([True, True])})


def test_record_episode_statistics_follows_a_reset_mask() -> None:
    env = RecordEpisodeStatistics(
        gym.make_vec("LearnToOptimize-v0", num_envs=2, horizon=3, autoreset_mode="Disabled")
    )
    env.reset(seed=0)
    env.step(STILL)
    env.reset(options={"reset_mask": np.array([True, False])})
    env.step(STILL)
    *_, truncated, infos = env.step(STILL)
    assert truncated.tolist() == [False, True]
    assert infos["episode"]["l"][1] == 3
    *_, truncated, infos = env.step(STILL)
    assert truncated.tolist() == [True, True] and infos["episode"]["l"][0] == 3


def test_normalize_observation() -> None:
    env = NormalizeObservation(gym.make_vec("LearnToOptimize-v0", num_envs=64, horizon=5))
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(20):
        observations = env.step(env.action_space.sample())[0]
    assert np.isfinite(observations).all()
    newest = observations[:, -21:]
    assert np.abs(newest.mean()) < 1.0 and 0.05 < newest.std() < 5.0


def test_worker_processes_started_by_spawn() -> None:
    env = AsyncVectorEnv([make_by_module_and_id] * 2, context="spawn")
    try:
        observations, infos = env.reset(seed=[1, 2])
        for seed, observation in zip([1, 2], observations, strict=True):
            expected = make_by_module_and_id().reset(seed=seed)[0]
            np.testing.assert_array_equal(observation, expected)
        assert infos["task"]["W"].shape == (2, 10, 10)
        for _ in range(3):
            truncated = env.step(STILL)[3]
        assert truncated.all()
    finally:
        env.close()
