"""Searches for cells with sb3-contrib's MaskablePPO, Zoph & Le's controller and at random.

    pip install -e '.[sb3-contrib]'
    python experiments/maskable_ppo.py --folder DATA
    python experiments/maskable_ppo.py --tune

All three write in NeuralArchitectureSearch-v0, on the table of the package and, where its files
are, on NAS-Bench-201. PPO acts in 10 rows through ``SB3VecEnv`` and learns from every 10
architectures; so does the controller (agents/controller.py). A search sees validation accuracies.
Reported are the mean of its last 100 architectures', and the test accuracy of its best by
validation, after 500 and after 2,000 architectures of one and the same search.

The settings were chosen by ``--tune``: on digits201 alone, by validation accuracies and with seeds
that are not in the table. On NAS-Bench-201 nothing was tuned.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro

from metagym.agents import controller
from metagym.architectures import Evaluation, Evaluator
from metagym.architectures.digits201 import Digits201
from metagym.architectures.nasbench201 import NASBench201
from metagym.envs.neural_architecture_search import NeuralArchitectureSearchVectorEnv
from metagym.errors import DataError, InvalidArgumentError, check_positive
from metagym.evaluation.results import command_line, git_state, machine, versions
from metagym.evaluation.statistics import Estimate, estimate, paired_difference
from metagym.files import write_atomically

ROWS = 10  # architectures to an update
WINDOW = 100  # architectures of a mean
TUNING_SEEDS = (100, 101)
TUNING_BUDGETS = (500, 1000)
INSTALL = "MaskablePPO comes with sb3-contrib: pip install -e '.[sb3-contrib]'."


@dataclass(frozen=True)
class PPOSettings:
    """Of MaskablePPO; what is not here is SB3's default.

    Args:
        learning_rate: of Adam.
        epochs: passes over the tokens of ``ROWS`` architectures, in one batch each.
    """

    learning_rate: float = 3e-3
    epochs: int = 4


PPO = PPOSettings()
CONTROLLER = controller.Config(num_envs=ROWS, learning_rate=6e-3, advantage="rank")
SETTINGS: dict[str, tuple[Any, ...]] = {  # that were tried
    "MaskablePPO": tuple(
        PPOSettings(rate, epochs) for rate in (3e-4, 1e-3, 3e-3) for epochs in (4, 10)
    ),
    "controller": tuple(
        dataclasses.replace(CONTROLLER, learning_rate=rate, advantage=advantage, entropy=entropy)
        for rate, advantage, entropy in (
            (6e-4, "raw", 0.0),
            (2e-3, "rank", 0.0),
            (6e-3, "rank", 0.0),
            (6e-3, "rank", 0.02),
            (0.015, "rank", 0.0),
            (0.03, "rank", 0.0),
        )
    ),
}


@dataclass(frozen=True)
class Config:
    """The experiment.

    Args:
        folder: of NAS-Bench-201's files; None: the folder that METAGYM_DATA names, if it is set.
        out: folder of table.md and results.json.
        seeds: how many searches of each method; they are 0, 1, …
        budgets: architectures; each a multiple of 10.
        tune: print what every setting reaches, and nothing else.
    """

    folder: Path | None = None
    out: Path = Path("results/maskable_ppo")
    seeds: int = 5
    budgets: tuple[int, ...] = (500, 2000)
    tune: bool = False

    def __post_init__(self) -> None:
        check_positive("seeds", self.seeds)
        for budget in self.budgets:
            if check_positive("budgets", budget) % ROWS:
                raise InvalidArgumentError(f"budgets={budget} has to be a multiple of {ROWS}.")


class Recorder(Evaluator):
    """A table that keeps what it was asked, in order.

    Attributes:
        validation, test: of all architectures so far.
    """

    def __init__(self, table: Evaluator) -> None:
        self.space, self.name, self._table = table.space, table.name, table
        self.validation: list[float] = []
        self.test: list[float] = []

    def evaluate(self, tokens: np.ndarray, seeds: np.ndarray | None = None) -> Evaluation:
        found = self._table.evaluate(tokens, seeds)
        self.validation += found.reward.tolist()
        self.test += found.test.tolist()
        return found


# -- the searches ----------------------------------------------------------------------------------


def search_at_random(table: Recorder, seed: int, count: int) -> None:
    """Every token uniform among those that may come next."""
    env = NeuralArchitectureSearchVectorEnv(ROWS, evaluator=table, autoreset_mode="SameStep")
    env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    while len(table.validation) < count:
        allowed = env.action_masks()
        env.step(np.where(allowed, rng.random(allowed.shape), -1.0).argmax(axis=1))


def search_with_ppo(table: Recorder, seed: int, count: int, settings: PPOSettings = PPO) -> None:
    """MaskablePPO on a batch; the only reward comes last, so nothing is discounted."""
    from sb3_contrib import MaskablePPO

    from metagym.rl.sb3 import SB3VecEnv

    env = NeuralArchitectureSearchVectorEnv(ROWS, evaluator=table, autoreset_mode="SameStep")
    length = table.space.length
    model = MaskablePPO(
        "MlpPolicy", SB3VecEnv(env), n_steps=length, batch_size=ROWS * length,
        n_epochs=settings.epochs, learning_rate=settings.learning_rate, gamma=1.0, gae_lambda=1.0,
        seed=seed, device="cpu",
    )  # fmt: skip
    model.learn(count * length)


def search_with_controller(
    table: Recorder, seed: int, count: int, settings: controller.Config = CONTROLLER
) -> None:
    """REINFORCE on an LSTM; its checkpoint and charts are thrown away."""

    class Search(NeuralArchitectureSearchVectorEnv):
        """With a table that no configuration file could name."""

        def __init__(self, num_envs: int = 1, **kwargs: Any) -> None:
            super().__init__(num_envs, evaluator=table, **kwargs)

    env_id = "MaskablePPOComparison-v0"
    gym.register(env_id, vector_entry_point=Search)
    try:
        with tempfile.TemporaryDirectory() as folder:
            steps = count * table.space.length
            controller.train(env_id, folder, settings, seed=seed, steps=steps, progress=False)
    finally:
        del gym.registry[env_id]


METHODS: dict[str, Callable[..., None]] = {
    "random search": search_at_random,
    "controller": search_with_controller,
    "MaskablePPO": search_with_ppo,
}


def run(search: Callable[..., None], table: Evaluator, seed: int, count: int) -> dict[str, Any]:
    """One search: all validation and test accuracies, and the seconds of this machine.

    Those of its processor tell how much work it was even where others use the machine too.
    """
    recorder, wall, cpu = Recorder(table), time.perf_counter(), time.process_time()
    search(recorder, seed, count)
    return {
        "validation": recorder.validation[:count], "test": recorder.test[:count],
        "wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu,
    }  # fmt: skip


def tune() -> None:
    """What every setting reaches on digits201; test accuracies are not looked at."""
    print(f"Mean validation accuracy of the last {WINDOW} architectures, seeds {TUNING_SEEDS}:")
    for method, choices in SETTINGS.items():
        for settings in choices:
            search = partial(METHODS[method], settings=settings)
            found = [run(search, Digits201(), seed, max(TUNING_BUDGETS)) for seed in TUNING_SEEDS]
            validation = 100 * np.array([result["validation"] for result in found])
            means = (
                f"{validation[:, budget - WINDOW : budget].mean():.2f} after {budget:,}"
                for budget in TUNING_BUDGETS
            )
            print(f"{method}, {', '.join(means)}: {settings}", flush=True)


# -- the table -------------------------------------------------------------------------------------


def tables(folder: Path | None) -> Iterator[Evaluator]:
    """Those that are there."""
    yield Digits201()
    try:
        yield NASBench201(folder)
    except DataError as error:
        print(f"Without NAS-Bench-201: {error}")


def summary(result: dict[str, Any], budget: int) -> dict[str, float]:
    """The columns of the table for the first ``budget`` architectures of a search."""
    validation, test = (np.array(result[name][:budget]) for name in ("validation", "test"))
    best, share = int(np.argmax(validation)), budget / len(result["validation"])
    return {
        f"validation, last {WINDOW}": 100 * float(validation[-WINDOW:].mean()),
        "validation of the best": 100 * float(validation[best]),
        "test of the best": 100 * float(test[best]),
        "wall seconds": result["wall_seconds"] * share,
        "CPU seconds": result["cpu_seconds"] * share,
    }


def lines(benchmark: str, results: dict[str, list[dict[str, Any]]], budget: int) -> Iterator[str]:
    """The table's lines for one benchmark and budget; the last one compares PPO, in pairs."""
    columns = {name: [summary(result, budget) for result in runs] for name, runs in results.items()}
    for method, found in columns.items():
        cells = [_cell(estimate([row[name] for row in found])) for name in found[0]]
        yield f"| {benchmark} | {budget:,} | {method} | {' | '.join(cells)} |"
    ours = columns["MaskablePPO"]
    for other in ("controller", "random search"):
        pairs = [
            paired_difference([row[name] for row in ours], [row[name] for row in columns[other]])
            for name in ours[0]
        ]
        cells = [_cell(pair, "+") for pair in pairs]
        yield f"| {benchmark} | {budget:,} | *MaskablePPO - {other}* | {' | '.join(cells)} |"


def _cell(value: Estimate, sign: str = "") -> str:
    mean, low, high = (f"{number:{sign}.2f}" for number in value)
    return f"{mean} [{low}, {high}]"


def main(config: Config) -> None:
    """Search, print; write table.md and results.json."""
    if importlib.util.find_spec("sb3_contrib") is None:
        print(INSTALL)
        return
    torch.set_num_threads(1)
    if config.tune:
        tune()
        return
    nothing = {"validation": [0.0], "test": [0.0], "wall_seconds": 0.0, "cpu_seconds": 0.0}
    names = list(summary(nothing, 1))
    printed = [
        f"| benchmark | architectures | method | {' | '.join(names)} |",
        f"|---|--:|---|{'--:|' * len(names)}",
    ]
    print("\n".join(printed))
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for table in tables(config.folder):
        results[table.name] = {
            method: [run(search, table, seed, max(config.budgets)) for seed in range(config.seeds)]
            for method, search in METHODS.items()
        }
        for budget in sorted(config.budgets):
            more = list(lines(table.name, results[table.name], budget))
            print("\n".join(more), flush=True)
            printed += more
    commit, dirty = git_state()
    content = {
        "config": {name: str(value) for name, value in vars(config).items()},
        "MaskablePPO": dataclasses.asdict(PPO), "controller": dataclasses.asdict(CONTROLLER),
        "command": command_line(sys.argv), "git_commit": commit, "git_dirty": dirty,
        "versions": versions(), "device": f"cpu, {machine()}", "results": results,
    }  # fmt: skip
    write_atomically(config.out / "table.md", ("\n".join(printed) + "\n").encode())
    write_atomically(config.out / "results.json", json.dumps(content).encode())
    print(
        f"\nAccuracies in percent; [95 % interval of the mean over {config.seeds} searches]. The "
        f"seconds are those of {max(config.budgets):,} architectures, in proportion.\n"
        f"Written to {config.out}."
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
