"""The classical learners of MetaTabularMDP."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from metagym.agents import tabular
from metagym.agents.random import RandomAgent
from metagym.agents.tabular_base import ValueIteration
from metagym.core import Agent
from metagym.errors import InvalidArgumentError
from metagym.evaluation import evaluate
from metagym.planning.mdp import value_iteration

ID = "MetaTabularMDP-v0"
NAMES = list(tabular.AGENTS)


def play(agent, steps, rows=16, seed=0, **kwargs):
    """The environment, and what agent and environment did: states, actions, rewards, s'."""
    env = gym.make_vec(ID, num_envs=rows, autoreset_mode=AutoresetMode.DISABLED, **kwargs)
    agent.bind(env)
    observations, info = env.reset(seed=seed)
    agent.reset(np.ones(rows, dtype=bool))
    if getattr(agent, "privileged", False):
        agent.observe_task(info["task"], np.ones(rows, dtype=bool))
    split, log = env.unwrapped.layout.split, []
    for _ in range(steps):
        states = split(observations).state.argmax(axis=1)
        actions = agent.act(observations)
        observations, rewards, *_ = env.step(actions)
        view = split(observations)
        ended = view.done > 0.5
        following = np.where(ended, view.final.argmax(axis=1), view.state.argmax(axis=1))
        log.append((states, actions, rewards, following))
    return env, info["task"], observations, log


@pytest.mark.parametrize("name", NAMES)
def test_the_posterior_counts_what_happened_boundaries_included(name):
    agent = tabular.AGENTS[name]()
    assert isinstance(agent, Agent)
    _, _, observations, log = play(agent, 12, inner_horizon=5, n=4)
    agent.act(observations)  # learns the last step
    transitions, rewards = np.zeros((16, 10, 5, 10)), np.zeros((16, 10, 5))
    rows = np.arange(16)
    for states, actions, reward, following in log:
        transitions[rows, states, actions, following] += 1
        rewards[rows, states, actions] += reward
    np.testing.assert_array_equal(agent.posterior.transitions, transitions)
    np.testing.assert_array_equal(agent.posterior.visits, transitions.sum(axis=-1))
    np.testing.assert_allclose(agent.posterior.reward_sums, rewards, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_given_overwhelming_data_every_learner_plays_the_optimum(name):
    arguments = {"mdp_epsilon_greedy": {"epsilon": 0.0}, "ucrl2": {"scale": 0.05}}
    agent = tabular.AGENTS[name](**arguments.get(name, {}))
    env = gym.make_vec(ID, num_envs=8)
    agent.bind(env)
    _, info = env.reset(seed=0)
    task = info["task"]
    agent.posterior.transitions[:] = 1e7 * task["transitions"]
    agent.posterior.visits[:] = 1e7
    agent.posterior.reward_sums[:] = 1e7 * task["reward_means"]
    plan = value_iteration(task["transitions"], task["reward_means"], 10)
    same = agent._plan(slice(None)) == plan.policy
    assert same.mean() > 0.99  # the rest are actions as good to the third digit


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_learned_in_alone_and_forgotten_alone(name):
    agent = tabular.AGENTS[name]()
    _, _, observations, _ = play(agent, 3, rows=4, n=2)
    agent.reset(np.array([False, True, False, False]))
    agent.act(observations)
    assert agent.posterior.visits.sum(axis=(1, 2)).tolist() == [3.0, 0.0, 3.0, 3.0]
    assert agent._step.tolist() == [3, 0, 3, 3]


@pytest.mark.parametrize("name", NAMES)
def test_every_learner_beats_random_and_the_seed_decides(name):
    run = {"episodes": 200, "num_envs": 200}
    random = evaluate(RandomAgent(), ID, **run)
    first = evaluate(tabular.AGENTS[name](seed=3), ID, **run)
    assert first.interval[0] > random.interval[1] + 15
    assert first.agent == name and first.agent_config["seed"] == 3
    again, other = (evaluate(tabular.AGENTS[name](seed=seed), ID, **run) for seed in (3, 4))
    assert again.scores == first.scores != other.scores


def test_next_step_autoreset_starts_a_new_trial_from_nothing():
    agent = tabular.Greedy()
    env = gym.make_vec(ID, num_envs=3, inner_horizon=2, n=2)
    agent.bind(env)
    observations, _ = env.reset(seed=0)
    done = np.zeros(3, dtype=bool)
    agent.reset(~done)
    for _ in range(5):
        observations, _, terminated, truncated, _ = env.step(agent.act(observations))
        agent.reset(done)  # the new trial shows one step later
        done = terminated | truncated
    assert not done.any()
    agent.act(observations)
    assert (agent.posterior.visits.sum(axis=(1, 2)) == 0).all()


# -- each agent's own idea ---------------------------------------------------------------------


def test_the_oracle_makes_its_ceiling_and_nobody_makes_more():
    oracle = ValueIteration()
    result = evaluate(oracle, ID, episodes=600, num_envs=300)
    ceilings = np.concatenate(oracle.ceilings)
    assert result.privileged and len(ceilings) == 600
    gap = np.array(result.scores) - ceilings  # the luck of the transitions
    assert abs(gap.mean()) < 4 * gap.std() / 600**0.5
    beb = np.array(evaluate(tabular.BEB(), ID, episodes=600, num_envs=300).scores)
    assert (ceilings - beb).mean() > 50


def published(name, **arguments):
    result = evaluate(tabular.AGENTS[name](prior="published", **arguments), ID, episodes=2000)
    return result.mean, np.std(result.scores) * (1 / 1000 + 1 / 2000) ** 0.5


@pytest.mark.parametrize(
    ("name", "arguments", "score"),
    [
        ("psrl", {}, 138.1),
        ("beb", {"beta": 3.0}, 150.2),
        ("mdp_greedy", {}, 134.8),
        ("mdp_epsilon_greedy", {"epsilon": 0.1}, 132.8),
    ],
)
def test_published_scores_are_those_of_the_published_priors(name, arguments, score):
    mean, error = published(name, **arguments)
    assert abs(mean - score) < 3 * error
    own = evaluate(tabular.AGENTS[name](**arguments), ID, episodes=500)
    assert abs(own.mean - score) > 2 * error  # the tasks' prior makes another agent


def test_ucrl2_is_optimistic_about_processes_in_its_set():
    agent = tabular.UCRL2(scale=1.0)
    _, task, observations, _ = play(agent, 55, rows=64)
    agent.act(observations)
    transitions, rewards, radius = agent.optimistic_model()
    assert (np.abs(transitions - task["transitions"]).sum(axis=-1) <= radius).all()
    assert (rewards >= task["reward_means"]).all()
    from metagym.planning.mdp import optimistic_action_values

    bound = optimistic_action_values(transitions, rewards, radius, 10)[:, 0, 0].max(axis=1)
    truth = value_iteration(task["transitions"], task["reward_means"], 10).values[:, 0, 0]
    assert (bound >= truth).all()


def test_ucrl2_has_the_radii_of_the_paper():
    agent = tabular.UCRL2(scale=0.5, delta=0.1)
    play(agent, 1, rows=1)
    agent.posterior.forget(np.array([0]))
    for _ in range(4):
        agent.posterior.observe(*(np.array([i]) for i in (0, 2, 3, 7.0, 9)))
    transitions, rewards, radius = agent.optimistic_model()
    reward_radius = np.sqrt(7 * np.log(2 * 10 * 5 * 5 / 0.1) / (2 * 4))
    assert rewards[0, 2, 3] == pytest.approx(7.0 + 0.5 * reward_radius)
    assert radius[0, 2, 3] == pytest.approx(0.5 * np.sqrt(14 * 10 * np.log(2 * 5 * 5 / 0.1) / 4))
    assert transitions[0, 2, 3, 9] == 1.0
    np.testing.assert_allclose(transitions[0, 0, 0], 0.1)


def test_psrl_believes_one_sample_and_opsrl_the_best_of_several():
    def first_value(agent):
        env = gym.make_vec(ID, num_envs=500)
        agent.bind(env)
        q = agent._sampled(slice(None))
        for _ in range(agent.samples - 1):
            q = np.maximum(q, agent._sampled(slice(None)))
        return q[:, 0, 0].max(axis=-1).mean()

    assert first_value(tabular.OPSRL(5)) > first_value(tabular.PSRL()) + 1.5
    one, sample = (evaluate(a, ID, episodes=64) for a in (tabular.OPSRL(1), tabular.PSRL()))
    assert one.scores == sample.scores
    assert "samples" not in sample.agent_config and one.agent_config["samples"] == 1


def test_the_bonus_draws_beb_to_what_it_does_not_know():
    def tried(beta):
        agent = tabular.BEB(beta)
        play(agent, 100, rows=64)
        return (agent.posterior.visits > 0).sum(axis=(1, 2)).mean()

    assert tried(5.0) > tried(0.0) + 5


def test_epsilon_is_the_share_of_uniform_actions():
    agent = tabular.EpsilonGreedy(0.25)
    _, _, observations, _ = play(agent, 0, rows=4000)
    actions = agent.act(observations)
    planned = agent._policy[np.arange(4000), 0, 0]
    assert (actions != planned).mean() == pytest.approx(0.25 * 4 / 5, abs=0.03)


def test_equal_actions_are_all_taken():
    agent = tabular.Greedy()
    *_, log = play(agent, 1, rows=2000)
    counts = np.bincount(log[0][1], minlength=5)
    assert ((counts - 400) ** 2 / 400).sum() < 25  # χ², 4 degrees
    assert len(set(agent._policy[0, :, 0])) > 1  # and not the same one at every step


# -- tuning, and what is refused ---------------------------------------------------------------


def test_tune_prints_the_grid_and_returns_the_best_of_the_train_split():
    lines: list[str] = []
    grid = {"epsilon": (0.0, 0.9)}
    best = tabular.tune(
        "mdp_epsilon_greedy", ID, 64, grid=grid, report=lines.append, prior="published"
    )
    assert best == {"epsilon": 0.0, "prior": "published"}
    assert "0.0: 1" in lines[0] and "0.9: 1" in lines[0] and "(train)" in lines[0]
    assert tabular.tune("psrl", ID, report=lines.append, prior="tasks") == {"prior": "tasks"}
    assert len(lines) == 1
    for name, values in tabular.GRIDS.items():
        for value in next(iter(values.values())):
            tabular.AGENTS[name](**{next(iter(values)): value})


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: tabular.PSRL(prior="mine"), "prior='mine'"),
        (lambda: tabular.OPSRL(samples=0), "samples=0"),
        (lambda: tabular.BEB(beta=-1.0), "beta=-1.0"),
        (lambda: tabular.EpsilonGreedy(1.5), "epsilon=1.5"),
        (lambda: tabular.UCRL2(scale=0.0), "scale=0.0"),
        (lambda: tabular.UCRL2(delta=2.0), "delta=2.0"),
        (lambda: tabular.tune("pslr", ID), "Did you mean 'psrl'"),
    ],
)
def test_impossible_arguments_are_refused(make, told):
    with pytest.raises(InvalidArgumentError, match=told):
        make()


@pytest.mark.parametrize("env_id", ["MetaBandit-v0", "LearnToOptimize-v0", "CartPole-v1"])
def test_other_environments_are_refused(env_id):
    with pytest.raises(InvalidArgumentError, match="MetaTabularMDP"):
        tabular.PSRL().bind(gym.make_vec(env_id, num_envs=2))
