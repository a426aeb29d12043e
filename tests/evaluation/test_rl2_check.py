"""check_rl2_wrapper passes what is right, in either convention, and catches one wrong wrapper
per way of being wrong."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from metagym.errors import InvalidArgumentError
from metagym.evaluation import ConformanceError, check_rl2_wrapper
from metagym.evaluation.rl2_check import RULES
from metagym.wrappers import RL2VectorWrapper, RL2Wrapper


class Theirs(gym.Wrapper):
    """Somebody else's wrapper: ``[s, a, r, d, s']``, the next episode starts in the same step.

    Its parts are methods of their own, so that a broken one breaks a single thing.
    """

    def __init__(self, env: gym.Env, episodes: int) -> None:
        super().__init__(env)
        self.episodes, self.count = episodes, 0
        self.observation_space = gym.spaces.Box(0.0, 1.0, (4 + 3 + 2 + 4,), np.float32)

    def observation(
        self, s: np.ndarray, a: np.ndarray, r: float, d: bool, final: np.ndarray
    ) -> np.ndarray:
        return np.concatenate([s, a, [r, d], final]).astype(np.float32)

    def first(self, s: np.ndarray) -> np.ndarray:
        return self.observation(s, np.zeros(3), 0.0, False, np.zeros(4))

    def boundary(self, s: np.ndarray, a: np.ndarray, r: float, final: np.ndarray) -> np.ndarray:
        return self.observation(s, a, r, True, final)

    def encode(self, action: Any) -> np.ndarray:
        return np.eye(3)[action]

    def flag(self, terminated: bool, truncated: bool) -> bool:
        return terminated or truncated

    def inner_start(self) -> np.ndarray:
        return self.env.reset()[0]

    def inner_step(self, action: Any) -> tuple[np.ndarray, float, bool, bool]:
        return self.env.step(action)[:4]  # type: ignore[return-value]

    def over(self) -> bool:
        return self.count >= self.episodes

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.count = 0
        return self.first(self.env.reset(seed=seed)[0]), {}

    def step(self, action: Any) -> Any:
        s, r, terminated, truncated = self.inner_step(action)
        a = self.encode(action)
        if not (terminated or truncated):
            return self.observation(s, a, r, False, np.zeros(4)), r, False, False, {}
        self.count += 1
        start = s if self.over() else self.inner_start()
        if self.flag(terminated, truncated):
            observation = self.boundary(start, a, r, s)
        else:
            observation = self.observation(start, a, r, False, s)
        return observation, r, self.over(), False, {}


class OwnStep(gym.Wrapper):
    """``[s, a, r, d]``; the next inner episode starts in a step of its own."""

    def __init__(self, env: gym.Env, episodes: int) -> None:
        super().__init__(env)
        self.episodes, self.count, self.waiting = episodes, 0, False
        self.observation_space = gym.spaces.Box(0.0, 1.0, (4 + 3 + 2,), np.float32)

    def observation(self, s: np.ndarray, a: np.ndarray, r: float, d: bool) -> np.ndarray:
        return np.concatenate([s, a, [r, d]]).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.count, self.waiting = 0, False
        return self.observation(self.env.reset(seed=seed)[0], np.zeros(3), 0.0, False), {}

    def step(self, action: Any) -> Any:
        if self.waiting:
            return self.own_step(action)
        s, r, terminated, truncated, _ = self.env.step(action)
        self.waiting = terminated or truncated
        self.count += int(self.waiting)
        over = self.count == self.episodes
        return self.observation(s, np.eye(3)[action], float(r), self.waiting), r, over, False, {}

    def own_step(self, action: Any) -> Any:
        self.waiting = False
        s = self.env.reset()[0]
        return self.observation(s, np.zeros(3), 0.0, False), 0.0, False, False, {}


class ShowsTheEndAgain(OwnStep):
    """The step of its own shows its ignored action and d = 1; that is a matter of taste."""

    def own_step(self, action: Any) -> Any:
        observation, *rest = super().own_step(action)
        observation[4 + action] = observation[8] = 1.0
        return observation, *rest


class StartsTwice(Theirs):
    """An inner episode that is reset before its first step is not cut."""

    def inner_start(self) -> np.ndarray:
        super().inner_start()
        return super().inner_start()


@pytest.mark.parametrize("episodes", [2, 3, 4, 5, 11])
@pytest.mark.parametrize("wrapper", [RL2Wrapper, Theirs, OwnStep, ShowsTheEndAgain, StartsTwice])
def test_right_wrappers_pass(wrapper: Any, episodes: int) -> None:
    check_rl2_wrapper(wrapper, episodes=episodes, seed=episodes)


@pytest.mark.parametrize("actions", ["discrete", "box"])
@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_our_twin_passes_through_its_autoresets(mode: str, actions: str) -> None:
    check_rl2_wrapper(
        lambda env, n: RL2VectorWrapper(lambda: env, 1, n, autoreset_mode=mode), actions=actions
    )


def test_gymnasiums_batch_of_one_passes_too() -> None:
    for mode in gym.vector.AutoresetMode:
        check_rl2_wrapper(
            lambda env, n, mode=mode: gym.vector.SyncVectorEnv(
                [lambda: Theirs(env, n)], autoreset_mode=mode
            )
        )


# -- broken wrappers -----------------------------------------------------------------------------


class ZeroesTheBoundaryTuple(Theirs):
    def boundary(self, s: Any, a: Any, r: Any, final: Any) -> np.ndarray:
        return self.observation(s, np.zeros(3), 0.0, True, final)


class DropsTheBoundaryReward(Theirs):
    def boundary(self, s: Any, a: Any, r: Any, final: Any) -> np.ndarray:
        return self.observation(s, a, 0.0, True, final)


class StartsAfreshAtEveryEpisode(Theirs):
    """The whole memory of the last step goes, as if a new trial began."""

    def boundary(self, s: Any, a: Any, r: Any, final: Any) -> np.ndarray:
        return self.first(s)


class FlagsOnlyTerminations(Theirs):
    def flag(self, terminated: bool, truncated: bool) -> bool:
        return terminated


class FlagsOnlyTruncations(Theirs):
    def flag(self, terminated: bool, truncated: bool) -> bool:
        return truncated


class FlagsTheStart(Theirs):
    def first(self, s: Any) -> np.ndarray:
        return self.observation(s, np.zeros(3), 0.0, True, np.zeros(4))


class ShiftsTheReward(Theirs):
    last = 0.0

    def first(self, s: Any) -> np.ndarray:
        self.last = 0.0
        return super().first(s)

    def observation(self, s: Any, a: Any, r: Any, d: Any, final: Any) -> np.ndarray:
        self.last, r = r, self.last
        return super().observation(s, a, r, d, final)


class ShiftsTheRewardAtBoundaries(Theirs):
    last = 0.0

    def inner_step(self, action: Any) -> Any:
        out = super().inner_step(action)
        self.before, self.last = self.last, out[1]
        return out

    def boundary(self, s: Any, a: Any, r: Any, final: Any) -> np.ndarray:
        return self.observation(s, a, self.before, True, final)


class ShiftsTheAction(Theirs):
    last = 0

    def encode(self, action: Any) -> np.ndarray:
        self.last, action = action, self.last
        return np.eye(3)[action]


class NumbersTheAction(Theirs):
    def encode(self, action: Any) -> np.ndarray:
        return np.array([action / 2, 0.0, 0.0])


class ForgetsTheAction(Theirs):
    def boundary(self, s: Any, a: Any, r: Any, final: Any) -> np.ndarray:
        return self.observation(s, np.zeros(3), r, True, final)


class FlagsAStepLate(Theirs):
    late = False

    def first(self, s: Any) -> np.ndarray:
        self.late = False
        return super().first(s)

    def observation(self, s: Any, a: Any, r: Any, d: Any, final: Any) -> np.ndarray:
        self.late, d = d, self.late
        return super().observation(s, a, r, d, final)


class FlagsEverything(Theirs):
    def observation(self, s: Any, a: Any, r: Any, d: Any, final: Any) -> np.ndarray:
        return super().observation(s, a, r, bool(a.any()), final)


class LeaksIntoTheNextTrial(Theirs):
    last: Any = (np.zeros(3), 0.0)

    def first(self, s: Any) -> np.ndarray:
        a, r = self.last
        return self.observation(s, a, r, False, np.zeros(4))

    def step(self, action: Any) -> Any:
        out = super().step(action)
        self.last = np.eye(3)[action], out[1]
        return out


class LeaksTheFinalState(Theirs):
    """s' of the last inner episode stays where it was written."""

    kept = np.zeros(4)

    def observation(self, s: Any, a: Any, r: Any, d: Any, final: Any) -> np.ndarray:
        self.kept = final if final.any() else self.kept
        return super().observation(s, a, r, d, self.kept)


class EndsAnEpisodeEarly(Theirs):
    def over(self) -> bool:
        return self.count >= self.episodes - 1


class EndsAnEpisodeLate(Theirs):
    def over(self) -> bool:
        return self.count > self.episodes


class CountsOnFromTheLastTrial(Theirs):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        count, self.count = self.count, 0
        out = super().reset(seed=seed)
        self.count = int(count > 0)
        return out


class EndsAStepEarly(Theirs):
    """The last inner episode is cut after its first step."""

    def step(self, action: Any) -> Any:
        observation, r, terminated, truncated, info = super().step(action)
        last = self.count == self.episodes - 1 and observation[8] == 0.0
        return observation, r, terminated or last, truncated, info


class NeverEnds(Theirs):
    def over(self) -> bool:
        return False


class EndsTruncated(Theirs):
    def step(self, action: Any) -> Any:
        observation, r, over, _, info = super().step(action)
        return observation, r, False, over, info


class PassesTruncationOn(Theirs):
    cut = False

    def inner_step(self, action: Any) -> Any:
        out = super().inner_step(action)
        self.cut = out[3]
        return out

    def step(self, action: Any) -> Any:
        observation, r, over, _, info = super().step(action)
        return observation, r, over, over and self.cut, info


class LosesTheFinalState(Theirs):
    def boundary(self, s: Any, a: Any, r: Any, final: Any) -> np.ndarray:
        return self.observation(s, a, r, True, np.zeros(4))


class RepeatsTheNextStart(Theirs):
    def boundary(self, s: Any, a: Any, r: Any, final: Any) -> np.ndarray:
        return self.observation(s, a, r, True, s)


class HidesTheNextStart(Theirs):
    def boundary(self, s: Any, a: Any, r: Any, final: Any) -> np.ndarray:
        return self.observation(final, a, r, True, final)


class LagsTheState(Theirs):
    last = np.zeros(4)

    def observation(self, s: Any, a: Any, r: Any, d: Any, final: Any) -> np.ndarray:
        if a.any() and not d:
            return super().observation(self.last, a, r, d, final)
        self.last = s
        return super().observation(s, a, r, d, final)


class RunsPastTheEnd(Theirs):
    def inner_start(self) -> np.ndarray:
        return np.ones(4)


class CutsEpisodes(Theirs):
    def inner_step(self, action: Any) -> Any:
        s, r, terminated, _ = super().inner_step(action)
        return s, r, terminated, not terminated


class SkipsFrames(Theirs):
    def inner_step(self, action: Any) -> Any:
        first = super().inner_step(action)
        return first if first[2] or first[3] else super().inner_step(action)


class ActsForTheAgent(Theirs):
    def inner_step(self, action: Any) -> Any:
        return super().inner_step(0)


class PaysNothingAtTheEnd(Theirs):
    def step(self, action: Any) -> Any:
        observation, r, over, truncated, info = super().step(action)
        return observation, 0.0 if observation[8] else r, over, truncated, info


class Float64(Theirs):
    def observation(self, s: Any, a: Any, r: Any, d: Any, final: Any) -> np.ndarray:
        return super().observation(s, a, r, d, final).astype(np.float64)


class ReusesItsBuffer(Theirs):
    buffer = np.zeros(13, np.float32)

    def observation(self, s: Any, a: Any, r: Any, d: Any, final: Any) -> np.ndarray:
        self.buffer[:] = super().observation(s, a, r, d, final)
        return self.buffer


class IgnoresTheSeed(Theirs):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset()


class AlwaysSeedsAlike(Theirs):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=7)


class SeedsEveryInnerEpisode(Theirs):
    seed: Any = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.seed = seed
        return super().reset(seed=seed)

    def inner_start(self) -> np.ndarray:
        return self.env.reset(seed=self.seed)[0]


class ActsBlindly(OwnStep):
    """The step that starts the next episode also makes a move in it."""

    def own_step(self, action: Any) -> Any:
        self.env.reset()
        self.waiting = False
        return self.step(action)


class PaysForItsOwnStep(OwnStep):
    def own_step(self, action: Any) -> Any:
        observation, _, *rest = super().own_step(action)
        return observation, 0.5, *rest


class RepeatsTheRewardInItsOwnStep(OwnStep):
    def own_step(self, action: Any) -> Any:
        observation, *rest = super().own_step(action)
        observation[7] = 0.5
        return observation, *rest


class IdlesWithoutAReason(OwnStep):
    idle = True

    def step(self, action: Any) -> Any:
        self.idle = not self.idle
        if self.idle and not self.waiting:
            return self.observation(np.ones(4), np.zeros(3), 0.0, False), 0.0, False, False, {}
        return super().step(action)


BROKEN: list[tuple[type, str, str]] = [
    (ZeroesTheBoundaryTuple, "boundary-tuple", r"a is \[0\. 0\. 0\.\]; the action was"),
    (DropsTheBoundaryReward, "boundary-tuple", r"r is \[0\.\], not 0"),
    (StartsAfreshAtEveryEpisode, "boundary-tuple", "last of an inner episode"),
    (ForgetsTheAction, "boundary-tuple", "the action was"),
    (ShiftsTheRewardAtBoundaries, "boundary-tuple", "of the step before"),
    (FlagsOnlyTerminations, "done-truncated", "an inner episode was truncated there"),
    (FlagsOnlyTruncations, "done-terminated", "an inner episode was terminated there"),
    (FlagsAStepLate, "done-inside", "no inner episode ended there"),
    (FlagsEverything, "done-inside", "no inner episode ended there"),
    (FlagsTheStart, "start", r"done is \[1\.\], not zero"),
    (ShiftsTheReward, "reward", r"r after step 1 of trial 0 .* of the step before"),
    (ShiftsTheAction, "action", "the action was"),
    (NumbersTheAction, "action", "the action was"),
    (LeaksIntoTheNextTrial, "leak", "in a later trial the first observation's action"),
    (LeaksTheFinalState, "leak", "in a later trial the first observation's final"),
    (EndsAnEpisodeEarly, "trial-end", "over after 3 of 4 inner episodes"),
    (EndsAnEpisodeLate, "trial-end", "goes on after 4 inner episodes"),
    (CountsOnFromTheLastTrial, "trial-end", "trial 1 is over after 3 of 4"),
    (EndsAStepEarly, "trial-end", "over after 3 of 4 inner episodes and 7 steps"),
    (NeverEnds, "trial-end", "goes on after 4 inner episodes"),
    (EndsTruncated, "trial-end", "terminated=False, truncated=True"),
    (PassesTruncationOn, "trial-end", "terminated=True, truncated=True"),
    (LosesTheFinalState, "final-state", r"shown \[0\. 0\. 0\. 0\.\]"),
    (RepeatsTheNextStart, "final-state", "ended an inner episode in"),
    (HidesTheNextStart, "boundary-state", "the inner episode that follows"),
    (LagsTheState, "state", "the state after step 0 of trial 0"),
    (RunsPastTheEnd, "runs", "stepped after its episode's end"),
    (CutsEpisodes, "steps", "in the middle of its episode"),
    (SkipsFrames, "steps", "makes 2 steps"),
    (ActsForTheAgent, "steps", "and gave 0 on"),
    (ActsBlindly, "steps", "before the policy saw"),
    (IdlesWithoutAReason, "steps", "does not step the inner environment"),
    (PaysNothingAtTheEnd, "paid", r"step 2 of trial 0 returns reward 0\.0"),
    (PaysForItsOwnStep, "paid", r"reward 0\.5, not 0\.0"),
    (RepeatsTheRewardInItsOwnStep, "boundary-state", "earns nothing"),
    (Float64, "observation", "is not in the observation space"),
    (ReusesItsBuffer, "fresh-arrays", "overwritten"),
    (IgnoresTheSeed, "seeding", "start in different states"),
    (AlwaysSeedsAlike, "seeding", "start in the same state"),
    (SeedsEveryInnerEpisode, "seeding", "start alike"),
]


@pytest.mark.parametrize(
    ("wrapper", "rule", "message"), BROKEN, ids=lambda x: getattr(x, "__name__", "")
)
def test_a_broken_wrapper_is_caught_by_its_rule(wrapper: Any, rule: str, message: str) -> None:
    with pytest.raises(ConformanceError, match=f"^{rule}: .*{message}"):
        check_rl2_wrapper(wrapper)


def test_every_rule_has_a_wrapper_that_breaks_it() -> None:
    assert {rule for _, rule, _ in BROKEN} == set(RULES)


# Gymnasium's batch casts and copies observations, which mends two of them.
IN_A_BATCH = [
    (wrapper, rule) for wrapper, rule, _ in BROKEN if wrapper not in (Float64, ReusesItsBuffer)
]


@pytest.mark.parametrize(("wrapper", "rule"), IN_A_BATCH, ids=lambda x: getattr(x, "__name__", ""))
def test_a_broken_wrapper_is_caught_in_a_batch_too(wrapper: Any, rule: str) -> None:
    same_step = gym.vector.AutoresetMode.SAME_STEP
    with pytest.raises(ConformanceError, match=f"^{rule}: "):
        check_rl2_wrapper(
            lambda env, n: gym.vector.SyncVectorEnv(
                [lambda: wrapper(env, n)], autoreset_mode=same_step
            )
        )


def test_a_rule_that_is_known_not_to_hold_can_be_skipped() -> None:
    check_rl2_wrapper(LosesTheFinalState, skip=("final-state",))
    check_rl2_wrapper(FlagsOnlyTerminations, skip=("done-truncated",))
    with pytest.raises(InvalidArgumentError, match="Did you mean 'final-state'"):
        check_rl2_wrapper(Theirs, skip=("final_state",))


# -- observations of another shape ---------------------------------------------------------------


class InADict(gym.Wrapper):
    """OwnStep's trials, with observations as a Dict and the action as a number, -1 for none."""

    def __init__(self, env: gym.Env, episodes: int) -> None:
        super().__init__(OwnStep(env, episodes))
        box = gym.spaces.Box(0.0, 1.0, (4,), np.float32)
        scalar = gym.spaces.Box(-1.0, 3.0, (), np.float32)
        parts = {"state": box, "action": scalar, "reward": scalar, "done": scalar}
        self.observation_space = gym.spaces.Dict(parts)

    def _dict(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        action = float(flat[4:7].argmax()) if flat[4:7].any() else -1.0
        scalars = {"action": action, "reward": flat[7], "done": flat[8]}
        return {"state": flat[:4], **{k: np.array(v, np.float32) for k, v in scalars.items()}}

    def reset(self, **kwargs: Any) -> Any:
        observation, info = self.env.reset(**kwargs)
        return self._dict(observation), info

    def step(self, action: Any) -> Any:
        observation, *rest = self.env.step(action)
        return self._dict(observation), *rest


def blocks(observation: dict[str, np.ndarray]) -> tuple[Any, ...]:
    one_hot = np.eye(4)[int(observation["action"])][:3]  # -1 is the fourth
    return observation["state"], one_hot, observation["reward"], observation["done"]


def test_other_observations_are_decoded_by_the_user() -> None:
    check_rl2_wrapper(InADict, decode=blocks)
    with pytest.raises(ConformanceError, match=r"^action: "):
        check_rl2_wrapper(
            InADict, decode=lambda o: (o["state"], np.zeros(3), o["reward"], o["done"])
        )
    with pytest.raises(InvalidArgumentError, match=r"pass decode="):
        check_rl2_wrapper(InADict)
    with pytest.raises(InvalidArgumentError, match="decode has to return a tuple"):
        check_rl2_wrapper(InADict, decode=lambda o: o["state"])  # type: ignore[arg-type, return-value]


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="episodes=1 has no boundary"):
        check_rl2_wrapper(RL2Wrapper, episodes=1)
    with pytest.raises(InvalidArgumentError, match="episodes=0"):
        check_rl2_wrapper(RL2Wrapper, episodes=0)
    with pytest.raises(InvalidArgumentError, match="actions='real'"):
        check_rl2_wrapper(RL2Wrapper, actions="real")
    with pytest.raises(InvalidArgumentError, match="a batch of 2"):
        check_rl2_wrapper(
            lambda env, n: gym.vector.SyncVectorEnv(
                [lambda: Theirs(env, n), lambda: Theirs(env, n)]
            )
        )
