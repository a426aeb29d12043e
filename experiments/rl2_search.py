"""RL² learns to search on digits201 and is tested on NAS-Bench-201, where nothing was tuned.

    python experiments/rl2_search.py --folder DATA

Tokens mean something else in every trial, the same at all places: all that the searcher can bring
along is how to search, and what goes well together on digits. It sees ranks within its own trial,
which have the same scale everywhere, and draws its tokens from its distribution. Tests have
trainings, and orders of tokens, that meta-training has not seen.

Beside it: searchers that were not trained, with the same number of architectures on digits201,
whatever they cost, and the same simulated seconds on NAS-Bench-201.

What is in --out already is not computed again, and a training goes on where it was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from metagym.agents import rl2
from metagym.agents.architecture_search import search
from metagym.agents.recurrent import RecurrentAgent
from metagym.architectures import Evaluator
from metagym.architectures.digits201 import Digits201
from metagym.architectures.nasbench201 import NASBench201
from metagym.checkpoint import CONFIG, read_config
from metagym.errors import CheckpointError, DataError
from metagym.evaluation import Result, evaluate
from tabular_search import METHODS, describe, markdown

ID = "ArchitectureSearchTrial-v0"
N = 128  # architectures of a trial
ENOUGH = 256  # where seconds are the budget
BUDGETS = (12_000, 20_000)  # simulated seconds on NAS-Bench-201
SHUFFLE = "tokens"
BESIDE = ("random search", "REA", "local search", "randomised values")


@dataclass(frozen=True)
class Config:
    """The experiment.

    Args:
        folder: of NAS-Bench-201's files; None: the folder that METAGYM_DATA names.
        out: folder of checkpoints, results and the table.
        seconds: of each meta-training; None: as many steps as the recipe says.
        n: architectures of a trial.
        runs: test trials, and searches of the methods beside them.
        seed: of trainings and tests.
    """

    folder: Path | None = None
    out: Path = Path("results/rl2_search")
    seconds: float | None = None
    n: int = N
    runs: int = 500
    seed: int = 0


def main(config: Config) -> None:
    """Train, test, print; write results and table.md."""
    try:
        bench: Evaluator | None = NASBench201(config.folder)
    except DataError as error:
        print(f"Without NAS-Bench-201: {error}")
        bench = None
    columns = [f"digits201, {config.n} architectures"]
    if bench is not None:
        columns += [f"NAS-Bench-201, CIFAR-10, {budget:,} s" for budget in BUDGETS]
    head = ("searcher", *columns, "meta-training")
    lines = [markdown(head), markdown("---" for _ in head)]
    for name, cells, cost in [*beside(bench, config), trained(bench is not None, config)]:
        lines.append(markdown((name, *cells, cost)))
    lines.append(
        f"\nTest accuracy of the best by validation, {config.runs} runs: mean±standard deviation "
        "[95 % interval of the mean]. Meta-training saw digits201 only."
    )
    text = "\n".join(lines)
    (config.out / "table.md").write_text(text + "\n")
    print(text)


def beside(bench: Evaluator | None, config: Config) -> Iterator[tuple[str, list[str], str]]:
    """The rows of the searchers that need no training."""
    config.out.mkdir(parents=True, exist_ok=True)
    for name in BESIDE:
        rng = np.random.default_rng(config.seed)
        digits = search(
            METHODS[name](), Digits201(), rng, budget_evaluations=config.n, runs=config.runs
        )
        cells = [describe(digits.test[-1])]
        if bench is not None:
            rng = np.random.default_rng(config.seed)
            found = search(
                METHODS[name](), bench, rng, budget_seconds=BUDGETS[-1], runs=config.runs
            )
            cells += [describe(found.at(budget).test) for budget in BUDGETS]
        yield name, cells, "none"


def trained(with_bench: bool, config: Config) -> tuple[str, list[str], str]:
    """The row of RL², trained here unless it is in ``config.out`` already."""
    folder = config.out / "rl2"
    seen = {"n": config.n, "scores": "rank", "shuffle": SHUFFLE}
    training = train(folder, {**seen, "reward": "rarity"}, config)
    places: list[tuple[str, dict[str, Any]]] = [("digits201", {})]
    if with_bench:
        named = {} if config.folder is None else {"folder": str(config.folder)}
        bench = {"evaluator": "nasbench201", "evaluator_kwargs": named, "n": ENOUGH}
        places += [(f"cifar10-{budget}", {**bench, "budget_seconds": budget}) for budget in BUDGETS]
    results = [test(folder, place, {**seen, **kwargs}, config) for place, kwargs in places]
    # Each step writes a token; an architecture that the training read had a training of its own.
    read = training["steps"] // Digits201().space.length
    cost = f"{training['steps'] / 1e6:.0f} M steps, {training['seconds'] / 60:.0f} min"
    cost += f", {read / 1e6:.1f} M look-ups"
    return "RL²", [describe(np.array(result.scores)) for result in results], cost


def train(folder: Path, env_kwargs: dict[str, Any], config: Config) -> dict[str, Any]:
    """Meta-train as far as is missing; returns the training's record.

    Raises:
        CheckpointError: the folder holds a policy of another setting.
    """
    there = (folder / CONFIG).is_file()
    if there and (found := read_config(folder)["env_kwargs"]) != env_kwargs:
        raise CheckpointError(
            f"{folder} was trained with {found}, not {env_kwargs}: choose another --out."
        )
    record = read_config(folder)["training"] if there else {"steps": 0, "seconds": 0.0}
    steps = rl2.recipe(ID).steps if config.seconds is None else None
    left = None if config.seconds is None else config.seconds - record["seconds"]
    # Of an interrupted training, what is left of a second is not worth going on.
    enough = there and (record["steps"] >= steps if steps else (left or 0.0) < 1.0)
    if not enough:
        rl2.train(
            ID, folder, seed=config.seed, steps=steps, seconds=left, resume=there,
            env_kwargs=env_kwargs,
        )  # fmt: skip
        record = read_config(folder)["training"]
    return dict(record)


def test(folder: Path, place: str, env_kwargs: dict[str, Any], config: Config) -> Result:
    """The searches of a trained policy on the test split, from its file if it holds the same."""
    path = folder / f"{place}.json"
    if path.is_file():
        known = Result.load(path)
        same = known.env_kwargs == env_kwargs and known.seed == config.seed
        if same and len(known.scores) == config.runs:
            return known
    agent = RecurrentAgent(folder, rl2.NAME, stochastic=True, seed=config.seed)
    result = evaluate(agent, ID, "test", config.runs, config.seed, **env_kwargs)
    result.save(path)
    return result


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
