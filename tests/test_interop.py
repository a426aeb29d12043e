"""Trials and searches under what people train with: SB3, sb3-contrib, CleanRL loops, Gymnasium."""

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
from metagym.architectures import Evaluation, Evaluator
from metagym.architectures.chain import Chain
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


# -- masked tokens -------------------------------------------------------------------------------

SEARCH, LENGTH = "NeuralArchitectureSearch-v0", 8


class Share(Evaluator):
    """The share of token 0; of the 15 tokens of these chains, masks leave at most 4."""

    name = "share"
    space = Chain(2, skips=False, types=("conv", "pool"))

    def evaluate(self, tokens: np.ndarray, seeds: np.ndarray | None = None) -> Evaluation:
        score = (self.space.check(tokens) == 0).mean(axis=1)
        return Evaluation(score, score, np.ones(len(score)))


def make_searches(rows: int) -> Any:
    return gym.make_vec(SEARCH, rows, autoreset_mode="SameStep", evaluator=Share())


def make_search() -> gym.Env:
    return gym.make(SEARCH, evaluator=Share())


def masked_by_a_function() -> gym.Env:
    wrappers = pytest.importorskip("sb3_contrib.common.wrappers")
    env: gym.Env = wrappers.ActionMasker(make_search(), lambda env: env.unwrapped.action_masks())
    return env


SEARCHES: dict[str, Any] = {
    "batch": lambda: SB3VecEnv(make_searches(16)),
    "single": make_search,
    "ActionMasker": masked_by_a_function,
}


@pytest.mark.parametrize("env", SEARCHES)
def test_maskable_ppo_writes_what_is_allowed(env: str) -> None:
    """A critic that says 7 everywhere adds nothing to the rewards: no end is bootstrapped."""
    contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
    steps = 4 * LENGTH
    model = contrib.MaskablePPO(
        "MlpPolicy", SEARCHES[env](), n_steps=steps, batch_size=32, n_epochs=1, seed=0,
        device="cpu",
    )  # fmt: skip
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
    rows, buffer = model.n_envs, model.rollout_buffer
    _, callback = model._setup_learn(steps * rows)
    model.collect_rollouts(model.env, callback, buffer, n_rollout_steps=steps)
    masks = buffer.action_masks.reshape(steps, rows, -1)
    assert masks.any(axis=2).all() and masks.sum(axis=2).max() == 4
    assert np.take_along_axis(masks, buffer.actions.astype(np.int64), axis=2).all()
    assert not any(info["invalid_action"] or info["TimeLimit.truncated"] for info in ends)
    rewards = buffer.rewards.reshape(4, LENGTH, rows)
    assert not rewards[:, :-1].any()
    scores = [info["score"] for info in ends]
    assert rewards[:, -1].ravel() == pytest.approx(scores) and 0.0 < np.mean(scores) < 0.25
    model.learn(2 * steps * rows)
    assert len(ends) == 12 * rows and not any(info["invalid_action"] for info in ends)
    model.policy.action_net.bias.data[:] = torch.arange(15.0)  # which prefers what is masked
    observations = model.env.reset()
    for _ in range(LENGTH):
        allowed = np.stack(model.env.env_method("action_masks"))
        tokens, _ = model.predict(observations, action_masks=allowed, deterministic=True)
        assert allowed[np.arange(rows), tokens].all()
        observations, _, dones, infos = model.env.step(tokens)
    assert dones.all() and not any(info["invalid_action"] for info in infos)


def test_a_cleanrl_style_loop_masks_by_the_info() -> None:
    """PPO in one function; the policy is a table of logits, one row for each place in a string."""
    rows, clip = 128, 0.2
    torch.manual_seed(0)
    env = make_searches(rows)
    table = torch.zeros(LENGTH, 15, requires_grad=True)
    optimizer = torch.optim.Adam([table], lr=0.1)
    _, infos = env.reset(seed=0)
    scores: list[float] = []
    for _ in range(25):
        masks = torch.zeros(LENGTH, rows, 15, dtype=torch.bool)
        taken, logs, rewards = (torch.zeros(LENGTH, rows) for _ in range(3))

        def policy(masks: torch.Tensor) -> torch.distributions.Categorical:
            logits = table[:, None].expand(-1, rows, -1)
            return torch.distributions.Categorical(logits=logits.masked_fill(~masks, -1e8))

        for t in range(LENGTH):
            masks[t] = torch.as_tensor(infos["action_mask"]).bool()
            with torch.no_grad():
                logits = table[t].masked_fill(~masks[t], -1e8)
                choice = torch.distributions.Categorical(logits=logits)
                taken[t] = actions = choice.sample()
                logs[t] = choice.log_prob(actions)
            _, reward, terminated, truncated, infos = env.step(actions.numpy())
            rewards[t] = torch.as_tensor(reward)
            assert (terminated == (t == LENGTH - 1)).all() and not truncated.any()
        ended = infos["final_info"]
        assert not ended["invalid_action"].any()
        np.testing.assert_allclose(ended["score"], rewards[-1], rtol=1e-6)
        scores.append(ended["score"].mean())
        gains = (rewards[-1] - rewards[-1].mean()) / (rewards[-1].std() + 1e-8)
        for _ in range(4):
            ratio = (policy(masks).log_prob(taken) - logs).exp()
            limited = ratio.clamp(1 - clip, 1 + clip)
            loss = -torch.minimum(ratio * gains, limited * gains).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    env.close()
    # Both layers are convolutions in the best chains; by chance, each is in half of them.
    assert scores[0] == pytest.approx(1 / LENGTH, abs=0.03)
    assert scores[-1] > 1.8 / LENGTH


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
