"""A family with a mistake in it is told so; nothing is broadcast into wrong numbers."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import metagym  # noqa: F401
from metagym.errors import InvalidArgumentError
from metagym.problems import ProblemFamily


class Bowl(ProblemFamily):
    dim = 4

    def sample(self, rng: np.random.Generator, n: int, split: str) -> dict[str, np.ndarray]:
        return {"centre": rng.standard_normal((n, 4))}

    def value_and_grad(self, task: Any, x: Any, rng: Any = None) -> Any:
        away = x - task["centre"]
        return (away**2).sum(axis=1), 2 * away


class ScalarTask(Bowl):
    def sample(self, rng: Any, n: int, split: str) -> Any:
        return {"centre": rng.standard_normal(4)}


class OneGradientForAll(Bowl):
    def value_and_grad(self, task: Any, x: Any, rng: Any = None) -> Any:
        loss, gradient = super().value_and_grad(task, x)
        return loss, gradient.sum(axis=0)


class OneLossForAll(Bowl):
    def value_and_grad(self, task: Any, x: Any, rng: Any = None) -> Any:
        loss, gradient = super().value_and_grad(task, x)
        return loss.sum(), gradient


class Lists(Bowl):
    def value_and_grad(self, task: Any, x: Any, rng: Any = None) -> Any:
        loss, gradient = super().value_and_grad(task, x)
        return loss.tolist(), gradient.tolist()


class Below(Bowl):
    def value_and_grad(self, task: Any, x: Any, rng: Any = None) -> Any:
        loss, gradient = super().value_and_grad(task, x)
        return loss - 1000.0, gradient


def test_the_right_one_runs() -> None:
    env = gym.make_vec("LearnToOptimize-v0", 3, problem=Bowl(), horizon=2)
    env.reset(seed=0)
    *_, infos = env.step(env.action_space.sample())
    assert (infos["loss"] >= 0).all()


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (ScalarTask, "leading axis 3"),
        (OneGradientForAll, r"\(4,\)"),
        (OneLossForAll, "returned"),
        (Lists, "returned"),
        (Below, r"lower\(task\)"),
    ],
)
def test_a_wrong_one_is_named(family: type[Bowl], words: str) -> None:
    env = gym.make_vec("LearnToOptimize-v0", 3, problem=family(), horizon=2)
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        env.reset(seed=0)
    assert family.__name__ in str(caught.value)
