"""SB3VecEnv: what Stable-Baselines3 sees of a native batch, and that its PPO learns on it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from metagym.core import BatchedEnv
from metagym.errors import InvalidArgumentError
from metagym.rl.sb3 import SB3VecEnv

SAME_STEP = AutoresetMode.SAME_STEP


class Guess(BatchedEnv):
    """Say the number that is seen: reward 1 - |a - task|. Row 0 terminates after 2 steps."""

    def __init__(self, num_envs: int = 3, horizon: int = 4, ends: bool = True, **kw: Any) -> None:
        super().__init__(
            num_envs,
            single_observation_space=gym.spaces.Box(-10.0, 10.0, (2,), np.float32),
            single_action_space=gym.spaces.Box(-1.0, 1.0, (1,), np.float32),
            horizon=horizon,
            **kw,
        )
        self.ends = ends
        self.unit = "points"

    def _sample_tasks(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        return {"number": rng.uniform(-1.0, 1.0, n)}

    def _start(self, rows: Any) -> None:
        pass

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        error = np.abs(actions[:, 0] - self._task["number"])
        terminated = np.zeros(self.num_envs, dtype=bool)
        terminated[0] = self.ends and self._elapsed[0] == 1
        return 1.0 - error, terminated, {"error": error}

    def _observe(self, rows: Any = slice(None)) -> np.ndarray:
        number, elapsed = self._task["number"][rows], self._elapsed[rows]
        return np.stack([number, elapsed], axis=1).astype(np.float32)

    def _end_info(self) -> dict[str, np.ndarray]:
        return {"score": 100.0 + self._elapsed}

    def names(self) -> list[str]:
        return [f"row {i}" for i in range(self.num_envs)]


class Masked(BatchedEnv):
    """Two of three actions are legal; which two, the task says."""

    def __init__(self, num_envs: int = 4, **kwargs: Any) -> None:
        super().__init__(
            num_envs,
            single_observation_space=gym.spaces.Box(-1.0, 1.0, (1,), np.float32),
            single_action_space=gym.spaces.Discrete(3),
            horizon=2,
            **kwargs,
        )

    def _masks(self) -> np.ndarray:
        return (np.arange(3) != self._task["banned"][:, None]).astype(np.int8)

    def _sample_tasks(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        return {"banned": rng.integers(0, 3, n)}

    def _start(self, rows: Any) -> None:
        pass

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        no = np.zeros(self.num_envs)
        return no, no > 0, {"action_mask": self._masks()}

    def _start_info(self) -> dict[str, np.ndarray]:
        return {"action_mask": self._masks()}

    def _observe(self, rows: Any = slice(None)) -> np.ndarray:
        return np.zeros((len(self._elapsed[rows]), 1), dtype=np.float32)


def make(**kwargs: Any) -> SB3VecEnv:
    return SB3VecEnv(Guess(autoreset_mode=SAME_STEP, **kwargs))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_the_ends_of_episodes_are_told_as_sb3_expects() -> None:
    env = make()
    env.seed(3)
    first: Any = env.reset()
    number = first[:, 0].copy()
    actions = np.zeros((3, 1), dtype=np.float32)
    for step in range(1, 5):
        out: Any = env.step(actions)
        observations, rewards, dones, infos = out
        assert rewards.dtype == np.float32
        assert rewards[1:] == pytest.approx(1.0 - np.abs(number[1:]))
        # Row 0 terminates at steps 2 and 4, the others are cut at step 4.
        assert dones.tolist() == [step in (2, 4), step == 4, step == 4]
        assert [bool(info) for info in infos] == dones.tolist()
        if step == 2:
            assert infos[0]["TimeLimit.truncated"] is False
            assert infos[0]["terminal_observation"] == pytest.approx([number[0], 2.0])
            assert infos[0]["episode"]["r"] == pytest.approx(2 - 2 * abs(number[0]), abs=1e-5)
            assert infos[0]["episode"]["l"] == 2
            assert infos[0]["score"] == 102.0
            assert observations[0, 1] == 0.0  # the next episode has begun
    assert infos[1]["TimeLimit.truncated"] is True
    assert infos[1]["terminal_observation"] == pytest.approx([number[1], 4.0])
    assert infos[1]["episode"]["l"] == 4
    assert infos[1]["episode"]["r"] == pytest.approx(4 - 4 * abs(number[1]), abs=1e-5)
    assert infos[0]["episode"]["l"] == 2  # row 0 counts its second episode afresh
    assert infos[1]["error"] == pytest.approx(abs(number[1]))


def test_only_truncated_episodes_are_bootstrapped_by_ppo() -> None:
    """A critic that says 7 everywhere adds discount * 7 to cut episodes and to no others."""
    env = make()
    model = PPO("MlpPolicy", env, n_steps=4, batch_size=12, gamma=0.5, seed=0, device="cpu")
    with torch.no_grad():
        for parameter in model.policy.value_net.parameters():
            parameter.zero_()
        model.policy.value_net.bias.fill_(7.0)
    raw: list[np.ndarray] = []

    step_wait = env.step_wait

    def recording() -> Any:
        out = step_wait()
        raw.append(out[1].copy())
        return out

    env.step_wait = recording  # type: ignore[method-assign]
    _, callback = model._setup_learn(12)
    model.collect_rollouts(env, callback, model.rollout_buffer, n_rollout_steps=4)
    added = model.rollout_buffer.rewards - np.stack(raw)
    expected = np.zeros((4, 3))
    expected[3, 1:] = 0.5 * 7.0
    np.testing.assert_allclose(added, expected, atol=1e-6)


def test_ppo_learns_the_toy() -> None:
    env = make(num_envs=64, horizon=8, ends=False)
    model = PPO(
        "MlpPolicy", env, n_steps=16, batch_size=256, n_epochs=10, learning_rate=3e-3, gamma=0.0,
        policy_kwargs={"net_arch": [16]}, seed=0, device="cpu",
    )  # fmt: skip
    before = evaluate_policy(model, env, n_eval_episodes=64)[0]
    model.learn(25 * 64 * 16)
    after = evaluate_policy(model, env, n_eval_episodes=64)[0]
    # Saying 0 earns 4 in expectation, perfection 8.
    assert float(np.mean(before)) < 5.5
    assert float(np.mean(after)) > 7.2
    assert model.ep_info_buffer is not None and len(model.ep_info_buffer) > 0


def test_same_seed_same_first_actions() -> None:
    def first_actions(seed: int) -> np.ndarray:
        model = PPO("MlpPolicy", make(), n_steps=4, batch_size=12, seed=seed, device="cpu")
        model.learn(12)
        return model.rollout_buffer.actions.copy()

    np.testing.assert_array_equal(first_actions(1), first_actions(1))
    assert not np.array_equal(first_actions(1), first_actions(2))


def test_a_seed_acts_once_at_the_next_reset() -> None:
    env = make()
    env.seed(11)
    first = env.reset()
    second = env.reset()
    assert not np.array_equal(first, second)
    env.seed(11)
    np.testing.assert_array_equal(env.reset(), first)
    np.testing.assert_array_equal(Guess(autoreset_mode=SAME_STEP).reset(seed=11)[0], first)


def test_options_reach_the_next_reset_only() -> None:
    env = make()
    env.seed(0)
    env.set_options({"task": {"number": np.array([0.1, 0.2, 0.3])}})
    np.testing.assert_allclose(env.reset()[:, 0], [0.1, 0.2, 0.3], rtol=1e-6)
    assert env.reset_infos[1]["task"] == {"number": 0.2}
    assert not np.allclose(env.reset()[:, 0], [0.1, 0.2, 0.3])
    with pytest.raises(InvalidArgumentError, match="one dict for all rows"):
        env.set_options([{}, {}, {}])


def test_sb3s_own_wrappers_wrap_it() -> None:
    with pytest.warns(UserWarning, match="already wrapped with a `Monitor`"):
        monitored = VecMonitor(make())
    env = VecNormalize(monitored, gamma=0.9)
    env.reset()
    for _ in range(4):
        _, _, dones, infos = env.step(np.zeros((3, 1), dtype=np.float32))
    assert dones.all()
    assert [info["episode"]["l"] for info in infos] == [2, 4, 4]
    # VecNormalize rewrites terminal observations; the raw one would be 4.
    assert infos[1]["terminal_observation"][1] < 4.0


def test_rows_without_news_stay_empty_and_news_do_not_leak() -> None:
    env = make(num_envs=2)
    env.reset()
    actions = np.zeros((2, 1), dtype=np.float32)
    seen = [env.step(actions)[3] for _ in range(5)]
    assert seen[1][0]["episode"]["l"] == 2
    assert seen[0] == [{}, {}] and seen[2] == [{}, {}]


def test_attributes_and_methods_belong_to_the_batch() -> None:
    env = make()
    assert env.get_attr("unit") == ["points"] * 3
    assert env.get_attr("unit", indices=[0, 2]) == ["points"] * 2
    assert env.has_attr("unit") and not env.has_attr("units")
    env.set_attr("unit", "cm")
    assert env.env.unit == "cm"  # type: ignore[attr-defined]
    with pytest.raises(InvalidArgumentError, match="the rows share their attributes"):
        env.set_attr("unit", "m", indices=0)
    assert env.env_method("names", indices=[1]) == ["row 1"]
    assert env.env_is_wrapped(Monitor) == [True] * 3
    assert env.env_is_wrapped(gym.wrappers.TimeLimit, indices=1) == [False]


def test_action_masks_pass_through() -> None:
    env = SB3VecEnv(Masked(autoreset_mode=SAME_STEP))
    assert not env.has_attr("action_masks")
    env.reset()
    for _ in range(3):
        banned = env.env._task["banned"]  # type: ignore[attr-defined]
        masks = np.stack(env.env_method("action_masks"))
        assert masks.dtype == bool
        np.testing.assert_array_equal(masks, np.arange(3) != banned[:, None])
        np.testing.assert_array_equal(env.action_masks(), masks)
        env.step(np.zeros(4, dtype=np.int64))
    assert env.has_attr("action_masks")
    assert not make().has_attr("action_masks")


def test_gymnasiums_sync_vector_env_is_taken_too() -> None:
    single = SyncVectorEnv(
        [lambda: gym.make("CartPole-v1", max_episode_steps=5)] * 2, autoreset_mode=SAME_STEP
    )
    env = SB3VecEnv(single)
    env.seed(0)
    env.reset()
    for _ in range(5):
        _, _, dones, infos = env.step(np.array([0, 1]))
    assert dones.all() and infos[0]["TimeLimit.truncated"] and infos[0]["episode"]["r"] == 5.0
    assert env.get_attr("length", indices=1) == [0.5]
    env.close()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_another_autoreset_mode_is_refused_with_the_fix(mode: AutoresetMode) -> None:
    with pytest.raises(InvalidArgumentError, match=r"autoreset_mode='SameStep'\)"):
        SB3VecEnv(Guess(autoreset_mode=mode))


def test_a_single_environment_is_refused_with_the_fix() -> None:
    with pytest.raises(InvalidArgumentError, match="takes a Gymnasium VectorEnv"):
        SB3VecEnv(gym.make("CartPole-v1"))  # type: ignore[arg-type]
