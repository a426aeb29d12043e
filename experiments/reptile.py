"""Why Reptile learns to learn: what each inner step adds, and gradients that come to agree.

    python experiments/reptile.py                            within ten minutes
    python experiments/reptile.py --budget 800 --seeds 0     a first look

Reptile on sinusoids with k inner steps on minibatches of 10 out of 50 examples, for as many
gradients whatever k is. With k = 1 it is joint training on all tasks, the control. The analysis of
Nichol, Achiam and Schulman (2018) expands the mean update in the inner rate α: the first term is
the gradient of the mean loss, and the second, which is there from k = 2 on, raises the inner
product of the gradients of two minibatches of one task. The gradients of joint training may come
to agree as well, without a term that asks for it; what inner steps add is how far k > 1 is above.
FOMAML and MAML, which learn from 10 examples and are judged by 10 others, stand beside it.

The error is that of the final weights on test tasks after 1 and 10 steps. The alignment is taken
on validation tasks at the initial weights, all along the training: the cosine and the inner
product of the gradients of two minibatches of 10, of the same task and of two tasks. It is in
TensorBoard too. Intervals are over tasks, of the mean over seeds; in brackets, the seeds' range.

Shorter than published: 6,400 gradients for each place in a batch of 25 tasks, which are 800
iterations with k = 8, where others train for tens of thousands. The network is MAML's.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from few_shot_runs import OverSeeds, path_scores, trained
from gradient_alignment import MEASURES, alignment
from metagym.baselines.few_shot import make_method
from metagym.baselines.few_shot.base import FewShotMethod
from metagym.baselines.few_shot.gradient import GradientMethod
from metagym.baselines.few_shot.train import TrainConfig
from metagym.errors import InvalidArgumentError, check_choice
from metagym.evaluation.statistics import paired_difference
from metagym.files import write_atomically, write_figure
from metagym.monitoring import read_scalars
from metagym.tasks.few_shot import Tasks
from metagym.tasks.sinusoid import Sinusoid

SHOTS, POINTS, QUERIES = 10, 50, 100
STEPS = (1, 10)
CONTROL = "k = 1 (joint training)"


@dataclass(frozen=True)
class Recipe:
    """How one row is trained.

    Attributes:
        method: its name in ``make_method``.
        gradients: evaluated for each task of an iteration, on 10 examples each; MAML's product
            of Hessian and vector counts as two.
        fields: of the method's config.
        loop: of ``TrainConfig``.
    """

    method: str
    gradients: int
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    loop: dict[str, Any] = dataclasses.field(default_factory=dict)


def _reptile(steps: int) -> Recipe:
    # With an outer rate of 1 the weights move as far as the inner steps do, so that as many
    # gradients are as much training for every k.
    loop = {"optimizer": "sgd", "outer_lr": 1.0, "schedule": "linear"}
    fields = {"inner_lr": 0.02, "inner_steps": steps, "minibatch": SHOTS}
    return Recipe("reptile", steps, fields, loop)


RECIPES: dict[str, Recipe] = {
    CONTROL: _reptile(1),
    **{f"k = {steps}": _reptile(steps) for steps in (2, 4, 8, 32)},
    "FOMAML": Recipe("fomaml", 2, {"inner_lr": 0.01}),  # α as in MAML's paper
    "MAML": Recipe("maml", 4, {"inner_lr": 0.01}),
}


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        out: folder for checkpoints with their charts, results.json, table.md and reptile.png.
        rows: a selection; all by default.
        budget: gradients for each place in the batch of tasks.
        seeds: of training; the test tasks are the same for all.
        tasks: of the test, and of validation, where gradients are compared.
        points: of the curves.
        device: "auto" is a GPU where there is one.
    """

    out: Path = Path("results/reptile")
    rows: tuple[str, ...] = tuple(RECIPES)
    budget: int = 6400
    seeds: tuple[int, ...] = (0, 1, 2)
    tasks: int = 1000
    points: int = 10
    device: str = "cpu"


def main(config: Config) -> dict[str, dict[str, Any]]:
    """Train what is missing, judge, print the table; write it, results.json and the figure."""
    rows: dict[str, Row] = {}
    for label in config.rows:
        check_choice("rows", label, RECIPES)
        if config.budget < config.points * RECIPES[label].gradients:
            raise InvalidArgumentError(
                f"budget={config.budget} gives {label} fewer than {config.points} iterations; "
                "raise it, or lower points."
            )
    for label in config.rows:
        rows[label] = _row(label, config)
        print(_table({label: rows[label]}, header=False), flush=True)
    text = f"{_table(rows)}\n\n{_growth(rows)}\n"
    print(text)
    settings = {name: str(value) for name, value in dataclasses.asdict(config).items()}
    found = {label: row.as_dict() for label, row in rows.items()}
    content = {"config": settings, "rows": found}
    write_atomically(config.out / "results.json", (json.dumps(content) + "\n").encode())
    write_atomically(config.out / "table.md", text.encode())
    save_figure(rows, config.out / "reptile.png")
    print(f"Written to {config.out}.")
    return found


# -- one row -----------------------------------------------------------------------------------


def _alignment_tasks(config: Config) -> Tasks:
    distribution = Sinusoid(SHOTS, SHOTS, device=config.device)
    return distribution.sample(config.tasks, "validation", torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Row:
    """What is known of one recipe.

    Attributes:
        iterations: of training.
        errors: squared errors by number of steps.
        start, end: alignment before and after training, by measure.
        curves: of each measure, means over seeds at numbers of gradients.
        seconds: of training, all seeds together.
    """

    iterations: int
    errors: dict[int, OverSeeds]
    start: dict[str, OverSeeds]
    end: dict[str, OverSeeds]
    curves: dict[str, list[tuple[int, float]]]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return {
            "iterations": self.iterations, "seconds": self.seconds, "curves": self.curves,
            "mse": {str(steps): score.as_dict() for steps, score in self.errors.items()},
            "start": {name: score.as_dict() for name, score in self.start.items()},
            "end": {name: score.as_dict() for name, score in self.end.items()},
        }  # fmt: skip


def _row(label: str, config: Config) -> Row:
    recipe = RECIPES[label]
    test, pairs = Sinusoid(SHOTS, QUERIES, device=config.device), _alignment_tasks(config)
    points = POINTS if recipe.method == "reptile" else 2 * SHOTS
    tasks = Sinusoid(SHOTS, points - SHOTS, device=config.device)
    iterations = config.budget // recipe.gradients
    loop = TrainConfig(
        iterations=iterations, eval_every=max(1, iterations // config.points), eval_tasks=100,
        device=config.device, **recipe.loop,
    )  # fmt: skip

    def measure(method: FewShotMethod) -> dict[str, float]:
        return {name: float(x.mean()) for name, x in alignment(_checked(method), pairs).items()}

    scores, starts, ends, charts, seconds = [], [], [], [], 0.0
    for seed in config.seeds:
        made = make_method(recipe.method, tasks, seed=seed, **recipe.fields)
        method = _checked(made.to(config.device))
        starts.append(alignment(method, pairs))
        out = config.out / f"{recipe.method}-{recipe.gradients}-seed{seed}"
        method = _checked(trained(method, tasks, out, loop, seed, measure))
        scores.append(path_scores(method, test, "test", config.tasks, STEPS))
        ends.append(alignment(method, pairs))
        charts.append(read_scalars(out))
        seconds += (method.training_record or {}).get("seconds", 0.0)
    start, end = _stacked(starts), _stacked(ends)
    curves = {
        name: [
            (0, float(start[name].scores.mean())),
            *_mean_curve([chart[f"validation/{name}"] for chart in charts], recipe.gradients),
        ]
        for name in MEASURES
    }
    return Row(iterations, _stacked(scores), start, end, curves, seconds)


def _checked(method: FewShotMethod) -> GradientMethod:
    if not isinstance(method, GradientMethod):
        raise InvalidArgumentError(f"{method.label} does not adapt by gradient steps.")
    return method


def _stacked(seeds: list[dict[Any, np.ndarray]]) -> dict[Any, OverSeeds]:
    return {name: OverSeeds(np.stack([found[name] for found in seeds])) for name in seeds[0]}


def _mean_curve(charts: list[list[tuple[int, float]]], gradients: int) -> list[tuple[int, float]]:
    """The mean over seeds at the iterations that all have, by gradients instead of iterations."""
    seeds = [dict(chart) for chart in charts]
    common = sorted(set.intersection(*(set(seed) for seed in seeds)))
    return [(gradients * i, float(np.mean([seed[i] for seed in seeds]))) for i in common]


# -- what is shown -----------------------------------------------------------------------------


def _table(rows: dict[str, Row], header: bool = True) -> str:
    """Markdown; alignment as before → after training."""
    names = [f"MSE, {steps} step{'s' * (steps > 1)}" for steps in STEPS]
    names += [name.replace("_", ", ") for name in MEASURES]
    lines = [f"| training | iterations | {' | '.join(names)} | s |",
             "|:--|--:" + "|--:" * (len(names) + 1) + "|"] if header else []  # fmt: skip
    for label, row in rows.items():
        cells = [row.errors[steps].cell() for steps in STEPS]
        for name in MEASURES:
            start, end = (x[name].scores.mean() for x in (row.start, row.end))
            cells.append(f"{start:.2f} → {end:.2f}")
        lines.append(f"| {label} | {row.iterations:,} | {' | '.join(cells)} | {row.seconds:.0f} |")
    return "\n".join(lines)


def _growth(rows: dict[str, Row]) -> str:
    """Markdown: how much the alignment within a task grew, and how far it is above the control."""
    names = ("within_cosine", "within_product")
    columns = [
        f"{name.split('_')[1]}, {what}" for name in names for what in ("growth", "above k = 1")
    ]
    lines = [
        f"| gradients of one task | {' | '.join(columns)} |",
        "|:--" * (1 + len(columns)) + "|",
    ]
    for label, row in rows.items():
        cells = []
        for name in names:
            end = row.end[name].per_task
            cells.append(_difference(end, row.start[name].per_task))
            compared = label != CONTROL and CONTROL in rows
            cells.append(_difference(end, rows[CONTROL].end[name].per_task) if compared else "")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _difference(scores: np.ndarray, reference: np.ndarray) -> str:
    found = paired_difference(scores, reference)
    return f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def save_figure(rows: dict[str, Row], path: Path) -> None:
    """Errors by row, and the cosine of gradients along the training.

    Args:
        rows: by label.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = np.arange(len(rows))
    for number, steps in enumerate(STEPS):
        shown = [i for i, row in enumerate(rows.values()) if not row.errors[steps].diverged]
        found = [list(rows.values())[i].errors[steps].estimate for i in shown]
        means = np.array([x.value for x in found])
        ends = np.array([[x.value - x.low, x.high - x.value] for x in found]).reshape(-1, 2).T
        left.errorbar(places[shown] + 0.1 * number, means, ends, fmt="os"[number], capsize=3,
                      label=f"after {steps} step{'s' * (steps > 1)}")  # fmt: skip
    left.set_xticks(places, [label.replace(" (", "\n(") for label in rows], fontsize="x-small")
    left.set(yscale="log", ylabel="mean squared error", title="test tasks")
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("{x:g}")
    left.legend(fontsize="small")
    for number, (label, row) in enumerate(rows.items()):
        for name, style in (("within_cosine", "-"), ("across_cosine", ":")):
            gradients, cosines = zip(*row.curves[name], strict=True)
            right.plot(gradients, cosines, style, color=f"C{number}",
                       label=label if style == "-" else None)  # fmt: skip
    right.set(xlabel="gradients", ylabel="cosine of two minibatches' gradients",
              title="of one task (solid) and of two tasks (dotted)")  # fmt: skip
    right.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    write_figure(path, figure, dpi=120)


if __name__ == "__main__":
    start = time.perf_counter()
    main(tyro.cli(Config, description=__doc__))
    print(f"{time.perf_counter() - start:.0f} s in all.")
