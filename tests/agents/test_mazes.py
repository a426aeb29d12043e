"""The written agents for mazes: the ceiling is reached, and explorers use what they have seen."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from metagym.agents.mazes import NearestFrontier, ShortestPath, WallFollower
from metagym.core import Agent
from metagym.envs.meta_maze import MetaMazeVectorEnv
from metagym.errors import InvalidArgumentError
from metagym.evaluation import evaluate
from metagym.mazes.lists import frozen_mazes
from metagym.planning.mazes import shortest_lengths, shortest_return

AGENTS = (ShortestPath, WallFollower, NearestFrontier)


def _trial(agent, env, seed=0):
    """One trial of every row: infos of the ends, the actions, and the tasks."""
    rows = env.num_envs
    agent.bind(env)
    observations, infos = env.reset(seed=seed)
    task, everyone = infos["task"], np.ones(rows, dtype=bool)
    agent.reset(everyone)
    if getattr(agent, "privileged", False):
        agent.observe_task(task, everyone)
    over = np.zeros(rows, dtype=bool)
    end = {name: np.zeros((rows, env.n)) for name in ("inner_success", "inner_lengths")}
    actions = []
    while not over.all():
        actions.append(agent.act(observations))
        observations, _, terminated, _, infos = env.step(actions[-1])
        for name, values in end.items():
            if (new := terminated & ~over).any():
                values[new] = infos[name][new]
        over |= terminated
    return end, np.array(actions), task


@pytest.mark.parametrize("make", AGENTS)
def test_they_are_agents(make):
    assert isinstance(make(), Agent)
    assert make().config == {}


@pytest.mark.parametrize(("env_id", "size"), [("MetaMaze-v0", 5), ("MetaMaze-9x9-v0", 9)])
def test_the_oracles_return_is_the_ceiling(env_id, size):
    env = MetaMazeVectorEnv(200, size=size, split="test", autoreset_mode="Disabled")
    end, _, task = _trial(ShortestPath(), env)
    lengths = shortest_lengths(task)
    np.testing.assert_array_equal(end["inner_lengths"], np.stack([lengths, lengths], axis=1))
    assert end["inner_success"].all()
    result = evaluate(ShortestPath(), env_id, episodes=1000, num_envs=1000)
    assert result.privileged
    ceiling = shortest_return(frozen_mazes(size, "test"), 2, env.inner_horizon)
    assert result.mean == pytest.approx(ceiling.mean())


@pytest.mark.parametrize("make", [WallFollower, NearestFrontier])
@pytest.mark.parametrize("size", [3, 5, 7])
def test_explorers_always_find_the_target_and_then_know_the_way(make, size):
    env = MetaMazeVectorEnv(150, size=size, n=3, split="validation", autoreset_mode="Disabled")
    end, _, task = _trial(make(), env)
    shortest = shortest_lengths(task)
    assert end["inner_success"].all()
    # A maze without loops has one way: who has found it once walks it without a detour.
    np.testing.assert_array_equal(end["inner_lengths"][:, 1:], np.stack([shortest] * 2, axis=1))
    assert (end["inner_lengths"][:, 0] >= shortest).all()
    assert end["inner_lengths"][:, 0].mean() > 1.2 * shortest.mean()


def test_exploring_to_the_nearest_frontier_beats_following_the_wall():
    firsts = []
    for make in (NearestFrontier, WallFollower):
        env = MetaMazeVectorEnv(1000, n=1, autoreset_mode="Disabled")
        firsts.append(_trial(make(), env)[0]["inner_lengths"].mean())
    assert firsts[0] < 0.95 * firsts[1]


def test_explorers_keep_exploring_where_a_time_limit_stopped_them():
    for make in (WallFollower, NearestFrontier):
        env = MetaMazeVectorEnv(
            300, n=4, inner_horizon=24, split="validation", autoreset_mode="Disabled"
        )
        end, _, task = _trial(make(), env)
        reachable = shortest_lengths(task) <= 24
        found = end["inner_success"].astype(bool)
        assert (found[:, :-1] <= found[:, 1:]).all()  # what was found once stays found
        assert not found[~reachable].any()
    assert found[reachable, 0].mean() < found[reachable, -1].mean()  # the frontier moves on


@pytest.mark.parametrize("make", AGENTS)
def test_a_rows_actions_do_not_depend_on_the_others(make):
    env = MetaMazeVectorEnv(6, autoreset_mode="Disabled", split="test")
    end, actions, task = _trial(make(), env)
    single = MetaMazeVectorEnv(1, autoreset_mode="Disabled", split="test")
    agent = make()
    for row in range(6):
        agent.bind(single)
        options = {"task": {name: task[name][row : row + 1] for name in task if name[0] != "_"}}
        observations, infos = single.reset(seed=0, options=options)
        agent.reset(np.array([True]))
        if make is ShortestPath:
            agent.observe_task(infos["task"], np.array([True]))
        for step in range(int(end["inner_lengths"][row].sum())):
            action = agent.act(observations)
            assert action[0] == actions[step, row]
            observations = single.step(action)[0]


@pytest.mark.parametrize("make", AGENTS)
def test_a_second_trial_is_as_good_as_a_first(make):
    env = MetaMazeVectorEnv(40, autoreset_mode="Disabled")
    agent = make()
    agent.bind(env)
    lengths = []
    for _ in range(2):  # no bind in between: reset has to forget the maze
        observations, infos = env.reset(seed=3)
        everyone = np.ones(40, dtype=bool)
        agent.reset(everyone)
        if make is ShortestPath:
            agent.observe_task(infos["task"], everyone)
        terminated = np.zeros(40, dtype=bool)
        steps = 0
        while not terminated.all():
            observations, _, terminated, _, _ = env.step(agent.act(observations))
            steps += 1
        lengths.append(steps)
    assert lengths[0] == lengths[1] < 500


@pytest.mark.parametrize("make", AGENTS)
@pytest.mark.parametrize(
    ("env_id", "kwargs"), [("MetaBandit-v0", {}), ("MetaMaze-v0", {"observation": "image"})]
)
def test_other_environments_are_refused(make, env_id, kwargs):
    with pytest.raises(InvalidArgumentError, match="flat observations of MetaMaze"):
        make().bind(gym.make_vec(env_id, num_envs=2, **kwargs))
