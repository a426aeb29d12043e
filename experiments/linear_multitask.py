"""Linear multi-task learning: what sharing gains over models of single tasks, and where it hurts.

    python experiments/linear_multitask.py                      about two minutes of one core
    python experiments/linear_multitask.py --seeds 0 1 --out results/first_look

Synthetic tasks (``related_tasks``) have vectors at a chosen cosine: at 1 all are one task, at 0
they have nothing in common. Six of them, two with 10 examples, two with 20 and two with 40, of 16
features. Real ones are scikit-learn's digits as ten binary tasks, "this digit or another", each
with a few images of its own.

The reference are models of single tasks, ridge or logistic regression. Every method chooses its
strengths on as many validation examples as it has for training, by the mean loss over tasks, and
so does the reference: what is compared is sharing weights, not sharing a choice. The row "alone, a
λ each" lets every task choose for itself. "pooled" is one vector for all. Pairwise distances are
not listed: for M tasks they are M times those to the mean.

Cells are the gain in R² or accuracy on test examples, in hundredths: the mean over tasks and seeds
with a 95 % interval over seeds, then how many of 100 tasks got worse. The reference has its score.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from metagym.baselines.multitask.clustered import ClusteredClassifier, ClusteredRegressor
from metagym.baselines.multitask.data import TaskData
from metagym.baselines.multitask.linear import MultiTaskClassifier, MultiTaskRegressor
from metagym.baselines.multitask.relationship import RelationshipClassifier, RelationshipRegressor
from metagym.baselines.multitask.stacked import stack_tasks
from metagym.errors import check_choice
from metagym.evaluation.statistics import estimate
from metagym.files import write_atomically, write_figure
from metagym.tasks.multitask import digits_binary
from metagym.tasks.related_tasks import related_tasks

TRAIN = (10, 10, 20, 20, 40, 40)  # examples of the synthetic tasks
RIDGES = (1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)
TWIN, OWN = "alone", "alone, a λ each"
Tasks = list[TaskData]


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        out: folder for the scores, results.json, table.md and linear_multitask.png.
        similarities: of the synthetic tasks, from 0 to 1.
        digits: training images of each task.
        methods: a selection; all by default. Models of single tasks are always there.
        seeds: of the tasks and their examples.
    """

    out: Path = Path("results/linear_multitask")
    similarities: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
    digits: tuple[int, ...] = (6, 20)
    methods: tuple[str, ...] = ("mean", "pooled", "l21", "trace", "clustered", "relationship")
    seeds: tuple[int, ...] = tuple(range(10))


# Scores of [setting][method]: [seeds, tasks].
Scores = dict[str, dict[str, np.ndarray]]


def candidates(method: str, classify: bool) -> list[Any]:
    """The estimators of a method among which validation examples choose.

    Args:
        method: its label.
        classify: whether tasks have classes.
    """
    linear = MultiTaskClassifier if classify else MultiTaskRegressor
    clustered = ClusteredClassifier if classify else ClusteredRegressor
    related = RelationshipClassifier if classify else RelationshipRegressor
    few, norms, tol = RIDGES[1:6:2], list(itertools.product(RIDGES[1:6], (0.0, 0.1))), 1e-4
    made: dict[str, Callable[[], list[Any]]] = {
        TWIN: lambda: [linear("none", ridge=r, tol=tol) for r in RIDGES],
        "mean": lambda: [
            linear("mean", s, ridge=r, tol=tol)
            for s, r in itertools.product((0.0, 0.03, 0.1, 0.3, 1.0, 10.0), RIDGES)
        ],
        "pooled": lambda: [linear("mean", 1e4, ridge=r, tol=tol) for r in RIDGES],
        "l21": lambda: [linear("l21", s, ridge=r, tol=tol) for s, r in norms],
        "trace": lambda: [linear("trace", s, ridge=r, tol=tol) for s, r in norms],
        "clustered": lambda: [
            clustered(2, s, ridge=r, tol=tol) for s, r in itertools.product((0.1, 1.0), few)
        ],
        "relationship": lambda: [
            related(s, ridge=r, tol=tol)
            for s, r in itertools.product((1e-3, 1e-2, 3e-2, 0.1), (0.0, 0.1))
        ],
    }
    return made[check_choice("methods", method, made)]()


def main(config: Config) -> Scores:
    """Fit what is missing, print the tables; write them, results.json and the figure."""
    methods = (TWIN, *config.methods)
    settings: dict[str, Callable[[int], tuple[Tasks, Tasks, Tasks]]] = {}
    for kind, similarity in itertools.product(("regression", "binary"), config.similarities):
        settings[f"{kind} {similarity:g}"] = functools.partial(synthetic, kind, similarity)
    for count in config.digits:
        settings[f"digits {count}"] = functools.partial(digits, count)
    scores = {name: run(name, make, methods, config) for name, make in settings.items()}
    text = "\n\n".join(
        table(title, {n: s for n, s in scores.items() if n.startswith(kind)})
        for kind, title in (
            ("regression", "regression, by cosine"), ("binary", "classes, by cosine"),
            ("digits", "digits, by images of each task"),
        )
    )  # fmt: skip
    print(text)
    content = {
        "config": {name: str(value) for name, value in dataclasses.asdict(config).items()},
        "scores": {n: {k: v.tolist() for k, v in s.items()} for n, s in scores.items()},
    }
    write_atomically(config.out / "results.json", (json.dumps(content) + "\n").encode())
    write_atomically(config.out / "table.md", (text + "\n").encode())
    save_figure(scores, config.out / "linear_multitask.png")
    print(f"Written to {config.out}.")
    return scores


# -- one setting -------------------------------------------------------------------------------


def synthetic(kind: str, similarity: float, seed: int) -> tuple[Tasks, Tasks, Tasks]:
    """Six tasks at an angle."""
    rng = np.random.default_rng(seed)
    return related_tasks(rng, tasks=len(TRAIN), similarity=similarity, train=TRAIN, kind=kind)


def digits(count: int, seed: int) -> tuple[Tasks, Tasks, Tasks]:
    """Ten binary tasks with ``count`` images to train and as many to choose strengths."""
    made = digits_binary(train=2 * count, seed=seed)
    halves: tuple[Tasks, Tasks] = ([], [])
    for task in made.train:
        parts = train_test_split(task.x, task.y, test_size=0.5, stratify=task.y, random_state=seed)
        for half, x, y in zip(halves, parts[:2], parts[2:], strict=True):
            half.append(TaskData(task.name, task.kind, x, y))
    return (*halves, made.test)


def run(
    name: str,
    make: Callable[[int], tuple[Tasks, Tasks, Tasks]],
    methods: Sequence[str],
    config: Config,
) -> dict[str, np.ndarray]:
    """Scores [seeds, tasks] of each method, from the file of a former run where there is one."""
    path = config.out / f"{name.replace(' ', '_')}.json"
    known: dict[str, list[list[float]]] = {}
    if path.exists():
        stored = json.loads(path.read_text())
        known = stored["scores"] if stored["seeds"] == list(config.seeds) else {}
    if missing := [method for method in methods if method not in known]:
        found: dict[str, list[list[float]]] = {}
        start = time.perf_counter()
        for seed in config.seeds:
            sets = make(seed)
            for method in missing:
                for label, values in judged(method, *sets).items():
                    found.setdefault(label, []).append(values.tolist())
        known |= found
        content = {"seeds": list(config.seeds), "scores": known}
        write_atomically(path, (json.dumps(content) + "\n").encode())
        print(f"{name} done in {time.perf_counter() - start:.0f} s.", flush=True)
    labels = [label for label in known if label in (*methods, OWN)]
    return {label: np.array(known[label]) for label in labels}


def judged(method: str, train: Tasks, validation: Tasks, test: Tasks) -> dict[str, np.ndarray]:
    """Test scores [tasks] of a method with the strengths that validation examples prefer."""
    classify = train[0].kind == "binary"
    fitted, given = candidates(method, classify), stack_tasks(train)
    with warnings.catch_warnings():  # of candidates at the edge, which are hardly chosen
        warnings.simplefilter("ignore", ConvergenceWarning)
        for model in fitted:
            model.fit(*given)
    losses = np.array([measured(model, validation, loss=True) for model in fitted])
    scores = np.array([measured(model, test, loss=False) for model in fitted])
    chosen = {method: scores[losses.mean(axis=1).argmin()]}
    if method == TWIN:
        chosen[OWN] = scores[losses.argmin(axis=0), np.arange(len(train))]
    return chosen


def measured(model: Any, tasks: Tasks, *, loss: bool) -> np.ndarray:
    """[tasks]: mean losses of examples, or R² and accuracy."""
    table, y = stack_tasks(tasks)
    task = table[:, -1].astype(int)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(task, values) / np.bincount(task)

    if tasks[0].kind == "binary":
        margin = np.where(y == 1, 1.0, -1.0) * model.decision_function(table)
        return mean(np.logaddexp(0.0, -margin) if loss else (margin > 0.0).astype(float))
    errors = mean((model.predict(table) - y) ** 2)
    return errors if loss else 1.0 - errors / mean((y - mean(y)[task]) ** 2)


# -- what is shown -----------------------------------------------------------------------------


def table(title: str, scores: Scores) -> str:
    """Markdown: gains over models of single tasks by setting, and how many tasks got worse."""
    lines = [f"| {title} | " + " | ".join(name.split()[1] for name in scores) + " |",
             "|:--" * (1 + len(scores)) + "|"]  # fmt: skip
    twins = [estimate(100.0 * s[TWIN].mean(axis=1)) for s in scores.values()]
    cells = [f"{x.value:.1f} [{x.low:.1f}, {x.high:.1f}]" for x in twins]
    lines.append(f"| {TWIN} (score) | {' | '.join(cells)} |")
    for method in next(iter(scores.values())):
        if method != TWIN:
            cells = []
            for setting in scores.values():
                gains = 100.0 * (setting[method] - setting[TWIN])
                x = estimate(gains.mean(axis=1))
                worse = 100.0 * (gains < 0.0).mean()
                cells.append(f"{x.value:+.1f} [{x.low:+.1f}, {x.high:+.1f}] {worse:.0f}")
            lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def save_figure(scores: Scores, path: Path) -> None:
    """Gains over models of single tasks, against the cosine and against the number of images.

    Args:
        scores: by setting and method.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 4.0), layout="constrained")
    panels = (
        ("regression", "regression", "cosine between tasks", "gain in R² × 100"),
        ("binary", "two classes", "cosine between tasks", "gain in accuracy, points"),
        ("digits", "digits, ten tasks", "training images of each task", "gain in accuracy, points"),
    )
    for axis, (kind, title, x_label, y_label) in zip(figure.subplots(1, 3), panels, strict=True):
        shown = {float(n.split()[1]): s for n, s in scores.items() if n.startswith(kind)}
        methods = [m for m in next(iter(shown.values()), {}) if m not in (TWIN, OWN)]
        colors = {method: f"C{number}" for number, method in enumerate(methods)}
        if kind == "digits" and "pooled" in methods:  # so bad that nothing else could be seen
            methods.remove("pooled")
            title += " (pooled: see the table)"
        axis.axhline(0.0, color="k", linewidth=0.8)
        for method in methods:
            found = [estimate(100.0 * (s[method] - s[TWIN]).mean(axis=1)) for s in shown.values()]
            color = colors[method]
            axis.plot(list(shown), [x.value for x in found], "o-", color=color, markersize=4,
                      label=method)  # fmt: skip
            axis.fill_between(list(shown), [x.low for x in found], [x.high for x in found],
                              color=color, alpha=0.15, linewidth=0)  # fmt: skip
        if kind == "digits":
            axis.set_xscale("log")
            axis.set_xticks(list(shown), [f"{x:g}" for x in shown], minor=False)
            axis.minorticks_off()
        axis.set(title=title, xlabel=x_label, ylabel=y_label)
    figure.axes[0].legend(fontsize="small")
    write_figure(path, figure, dpi=120)


if __name__ == "__main__":
    start = time.perf_counter()
    main(tyro.cli(Config, description=__doc__))
    print(f"{time.perf_counter() - start:.0f} s in all.")
