"""BatchedEnv: how episodes start and end, in the three autoreset modes."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import metagym  # noqa: F401
from metagym.errors import InvalidArgumentError, ResetNeededError

MODES = [mode.value for mode in AutoresetMode]


def actions(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None]


def one_row_ends(env: Any) -> tuple[Any, ...]:
    """Push row 0 beyond its limit while the others stand still; return the step that ends it."""
    env.reset(seed=0)
    while True:
        out = env.step(actions(1, 0, 0))
        if (out[2] | out[3]).any():
            assert out[2].tolist() == [True, False, False] and not out[3].any()
            return out


def test_next_step_resets_on_the_following_step(drift: Any) -> None:
    env = drift()
    observations, rewards, _, _, infos = one_row_ends(env)
    assert observations[0, 0] > 2.0
    assert infos["_score"].tolist() == [True, False, False]
    assert infos["score"][0] == pytest.approx(10 * rewards[0])
    gain = env._task["gain"].copy()

    observations, rewards, terminated, truncated, infos = env.step(actions(1, 0.5, 0))
    assert observations[0].tolist() == [0.0, 0.0]
    assert rewards[0] == 0.0 and not terminated.any() and not truncated.any()
    assert infos["_task"].tolist() == [True, False, False]
    assert infos["x"][0] == 0.0 and infos["_x"].all()
    assert infos["task"]["gain"][0] != gain[0]
    assert not infos.get("_score", np.zeros(3, dtype=bool)).any()
    assert observations[1, 0] == pytest.approx(0.5 * gain[1])  # the others go on
    assert env.step(actions(0, 0, 0))[0][0, 1] == 1.0


def test_same_step_gives_the_last_and_the_first_observation(drift: Any) -> None:
    last = one_row_ends(drift(autoreset_mode="Disabled"))
    observations, rewards, _, _, infos = one_row_ends(drift(autoreset_mode="SameStep"))
    np.testing.assert_array_equal(infos["final_obs"][0], last[0][0])
    np.testing.assert_array_equal(rewards, last[1])
    assert infos["final_obs"][1] is None and infos["final_obs"].dtype == object
    assert infos["_final_obs"].tolist() == infos["_final_info"].tolist() == [True, False, False]
    assert infos["final_info"]["score"][0] == last[4]["score"][0]
    assert infos["final_info"]["_score"].tolist() == [True, False, False]
    assert observations[0].tolist() == [0.0, 0.0]
    assert infos["x"][0] == 0.0 and infos["_x"].all() and not infos["_score"].any()
    assert infos["_task"].tolist() == [True, False, False]


def test_disabled_freezes_a_row_until_it_is_reset(drift: Any) -> None:
    env = drift(autoreset_mode="Disabled")
    last = one_row_ends(env)
    for _ in range(2):
        observations, rewards, terminated, truncated, infos = env.step(actions(1, 0.1, 0))
        np.testing.assert_array_equal(observations[0], last[0][0])
        assert rewards[0] == 0.0 and terminated[0] and not truncated[0]
        assert infos["_x"].tolist() == [False, True, True]
        assert not terminated[1:].any() and observations[1, 1] > last[0][1, 1]
    before = observations.copy()
    observations, infos = env.reset(options={"reset_mask": np.array([True, False, False])})
    assert observations[0].tolist() == [0.0, 0.0]
    np.testing.assert_array_equal(observations[1:], before[1:])
    assert infos["_task"].tolist() == infos["_x"].tolist() == [True, False, False]
    _, _, terminated, truncated, _ = env.step(actions(0, 0, 0))
    assert not terminated.any() and not truncated.any()


def test_resetting_one_finished_row_leaves_another_frozen(drift: Any) -> None:
    env = drift(autoreset_mode="Disabled", horizon=2)
    env.reset(seed=0)
    env.step(actions(0.5, -0.5, 0.25))
    last = env.step(actions(0.5, -0.5, 0.25))
    assert last[3].all()
    env.step(actions(1, 1, 1))
    observations, _ = env.reset(options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal(observations[[0, 2]], last[0][[0, 2]])
    observations, _, _, truncated, _ = env.step(actions(1, 1, 1))
    np.testing.assert_array_equal(observations[[0, 2]], last[0][[0, 2]])
    assert truncated.tolist() == [True, False, True]


@pytest.mark.parametrize("mode", MODES)
def test_truncated_at_the_horizon_and_terminated_by_the_dynamics_never_both(
    drift: Any, mode: str
) -> None:
    env = drift(autoreset_mode=mode, horizon=2)
    env.reset(seed=0, options={"task": {"gain": [1.1, 0.1, 0.1], "kind": [0, 0, 0]}})
    env.step(actions(1, 0, 0))
    _, _, terminated, truncated, _ = env.step(actions(1, 0, 0))  # row 0 crosses at the horizon
    assert terminated.tolist() == [True, False, False]
    assert truncated.tolist() == [False, True, True]


@pytest.mark.parametrize("mode", MODES)
def test_a_full_reset_in_the_middle_starts_every_row(drift: Any, mode: str) -> None:
    env = drift(autoreset_mode=mode)
    one_row_ends(env)
    observations, infos = env.reset()
    assert not observations.any() and infos["_task"].all()
    observations, _, terminated, truncated, _ = env.step(actions(0, 0, 0))
    assert not (terminated | truncated).any() and (observations[:, 1] == 1.0).all()


def test_the_mask_is_not_changed_and_not_kept(drift: Any) -> None:
    env = drift()
    env.reset(seed=0)
    mask = np.array([True, False, True])
    options = {"reset_mask": mask}
    _, infos = env.reset(options=options)
    assert options["reset_mask"] is mask and mask.tolist() == [True, False, True]
    mask[:] = False
    assert infos["_task"].tolist() == [True, False, True]


@pytest.mark.parametrize(
    "mask", [[True, False], np.array([1, 0, 1]), np.zeros(3, dtype=bool), np.ones((3, 1), bool)]
)
def test_a_bad_mask_is_refused(drift: Any, mask: Any) -> None:
    env = drift()
    env.reset(seed=0)
    with pytest.raises(InvalidArgumentError, match="reset_mask"):
        env.reset(options={"reset_mask": mask})


def test_calls_out_of_order_are_refused(drift: Any, drift_single: Any) -> None:
    with pytest.raises(ResetNeededError, match="before the first step"):
        drift().step(actions(0, 0, 0))
    with pytest.raises(ResetNeededError, match="before the first step"):
        drift_single().step(np.zeros(1, dtype=np.float32))
    with pytest.raises(ResetNeededError, match="before the first render"):
        drift(render_mode="rgb_array").render()
    with pytest.raises(ResetNeededError, match="leave reset_mask out"):
        drift().reset(options={"reset_mask": np.array([True, False, False])})


def test_an_unknown_option_names_the_nearest(drift: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"'tasks'. Did you mean 'task'"):
        drift().reset(options={"tasks": {}})


@pytest.mark.parametrize("seed", [1.5, "1", True, -1, [1, 2, 3], np.array([1, 2, 3])])
def test_a_bad_seed_is_refused(drift: Any, seed: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="one whole number or None"):
        drift().reset(seed=seed)


@pytest.mark.parametrize("seed", [np.int64(3), np.uint32(3)])
def test_a_numpy_seed_is_a_seed(drift: Any, seed: Any) -> None:
    np.testing.assert_array_equal(
        drift().reset(seed=seed)[1]["task"]["gain"], drift().reset(seed=3)[1]["task"]["gain"]
    )


@pytest.mark.parametrize("mode", MODES)
def test_the_horizon_of_learn_to_optimize_truncates_and_gives_the_score(mode: str) -> None:
    env = gym.make_vec("LearnToOptimize-v0", num_envs=2, horizon=3, autoreset_mode=mode)
    _, infos = env.reset(seed=0)
    assert "score" not in infos
    still = np.zeros((2, 10), dtype=np.float32)
    for _ in range(2):
        _, _, terminated, truncated, infos = env.step(still)
        assert "score" not in infos and not (terminated | truncated).any()
    _, rewards, terminated, truncated, infos = env.step(still)
    assert truncated.all() and not terminated.any()
    told = infos["final_info"] if mode == "SameStep" else infos
    assert told["_score"].all()
    # The minimum is 0 and the reward is -f.
    np.testing.assert_allclose(told["score"], np.log10(-rewards + 1e-12), rtol=1e-6)
