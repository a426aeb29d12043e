"""Train the policies that ship with the package, by their recipes.

    python experiments/train_pretrained.py quadratics            # -> runs/pretrained/quadratics
    python experiments/train_pretrained.py quadratics --install  # and into metagym/pretrained

Each recipe is what ``metagym train`` does with these settings. Its checkpoint holds the settings,
the seed, the steps and seconds that it took, and the command. Seeds were fixed before training;
the weights are those at the end, not the best on the way.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from tyro.conf import Positional

from metagym.agents import ppo, reinforce
from metagym.checkpoint import CONFIG, WEIGHTS
from metagym.errors import check_choice
from metagym.optim.learned import PRETRAINED


class Recipe(NamedTuple):
    """An agent's module, its configuration, and the environment."""

    agent: Any
    config: Any
    env_id: str = "LearnToOptimize-v0"
    env_kwargs: dict[str, Any] = {}  # noqa: RUF012


RECIPES: dict[str, Recipe] = {
    # The default of LearnedOptimizer.
    "quadratics": Recipe(ppo, ppo.Config()),
    "quadratics-reinforce": Recipe(reinforce, reinforce.Config()),
    "quadratics-coordinate": Recipe(
        ppo, ppo.Config(view="coordinate", num_envs=64, minibatch_size=800, steps=8_000_000)
    ),
    # Minibatch noise: Polyak's step size, 100 steps on one 48-48-10 network.
    "minibatch": Recipe(
        ppo,
        ppo.Config(step_size="polyak", num_envs=64, minibatch_size=800, steps=2_000_000),
        "LearnToOptimizeNet-v0",
        {"horizon": 100, "history": 1},
    ),
    # The same network for its own sake: RMSprop's direction. What pays here are
    # large early steps whose reward comes at the end, so returns are neither discounted nor
    # bootstrapped.
    "digits-net": Recipe(
        ppo,
        ppo.Config(
            step_size="rms",
            discount=1.0,
            gae_lambda=1.0,
            num_envs=64,
            num_steps=100,
            minibatch_size=800,
            learning_rate=2e-3,
            steps=1_500_000,
        ),
        "LearnToOptimizeNet-v0",
        {"horizon": 100, "history": 1},
    ),
}


@dataclass(frozen=True)
class Config:
    """What to train.

    Args:
        name: which policy.
        seed: of the run.
        out: folder of the run; runs/pretrained/NAME by default.
        install: copy the checkpoint into the package.
    """

    name: Positional[str]
    seed: int = 0
    out: Path | None = None
    install: bool = False


def main(config: Config) -> None:
    """Train one policy."""
    recipe = RECIPES[check_choice("name", config.name, RECIPES)]
    out = config.out or Path("runs/pretrained") / config.name
    recipe.agent.train(
        recipe.env_id, out, recipe.config, seed=config.seed, env_kwargs=recipe.env_kwargs
    )
    if config.install:
        (PRETRAINED / config.name).mkdir(parents=True, exist_ok=True)
        for file in (CONFIG, WEIGHTS):
            shutil.copy(out / file, PRETRAINED / config.name / file)
        print(f"Installed into {PRETRAINED / config.name}.")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
