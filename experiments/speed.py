"""How fast the environments step: ratios taken in one run on one thread of one machine.

    python experiments/speed.py --out results/speed

1. ``gym.make_vec("LearnToOptimize-v0", num_envs=1024)`` against the bare array kernel: value,
   gradient, history write and one copy of the observation, with no environment around it;
   and against a SyncVectorEnv of singles.
2. ``gym.make("LearnToOptimize-v0")`` against ``gym.make("CartPole-v1")``.
3. ``gym.make_vec("MetaBandit-v0", num_envs=1024)`` against CartPole-v1's own vector environment.
4. RL²'s training on MetaBandit-v0 against sb3-contrib's RecurrentPPO: one LSTM of 48 units for
   policy and value, 4 epochs; the number of environments and the minibatch are the fastest of a
   grid for each. RecurrentPPO runs twice: as SB3 makes environments, ``make_vec_env``, and on our
   batch through ``SB3VecEnv``.
5. Throughput and memory from 1 to 65,536 environments, as a table and a plot.
6. Resident memory over ten million steps.

Contestants take turns within every repetition, so a change of the machine's speed meets all of
them; each ratio is the median over the repetitions, with the smallest and the largest.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib.util
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tyro
from matplotlib.figure import Figure

import metagym  # noqa: F401
from metagym.agents import rl2 as agent

BANDIT = "MetaBandit-v0"
ID = "LearnToOptimize-v0"
DIM, HISTORY = 10, 25
SIZES: dict[str, tuple[tuple[int, int], ...]] = {  # environments, trials to a minibatch
    "rl2": ((1024, 256), (1024, 1024), (4096, 1024)),
    "rl2_over_recurrent_ppo": ((64, 64), (128, 128)),
    "the_same_on_our_batch": ((128, 128), (1024, 256), (1024, 1024)),
}


@dataclass(frozen=True)
class Config:
    """What to measure.

    Args:
        out: folder for speed.json and speed.png.
        repetitions: of each comparison.
        training_repetitions: of the comparisons of training, which take longer.
        growth_steps: environment steps of the memory test.
        max_envs: the largest batch of the table.
    """

    out: Path = Path("results/speed")
    repetitions: int = 7
    training_repetitions: int = 5
    growth_steps: int = 10_000_000
    max_envs: int = 65_536


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

    return _rate(step, steps) * num_envs


def batch(num_envs: int, steps: int, env_id: str = ID, **kwargs: Any) -> float:
    """Steps per second of a vector environment, resets included."""
    env = gym.make_vec(env_id, num_envs, **kwargs)
    env.reset(seed=0)
    actions = env.action_space.sample()
    if env_id == ID:
        actions = np.float32(0.01) * actions
    rate = _rate(lambda: env.step(actions), steps) * num_envs
    env.close()
    return rate


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

    rate = _rate(step, steps)
    env.close()
    return rate


def _rate(step: Callable[[], Any], steps: int) -> float:
    for _ in range(max(1, steps // 10)):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return steps / (time.perf_counter() - start)


def ratios(
    a: Callable[[], float], b: Callable[[], float], repetitions: int
) -> dict[str, list[float] | float]:
    """a/b, measured in turns: median, smallest and largest ratio, and the median rates."""
    pairs = [(a(), b()) for _ in range(repetitions)]
    quotients = sorted(x / y for x, y in pairs)
    return {
        "median": float(np.median(quotients)),
        "range": [quotients[0], quotients[-1]],
        "rates": np.median(np.array(pairs), axis=0).tolist(),
    }


def rl2(num_envs: int, minibatch: int, iterations: int) -> float:
    """Steps per second of RL²'s training: trials played and learned from."""
    config = agent.Config(core="lstm", num_envs=num_envs, minibatch=minibatch, device="cpu")

    def run(count: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            steps = 10 * num_envs * count
            agent.train(BANDIT, folder, config, steps=steps, progress=False)

    started = _seconds(lambda: run(1))
    return 10 * num_envs * iterations / (_seconds(lambda: run(1 + iterations)) - started)


def recurrent_ppo(num_envs: int, minibatch: int, iterations: int, *, stock: bool) -> float:
    """Steps per second of sb3-contrib's RecurrentPPO; ``minibatch`` counts trials, as ours."""
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.env_util import make_vec_env

    from metagym.rl.sb3 import SB3VecEnv

    env = (
        make_vec_env(BANDIT, num_envs)
        if stock
        else SB3VecEnv(gym.make_vec(BANDIT, num_envs, autoreset_mode="SameStep"))
    )
    model = RecurrentPPO(
        "MlpLstmPolicy", env, n_steps=10, batch_size=10 * minibatch, n_epochs=agent.Config.epochs,
        learning_rate=1e-3, gamma=1.0, device="cpu",
        policy_kwargs={"lstm_hidden_size": agent.Config.width, "net_arch": [],
                       "shared_lstm": True, "enable_critic_lstm": False},
    )  # fmt: skip
    model.learn(10 * num_envs)
    seconds = _seconds(lambda: model.learn(10 * num_envs * iterations))
    env.close()
    return 10 * num_envs * iterations / seconds


def fastest(train: Callable[[int, int, int], float], sizes: tuple[tuple[int, int], ...]) -> Any:
    """``train`` with the number of environments and the minibatch that are fastest."""
    rates = {size: max(train(*size, 2) for _ in range(2)) for size in sizes}
    best = max(rates, key=lambda size: rates[size])
    print(f"  environments, trials to a minibatch: {best} of {', '.join(map(str, sizes))}")
    return lambda: train(*best, 3)


def training(repetitions: int) -> dict[str, Any]:
    """RL² against RecurrentPPO, on SB3's own environments and on our batch."""
    ours = fastest(rl2, SIZES["rl2"])
    results = {}
    for name, stock in (("rl2_over_recurrent_ppo", True), ("the_same_on_our_batch", False)):
        theirs = fastest(partial(recurrent_ppo, stock=stock), SIZES[name])
        results[name] = ratios(ours, theirs, repetitions)
    return results


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


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
    drawing.savefig(path)


def main(config: Config) -> None:
    """Measure, print, and write speed.json and speed.png."""
    n = config.repetitions
    results: dict[str, Any] = {
        "config": {**asdict(config), "out": str(config.out)},
        "batch_1024_over_kernel": ratios(
            lambda: batch(1024, 300), lambda: bare_kernel(1024, 300), n
        ),
        "batch_1024_over_sync": ratios(
            lambda: batch(1024, 100), lambda: batch(64, 50, vectorization_mode="sync"), n
        ),
        "single_over_cartpole": ratios(
            lambda: single(ID, 5000), lambda: single("CartPole-v1", 20_000), n
        ),
    }
    results["bandit_1024_over_cartpole"] = ratios(
        lambda: batch(1024, 2000, BANDIT), lambda: batch(1024, 2000, "CartPole-v1"), n
    )
    if importlib.util.find_spec("sb3_contrib") is None:
        print("RecurrentPPO is left out: pip install metagym-envs[sb3-contrib].")
    else:
        results |= training(config.training_repetitions)
    for name, goal in (
        ("batch_1024_over_kernel", ">= 0.5"),
        ("batch_1024_over_sync", "reported"),
        ("single_over_cartpole", ">= 0.12"),
        ("bandit_1024_over_cartpole", ">= 0.8"),
        ("rl2_over_recurrent_ppo", ">= 12"),
        ("the_same_on_our_batch", "reported"),
    ):
        if name not in results:
            continue
        ratio = results[name]
        low, high = ratio["range"]
        a, b = ratio["rates"]
        print(
            f"{name:26} {ratio['median']:7.2f}  [{low:.2f}, {high:.2f}]  goal {goal:8}"
            f"  {a:12,.0f} / {b:,.0f} steps/s"
        )
    results["table"] = table(config.max_envs)
    print(f"\n{'envs':>6} {'steps/s':>12} {'kernel':>12} {'ratio':>6} {'bytes/env':>10}")
    for row in results["table"]:
        rate, kernel = row["steps_per_second"], row["kernel_per_second"]
        print(
            f"{row['num_envs']:6} {rate:12,.0f} {kernel:12,.0f} {rate / kernel:6.2f}"
            f" {row['bytes_per_env']:10,.0f}"
        )
    results["growth"] = growth(config.growth_steps)
    grown = results["growth"]
    print(
        f"\n{grown['steps']:,} steps: resident memory {grown['before_mb']:.1f} MB -> "
        f"{grown['after_mb']:.1f} MB ({grown['growth_mb']:+.1f} MB)"
    )
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "speed.json").write_text(json.dumps(results, indent=2) + "\n")
    plot(results["table"], config.out / "speed.png")
    print(f"Written to {config.out}.")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
