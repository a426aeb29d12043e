"""Tune the hand-designed optimisers on the train split of every LearnToOptimize id.

    python experiments/tune_baselines.py [--ids LearnToOptimize-v0 ...]

Writes metagym/optim/tuned.json, which the agents sgd, momentum, nag, rmsprop, adam,
barzilai_borwein and lbfgs read when no hyperparameters are given. Every grid is printed. Ids
that are in the file already are kept unless they are named.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import tyro

from metagym.agents.optimizers import GRIDS, TUNED_FILE, tune
from metagym.registration import ENVIRONMENTS

# Of each grid point; the problems on real data cost a thousand times a quadratic.
EPISODES = {
    "LearnToOptimizeNet-v0": 8,
    "LearnToOptimizeDigits-v0": 32,
    "LearnToOptimizeMLP-v0": 32,
    "LearnToOptimizeBreastCancer-v0": 64,
    "LearnToOptimizeWine-v0": 64,
}


@dataclass(frozen=True)
class Config:
    """What to tune.

    Args:
        ids: environment ids; all that are missing in the file by default.
        episodes: of each grid point, where EPISODES says nothing.
    """

    ids: tuple[str, ...] = ()
    episodes: int = 512


def main(config: Config) -> None:
    """Tune, print, and rewrite the file after each id."""
    table = json.loads(TUNED_FILE.read_text()) if TUNED_FILE.is_file() else {}
    ids = config.ids or [
        row.id
        for row in ENVIRONMENTS
        if row.id.startswith("LearnToOptimize") and row.id not in table
    ]
    for env_id in ids:
        start = time.perf_counter()
        print(f"== {env_id}")
        episodes = EPISODES.get(env_id, config.episodes)
        table[env_id] = {name: tune(name, env_id, episodes, history=1) for name in GRIDS}
        TUNED_FILE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
        print(f"{time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
