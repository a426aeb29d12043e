"""SymlogObservations: the transform, also of final observations."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from metagym.errors import InvalidArgumentError
from metagym.evaluation import check_vector_env
from metagym.wrappers import SymlogObservations
from metagym.wrappers.symlog import symlog


def test_symlog_is_odd_monotone_and_tame() -> None:
    x = np.array([0.0, 1e-3, 1.0, np.e - 1, 1e8])
    np.testing.assert_allclose(symlog(x)[[0, 3]], [0.0, 1.0], rtol=1e-6)
    np.testing.assert_array_equal(symlog(-x), -symlog(x))
    assert (np.diff(symlog(x)) > 0).all() and symlog(x)[-1] < 19 and symlog(x).dtype == np.float32


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_it_keeps_the_promises_of_a_vector_environment(mode: str) -> None:
    env = gym.make_vec(
        "LearnToOptimize-v0", 3, dim=2, history=2, horizon=5, autoreset_mode=mode
    )  # fmt: skip
    check_vector_env(SymlogObservations(env), steps=15, skip=("singles",))


def test_final_observations_are_transformed_once() -> None:
    kwargs = {"dim": 2, "history": 2, "horizon": 3, "autoreset_mode": "SameStep"}
    view = SymlogObservations(gym.make_vec("LearnToOptimize-v0", 2, **kwargs))  # type: ignore[arg-type]
    plain = gym.make_vec("LearnToOptimize-v0", 2, **kwargs)  # type: ignore[arg-type]
    for env in (view, plain):
        env.reset(seed=1)
    for _ in range(3):
        seen, *_, infos = view.step(np.full((2, 2), 0.1))
        expected, *_, plain_infos = plain.step(np.full((2, 2), 0.1))
        np.testing.assert_array_equal(seen, symlog(expected))
    for final, raw in zip(infos["final_obs"], plain_infos["final_obs"], strict=True):
        np.testing.assert_array_equal(final, symlog(raw))


def test_only_boxes_have_a_logarithm() -> None:
    with pytest.raises(InvalidArgumentError, match="Box"):
        SymlogObservations(SyncVectorEnv([lambda: gym.make("FrozenLake-v1")]))
