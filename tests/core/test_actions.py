"""The rules of actions: what raises, what is clipped, and that an error changes nothing."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from metagym.core import BatchedEnv
from metagym.errors import InvalidActionError

GOOD = np.full((3, 1), 0.25, dtype=np.float32)

REFUSED: dict[str, Any] = {
    "NaN": np.array([[0.0], [np.nan], [0.0]]),
    "too few rows": np.zeros((2, 1)),
    "no trailing axis": np.zeros(3),
    "one number": 0.5,
    "strings": np.array([["a"], ["b"], ["c"]]),
    "objects": np.array([[None], [None], [None]]),
    "complex": np.zeros((3, 1), dtype=complex),
    "ragged": [[0.0], [0.0, 1.0], [0.0]],
    "None": None,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_action_raises_and_changes_nothing(drift: Any, name: str) -> None:
    env, control = drift(noise=0.1), drift(noise=0.1)
    for each in (env, control):
        each.reset(seed=0)
        each.step(GOOD)
    with pytest.raises(InvalidActionError):
        env.step(REFUSED[name])
    for _ in range(8):
        np.testing.assert_array_equal(env.step(GOOD)[0], control.step(GOOD)[0])


def test_the_error_of_nan_names_the_rows(drift: Any) -> None:
    env = drift()
    env.reset(seed=0)
    with pytest.raises(InvalidActionError, match=r"rows \[1\] contain NaN"):
        env.step(REFUSED["NaN"])


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (np.array([[5.0], [-5.0], [0.5]]), [1.0, -1.0, 0.5]),
        (np.array([[np.inf], [-np.inf], [0.5]]), [1.0, -1.0, 0.5]),
        (np.array([[1e300], [-1e300], [1e-300]]), [1.0, -1.0, 0.0]),
        ([[1], [0], [-1]], [1.0, 0.0, -1.0]),
        (np.array([[3], [0], [-3]], dtype=np.int64), [1.0, 0.0, -1.0]),
        (np.array([[True], [False], [True]]), [1.0, 0.0, 1.0]),
    ],
    ids=["out of bounds", "infinite", "beyond float32", "ints", "int array", "bools"],
)
def test_numbers_are_clipped_to_the_bounds(drift: Any, given: Any, used: list[float]) -> None:
    env = drift()
    env.reset(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env.step(given)
    assert env.taken[-1].ravel().tolist() == used
    assert env.taken[-1].dtype == np.float32


def test_the_given_array_is_neither_changed_nor_kept(drift: Any) -> None:
    env = drift(horizon=1)
    env.reset(seed=0)
    given = np.full((3, 1), 5.0, dtype=np.float32)
    for _ in range(3):  # the second step resets all rows and ignores their actions
        env.step(given)
        assert (given == 5.0).all()


@pytest.mark.parametrize(
    "given",
    [
        np.array([0, 3, 0]),
        np.array([0, -1, 0]),
        np.array([0.0, 1.0, 2.0]),
        np.array([True, False, True]),
        np.zeros((3, 1), dtype=np.int64),
        np.array(["0", "1", "2"]),
    ],
    ids=["too large", "negative", "floats", "bools", "shape", "strings"],
)
def test_a_discrete_action_is_an_integer_of_the_space(drift: Any, given: np.ndarray) -> None:
    env = drift(discrete=True)
    env.reset(seed=0)
    with pytest.raises(InvalidActionError):
        env.step(given)
    for kind in (np.int8, np.uint8, np.int64):
        env.step(np.array([0, 1, 0], dtype=kind))


class Several(BatchedEnv):
    """Two choices at once: their batch is a Box of integers, which must not be clipped."""

    def __init__(self) -> None:
        super().__init__(
            2,
            single_observation_space=gym.spaces.Box(0.0, 1.0, (1,), np.float32),
            single_action_space=gym.spaces.MultiDiscrete([2, 3]),
            horizon=5,
        )

    def _sample_tasks(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        return {"nothing": np.zeros(n)}

    def _start(self, rows: Any) -> None:
        pass

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        return actions.sum(axis=1).astype(float), np.zeros(2, dtype=bool), {}

    def _observe(self, rows: Any = slice(None)) -> np.ndarray:
        return np.zeros((len(self._elapsed[rows]), 1), dtype=np.float32)


@pytest.mark.parametrize("given", [[[0, 3], [0, 0]], [[0, -1], [0, 0]], [[0.5, 0.5], [0.0, 1.0]]])
def test_several_discrete_actions_follow_the_discrete_rule(given: Any) -> None:
    env = Several()
    env.reset(seed=0)
    with pytest.raises(InvalidActionError):
        env.step(given)
    assert env.step([[1, 2], [0, 1]])[1].tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    "given", [np.array([np.nan]), np.zeros(2), 0.5, "a", None, [0.0, [1.0]]], ids=str
)
def test_the_single_environment_follows_the_same_rules(drift_single: Any, given: Any) -> None:
    env = drift_single()
    env.reset(seed=0)
    with pytest.raises(InvalidActionError):
        env.step(given)
    assert env.step(np.array([9.0]))[1] == pytest.approx(env._batch._task["gain"][0])
