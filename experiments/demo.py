"""The main job in three minutes: an agent learns to optimise, and what it learned is used.

    make demo

1. PPO trains on random quadratics for 80 seconds: it sees losses and gradients, never the inside
   of the function, and is rewarded for progress.
2. The optimiser that it became meets problems it has never seen, beside tuned hand-designed ones.
3. The same optimiser, unchanged, trains a torch network on real images of digits.

A picture of 2 and 3 is written to the run's folder.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import nn

from metagym.agents import ppo
from metagym.agents.optimizers import AGENTS
from metagym.evaluation.compare import Comparison, compare
from metagym.files import write_figure
from metagym.optim import LearnedOptimizer

BASELINES = ("adam", "momentum", "barzilai_borwein")
LABELS = {"learned": "learned by PPO", "barzilai_borwein": "Barzilai–Borwein"}
COLOURS = {"learned": "tab:blue", "adam": "tab:orange", "momentum": "tab:green"}  # as on the left


@dataclass(frozen=True)
class Config:
    """The demo.

    Args:
        seconds: of training.
        out: folder of the run; a free name below runs/ by default.
        seed: of the run.
        episodes: unseen quadratics in the comparison.
        iterations: of the digits training.
    """

    seconds: float = 80.0
    out: Path | None = None
    seed: int = 0
    episodes: int = 2000
    iterations: int = 100


def free_folder() -> Path:
    """runs/demo, or the next number that is free."""
    names = ["demo", *(f"demo-{i}" for i in range(2, 10_000))]
    return next(Path("runs") / name for name in names if not (Path("runs") / name).exists())


def compare_on_quadratics(folder: Path, config: Config, console: Console) -> Comparison:
    """Test-split quadratics, the same for everybody."""
    agents: dict[str, Any] = {"learned": ppo.load(folder)}
    agents |= {name: AGENTS[name]() for name in BASELINES}
    comparison = compare(
        agents, "LearnToOptimize-v0", episodes=config.episodes, seed=config.seed, dtype="float64"
    )
    table = Table(title=f"{config.episodes:,} unseen quadratics, 100 steps")
    for heading in ("optimiser", "mean log10 loss", "95 % interval", "diverged"):
        table.add_column(heading, justify="left" if heading == "optimiser" else "right")
    for result in comparison.results:
        table.add_row(
            LABELS.get(result.agent, result.agent), f"{result.mean:.2f}",
            f"[{result.interval[0]:.2f}, {result.interval[1]:.2f}]",
            f"{100 * np.mean(result.extras['diverged']):.1f} %",
        )  # fmt: skip
    console.print(table)
    return comparison


def digits() -> tuple[torch.Tensor, ...]:
    """scikit-learn's digits, standardised: 1,200 images to train on, 597 to test on."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order] / 16.0 - 0.5, labels[order]
    x, y = torch.tensor(images, dtype=torch.float32), torch.tensor(labels)
    return x[:1200], y[:1200], x[1200:], y[1200:]


def train_network(make_optimizer: Any, seed: int, iterations: int) -> tuple[list[float], float]:
    """Full-batch training of a 64-32-10 network; losses by iteration, and test accuracy."""
    x, y, x_test, y_test = digits()
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = make_optimizer(model.parameters())

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    losses = [float(optimizer.step(closure).detach()) for _ in range(iterations)]
    losses.append(float(nn.functional.cross_entropy(model(x), y).detach()))
    accuracy = float((model(x_test).argmax(1) == y_test).float().mean())
    return losses, accuracy


def tuned_on_digits(make: Any, iterations: int) -> Any:
    """``make(lr)`` with the learning rate of the lowest final training loss (seed 1000)."""
    rates = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    finals = [train_network(lambda p, r=r: make(p, r), 1000, iterations)[0][-1] for r in rates]
    best = rates[int(np.nanargmin(finals))]
    return best, lambda parameters: make(parameters, best)


def train_on_digits(
    folder: Path, config: Config, console: Console
) -> dict[str, tuple[np.ndarray, float]]:
    """The learned optimiser beside Adam and momentum, which are tuned on this very problem."""
    sgd, adam = torch.optim.SGD, torch.optim.Adam
    lr_adam, make_adam = tuned_on_digits(lambda p, lr: adam(p, lr=lr), config.iterations)
    lr_momentum, make_momentum = tuned_on_digits(
        lambda p, lr: sgd(p, lr=lr, momentum=0.9), config.iterations
    )
    contestants = {
        "learned": ("no tuning", lambda p: LearnedOptimizer(p, folder)),
        "adam": (f"lr {lr_adam}, tuned here", make_adam),
        "momentum": (f"lr {lr_momentum}, tuned here", make_momentum),
    }
    table = Table(title=f"scikit-learn's digits, a 64-32-10 network, {config.iterations} steps")
    for heading in ("optimiser", "", "training loss", "test accuracy"):
        table.add_column(heading, justify="left" if heading in ("optimiser", "") else "right")
    curves = {}
    for name, (note, make) in contestants.items():
        runs = [train_network(make, config.seed + i, config.iterations) for i in range(5)]
        losses = np.median([losses for losses, _ in runs], axis=0)
        accuracy = float(np.median([accuracy for _, accuracy in runs]))
        curves[name] = losses, accuracy
        label = LABELS.get(name, name)
        table.add_row(label, note, f"{losses[-1]:.5f}", f"{100 * accuracy:.1f} %")
    console.print(table, "Median of 5 initialisations.", sep="\n")
    return curves


def picture(comparison: Comparison, curves: dict[str, tuple[np.ndarray, float]]) -> Figure:
    """Both comparisons side by side."""
    drawing = Figure(figsize=(11, 4.2), dpi=120, layout="constrained")
    left, right = drawing.subplots(1, 2)
    comparison.draw(left)
    left.set_title("Unseen quadratics: an optimiser learned by PPO")
    axes: Axes = right
    for name, (losses, accuracy) in curves.items():
        label = f"{LABELS.get(name, name)}  (test {100 * accuracy:.1f} %)"
        axes.semilogy(losses, label=label, color=COLOURS[name], linewidth=1.8)
    axes.set_title("The same optimiser trains a network on real digits")
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return drawing


def main(config: Config) -> None:
    """Train, compare, use."""
    start, console = time.perf_counter(), Console()
    folder = config.out or free_folder()
    console.rule("1. an agent learns to optimise")
    ppo.train("LearnToOptimize-v0", folder, seconds=config.seconds, seed=config.seed)
    console.rule("2. problems it has never seen")
    comparison = compare_on_quadratics(folder, config, console)
    console.rule("3. a real data set")
    curves = train_on_digits(folder, config, console)
    write_figure(folder / "demo.png", picture(comparison, curves))
    console.print(
        f"\nDone in {time.perf_counter() - start:.0f} s. Picture: {folder / 'demo.png'}\n"
        f"Curves of the training: tensorboard --logdir {folder.parent}\n"
        f"Use it: metagym.optim.LearnedOptimizer(model.parameters(), '{folder}')"
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
