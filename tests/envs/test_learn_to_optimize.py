"""LearnToOptimize-v0: what is observed and rewarded, against computations by hand."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import metagym  # noqa: F401
from metagym.errors import InvalidArgumentError


def _play(env, actions, seed=0):
    observation, info = env.reset(seed=seed)
    observations, rewards, losses = [observation], [], [info["loss"]]
    for action in actions:
        observation, reward, _, _, step_info = env.step(action)
        observations.append(observation)
        rewards.append(reward)
        losses.append(step_info["loss"])
    return observations, rewards, losses, info["task"]


def _actions(n, d, scale=0.02):
    return np.random.default_rng(1).uniform(-scale, scale, (n, d)).astype(np.float32)


def test_history_holds_loss_gradient_and_update_oldest_first():
    env = gym.make("LearnToOptimize-v0", dim=3, history=4, dtype="float64").unwrapped
    actions = _actions(6, 3)
    observations, rewards, _, task = _play(env, actions)
    W, y, x = task["W"], task["y"], task["initial"]
    blocks = [np.zeros(7)] * 3
    update = np.zeros(3)
    for t, observation in enumerate(observations):
        residual = W @ x - y
        blocks.append(np.concatenate([[residual @ residual], 2 * W.T @ residual, update]))
        np.testing.assert_allclose(observation, np.concatenate(blocks[-4:]), rtol=1e-5, atol=1e-6)
        if t < 6:
            update = 10.0 * actions[t].astype(np.float64)
            x = x + update
            assert rewards[t] == pytest.approx(-(np.linalg.norm(W @ x - y) ** 2))


@pytest.mark.parametrize("problem", ["quadratic", "gaussian_process", "logistic"])
def test_log_improvement_telescopes(problem):
    env = gym.make(
        "LearnToOptimize-v0", problem=problem, reward="log_improvement", dtype="float64"
    ).unwrapped
    _, rewards, losses, task = _play(env, _actions(20, env.dim))
    lower = env.problem.lower({name: value[None] for name, value in task.items()})[0]
    start, end = (np.log(loss - lower + 1e-12) for loss in (losses[0], losses[-1]))
    assert sum(rewards) == pytest.approx(start - end)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_score_is_the_log_gap_of_the_last_step_in_the_dtype_of_the_dynamics(dtype):
    """Newton's step solves a quadratic: what remains is the rounding of the dtype."""
    env = gym.make("LearnToOptimize-v0", dim=2, dtype=dtype, horizon=6).unwrapped
    _, info = env.reset(seed=5)
    W, y, x = (info["task"][name].astype(np.float64) for name in ("W", "y", "initial"))
    target, done = np.linalg.solve(W, y), False
    while not done:
        action = np.clip((target - x) / 10, -1, 1).astype(np.float32)
        x = x + 10 * action.astype(np.float64)
        _, _, _, done, info = env.step(action)
    assert info["score"] == pytest.approx(np.log10(info["loss"] + 1e-12))
    assert info["score"] < (-11 if dtype == "float64" else -6)
    assert not info["diverged"]


def test_noise_is_observed_but_not_rewarded():
    actions = _actions(15, 10)
    clean, noisy = (
        _play(gym.make("LearnToOptimize-v0", noise=noise).unwrapped, actions)
        for noise in (0.0, 0.5)
    )
    assert clean[1] == noisy[1]
    assert clean[2] == noisy[2]
    error = np.array([a[-21:-10] - b[-21:-10] for a, b in zip(clean[0], noisy[0], strict=True)])
    assert 0.35 < error.std() < 0.65  # loss and gradient, 16 × 11 draws
    np.testing.assert_array_equal(clean[0][-1][-10:], noisy[0][-1][-10:])  # the update is exact


def test_minibatch_families_are_rewarded_by_the_full_loss():
    env = gym.make("LearnToOptimizeWine-v0").unwrapped
    observation, info = env.reset(seed=0)
    task = {name: value[None] for name, value in info["task"].items()}
    full = env.problem.value(task, task["initial"])[0]
    assert info["loss"] == pytest.approx(full, rel=1e-5)
    assert abs(observation[-1 - 2 * env.dim] - full) > 1e-4  # a minibatch was observed
    _, reward, _, _, info = env.step(np.zeros(env.dim, np.float32))
    assert reward == pytest.approx(-full, rel=1e-5)


def test_actions_outside_the_bounds_are_clipped():
    runs = [
        _play(gym.make("LearnToOptimize-v0", dim=2).unwrapped, [np.full(2, value, np.float32)])
        for value in (1.0, 7.0, np.inf)
    ]
    for run in runs[1:]:
        np.testing.assert_array_equal(run[0][-1], runs[0][0][-1])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"action_scale": 0}, "action_scale"),
        ({"reward": "observed_improvement"}, "log_improvement"),
        ({"reward": "log_improvment"}, "Did you mean 'log_improvement'"),
        ({"problem": "quadratics"}, "Did you mean 'quadratic'"),
        ({"noise": -1.0}, "noise"),
        ({"dtype": "float16"}, "float64"),
        ({"horizont": 3}, "Did you mean 'horizon'"),
        ({"history": 0}, "history"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(InvalidArgumentError, match=message):
        gym.make("LearnToOptimize-v0", **kwargs)
