"""``evaluate``: one agent, one environment, one episode per row, and a Result.

Autoreset is off, the seeds are those of the evaluation and noise is drawn for every row at every
step: agents that are evaluated with the same seed, episodes and num_envs meet the same tasks and
the same noise, so that their scores are pairs.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from metagym.core import Agent, BatchedEnv
from metagym.errors import InvalidArgumentError, check_positive
from metagym.evaluation import statistics
from metagym.evaluation.results import Result, ResultError, jsonable, machine

# An episode without an end would keep us forever.
MAX_STEPS = 1_000_000
_RETURN = ("return", False)  # the metric, and whether smaller is better
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def evaluate(
    agent: Agent,
    env_id: str,
    split: str = "test",
    episodes: int = 100,
    seed: int = 0,
    *,
    num_envs: int | None = None,
    curves: bool = False,
    target: float | None = None,
    group: int = 1,
    **env_kwargs: Any,
) -> Result:
    """Run ``agent`` for ``episodes`` episodes of ``env_id`` and say how it did.

    The score of an episode is what the environment reports as ``info["score"]`` at its end, or
    the return where it reports none. Any Gymnasium id works; those that are not metagym's have
    no splits.

    Args:
        agent: see ``metagym.core.Agent``. A privileged one receives each batch's tasks through
            ``observe_task(task, mask)``.
        env_id: a registered id.
        split: "train", "validation" or "test".
        episodes: how many.
        seed: determines, with ``num_envs``, all tasks and all noise.
        num_envs: rows per batch; by default ``episodes``, at most 1024.
        curves: keep, per step, the mean and quantiles over episodes of
            log10(loss - lower + 1e-12), where the environment tells its loss. An episode that is
            over counts with its last loss.
        target: of that same quantity. extras["steps_to_target"] is the first step at which it is
            at or below it (0 is the start), extras["target_reached"] whether there was one. An
            episode that never gets there counts horizon + 1 steps, however early it diverged, so
            that the mean of a ``group`` stays a time: the restricted mean of survival analysis.
        group: so many consecutive episodes make one score, their mean, so that the Result of a
            million short episodes stays small; ``episodes`` has to be a multiple of it.
        **env_kwargs: arguments of the environment.

    Raises:
        InvalidArgumentError: an argument has an impossible value.
        ResultError: a score is not finite, or an episode does not end within a million steps.
        gymnasium.error.Error: there is no such id.
    """
    episodes = check_positive("episodes", episodes)
    rows = min(episodes, 1024) if num_envs is None else check_positive("num_envs", num_envs)
    if target is not None and not np.isfinite(target):
        raise InvalidArgumentError(f"target={target!r} has to be a finite number.")
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or seed < 0:
        raise InvalidArgumentError(f"seed={seed!r} has to be a whole number of at least 0.")
    if episodes % check_positive("group", group):
        raise InvalidArgumentError(
            f"episodes={episodes} is no multiple of group={group}: every score is the mean of "
            "as many episodes."
        )
    start = time.perf_counter()
    env = make_vector_env(env_id, rows, split, env_kwargs)
    metric = (env.score_name, env.score_minimize) if isinstance(env, BatchedEnv) else _RETURN
    try:
        if hasattr(agent, "bind"):
            agent.bind(env)
        batches = [
            _run_batch(agent, env, int(batch_seed), curves, target)
            for batch_seed in np.random.SeedSequence(seed).generate_state(-(-episodes // rows))
        ]
    finally:
        env.close()
    episode = _concatenate(batches, episodes)
    if group > 1:
        episode = {
            name: values.reshape(-1, group, *values.shape[1:]).mean(axis=1)
            for name, values in episode.items()
        }
    return _result(
        agent, episode, metric,
        env_id=env_id, env_kwargs=env_kwargs, split=getattr(env, "split", None),
        seed=int(seed), num_envs=rows, group=group, episodes=episodes,
        wall_time_s=time.perf_counter() - start,
    )  # fmt: skip


def make_vector_env(
    env_id: str, num_envs: int, split: str, env_kwargs: dict[str, Any]
) -> VectorEnv:
    """The vector environment: ours with autoreset off, others as SyncVectorEnv makes them.

    Raises:
        InvalidArgumentError: the environment does not take ``env_kwargs``.
        gymnasium.error.Error: there is no such id.
    """
    for name in ("num_envs", "split", "autoreset_mode"):
        if name in env_kwargs:
            raise InvalidArgumentError(f"env_kwargs cannot hold {name!r}; it is set elsewhere.")
    try:
        if _is_ours(env_id):
            off = AutoresetMode.DISABLED
            return gym.make_vec(env_id, num_envs, split=split, autoreset_mode=off, **env_kwargs)
        return gym.make_vec(env_id, num_envs, vectorization_mode="sync", **env_kwargs)
    except ImportError as error:
        raise InvalidArgumentError(f"{env_id} cannot be loaded: {error}.") from error
    except TypeError as error:
        raise InvalidArgumentError(f"{env_id} cannot take {env_kwargs}: {error}.") from error


def _is_ours(env_id: str) -> bool:
    module, _, name = env_id.rpartition(":")
    if module:
        importlib.import_module(module)
    spec = gym.registry.get(name)
    creator: Any = None if spec is None else spec.vector_entry_point
    if isinstance(creator, str):
        creator = gym.envs.registration.load_env_creator(creator)
    creator = getattr(creator, "func", creator)  # a functools.partial of a class
    return isinstance(creator, type) and issubclass(creator, BatchedEnv)


def _run_batch(
    agent: Agent, env: VectorEnv, seed: int, curves: bool, target: float | None
) -> dict[str, np.ndarray]:
    """One episode in every row: arrays [B] by name, and "curve" [B, steps + 1]."""
    ours = isinstance(env, BatchedEnv)
    everyone = np.ones(env.num_envs, dtype=bool)
    observations, infos = env.reset(seed=seed)
    agent.reset(everyone)
    if getattr(agent, "privileged", False):
        agent.observe_task(infos["task"], everyone)  # type: ignore[attr-defined]
    running = everyone.copy()
    returns, lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, dtype=np.int64)
    end: dict[str, np.ndarray] = {}
    tells = ours and "loss" in infos
    if target is not None and not (tells and getattr(env, "horizon", None)):
        raise InvalidArgumentError(
            f"target={target!r} needs an environment of ours that tells its loss and has a "
            "horizon, such as LearnToOptimize-v0; leave it out."
        )
    curve = _Curve(env, infos) if tells and (curves or target is not None) else None
    last_actions: np.ndarray | None = None
    while running.any():
        if lengths.max() >= MAX_STEPS:
            raise ResultError(f"Some episodes have no end: {running.sum()} run after {MAX_STEPS}.")
        actions = np.array(agent.act(observations, _action_masks(env, infos)))
        if last_actions is not None and ours:
            # Frozen rows ignore their action, but it is checked; agents need not care.
            actions[~running] = last_actions[~running]
        last_actions = actions
        observations, rewards, terminated, truncated, infos = env.step(actions)
        returns[running] += rewards[running]
        lengths += running
        over = running & (terminated | truncated)
        if curve is not None:
            curve.append(infos["loss"], running)
        if over.any():
            _note_end(end, infos, over)
            running &= ~over
    batch = {"return": returns, "length": lengths, **end}
    if curve is None:
        return batch
    gaps = curve.log10()
    if target is not None:
        low = gaps <= target
        reached: np.ndarray = np.asarray(low.any(axis=1))
        never = env.unwrapped.horizon + 1.0  # type: ignore[attr-defined]
        batch["target_reached"] = reached
        batch["steps_to_target"] = np.where(reached, low.argmax(axis=1), never)
    if curves:
        batch["curve"] = gaps
    return batch


def _note_end(end: dict[str, np.ndarray], infos: dict[str, Any], over: np.ndarray) -> None:
    """Keep what ``infos`` says of the rows whose episode is over: numbers or flags, [B, ...]."""
    for name, values in infos.items():
        if name[0] == "_" or not isinstance(values, np.ndarray):
            continue
        told = over & infos.get("_" + name, over)
        if values.shape[:1] == over.shape and values.dtype.kind in "biuf" and told.any():
            end.setdefault(name, np.zeros_like(values))[told] = values[told]


def _concatenate(batches: list[dict[str, np.ndarray]], episodes: int) -> dict[str, np.ndarray]:
    """The first ``episodes`` rows of all batches; curves are drawn out to the longest."""
    if all("curve" in batch for batch in batches):
        steps = max(batch["curve"].shape[1] for batch in batches)
        for batch in batches:
            missing = steps - batch["curve"].shape[1]
            batch["curve"] = np.pad(batch["curve"], ((0, 0), (0, missing)), mode="edge")
    names = set.intersection(*(set(batch) for batch in batches))
    return {name: np.concatenate([batch[name] for batch in batches])[:episodes] for name in names}


def _action_masks(env: VectorEnv, infos: dict[str, Any]) -> np.ndarray | None:
    """The masks [B, n] (bool) of the actions that are legal now, if the environment has any."""
    if hasattr(env.unwrapped, "action_masks"):
        masks: np.ndarray = env.unwrapped.action_masks()
        return masks
    return infos["action_mask"].astype(bool) if "action_mask" in infos else None


class _Curve:
    """The losses of one batch by step; rows that are over keep their last one."""

    def __init__(self, env: VectorEnv, infos: dict[str, Any]) -> None:
        problem = getattr(env.unwrapped, "problem", None)
        lower = 0.0 if problem is None else problem.lower(infos["task"])
        self._lower = np.broadcast_to(lower, (env.num_envs,)).astype(np.float64)
        self._losses = [infos["loss"].astype(np.float64)]

    def append(self, loss: np.ndarray, running: np.ndarray) -> None:
        self._losses.append(np.where(running, loss, self._losses[-1]))

    def log10(self) -> np.ndarray:
        """log10(loss - lower + 1e-12), [B, steps + 1]."""
        gap = np.maximum(np.array(self._losses) - self._lower, 0.0)
        return np.log10(gap + 1e-12).T


def _result(
    agent: Agent,
    episode: dict[str, np.ndarray],
    metric: tuple[str, bool],
    *,
    episodes: int,
    **known: Any,
) -> Result:
    # A foreign environment may well say "score" of something else.
    scores = episode["score" if metric != _RETURN else "return"].astype(np.float64)
    name = getattr(agent, "name", type(agent).__name__)
    if not np.isfinite(scores).all():
        raise ResultError(
            f"{int((~np.isfinite(scores)).sum())} of the {len(scores)} scores of {name} on "
            f"{known['env_id']} are not finite."
        )
    config = jsonable(dict(getattr(agent, "config", {})))
    own = ("score", "return", "length", "curve")
    return Result(
        agent=name,
        agent_config=config,
        privileged=bool(getattr(agent, "privileged", False)),
        training=jsonable(getattr(agent, "training", config.get("training"))),
        metric=metric[0],
        minimize=metric[1],
        scores=scores.tolist(),
        mean=float(statistics.mean(scores)),
        iqm=float(statistics.iqm(scores)),
        interval=statistics.bootstrap_interval(scores),
        iqm_interval=statistics.bootstrap_interval(scores, statistics.iqm),
        returns=episode["return"].tolist(),
        lengths=episode["length"].tolist(),
        extras={key: jsonable(episode[key]) for key in sorted(episode) if key not in own},
        curves=_summary(episode["curve"]) if "curve" in episode else None,
        env_steps=round(float(episode["length"].mean()) * episodes),
        finished=True,
        device=f"{getattr(agent, 'device', 'cpu')}, {machine()}",
        **{**known, "env_kwargs": jsonable(known["env_kwargs"])},
    )


def _summary(curve: np.ndarray) -> dict[str, Any]:
    """Mean and quantiles over the episodes, at each step; five digits are enough to draw."""
    rows = np.quantile(curve, QUANTILES, axis=0)
    return {
        "quantity": "log10(loss - lower + 1e-12)",
        "mean": curve.mean(axis=0).round(5).tolist(),
        "quantiles": {
            str(q): row.round(5).tolist() for q, row in zip(QUANTILES, rows, strict=True)
        },
    }
