"""How fast RL² trains, against sb3-contrib's RecurrentPPO."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym

from metagym.agents import rl2 as agent
from speed_parts.timing import Contestant, ratios, seconds, show_ratio

BANDIT = "MetaBandit-v0"
SIZES: dict[str, tuple[tuple[int, int], ...]] = {  # environments, trials to a minibatch
    "rl2": ((1024, 256), (1024, 1024), (4096, 1024)),
    "rl2_over_recurrent_ppo": ((64, 64), (128, 128)),
    "the_same_on_our_batch": ((128, 128), (1024, 256), (1024, 1024)),
}
GOALS = {"rl2_over_recurrent_ppo": ">= 12", "the_same_on_our_batch": "reported"}


def measure(repetitions: int) -> dict[str, Any]:
    """RL² against RecurrentPPO, on SB3's own environments and on our batch."""
    if importlib.util.find_spec("sb3_contrib") is None:
        return {}
    ours = fastest(rl2, SIZES["rl2"])
    results = {}
    for name, stock in (("rl2_over_recurrent_ppo", True), ("the_same_on_our_batch", False)):
        theirs = fastest(partial(recurrent_ppo, stock=stock), SIZES[name])
        results[name] = ratios(ours, theirs, repetitions)
    return results


def show(results: dict[str, Any]) -> str:
    """The lines that are printed of ``measure``."""
    if not results:
        return "RecurrentPPO is left out: pip install -e '.[sb3-contrib]'."
    return "\n".join(show_ratio(name, results[name], goal) for name, goal in GOALS.items())


def rl2(num_envs: int, minibatch: int, iterations: int) -> float:
    """Steps per second of RL²'s training: trials played and learned from."""
    config = agent.Config(core="lstm", num_envs=num_envs, minibatch=minibatch, device="cpu")

    def run(count: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            steps = 10 * num_envs * count
            agent.train(BANDIT, folder, config, steps=steps, progress=False)

    started = seconds(lambda: run(1))
    return 10 * num_envs * iterations / (seconds(lambda: run(1 + iterations)) - started)


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
    taken = seconds(lambda: model.learn(10 * num_envs * iterations))
    env.close()
    return 10 * num_envs * iterations / taken


def fastest(
    train: Callable[[int, int, int], float], sizes: tuple[tuple[int, int], ...]
) -> Contestant:
    """``train`` with the number of environments and the minibatch that are fastest."""
    rates = {size: max(train(*size, 2) for _ in range(2)) for size in sizes}
    best = max(rates, key=lambda size: rates[size])
    print(f"  environments, trials to a minibatch: {best} of {', '.join(map(str, sizes))}")
    return lambda: train(*best, 3)
