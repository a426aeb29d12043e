"""The protocol: tasks are paired, every episode counts once, and what is reported is true."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from metagym.agents.random import RandomAgent
from metagym.errors import InvalidActionError, InvalidArgumentError
from metagym.evaluation import ResultError, evaluate

ENV = "LearnToOptimize-v0"
SMALL = {"dim": 3, "horizon": 6}


class Descent:
    """Gradient descent that writes down what it meets."""

    name = "descent"

    def __init__(self, lr: float = 0.02, privileged: bool = False) -> None:
        self.lr, self.privileged, self.config = lr, privileged, {"lr": lr}
        self.first: list[np.ndarray] = []
        self.tasks: list[dict] = []
        self.masks: list = []

    def bind(self, env) -> None:
        self.dim, self.scale = env.dim, env.action_scale

    def reset(self, mask) -> None:
        assert mask.all()
        self.fresh = True

    def observe_task(self, task, mask) -> None:
        self.tasks.append(task)

    def act(self, observations, action_masks=None):
        if self.fresh:
            self.first.append(observations.copy())
            self.fresh = False
        gradient = observations[:, -2 * self.dim : -self.dim]
        return -self.lr * gradient / self.scale


class Still(Descent):
    def __init__(self) -> None:
        super().__init__(lr=0.0)


class AlwaysLeft:
    def reset(self, mask) -> None:
        pass

    def act(self, observations, action_masks=None):
        return np.zeros(len(observations), dtype=np.int64)


def test_agents_meet_the_same_tasks_in_every_batch():
    agents = Descent(0.02), Descent(1e6)  # the second diverges, and its batches end early
    results = [
        evaluate(agent, ENV, episodes=7, num_envs=3, seed=5, action_scale=1e6, **SMALL)
        for agent in agents
    ]
    for one, other in zip(agents[0].first, agents[1].first, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(agents[0].first) == 3
    assert not np.array_equal(agents[0].first[0], agents[0].first[1])
    assert results[1].diverged == 1.0 > results[0].diverged
    assert [len(result.scores) for result in results] == [7, 7]


def test_same_seed_same_result_other_seed_or_split_another():
    one, again, seed, split = (
        evaluate(Descent(), ENV, episodes=4, seed=s, split=split, noise=0.1, **SMALL).scores
        for s, split in [(0, "test"), (0, "test"), (1, "test"), (0, "train")]
    )
    assert one == again
    assert not set(one) & set(seed) and not set(one) & set(split)


def test_score_return_length_and_curve_of_an_optimiser_that_stands_still():
    result = evaluate(Still(), ENV, episodes=5, curves=True, dtype="float64", **SMALL)
    losses = np.array(result.extras["loss"])
    np.testing.assert_allclose(result.scores, np.log10(losses + 1e-12))
    np.testing.assert_allclose(result.returns, -6 * losses)
    assert result.lengths == [6] * 5 and result.env_steps == 30
    assert result.minimize and "log10" in result.metric and result.finished
    np.testing.assert_allclose(result.curves["mean"], np.full(7, result.mean), atol=1e-5)
    np.testing.assert_allclose(result.mean, np.mean(result.scores))
    assert result.interval[0] <= result.mean <= result.interval[1]
    assert (result.agent, result.agent_config) == ("descent", {"lr": 0.0})


def test_steps_to_a_target_are_those_of_the_curve():
    curve = evaluate(Descent(), ENV, episodes=1, curves=True, dtype="float64", **SMALL).curves
    losses = curve["mean"]
    assert losses == sorted(losses, reverse=True)

    def steps(target: float) -> tuple[list[float], list[float]]:
        extras = evaluate(
            Descent(), ENV, episodes=1, target=target, dtype="float64", **SMALL
        ).extras
        return extras["steps_to_target"], extras["target_reached"]

    assert steps(losses[0] + 0.01) == ([0.0], [True])
    assert steps((losses[2] + losses[3]) / 2) == ([3.0], [True])
    assert steps(losses[-1] + 1e-4) == ([6.0], [True])
    assert steps(losses[-1] - 0.01) == ([7.0], [False])  # never: horizon + 1


def test_a_run_that_diverges_is_no_faster_than_one_that_never_arrives():
    run = evaluate(Descent(1e6), ENV, episodes=3, target=-9.0, action_scale=1e6, **SMALL)
    assert max(run.lengths) < 6 and run.extras["steps_to_target"] == [7.0] * 3
    assert run.curves is None


def test_the_first_arrival_counts_and_groups_have_means():
    class Bouncing(Descent):  # there and back
        def act(self, observations, action_masks=None):
            self.calls = 0 if self.fresh else self.calls + 1
            actions = super().act(observations)
            self.there = actions if self.calls == 0 else self.there
            return self.there if self.calls % 2 == 0 else -self.there

    start = evaluate(Still(), ENV, episodes=4, curves=True, **SMALL).curves
    target = start["quantiles"]["0.25"][0]
    alone, grouped = (
        evaluate(Bouncing(), ENV, episodes=4, target=target, group=group, **SMALL).extras
        for group in (1, 2)
    )
    assert set(alone["steps_to_target"]) <= {0.0, 1.0, 7.0}
    assert len(set(alone["steps_to_target"])) > 1
    for name in ("steps_to_target", "target_reached"):
        pairs = np.reshape(alone[name], (2, 2)).mean(axis=1)
        np.testing.assert_allclose(grouped[name], pairs)


@pytest.mark.parametrize("env_id", ["MetaBandit-v0", "CartPole-v1"])
def test_a_target_needs_a_loss(env_id):
    with pytest.raises(InvalidArgumentError, match=r"target=-3.0 needs.*LearnToOptimize-v0"):
        evaluate(RandomAgent(), env_id, episodes=2, target=-3.0)


def test_a_diverged_episode_is_counted_once_and_its_curve_goes_on():
    result = evaluate(Descent(1e6), ENV, episodes=3, curves=True, action_scale=1e6, **SMALL)
    assert max(result.lengths) < 6 and result.extras["diverged"] == [True] * 3
    np.testing.assert_allclose(result.scores, 8.0)
    assert result.curves["mean"][-1] == pytest.approx(8.0)
    assert result.env_steps == sum(result.lengths)


def test_an_oracle_receives_the_tasks_and_others_do_not():
    oracle, ordinary = Descent(privileged=True), Descent()
    assert evaluate(oracle, ENV, episodes=4, num_envs=2, **SMALL).privileged
    assert not evaluate(ordinary, ENV, episodes=4, num_envs=2, **SMALL).privileged
    assert len(oracle.tasks) == 2 and "initial" in oracle.tasks[0]
    assert ordinary.tasks == []


def test_a_foreign_environment_counts_its_return():
    result = evaluate(AlwaysLeft(), "CartPole-v1", episodes=6, num_envs=4)
    assert result.scores == result.returns == [float(n) for n in result.lengths]
    assert all(8 <= length <= 11 for length in result.lengths)  # a pole pushed left falls at once
    assert (result.metric, result.minimize, result.split) == ("return", False, None)
    assert result.curves is None and result.diverged is None


def test_random_agent_on_the_module_form_of_an_id():
    one, other = (evaluate(RandomAgent(), f"metagym:{ENV}", episodes=3, **SMALL) for _ in range(2))
    assert one.scores == other.scores


def test_an_agent_may_return_nan_only_for_rows_that_are_over():
    class Careless(Descent):
        def act(self, observations, action_masks=None):
            self.calls = getattr(self, "calls", 0) + 1
            actions = super().act(observations) if self.calls > 1 else np.full((2, 3), 1e6)
            if self.calls == 1:
                actions[1] = 0.0
            else:
                actions[0] = np.nan  # this row has diverged at the first step
            return actions

    result = evaluate(Careless(), ENV, episodes=2, action_scale=1e6, **SMALL)
    assert result.lengths == [1, 6]
    with pytest.raises(InvalidActionError, match="NaN"):
        evaluate(Descent(np.nan), ENV, episodes=2, **SMALL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"episodes": 0}, "episodes=0"),
        ({"num_envs": -1}, "num_envs=-1"),
        ({"target": np.nan}, "target=nan"),
        ({"seed": -1}, "seed=-1"),
        ({"split": "tests"}, "Did you mean 'test'"),
        ({"reward": "loss"}, "negative_loss"),
        ({"autoreset_mode": "SameStep"}, "autoreset_mode"),
        ({"hroizon": 3}, "Did you mean 'horizon'"),
    ],
)
def test_bad_arguments_are_typed_errors(arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        evaluate(Descent(), ENV, **arguments)


def test_unknown_ids_and_unknown_arguments_of_foreign_environments():
    with pytest.raises(gym.error.NameNotFound, match="Did you mean: `LearnToOptimize`"):
        evaluate(Descent(), "LearnToOptimise-v0")
    with pytest.raises(InvalidArgumentError, match="cannot be loaded"):
        evaluate(Descent(), "no_such_module:LearnToOptimize-v0")
    with pytest.raises(InvalidArgumentError, match="CartPole-v1 cannot take"):
        evaluate(AlwaysLeft(), "CartPole-v1", gravity_of_the_moon=1.6)


def test_an_episode_without_end_is_an_error(monkeypatch):
    import sys

    module = sys.modules["metagym.evaluation.evaluate"]
    monkeypatch.setattr(module, "MAX_STEPS", 4)
    with pytest.raises(ResultError, match="no end"):
        evaluate(Still(), ENV, episodes=2, **SMALL)
