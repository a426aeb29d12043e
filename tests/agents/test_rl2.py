"""RL²: it learns, it remembers what it should, and a run can be cut anywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from metagym.agents import rl2
from metagym.agents.random import RandomAgent
from metagym.agents.recurrent import RecurrentAgent
from metagym.agents.validation import Validation
from metagym.checkpoint import load_checkpoint
from metagym.core.trial import TrialLayout, inner_return_curve
from metagym.errors import CheckpointError, InvalidArgumentError, ResetNeededError
from metagym.evaluation import evaluate
from metagym.loading import load_agent
from metagym.monitoring import read_scalars
from metagym.rl.actor_critic import RecurrentActorCritic
from metagym.rl.training import FEWEST_ROWS
from metagym.wrappers import RL2Wrapper

SMALL = rl2.Config(width=8, num_envs=16, minibatch=8, epochs=2, device="cpu")
BANDIT = "MetaBandit-v0"
BATCH = 16 * 10  # environment steps of an iteration of SMALL


@pytest.fixture(autouse=True)
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """At validation tasks: another test's business, and slow."""
    monkeypatch.setattr(Validation, "look", lambda *_: None)


def train(out: Path, steps: int | None, config: rl2.Config = SMALL, **more: Any) -> Path:
    env_id = more.pop("env_id", BANDIT)
    return rl2.train(env_id, out, config, steps=steps, progress=False, **more)


def same(one: Path, two: Path) -> bool:
    a, b = load_checkpoint(one).weights, load_checkpoint(two).weights
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_it_learns_to_explore(tmp_path: Path) -> None:
    """Far above random, and above the best that a policy without memory can do."""
    config = rl2.Config(width=32, num_envs=256, minibatch=64, reward="expected", device="cpu")
    train(tmp_path, 256 * 10 * 100, config)
    result = evaluate(rl2.load(tmp_path), BANDIT, "validation", 5_000)
    assert result.mean > 6.3  # random 5.0, Bayes-optimal 6.66
    curves = read_scalars(tmp_path)
    first, last = (
        np.mean([value for _, value in curves[f"trial/inner_return_{part}_of_10"]][-10:])
        for part in ("01", "10")
    )
    assert last > first + 0.1  # within a trial
    scores = [value for _, value in curves["rollout/score_mean"]]
    assert scores[0] < 6.16 < scores[-1]


@pytest.mark.parametrize("core", ["gru", "lstm", "snail"])
@pytest.mark.parametrize(
    ("env_id", "kwargs", "interactions"),
    [
        (BANDIT, {"arms": "gaussian"}, False),
        ("MetaTabularMDP-v0", {"n": 2, "inner_horizon": 3}, True),
        ("MetaMaze-v0", {"inner_horizon": 8}, False),
        ("MetaNavigation2D-v0", {"inner_horizon": 5}, True),
        ("LearnToOptimize-v0", {"dim": 2, "horizon": 6}, False),
    ],
)
def test_every_core_trains_and_acts_everywhere(
    tmp_path: Path, core: Any, env_id: str, kwargs: dict[str, Any], interactions: bool
) -> None:
    config = replace(SMALL, core=core, interactions=interactions)
    out = train(tmp_path / "run", 1, config, env_id=env_id, env_kwargs=kwargs)
    result = evaluate(rl2.load(out), env_id, "validation", 8, **kwargs)
    assert np.isfinite(result.scores).all()
    assert result.training is not None and result.training["steps"] > 0
    before = rl2._make_policy(gym.make_vec(env_id, 2, **kwargs), config, 0).state_dict()
    after = load_checkpoint(out).weights
    assert any(not np.array_equal(before[name].numpy(), after[name]) for name in after)


def test_any_environment_in_the_wrapper_is_a_trial(tmp_path: Path) -> None:
    gym.register(
        "RL2CartPole-v0", entry_point=lambda: RL2Wrapper(gym.make("CartPole-v1"), episodes=2)
    )
    try:
        out = train(tmp_path, 1, replace(SMALL, num_envs=4), env_id="RL2CartPole-v0")
        result = evaluate(rl2.load(out), "RL2CartPole-v0", episodes=4)
        assert min(result.lengths) >= 16  # two episodes, none shorter than eight steps
    finally:
        gym.registry.pop("RL2CartPole-v0")


@pytest.mark.parametrize(
    ("where", "call", "after", "batches"),
    [
        ("play", 3, True, 2),  # the trials were played, the streams moved on
        ("update", 3, True, 2),  # the weights moved, the step was not counted
        ("get_training_state", 3, True, 1),  # while the snapshot was taken
    ],
)
def test_a_run_resumes_bit_for_bit_wherever_it_was_interrupted(
    tmp_path: Path, where: str, call: int, after: bool, batches: int
) -> None:
    whole = train(tmp_path / "whole", 4 * BATCH)
    original, calls = getattr(rl2, where), 0

    def interrupted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        found = original(*args)
        if calls == call:
            raise KeyboardInterrupt
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rl2, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut", 4 * BATCH)
    assert load_checkpoint(tmp_path / "cut", "rl2").config["training"]["steps"] == batches * BATCH
    assert not same(whole, tmp_path / "cut")
    train(tmp_path / "cut", 4 * BATCH, resume=True)
    assert same(whole, tmp_path / "cut")


def test_the_seed_decides_and_nothing_else(tmp_path: Path) -> None:
    one = train(tmp_path / "one", 2 * BATCH, seed=3)
    torch.rand(5)
    two = train(tmp_path / "two", 2 * BATCH, seed=3)
    other = train(tmp_path / "other", 2 * BATCH, seed=4)
    assert same(one, two) and not same(one, other)


def test_the_first_epochs_ratio_is_one(tmp_path: Path) -> None:
    """What the policy says of its own actions is the same step by step and in one go."""
    torch.manual_seed(0)
    env = gym.make_vec("MetaTabularMDP-v0", 8, n=2, autoreset_mode="Disabled")
    env.reset(seed=0)
    policy = rl2._make_policy(env, replace(SMALL, interactions=True), 0)
    for parameter in policy.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    trials = rl2.play(env, policy, torch.Generator().manual_seed(0), "observed")
    log_probs, _, values = policy.judge(trials.observations, trials.actions)
    torch.testing.assert_close(log_probs, trials.log_probs, rtol=1e-4, atol=1e-5)
    assert values.detach().numpy() == pytest.approx(trials.values, rel=1e-3, abs=1e-4)


def test_trials_of_different_lengths_are_kept_apart() -> None:
    """A maze's trial ends where both targets are found; what stands behind that end is dead."""
    env = gym.make_vec("MetaMaze-v0", 64, inner_horizon=12, size=3, autoreset_mode="Disabled")
    env.reset(seed=0)
    policy = rl2._make_policy(env, SMALL, 0)
    trials = rl2.play(env, policy, torch.Generator().manual_seed(0), "observed")
    assert len(set(trials.lengths.tolist())) > 3
    log_probs, _, _ = policy.judge(trials.observations, trials.actions)
    alive = torch.as_tensor(trials.alive)
    torch.testing.assert_close(log_probs[alive], trials.log_probs[alive], rtol=1e-4, atol=1e-5)
    scored = (trials.rewards * trials.alive).sum(axis=0)
    assert trials.scores == pytest.approx(scored)


@pytest.mark.parametrize("core", ["gru", "snail"])
def test_nothing_is_learned_from_behind_the_end_of_a_trial(core: Any) -> None:
    env = gym.make_vec("MetaMaze-v0", 32, inner_horizon=12, size=3, autoreset_mode="Disabled")
    config, found = replace(SMALL, core=core, minibatch=8, epochs=2), []
    for is_spoiled in (False, True):
        env.reset(seed=0)
        policy = rl2._make_policy(env, config, 0)
        trials = rl2.play(env, policy, torch.Generator().manual_seed(0), "observed")
        dead = ~trials.alive
        assert 0 < dead.sum() < dead.size
        if is_spoiled:
            for part, value in ((trials.observations, 50.0), (trials.log_probs, -500.0)):
                part[torch.as_tensor(dead)] = value
            trials.rewards[dead] = trials.values[dead] = 1e6
        optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
        generator = torch.Generator().manual_seed(1)
        numbers = rl2.update(policy, optimizer, trials, config, 0.01, generator)
        found.append((numbers, [p.detach().clone() for p in policy.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0])
    for clean, spoiled in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(clean, spoiled)


def test_memory_ends_with_the_trial(tmp_path: Path) -> None:
    agent = RecurrentAgent(train(tmp_path, BATCH), "rl2")
    env = gym.make_vec(BANDIT, 3)
    agent.bind(env)
    observations, _ = env.reset(seed=0)
    agent.reset(np.ones(3, dtype=bool))
    agent.act(observations)
    fresh = {name: value.clone() for name, value in agent._memory.items()}
    agent.act(env.step(np.array([0, 1, 2]))[0])
    agent.reset(np.array([False, True, False]))
    assert not torch.equal(agent._memory["h"][0], fresh["h"][0])
    assert (agent._memory["h"][1] == 0).all()


def test_expected_rewards_train_without_the_luck(tmp_path: Path) -> None:
    env = gym.make_vec(BANDIT, 512, autoreset_mode="Disabled")
    env.reset(seed=0)
    policy = rl2._make_policy(env, SMALL, 0)
    trials = rl2.play(env, policy, torch.Generator().manual_seed(0), "expected")
    assert set(np.unique(trials.rewards)) - {0.0, 1.0}
    assert trials.rewards.sum(axis=0) == pytest.approx(trials.scores)
    # The policy is shown the wins and losses themselves.
    assert set(np.unique(trials.observations[..., 5])) == {0.0, 1.0}
    with pytest.raises(InvalidArgumentError, match="expected_reward"):
        config = replace(SMALL, reward="expected")
        train(tmp_path / "maze", 1, config, env_id="MetaMaze-v0", env_kwargs={"inner_horizon": 3})


def test_a_checkpoint_for_other_arms_is_refused(tmp_path: Path) -> None:
    agent = rl2.load(train(tmp_path, BATCH))
    with pytest.raises(CheckpointError, match=r"'box': \[7\].*'box': \[12\]"):
        evaluate(agent, BANDIT, episodes=2, k=10)
    with pytest.raises(ResetNeededError, match="bind"):
        rl2.load(tmp_path).reset(np.ones(2, dtype=bool))


def test_a_run_of_another_config_cannot_be_resumed(tmp_path: Path) -> None:
    train(tmp_path, BATCH)
    with pytest.raises(CheckpointError, match="config"):
        train(tmp_path, 2 * BATCH, replace(SMALL, width=9), resume=True)


def test_the_stochastic_agent_draws_and_the_other_does_not(tmp_path: Path) -> None:
    train(tmp_path, BATCH)
    greedy = [evaluate(rl2.load(tmp_path), BANDIT, episodes=64).scores for _ in range(2)]
    assert greedy[0] == greedy[1]
    drawn = [
        evaluate(RecurrentAgent(tmp_path, "rl2", stochastic=True, seed=seed), BANDIT, episodes=64)
        for seed in (0, 1)
    ]
    assert drawn[0].scores != drawn[1].scores


def test_the_command_line_finds_it(tmp_path: Path) -> None:
    train(tmp_path, BATCH)
    agent = load_agent(str(tmp_path), BANDIT)
    assert agent.name == "rl2"  # type: ignore[attr-defined]
    assert evaluate(agent, BANDIT, episodes=8).agent == "rl2"


def test_tensorboard_has_the_charts_of_a_trial(tmp_path: Path) -> None:
    charts = read_scalars(train(tmp_path, 2 * BATCH))
    for tag in (
        "rollout/ep_rew_mean", "rollout/score_mean", "rollout/regret",
        "trial/inner_return_01_of_10", "time/fps", "train/approx_kl", "train/clip_fraction",
        "train/entropy", "train/value_loss",
    ):  # fmt: skip
        assert tag in charts, tag
    assert charts["train/entropy"][0][1] == pytest.approx(np.log(5), abs=0.05)


def test_the_curve_within_a_trial() -> None:
    """Two rows of three inner episodes of two steps, the second cut after two of them."""
    done = np.array([[0, 0], [0, 0], [1, 1], [0, 0], [1, 1], [0, 0]])
    rewards = np.array([[1, 3], [1, 3], [2, 4], [2, 4], [5, 9], [5, 9]], dtype=float)
    alive = np.array([[1, 1], [1, 1], [1, 1], [1, 1], [1, 0], [1, 0]], dtype=bool)
    assert inner_return_curve(done, rewards, alive).tolist() == [4.0, 6.0, 10.0]
    assert inner_return_curve(done, rewards, alive, parts=1).tolist() == [pytest.approx(6.0)]


def test_other_spaces_are_refused() -> None:
    box = gym.spaces.Box(0, 1, (3,), np.float32)
    for spaces in ((gym.spaces.Discrete(3), box), (box, gym.spaces.MultiBinary(2))):
        with pytest.raises(InvalidArgumentError):
            RecurrentActorCritic(*spaces, core="gru", width=4, length=5)


def test_interactions_multiply_the_last_state_with_the_last_action() -> None:
    layout = TrialLayout(state=2, action=3, final=2)
    space = gym.spaces.Box(-10, 10, (layout.size,), np.float32)
    policy = RecurrentActorCritic(
        space, gym.spaces.Discrete(3), core="gru", width=4, length=5, layout=layout
    )
    seen = torch.zeros(1, layout.size)
    seen[0, 2 + 1], seen[0, 5] = 1.0, 7.0  # action 1, reward 7
    pairs = policy._interact(seen, torch.tensor([[0.0, 1.0]]))[0, layout.size :]
    expected = torch.zeros(2, 6)
    expected[:, 3 + 1] = torch.tensor([1.0, 7.0])  # state 1, action 1
    assert torch.equal(pairs.view(2, 6), expected)


def test_random_is_the_floor(tmp_path: Path) -> None:
    assert evaluate(RandomAgent(), BANDIT, episodes=20_000).mean == pytest.approx(5.0, abs=0.05)


def test_a_recipe_for_few_steps_has_fewer_trials_an_iteration() -> None:
    whole = rl2.recipe("MetaNavigation2D-v0")
    assert rl2.recipe("MetaNavigation2D-v0", 50_000_000) == whole  # 300 steps a trial
    few = rl2.recipe("MetaNavigation2D-v0", 200_000)
    assert (few.num_envs, few.minibatch) == (64, 32)
    longer = rl2.recipe("MetaNavigation2D-v0", 200_000, {"inner_horizon": 10})
    assert longer.num_envs > few.num_envs
    assert rl2.recipe("MetaMaze-v0", 100).num_envs == FEWEST_ROWS
