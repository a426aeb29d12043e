"""Where learning to learn stops helping: sinusoids from all the same to MAML's range.

    python experiments/task_diversity.py                              within ten minutes
    python experiments/task_diversity.py --iterations 300 --seeds 0     a first look

``Sinusoid(diversity=d)`` shrinks the ranges of amplitude and phase about their middle: at d = 0
there is one task, at d = 1 there are MAML's. Every method is trained on 1,500 batches of 25 tasks
of a diversity, and judged on tasks like those, and on those of d = 1. Joint pretraining with
fine-tuning is the control from transfer learning; training from scratch has seen no other task.

All adapt by gradient descent. For how many steps is chosen, for every entry, on validation tasks
like those of the test: up to 100 with the rate of meta-training; for the two controls up to 300
with the best of three rates. Intervals are over test tasks, of the mean over seeds; in brackets,
the seeds' range.

Shorter than published: 1,500 iterations where MAML's were 70,000, so that errors at d = 1 are not
those of the end. Methods are compared at the same budget.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from few_shot_runs import OverSeeds, path_scores, trained
from metagym.baselines.few_shot import make_method
from metagym.baselines.few_shot.base import FewShotMethod
from metagym.baselines.few_shot.gradient import GradientMethod
from metagym.baselines.few_shot.train import TrainConfig
from metagym.errors import InvalidArgumentError, check_choice
from metagym.evaluation.statistics import paired_difference
from metagym.files import write_atomically, write_figure
from metagym.tasks.sinusoid import Sinusoid

SHOTS, QUERIES = 10, 100
STEPS = (0, 1, 3, 10, 30, 100)
CONTROL_STEPS, CONTROL_RATES = (*STEPS, 300), (0.01, 0.02, 0.05)
CONTROL, SCRATCH = "joint + fine-tuning", "from scratch"
_SGD = {"optimizer": "sgd", "outer_lr": 1.0, "schedule": "linear"}
# label: (method, settings of the loop)
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "MAML": ("maml", {}),
    "Reptile": ("reptile", _SGD),
    "ANIL": ("anil", {}),
    CONTROL: ("joint", {}),
}
JUDGED = ("same", "wide")
TITLES = {"same": "test tasks like those of training", "wide": "test tasks of d = 1"}


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        out: folder for checkpoints, results.json, table.md and task_diversity.png.
        diversities: of training, from 0 to 1.
        methods: a selection; all by default. Training from scratch is always there.
        iterations: of meta-training.
        seeds: of training; the test tasks are the same for all.
        tasks: of the test.
        validation: tasks on which the number of steps is chosen.
        device: "auto" is a GPU where there is one.
    """

    out: Path = Path("results/task_diversity")
    diversities: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)
    methods: tuple[str, ...] = tuple(METHODS)
    iterations: int = 1500
    seeds: tuple[int, ...] = (0, 1)
    tasks: int = 1000
    validation: int = 200
    device: str = "cpu"


@dataclass(frozen=True)
class Entry:
    """One method on one kind of test tasks.

    Attributes:
        errors: squared errors on the test tasks, with the steps and the rate that were chosen.
        steps, rates: of each seed.
    """

    errors: OverSeeds
    steps: tuple[int, ...]
    rates: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return {"mse": self.errors.as_dict(), "steps": self.steps, "rates": self.rates}


# [label][judged][diversity of training]
Results = dict[str, dict[str, dict[float, Entry]]]


def main(config: Config) -> Results:
    """Train what is missing, judge, print the tables; write them, results.json and the figure."""
    labels = [check_choice("methods", label, METHODS) for label in config.methods]
    results: Results = {label: {kind: {} for kind in JUDGED} for label in [*labels, SCRATCH]}
    for diversity in config.diversities:
        tests = {
            kind: Sinusoid(SHOTS, QUERIES, d, device=config.device)
            for kind, d in zip(JUDGED, (diversity, 1.0), strict=True)
        }
        for label in labels:
            runs = [_trained(label, diversity, seed, config) for seed in config.seeds]
            for kind, test in tests.items():
                results[label][kind][diversity] = _entry(label, runs, test, config)
        starts = [make_method("joint", tests["same"], seed=seed) for seed in config.seeds]
        for kind, test in tests.items():
            known = results[SCRATCH]["wide"] if kind == "wide" else {}  # the same for every d
            results[SCRATCH][kind][diversity] = next(iter(known.values()), None) or _entry(
                SCRATCH, [_checked(x.to(config.device)) for x in starts], test, config
            )
        print(f"d = {diversity:g} done.", flush=True)
    text = "\n\n".join([*(_table(results, kind) for kind in JUDGED), _differences(results)]) + "\n"
    print(text)
    content = {
        "config": {name: str(value) for name, value in dataclasses.asdict(config).items()},
        "results": {
            label: {
                kind: {f"{d:g}": entry.as_dict() for d, entry in entries.items()}
                for kind, entries in kinds.items()
            }
            for label, kinds in results.items()
        },
    }
    write_atomically(config.out / "results.json", (json.dumps(content) + "\n").encode())
    write_atomically(config.out / "table.md", text.encode())
    save_figure(results, config.out / "task_diversity.png")
    print(f"Written to {config.out}.")
    return results


# -- one entry ---------------------------------------------------------------------------------


def _trained(label: str, diversity: float, seed: int, config: Config) -> GradientMethod:
    """The method of a label, from its checkpoint as far as there is one."""
    name, loop = METHODS[label]
    tasks = Sinusoid(SHOTS, SHOTS, diversity, device=config.device)
    method = trained(
        make_method(name, tasks, seed=seed), tasks,
        config.out / f"{name}-d{diversity:g}-seed{seed}",
        TrainConfig(iterations=config.iterations, device=config.device, **loop), seed,
    )  # fmt: skip
    return _checked(method)


def _checked(method: FewShotMethod) -> GradientMethod:
    if not isinstance(method, GradientMethod):
        raise InvalidArgumentError(f"{method.label} does not adapt by gradient steps.")
    return method


def _entry(label: str, runs: list[GradientMethod], test: Sinusoid, config: Config) -> Entry:
    """The test errors of all seeds, each with the steps and the rate that validation prefers."""
    errors, chosen_steps, chosen_rates = [], [], []
    for method in runs:
        is_control = label in (CONTROL, SCRATCH)
        rates = CONTROL_RATES if is_control else (method.config.inner_lr,)
        candidates = []
        for rate in rates:
            found = path_scores(
                _with_rate(method, rate), test, "validation", config.validation,
                CONTROL_STEPS if is_control else STEPS,
            )  # fmt: skip
            candidates += [(_mean(x), count, rate) for count, x in found.items()]
        _, count, rate = min(candidates)
        best = _with_rate(method, rate)
        errors.append(path_scores(best, test, "test", config.tasks, (count,))[count])
        chosen_steps.append(count)
        chosen_rates.append(rate)
    return Entry(OverSeeds(np.stack(errors)), tuple(chosen_steps), tuple(chosen_rates))


def _with_rate(method: GradientMethod, rate: float) -> GradientMethod:
    """The same weights, adapting at another rate."""
    made = type(method)(method.shape, dataclasses.replace(method.config, inner_lr=rate))
    made.load_state_dict(method.state_dict())
    return made.to(method.device).eval()


def _mean(errors: np.ndarray) -> float:
    """The mean; infinite where a task diverged."""
    return float(errors.mean()) if np.isfinite(errors).all() else np.inf


# -- what is shown -----------------------------------------------------------------------------


def _table(results: Results, kind: str) -> str:
    """Markdown: squared errors by diversity of training, "at" the numbers of steps chosen."""
    diversities = list(results[SCRATCH][kind])
    lines = [f"| {TITLES[kind]} | " + " | ".join(f"d = {d:g}" for d in diversities) + " |",
             "|:--" * (1 + len(diversities)) + "|"]  # fmt: skip
    for label, kinds in results.items():
        cells = []
        for entry in kinds[kind].values():
            steps = "/".join(map(str, sorted(set(entry.steps))))
            cells.append(f"{entry.errors.cell()} at {steps}")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _differences(results: Results) -> str:
    """Markdown: the error of each method minus that of the controls, task by task."""
    diversities = list(results[SCRATCH]["same"])
    lines = ["| MSE minus that of | tests | method | "
             + " | ".join(f"d = {d:g}" for d in diversities) + " |",
             "|:--" * (3 + len(diversities)) + "|"]  # fmt: skip
    controls = [label for label in (CONTROL, SCRATCH) if label in results]
    for control, kind, label in itertools.product(controls, JUDGED, results):
        if label not in (control, SCRATCH):
            cells = [
                _difference(entry.errors, results[control][kind][d].errors)
                for d, entry in results[label][kind].items()
            ]
            lines.append(f"| {control} | {kind} | {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _difference(scores: OverSeeds, reference: OverSeeds) -> str:
    if scores.diverged or reference.diverged:
        return "diverges"
    found = paired_difference(scores.per_task, reference.per_task)
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def save_figure(results: Results, path: Path) -> None:
    """The error against the diversity of training, for both kinds of test tasks.

    Args:
        results: by label, kind and diversity.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 4.0), layout="constrained")
    for axis, kind in zip(figure.subplots(1, 2, sharey=True), JUDGED, strict=True):
        for number, (label, kinds) in enumerate(results.items()):
            shown = {d: x.errors.estimate for d, x in kinds[kind].items() if not x.errors.diverged}
            means = np.array([x.value for x in shown.values()])
            ends = np.array([[x.value - x.low, x.high - x.value] for x in shown.values()])
            style = {CONTROL: "s--", SCRATCH: ":"}.get(label, "o-")
            axis.errorbar(list(shown), means, ends.reshape(-1, 2).T, fmt=style, capsize=3,
                          markersize=4, label=label,
                          color="k" if label == SCRATCH else f"C{number}")  # fmt: skip
        axis.set(yscale="log", xlabel="diversity of the tasks of training", title=TITLES[kind])
        axis.label_outer()
    figure.axes[0].set_ylabel("mean squared error")
    figure.axes[0].legend(fontsize="small")
    write_figure(path, figure, dpi=120)


if __name__ == "__main__":
    start = time.perf_counter()
    main(tyro.cli(Config, description=__doc__))
    print(f"{time.perf_counter() - start:.0f} s in all.")
