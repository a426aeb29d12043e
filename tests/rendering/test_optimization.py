"""Frames: right shape, not blank, for every kind of problem; videos can be recorded."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest

import metagym  # noqa: F401
from metagym.rendering.optimization import HEIGHT, WIDTH

KINDS = [
    ("LearnToOptimize-v0", {}),
    ("LearnToOptimize-v0", {"dim": 1}),
    ("LearnToOptimize-v0", {"dim": 2}),
    ("LearnToOptimizeDigits-v0", {}),
    ("LearnToOptimizeGP-v0", {}),
    ("LearningRateControl-v0", {}),
    ("BlackBoxOptimize-v0", {}),
    ("BlackBoxOptimize-v0", {"dim": 1}),
    ("BlackBoxOptimizeGP-v0", {}),
]


def _is_a_picture(frame):
    assert frame.shape == (HEIGHT, WIDTH, 3)
    assert frame.dtype == np.uint8
    for half in (frame[:, : WIDTH // 2], frame[:, WIDTH // 2 :]):
        assert len(np.unique(half @ np.array([1, 256, 65536]))) > 20  # colours
        assert half.std() > 5


@pytest.mark.parametrize(("env_id", "kwargs"), KINDS, ids=lambda v: str(v))
def test_every_frame_is_a_picture_from_the_first_on(env_id, kwargs):
    env = gym.make(env_id, render_mode="rgb_array", **kwargs).unwrapped
    env.action_space.seed(0)
    env.reset(seed=0)
    frames = [env.render()]
    for _ in range(4):
        env.step(0.05 * env.action_space.sample())
        frames.append(env.render())
    for frame in frames:
        _is_a_picture(frame)
    assert all((a != b).any() for a, b in pairwise(frames))


def test_a_diverged_run_can_be_drawn():
    env = gym.make("LearningRateControl-v0", render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    terminated = False
    while not terminated:
        *_, terminated, _, _ = env.step(np.ones(2, np.float32))
    _is_a_picture(env.render())


def test_a_run_that_does_not_move_can_be_drawn():
    env = gym.make("LearnToOptimize-v0", render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.zeros(10, np.float32))
    _is_a_picture(env.render())


def test_the_trace_starts_over_with_every_episode_and_stops_at_its_end():
    env = gym.make("LearnToOptimize-v0", render_mode="rgb_array", horizon=3).unwrapped
    batch = env.batched(num_envs=2, horizon=3, render_mode="rgb_array")
    batch.reset(seed=0)
    actions = np.zeros((2, 10), np.float32)
    for length in (2, 3, 4, 1, 2):
        batch.step(actions)
        assert [len(trace) for trace in batch._trace] == [length] * 2
    assert len(batch.render()) == 2
    env.reset(seed=0)
    for _ in range(6):
        env.step(actions[0])
    assert len(env.unwrapped._batch._trace[0]) == 4


def test_record_video_writes_a_video(tmp_path):
    pytest.importorskip("moviepy")
    env = gym.make("LearnToOptimize-v0", render_mode="rgb_array", horizon=4)
    env = gym.wrappers.RecordVideo(env, str(tmp_path / "videos"), disable_logger=True)
    env.reset(seed=0)
    for _ in range(4):
        env.step(np.zeros(10, np.float32))
    env.close()
    (video,) = tmp_path.glob("videos/*.mp4")
    assert video.stat().st_size > 1000


def test_drawing_leaves_pyplot_alone():
    code = (
        "import sys, gymnasium as gym, metagym; "
        "env = gym.make('LearnToOptimize-v0', render_mode='rgb_array').unwrapped; "
        "env.reset(seed=0); env.render(); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
