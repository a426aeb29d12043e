"""Stable-Baselines3's own PPO on the tasks of a suite, for a row of the board beside ours.

    python experiments/sb3_suite.py --suite core-v0 --out runs/sb3-ppo
    metagym leaderboard run runs/sb3-ppo core-v0 --trust --out runs/sb3-ppo-row --name "SB3 PPO"

One model for each task and seed, as the suite asks: on the train split, for its ``training_steps``.
All hyperparameters but two are SB3's defaults, and none was tuned. The native batch's 16 rows of
125 steps stand for its 2,048 steps of one environment, since core-v0 divides by them; minibatches
have 500 steps instead of 64, or a suite would take hours of a core. What is there already is kept,
so that the same command goes on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import torch
import tyro
from stable_baselines3 import PPO

from metagym.errors import InvalidArgumentError, check_choice
from metagym.evaluation.suites import SuiteTask, make_suite
from metagym.rl.sb3 import SB3VecEnv

ROWS, STEPS, MINIBATCH = 16, 125, 500


@dataclass(frozen=True)
class Config:
    """The experiment.

    Args:
        suite: by name.
        out: folder of TASK/seedN.zip.
        tasks: which ones; all of them by default.
    """

    suite: str = "core-v0"
    out: Path = Path("runs/sb3-ppo")
    tasks: tuple[str, ...] = ()


def main(config: Config) -> None:
    """Train what is not there yet."""
    suite = make_suite(config.suite)
    tasks = {task.name: task for task in suite.tasks if not task.held_out}
    for name in config.tasks:
        check_choice("tasks", name, tasks)
    if few_shot := [name for name in config.tasks or tasks if tasks[name].kind == "few_shot"]:
        raise InvalidArgumentError(f"{few_shot[0]} is learned from few examples, not by PPO.")
    torch.set_num_threads(1)
    for name in config.tasks or tasks:
        for run, seed in enumerate(suite.seeds):
            path = config.out / name / f"seed{seed}.zip"
            if not path.exists():
                start = time.perf_counter()
                train(tasks[name], run, path)
                print(f"{path}: {time.perf_counter() - start:.0f} s", flush=True)


def train(task: SuiteTask, seed: int, path: Path) -> None:
    """A model of SB3's defaults, saved whole or not at all; no step more than the suite gives."""
    steps = min(STEPS, task.training_steps // ROWS)
    rollouts = task.training_steps // (steps * ROWS)
    env = gym.make_vec(
        task.env_id, ROWS, split="train", autoreset_mode="SameStep", **dict(task.kwargs)
    )
    model = PPO(
        "MlpPolicy", SB3VecEnv(env), n_steps=steps, batch_size=min(MINIBATCH, steps * ROWS),
        seed=seed, device="cpu",
    )  # fmt: skip
    model.learn(rollouts * steps * ROWS)
    env.close()
    unfinished = path.with_name(f"new-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(unfinished)
    unfinished.replace(path)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
