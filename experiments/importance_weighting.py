"""Covariate shift with a known density ratio: how well it is estimated, and what that is worth.

    python experiments/importance_weighting.py                     two minutes
    python experiments/importance_weighting.py --sizes 50 100        a first look

The source is N(0, I), the target N(μ, 0.7² I) with ‖μ‖ = 1, in 1, 3 and 10 dimensions; n examples
of each. The ratio is judged at the source examples: the squared error of weights scaled to mean
1, as a share of the variance of the true ones, so that no weights at all have 1. Models are
misspecified, as otherwise no weights are needed: with u the coordinate along μ, least squares of
y = sin 2u + noise on x, and logistic regression of classes with p(1 | x) = 1 / (1 + exp(4 − 4u²)),
both trained on the weighted source and judged on 20,000 examples of the target, whose labels no
method sees. The floor is the same model trained on those. The excess is what a model loses beyond
it, in the mean squared error of the noiseless target, or in the share of wrong labels.

All estimators have their defaults; nothing is tuned to the truth. Logistic regression on x has no
quadratic terms and is misspecified here, that on x and x² is not. Intervals are over seeds.
"""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from kept_runs import refuse_other
from metagym.baselines.transfer.density_ratio import (
    ClassifierRatio,
    DensityRatio,
    KnownRatio,
    SelectionRatio,
    TwoDensities,
)
from metagym.baselines.transfer.fitted_ratio import KLIEP
from metagym.baselines.transfer.importance import effective_sample_size
from metagym.baselines.transfer.least_squares_ratio import LSIF, ULSIF
from metagym.baselines.transfer.mean_matching import KernelMeanMatching
from metagym.evaluation.statistics import estimate
from metagym.files import write_atomically, write_figure

SPREAD = 0.7
JUDGED = 20_000
NONE, TRUE = "no weights", "true ratio"
MEASURES = {
    "ratio": "squared error of the ratio / variance of the ratio",
    "regression": "excess target error, regression",
    "classification": "excess target error, classification (percentage points)",
    "size": "effective sample size / n",
}
DECIMALS = {"ratio": 2, "regression": 3, "classification": 1, "size": 2}
SHOWN = ("ratio", "regression", "classification")  # in the figure


def _quadratic() -> Any:
    return make_pipeline(PolynomialFeatures(2), StandardScaler(), LogisticRegression())


Truth = Callable[[np.ndarray], np.ndarray]
ESTIMATORS: dict[str, Callable[[Truth | None], DensityRatio]] = {
    NONE: lambda truth: KnownRatio(),
    TRUE: KnownRatio,
    "p(s = 1), on x, x² (contrast)": lambda truth: SelectionRatio(_quadratic()),
    "odds, on x": lambda truth: ClassifierRatio(),
    "odds, on x, x²": lambda truth: ClassifierRatio(_quadratic()),
    "two kernel densities": lambda truth: TwoDensities(),
    "two Gaussians": lambda truth: TwoDensities(GaussianMixture(random_state=0)),
    "KLIEP": lambda truth: KLIEP(),
    "LSIF": lambda truth: LSIF(),
    "uLSIF": lambda truth: ULSIF(),
    "mean matching": lambda truth: KernelMeanMatching(),
    "mean matching, λ = 0": lambda truth: KernelMeanMatching(ridge=0.0, tol=1e-4, max_iter=1000),
}


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        out: folder for the runs, results.json, table.md and importance_weighting.png.
        dimensions: of the examples.
        sizes: examples of each domain.
        seeds: of the examples.
    """

    out: Path = Path("results/importance_weighting")
    dimensions: tuple[int, ...] = (1, 3, 10)
    sizes: tuple[int, ...] = (50, 100, 200, 500)
    seeds: tuple[int, ...] = tuple(range(10))


# {estimator: {measure: value}} of one seed; [dimension][size][estimator][measure] of all seeds
Scores = dict[str, dict[str, float]]
Results = dict[int, dict[int, dict[str, dict[str, list[float]]]]]


def main(config: Config) -> Results:
    """Run what is missing, print the tables; write them, results.json and the figure."""
    results: Results = {d: {} for d in config.dimensions}
    for d in config.dimensions:
        for n in config.sizes:
            runs = [_run(d, n, seed, config.out) for seed in config.seeds]
            results[d][n] = {
                name: {measure: [run[name][measure] for run in runs] for measure in MEASURES}
                for name in ESTIMATORS
            }
        print(f"{d} dimensions done.", flush=True)
    text = "\n\n".join(_table(results, d, m) for m in MEASURES for d in config.dimensions) + "\n"
    print(text)
    content = {
        "config": {name: str(value) for name, value in dataclasses.asdict(config).items()},
        "results": results,
    }
    write_atomically(config.out / "results.json", (json.dumps(content) + "\n").encode())
    write_atomically(config.out / "table.md", text.encode())
    save_figure(results, config.out / "importance_weighting.png")
    print(f"Written to {config.out}.")
    return results


# -- one run -----------------------------------------------------------------------------------


def _run(d: int, n: int, seed: int, out: Path) -> Scores:
    """All estimators on the examples of a seed, from its file if there is one.

    Raises:
        InvalidArgumentError: what is there has other settings.
    """
    path = out / "runs" / f"d{d}-n{n}-seed{seed}.json"
    settings = {"spread": SPREAD, "judged": JUDGED} | {
        name: str(make(None)) for name, make in ESTIMATORS.items()
    }
    if path.is_file():
        found = json.loads(path.read_text())
        refuse_other(path, settings, found["settings"])
        scores: Scores = found["scores"]
        return scores
    scores = judge(d, n, seed)
    write_atomically(path, json.dumps({"settings": settings, "scores": scores}).encode())
    return scores


def judge(d: int, n: int, seed: int) -> Scores:
    """Every estimator on ``n`` examples of each domain in ``d`` dimensions."""
    middle = np.full(d, 1.0 / np.sqrt(d))

    def truth(X: np.ndarray) -> np.ndarray:
        far = ((X - middle) ** 2).sum(axis=1) / SPREAD**2
        return np.exp(0.5 * ((X**2).sum(axis=1) - far)) / SPREAD**d

    rng = np.random.default_rng((seed, d, n))
    source = rng.normal(size=(n, d))
    target = middle + SPREAD * rng.normal(size=(n, d))
    judged = middle + SPREAD * rng.normal(size=(JUDGED, d))
    along = source @ middle, judged @ middle
    curves = [np.sin(2.0 * u) for u in along]
    values = curves[0] + 0.3 * rng.normal(size=n)
    chances = [1.0 / (1.0 + np.exp(4.0 - 4.0 * u**2)) for u in along]
    classes, judged_classes = (rng.random(len(p)) < p for p in chances)

    def losses(X: np.ndarray, y: np.ndarray, c: np.ndarray, w: np.ndarray | None) -> np.ndarray:
        line = LinearRegression().fit(X, y, sample_weight=w)
        squared = ((line.predict(judged) - curves[1]) ** 2).mean()
        # One class only, or all weight on one: its label is all that there is to predict.
        seen = c if w is None else c[w > 0.0]
        if len(np.unique(seen)) < 2:
            return np.array([squared, (judged_classes != seen[0]).mean()])
        border = LogisticRegression(C=1e4, max_iter=1000).fit(X, c, sample_weight=w)
        return np.array([squared, (border.predict(judged) != judged_classes).mean()])

    floor = losses(judged, curves[1], judged_classes, None)
    expected = KnownRatio(truth).fit(source, target).weights(source)
    scores: Scores = {}
    for name, make in ESTIMATORS.items():
        with warnings.catch_warnings():  # λ = 0 is stopped early
            warnings.simplefilter("ignore", ConvergenceWarning)
            weights = make(truth).fit(source, target).weights(source)
        weights = weights / weights.mean()
        squared, wrong = losses(source, values, classes, weights) - floor
        scores[name] = {
            "ratio": float(((weights - expected) ** 2).mean() / expected.var()),
            "regression": float(squared),
            "classification": 100.0 * float(wrong),
            "size": effective_sample_size(weights) / n,
        }
    return scores


# -- what is shown -----------------------------------------------------------------------------


def _table(results: Results, d: int, measure: str) -> str:
    """Markdown: one row per estimator, one column per number of examples."""
    sizes = list(results[d])
    lines = [f"| {MEASURES[measure]}, d = {d} | " + " | ".join(f"n = {n}" for n in sizes) + " |",
             "|:--" * (1 + len(sizes)) + "|"]  # fmt: skip
    for name in ESTIMATORS:
        cells = []
        for n in sizes:
            found = estimate(results[d][n][name][measure])
            cells.append("{:.{p}f} [{:.{p}f}, {:.{p}f}]".format(*found, p=DECIMALS[measure]))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def save_figure(results: Results, path: Path) -> None:
    """All estimators at the largest number of examples: a panel per measure, colours by dimension.

    Args:
        results: of ``main``.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 4.8), layout="constrained")
    axes = figure.subplots(1, len(SHOWN), sharey=True)
    size = max(next(iter(results.values())))
    for axis, measure in zip(axes, SHOWN, strict=True):
        for number, (d, sizes) in enumerate(results.items()):
            found = {name: estimate(scores[measure]) for name, scores in sizes[size].items()}
            if measure == "ratio":
                del found[TRUE]  # 0, which a logarithm does not show
            means = np.array([x.value for x in found.values()])
            ends = np.array([[x.value - x.low, x.high - x.value] for x in found.values()]).T
            places = [list(ESTIMATORS).index(name) + 0.22 * (number - 1) for name in found]
            axis.errorbar(means, places, xerr=np.maximum(ends, 0.0), fmt="os^"[number % 3],
                          markersize=4, capsize=2, linewidth=1, label=f"d = {d}")  # fmt: skip
        if measure == "classification":  # may be below 0 by chance
            axis.set_xscale("symlog", linthresh=1.0)
        else:
            axis.set_xscale("log")
        axis.grid(axis="y", color="0.92")
        axis.set_axisbelow(True)
        axis.set_xlabel(MEASURES[measure].replace(", ", ",\n").replace(" / ", " /\n"))
    axes[0].set_yticks(range(len(ESTIMATORS)), list(ESTIMATORS))
    axes[0].invert_yaxis()
    axes[-1].legend(fontsize="small", loc="lower right")
    axes[1].set_title(f"{size} examples of each domain")
    write_figure(path, figure, dpi=110)


if __name__ == "__main__":
    start = time.perf_counter()
    main(tyro.cli(Config, description=__doc__))
    print(f"{time.perf_counter() - start:.0f} s in all.")
