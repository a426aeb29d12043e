"""Searchers as agents: what ``search`` finds, row by row, and what they refuse."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from metagym.agents.architecture_search import RandomSearch, search
from metagym.agents.search_agents import AGENTS, SearchAgent
from metagym.architectures import Evaluation, Evaluator, SearchSpace
from metagym.architectures.chain import Chain
from metagym.errors import InvalidArgumentError
from metagym.evaluation import evaluate
from metagym.loading import load_agent

ID = "ArchitectureSearchTrial-v0"
CHAIN = Chain(3, shortest=1, heights=(1, 3), widths=(3,), filters=(8, 16))


class OfTask(Evaluator):
    """What ``inner`` says in one trial: trained with its seed, tokens in its order."""

    def __init__(self, inner: Evaluator, seed: int, operations: np.ndarray) -> None:
        self.space, self._inner, self._seed, self._operations = (
            inner.space, inner, seed, operations,
        )  # fmt: skip

    def evaluate(self, tokens: np.ndarray, seeds: np.ndarray | None = None) -> Evaluation:
        meant = self._operations[np.arange(tokens.shape[1]), tokens]
        meant = np.where(tokens < 0, tokens, meant)
        found = self._inner.evaluate(meant, np.full(len(tokens), self._seed))
        # Agents see scores in single precision.
        return Evaluation(found.reward.astype(np.float32), found.test, found.cost)


class Lengths(Evaluator):
    """Of chains, as many points as they have tokens: the longest are the best."""

    name, tabular = "lengths", True

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def evaluate(self, tokens: np.ndarray, seeds: np.ndarray | None = None) -> Evaluation:
        count = (self.space.check(tokens) >= 0).sum(axis=1) / self.space.length
        return Evaluation(count, count, np.ones(len(count)))


class Costly(Lengths):
    """The longer a chain, the longer its training."""

    def evaluate(self, tokens: np.ndarray, seeds: np.ndarray | None = None) -> Evaluation:
        found = super().evaluate(tokens, seeds)
        return found._replace(cost=found.reward * 5.0)


class Diary(RandomSearch):
    """Random search that writes down what it proposes and is told."""

    def __init__(self, told: list[list[tuple[list[int], float]]]) -> None:
        self._told = told

    def reset(self, space: SearchSpace, runs: int) -> None:
        super().reset(space, runs)
        self._told.append([])
        self._own = self._told[-1]

    def observe(self, tokens: np.ndarray, reward: np.ndarray) -> None:
        self._own.append((tokens[0].tolist(), float(reward[0])))


def make(num_envs: int, **kwargs: Any) -> Any:
    return gym.make_vec(ID, num_envs, autoreset_mode=AutoresetMode.DISABLED, **kwargs)


def play(agent: SearchAgent, env: Any, seed: int = 0) -> dict[str, Any]:
    """One trial in every row: its task, architecture and score."""
    observations, infos = env.reset(seed=seed)
    end: dict[str, Any] = {"task": infos["task"], "score": np.zeros(env.num_envs)}
    end["architecture"] = [""] * env.num_envs
    agent.reset(np.ones(env.num_envs, dtype=bool))
    running = np.ones(env.num_envs, dtype=bool)
    while running.any():
        masks = env.unwrapped.action_masks()
        actions = agent.act(observations, masks)
        assert masks[np.arange(env.num_envs), actions][running].all()
        observations, _, terminated, _, infos = env.step(actions)
        for row in np.flatnonzero(running & terminated):
            end["score"][row] = infos["score"][row]
            end["architecture"][row] = infos["architecture"][row]
        running &= ~terminated
    return end


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"evaluator": Lengths(CHAIN), "shuffle": "none"}],
    ids=["orders of tokens", "chains of several lengths"],
)
@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_finds_what_search_finds(name: str, kwargs: dict[str, Any]) -> None:
    rows, n, seed = 3, 25, 5
    env = make(rows, n=n, **kwargs)
    agent = AGENTS[name](seed=seed)
    agent.bind(env)
    end = play(agent, env)
    for row in range(rows):
        # The stream of a row is the child of that number, which is what ``search`` spawns first.
        stream = np.random.default_rng(np.random.SeedSequence(seed, n_children_spawned=row))
        evaluator = OfTask(
            env.unwrapped.evaluator, end["task"]["seed"][row], end["task"]["operations"][row]
        )
        history = search(agent.searcher(), evaluator, stream, budget_evaluations=n)
        best = history.best[-1, 0].astype(np.int64)
        meant = end["task"]["operations"][row][np.arange(len(best)), best]
        meant = np.where(best < 0, best, meant)
        assert end["architecture"][row] == env.unwrapped.space.to_string(meant)
        assert end["score"][row] == history.test[-1, 0]


def test_a_searcher_is_told_each_architecture_and_its_score_once() -> None:
    diaries: list[list[tuple[list[int], float]]] = []
    agent = SearchAgent(lambda: Diary(diaries), "diary")
    env = make(2, evaluator=Lengths(CHAIN), shuffle="none", n=20)
    agent.bind(env)
    play(agent, env)
    for diary in diaries:
        # Of the twentieth it hears only where another row is not over yet.
        tokens, scores = zip(*diary[:19], strict=True)
        counts = (np.array(tokens) >= 0).sum(axis=1)
        assert len(counts) == 19 and len(set(counts)) > 1
        np.testing.assert_allclose(scores, counts / CHAIN.length, rtol=1e-6)


def test_one_row_begins_anew_while_the_others_go_on() -> None:
    def written(again: int) -> tuple[np.ndarray, list[list[tuple[list[int], float]]]]:
        """The actions of 60 steps [60, 3]; after so many of them row 1 begins anew."""
        diaries: list[list[tuple[list[int], float]]] = []
        agent = SearchAgent(lambda: Diary(diaries), "diary", seed=3)
        env = make(3, n=100, evaluator=Lengths(CHAIN), shuffle="none")
        agent.bind(env)
        observations, _ = env.reset(seed=0)
        agent.reset(np.ones(3, dtype=bool))
        actions = []
        for step in range(60):
            if step == again:
                mask = np.array([False, True, False])
                observations, _ = env.reset(options={"reset_mask": mask})
                agent.reset(mask)
            actions.append(agent.act(observations))
            observations, *_, infos = env.step(actions[-1])
            assert not infos["invalid_action"].any()
        return np.array(actions), diaries

    through, before = written(-1)
    broken, after = written(10)
    np.testing.assert_array_equal(broken[:, [0, 2]], through[:, [0, 2]])
    np.testing.assert_array_equal(broken[:10], through[:10])
    assert (broken[10:, 1] != through[10:, 1]).any()
    assert len(before) == 3 and len(after) == 4
    assert after[0] == before[0] and after[2] == before[2]
    assert len(after[1]) < len(before[1]) and len(after[3]) > 3


@pytest.mark.parametrize("budget", [{"budget_seconds": 20.0}, {"free_duplicates": True}])
def test_trials_may_end_at_different_times(budget: dict[str, Any]) -> None:
    agent, kwargs = load_agent("local_search"), {"n": 12, "shuffle": "none", **budget}
    result = evaluate(agent, ID, episodes=8, evaluator=Costly(CHAIN), **kwargs)
    assert len(set(result.lengths)) > 1
    assert min(result.scores) > 0.0


@pytest.mark.parametrize("name", AGENTS)
def test_the_seed_decides(name: str) -> None:
    def scores(agent: Any) -> list[float]:
        return evaluate(agent, ID, episodes=2, n=12).scores

    agent = load_agent(f"{name}:seed=1")
    assert agent.name == name and agent.config["seed"] == 1
    assert scores(agent) == scores(agent) == scores(AGENTS[name](seed=1))
    assert scores(agent) != scores(AGENTS[name](seed=2))


def test_settings() -> None:
    assert AGENTS["regularized_evolution"]().config == {"population": 10, "sample": 3, "seed": 0}
    assert load_agent("regularized_evolution:population=5").config["population"] == 5
    with pytest.raises(InvalidArgumentError, match="Did you mean 'population'"):
        load_agent("regularized_evolution:populaton=5")
    with pytest.raises(InvalidArgumentError, match="population=0 has to be"):
        load_agent("regularized_evolution:population=0")


@pytest.mark.parametrize(
    ("env_id", "kwargs", "message"),
    [
        ("NeuralArchitectureSearch-v0", {}, "NeuralArchitectureSearch-v0 is no trial of several"),
        ("MetaBandit-v0", {}, "local_search searches in ArchitectureSearchTrial-v0"),
        (ID, {"scores": "rank"}, "use scores='raw'"),
    ],
)
def test_where_it_does_not_search(env_id: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        evaluate(AGENTS["local_search"](), env_id, episodes=2, **kwargs)
