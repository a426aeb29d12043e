"""check_rl2_wrapper: does a wrapper that makes trials of inner episodes lose anything?

RL² (Duan et al. 2016) feeds its policy the next state and the action, reward and end of the last
step. Where one inner episode ends and the next begins it is easy to drop that step, to shift it,
or to forget that a time limit is an end too; the policy then cannot know how its last try ended.
Each rule is one function that looks at recorded trials and returns what is wrong, or None;
``RULES`` names them in the order in which they run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import gymnasium as gym
import numpy as np

from metagym.core.trial import TrialView
from metagym.errors import InvalidArgumentError, check_choice, check_positive
from metagym.evaluation.checks import ConformanceError
from metagym.evaluation.probe import same
from metagym.evaluation.rl2_probe import ACTION_SPACES, Decode, Play


def check_rl2_wrapper(
    make_env: Callable[[gym.Env, int], Any],
    *,
    decode: Decode | None = None,
    episodes: int = 4,
    actions: str = "discrete",
    seed: int = 0,
    skip: Collection[str] = (),
) -> None:
    """Check a wrapper against every rule of ``RULES``, on a probe environment of ours.

        check_rl2_wrapper(RL2Wrapper)
        check_rl2_wrapper(lambda env, episodes: TheirWrapper(env, n=episodes), decode=their_blocks)

    The state s' to which the last step of an inner episode led may reach the policy in two ways:
    in a block of its own beside the next episode's first state, or as the state of an extra step
    whose action is ignored and which starts the next episode. Both are accepted.

    Args:
        make_env: wraps the given environment into trials of so many inner episodes; its result is
            a Gymnasium environment, or a vector environment of one row in any autoreset mode.
        decode: from an observation to ``(state, action, reward, done)``, with the block s' as a
            fifth where there is one; actions one-hot. By default observations are
            ``[s, a, r, d]`` or ``[s, a, r, d, s']``.
        episodes: inner episodes of a trial, at least 2.
        actions: of the probe: ``"discrete"``, 3 of them, or ``"box"``, 2 numbers in [-1, 1].
        seed: of the trials and of the random actions.
        skip: names of rules that are known not to hold.

    Raises:
        ConformanceError: a rule is broken; the message is ``"<rule>: <what happened>"``.
        InvalidArgumentError: an argument cannot work, or the observations need a ``decode``.
    """
    for name in skip:
        check_choice("skip", name, RULES)
    if check_positive("episodes", episodes) < 2:
        raise InvalidArgumentError("episodes=1 has no boundary to look at; pass at least 2.")
    play = Play(make_env, decode, episodes, check_choice("actions", actions, ACTION_SPACES), seed)
    for name, rule in RULES.items():
        if name in skip:
            continue
        try:
            complaint = rule(play)
        except InvalidArgumentError:
            raise
        except Exception as error:
            raise ConformanceError(f"{name}: {type(error).__name__}: {error}") from error
        if complaint:
            raise ConformanceError(f"{name}: {complaint}")


# -- the rules -----------------------------------------------------------------------------------


def _runs(p: Play) -> str | None:
    for number, trial in enumerate(p.trials):
        if not trial.starts:
            return f"trial {number} began without a reset of the inner environment."
    return None


def _observation(p: Play) -> str | None:
    assert p.space is not None
    for trial in p.trials:
        for observation in (trial.observation, *(tick.observation for tick in trial.ticks)):
            if not p.space.contains(observation):
                shown = " ".join(repr(observation).split())
                return f"{shown} is not in the observation space {p.space}."
    return None


def _steps(p: Play) -> str | None:
    for number, trial in enumerate(p.trials):
        open_end = False  # the last step ended an inner episode and started none
        for i, tick in enumerate(trial.ticks):
            here = f"step {i} of trial {number}"
            last = trial.over and i == len(trial.ticks) - 1  # a batch begins the next trial here
            if any(start.cut for start in tick.starts) and not last:
                return f"{here} resets the inner environment in the middle of its episode."
            if len(tick.steps) > 1:
                return f"{here} makes {len(tick.steps)} steps of the inner environment."
            if tick.step is None and not (open_end and tick.starts):
                return f"{here} does not step the inner environment."
            if tick.step is not None and open_end:
                return (
                    f"{here} starts an inner episode and steps it at once: the action was chosen "
                    "before the policy saw the episode's first state."
                )
            if tick.step is not None and not np.array_equal(tick.step.action, tick.action):
                return f"{here} was given {tick.action} and gave {tick.step.action} on."
            open_end = tick.step is not None and bool(tick.step.end) and not tick.starts
    return None


def _paid(p: Play) -> str | None:
    for number, trial in enumerate(p.trials):
        for i, tick in enumerate(trial.ticks):
            earned = 0.0 if tick.step is None else tick.step.reward
            if not np.isclose(tick.reward, earned):
                return f"step {i} of trial {number} returns reward {tick.reward}, not {earned}."
    return None


def _trial_end(p: Play) -> str | None:
    for number, trial in enumerate(p.trials):
        if not trial.over or trial.ends > p.episodes:
            return f"trial {number} goes on after {p.episodes} inner episodes."
        last = trial.ticks[-1]
        if trial.ends < p.episodes or last.step is None or not last.step.end:
            return (
                f"trial {number} is over after {trial.ends} of {p.episodes} inner episodes and "
                f"{len(trial.ticks)} steps; it ends with the last step of the last one."
            )
        if last.truncated or not last.terminated:
            return (
                f"trial {number} ends with terminated={last.terminated}, truncated="
                f"{last.truncated}; its length defines the task, so it terminates."
            )
    return None


def _start(p: Play, trials: slice = slice(0, 1)) -> str | None:
    for trial in p.trials[trials]:
        if not _close(trial.seen.state, trial.starts[-1].state):
            return f"the first state is {trial.seen.state}, not {trial.starts[-1].state}."
        for name in ("action", "reward", "done", "final"):
            if getattr(trial.seen, name).any():
                return f"the first observation's {name} is {getattr(trial.seen, name)}, not zero."
    return None


def _leak(p: Play) -> str | None:
    complaint = _start(p, slice(1, None))
    return complaint and f"in a later trial {complaint}"


def _state(p: Play) -> str | None:
    for here, _, _, tick, step in p.inside():
        if not step.end and not _close(tick.seen.state, step.state):
            return f"the state after {here} is {tick.seen.state}, not {step.state}."
    return None


def _action(p: Play) -> str | None:
    for here, _, _, tick, step in p.inside():
        if not step.end and not _close(tick.seen.action, p.one_hot(tick.action)):
            return f"a after {here} is {tick.seen.action}; the action was {tick.action}."
    return None


def _reward(p: Play) -> str | None:
    wrong = [
        f"r after {here} is {_wrong_reward(tick.seen, trial.ticks[:i], step.reward)}"
        for here, trial, i, tick, step in p.inside()
        if not step.end and not _close(tick.seen.reward, step.reward)
    ]
    # A shift does not show in a trial's first step; the complaint that tells more goes first.
    return max(wrong, key=lambda text: text.endswith("before."), default=None)


def _boundary_tuple(p: Play) -> str | None:
    for here, trial, i, tick, step in p.inside():
        last = f"after {here}, the last of an inner episode,"
        if step.end and not _close(tick.seen.action, p.one_hot(tick.action)):
            return f"{last} a is {tick.seen.action}; the action was {tick.action}."
        if step.end and not _close(tick.seen.reward, step.reward):
            return f"{last} r is {_wrong_reward(tick.seen, trial.ticks[:i], step.reward)}"
    return None


def _done(p: Play, end: str) -> str | None:
    for here, _, _, tick, step in p.inside():
        if step.end == end and not _close(tick.seen.done, float(bool(end))):
            what = f"an inner episode was {end}" if end else "no inner episode ended"
            return f"d after {here} is {tick.seen.done}, and {what} there."
    return None


def _boundary_state(p: Play) -> str | None:
    for here, trial, i, tick, step in p.inside():
        first = tick if tick.starts else trial.ticks[i + 1]  # or after a step of its own
        if step.end and not _close(first.seen.state, first.starts[-1].state):
            return (
                f"the inner episode that follows {here} begins in {first.starts[-1].state}, and "
                f"the policy is shown {first.seen.state}."
            )
        if step.end and first is not tick and first.seen.reward.any():
            return (
                f"the step of its own after {here} earns nothing and shows r {first.seen.reward}."
            )
    return None


def _final_state(p: Play) -> str | None:
    for here, _, _, tick, step in p.inside():
        shown = tick.seen.final if tick.starts else tick.seen.state
        if step.end and not _close(shown, step.state):
            return (
                f"{here} ended an inner episode in {step.state}; the policy is shown "
                f"{shown if shown.size else 'nothing of it'}."
            )
        if not step.end and tick.seen.final.any():
            return f"no inner episode ended in {here}, and s' is {tick.seen.final}."
    return None


def _fresh(p: Play) -> str | None:
    for returned, then in p.returned:
        if not same(returned, then):
            return "an observation that was returned was overwritten by a later step."
    return None


def _seeding(p: Play) -> str | None:
    first = p.trials[0].starts[-1].state
    if not np.array_equal(first, p.run(p.seed)[0].starts[-1].state):
        return f"two environments with seed {p.seed} start in different states."
    if np.array_equal(first, p.run(p.seed + 1)[0].starts[-1].state):
        return f"seeds {p.seed} and {p.seed + 1} start in the same state."
    starts = [start.state for tick in p.trials[0].ticks[:-1] for start in tick.starts]
    if all(state[-1] == first[-1] for state in starts):
        return "all inner episodes start alike: reset() seeds each of them in the same way."
    return None


def _close(a: np.ndarray, b: Any) -> bool:
    b = np.asarray(b, dtype=np.float64).reshape(-1)
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-6)


def _wrong_reward(seen: TrialView, before: list[Any], earned: float) -> str:
    late = bool(before) and _close(seen.reward, before[-1].reward) and seen.reward.any()
    return f"{seen.reward}, not {earned}" + (": that is of the step before." if late else ".")


RULES: dict[str, Callable[[Play], str | None]] = {
    "runs": _runs,
    "observation": _observation,
    "steps": _steps,
    "paid": _paid,
    "trial-end": _trial_end,
    "start": _start,
    "leak": _leak,
    "state": _state,
    "action": _action,
    "reward": _reward,
    "boundary-tuple": _boundary_tuple,
    "done-inside": lambda p: _done(p, ""),
    "done-terminated": lambda p: _done(p, "terminated"),
    "done-truncated": lambda p: _done(p, "truncated"),
    "boundary-state": _boundary_state,
    "final-state": _final_state,
    "fresh-arrays": _fresh,
    "seeding": _seeding,
}
