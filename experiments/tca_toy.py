"""Why transfer components are not principal ones: a toy in the plane, one component of each.

    python experiments/tca_toy.py

Two classes in two domains. Along one axis the data vary most, but that is the domains lying apart
and a spread that has nothing to do with the classes; along the other one the domains agree and
the classes lie apart. PCA of both domains takes the first axis; TCA, which divides the variance by
the distance of the domains' means, the second. Both axes are turned by 30°.

For each seed: accuracy of 1-NN, taught by the source and tested on the target; the squared MMD of
the domains (Gaussian kernel, median heuristic, unbiased) without the classes; and how many degrees
the component is away from the axis of the classes. The figure shows seed 0.
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
from scipy.stats import gaussian_kde
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from metagym.baselines.transfer.adapted import DomainAdapted
from metagym.baselines.transfer.discrepancy import squared_mmd
from metagym.baselines.transfer.features import DomainFeatures, Pooled
from metagym.baselines.transfer.subspace import TCA
from metagym.errors import check_positive
from metagym.evaluation.statistics import estimate
from metagym.files import write_atomically, write_figure

ANGLE = np.deg2rad(30.0)
# Columns: the axis of the domains, and that of the classes.
AXES = np.array([[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]])
SPREAD = np.array([2.5, 0.5])  # standard deviations of a class in a domain
DOMAINS_APART, CLASSES_APART = 6.0, 3.0
SPACES: dict[str, DomainFeatures | None] = {
    "original space": None,
    "PCA": Pooled(PCA(1)),
    "TCA": TCA(1, kernel="primal"),
}


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        out: folder for results.json, table.md and tca_toy.png.
        seeds: how many samples of the toy.
        examples: of a domain.
    """

    out: Path = Path("results/tca_toy")
    seeds: int = 20
    examples: int = 200


@dataclass(frozen=True)
class Toy:
    """Examples of both domains.

    Attributes:
        X, Xt: of the source and of the target, [n, 2].
        y, yt: classes 0 and 1, [n].
    """

    X: np.ndarray
    y: np.ndarray
    Xt: np.ndarray
    yt: np.ndarray


def main(config: Config) -> dict[str, dict[str, list[float]]]:
    """Measure, print the table; write it, results.json and the figure."""
    seeds = range(check_positive("seeds", config.seeds))
    toys = [sample(seed, config.examples) for seed in seeds]
    results = {}
    for name in SPACES:
        columns = np.array([measured(name, toy) for toy in toys]).T.tolist()
        results[name] = dict(zip(("accuracy", "mmd", "degrees"), columns, strict=True))
    text = _table(results) + "\n"
    print(text)
    settings = {name: str(value) for name, value in dataclasses.asdict(config).items()}
    content = {"config": settings, "results": results}
    write_atomically(config.out / "results.json", (json.dumps(content) + "\n").encode())
    write_atomically(config.out / "table.md", text.encode())
    save_figure(toys[0], config.out / "tca_toy.png")
    print(f"Written to {config.out}.")
    return results


def sample(seed: int, count: int) -> Toy:
    """Two domains of ``count`` examples.

    Args:
        seed: of the sample.
        count: of examples.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for side in (-0.5, 0.5):
        labels = rng.integers(0, 2, count)
        points = rng.normal(size=(count, 2)) * SPREAD
        points += np.stack([np.full(count, side * DOMAINS_APART),
                            (labels - 0.5) * CLASSES_APART], axis=1)  # fmt: skip
        parts += [points @ AXES.T, labels]
    return Toy(*parts)


def measured(name: str, toy: Toy) -> tuple[float, float, float]:
    """Accuracy in per cent, squared MMD, and degrees from the axis of the classes.

    Args:
        name: of the space.
        toy: examples of both domains.
    """
    features = SPACES[name]
    if features is None:
        accuracy = KNeighborsClassifier(1).fit(toy.X, toy.y).score(toy.Xt, toy.yt)
        return 100.0 * accuracy, squared_mmd(toy.X, toy.Xt), float("nan")
    model = DomainAdapted(features, KNeighborsClassifier(1)).fit(toy.X, toy.y, Xt=toy.Xt)
    mapped = model.features_.transform_source(toy.X), model.features_.transform(toy.Xt)
    cosine = abs(direction(model.features_) @ AXES[:, 1])
    degrees = float(np.rad2deg(np.arccos(min(cosine, 1.0))))
    return 100.0 * model.score(toy.Xt, toy.yt), squared_mmd(*mapped), degrees


def direction(features: DomainFeatures) -> np.ndarray:
    """The unit vector that a fitted map of one component projects on, [2]."""
    ends = features.transform(np.vstack([np.zeros(2), np.eye(2)]))
    slope = (ends[1:] - ends[:1]).ravel()
    return np.asarray(slope / np.linalg.norm(slope))


# -- what is shown -----------------------------------------------------------------------------


def _table(results: dict[str, dict[str, list[float]]]) -> str:
    lines = ["| space | 1-NN accuracy on the target, % | squared MMD of the domains "
             "| degrees from the axis of the classes |", "|:--|:--|:--|:--|"]  # fmt: skip
    for name, found in results.items():
        cells = [_cell(found["accuracy"], 1), _cell(found["mmd"], 4)]
        cells.append("" if np.isnan(found["degrees"]).any() else _cell(found["degrees"], 1))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    count = len(results["PCA"]["mmd"])
    return "\n".join([*lines, "", f"Means of {count} samples with 95 % intervals."])


def _cell(values: list[float], digits: int) -> str:
    found = estimate(values)
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


_COLOURS = ("C0", "C3")  # of the classes
_STYLES = (("source", "o", "-"), ("target", "^", "--"))


def save_figure(toy: Toy, path: Path) -> None:
    """The plane with both components as arrows; densities along each, by domain and class.

    Args:
        toy: examples of both domains.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 3.9), layout="constrained")
    plane, *lines = figure.subplots(1, 3)
    domains = ((toy.X, toy.y), (toy.Xt, toy.yt))
    for (domain, marker, _), (X, y) in zip(_STYLES, domains, strict=True):
        for label, colour in enumerate(_COLOURS):
            points = X[y == label]
            plane.scatter(*points.T, s=16, marker=marker, linewidths=0.8, alpha=0.75,
                          edgecolors=colour, facecolors=colour if marker == "o" else "none",
                          label=f"{domain}, class {label}")  # fmt: skip
    plane.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$", title="original space",
              xlim=(-11, 11), ylim=(-8.5, 8.5))  # fmt: skip
    plane.legend(fontsize="x-small", loc="lower right")
    for axis, name, length in zip(lines, ("PCA", "TCA"), (6.0, 4.0), strict=True):
        features = clone(SPACES[name]).fit(toy.X, Xt=toy.Xt)
        arrow = direction(features)
        arrow *= length * np.sign(arrow[1])
        plane.annotate("", xytext=(0, 0), xy=arrow, zorder=5,
                       arrowprops={"arrowstyle": "-|>", "color": "k", "lw": 2.0})  # fmt: skip
        plane.annotate(name, xy=arrow, xytext=arrow * 1.18, ha="center", va="center", zorder=6,
                       fontweight="bold", bbox={"fc": "w", "ec": "none", "pad": 1.0,
                                                "alpha": 0.85})  # fmt: skip
        _densities(axis, name, [(X @ arrow / length, y) for X, y in domains])
    write_figure(path, figure, dpi=120)


def _densities(axis: Any, name: str, domains: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Of each class in each domain, along one component: source above the line, target below."""
    values = np.concatenate([z for z, _ in domains])
    margin = 0.1 * np.ptp(values)
    grid = np.linspace(values.min() - margin, values.max() + margin, 400)
    for (domain, _, style), (z, y), sign in zip(_STYLES, domains, (1, -1), strict=True):
        for label, colour in enumerate(_COLOURS):
            density = sign * gaussian_kde(z[y == label])(grid) * np.mean(y == label)
            axis.plot(grid, density, style, color=colour, lw=1.5)
            axis.fill_between(grid, density, color=colour, alpha=0.22, lw=0)
        axis.text(0.02, 0.96 if sign > 0 else 0.04, domain, transform=axis.transAxes,
                  va="top" if sign > 0 else "bottom")  # fmt: skip
    axis.axhline(0.0, color="k", lw=0.8)
    top = max(map(abs, axis.get_ylim()))
    axis.set(ylim=(-top, top), xlim=(grid[0], grid[-1]), yticks=[], ylabel="density",
             title=name, xlabel=f"the component of {name}")  # fmt: skip


if __name__ == "__main__":
    start = time.perf_counter()
    main(tyro.cli(Config, description=__doc__))
    print(f"{time.perf_counter() - start:.0f} s in all.")
