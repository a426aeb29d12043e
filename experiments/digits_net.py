"""The lectures' figure, with RL: an optimiser meta-trained on one 48-48-10 network.

    python experiments/digits_net.py --out results/digits_net

The task is Li and Malik's (2017): images projected to 48 random dimensions and normalised, a
48-48-10 ReLU network, minibatches of 64. The policies met one network (one projection, one set of
images) and 100 steps: "digits-net" (RMSprop's direction) and the more cautious "minibatch"
(Polyak's step size). They are compared with SGD, momentum, Adam and RMSprop, tuned on that very
network, in six places: the training distribution (new initial weights), ten times the horizon,
held-out images with another projection, two other widths, two other batch sizes, and MNIST
where METAGYM_DATA holds its files. Nothing is tuned again.

Metric: mean of log10(full training loss + 1e-12) at the last step.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from matplotlib.figure import Figure

from metagym.agents import trained
from metagym.agents.optimizers import HandDesigned, tune
from metagym.core import Agent
from metagym.errors import DataError
from metagym.evaluation.compare import Comparison, compare
from metagym.evaluation.table import print_table
from metagym.files import write_figure
from metagym.optim.learned import find_checkpoint

ID = "LearnToOptimizeNet-v0"
BASELINES = ("sgd", "momentum", "adam", "rmsprop")
HORIZON = 100


def _net(**kwargs: Any) -> dict[str, Any]:
    return {"problem_kwargs": {"fixed": 0, **kwargs}}


# name: (split, arguments of the environment)
PLACES: dict[str, tuple[str, dict[str, Any]]] = {
    "training distribution": ("train", _net()),
    "ten times the horizon": ("train", {**_net(), "horizon": 10 * HORIZON}),
    "held-out images and projection": ("test", _net(fixed=1)),
    "width 24": ("train", _net(hidden=24)),
    "width 96": ("train", _net(hidden=96)),
    "batch size 16": ("train", _net(batch_size=16)),
    "batch size 256": ("train", _net(batch_size=256)),
    "MNIST": ("train", _net(dataset="mnist")),
}


@dataclass(frozen=True)
class Config:
    """The evaluation.

    Args:
        out: folder for the JSON of all results and the figure.
        checkpoints: shipped names or folders.
        episodes: of each comparison; a quarter of it at ten times the horizon.
        tuning_episodes: of each grid point.
        seed: of the evaluation; tuning and training used other ones.
    """

    out: Path = Path("results/digits_net")
    checkpoints: tuple[str, ...] = ("digits-net", "minibatch")
    episodes: int = 64
    tuning_episodes: int = 16
    seed: int = 77


def draw(comparisons: dict[str, Comparison]) -> Figure:
    """One panel per place."""
    columns = 4
    rows = -(-len(comparisons) // columns)
    drawing = Figure(figsize=(4.4 * columns, 3.6 * rows), dpi=110, layout="constrained")
    panels = drawing.subplots(rows, columns, squeeze=False).flat
    for axes, (name, comparison) in zip(panels, comparisons.items(), strict=False):
        comparison.draw(axes)
        axes.set_title(name, fontsize=10)
        if name == "ten times the horizon":
            axes.axvline(HORIZON, color="0.4", linestyle=":", linewidth=1)
    for axes in list(drawing.axes)[len(comparisons) :]:
        axes.set_axis_off()
    return drawing


def main(config: Config) -> None:
    """Tune on the training network, compare everywhere; write results.json and curves.png."""
    agents: dict[str, Agent] = {
        name: trained.load(find_checkpoint(name)) for name in config.checkpoints
    }
    for name in BASELINES:
        best = tune(name, ID, config.tuning_episodes, horizon=HORIZON, history=1, **_net())
        agents[name] = HandDesigned(name, **best)
    comparisons: dict[str, Comparison] = {}
    for name, (split, kwargs) in PLACES.items():
        kwargs = {"horizon": HORIZON, "history": 1, **kwargs}
        episodes = max(8, config.episodes // (4 if kwargs["horizon"] > HORIZON else 1))
        print(f"== {name}")
        try:
            comparisons[name] = compare(
                agents, ID, split=split, episodes=episodes, seed=config.seed, **kwargs
            )
        except DataError as error:
            print(f"left out: {error}")
            continue
        print_table(comparisons[name])
    config.out.mkdir(parents=True, exist_ok=True)
    content = {name: comparison.as_dict() for name, comparison in comparisons.items()}
    (config.out / "results.json").write_text(json.dumps(content))
    write_figure(config.out / "curves.png", draw(comparisons))
    home = comparisons["training distribution"]
    others = min(result.mean for result in home.results[len(config.checkpoints) :])
    long = comparisons["ten times the horizon"].results
    for result, later in zip(home.results[: len(config.checkpoints)], long, strict=False):
        diverged = np.mean(later.extras["diverged"])
        print(
            f"{result.agent}: {result.mean:.2f} on the training distribution (best tuned "
            f"{others:.2f}); diverged at ten times the horizon: {diverged:.1%}"
        )
    print(f"Written to {config.out}.")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
