"""Transfer between MNIST and USPS, both ways: what few labels, and what none, are worth.

    python experiments/transfer_digits.py                     a quarter of an hour on one free core
    python experiments/transfer_digits.py --seeds 0 1         a first look

2,000 MNIST and 1,800 USPS images of 16 × 16; half of the target is the test part, the same for all
seeds, and of the other half ``shots`` images per class have labels, others for every seed. All
methods have the same convolutional net and see as many minibatches of the source. Fine-tuning and
L2-SP start from the weights of source only; the skyline has the labels of the whole training part
of the target, which no method of transfer may see.

Settings are chosen anew for every direction and seed: candidates of a method that needs labels of
the target are trained on four fifths of them and judged on the others, which join again for the
run that is reported. Methods without labels keep their defaults, which for DANN are the paper's:
no label of the target may choose for them. The test part chooses nothing.

Intervals are those of a bootstrap over both seeds and test images (crossed, after Owen 2007).
A run that is cut off goes on from --out; other settings need another folder.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from kept_runs import refuse_other
from metagym.baselines.transfer.command import evaluate_domains
from metagym.baselines.transfer.deep_methods import make_deep_method
from metagym.checkpoint import CONFIG
from metagym.errors import check_choice, check_positive
from metagym.evaluation.results import Result
from metagym.evaluation.statistics import CONFIDENCE, RESAMPLES, Estimate
from metagym.files import write_atomically, write_figure
from metagym.tasks.domains import DomainPair, make_domains

DIRECTIONS = {"mnist_usps": "MNIST → USPS", "usps_mnist": "USPS → MNIST"}
SOURCE_ONLY, SKYLINE = "source only", "skyline: all target labels"


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        method: of ``DEEP_METHODS``.
        labels: which of the target it sees.
        fields: of the config.
        candidates: further fields, of which validation chooses.
        from_source: it starts from the weights of source only.
    """

    method: str
    labels: str
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    candidates: tuple[dict[str, Any], ...] = ({},)
    from_source: bool = False


ROWS: dict[str, Row] = {
    SOURCE_ONLY: Row("source_only", "none"),
    "importance-weighted": Row("importance_weighted", "none"),
    "deep CORAL": Row("deep_coral", "none"),
    "deep MMD": Row("deep_mmd", "none"),
    "DANN": Row("dann", "none"),
    "target only": Row("target_only", "few"),
    "joint": Row("transfer_joint", "few", {}, ({"alpha": 0.5}, {"alpha": 0.8})),
    "fine-tuned": Row(
        "transfer_fine_tuning", "few", {"tuning_rate": 1e-3},
        ({"tuned_layers": None}, {"tuned_layers": 1}), from_source=True,
    ),
    "L2-SP": Row(
        "l2_sp", "few", {"tuning_rate": 1e-3}, ({"pull": 0.01}, {"pull": 0.1}, {"pull": 1.0}),
        from_source=True,
    ),
    "DANN + few labels": Row("dann", "few", {"label_weight": 1.0}),
    SKYLINE: Row("target_only", "all"),
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        out: folder for checkpoints, Results, results.json, table.md and transfer_digits.png.
        folder: of the data; by default METAGYM_DATA, or ../shared/data beside the checkout.
        directions: a selection of mnist_usps and usps_mnist.
        methods: a selection of the rows; source only is always there.
        seeds: of weights, minibatches and the choice of labelled images.
        shots: labels per class of the target.
        iterations: gradient steps; fine-tuning and L2-SP take a third of them after the source's.
        batch: rows of each domain in a minibatch.
        device: "auto" is a GPU where there is one.
    """

    out: Path = Path("results/transfer_digits")
    folder: Path | None = None
    directions: tuple[str, ...] = tuple(DIRECTIONS)
    methods: tuple[str, ...] = tuple(ROWS)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    shots: int = 5
    iterations: int = 600
    batch: int = 32
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_positive("shots", self.shots)
        for name in self.directions:
            check_choice("directions", name, DIRECTIONS)
        for name in self.methods:
            check_choice("methods", name, ROWS)


# [direction][label]: right or wrong, [seeds, test images]
Scores = dict[str, dict[str, np.ndarray]]


def main(config: Config) -> Scores:
    """Train what is missing, judge, print; write the tables, Results and the figure."""
    labels = [name for name in ROWS if name in (SOURCE_ONLY, *config.methods)]
    scores: Scores = {}
    for direction in config.directions:
        scores[direction] = {}
        for label in labels:
            runs = [_run(direction, label, seed, config) for seed in config.seeds]
            scores[direction][label] = np.array([result.scores for result in runs])
            print(_line(label, scores[direction]), f"({DIRECTIONS[direction]})", flush=True)
    text = table(scores) + "\n"
    print(f"\n{text}")
    write_atomically(config.out / "table.md", text.encode())
    content = {
        "config": {name: str(value) for name, value in dataclasses.asdict(config).items()},
        "accuracy": {
            direction: {
                label: {
                    **estimate_crossed(found)._asdict(), "seeds": found.mean(1).tolist(),
                    "difference": estimate_crossed(found - every[SOURCE_ONLY])._asdict(),
                }
                for label, found in every.items()
            }
            for direction, every in scores.items()
        },
    }  # fmt: skip
    write_atomically(config.out / "results.json", (json.dumps(content) + "\n").encode())
    save_figure(scores, config.out / "transfer_digits.png")
    print(f"Written to {config.out}.")
    return scores


# -- one run -----------------------------------------------------------------------------------


def _run(direction: str, label: str, seed: int, config: Config) -> Result:
    """The Result of one row, direction and seed, read if it is there already.

    Raises:
        InvalidArgumentError: what is there has other settings.
    """
    row = ROWS[label]
    name = f"{direction}-{label.replace(' ', '_').replace(':', '')}-seed{seed}"
    kwargs = {"shots": config.shots, "seed": seed}
    pair = make_domains(direction, **kwargs, folder=_folder(config))
    shared = {
        "image_shape": pair.image_shape, "batch": config.batch, "iterations": config.iterations,
    }  # fmt: skip
    if row.from_source:
        start = config.out / "checkpoints" / f"{direction}-{SOURCE_ONLY.replace(' ', '_')}"
        shared["start"] = f"{start}-seed{seed}"
        shared["iterations"] = max(1, config.iterations // 3)
    if row.method == "importance_weighted":  # as many gradient steps as the others, in all
        shared["pretraining"] = max(1, config.iterations // 3)
        shared["iterations"] = max(1, config.iterations - shared["pretraining"])
    kept = config.out / "runs" / f"{name}.json"
    if kept.is_file():
        result = Result.load(kept)
        asked = json.loads(json.dumps({**kwargs, **shared, **row.fields}))
        refuse_other(kept, asked, {**result.env_kwargs, **result.agent_config}, ("start",))
        return result
    chosen = _choose(row, pair, shared, seed, config)
    place = config.out / "checkpoints" / name
    method = make_deep_method(
        row.method, seed=seed, device=config.device, out=place,
        resume=(place / CONFIG).is_file(), **{**shared, **row.fields, **chosen},
    )  # fmt: skip
    yt = {"none": None, "few": pair.yt, "all": pair.yt_all}[row.labels]
    method.fit_named(pair.X, pair.y, pair.Xt, yt, data_name=direction, data_kwargs=kwargs)
    result = evaluate_domains(
        method, pair, label=label, privileged=label == SKYLINE, seed=seed, pair_kwargs=kwargs
    )
    result.save(kept)
    return result


def _choose(
    row: Row, pair: DomainPair, shared: dict[str, Any], seed: int, config: Config
) -> dict[str, Any]:
    """The candidate that does best on a fifth of the target's labels, which it has not seen."""
    if len(row.candidates) == 1 or pair.yt is None:
        return row.candidates[0]
    # The labelled rows are in random order, so that each class keeps some labels.
    held = max(1, len(pair.yt) // 5)
    known = len(pair.yt) - held
    judged, answers = pair.Xt[known : len(pair.yt)], pair.yt[known:]
    found = []
    for fields in row.candidates:
        method = make_deep_method(
            row.method, seed=seed, device=config.device, **{**shared, **row.fields, **fields}
        )
        method.fit(pair.X, pair.y, pair.Xt, pair.yt[:known])
        # Few labels tie often: then the likelihood decides.
        chances = method.predict_proba(judged)[np.arange(held), answers]
        found.append((float((method.predict(judged) == answers).mean()), np.log(chances).mean()))
    return row.candidates[max(range(len(found)), key=found.__getitem__)]


def _folder(config: Config) -> Path | None:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    if config.folder is not None:
        return config.folder
    return None if os.environ.get("METAGYM_DATA") or not beside.is_dir() else beside


# -- what is shown -----------------------------------------------------------------------------


def estimate_crossed(scores: np.ndarray, seed: int = 0) -> Estimate:
    """The mean of scores [seeds, images] with a 95 % interval over both.

    Every resample draws seeds and, independently, images (Owen 2007, "The pigeonhole bootstrap").
    """
    rng = np.random.default_rng(seed)
    runs, images = scores.shape
    rows = rng.multinomial(runs, np.full(runs, 1 / runs), RESAMPLES) / runs
    columns = rng.multinomial(images, np.full(images, 1 / images), RESAMPLES) / images
    means = ((rows @ scores) * columns).sum(1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return Estimate(float(scores.mean()), float(low), float(high))


def table(scores: Scores) -> str:
    """Markdown: accuracies and differences to source only, in %."""
    lines = [
        "| method | target labels | "
        + " | ".join(f"{DIRECTIONS[name]} | minus source only" for name in scores) + " |",
        "|:--" * (2 + 2 * len(scores)) + "|",
    ]  # fmt: skip
    for label in next(iter(scores.values())):
        cells = []
        for every in scores.values():
            cells.append(_cell(estimate_crossed(every[label])))
            same = label == SOURCE_ONLY
            difference = estimate_crossed(every[label] - every[SOURCE_ONLY])
            cells.append("" if same else _cell(difference, "+"))
        lines.append(f"| {label} | {ROWS[label].labels} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _line(label: str, every: dict[str, np.ndarray]) -> str:
    return f"{label:28} {_cell(estimate_crossed(every[label]))}"


def _cell(found: Estimate, sign: str = "") -> str:
    value, low, high = (100 * x for x in found)
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def save_figure(scores: Scores, path: Path) -> None:
    """Accuracies with their intervals, one panel per direction; a dot per seed.

    Args:
        scores: by direction and label.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(scores), sharey=True))
    colours = {"none": "C0", "few": "C1", "all": "0.5"}
    for axis, (direction, every) in zip(axes, scores.items(), strict=True):
        for place, (label, found) in enumerate(every.items()):
            value, low, high = estimate_crossed(found)
            colour = colours[ROWS[label].labels]
            axis.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", capsize=3,
                          color=colour)  # fmt: skip
            axis.plot(found.mean(1), np.full(len(found), place), "|", color=colour, alpha=0.6)
        axis.axvline(every[SOURCE_ONLY].mean(), color="0.8", zorder=0)
        axis.set(yticks=range(len(every)), yticklabels=list(every), xlabel="test accuracy",
                 title=DIRECTIONS[direction])  # fmt: skip
    axes[0].invert_yaxis()
    for labels, colour in colours.items():
        axes[0].plot([], [], "o", color=colour, label=f"{labels} of the target's labels")
    axes[0].legend(fontsize="small")
    write_figure(path, figure, dpi=120)


if __name__ == "__main__":
    begun = time.perf_counter()
    main(tyro.cli(Config, description=__doc__))
    print(f"{time.perf_counter() - begun:.0f} s in all.")
