"""Sinusoid regression: what learning to initialise buys, step by step.

    python experiments/maml_sinusoid.py --quick            MAML, 10-shot, a minute on a CPU
    python experiments/maml_sinusoid.py                    every method, 5- and 10-shot
    python experiments/maml_sinusoid.py --iterations 70000     as long as the paper

Every method is judged by its final weights on the same test tasks, with 100 query points each,
after 1, 5 and 10 inner steps; where an error ends above 1,000 the table says on how many tasks,
and the median of all. The pretrained control is joint training on all tasks. The oracle, which is
privileged, knows that tasks are A sin(x - φ), and fits one by least squares without any step; the
table shows its number in every column. What is finished is not run again, and a run that was
interrupted goes on from its checkpoint.
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

from few_shot_runs import trained
from metagym.baselines.few_shot import make_method
from metagym.baselines.few_shot.base import FewShotMethod, TaskShape, mse
from metagym.baselines.few_shot.controls import SinusoidOracle
from metagym.baselines.few_shot.gradient import GradientMethod
from metagym.baselines.few_shot.judge import evaluate_few_shot, few_shot_scores, make_result
from metagym.baselines.few_shot.recipes import recipe
from metagym.baselines.few_shot.train import TrainConfig
from metagym.evaluation.statistics import Estimate
from metagym.files import write_atomically, write_figure
from metagym.tasks.few_shot import Tasks
from metagym.tasks.sinusoid import Sinusoid

METHODS = {  # by label; their settings are those of ``recipe(name, "sinusoid")``
    "MAML": "maml",
    "FOMAML": "fomaml",
    "Meta-SGD": "meta_sgd",
    "MAML++": "maml_plus_plus",
    "ANIL": "anil",
    "Reptile": "reptile",
    "pretrained control": "joint",
}
STEPS = (1, 5, 10)  # MAML++ is trained for five, most others for one
QUERIES = 100
BATCH = 100  # tasks judged at a time
ANY = "any"  # number of steps
DIVERGED = 1000.0  # a mean squared error above it; that of saying nothing is below 13


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        out: folder for checkpoints, results.json, table.md and adaptation.png.
        shots: how many examples a task has.
        methods: a selection; all by default.
        iterations: of meta-training.
        tasks: of the test.
        seed: of training; the test tasks are the same for all.
        quick: MAML, 10-shot, only.
        device: "auto" is a GPU where there is one.
    """

    out: Path = Path("results/maml_sinusoid")
    shots: tuple[int, ...] = (5, 10)
    methods: tuple[str, ...] = tuple(METHODS)
    iterations: int = 10_000
    tasks: int = 1000
    seed: int = 0
    quick: bool = False
    device: str = "auto"


def main(config: Config) -> None:
    """Train what is missing, judge, print the table; write results.json, table.md and a figure."""
    if config.quick:
        config = dataclasses.replace(config, shots=(10,), methods=("MAML",))
    rows: list[dict[str, Any]] = []
    shown: dict[str, GradientMethod] = {}
    for shots in config.shots:
        test = Sinusoid(shots, QUERIES, device=config.device)
        for label in config.methods:
            method = _trained(label, shots, config)
            seconds = (method.training_record or {}).get("seconds")
            rows.append(_row(label, shots, seconds, method, test, config.tasks))
            if shots == max(config.shots) and isinstance(method, GradientMethod):
                shown[label] = method
            print(_table(rows[-1:], header=False), flush=True)
        rows.append(_oracle(shots, test, config.tasks))
    table = _table(rows)
    print(table)
    content = {"iterations": config.iterations, "tasks": config.tasks, "rows": rows}
    write_atomically(config.out / "results.json", (json.dumps(content) + "\n").encode())
    write_atomically(config.out / "table.md", (table + "\n").encode())
    save_figure(shown, max(config.shots), config.out / "adaptation.png")
    print(f"Written to {config.out}.")


def _trained(label: str, shots: int, config: Config) -> FewShotMethod:
    """The method of a label, from its checkpoint as far as there is one."""
    name = METHODS[label]
    found = recipe(name, "sinusoid")
    tasks = Sinusoid(shots, shots, device=config.device)
    return trained(
        make_method(name, tasks, seed=config.seed, **found.fields), tasks,
        config.out / f"{name}-{shots}shot-seed{config.seed}",
        TrainConfig(iterations=config.iterations, device=config.device, **found.loop), config.seed,
    )  # fmt: skip


def _row(
    label: str, shots: int, seconds: float | None, method: FewShotMethod, test: Sinusoid, count: int
) -> dict[str, Any]:
    """One line of the table: by number of steps an estimate, or how many tasks it diverged on."""
    row: dict[str, Any] = {
        "method": label, "shots": shots, "seconds": seconds, "mse": {}, "diverged": {},
        "results": [],
    }  # fmt: skip
    for steps in STEPS:
        begin = time.perf_counter()
        scores = few_shot_scores(method, test, "test", count, steps=steps, batch=BATCH)
        elapsed = time.perf_counter() - begin
        # A mean over the tasks that did not diverge would flatter; one over all says nothing.
        diverged = ~(scores < DIVERGED)
        if diverged.any():
            median = float(np.median(np.where(diverged, DIVERGED, scores)))
            row["diverged"][str(steps)] = {"tasks": int(diverged.sum()), "median": median}
            continue
        result = make_result(
            method, test, scores, "test", 0, batch=BATCH, steps=steps, seconds=elapsed,
            tasks_kwargs={"shots": shots, "queries": QUERIES},
        )  # fmt: skip
        row["mse"][str(steps)] = Estimate(result.mean, *result.interval)._asdict()
        row["results"].append(json.loads(result.to_json()))
    return row


def _oracle(shots: int, test: Sinusoid, count: int) -> dict[str, Any]:
    """The line of the oracle, which takes no step: one number, whatever the column."""
    result = evaluate_few_shot(
        SinusoidOracle(TaskShape.of(test)), test, count=count, batch=BATCH,
        tasks_kwargs={"shots": shots, "queries": QUERIES},
    )  # fmt: skip
    return {
        "method": f"{result.agent}, privileged", "shots": shots, "seconds": None,
        "mse": {ANY: Estimate(result.mean, *result.interval)._asdict()},
        "results": [json.loads(result.to_json())],
    }  # fmt: skip


def _table(rows: list[dict[str, Any]], header: bool = True) -> str:
    """Markdown: the mean squared error after each number of steps, ± half the 95 % interval."""
    names = [f"MSE, {steps} step{'s' * (steps > 1)}" for steps in STEPS]
    lines = ["| method | shots | " + " | ".join(names) + " | training, s |",
             "|:--|--:|" + "--:|" * (len(STEPS) + 1)] if header else []  # fmt: skip
    for row in rows:
        cells = []
        for steps in STEPS:
            found = row["mse"].get(str(steps), row["mse"].get(ANY))
            if found is not None:
                half = (found["high"] - found["low"]) / 2
                cells.append(f"{found['value']:.3f} ± {half:.3f}")
            else:
                lost = row["diverged"][str(steps)]
                cells.append(f"diverges on {lost['tasks']} tasks, median {lost['median']:.3f}")
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.0f}"
        lines.append(f"| {row['method']} | {row['shots']} | {' | '.join(cells)} | {seconds} |")
    return "\n".join(lines)


def save_figure(methods: dict[str, GradientMethod], shots: int, path: Path) -> None:
    """One test task: what each method says before, after one and after ten steps; and the errors.

    Args:
        methods: by label.
        shots: examples of the task.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    distribution = Sinusoid(shots, QUERIES, device="cpu")
    tasks, truth = distribution.sample_with_parameters(
        200, "test", torch.Generator().manual_seed(0)
    )
    grid = torch.linspace(-5.0, 5.0, 200)[None, :, None]
    chosen = int((truth.amplitude - 3.5).abs().argmin())  # one with much to adapt to
    one = Tasks(*(tensor[chosen : chosen + 1] for tensor in tasks))
    curve = (truth.amplitude[chosen] * torch.sin(grid - truth.phase[chosen])).flatten()
    panels = len(methods) + 1
    columns = min(4, panels)
    rows = -(-panels // columns)
    figure = Figure(figsize=(3.2 * columns, 2.8 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axis in axes[panels:]:
        axis.set_axis_off()
    for axis, (label, method) in zip(axes[1:panels], methods.items(), strict=True):
        method = method.cpu()
        path_of_one = method.predict_path(
            one._replace(query_x=grid, query_y=torch.zeros_like(grid)), max(STEPS)
        )
        axis.plot(grid.flatten(), curve, color="0.6", linewidth=3, label="truth")
        for steps, style in ((0, ":"), (1, "--"), (max(STEPS), "-")):
            axis.plot(grid.flatten(), path_of_one[steps].flatten(), style, color="C0",
                      label=f"{steps} steps")  # fmt: skip
        axis.plot(one.support_x.flatten(), one.support_y.flatten(), "k^", markersize=5)
        axis.set_title(label)
        errors = mse(method.predict_path(tasks, max(STEPS)), tasks.query_y).mean(1)
        axes[0].plot(errors.numpy(), label=label)
    axes[0].set(yscale="log", ylim=(1e-2, 300.0),  # whoever leaves it has diverged
                xlabel="inner steps", ylabel="mean squared error",
                title=f"{shots}-shot")  # fmt: skip
    axes[0].legend(fontsize="x-small", loc="upper left", ncols=2)
    axes[1].legend(fontsize="x-small")
    write_figure(path, figure, dpi=120)


if __name__ == "__main__":
    start = time.perf_counter()
    main(tyro.cli(Config, description=__doc__))
    print(f"{time.perf_counter() - start:.0f} s in all.")
