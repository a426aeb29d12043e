"""How fast environments step, and what they take of the memory."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from matplotlib.figure import Figure

from metagym.files import write_figure
from speed_parts.timing import rate, ratios, show_ratio

ID = "LearnToOptimize-v0"
BANDIT = "MetaBandit-v0"
DIM, HISTORY = 10, 25
GOALS = {
    "batch_1024_over_kernel": ">= 0.5",
    "batch_1024_over_sync": "reported",
    "single_over_cartpole": ">= 0.12",
    "bandit_1024_over_cartpole": ">= 0.8",
}


def measure(repetitions: int, growth_steps: int, max_envs: int) -> dict[str, Any]:
    """Ratios, the table of batch sizes, and the growth of the memory.

    Args:
        repetitions: of each comparison.
        growth_steps: environment steps of the memory test.
        max_envs: the largest batch of the table.
    """
    n = repetitions
    return {
        "batch_1024_over_kernel": ratios(
            lambda: batch(1024, 300), lambda: bare_kernel(1024, 300), n
        ),
        "batch_1024_over_sync": ratios(
            lambda: batch(1024, 100), lambda: batch(64, 50, vectorization_mode="sync"), n
        ),
        "single_over_cartpole": ratios(
            lambda: single(ID, 5000), lambda: single("CartPole-v1", 20_000), n
        ),
        "bandit_1024_over_cartpole": ratios(
            lambda: batch(1024, 2000, BANDIT), lambda: batch(1024, 2000, "CartPole-v1"), n
        ),
        "table": table(max_envs),
        "growth": growth(growth_steps),
    }


def show(results: dict[str, Any]) -> str:
    """The lines that are printed of ``measure``."""
    lines = [show_ratio(name, results[name], goal) for name, goal in GOALS.items()]
    lines.append(f"\n{'envs':>6} {'steps/s':>12} {'kernel':>12} {'ratio':>6} {'bytes/env':>10}")
    for row in results["table"]:
        ours, kernel = row["steps_per_second"], row["kernel_per_second"]
        lines.append(
            f"{row['num_envs']:6} {ours:12,.0f} {kernel:12,.0f} {ours / kernel:6.2f}"
            f" {row['bytes_per_env']:10,.0f}"
        )
    grown = results["growth"]
    lines.append(
        f"\n{grown['steps']:,} steps: resident memory {grown['before_mb']:.1f} MB -> "
        f"{grown['after_mb']:.1f} MB ({grown['growth_mb']:+.1f} MB)"
    )
    return "\n".join(lines)


def bare_kernel(num_envs: int, steps: int) -> float:
    """Steps per second of the dynamics alone, written as tightly as numpy allows."""
    rng = np.random.default_rng(0)
    W = rng.standard_normal((num_envs, DIM, DIM), dtype=np.float32)
    y = rng.standard_normal((num_envs, DIM), dtype=np.float32)
    x = rng.standard_normal((num_envs, DIM), dtype=np.float32)
    delta = np.float32(1e-3) * rng.standard_normal((num_envs, DIM), dtype=np.float32)
    history = np.zeros((num_envs, 2, HISTORY, 1 + 2 * DIM), dtype=np.float32)
    window = history.reshape(num_envs, 2 * HISTORY, 1 + 2 * DIM)
    entry = np.empty((num_envs, 1 + 2 * DIM), dtype=np.float32)
    cursor = 0

    def step() -> np.ndarray:
        nonlocal x, cursor
        x += delta
        residual = np.matvec(W, x) - y
        entry[:, 0] = np.vecdot(residual, residual)
        np.vecmat(residual, W, out=entry[:, 1 : 1 + DIM])
        entry[:, 1 + DIM :] = delta
        history[:, :, cursor] = entry[:, None]
        cursor = (cursor + 1) % HISTORY
        return window[:, cursor : cursor + HISTORY].copy()

    return rate(step, steps) * num_envs


def batch(num_envs: int, steps: int, env_id: str = ID, **kwargs: Any) -> float:
    """Steps per second of a vector environment, resets included."""
    env = gym.make_vec(env_id, num_envs, **kwargs)
    env.reset(seed=0)
    actions = env.action_space.sample()
    if env_id == ID:
        actions = np.float32(0.01) * actions
    found = rate(lambda: env.step(actions), steps) * num_envs
    env.close()
    return found


def single(env_id: str, steps: int) -> float:
    """Steps per second of one environment through ``gym.make``, resets included."""
    env = gym.make(env_id)
    env.reset(seed=0)
    env.action_space.seed(0)
    sampled = [env.action_space.sample() for _ in range(64)]
    actions = sampled if env_id != ID else [np.float32(0.01) * action for action in sampled]
    count = 0

    def step() -> None:
        nonlocal count
        _, _, terminated, truncated, _ = env.step(actions[count % 64])
        count += 1
        if terminated or truncated:
            env.reset()

    found = rate(step, steps)
    env.close()
    return found


def table(max_envs: int) -> list[dict[str, float]]:
    """Throughput and bytes per environment, for powers of four."""
    rows = []
    size = 1
    while size <= max_envs:
        steps = max(60, min(5000, 400_000 // size))
        env = gym.make_vec(ID, size)
        env.reset(seed=0)
        held = sum(leaf.nbytes for leaf in _arrays(env.unwrapped.get_state()))
        env.close()
        rows.append(
            {
                "num_envs": size,
                "steps_per_second": float(np.median([batch(size, steps) for _ in range(3)])),
                "kernel_per_second": float(np.median([bare_kernel(size, steps) for _ in range(3)])),
                "bytes_per_env": held / size,
            }
        )
        size *= 4
    return rows


def _arrays(tree: Any) -> list[np.ndarray]:
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in _arrays(value)]
    return [tree] if isinstance(tree, np.ndarray) else []


def growth(steps: int, num_envs: int = 1024) -> dict[str, float]:
    """Resident memory (MB) after a warm-up and after ``steps`` environment steps."""
    env = gym.make_vec(ID, num_envs)
    env.reset(seed=0)
    actions = np.float32(0.01) * env.action_space.sample()
    for _ in range(300):
        env.step(actions)
    before = _resident_mb()
    for _ in range(steps // num_envs):
        env.step(actions)
    after = _resident_mb()
    env.close()
    return {"steps": steps, "before_mb": before, "after_mb": after, "growth_mb": after - before}


def _resident_mb() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # no /proc: the peak is all there is
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1e6 if sys.platform == "darwin" else 1e3)
    return pages * resource.getpagesize() / 1e6


def plot(rows: list[dict[str, float]], path: Path) -> None:
    """Throughput against the number of environments."""
    drawing = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    axes = drawing.subplots()
    sizes = [row["num_envs"] for row in rows]
    axes.loglog(sizes, [row["kernel_per_second"] for row in rows], "--", label="bare array kernel")
    axes.loglog(sizes, [row["steps_per_second"] for row in rows], "o-", label=ID)
    axes.set_xlabel("environments in the batch")
    axes.set_ylabel("environment steps per second, one thread")
    axes.grid(alpha=0.25, which="both")
    axes.legend(frameon=False)
    write_figure(path, drawing)
