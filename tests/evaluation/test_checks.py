"""check_vector_env passes what is right and catches one broken environment per rule."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from metagym.core import BatchedEnv, SingleEnv
from metagym.errors import InvalidArgumentError
from metagym.evaluation.checks import RULES, ConformanceError, check_vector_env
from metagym.registration import ENVIRONMENTS

MODES = list(AutoresetMode)


class Walk(BatchedEnv):
    """Walk to a target on a line, at most 6 steps; the smallest environment that has everything."""

    _state_names = ("_x",)

    def __init__(self, num_envs: int = 4, **kwargs: Any) -> None:
        super().__init__(
            num_envs,
            single_observation_space=gym.spaces.Box(-20.0, 20.0, (2,), np.float32),
            single_action_space=gym.spaces.Box(-1.0, 1.0, (1,), np.float32),
            horizon=6,
            **kwargs,
        )
        self._x = np.zeros(num_envs)

    def _sample_tasks(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        return {"target": rng.uniform(-3.0, 3.0, n)}

    def _start(self, rows: Any) -> None:
        self._x[rows] = 0.0

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        self._x = self._x + actions[:, 0]
        distance = np.abs(self._x - self._task["target"])
        return -distance, distance < 0.3, {"distance": distance.copy()}

    def _observe(self, rows: Any = slice(None)) -> np.ndarray:
        x, target = self._x[rows], self._task["target"][rows]
        return np.stack([x, x - target], axis=1).astype(np.float32)

    def _end_info(self) -> dict[str, np.ndarray]:
        return {"score": self._x - self._task["target"]}


class WalkSingle(SingleEnv):
    batched = Walk


def check(env: Any) -> None:
    check_vector_env(env, make_single=WalkSingle, steps=40)


@pytest.mark.parametrize("mode", MODES)
def test_the_correct_toy_passes(mode: AutoresetMode) -> None:
    check(Walk(autoreset_mode=mode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("row", ENVIRONMENTS, ids=lambda row: row.id)
def test_every_registered_batch_passes(
    row: Any, mode: AutoresetMode, short: Any, skipped_rules: Any
) -> None:
    # Short episodes, so that many of them end within a short run.
    env = gym.make_vec(row.id, num_envs=3, autoreset_mode=mode, **{**row.kwargs, **short(row.id)})
    check_vector_env(env, steps=40, skip=skipped_rules(row.id))


@pytest.mark.parametrize("mode", MODES)
def test_gymnasiums_own_vector_env_passes_but_for_the_options_it_pops(mode: AutoresetMode) -> None:
    env = gym.make_vec(
        "CartPole-v1",
        num_envs=3,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode},
    )
    check_vector_env(env, steps=60, skip=("options",))
    with pytest.raises(ConformanceError, match=r"^options: "):
        check_vector_env(env, steps=60)


# -- broken environments, each named after the rule that it breaks -------------------------------


class After(Walk):
    """Walk whose results of reset() and step() go through ``after`` on their way out."""

    def after(self, out: tuple[Any, ...]) -> tuple[Any, ...]:
        return out

    def reset(self, **kwargs: Any) -> Any:
        observations, infos = super().reset(**kwargs)
        zeros = np.zeros(self.num_envs)
        out = self.after((observations, zeros, zeros > 0, zeros > 0, infos))
        return out[0], out[-1]

    def step(self, actions: Any) -> Any:
        return self.after(super().step(actions))


class NoMode(Walk):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.metadata = {"autoreset_mode": "NextStep"}


class OtherSpace(Walk):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.observation_space = gym.spaces.Box(-9.0, 9.0, (self.num_envs, 2), np.float32)


class RewardsInAColumn(After):
    def after(self, out: tuple[Any, ...]) -> tuple[Any, ...]:
        return out[0], out[1][:, None], *out[2:]


class RewardsInAList(After):
    def after(self, out: tuple[Any, ...]) -> tuple[Any, ...]:
        return out[0], out[1].tolist(), *out[2:]


class IntegerFlags(After):
    def after(self, out: tuple[Any, ...]) -> tuple[Any, ...]:
        return *out[:2], out[2].astype(int), *out[3:]


class InfiniteReward(After):
    def after(self, out: tuple[Any, ...]) -> tuple[Any, ...]:
        out[1][out[3]] = -np.inf
        return out


class NaNObservation(After):
    def after(self, out: tuple[Any, ...]) -> tuple[Any, ...]:
        out[0][0, 0] = np.nan
        return out


class WideObservation(After):
    def after(self, out: tuple[Any, ...]) -> tuple[Any, ...]:
        return out[0].astype(np.float64), *out[1:]


class OutOfBounds(After):
    def after(self, out: tuple[Any, ...]) -> tuple[Any, ...]:
        out[0][0, 0] = 21.0
        return out


class BothFlags(After):
    def after(self, out: tuple[Any, ...]) -> tuple[Any, ...]:
        return *out[:2], out[2] | out[3], *out[3:]


class NoMask(After):
    def after(self, out: tuple[Any, ...]) -> tuple[Any, ...]:
        out[-1].pop("_distance", None)
        return out


class IntegerMask(After):
    def after(self, out: tuple[Any, ...]) -> tuple[Any, ...]:
        if "_distance" in out[-1]:
            out[-1]["_distance"] = out[-1]["_distance"].astype(int)
        return out


class IgnoresTheSeed(Walk):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(options=options)


class OneSeedForAll(Walk):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=None if seed is None else 7, options=options)


class NeverEnds(Walk):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.horizon = None

    def _sample_tasks(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        return {"target": rng.uniform(15.0, 18.0, n)}

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        rewards, terminated, info = super()._advance(0.1 * actions)
        return rewards, terminated & False, info


class RewardForAReset(Walk):
    def _step_with_waiting_rows(self, actions: np.ndarray) -> Any:
        waiting = self._terminated | self._truncated
        out = super()._step_with_waiting_rows(actions)
        out[1][waiting] = 1.0
        return out


class FlagsDuringAReset(Walk):
    def _step_with_waiting_rows(self, actions: np.ndarray) -> Any:
        waiting = self._terminated | self._truncated
        out = super()._step_with_waiting_rows(actions)
        return *out[:2], out[2] | waiting, *out[3:]


class ActsDuringAReset(Walk):
    def _step_with_waiting_rows(self, actions: np.ndarray) -> Any:
        waiting, given = self._terminated | self._truncated, actions.copy()
        out = super()._step_with_waiting_rows(actions)
        self._x[waiting] += given[waiting, 0]
        return self._observe(), *out[1:]


class NoFinalObservation(After):
    def after(self, out: tuple[Any, ...]) -> tuple[Any, ...]:
        for key in ("final_obs", "_final_obs"):
            out[-1].pop(key, None)
        return out


class FinalMaskOfAllRows(After):
    def after(self, out: tuple[Any, ...]) -> tuple[Any, ...]:
        if "_final_info" in out[-1]:
            out[-1]["_final_info"] = np.ones(self.num_envs, dtype=bool)
        return out


class StillTheLastObservation(After):
    def after(self, out: tuple[Any, ...]) -> tuple[Any, ...]:
        for row in np.flatnonzero(out[2] | out[3]):
            out[0][row] = out[-1]["final_obs"][row]
        return out


class ResetsInSilence(Walk):
    def step(self, actions: Any) -> Any:
        done = self._terminated | self._truncated
        if done.any():
            super().reset(options={"reset_mask": done})
        return super().step(actions)


class ResetsEveryRow(Walk):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)


class ResetsNoRow(Walk):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if options and "reset_mask" in options:
            return self._observe(), {}
        return super().reset(seed=seed, options=options)


class PopsTheMask(Walk):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        given = {"reset_mask": options.pop("reset_mask")} if options else None
        return super().reset(seed=seed, options=given)


class ClearsTheMask(Walk):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        out = super().reset(seed=seed, options=options)
        if options and "reset_mask" in options:
            options["reset_mask"][:] = False
        return out


class OneBufferForAll(After):
    def after(self, out: tuple[Any, ...]) -> tuple[Any, ...]:
        if not hasattr(self, "_buffer"):
            self._buffer = np.zeros_like(out[0])
        self._buffer[:] = out[0]
        return self._buffer, *out[1:]


class HandsOutItsTask(After):
    def after(self, out: tuple[Any, ...]) -> tuple[Any, ...]:
        if "task" in out[-1]:
            out[-1]["task"]["target"] = self._task["target"]
        return out


class ClipsInPlace(Walk):
    def step(self, actions: Any) -> Any:
        actions *= 0.5
        return super().step(actions)


class DrawsItsOwnTask(Walk):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        options = {name: value for name, value in (options or {}).items() if name != "task"}
        return super().reset(seed=seed, options=options)


class RowsFeelEachOther(Walk):
    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        return super()._advance(actions - 0.1 * actions.mean(axis=0) * (self.num_envs > 1))


class TakesAnyShape(Walk):
    def _check_actions(self, actions: Any) -> np.ndarray:
        return np.array(actions[: self.num_envs])


class TakesNaN(Walk):
    def _check_actions(self, actions: Any) -> np.ndarray:
        return super()._check_actions(np.nan_to_num(actions))


NEXT, SAME, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
BROKEN = [
    ("metadata", NoMode, NEXT),
    ("spaces", OtherSpace, NEXT),
    ("returns", RewardsInAColumn, NEXT),
    ("returns", RewardsInAList, SAME),
    ("returns", IntegerFlags, NEXT),
    ("finite", InfiniteReward, NEXT),
    ("finite", NaNObservation, NEXT),
    ("observation", WideObservation, NEXT),
    ("observation", OutOfBounds, NEXT),
    ("flags", BothFlags, SAME),
    ("info-masks", NoMask, NEXT),
    ("info-masks", IntegerMask, NEXT),
    ("seeding", IgnoresTheSeed, NEXT),
    ("seeding", OneSeedForAll, NEXT),
    ("episode-end", NeverEnds, NEXT),
    ("autoreset-next-step", RewardForAReset, NEXT),
    ("autoreset-next-step", FlagsDuringAReset, NEXT),
    ("autoreset-next-step", ActsDuringAReset, NEXT),
    ("autoreset-same-step", NoFinalObservation, SAME),
    ("autoreset-same-step", FinalMaskOfAllRows, SAME),
    ("autoreset-same-step", StillTheLastObservation, SAME),
    ("autoreset-disabled", ResetsInSilence, DISABLED),
    ("reset-mask", ResetsEveryRow, NEXT),
    ("reset-mask", ResetsNoRow, NEXT),
    ("options", PopsTheMask, NEXT),
    ("options", ClearsTheMask, NEXT),
    ("aliasing", OneBufferForAll, NEXT),
    ("aliasing", HandsOutItsTask, NEXT),
    ("actions-kept", ClipsInPlace, NEXT),
    ("task", DrawsItsOwnTask, NEXT),
    ("singles", RowsFeelEachOther, SAME),
    ("singles", RowsFeelEachOther, DISABLED),
    ("actions-shape", TakesAnyShape, NEXT),
    ("actions-nan", TakesNaN, NEXT),
]


@pytest.mark.parametrize(("rule", "broken", "mode"), BROKEN, ids=lambda x: getattr(x, "name", None))
def test_a_broken_environment_is_caught_by_its_rule(
    rule: str, broken: type[Walk], mode: AutoresetMode
) -> None:
    with pytest.raises(ConformanceError, match=rf"^{rule}: "):
        check(broken(autoreset_mode=mode))


def test_every_rule_has_a_broken_environment() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def test_a_noisy_environment_is_not_compared_with_singles() -> None:
    class Noisy(Walk):
        def _advance(self, actions: np.ndarray) -> Any:
            assert self._noise_rng is not None
            return super()._advance(actions + 0.1 * self._noise_rng.standard_normal(actions.shape))

    class NoisySingle(SingleEnv):
        batched = Noisy

    check_vector_env(Noisy(), make_single=NoisySingle, steps=40)


def test_a_crash_is_reported_with_the_rule_that_met_it() -> None:
    class Crashes(Walk):
        def _advance(self, actions: np.ndarray) -> Any:
            raise ZeroDivisionError("boom")

    with pytest.raises(ConformanceError, match=r"^returns: ZeroDivisionError: boom"):
        check(Crashes())


def test_an_unknown_rule_to_skip_names_the_nearest() -> None:
    with pytest.raises(InvalidArgumentError, match="Did you mean 'finite'"):
        check_vector_env(Walk(), skip=("finit",))
