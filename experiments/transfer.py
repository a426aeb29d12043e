"""Transfer: the policy that learned on 10-d quadratics, unchanged, on problems of other kinds.

    python experiments/transfer.py --out results/transfer

Each baseline is tuned for the very problem it is compared on, on its train split; the learned
rule is tuned for nothing. Full-batch problems are where it should work; with minibatch noise
the curvatures that it reads are mostly noise, and the table shows what that costs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from metagym.agents import trained
from metagym.agents.optimizers import HandDesigned, tune
from metagym.core import Agent
from metagym.evaluation.compare import compare, save_figure
from metagym.evaluation.table import print_table
from metagym.optim.learned import find_checkpoint

BASELINES = ("sgd", "momentum", "rmsprop", "adam", "barzilai_borwein", "lbfgs")
FULL = {"batch_size": None}
# name: (id, its arguments, episodes of the test, episodes of each grid point)
PROBLEMS: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "quadratics, d = 30": ("LearnToOptimize-v0", {"dim": 30}, 1000, 256),
    "logistic regression": ("LearnToOptimizeLogistic-v0", {}, 1000, 128),
    "48-48-10 net, full batch": (
        "LearnToOptimizeNet-v0",
        {"horizon": 100, "problem_kwargs": {"fixed": 0, "batch_size": None}}, 64, 8,
    ),
    "48-48-10 net, minibatches": ("LearnToOptimizeNet-v0", {"horizon": 100}, 64, 8),
    "digits, softmax, full batch": (
        "LearnToOptimizeDigits-v0", {"problem_kwargs": {"dataset": "digits", **FULL}}, 128, 16,
    ),
    "digits, softmax, minibatches": ("LearnToOptimizeDigits-v0", {}, 128, 16),
    "digits, MLP, full batch": (
        "LearnToOptimizeMLP-v0", {"problem_kwargs": {"dataset": "digits", **FULL}}, 128, 16,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """The evaluation.

    Args:
        out: folder for the JSON of all results and the figure.
        checkpoint: a shipped name or a folder.
        problems: a selection; all by default.
        seed: of the test problems.
    """

    out: Path = Path("results/transfer")
    checkpoint: str = "quadratics"
    problems: tuple[str, ...] = tuple(PROBLEMS)
    seed: int = 0


def main(config: Config) -> None:
    """Tune, compare, print; write results.json and curves.png."""
    comparisons = {}
    for name in config.problems:
        env_id, kwargs, episodes, grid_episodes = PROBLEMS[name]
        kwargs = {"history": 1, **kwargs}
        agents: dict[str, Agent] = {"learned": trained.load(find_checkpoint(config.checkpoint))}
        for rule in BASELINES:
            agents[rule] = HandDesigned(rule, **tune(rule, env_id, grid_episodes, **kwargs))
        comparisons[name] = compare(agents, env_id, episodes=episodes, seed=config.seed, **kwargs)
        print(f"== {name}")
        print_table(comparisons[name])
    config.out.mkdir(parents=True, exist_ok=True)
    content = {name: comparison.as_dict() for name, comparison in comparisons.items()}
    (config.out / "results.json").write_text(json.dumps(content))
    save_figure(list(comparisons.values()), config.out / "curves.png")
    print(f"Written to {config.out}.")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
