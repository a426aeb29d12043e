"""When learning tasks together helps: every architecture and weighting against single-task twins.

    python experiments/multitask.py                                       10 to 15 minutes, one core
    python experiments/multitask.py --seeds 0 1 --steps 50 --sets cancer   a first look

Real data, few training examples, all of it from scikit-learn: the ten digits as ten binary tasks
with 20 examples each; digit, parity and magnitude of the same 100 images; breast cancer beside
diabetes, 50 examples each, once with columns of their own ("blocks") and once forced onto the same
ten columns ("components"). Every network has hidden layers of 64 and 64 on the way of a task (deep
relationships one of 32 more where tasks have different numbers of outputs), and the steps, batches,
learning rate and rule of early stopping on validation examples of its twins, each of which is
trained on its own. The learning rate of a set is the one with which the mean validation score of
twins and hard sharing is best, with a seed that is not reported.

Soft sharing stands there without PCGrad and MGDA: they combine gradients of shared parameters, of
which it has none.

The knob: four synthetic regression tasks of which the similarity is set, 20 examples each, and the
gain of every architecture along it; to the left of where a curve crosses 0, sharing hurts.

A gain is the score minus the twin's on the same test examples; intervals are over seeds (of
training examples, weights and order) and test examples. What is in --out is not run again; what was
made there with other settings is refused.
"""

from __future__ import annotations

import dataclasses
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from kept_runs import refuse_other
from metagym.baselines.multitask.architectures import ARCHITECTURES, architecture_class
from metagym.baselines.multitask.learner import score_name
from metagym.baselines.multitask.network import make_learner
from metagym.baselines.multitask.train import TrainConfig, train_multitask
from metagym.baselines.multitask.twins import TWIN, Gains, cell, train_twins
from metagym.baselines.multitask.weighting import WEIGHTINGS
from metagym.errors import InvalidArgumentError, check_choice
from metagym.evaluation.results import jsonable
from metagym.evaluation.statistics import Estimate
from metagym.files import write_atomically, write_figure
from metagym.tasks.multitask import make_task_set

# label: (name of the task set, its arguments)
SETS: dict[str, tuple[str, dict[str, Any]]] = {
    "ten binary digits": ("digits_binary", {"train": 20}),
    "digit, parity, magnitude": ("digits_three", {"train": 100}),
    "cancer and diabetes, blocks": ("mixed", {"train": 50}),
    "cancer and diabetes, components": ("mixed", {"train": 50, "align": "components"}),
}
KNOB: dict[str, Any] = {"tasks": 4, "train": 20, "test": 200, "features": 16}
# All but the twins and the network for sources that may be missing: here none is.
COMPARED = tuple(name for name in ARCHITECTURES if name not in (TWIN, "multi_source"))
RATES = (0.003, 0.01, 0.03)
TUNING_SEED = 1000
# Nothing of the former is shared, and the latter act on nothing else.
UNSHARED, OF_GRADIENTS = (TWIN, "soft"), ("pcgrad", "mgda")
LOOP: dict[str, Any] = {"batch": 20, "eval_every": 10, "patience": 5}


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        out: folder for the runs, results.json, table.md and similarity.png.
        sets: a selection of the real task sets, by the beginning of their names; all by default.
        architectures: a selection; all by default. The twins are always there.
        weightings: a selection; all that need no choice of α by default.
        similarities: of the synthetic tasks; none leaves the figure out.
        seeds: of training examples, weights and order.
        steps: of the optimiser at most; early stopping ends most runs before.
        device: "auto" is a GPU where there is one.
    """

    out: Path = Path("results/multitask")
    sets: tuple[str, ...] = tuple(SETS)
    architectures: tuple[str, ...] = COMPARED
    weightings: tuple[str, ...] = tuple(name for name in WEIGHTINGS if name != "fixed")
    similarities: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: int = 150
    device: str = "cpu"


@dataclass(frozen=True)
class Entry:
    """One trained network.

    Attributes:
        test, validation: what scores are the means of, by task.
        seconds: of training.
    """

    test: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]
    seconds: float


# [label of a set][(architecture, weighting)]
Results = dict[str, dict[tuple[str, str], Gains]]


def main(config: Config) -> tuple[Results, dict[str, dict[float, Gains]]]:
    """Run what is missing, print the tables; write them, results.json and the figure."""
    for name in config.architectures:
        check_choice("architectures", name, ARCHITECTURES)
    for name in config.weightings:
        check_choice("weightings", name, WEIGHTINGS)
    labels = [label for label in SETS if any(label.startswith(x) for x in config.sets)]
    if config.sets and not labels:
        check_choice("sets", config.sets[0], SETS)
    grid = [
        (a, w) for a in config.architectures for w in config.weightings
        if not (a in UNSHARED and w in OF_GRADIENTS)
    ]  # fmt: skip
    if not grid:
        raise InvalidArgumentError(
            f"There is nothing to compare: {' and '.join(OF_GRADIENTS)} need an architecture that "
            f"shares parameters, other than {' and '.join(UNSHARED)}."
        )
    results: Results = {}
    texts, records = [], []
    for label in labels:
        name, kwargs = SETS[label]
        rate = _rate(name, kwargs, config)
        results[label] = _gains(name, kwargs, grid, rate, config)
        text = _table(label, results[label], rate)
        print(text, flush=True)
        texts.append(text)
        for (architecture, weighting), gains in results[label].items():
            records += gains.results(
                f"{architecture}, {weighting}", config.seeds, name, kwargs,
                {"architecture": architecture, "weighting": weighting, "learning_rate": rate,
                 "steps": config.steps, **LOOP},
            )  # fmt: skip
    knob: dict[str, dict[float, Gains]] = {name: {} for name in config.architectures}
    pairs = [(name, "uniform") for name in config.architectures]
    rate = _rate("related", KNOB, config) if config.similarities else 0.0
    for similarity in config.similarities:
        found = _gains("related", {**KNOB, "similarity": similarity}, pairs, rate, config)
        for (architecture, _), gains in found.items():
            knob[architecture][similarity] = gains
            records += gains.results(
                f"{architecture}, uniform", config.seeds, "related",
                {**KNOB, "similarity": similarity},
                {"architecture": architecture, "weighting": "uniform", "learning_rate": rate,
                 "steps": config.steps, **LOOP},
            )  # fmt: skip
    if config.similarities:
        means = {name: {s: x.gain() for s, x in entries.items()} for name, entries in knob.items()}
        texts.append(_knob_table(means, rate))
        print(texts[-1])
        save_figure(means, config.out / "similarity.png")
    content = {
        "config": {name: str(value) for name, value in dataclasses.asdict(config).items()},
        "results": [jsonable(dataclasses.asdict(record)) for record in records],
    }
    write_atomically(config.out / "results.json", (json.dumps(content) + "\n").encode())
    write_atomically(config.out / "table.md", ("\n\n".join(texts) + "\n").encode())
    print(f"Written to {config.out}.")
    return results, knob


# -- one entry ---------------------------------------------------------------------------------


def _gains(
    name: str,
    kwargs: Mapping[str, Any],
    grid: Sequence[tuple[str, str]],
    rate: float,
    config: Config,
) -> dict[tuple[str, str], Gains]:
    """The gains of a set of tasks, by architecture and weighting."""
    tests = [make_task_set(name, **kwargs, seed=seed).test for seed in config.seeds]
    crossed = name != "related"  # whose tasks are other ones for every seed

    def scores(architecture: str, weighting: str) -> list[dict[str, np.ndarray]]:
        return [
            _entry(name, kwargs, architecture, weighting, rate, seed, config).test
            for seed in config.seeds
        ]

    twins = scores(TWIN, "uniform")
    return {pair: Gains.from_scores(scores(*pair), twins, tests[0], crossed) for pair in grid}


def _rate(name: str, kwargs: Mapping[str, Any], config: Config) -> float:
    """The learning rate with which twins and hard sharing do best on validation examples."""

    def score(rate: float) -> float:
        entries = [
            _entry(name, kwargs, architecture, "uniform", rate, TUNING_SEED, config)
            for architecture in (TWIN, "hard")
        ]
        return float(np.mean([x.mean() for entry in entries for x in entry.validation.values()]))

    return max(RATES, key=score)


def _entry(
    name: str,
    kwargs: Mapping[str, Any],
    architecture: str,
    weighting: str,
    rate: float,
    seed: int,
    config: Config,
) -> Entry:
    """A trained network's scores, from the folder as far as they are there.

    Raises:
        InvalidArgumentError: those in the folder were made with other settings.
    """
    loop = TrainConfig(steps=config.steps, learning_rate=rate, device=config.device, **LOOP)
    details = "-".join(f"{k}{v}" for k, v in kwargs.items())
    path = config.out / "runs" / (
        f"{name}-{details}-{architecture}-{weighting}-rate{rate:g}-seed{seed}.npz"
    )  # fmt: skip
    fields = dataclasses.asdict(loop) | dataclasses.asdict(
        architecture_class(architecture).Config()
    )
    settings = json.dumps(fields)
    if path.is_file():
        with np.load(path, allow_pickle=False) as saved:
            refuse_other(
                path, json.loads(settings), json.loads(str(saved["settings"])), ("device",)
            )
            sides = [
                {key.split("/")[1]: saved[key] for key in saved if key.startswith(side)}
                for side in ("test/", "validation/")
            ]
            return Entry(sides[0], sides[1], float(saved["seconds"]))
    sets = make_task_set(name, **kwargs, seed=seed)
    learner = make_learner(sets.train, architecture, weighting, seed=seed)
    train = train_twins if architecture == TWIN else train_multitask
    start = time.perf_counter()
    trained = train(learner, sets.train, sets.validation, config=loop, seed=seed)
    seconds = time.perf_counter() - start
    entry = Entry(
        trained.example_scores(sets.test), trained.example_scores(sets.validation), seconds
    )
    arrays: dict[str, Any] = {f"test/{task}": x for task, x in entry.test.items()}
    arrays |= {f"validation/{task}": x for task, x in entry.validation.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, settings=np.array(settings), seconds=np.array(seconds), **arrays)
    write_atomically(path, buffer.getvalue())
    return entry


# -- what is shown -----------------------------------------------------------------------------


def _table(label: str, entries: Mapping[tuple[str, str], Gains], rate: float) -> str:
    """Markdown: the gain of each task, or of all and how many gain and lose, by network."""
    first = next(iter(entries.values()))
    few = len(first.kinds) <= 3
    columns = (
        [f"{name} ({score_name(kind)})" for name, kind in first.kinds.items()] if few
        else ["mean of tasks", "tasks that gain / lose"]
    )  # fmt: skip
    twins = [np.mean([first.twins[name].mean()]) for name in first.kinds]
    shown = [f"{x:.3f}" for x in twins] if few else [f"{np.mean(twins):.3f}", ""]
    lines = [
        f"{label}: gain over the single-task twins; learning rate {rate:g}, "
        f"{len(next(iter(first.ours.values())))} seeds, [95 % interval]", "",
        f"| architecture | weighting | {' | '.join(columns)} |",
        "|:--" * (2 + len(columns)) + "|",
        f"| single-task twins: score | | {' | '.join(shown)} |",
    ]  # fmt: skip
    for (architecture, weighting), gains in entries.items():
        if few:
            cells = [cell(gains.gain(name)) for name in gains.kinds]
        else:
            each = [gains.gain(name) for name in gains.kinds]
            counts = sum(x.low > 0 for x in each), sum(x.high < 0 for x in each)
            cells = [cell(gains.gain()), f"{counts[0]} / {counts[1]} of {len(each)}"]
        lines.append(f"| {architecture} | {weighting} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _knob_table(means: Mapping[str, Mapping[float, Estimate]], rate: float) -> str:
    """Markdown: the mean gain in R² by similarity."""
    similarities = list(next(iter(means.values())))
    lines = [
        f"synthetic tasks: gain in R² over the single-task twins, by similarity; learning rate "
        f"{rate:g}", "",
        "| architecture | " + " | ".join(f"{s:g}" for s in similarities) + " |",
        "|:--" * (1 + len(similarities)) + "|",
    ]  # fmt: skip
    for architecture, entries in means.items():
        cells = [cell(mean, 2) for mean in entries.values()]
        lines.append(f"| {architecture} | {' | '.join(cells)} |")
    return "\n".join(lines)


def save_figure(means: Mapping[str, Mapping[float, Estimate]], path: Path) -> None:
    """The gain against the similarity of the tasks, a panel per architecture.

    Args:
        means: gains by architecture and similarity.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    columns = min(4, len(means))
    rows = -(-len(means) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.4 * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, (architecture, entries) in zip(axes, means.items(), strict=False):
        x, found = list(entries), list(entries.values())
        low, high = [e.low for e in found], [e.high for e in found]
        axis.axhline(0, color="k", linewidth=0.8)
        axis.fill_between(x, low, high, alpha=0.25, color="C0", linewidth=0)
        axis.plot(x, [e.value for e in found], "o-", markersize=3.5, color="C0")
        axis.set_title(architecture.replace("_", " "), fontsize="medium")
        axis.set_xticks([0, 0.5, 1])
    for axis in axes[len(means) :]:
        axis.remove()
    figure.supxlabel("similarity of the tasks (cosine)", fontsize="medium")
    figure.supylabel("gain in R² over single-task twins", fontsize="medium")
    write_figure(path, figure, dpi=120)


if __name__ == "__main__":
    start = time.perf_counter()
    main(tyro.cli(Config, description=__doc__))
    print(f"{time.perf_counter() - start:.0f} s in all.")
