"""MetaBandit-v0 under what people train with: SB3, sb3-contrib, a CleanRL loop, Gymnasium."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import NormalizeReward, RecordEpisodeStatistics
from stable_baselines3 import A2C, PPO

import metagym  # noqa: F401
from metagym.rl.sb3 import SB3VecEnv
from metagym.wrappers import RL2VectorWrapper

PULLS = 10


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make_batch(num_envs: int = 16, mode: str = "SameStep", **kwargs: Any) -> Any:
    return gym.make_vec("MetaBandit-v0", num_envs, autoreset_mode=mode, **kwargs)


# -- Stable-Baselines3 ---------------------------------------------------------------------------

ALGORITHMS: dict[str, Any] = {
    "PPO": partial(PPO, n_steps=2 * PULLS, batch_size=20, n_epochs=1),
    "A2C": partial(A2C, n_steps=2 * PULLS),
}
ENVIRONMENTS: dict[str, Any] = {
    "batch": lambda: SB3VecEnv(make_batch()),
    "single": lambda: gym.make("MetaBandit-v0"),
}


@pytest.mark.parametrize("env", ENVIRONMENTS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_sb3_trains_and_takes_the_end_of_a_trial_for_an_end(algorithm: str, env: str) -> None:
    """A critic that says 7 everywhere adds nothing to the rewards: no trial is bootstrapped."""
    model = ALGORITHMS[algorithm]("MlpPolicy", ENVIRONMENTS[env](), seed=0, device="cpu")
    with torch.no_grad():
        for parameter in model.policy.value_net.parameters():
            parameter.zero_()
        model.policy.value_net.bias.fill_(7.0)
    ends: list[dict[str, Any]] = []
    step_wait = model.env.step_wait

    def noting() -> Any:
        out = step_wait()
        ends.extend(info for info, done in zip(out[3], out[2], strict=True) if done)
        return out

    model.env.step_wait = noting
    rows = model.n_envs
    _, callback = model._setup_learn(2 * PULLS * rows)
    buffer = model.rollout_buffer
    model.collect_rollouts(model.env, callback, buffer, n_rollout_steps=2 * PULLS)
    assert set(np.unique(buffer.rewards)) == {0.0, 1.0}
    assert np.flatnonzero(buffer.episode_starts[:, 0]).tolist() == [0, PULLS]
    assert len(ends) == 2 * rows
    assert not any(info["TimeLimit.truncated"] for info in ends)
    # What is reported is what was earned, per trial; the score is the luck-free version of it.
    returns = buffer.rewards.reshape(2, PULLS, rows).sum(axis=1).ravel()
    assert sorted(info["episode"]["r"] for info in ends) == pytest.approx(sorted(returns))
    assert {info["episode"]["l"] for info in ends} == {PULLS}
    assert all(0.0 <= info["score"] <= PULLS for info in ends)
    model.learn(4 * PULLS * rows)
    actions, _ = model.predict(model.env.reset(), deterministic=True)
    assert actions.shape == (rows,)


def test_recurrent_ppo_remembers_through_a_trial_and_no_longer() -> None:
    contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
    model = contrib.RecurrentPPO(
        "MlpLstmPolicy", SB3VecEnv(make_batch()), n_steps=3 * PULLS, batch_size=160, n_epochs=1,
        policy_kwargs={"lstm_hidden_size": 8}, seed=0, device="cpu",
    )  # fmt: skip
    model.learn(3 * PULLS * 16)
    starts = model.rollout_buffer.episode_starts.reshape(16, 3 * PULLS)
    assert (np.flatnonzero(starts.sum(axis=0)) == [0, PULLS, 2 * PULLS]).all()
    observations = model.env.reset()
    fresh, state = model.predict(observations, deterministic=True)
    assert fresh.shape == (16,)
    remembered = model.predict(observations, state, np.zeros(16, dtype=bool))[1]
    forgotten = model.predict(observations, state, np.ones(16, dtype=bool))[1]
    np.testing.assert_allclose(forgotten[0], state[0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(remembered[0], state[0])


def test_sb3_trains_on_wrapped_trials() -> None:
    make = partial(gym.make, "CartPole-v1", max_episode_steps=5)
    env = SB3VecEnv(RL2VectorWrapper(make, 4, episodes=2, autoreset_mode="SameStep"))
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=32, n_epochs=1, seed=0, device="cpu")
    model.learn(64)
    assert model.ep_info_buffer is not None
    assert [end["r"] for end in model.ep_info_buffer] == [10.0] * 4


# -- a loop of one's own -------------------------------------------------------------------------


def test_a_cleanrl_style_ppo_learns_to_learn() -> None:
    """PPO in one function, as in CleanRL; its policy sees the wins and losses of either arm."""
    rows, discount, trace, clip = 512, 0.99, 0.95, 0.2
    torch.manual_seed(0)
    env = make_batch(rows, k=2)
    net = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.Tanh(), torch.nn.Linear(32, 3))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    scores: list[float] = []
    env.reset(seed=0)
    tally = np.zeros((rows, 4))
    for _ in range(30):
        seen = torch.zeros(PULLS, rows, 4)
        taken, logs, values, rewards, ends = (torch.zeros(PULLS, rows) for _ in range(5))
        for t in range(PULLS):
            seen[t] = torch.as_tensor(tally)
            with torch.no_grad():
                out = net(seen[t])
            policy = torch.distributions.Categorical(logits=out[:, :2])
            taken[t] = actions = policy.sample()
            logs[t], values[t] = policy.log_prob(actions), out[:, 2]
            observations, reward, terminated, truncated, infos = env.step(actions.numpy())
            shown = env.unwrapped.layout.split(observations)
            won = shown.reward[:, None]
            tally += np.concatenate([shown.action * won, shown.action * (1 - won)], axis=1)
            tally[terminated] = 0.0
            rewards[t], ends[t] = torch.as_tensor(reward), torch.as_tensor(terminated)
            assert not truncated.any()
        scores.append(infos["final_info"]["score"].mean())
        assert ends[-1].all() and not ends[:-1].any()
        advantages, last = torch.zeros(PULLS, rows), torch.zeros(rows)
        for t in reversed(range(PULLS)):
            following = values[t + 1] if t + 1 < PULLS else torch.zeros(rows)
            delta = rewards[t] + discount * following * (1 - ends[t]) - values[t]
            last = advantages[t] = delta + discount * trace * (1 - ends[t]) * last
        targets = advantages + values
        for _ in range(4):
            out = net(seen)
            policy = torch.distributions.Categorical(logits=out[..., :2])
            ratio = (policy.log_prob(taken) - logs).exp()
            scaled = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
            gain = torch.minimum(ratio * scaled, ratio.clamp(1 - clip, 1 + clip) * scaled).mean()
            loss = 0.5 * (out[..., 2] - targets).square().mean() - gain
            optimizer.zero_grad()
            (loss - 0.01 * policy.entropy().mean()).backward()
            optimizer.step()
    env.close()
    # Chance earns 5.
    assert np.mean(scores[:2]) == pytest.approx(5.0, abs=0.25)
    assert np.mean(scores[-5:]) > 5.8


# -- Gymnasium's vector wrappers -----------------------------------------------------------------

MODES = [mode.value for mode in AutoresetMode]


def play(env: Any, mode: str, trials: int) -> Any:
    """(rewards, infos, whether the step was one of a trial) for every step of the trials."""
    env.reset(seed=0)
    env.action_space.seed(0)
    for trial in range(trials):
        if trial and mode == "Disabled":
            env.reset(options={"reset_mask": np.ones(env.num_envs, dtype=bool)})
        if trial and mode == "NextStep":
            _, rewards, _, _, infos = env.step(env.action_space.sample())
            yield rewards, infos, False
        for _ in range(PULLS):
            _, rewards, _, truncated, infos = env.step(env.action_space.sample())
            assert not truncated.any()
            yield rewards, infos, True


@pytest.mark.parametrize("mode", MODES)
def test_record_episode_statistics(mode: str) -> None:
    env = RecordEpisodeStatistics(make_batch(8, mode))
    total, steps, trials = np.zeros(8), 0, 0
    for rewards, infos, counts in play(env, mode, 3):
        total, steps = total + rewards, steps + counts
        if steps == PULLS:
            assert infos["_episode"].all()
            np.testing.assert_allclose(infos["episode"]["r"], total)
            assert infos["episode"]["l"].tolist() == [PULLS] * 8
            total, steps, trials = np.zeros(8), 0, trials + 1
        else:
            assert "episode" not in infos
    assert trials == 3 and env.episode_count == 24
    assert len(env.return_queue) == 24 and set(env.length_queue) == {PULLS}


@pytest.mark.parametrize("mode", MODES)
def test_normalize_reward(mode: str) -> None:
    """Rewards over the standard deviation of the discounted return, as the wrapper defines it."""
    env, plain = NormalizeReward(make_batch(64, mode), gamma=0.9), make_batch(64, mode)
    returns: list[np.ndarray] = []
    running, pull = np.zeros(64), 0
    for (scaled, _, counts), (rewards, _, _) in zip(
        play(env, mode, 3), play(plain, mode, 3), strict=True
    ):
        if not counts:
            assert not scaled.any()
            continue
        pull += 1
        # The wrapper forgets a return in the step that terminates it; that step's own reward
        # leaks into the next episode where the environment resets itself a step later.
        running = rewards + (0.9 * running if pull < PULLS else 0.0)
        returns.append(running)
        if pull == PULLS:
            running, pull = running if mode == "NextStep" else np.zeros(64), 0
        deviation = np.concatenate(returns).std()
        np.testing.assert_allclose(scaled, rewards / deviation, rtol=1e-5)
    assert len(returns) == 3 * PULLS
