"""Tasks that users hand in, the history's ring buffer, and the single view."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import metagym  # noqa: F401
from metagym.core.history import History
from metagym.core.task import check_task, copy_task, write_rows
from metagym.errors import InvalidActionError, InvalidArgumentError

LIKE: dict[str, Any] = {"W": np.zeros((1, 2), np.float32), "kind": np.zeros(1, np.int64)}
GOOD = {"W": [[1.0, 2.0], [3.0, 4.0]], "kind": [5, 6]}


def test_a_task_takes_the_names_shapes_and_dtypes_of_its_family() -> None:
    task = check_task({**GOOD, "_W": [True, True]}, LIKE, 2)
    assert {name: (v.dtype, v.shape) for name, v in task.items()} == {
        "W": (np.float32, (2, 2)),
        "kind": (np.int64, (2,)),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": [[0.0, 0.0]] * 2}, "unknown array 'w'"),
        ({"W": None}, "lacks the array 'W'"),
        ({"W": [1.0, 2.0]}, r"shape \(2,\); expected \(2, 2\)"),
        ({"W": [[1.0, 2.0]] * 3}, r"shape \(3, 2\); expected \(2, 2\)"),
        ({"W": [[1.0, np.nan]] * 2}, "non-finite"),
        ({"W": [[1.0, np.inf]] * 2}, "non-finite"),
        ({"W": [[1.0, 1e300]] * 2}, "non-finite"),
        ({"W": [["a", "b"]] * 2}, "'W'"),
        ({"W": [[1.0], [1.0, 2.0]]}, "'W'"),
        ({"kind": [0.5, 1.0]}, "'kind'"),
        ({"kind": [np.nan, 1.0]}, "'kind'"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_bad_task_is_a_typed_error(change: dict[str, Any], message: str) -> None:
    task = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(InvalidArgumentError, match=message):
        check_task(task, LIKE, 2)


def test_a_task_that_is_no_mapping_is_refused_by_both_views() -> None:
    for env in (gym.make_vec("LearnToOptimize-v0"), gym.make("LearnToOptimize-v0").unwrapped):
        with pytest.raises(InvalidArgumentError, match="has to be a mapping"):
            env.reset(options={"task": 3})


@pytest.mark.parametrize("reward", ["negative_loss", "log_improvement"])
def test_a_given_task_whose_loss_overflows_shows_nothing_infinite(reward: str) -> None:
    env = gym.make_vec("LearnToOptimize-v0", num_envs=2, reward=reward)
    _, infos = env.reset(seed=0)
    infos["task"]["initial"][1] = 1e30  # its square is beyond float32
    observations, infos = env.reset(options={"task": infos["task"]})
    assert np.isfinite(observations).all() and np.isfinite(infos["loss"]).all()
    observations, rewards, terminated, _, infos = env.step(np.zeros((2, 10)))
    assert np.isfinite(observations).all() and np.isfinite(rewards).all()
    assert terminated.tolist() == [False, True] and np.isfinite(infos["score"]).all()


def test_copies_and_rows_of_a_task() -> None:
    task = {"a": np.arange(3.0)}
    part = copy_task(task, np.array([2, 0]))
    part["a"][:] = -1.0
    assert task["a"].tolist() == [0.0, 1.0, 2.0]
    write_rows(task, np.array([2, 0]), {"a": np.array([7.0, 8.0])})
    assert task["a"].tolist() == [8.0, 1.0, 7.0]


# -- the history ---------------------------------------------------------------------------------

OPERATIONS = st.lists(
    st.one_of(st.just("push"), st.lists(st.booleans(), min_size=3, max_size=3)), max_size=30
)


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 6), operations=OPERATIONS, copied=st.booleans())
def test_the_window_is_what_a_list_would_hold(length: int, operations: Any, copied: bool) -> None:
    """Against the plain model: one list of entries per row, zeros before its start."""
    history, model, value = History(3, length, 2), [[np.zeros(2)] * length for _ in range(3)], 0.0
    for operation in operations:
        value += 1.0
        entries = np.stack([np.full(2, value), np.full(2, -value), np.full(2, value / 2)])
        if copied:
            history = copy.deepcopy(history)
        if operation == "push":
            history.push(entries)
            model = [[*rows, entry][1:] for rows, entry in zip(model, entries, strict=True)]
        elif any(operation):
            rows = np.flatnonzero(operation)
            history.restart(rows, entries[rows])
            for row in rows:
                model[row] = [np.zeros(2)] * (length - 1) + [entries[row]]
        np.testing.assert_array_equal(history.window(), np.array(model))
    some = np.array([2, 0])
    np.testing.assert_array_equal(history.window(some), np.array(model)[some])


def test_a_window_is_a_copy() -> None:
    history = History(1, 2, 1)
    history.push(np.ones((1, 1)))
    for rows in (slice(None), np.array([0])):
        history.window(rows)[:] = 9.0
    assert history.window().ravel().tolist() == [0.0, 1.0]


# -- the single view -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*render.*")
def test_gymnasiums_own_check_passes() -> None:
    check_env(gym.make("LearnToOptimize-v0", horizon=5).unwrapped, skip_render_check=True)


def test_the_info_of_one_episode_has_no_masks_and_no_batch_axis(drift_single: Any) -> None:
    env = drift_single()
    _, info = env.reset(seed=0)
    assert set(info) == {"x", "task"} and set(info["task"]) == {"gain", "kind"}
    assert type(info["x"]) is float and type(info["task"]["kind"]) is int
    seen = []
    for _ in range(7):
        _, reward, terminated, truncated, info = env.step(np.array([0.0]))
        assert type(reward) is float and type(terminated) is bool and type(truncated) is bool
        seen.append("score" in info)
    assert truncated and seen == [False] * 6 + [True]


def test_after_the_end_the_last_observation_is_repeated(drift_single: Any) -> None:
    env = drift_single(horizon=1)
    env.reset(seed=0)
    last = env.step(np.array([0.5]))
    again = env.step(np.array([0.5]))
    np.testing.assert_array_equal(again[0], last[0])
    assert again[1] == 0.0 and again[2:] == (False, True, {})


def test_the_dynamics_are_reached_through_the_single_view() -> None:
    env: Any = gym.make("LearnToOptimize-v0", horizon=7).unwrapped
    assert env.horizon == 7 and env.problem.dim == 10 and env.score_minimize
    with pytest.raises(AttributeError):
        env.nothing_of_that_name  # noqa: B018
    assert "Description" in (type(env).__doc__ or "")
    assert issubclass(InvalidActionError, ValueError)
