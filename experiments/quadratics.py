"""Held-out Gaussian quadratics: the learned optimisers, their controls, the hand-designed ones.

    python experiments/quadratics.py --out results/quadratics

Metric (float64 dynamics): mean over problems of log10(f + 1e-12) at the last step; a run that
diverged (not finite, or f > 1e8) counts with f = 1e8, and one that ends above its start is
counted as diverged too. Printed: 100 steps, the horizon of training; 1,000 steps; dimension 30
with baselines tuned there. Hand-designed rules are tuned on the train split, by the same metric;
"published" are the figures that this project set out to reproduce.

L-BFGS is in the table although it is of another kind: with ten pairs it holds a 10-d quadratic
whole, and solves it. The learned rule holds two vectors.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from matplotlib.figure import Figure

from metagym.agents import trained
from metagym.agents.optimizers import HandDesigned, RuleAgent, tune
from metagym.core import Agent
from metagym.evaluation import evaluate
from metagym.evaluation.compare import Comparison, compare
from metagym.evaluation.table import print_table
from metagym.files import write_figure
from metagym.optim import GainRule
from metagym.optim.learned import find_checkpoint

ID = "LearnToOptimize-v0"
# Hyperparameters whose results are published for this very metric, and those results.
PUBLISHED = {
    "sgd": ({"lr": 0.02}, -0.50),
    "rmsprop": ({"lr": 0.05}, -0.53),
    "adam": ({"lr": 0.5}, -1.39),
    "nag": ({"lr": 0.01, "momentum": 0.9}, -1.73),
    "momentum": ({"lr": 0.03, "momentum": 0.8}, -2.42),
    "barzilai_borwein": ({}, -3.64),
}
TUNED = ("adam", "momentum", "barzilai_borwein", "lbfgs")
MEMORY = 0.98  # of the rules that PPO and REINFORCE trained
LEARNED = ("quadratics", "quadratics-reinforce", "quadratics-coordinate")
GAINS = np.linspace(-0.6, 0.6, 13)  # tried for each of the two gains that never change


@dataclass(frozen=True)
class Config:
    """The evaluation.

    Args:
        out: folder for the JSON of all results and the figure.
        checkpoints: what to evaluate: shipped names or folders.
        episodes: test problems.
        seed: of the test problems.
    """

    out: Path = Path("results/quadratics")
    checkpoints: tuple[str, ...] = LEARNED
    episodes: int = 4000
    seed: int = 0


def learned(config: Config) -> dict[str, Agent]:
    """The trained rules, and the rule that nobody trained."""
    agents: dict[str, Agent] = {
        name: trained.load(find_checkpoint(name)) for name in config.checkpoints
    }
    agents["untrained gains"] = RuleAgent(GainRule(memory=MEMORY))
    agents["constant gains"] = constant_gains()
    return agents


@cache
def constant_gains() -> RuleAgent:
    """The best two gains that never change, by grid search on the train split: what the rule is
    worth without a policy that looks at its features."""
    grid = [np.array(pair) for pair in itertools.product(GAINS, repeat=2)]
    agents = [
        RuleAgent(GainRule(memory=MEMORY, policy=lambda f, g=g: np.broadcast_to(g, (len(f), 2))))
        for g in grid
    ]
    run = {"split": "train", "episodes": 512, "seed": 1_000_000, "dtype": "float64", "history": 1}
    means = [evaluate(agent, ID, **run).mean for agent in agents]
    best = int(np.argmin(means))
    print(
        f"constant gains: best of {len(grid)}: {grid[best].round(2)} -> {means[best]:.3f} (train)"
    )
    return agents[best]


def reproduce(config: Config) -> Comparison:
    """The published settings, run here."""
    agents = {
        name: HandDesigned(name, **kwargs) for name, (kwargs, _) in PUBLISHED.items() if kwargs
    }
    agents["barzilai_borwein"] = HandDesigned("barzilai_borwein", variant=1)
    comparison = compare(agents, ID, episodes=config.episodes, seed=config.seed, dtype="float64")
    print("Published settings, 100 steps")
    for result in comparison.results:
        low, high = result.interval
        target = PUBLISHED[result.agent][1]
        print(
            f"  {result.agent:18} {result.mean:6.2f} [{low:.2f}, {high:.2f}]   published {target}"
        )
    return comparison


def tuned_on(names: tuple[str, ...], **env_kwargs: Any) -> dict[str, Agent]:
    """Baselines with the best hyperparameters of their grids on the train split."""
    return {
        name: HandDesigned(name, **tune(name, ID, 512, history=1, **env_kwargs)) for name in names
    }


def draw(long: Comparison, horizon: int) -> Figure:
    """Optimisation curves to ten times the horizon of training."""
    drawing = Figure(figsize=(7, 4.6), dpi=120, layout="constrained")
    axes = drawing.subplots()
    long.draw(axes)
    axes.axvline(horizon, color="0.4", linestyle=":", linewidth=1)
    axes.text(horizon * 1.05, 0.5, "horizon of training", fontsize=8, color="0.3")
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(0, 1000)
    axes.set_title("Held-out quadratics, to ten times the horizon of training", fontsize=10)
    return drawing


def main(config: Config) -> None:
    """Print the tables; write results.json and curves.png."""
    published = reproduce(config)
    agents = {**learned(config), **tuned_on(TUNED, dtype="float64")}
    run = {"seed": config.seed, "dtype": "float64", "history": 1}
    short = compare(agents, ID, episodes=config.episodes, **run)
    print_table(short)
    ten = compare(agents, ID, episodes=max(100, config.episodes // 2), horizon=1000, **run)
    print("Ten times the horizon of training:")
    print_table(ten)
    wide_agents = {**learned(config), **tuned_on(("adam", "momentum", "barzilai_borwein"), dim=30)}
    wide = compare(wide_agents, ID, episodes=max(100, config.episodes // 4), dim=30, **run)
    print("Dimension 30, policies unchanged, baselines tuned there:")
    print_table(wide)
    config.out.mkdir(parents=True, exist_ok=True)
    tables = {"published": published, "100": short, "1000": ten, "dim 30": wide}
    content = {name: comparison.as_dict() for name, comparison in tables.items()}
    (config.out / "results.json").write_text(json.dumps(content))
    write_figure(config.out / "curves.png", draw(ten, 100))
    best = min(short.results, key=lambda result: result.mean if result.agent != "lbfgs" else np.inf)
    print(f"Best without L-BFGS: {best.agent} {best.mean:.2f}. Written to {config.out}.")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
