"""The classical agents of the bandits: what they count, choose and earn."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import metagym
from metagym.agents.bandits import (
    AGENTS,
    GRIDS,
    UCB1,
    BayesOptimal,
    EpsilonGreedy,
    Gittins,
    Greedy,
    OptimisticThompson,
    Thompson,
    tune,
)
from metagym.core import Agent
from metagym.errors import InvalidArgumentError
from metagym.evaluation import evaluate
from metagym.planning.bandits import bayes_optimal
from metagym.planning.gittins import gittins_table

DETERMINISTIC = ("greedy", "ucb1", "gittins", "bayes_optimal")


def make(num_envs: int, **kwargs):
    return gym.make_vec("MetaBandit-v0", num_envs, autoreset_mode=AutoresetMode.DISABLED, **kwargs)


def bound(agent, env):
    """``agent`` at the start of trials in all rows of ``env``."""
    agent.bind(env)
    agent.reset(np.ones(env.num_envs, dtype=bool))
    return agent


def tell(agent, env, *pulls: tuple[int, float]) -> np.ndarray:
    """What ``agent`` does after these (arm, reward) in all rows."""
    observations = np.zeros((env.num_envs, env.k + 2), np.float32)
    actions = agent.act(observations)
    for arm, reward in pulls:
        observations[:] = 0.0
        observations[:, [arm, -1]] = 1.0
        observations[:, -2] = reward
        actions = agent.act(observations)
    return actions


@pytest.mark.parametrize(
    ("name", "arms"),
    [(name, "bernoulli") for name in AGENTS]
    + [(name, "gaussian") for name, make in AGENTS.items() if not make.needs_bernoulli],
)
def test_what_an_agent_counts_is_what_happened(name, arms):
    agent = AGENTS[name]()
    assert isinstance(agent, Agent)
    env = make(7, k=3, n=8, arms=arms)
    observations, info = env.reset(seed=1)
    bound(agent, env)
    if getattr(agent, "privileged", False):
        agent.observe_task(info["task"], np.ones(7, dtype=bool))
    pulls, rewards = np.zeros((7, 3)), np.zeros((7, 3))
    rows = np.arange(7)
    over = np.zeros(7, dtype=bool)
    for t in range(14):
        if t == 4:  # some rows start over in the middle, so that they end later
            mask = rows < 3
            observations, _ = env.reset(options={"reset_mask": mask})
            agent.reset(mask)
            pulls[mask] = rewards[mask] = 0
        actions = agent.act(observations)
        assert actions.shape == (7,) and env.action_space.contains(actions)
        np.testing.assert_array_equal(agent.pulls, pulls)
        np.testing.assert_allclose(agent.rewards, rewards, rtol=1e-6)
        observations, reward, terminated, _, _ = env.step(actions)
        pulls[rows[~over], actions[~over]] += 1
        rewards[rows[~over], actions[~over]] += reward[~over]
        over = terminated
    assert over.all() and (agent.pulls.sum(axis=1) == 8).all()


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_rows_do_not_know_their_place(name):
    """Permuted rows, permuted actions."""
    env, rng = make(50, k=4, n=9), np.random.default_rng(0)
    env.reset(seed=0)
    order = rng.permutation(50)
    plain, permuted = (bound(AGENTS[name](), env) for _ in range(2))
    observations = np.zeros((50, 6), np.float32)
    for _ in range(9):
        actions = plain.act(observations)
        np.testing.assert_array_equal(permuted.act(observations[order]), actions[order])
        arms = np.where(rng.random(50) < 0.5, actions, rng.integers(4, size=50))
        observations[:] = 0.0
        observations[np.arange(50), arms] = 1.0
        observations[:, 4:] = np.stack([rng.integers(2, size=50), np.ones(50)], axis=1)


def test_the_optimal_agent_earns_the_optimum():
    for n, k in ((10, 5), (6, 3)):
        scores = evaluate(BayesOptimal(), "MetaBandit-v0", episodes=40_000, group=40,
                          num_envs=10_000, n=n, k=k).scores  # fmt: skip
        error = np.std(scores) / len(scores) ** 0.5
        assert abs(np.mean(scores) - bayes_optimal(n, k).value) < 4 * error


def test_an_optimal_agent_for_another_prior_beats_the_uniform_one():
    kwargs = {"alpha": 0.3, "beta": 3.0, "n": 12}
    scores = evaluate(BayesOptimal(), "MetaBandit-v0", episodes=40_000, group=40,
                      num_envs=10_000, **kwargs).scores  # fmt: skip
    error = np.std(scores) / len(scores) ** 0.5
    assert abs(np.mean(scores) - bayes_optimal(12, 5, 0.3, 3.0).value) < 4 * error
    wins = [evaluate(agent, "MetaBandit-v0", episodes=20_000, num_envs=10_000, group=20,
                     **kwargs).mean for agent in (Gittins(), Greedy(), Thompson())]  # fmt: skip
    assert wins[0] > max(wins[1:])


# Duan et al. (2016), Table 1, with the hyperparameters that the train split prefers.
PUBLISHED = {
    (10, 5): {"gittins": 6.6, "thompson": 5.7, "ucb1:0.05": 6.7, "epsilon_greedy:0.0": 6.6,
              "greedy": 6.6},
    (100, 5): {"gittins": 78.3, "thompson": 74.7, "ucb1:0.2": 78.0, "epsilon_greedy:0.01": 75.4,
               "greedy": 74.8},
}  # fmt: skip


@pytest.mark.parametrize(("n", "k"), PUBLISHED)
def test_published_scores_are_met_within_their_noise(n, k):
    trials = {10: 40_000, 100: 4_000}[n]
    best = bayes_optimal(n, k).value if n == 10 else 80.2
    for label, published in PUBLISHED[n, k].items():
        name, _, value = label.partition(":")
        agent = AGENTS[name](**({next(iter(GRIDS[name])): float(value)} if value else {}))
        result = evaluate(
            agent, "MetaBandit-v0", episodes=trials, num_envs=2000, group=40, n=n, k=k
        )
        # Of a mean of 1000 instances, and of ours; the published one is rounded.
        noise = np.std(result.returns) * (40 / 1000 + 40 / trials) ** 0.5
        assert abs(result.mean - published) < 2.6 * noise + 0.05, label
        error = np.std(result.scores) / len(result.scores) ** 0.5
        assert result.mean < best + 4 * error, label


def test_the_oracle_regrets_nothing():
    result = evaluate(AGENTS["best_arm"](), "MetaBandit-v0", episodes=5000, n=20, arms="gaussian")
    np.testing.assert_allclose(result.extras["regret"], 0.0, atol=1e-9)
    assert result.privileged and result.mean == pytest.approx(20 * 1.163, rel=0.05)


# -- single decisions, in closed form -----------------------------------------------------------


def test_ucb1_is_its_formula():
    env = make(300, k=3, n=20)
    env.reset(seed=0)
    agent = bound(UCB1(c=0.4), env)
    observations, rng = np.zeros((300, 5), np.float32), np.random.default_rng(3)
    for t in range(20):
        actions = agent.act(observations)
        total = agent.pulls + 2
        upper = (agent.rewards + 1) / total + 0.4 * np.sqrt(2 * np.log(t + 1) / total)
        np.testing.assert_array_equal(actions, upper.argmax(axis=1))
        observations[:] = 0.0
        observations[np.arange(300), rng.integers(3, size=300)] = 1.0
        observations[:, 3:] = np.stack([rng.integers(2, size=300), np.ones(300)], axis=1)


def test_gittins_pulls_the_arm_of_the_highest_index():
    env = make(1, k=2, n=10)
    env.reset(seed=0)
    table = gittins_table(10)
    assert tell(bound(Gittins(), env), env, (0, 1.0)) == 0
    for losses in range(1, 5):
        after = table.indices[table.row[10 - losses], losses, 0]
        assert after < table.indices[table.row[10 - losses], 0, 0]
    assert tell(bound(Gittins(), env), env, (0, 0.0)) == 1
    # One win in two pulls has the mean of a new arm, of which less is known.
    assert tell(bound(Gittins(), env), env, (0, 1.0), (0, 0.0)) == 1
    assert tell(bound(Greedy(), env), env, (0, 1.0), (0, 0.0)) == 0


def frequency(agent, env, *pulls) -> float:
    """How often ``agent`` takes arm 0 after ``pulls``, over the rows of ``env``."""
    return float((tell(bound(agent, env), env, *pulls) == 0).mean())


ROWS = 20_000
TOLERANCE = 4 * 0.5 / ROWS**0.5


@pytest.mark.parametrize(
    ("agent", "pulls", "kwargs", "expected"),
    [
        (Thompson(), [(0, 1.0)] * 3, {}, 4 / 5),  # Beta(4, 1) against a uniform draw
        (Thompson(), [(0, 0.0)], {}, 1 / 3),
        (Thompson(), [(0, 1.0)], {"alpha": 2.0}, 3 / 5),  # Beta(3, 1) against Beta(2, 1)
        # The better of two draws each: from Beta(1, 2) and Beta(1, 1), and Beta(2, 2) and (2, 1).
        (OptimisticThompson(2), [(0, 0.0)], {}, 4 / 15),
        (OptimisticThompson(2), [(0, 0.0)], {"alpha": 2.0}, 7 / 30),
        (OptimisticThompson(2, "mean"), [(0, 1.0)], {}, 1 - 1 / 9),  # either draw proposes it
        # N(1/2, 1/2) against N(0, 1): Φ(0.5 / sqrt(1.5))
        (Thompson(), [(0, 1.0)], {"arms": "gaussian"}, 0.658454),
        (EpsilonGreedy(0.5), [(0, 1.0)], {}, 0.75),
    ],
)
def test_random_choices_have_the_right_frequencies(agent, pulls, kwargs, expected):
    env = make(ROWS, k=2, **kwargs)
    env.reset(seed=0)
    assert abs(frequency(agent, env, *pulls) - expected) < TOLERANCE


def test_draws_are_the_agents_own_and_repeat():
    scores = [evaluate(Thompson(seed), "MetaBandit-v0", episodes=100).scores for seed in (0, 0, 1)]
    assert scores[0] == scores[1] != scores[2]


@pytest.mark.parametrize("name", ["greedy", "epsilon_greedy", "ucb1", "thompson"])
def test_gaussian_arms_can_be_learned(name):
    kwargs = {"arms": "gaussian", "n": 50, "noise": 0.5, "episodes": 2000}
    result = evaluate(AGENTS[name](), "MetaBandit-v0", **kwargs)
    assert result.mean > 0.55 * 50 * 1.163


# -- what is refused, and tuning ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gittins", "bayes_optimal"])
def test_agents_of_bernoulli_arms_refuse_gaussian_ones(name):
    with pytest.raises(InvalidArgumentError, match=f"{name}.*'gaussian'.*thompson"):
        AGENTS[name]().bind(make(2, arms="gaussian"))


def test_agents_refuse_what_they_cannot_do():
    with pytest.raises(InvalidArgumentError, match=r"greedy acts in MetaBandit.*SyncVectorEnv"):
        Greedy().bind(gym.make_vec("CartPole-v1", 2, vectorization_mode="sync"))
    with pytest.raises(InvalidArgumentError, match="states"):
        BayesOptimal().bind(make(2, n=100))
    for build, what in (
        (lambda: EpsilonGreedy(1.5), "epsilon"),
        (lambda: UCB1(-1.0), "c=-1.0"),
        (lambda: OptimisticThompson(0), "samples"),
        (lambda: OptimisticThompson(2, "mode"), "best='mode'"),
        (lambda: Gittins(0.0).bind(make(2)), "discount"),
    ):
        with pytest.raises(InvalidArgumentError, match=what):
            build()


def test_tuning_takes_the_best_of_the_grid_on_the_train_split():
    lines: list[str] = []
    grid = {"c": (0.05, 2.0)}
    best = tune("ucb1", "MetaBandit-v0", 4000, grid=grid, report=lines.append, num_envs=2000)
    assert best == {"c": 0.05}
    assert "4,000 trials of the train split: 0.05: 6." in lines[0] and "2.0: " in lines[0]
    assert tune("gittins", "MetaBandit-v0", report=lines.append) == {} and len(lines) == 2
    with pytest.raises(InvalidArgumentError, match="Did you mean 'ucb1'"):
        tune("ucb", "MetaBandit-v0")


def test_every_grid_fits_its_agent():
    for name, grid in GRIDS.items():
        agent = AGENTS[name](**{key: values[-1] for key, values in grid.items()})
        assert set(grid) <= set(agent.config) and agent.name == name
    assert metagym.__version__
