"""GainActions: every episode looks like a fresh one, and unwrapping changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from metagym.agents.optimizers import RuleAgent
from metagym.errors import InvalidActionError, InvalidArgumentError
from metagym.evaluation import check_vector_env
from metagym.optim import GainRule
from metagym.wrappers import GainActions

MODES = ("NextStep", "SameStep", "Disabled")
VIEWS = ("problem", "coordinate")
HORIZON = 5


def make(num_envs: int, mode: str, per: str, **kwargs: Any) -> GainActions:
    settings = {"dim": 3, "horizon": HORIZON, "history": 2, **kwargs}
    env = gym.make_vec("LearnToOptimize-v0", num_envs, autoreset_mode=mode, **settings)
    return GainActions(env, GainRule(per))


@dataclass
class Episode:
    """What one row showed from a reset to the end, and what was done."""

    task: dict[str, np.ndarray]
    features: list[np.ndarray]
    gains: list[np.ndarray] = field(default_factory=list)


class Recorder:
    """Plays ``env`` with random gains and cuts what it sees into episodes."""

    def __init__(self, env: GainActions) -> None:
        self.env, self.episodes = env, [[] for _ in range(env.num_envs)]  # type: ignore[var-annotated]
        env.action_space.seed(0)
        self.reset(seed=0)

    def reset(self, **kwargs: Any) -> None:
        features, infos = self.env.reset(**kwargs)
        self._start(features, infos, infos["_task"])

    def step(self) -> np.ndarray:
        gains = self.env.action_space.sample()
        features, _, terminated, truncated, infos = self.env.step(gains)
        restarted = infos.get("_task", np.zeros(self.env.num_envs, dtype=bool))
        done = terminated | truncated
        for row in range(self.env.num_envs):
            if restarted[row] and not done[row]:
                continue  # NEXT_STEP: the action was ignored
            seen = infos["final_obs"][row] if "final_obs" in infos and done[row] else features[row]
            self.episodes[row][-1].gains.append(gains[row])
            self.episodes[row][-1].features.append(seen)
        self._start(features, infos, restarted)
        return done

    def _start(self, features: np.ndarray, infos: dict[str, Any], mask: np.ndarray) -> None:
        for row in np.flatnonzero(mask):
            task = {k: v[row : row + 1] for k, v in infos["task"].items() if k[0] != "_"}
            self.episodes[row].append(Episode(task, [features[row]]))


@pytest.mark.parametrize("per", VIEWS)
@pytest.mark.parametrize("mode", MODES)
def test_every_episode_looks_like_one_in_a_fresh_environment(mode: str, per: str) -> None:
    recorder = Recorder(make(3, mode, per))
    recorder.step()
    recorder.step()
    # From here on the rows end at different times.
    recorder.reset(options={"reset_mask": np.array([False, True, False])})
    for _ in range(3 * HORIZON):
        done = recorder.step()
        if mode == "Disabled" and done.any():
            recorder.reset(options={"reset_mask": done})
    assert all(len(episodes) >= 3 for episodes in recorder.episodes)
    for episodes in recorder.episodes:
        for episode in episodes:
            fresh = make(1, "Disabled", per)
            features, _ = fresh.reset(seed=9, options={"task": episode.task})
            expected = [features[0]]
            expected += [fresh.step(gains[None])[0][0] for gains in episode.gains]
            np.testing.assert_allclose(episode.features, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("per", VIEWS)
@pytest.mark.parametrize("mode", MODES)
def test_it_keeps_the_promises_of_a_vector_environment(mode: str, per: str) -> None:
    env = make(3, mode, per)
    # The single environment made from the spec does not have the view.
    check_vector_env(env, steps=3 * HORIZON, skip=("singles",))


@pytest.mark.parametrize("per", VIEWS)
@pytest.mark.parametrize("env_id", ["LearnToOptimize-v0", "LearnToOptimizeDigits-v0"])
def test_a_policy_unwrapped_is_an_update_rule(env_id: str, per: str) -> None:
    """The same losses, through the view and as a RuleAgent in the plain environment."""
    kwargs = {"horizon": 12, "history": 2, "autoreset_mode": "Disabled"}
    weights = np.random.default_rng(0).standard_normal((25, 2)) * 0.2

    def policy(features: np.ndarray) -> np.ndarray:
        gains: np.ndarray = np.tanh(features @ weights[: features.shape[-1]])
        return gains

    view = GainActions(gym.make_vec(env_id, 3, **kwargs), GainRule(per))  # type: ignore[arg-type]
    plain: Any = gym.make_vec(env_id, 3, **kwargs)  # type: ignore[arg-type]
    agent = RuleAgent(GainRule(per, policy=policy))
    agent.bind(plain)
    features, infos = view.reset(seed=4)
    observations, plain_infos = plain.reset(seed=4)
    agent.reset(np.ones(3, dtype=bool))
    start = infos["loss"]
    for _ in range(12):
        np.testing.assert_array_equal(infos["loss"], plain_infos["loss"])
        features, *_, infos = view.step(policy(features))
        observations, *_, plain_infos = plain.step(agent.act(observations))
    np.testing.assert_array_equal(infos["loss"], plain_infos["loss"])
    assert (infos["loss"] != start).all()


@pytest.mark.parametrize("mode", MODES)
def test_divergence_leaves_nothing_non_finite(mode: str) -> None:
    env = make(8, mode, "problem", problem="test_function", dim=2, horizon=40,
               problem_kwargs={"name": "rosenbrock"}, action_scale=1e6)  # fmt: skip
    env.reset(seed=0)
    diverged = 0
    for _ in range(60):
        features, rewards, terminated, _, infos = env.step(np.full((8, 2), 1.0))
        diverged += int(terminated.sum())
        assert np.isfinite(features).all() and np.isfinite(rewards).all()
        for final in infos.get("final_obs", [None]):
            assert final is None or np.isfinite(final).all()
    assert diverged > 0


def test_it_needs_updates_for_actions() -> None:
    with pytest.raises(InvalidArgumentError, match="parameter update"):
        GainActions(gym.make_vec("CartPole-v1", 2), GainRule())


def test_wrong_gains_are_refused_and_change_nothing() -> None:
    env, twin = make(3, "Disabled", "problem"), make(3, "Disabled", "problem")
    env.reset(seed=0)
    twin.reset(seed=0)
    for gains, message in (
        (np.zeros((1, 2)), r"shape \(1, 2\)"),
        (np.zeros((3, 3)), r"shape \(3, 3\)"),
        (np.full((3, 2), np.nan), "NaN"),
    ):
        with pytest.raises(InvalidActionError, match=message):
            env.step(gains)
    good = np.full((3, 2), 0.25)
    for _ in range(3):
        np.testing.assert_array_equal(env.step(good)[0], twin.step(good)[0])
