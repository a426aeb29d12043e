"""How the agent explores decides what it learns: the same training time for five ways.

    python experiments/exploration.py --seconds 120 --out results/exploration

On 10-d quadratics, each run on one thread: PPO and REINFORCE with two gains per problem; PPO with
two gains per coordinate; PPO with the raw action, independent Gaussian noise on every coordinate
of Δx (its exploration starts at a standard deviation of 0.18 in x, the best of 3.7, 0.18 and
0.04); and PPO per problem on the environment's default reward, the negative loss. The figure
of merit is that of quadratics.py, on the test split.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from metagym.agents import ppo, reinforce
from metagym.core import Agent
from metagym.evaluation.compare import compare, save_figure
from metagym.evaluation.table import print_table

ID = "LearnToOptimize-v0"
COORDINATE = ppo.Config(view="coordinate", num_envs=64, minibatch_size=800)
WAYS: dict[str, tuple[Any, Any]] = {
    "gains per problem, PPO": (ppo, ppo.Config()),
    "gains per problem, REINFORCE": (reinforce, reinforce.Config()),
    "gains per coordinate, PPO": (ppo, COORDINATE),
    "raw action, PPO": (ppo, ppo.Config(view="raw", log_std_init=-4.0)),
    "gains per problem, PPO, reward -f": (ppo, ppo.Config(reward="negative_loss")),
}


@dataclass(frozen=True)
class Config:
    """The comparison.

    Args:
        seconds: of training, each.
        out: folder of the runs and the figure; it must not exist.
        seed: of all runs.
        episodes: test problems.
    """

    seconds: float = 120.0
    out: Path = Path("results/exploration")
    seed: int = 0
    episodes: int = 2000


def main(config: Config) -> None:
    """Train all, then compare on the same problems."""
    config.out.mkdir(parents=True)
    agents: dict[str, Agent] = {}
    for name, (module, recipe) in WAYS.items():
        folder = config.out / name.replace(" ", "_").replace(",", "")
        module.train(ID, folder, recipe, seconds=config.seconds, seed=config.seed)
        agents[name] = module.load(folder)
    comparison = compare(agents, ID, episodes=config.episodes, dtype="float64")
    print_table(comparison)
    save_figure([comparison], config.out / "curves.png")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
