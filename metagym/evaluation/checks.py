"""check_vector_env: does a Gymnasium vector environment keep its promises?

Gymnasium's ``check_env`` is for single environments; this is its counterpart for batches, ours and
other people's. Each rule is one function that plays with the environment and returns what is
wrong, or None; ``RULES`` names them in the order in which they run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from metagym.errors import MetagymError, check_choice, check_positive
from metagym.evaluation.probe import (
    Probe,
    all_finite,
    leaves,
    play_single,
    play_tasks,
    same,
    single_maker,
    take_rows,
)


class ConformanceError(MetagymError, AssertionError):
    """A vector environment breaks a rule; the message begins with the rule's name."""


def check_vector_env(
    env: VectorEnv,
    *,
    make_single: Callable[[], gym.Env] | None = None,
    steps: int = 250,
    seed: int = 0,
    skip: Collection[str] = (),
) -> None:
    """Check ``env`` against every rule of ``RULES``; it is reset many times and not closed.

    Two rules ask for more than Gymnasium does: ``reset-mask`` holds in every autoreset mode, and
    ``actions-nan`` wants an error where others compute on. Skip them where they do not apply.

    Args:
        env: a vector environment with at least two rows; noise and rewards are its own affair.
        make_single: builds the single environment whose batch this is, for the rule ``singles``;
            by default it is made from ``env.spec``. Without either, the rule has nothing to do.
        steps: length of a recorded run; at least one episode has to end within it.
        seed: of the environment and of the random actions.
        skip: names of rules that are known not to hold.

    Raises:
        ConformanceError: a rule is broken; the message is ``"<rule>: <what happened>"``.
        InvalidArgumentError: ``skip`` names no rule, or ``steps`` is not positive.
    """
    for name in skip:
        check_choice("skip", name, RULES)
    probe = Probe(env, make_single, check_positive("steps", steps), seed)
    for name, rule in RULES.items():
        if name in skip:
            continue
        try:
            complaint = rule(probe)
        except Exception as error:
            raise ConformanceError(f"{name}: {type(error).__name__}: {error}") from error
        if complaint:
            raise ConformanceError(f"{name}: {complaint}")


# -- the rules -----------------------------------------------------------------------------------


def _metadata(p: Probe) -> str | None:
    mode = p.env.metadata.get("autoreset_mode")
    if not isinstance(mode, AutoresetMode):
        return f"metadata['autoreset_mode'] is {mode!r}; it has to be a gymnasium AutoresetMode."
    return None


def _spaces(p: Probe) -> str | None:
    for name in ("observation_space", "action_space"):
        single, batch = getattr(p.env, f"single_{name}"), getattr(p.env, name)
        expected = batch_space(single, p.env.num_envs)
        if batch != expected:
            return f"{name} is {batch}; {p.env.num_envs} times single_{name} is {expected}."
    return None


def _returns(p: Probe) -> str | None:
    for step in p.run.steps:
        for name, kinds in (("rewards", "f"), ("terminated", "b"), ("truncated", "b")):
            value = getattr(step, name)
            if not isinstance(value, np.ndarray):
                return f"{name} is a {type(value).__name__}; it has to be an array."
            if value.shape != (p.env.num_envs,) or value.dtype.kind != kinds:
                kind = "float" if kinds == "f" else "bool"
                return (
                    f"{name} has dtype {value.dtype} and shape {value.shape}; it has to be {kind} "
                    f"of shape ({p.env.num_envs},)."
                )
    return None


def _finiteness(p: Probe) -> str | None:
    if not all_finite(p.run.observations):
        return "an observation of reset() is not finite."
    for t, step in enumerate(p.run.steps):
        for name in ("observations", "rewards", "infos"):
            if not all_finite(getattr(step, name)):
                return f"{name} of step {t} hold a NaN or an infinity."
    return None


def _observation(p: Probe) -> str | None:
    space = p.env.observation_space
    example = list(leaves(space.sample()))
    for observations in (p.run.observations, *(step.observations for step in p.run.steps)):
        for leaf, expected in zip(leaves(observations), example, strict=False):
            if leaf.shape != expected.shape or leaf.dtype != expected.dtype:
                return (
                    f"an array of dtype {leaf.dtype} and shape {leaf.shape}; the space says dtype "
                    f"{expected.dtype} and shape {expected.shape}."
                )
        if not space.contains(observations):
            return f"a value lies outside the observation space {space}."
    return None


def _flags(p: Probe) -> str | None:
    for t, step in enumerate(p.run.steps):
        both = step.terminated & step.truncated
        if both.any():
            return f"rows {np.flatnonzero(both).tolist()} terminated and truncated at step {t}."
    return None


def _seeding(p: Probe) -> str | None:
    if not same(p.play(p.seed).outcomes, p.run.outcomes):
        return f"two runs with seed {p.seed} and the same actions differ."
    if same(p.play(p.seed + 1).outcomes, p.run.outcomes):
        return f"seeds {p.seed} and {p.seed + 1} give the same run."
    return None


def _episode_end(p: Probe) -> str | None:
    if any(step.done.any() for step in p.run.steps):
        return None
    return f"no episode ended in {p.length} steps; pass a larger steps or a shorter horizon."


def _next_step(p: Probe) -> str | None:
    if p.mode is not AutoresetMode.NEXT_STEP:
        return None
    for t, step in enumerate(p.run.steps):
        if step.waiting.any() and step.rewards[step.waiting].any():
            return f"step {t} resets rows and gives them a reward other than 0."
        if (step.done & step.waiting).any():
            return f"step {t} resets rows and says that they are done."
    if isinstance(p.env.action_space.sample(), np.ndarray):
        other = p.play(p.seed, other_actions_on_reset=True)
        if not same(other.outcomes, p.run.outcomes):
            return "the action of a row that is being reset changes what happens."
    return None


def _same_step(p: Probe) -> str | None:
    if p.mode is not AutoresetMode.SAME_STEP:
        return None
    still_old = True
    for t, step in enumerate(p.run.steps):
        done, infos = step.done, step.infos
        if not done.any():
            continue
        for key in ("final_obs", "final_info"):
            mask = infos.get("_" + key)
            if key not in infos or mask is None:
                return f"episodes end at step {t} and infos lack {key!r} or '_{key}'."
            if not np.array_equal(mask, done):
                return f"infos['_{key}'] of step {t} is {mask}, and the rows that ended are {done}."
        final = infos["final_obs"]
        if not isinstance(final, np.ndarray) or final.dtype != object:
            return "infos['final_obs'] has to be an array of objects, one per row."
        new = list(iterate(p.env.observation_space, step.observations))
        for row, was_done in enumerate(done):
            if was_done and not p.env.single_observation_space.contains(final[row]):
                return f"final_obs[{row}] of step {t} is not in the single observation space."
            if not was_done and final[row] is not None:
                return f"final_obs[{row}] of step {t} is set, and the row did not end."
            still_old &= not was_done or same(final[row], new[row])
    if still_old:
        return "the observation at an episode's end is the last one, not the next episode's first."
    return None


def _disabled(p: Probe) -> str | None:
    if p.mode is not AutoresetMode.DISABLED:
        return None
    sample = p.sampler(p.seed)
    observations, infos = p.env.reset(seed=p.seed)
    done = np.zeros(p.env.num_envs, dtype=bool)
    for _ in range(p.length):
        observations, _, terminated, truncated, infos = p.env.step(sample(infos))
        done = terminated | truncated
        if done.any():
            break
    before = copy.deepcopy(take_rows(observations, done))
    flags = terminated[done].copy(), truncated[done].copy()
    try:
        observations, rewards, terminated, truncated, _ = p.env.step(sample(infos))
    except Exception:
        frozen = True  # an error is an answer too
    else:
        frozen = (
            same((terminated[done], truncated[done]), flags)
            and not rewards[done].any()
            and same(take_rows(observations, done), before)
        )
    if not frozen:
        return "a row whose episode is over moved on without a reset."
    _, infos = p.env.reset(options={"reset_mask": done.copy()})
    p.env.step(sample(infos))
    return None


def _reset_mask(p: Probe) -> str | None:
    mask = np.arange(p.env.num_envs) % 2 == 0
    sample = p.sampler(p.seed)
    _, infos = p.env.reset(seed=p.seed)
    observations = p.env.step(sample(infos))[0]
    before = copy.deepcopy(tuple(leaves(observations)))
    observations, infos = p.env.reset(options={"reset_mask": mask.copy()})
    if not same(take_rows(observations, ~mask), take_rows(before, ~mask)):
        return f"rows outside reset_mask={mask} changed."
    if same(take_rows(observations, mask), take_rows(before, mask)):
        return f"rows inside reset_mask={mask} did not start again."
    told = infos.get("_task")
    if told is not None and not np.array_equal(told, mask):
        return f"infos['_task'] is {told} after a reset with reset_mask={mask}."
    return None


def _options(p: Probe) -> str | None:
    p.env.reset(seed=p.seed)
    mask = np.arange(p.env.num_envs) % 2 == 0
    options = {"reset_mask": mask}
    p.env.reset(options=options)
    if list(options) != ["reset_mask"] or options["reset_mask"] is not mask:
        return "reset() changed the options that it was given; wrappers read them afterwards."
    if not np.array_equal(mask, np.arange(p.env.num_envs) % 2 == 0):
        return "reset() changed the reset_mask that it was given."
    return None


def _info_masks(p: Probe) -> str | None:
    for infos in (p.run.infos, *(step.infos for step in p.run.steps)):
        complaint = _mask_complaint(infos, p.env.num_envs)
        if complaint:
            return complaint
    return None


def _mask_complaint(infos: Mapping[str, Any], num_envs: int, nested: str = "") -> str | None:
    for key, value in infos.items():
        path = f"{nested}[{key!r}]"
        if key.startswith("_"):
            is_mask = isinstance(value, np.ndarray) and value.dtype == bool
            if not is_mask or value.shape != (num_envs,):
                return f"infos{path} has to be a bool array of shape ({num_envs},)."
            if key[1:] not in infos:
                return f"infos{path} is the mask of a key that is not there."
        elif "_" + key not in infos and not nested:  # below a dict, the dict's own mask counts
            return f"infos{path} has no mask '_{key}'."
        elif isinstance(value, Mapping):
            complaint = _mask_complaint(value, num_envs, path)
            if complaint:
                return complaint
        elif len(value) != num_envs:
            return f"infos{path} has {len(value)} entries for {num_envs} rows."
    return None


def _aliasing(p: Probe) -> str | None:
    if not all(same(now, then) for now, then in p.run.returned):
        return "an array that reset() or step() returned was overwritten by a later call."
    if not same(p.play(p.seed, scribble=True).outcomes, p.run.outcomes):
        return "writing into a returned array changes what the environment does."
    return None


def _actions_kept(p: Probe) -> str | None:
    actions = p.sampler(p.seed)(p.env.reset(seed=p.seed)[1])
    given = copy.deepcopy(actions)
    for _ in range(p.length):
        _, _, terminated, truncated, _ = p.env.step(given)
        if not same(given, actions):
            return "step() changed the array of actions that it was given."
        if (terminated | truncated).any() and p.mode is AutoresetMode.DISABLED:
            break
    return None


def _task_of(infos: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    task = infos.get("task")
    if not isinstance(task, Mapping):
        return None
    return {name: values for name, values in task.items() if not name.startswith("_")}


def _task(p: Probe) -> str | None:
    task = _task_of(p.run.infos)
    if task is None:
        return None
    _, infos = p.env.reset(seed=p.seed + 1, options={"task": copy.deepcopy(task)})
    if not same(_task_of(infos), task):
        return "reset(options={'task': task}) does not set the tasks it was given."
    return None


def _singles(p: Probe) -> str | None:
    task, make_single = _task_of(p.run.infos), single_maker(p)
    if task is None or make_single is None:
        return None
    actions, batch = play_tasks(p, task)
    for row in range(p.env.num_envs):
        own_task = {name: values[row] for name, values in task.items()}
        own_actions = [step_actions[row] for step_actions in actions]
        single, again = (
            play_single(make_single, own_task, own_actions, p.seed + i) for i in range(2)
        )
        if not same(single, again):
            return None  # the seed matters although the task is given: a noisy environment
        for t, outcome in enumerate(single[: len(batch)]):
            if not same(outcome, batch[t][row], close=True):
                return f"row {row} differs from the single environment of its task at step {t}."
    return None


def _refuses(p: Probe, actions: Any) -> bool:
    p.env.reset(seed=p.seed)
    try:
        p.env.step(actions)
    except Exception:
        return True
    return False


def _actions_shape(p: Probe) -> str | None:
    actions = p.env.action_space.sample()
    if isinstance(actions, np.ndarray) and not _refuses(p, np.concatenate([actions, actions])):
        return f"actions for {2 * p.env.num_envs} rows were taken by {p.env.num_envs} rows."
    return None


def _actions_nan(p: Probe) -> str | None:
    space = p.env.action_space
    if not isinstance(space, gym.spaces.Box) or space.dtype.kind != "f":
        return None
    actions = space.sample()
    actions[-1] = np.nan
    return None if _refuses(p, actions) else "NaN among the actions was taken without an error."


RULES: dict[str, Callable[[Probe], str | None]] = {
    "metadata": _metadata,
    "spaces": _spaces,
    "returns": _returns,
    "finite": _finiteness,
    "observation": _observation,
    "flags": _flags,
    "info-masks": _info_masks,
    "seeding": _seeding,
    "episode-end": _episode_end,
    "autoreset-next-step": _next_step,
    "autoreset-same-step": _same_step,
    "autoreset-disabled": _disabled,
    "reset-mask": _reset_mask,
    "options": _options,
    "aliasing": _aliasing,
    "actions-kept": _actions_kept,
    "task": _task,
    "singles": _singles,
    "actions-shape": _actions_shape,
    "actions-nan": _actions_nan,
}
