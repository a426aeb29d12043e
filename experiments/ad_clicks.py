"""Ad clicks from web browsing: what passing parameters on is worth, by number of ad impressions.

    python experiments/ad_clicks.py                     a minute or two
    python experiments/ad_clicks.py --seeds 0 1           a first look

Generated browsing and ad clicks (metagym/tasks/ad_clicks.py): n = 3,000 visits to pages, and m
impressions of ads. Every method has an intercept of the ads' own, as clicks are rarer than visits,
so that what differs is the use of the other coefficients:

- browsing only: those of browsing;
- ads only: those of ads, with a prior whose scale the evidence chooses;
- pooled: the same for both, every example counting as much;
- joint: α L₁ + (1 - α) L₂ + ... with α = n / (n + m) and the coupling that is best on validation
  problems like those of the test, which favours it;
- hierarchical Bayes: the posterior of browsing as prior of ads, τ by the evidence; or, in its
  place, a prior about the mode of browsing, taken for the truth.

Log loss and AUC are expected ones, from true probabilities. Intervals are over seeds, each of which
draws coefficients and data anew, so that differences are known better than what they are between.
The last table changes how alike the domains are.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from metagym.baselines.transfer.hierarchical import HierarchicalLogistic
from metagym.baselines.transfer.joint import JointClassifier
from metagym.evaluation.statistics import Estimate, estimate, paired_difference
from metagym.files import write_atomically, write_figure
from metagym.tasks.ad_clicks import AdClicks, Visits, expected_log_loss
from metagym.tasks.auction import expected_auc

SOURCE, TARGET, TRUTH = "browsing only", "ads only", "true probabilities"
POOLED, JOINT = "pooled", "joint"
FULL, MODE = "hierarchical Bayes", "hierarchical Bayes, mode only"
LABELS = (SOURCE, TARGET, POOLED, JOINT, FULL, MODE, TRUTH)
COUPLED = 1e6  # τ² so small that the two are one
SHRINKAGE = 0.25  # λ₁ (n + m): with both domains' that is a prior of N(0, 1) for a shared w
# 1 / (2 τ²) = λ₂ (n + m) of joint training.
COUPLINGS = (0.05, 0.5, 2.0, 5.0, 50.0)
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # of the prior that the target alone chooses from
VALIDATION = 10_000  # added to the seeds of validation problems


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        out: folder for results.json, table.md and ad_clicks.png.
        seeds: of problems.
        sizes: numbers of ad impressions with labels.
        source: number of visits to pages.
        test: impressions to be judged on.
        similarities: of the domains, for the second table.
        middle: number of ad impressions there.
        validation: problems on which the coupling of joint training is chosen.
    """

    out: Path = Path("results/ad_clicks")
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7)
    sizes: tuple[int, ...] = (50, 100, 300, 1000, 3000)
    source: int = 3000
    test: int = 5000
    similarities: tuple[float, ...] = (0.0, 0.5, 0.9, 1.0)
    middle: int = 300
    validation: int = 3


@dataclass(frozen=True)
class Problem:
    """One draw: many visits, few impressions, and those to be judged on."""

    source: Visits
    target: Visits
    test: Visits


# (similarity, ad impressions): log loss and AUC in % [2, methods, seeds]
Results = dict[tuple[float, int], np.ndarray]


def main(config: Config) -> Results:
    """Run what is missing, print the tables, write them, results.json and the figure."""
    alike = AdClicks().similarity
    wanted = [(alike, size) for size in config.sizes]
    wanted += [(x, config.middle) for x in config.similarities if (x, config.middle) not in wanted]
    results = _known(config)
    if set(results) != set(wanted):
        results = {}
        for similarity, size in wanted:
            results[similarity, size] = _scores(similarity, size, config)
            print(f"Similarity {similarity:g}, {size} impressions: done.", flush=True)
    text = "\n\n".join([
        _table(results, config, 0, "log loss, nats", ".4f"),
        _difference_table(results, config, 0, "log loss, nats", "+.4f"),
        _table(results, config, 1, "AUC, %", ".2f"),
        _difference_table(results, config, 1, "AUC, percentage points", "+.2f"),
        _similarity_table(results, config),
    ]) + "\n"  # fmt: skip
    print(text)
    content = {
        "config": _settings(config),
        "results": [[*key, scores.tolist()] for key, scores in results.items()],
    }
    write_atomically(config.out / "results.json", (json.dumps(content) + "\n").encode())
    write_atomically(config.out / "table.md", text.encode())
    save_figure(results, config, config.out / "ad_clicks.png")
    print(f"Written to {config.out}.")
    return results


def _settings(config: Config) -> dict[str, Any]:
    """What decides about the results, as JSON gives it back."""
    settings = {
        name: value for name, value in dataclasses.asdict(config).items() if name != "out"
    } | {
        "labels": LABELS,
        "couplings": COUPLINGS,
        "scales": SCALES,
        "tasks": dataclasses.asdict(AdClicks()),
    }
    found: dict[str, Any] = json.loads(json.dumps(settings))
    return found


def _known(config: Config) -> Results:
    """Results of an earlier run of the same settings."""
    path = config.out / "results.json"
    content = json.loads(path.read_text()) if path.is_file() else {}
    if content.get("config") != _settings(config):
        return {}
    return {(similarity, size): np.array(x) for similarity, size, x in content["results"]}


# -- one setting -------------------------------------------------------------------------------


def _problem(similarity: float, size: int, seed: int, config: Config) -> Problem:
    """A problem whose target has both labels, as joint training needs them."""
    rng = np.random.default_rng(seed)
    browsing, ads = dataclasses.replace(AdClicks(), similarity=similarity).domains(rng)
    source, test = browsing.sample(config.source, rng), ads.sample(config.test, rng)
    target = ads.sample(size, rng)
    while len(np.unique(target.y)) < 2:
        target = ads.sample(size, rng)
    return Problem(source, target, test)


def _scores(similarity: float, size: int, config: Config) -> np.ndarray:
    """[2, methods, seeds]."""
    validation = [
        _problem(similarity, size, VALIDATION + i, config) for i in range(config.validation)
    ]
    losses = [
        sum(_judged(_joint(problem, coupling), problem)[0] for problem in validation)
        for coupling in COUPLINGS
    ]
    coupling = COUPLINGS[int(np.argmin(losses))]
    runs = [_run(_problem(similarity, size, seed, config), coupling) for seed in config.seeds]
    return np.array(runs).transpose(2, 1, 0)


def _run(problem: Problem, coupling: float) -> list[tuple[float, float]]:
    """Log loss and AUC of every method."""
    full = _fitted(HierarchicalLogistic(), problem)
    models = {
        # The scale of the prior of browsing's coefficients is the same in all.
        SOURCE: HierarchicalLogistic(full.source_scale_, 1e-6, covariance="none"),
        MODE: HierarchicalLogistic(full.source_scale_, covariance="none"),
    }
    fitted = {label: _fitted(model, problem) for label, model in models.items()}
    # A source that may say nothing leaves a prior N(0, τ²) to the target.
    alone = [
        _fitted(HierarchicalLogistic(1e-6, scale, covariance="none"), problem) for scale in SCALES
    ]
    fitted[TARGET] = max(alone, key=lambda model: model.target_.log_evidence)
    fitted |= {FULL: full, POOLED: _joint(problem, COUPLED), JOINT: _joint(problem, coupling)}
    truth = problem.test.probability
    own = (expected_log_loss(truth, truth), 100.0 * expected_auc(truth, truth))
    return [own if label == TRUTH else _judged(fitted[label], problem) for label in LABELS]


def _fitted(model: Any, problem: Problem) -> Any:
    source, target = problem.source, problem.target
    return model.fit(source.x, source.y, Xt=target.x, yt=target.y)


def _joint(problem: Problem, coupling: float) -> Any:
    n, m = len(problem.source.y), len(problem.target.y)
    model = JointClassifier(
        n / (n + m), SHRINKAGE / (n + m), coupling / (n + m), tol=1e-5
    )  # fmt: skip
    return _fitted(model, problem)


def _judged(model: Any, problem: Problem) -> tuple[float, float]:
    predicted, truth = model.predict_proba(problem.test.x)[:, 1], problem.test.probability
    return expected_log_loss(predicted, truth), 100.0 * expected_auc(predicted, truth)


# -- what is shown -----------------------------------------------------------------------------


def _head(title: str, columns: list[str]) -> list[str]:
    return [f"| {title} | {' | '.join(columns)} |", "|:--" * (1 + len(columns)) + "|"]


def _cell(found: Estimate, form: str) -> str:
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


def _table(results: Results, config: Config, score: int, name: str, form: str) -> str:
    """Markdown: a score by number of ad impressions."""
    shown = [results[AdClicks().similarity, size][score] for size in config.sizes]
    lines = _head(name, [f"m = {size}" for size in config.sizes])
    for i, label in enumerate(LABELS):
        lines.append(f"| {label} | {' | '.join(_cell(estimate(x[i]), form) for x in shown)} |")
    return "\n".join(lines)


def _difference_table(results: Results, config: Config, score: int, name: str, form: str) -> str:
    """Markdown: a score of the hierarchical model less that of each other one, seed by seed."""
    shown = [results[AdClicks().similarity, size][score] for size in config.sizes]
    lines = _head(f"{FULL} minus ..., {name}", [f"m = {size}" for size in config.sizes])
    full = LABELS.index(FULL)
    for i, label in enumerate(LABELS):
        if i != full:
            cells = [_cell(paired_difference(x[full], x[i]), form) for x in shown]
            lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _similarity_table(results: Results, config: Config) -> str:
    """Markdown: log loss minus that of ads only, by similarity of the domains."""
    title = f"log loss minus that of {TARGET}, nats, m = {config.middle}"
    lines = _head(title, [f"ρ = {x:g}" for x in config.similarities])
    alone = LABELS.index(TARGET)
    for i, label in enumerate(LABELS):
        if i != alone:
            found = [results[x, config.middle][0] for x in config.similarities]
            cells = [_cell(paired_difference(x[i], x[alone]), "+.4f") for x in found]
            lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def save_figure(results: Results, config: Config, path: Path) -> None:
    """Log loss above the truth's, by number of ad impressions and by similarity.

    Args:
        results: by similarity and number of ad impressions.
        config: says which of them are in which panel.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    alike = AdClicks().similarity
    panels: tuple[list[tuple[float, np.ndarray]], ...] = (
        [(size, results[alike, size][0]) for size in config.sizes],
        [(x, results[x, config.middle][0]) for x in config.similarities],
    )
    axes = figure.subplots(1, 2, sharey=True)
    for axis, panel in zip(axes, panels, strict=True):
        is_first = axis is axes[0]
        for i, label in enumerate(LABELS[:-1]):
            found = [estimate(scores[i] - scores[-1]) for _, scores in panel]
            values = np.array([e.value for e in found])
            ends = np.array([[e.value - e.low, e.high - e.value] for e in found]).T
            shift = i - (len(LABELS) - 2) / 2  # side by side: some lie on each other
            places = [x * 1.04**shift if is_first else x + 0.011 * shift for x, _ in panel]
            axis.errorbar(
                places, values, np.maximum(ends, 0.0), capsize=3, markersize=4,
                fmt={SOURCE: "s:", TARGET: "^:", MODE: "o--"}.get(label, "o-"), label=label,
            )  # fmt: skip
        axis.set(yscale="log")
    axes[0].set(xscale="log", xlabel="ad impressions with labels, m",
                ylabel="log loss above that of the true probabilities, nats",
                title=f"domains of similarity ρ = {alike:g}")  # fmt: skip
    axes[0].set_xticks(config.sizes, [str(size) for size in config.sizes])
    axes[0].minorticks_off()
    axes[1].set(xlabel="similarity ρ of browsing and ad clicks",
                title=f"m = {config.middle}")  # fmt: skip
    axes[0].legend(fontsize="small")
    write_figure(path, figure, dpi=120)


if __name__ == "__main__":
    start = time.perf_counter()
    main(tyro.cli(Config, description=__doc__))
    print(f"{time.perf_counter() - start:.0f} s in all.")
