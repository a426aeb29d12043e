"""Hypergradients at work: a learning rate and a momentum for every step, tuned by gradients.

    python experiments/hypergradients.py                       about two minutes of one core
    python experiments/hypergradients.py --seeds 0 --out results/first_look

A small tanh network learns scikit-learn's digits in 100 steps of SGD with momentum. Its rate and
momentum per step, and scale of the start and weight decay per tensor, are tuned all at once by the
exact gradient of the validation loss through the whole run (Maclaurin et al. 2015): from the
library's defaults; from the grid's choice; and from there with a new run (another start, another
order of minibatches) in each tuning step.

They stand beside the starting point, a grid over a constant rate and momentum, and random search
over all four as constants, with as many training runs as grid and tuning cost together: a
hypergradient is counted by the CPU time that it takes, in units of plain training runs. All choose
by a validation loss, and but for the last by that of the same run; they are judged on test images
after that run, and as the mean over runs that no tuning has seen. Intervals (95 %) are over seeds:
of the split, the runs and the search.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from sklearn.datasets import load_digits
from torch.func import grad, vmap
from torch.nn.functional import cross_entropy

from metagym.baselines.learned_optimizers.hypergradient import (
    Hyperparameters,
    Params,
    differentiate_training,
    optimize_hyperparameters,
)
from metagym.errors import InvalidArgumentError
from metagym.evaluation.statistics import estimate, paired_difference
from metagym.files import write_atomically, write_figure

START, GRID, RANDOM = "starting point", "grid", "random search"
PLAIN = "hypergradients"
REFINED, FRESH = "grid, then hypergradients", "grid, then hypergradients, new runs"
TUNED = (PLAIN, REFINED, FRESH)
METHODS = (START, GRID, RANDOM, *TUNED)
RATES = (0.1, 0.3, 1.0, 2.0, 4.0, 8.0, 16.0)
MOMENTA = (0.1, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
WORST = 10.0  # a loss above it, or none at all, counts as this much
NEW_RUNS, UNSEEN_RUNS = 1_000_000, 2_000_000  # where the numbers of other runs begin


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        out: folder for the results of each seed, results.json, table.md and hypergradients.png.
        seeds: of the split into train, validation and test, of the runs and of the search.
        steps: of a training run.
        meta_steps: hypergradients of one tuning.
        meta_lr: of Adam, which follows them from the starting point.
        fine_lr: of Adam from the grid's choice, where larger steps diverge.
        examples: to train on, and as many for validation; the rest are the test.
        batch: examples of a minibatch.
        width: of the hidden layer.
        unseen: runs with another start and order, on which all are judged.
    """

    out: Path = Path("results/hypergradients")
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: int = 100
    meta_steps: int = 20
    meta_lr: float = 0.1
    fine_lr: float = 0.03
    examples: int = 500
    batch: int = 50
    width: int = 32
    unseen: int = 20


# -- the problem -------------------------------------------------------------------------------


Set = tuple[torch.Tensor, torch.Tensor]


class Digits:
    """Images and classes of a seed, and the runs on them.

    Attributes:
        train, validation, test: images [n, 64] from 0 to 1, and their classes [n].
    """

    def __init__(self, seed: int, config: Config) -> None:
        images, classes = load_digits(return_X_y=True)
        count = config.examples
        if 2 * count >= len(classes):
            raise InvalidArgumentError(
                f"examples={count} for training and for validation leave none of {len(classes)} "
                "for the test; choose fewer."
            )
        order = np.random.default_rng(seed).permutation(len(classes))
        x = torch.tensor(images[order] / 16.0, dtype=torch.float32)
        y = torch.tensor(classes[order])
        self.train: Set = x[:count], y[:count]
        self.validation: Set = x[count : 2 * count], y[count : 2 * count]
        self.test: Set = x[2 * count :], y[2 * count :]
        self._seed, self._config = seed, config

    def run(self, number: int) -> tuple[Params, torch.Tensor]:
        """Initial parameters, and the examples of each minibatch [steps, batch]; 0 is tuned on."""
        width, batch = self._config.width, self._config.batch
        generator = torch.Generator().manual_seed(10_000_000 * self._seed + number)

        def draw(inputs: int, outputs: int) -> torch.Tensor:
            return torch.randn(inputs, outputs, generator=generator) / math.sqrt(inputs)

        # The second tensor of a layer is its bias; from 0 its scale would have no gradient.
        initial = {
            "hidden": draw(64, width), "hidden bias": 0.1 * draw(1, width)[0],
            "output": draw(width, 10), "output bias": 0.1 * draw(1, 10)[0],
        }  # fmt: skip
        steps = (self._config.steps, batch)
        return initial, torch.randint(len(self.train[0]), steps, generator=generator)


def predict(params: Params, x: torch.Tensor) -> torch.Tensor:
    """Logits [n, 10] of images [n, 64]."""
    hidden = torch.tanh(x @ params["hidden"] + params["hidden bias"])
    return hidden @ params["output"] + params["output bias"]


def loss(params: Params, examples: Set) -> torch.Tensor:
    """The mean cross-entropy."""
    return cross_entropy(predict(params, examples[0]), examples[1])


def train_many(
    digits: Digits, given: Hyperparameters, initial: Params, order: torch.Tensor
) -> Params:
    """Many runs at once, as one array program: trained parameters [R, ...].

    Args:
        digits: whose training images.
        given: all fields with a leading axis [R], or all without.
        initial: likewise.
        order: [R, steps, batch] or [steps, batch], like ``initial``.
    """
    x, y = digits.train
    several = (None if given.log_rates.ndim == 1 else 0, None if order.ndim == 2 else 0)

    def whole_run(given: Params, initial: Params, order: torch.Tensor) -> Params:
        rates, momenta = given["log_rates"].exp(), given["momentum_logits"].sigmoid()
        scales, decays = given["log_scales"].exp(), given["log_decays"].exp()
        w = {k: scales[i] * each for i, (k, each) in enumerate(initial.items())}
        v = {k: torch.zeros_like(each) for k, each in w.items()}
        for t, chosen in enumerate(order):
            slope = grad(loss)(w, (x[chosen], y[chosen]))
            v = {
                k: momenta[t] * v[k] - (1.0 - momenta[t]) * (slope[k] + decays[i] * w[k])
                for i, k in enumerate(w)
            }
            w = {k: w[k] + rates[t] * v[k] for k in w}
        return w

    found: Params = vmap(whole_run, (several[0], several[1], several[1]))(
        given.tensors(), initial, order
    )
    return found


def train_one(digits: Digits, given: Hyperparameters, number: int) -> Params:
    """A single run, as plainly and fast as autograd allows: what a hypergradient is measured by."""
    x, y = digits.train
    initial, order = digits.run(number)
    rates, momenta = given.log_rates.exp().tolist(), given.momentum_logits.sigmoid().tolist()
    scales, decays = given.log_scales.exp().tolist(), given.log_decays.exp().tolist()
    w = [scale * each for scale, each in zip(scales, initial.values(), strict=True)]
    v = [torch.zeros_like(each) for each in w]
    for rate, momentum, chosen in zip(rates, momenta, order, strict=True):
        tracked = [each.requires_grad_() for each in w]
        value = loss(dict(zip(initial, tracked, strict=True)), (x[chosen], y[chosen]))
        slopes = torch.autograd.grad(value, tracked)
        w = [each.detach() for each in w]
        for speed, slope, each, decay in zip(v, slopes, w, decays, strict=True):
            speed.mul_(momentum).sub_(slope.add(each, alpha=decay), alpha=1.0 - momentum)
            each.add_(speed, alpha=rate)
    return dict(zip(initial, w, strict=True))


# -- what a hypergradient costs ----------------------------------------------------------------


def measure(config: Config) -> dict[str, float]:
    """CPU seconds of a run and of a hypergradient, and how many states the latter holds.

    The median of five each, taken in turns, so that a machine that is busy slows both.
    """
    digits = Digits(0, config)
    initial = digits.run(0)[0]
    given = Hyperparameters.constant(initial, config.steps)
    train_loss, validation_loss, _ = objective(digits, lambda i: 0)
    states = 0

    def differentiate() -> None:
        nonlocal states
        states = differentiate_training(
            train_loss, validation_loss, initial, given
        ).most_states  # fmt: skip

    jobs: tuple[Callable[[], Any], ...] = (lambda: train_one(digits, given, 0), differentiate)
    for job in jobs:
        job()
    seconds = np.array([[_cpu_seconds(job) for job in jobs] for _ in range(5)])
    run, hypergradient = np.median(seconds, axis=0)
    count = sum(len(field) for field in given.tensors().values())
    return {
        "run": float(run), "hypergradient": float(hypergradient), "states": states,
        "hyperparameters": count, "steps": config.steps,
    }  # fmt: skip


def _cpu_seconds(job: Callable[[], Any]) -> float:
    start = time.process_time()
    job()
    return time.process_time() - start


# -- tuning ------------------------------------------------------------------------------------


def objective(
    digits: Digits, number: Callable[[int], int]
) -> tuple[
    Callable[[Params, int], torch.Tensor],
    Callable[[Params], torch.Tensor],
    Callable[[int], Params],
]:
    """Training loss, validation loss and initial parameters, as tuning takes them.

    Args:
        digits: whose images.
        number: the run of tuning step i.
    """
    x, y = digits.train
    order = digits.run(number(0))[1]

    def initial(i: int) -> Params:
        nonlocal order
        start, order = digits.run(number(i))
        return start

    return (
        lambda params, t: loss(params, (x[order[t]], y[order[t]])),
        lambda params: loss(params, digits.validation),
        initial,
    )


def by_hypergradients(
    digits: Digits, config: Config, start: Hyperparameters, meta_lr: float, *, new_runs: bool
) -> tuple[Hyperparameters, list[float]]:
    """The best hyperparameters that were met, and the validation loss in each tuning step.

    Args:
        digits: whose images.
        config: the settings.
        start: where to begin.
        meta_lr: of Adam.
        new_runs: whether each tuning step has a run of its own.
    """
    train_loss, validation_loss, initial = objective(
        digits, lambda i: NEW_RUNS + i if new_runs else 0
    )
    found = optimize_hyperparameters(
        train_loss, validation_loss, initial, start,
        meta_steps=config.meta_steps, learning_rate=meta_lr,
    )  # fmt: skip
    return found.best, found.values


def by_candidates(
    digits: Digits, config: Config, constants: np.ndarray
) -> tuple[Hyperparameters, list[float]]:
    """The best of constants [R, 4] (rate, momentum, scale, decay), and all validation losses."""
    initial, order = digits.run(0)
    rows = [
        Hyperparameters.constant(
            initial, config.steps, rate=rate, momentum=momentum, scale=scale, decay=decay
        )
        for rate, momentum, scale, decay in constants
    ]
    values: list[float] = []
    for first in range(0, len(rows), 100):
        part = [row.tensors() for row in rows[first : first + 100]]
        stacked = Hyperparameters(**{k: torch.stack([row[k] for row in part]) for k in part[0]})
        w = train_many(digits, stacked, initial, order)
        values += _bounded(vmap(loss, (0, None))(w, digits.validation)).tolist()
    return rows[int(np.argmin(values))], values


def grid() -> np.ndarray:
    """Constants of the grid [49, 4]: scale and decay are those of the starting point."""
    return np.array([[rate, momentum, 1.0, 1e-4] for rate in RATES for momentum in MOMENTA])


def drawn(rng: np.random.Generator, count: int) -> np.ndarray:
    """Constants of the random search [count, 4], log-uniform; for the momentum γ, 1 - γ is."""
    low, high = np.log([[0.03, 0.01, 0.1, 1e-6], [30.0, 1.0, 3.0, 1e-1]])
    found = np.exp(rng.uniform(low, high, (count, 4)))
    found[:, 1] = np.clip(1.0 - found[:, 1], 1e-3, None)
    return found


def _bounded(losses: torch.Tensor) -> torch.Tensor:
    return losses.nan_to_num(nan=WORST, posinf=WORST).clamp(max=WORST)


# -- one seed ----------------------------------------------------------------------------------


def run_seed(seed: int, config: Config, searched: int) -> dict[str, dict[str, Any]]:
    """Tune with every method and judge: by method its scores, its schedules and its losses.

    Args:
        seed: of everything.
        config: the settings.
        searched: runs of the random search.
    """
    digits = Digits(seed, config)
    constants = drawn(np.random.default_rng(seed), searched)
    start = Hyperparameters.constant(digits.run(0)[0], config.steps)
    from_grid = by_candidates(digits, config, grid())
    refine = functools.partial(by_hypergradients, digits, config, from_grid[0], config.fine_lr)
    tuned = {
        START: (start, []),
        GRID: from_grid,
        RANDOM: by_candidates(digits, config, constants),
        PLAIN: by_hypergradients(digits, config, start, config.meta_lr, new_runs=False),
        REFINED: refine(new_runs=False),
        FRESH: refine(new_runs=True),
    }
    return {
        method: {
            "values": [value if math.isfinite(value) else WORST for value in values],
            "rates": given.log_rates.exp().tolist(),
            "momenta": given.momentum_logits.sigmoid().tolist(),
            "scales": given.log_scales.exp().tolist(),
            "decays": given.log_decays.exp().tolist(),
            **judged(digits, given, config),
        }
        for method, (given, values) in tuned.items()
    }


def judged(digits: Digits, given: Hyperparameters, config: Config) -> dict[str, float]:
    """Losses and test accuracy in per cent, of the run that was tuned on and of unseen ones."""
    runs = [digits.run(number) for number in (0, *range(UNSEEN_RUNS, UNSEEN_RUNS + config.unseen))]
    initial = {k: torch.stack([run[0][k] for run in runs]) for k in runs[0][0]}
    w = train_many(digits, given, initial, torch.stack([run[1] for run in runs]))
    right = vmap(predict, (0, None))(w, digits.test[0]).argmax(-1) == digits.test[1]
    columns = {
        "validation": _bounded(vmap(loss, (0, None))(w, digits.validation)),
        "loss": _bounded(vmap(loss, (0, None))(w, digits.test)),
        "accuracy": 100.0 * right.float().mean(1),
    }
    found = {}
    for name, column in columns.items():
        found[name], found[f"unseen {name}"] = float(column[0]), float(column[1:].mean())
    return found


# -- all seeds ---------------------------------------------------------------------------------


def main(config: Config) -> dict[str, Any]:
    """Run what is missing, print the tables; write them, results.json and the figure."""
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k not in ("out", "seeds")}
    cost = _kept(config.out / "cost.json", settings, lambda: measure(config))
    ratio = cost["hypergradient"] / cost["run"]
    searched = len(grid()) + math.ceil(ratio * config.meta_steps)
    seeds = [
        _kept(config.out / f"seed{seed}.json", settings | {"searched": searched},
              lambda seed=seed: run_seed(seed, config, searched))  # type: ignore[misc]
        for seed in config.seeds
    ]  # fmt: skip
    text = "\n\n".join([_costs(cost), _table(seeds, searched), _differences(seeds)])
    print(text)
    content = {"settings": settings, "seeds": list(config.seeds), "cost": cost, "results": seeds}
    write_atomically(config.out / "results.json", (json.dumps(content) + "\n").encode())
    write_atomically(config.out / "table.md", (text + "\n").encode())
    save_figure(seeds, ratio, config.out / "hypergradients.png")
    print(f"Written to {config.out}.")
    return content


def _kept(path: Path, settings: dict[str, Any], compute: Callable[[], Any]) -> Any:
    """What an earlier run of these settings stored, or what is computed now."""
    if path.is_file():
        stored = json.loads(path.read_text())
        if stored["settings"] == settings:
            return stored["found"]
    start = time.process_time()
    found = compute()
    write_atomically(path, (json.dumps({"settings": settings, "found": found}) + "\n").encode())
    print(f"{path.stem}: {time.process_time() - start:.0f} s of CPU time.", flush=True)
    return found


# -- what is shown -----------------------------------------------------------------------------


def _costs(cost: dict[str, float]) -> str:
    """Markdown: what differentiating a run takes."""
    return (
        "| hyperparameters | s per run | s per hypergradient | runs per hypergradient | "
        "states held | steps |\n|--:|--:|--:|--:|--:|--:|\n"
        f"| {cost['hyperparameters']} | {cost['run']:.3f} | {cost['hypergradient']:.3f} | "
        f"{cost['hypergradient'] / cost['run']:.1f} | {cost['states']} | {cost['steps']} |"
    )


def _column(seeds: list[dict[str, Any]], method: str, name: str) -> np.ndarray:
    return np.array([seed[method][name] for seed in seeds])


def _table(seeds: list[dict[str, Any]], searched: int) -> str:
    """Markdown: each method's price and scores."""
    prices = {START: 0, GRID: len(grid()), RANDOM: searched, PLAIN: searched - len(grid()),
              REFINED: searched, FRESH: searched}  # fmt: skip
    shown = (("validation", 3), ("loss", 3), ("accuracy", 1),
             ("unseen loss", 3), ("unseen accuracy", 1))  # fmt: skip
    lines = [
        "| tuned by | cost in runs | validation loss | test loss | test accuracy, % | "
        "test loss, unseen runs | test accuracy, unseen runs, % |",
        "|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for method in METHODS:
        cells = []
        for name, digits in shown:
            x = estimate(_column(seeds, method, name))
            cells.append(f"{x.value:.{digits}f} [{x.low:.{digits}f}, {x.high:.{digits}f}]")
        lines.append(f"| {method} | {prices[method]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _differences(seeds: list[dict[str, Any]]) -> str:
    """Markdown: hypergradients minus the others, seed by seed."""
    lines = ["| difference | to | test loss | test loss, unseen runs | accuracy, unseen runs |",
             "|:--|:--|--:|--:|--:|"]  # fmt: skip
    for method in TUNED:
        for other in METHODS[:3]:
            cells = []
            for name, digits in (("loss", 3), ("unseen loss", 3), ("unseen accuracy", 2)):
                x = paired_difference(_column(seeds, method, name), _column(seeds, other, name))
                cells.append(f"{x.value:+.{digits}f} [{x.low:+.{digits}f}, {x.high:+.{digits}f}]")
            lines.append(f"| {method} | {other} | {' | '.join(cells)} |")
    return "\n".join(lines)


def save_figure(seeds: list[dict[str, Any]], ratio: float, path: Path) -> None:
    """The learned schedules, and the validation loss while tuning; bands are 95 % intervals.

    Args:
        seeds: what ``run_seed`` found, of each.
        ratio: training runs per hypergradient.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.0, 4.0), layout="constrained")
    rates, momenta, curve = figure.subplots(1, 3)
    colors = {START: "0.5", GRID: "C2", RANDOM: "C1", PLAIN: "C0", REFINED: "C4", FRESH: "C3"}

    def draw(axis: Any, x: np.ndarray, rows: np.ndarray, method: str) -> None:
        found = [estimate(column) for column in rows.T]
        axis.plot(x, [each.value for each in found], color=colors[method], label=method)
        axis.fill_between(x, [each.low for each in found], [each.high for each in found],
                          color=colors[method], alpha=0.15, linewidth=0)  # fmt: skip

    for axis, name, title in ((rates, "rates", "learning rate"), (momenta, "momenta", "momentum")):
        for method in (GRID, *TUNED):
            rows = _column(seeds, method, name)
            draw(axis, np.arange(1, rows.shape[1] + 1), rows, method)
        axis.set(title=title, xlabel="training step")
    rates.set_yscale("log")
    for method in TUNED:
        rows = _column(seeds, method, "values")
        spent = 0 if method == PLAIN else len(grid())
        draw(curve, spent + ratio * np.arange(1, rows.shape[1] + 1), rows, method)
    best = np.minimum.accumulate(_column(seeds, RANDOM, "values"), axis=1)
    draw(curve, np.arange(1, best.shape[1] + 1), best, RANDOM)
    curve.axhline(_column(seeds, GRID, "validation").mean(), color=colors[GRID], linestyle="--",
                  label=f"{GRID} ({len(grid())})")  # fmt: skip
    curve.set(title="validation loss while tuning", yscale="log",
              xlabel="cost in training runs")  # fmt: skip
    rates.legend(fontsize="small")
    curve.legend(fontsize="small")
    write_figure(path, figure, dpi=120)


if __name__ == "__main__":
    start = time.perf_counter()
    main(tyro.cli(Config, description=__doc__))
    print(f"{time.perf_counter() - start:.0f} s in all.")
