"""Frames for people: how the run went, and where it went.

Figures are built on their own canvas (Agg), never through pyplot, so that rendering leaves the
user's figures and backends alone.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from metagym.core.task import Task
from metagym.problems import ProblemFamily

# Pixels; both are multiples of 16, which video codecs want.
WIDTH, HEIGHT, DPI = 960, 432, 96
# Okabe and Ito's colours, which colour-blind people tell apart.
BLUE, ORANGE, SKY, GREY = "#0072B2", "#E69F00", "#56B4E9", "#5F6B76"
INK, PAPER = "#1B2733", "#FBFAF7"
# Points per side of the contour grid: f costs more in high dimensions, where it is also smooth.
GRID, COARSE_GRID, MANY_DIMENSIONS = 56, 24, 100

Trace = list[tuple[np.ndarray, float]]


def draw_optimization(
    problem: ProblemFamily,
    task: Task,
    trace: Trace,
    horizon: int | None,
    radius: float | None = None,
) -> np.ndarray:
    """One frame of a run: the losses on the left, the path over the contours of f on the right.

    In more than two dimensions the contours are those of the plane through the mean of the path
    that is spanned by its first two principal directions.

    Args:
        problem: the family.
        task: one task, arrays [1, ...].
        trace: the iterates x [d] and losses so far, the start included.
        horizon: the last step of the loss axis; None is the current step.
        radius: for black-box search: the points are queries in [-radius, radius]^d, not a path.

    Returns:
        The frame [432, 960, 3] (uint8).
    """
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor=PAPER)
    canvas = FigureCanvasAgg(figure)
    left = figure.add_axes((0.075, 0.135, 0.385, 0.71))
    right = figure.add_axes((0.53, 0.135, 0.44, 0.71))
    losses = np.array([loss for _, loss in trace])
    points = np.array([x for x, _ in trace], dtype=np.float64)
    _draw_losses(left, losses, horizon, queries=radius is not None)
    _draw_path(right, problem, task, points, losses, radius)
    figure.text(0.075, 0.92, _title(problem), color=INK, size=13, weight="bold")
    now = f"f = {_short(losses[-1])}      best {_short(losses.min())}"
    figure.text(0.53, 0.92, now, color=INK, size=11)
    unit = "step" if radius is None else "query"
    step = f"{unit} {len(trace) - 1}" + (f" of {horizon}" if horizon else "")
    figure.text(0.97, 0.92, step, color=GREY, size=11, ha="right")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


# -- the losses ------------------------------------------------------------------------------------


def _draw_losses(axes: Axes, losses: np.ndarray, horizon: int | None, queries: bool) -> None:
    """The loss of every step and the best so far; logarithmic where all losses are positive."""
    steps, best = np.arange(len(losses)), np.minimum.accumulate(losses)
    if queries:
        axes.plot(steps, losses, "o", color=SKY, markersize=3.5, markeredgewidth=0, alpha=0.8)
        axes.step(steps, best, color=BLUE, linewidth=2, where="post")
    else:
        axes.plot(steps, best, color=SKY, linewidth=1.2)
        axes.plot(steps, losses, color=BLUE, linewidth=2)
    axes.plot(steps[-1], losses[-1], "o", color=BLUE, markersize=6, clip_on=False, zorder=5)
    at = int(np.argmin(losses))
    axes.plot(
        at, losses[at], "*", color=ORANGE, markersize=13, markeredgecolor=INK,
        markeredgewidth=0.6, clip_on=False, zorder=6,
    )  # fmt: skip
    last = max(horizon or len(losses) - 1, 1)
    axes.set_xlim(-0.02 * last, last)
    low, high = losses.min(), losses.max()
    if low > 0:
        axes.set_yscale("log")
        # At least two decades, so that the first steps do not look like mountains.
        room = max(0.0, 2 - np.log10(high / low)) / 2
        axes.set_ylim(low / 10 ** (room + 0.15), high * 10 ** (room + 0.15))
    else:
        margin = 0.08 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)
    axes.set_xlabel("query" if queries else "step", color=GREY)
    axes.set_ylabel("f(x)", color=GREY)
    axes.grid(color="#E3E1DB", linewidth=0.8)
    axes.set_axisbelow(True)
    _plain(axes)


# -- the path --------------------------------------------------------------------------------------


def _draw_path(
    axes: Axes,
    problem: ProblemFamily,
    task: Task,
    points: np.ndarray,
    losses: np.ndarray,
    radius: float | None,
) -> None:
    """The points over the contours of f in the plane that shows most of them."""
    center, directions = _plane(problem, task, points)
    flat = (points - center) @ directions.T  # [steps, 2 (1 if d = 1)]
    if directions.shape[0] == 1:
        _draw_line(axes, problem, task, points, losses, radius)
        return
    (x_low, x_high), (y_low, y_high) = _limits(axes, flat, center, directions, radius)
    size = GRID if problem.dim <= MANY_DIMENSIONS else COARSE_GRID
    u, v = np.linspace(x_low, x_high, size), np.linspace(y_low, y_high, size)
    grid = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
    values = _values(problem, task, center + grid @ directions)
    values = _heights(values).reshape(size, size)
    levels = np.linspace(values.min(), values.max() + 1e-9, 17)
    axes.contourf(u, v, values, levels=levels, cmap="YlGnBu_r", antialiased=False)
    axes.contour(u, v, values, levels=levels[::2], colors="white", linewidths=0.4, alpha=0.5)
    if radius is None:
        axes.plot(*flat.T, color="white", linewidth=3.2, alpha=0.65, solid_joinstyle="round")
        axes.plot(
            *flat.T, "-o", color=INK, linewidth=1.4, solid_joinstyle="round", markersize=3.2,
            markeredgewidth=0,
        )  # fmt: skip
    else:
        ages = np.linspace(0.25, 1.0, len(flat))
        colors = [to_rgba(INK, age) for age in ages]
        axes.scatter(flat[:, 0], flat[:, 1], s=26, c=colors, edgecolors="white", linewidths=0.7)
    _mark(axes, flat, losses)
    axes.set_xlim(x_low, x_high)
    axes.set_ylim(y_low, y_high)
    shown = ("x₁", "x₂") if problem.dim == 2 else ("1st direction of the path", "2nd direction")
    axes.set_xlabel(shown[0], color=GREY)
    axes.set_ylabel(shown[1], color=GREY)
    _plain(axes, spines=False)


def _mark(axes: Axes, flat: np.ndarray, losses: np.ndarray) -> None:
    """Start, current point and best point, with a legend."""
    common: dict[str, Any] = {"linestyle": "none", "markeredgecolor": INK, "zorder": 6}
    best = int(np.argmin(losses))
    axes.plot(*flat[0], marker="s", color="white", markersize=7, label="start", **common)
    axes.plot(*flat[-1], marker="o", color=SKY, markersize=12, label="now", **common)
    axes.plot(*flat[best], marker="*", color=ORANGE, markersize=11, label="best", **common)
    axes.legend(
        loc="upper right", ncols=3, fontsize=8, framealpha=0.85, handletextpad=0.1, markerscale=0.8,
        columnspacing=0.8, borderpad=0.35, facecolor=PAPER, edgecolor="none", labelcolor=INK,
    ).set_zorder(7)  # fmt: skip


def _draw_line(
    axes: Axes,
    problem: ProblemFamily,
    task: Task,
    points: np.ndarray,
    losses: np.ndarray,
    radius: float | None,
) -> None:
    """A function of one variable is its own picture."""
    low, high = points.min(), points.max()
    margin = max(0.3 * (high - low), 1.0)
    low, high = (low - margin, high + margin) if radius is None else (-radius, radius)
    x = np.linspace(low, high, 300)
    axes.plot(x, _values(problem, task, x[:, None]), color=BLUE, linewidth=2)
    axes.plot(points[:, 0], losses, "o", color=INK, markersize=3.5)
    axes.margins(y=0.12)
    _mark(axes, np.column_stack([points[:, 0], losses]), losses)
    axes.set_xlabel("x", color=GREY)
    _plain(axes)


def _plane(problem: ProblemFamily, task: Task, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A point [d] of the plane to show and its orthonormal directions [2, d]."""
    dim = points.shape[1]
    if dim <= 2:
        return np.zeros(dim), np.eye(dim)
    center = points.mean(axis=0)
    _, sizes, found = np.linalg.svd(points - center, full_matrices=False)
    candidates = [v for v, s in zip(found[:2], sizes[:2], strict=False) if s > 1e-6 * sizes[0] > 0]
    # A path too short to have two directions of its own borrows the gradient's, then an axis.
    start = points[:1].astype(task["initial"].dtype)
    gradient = problem.value_and_grad(task, start)[1][0].astype(np.float64)
    candidates += [gradient, *np.eye(dim)[:3]]
    directions: list[np.ndarray] = []
    for vector in candidates:
        rest = vector - sum(((vector @ v) * v for v in directions), np.zeros(dim))
        length = np.linalg.norm(rest)
        if np.isfinite(length) and length > 1e-6 * max(float(np.linalg.norm(vector)), 1e-12):
            # The start lies on the left and above, so that the picture does not flip.
            sign = -1.0 if (points[0] - center) @ rest > 0 else 1.0
            directions.append((sign if not directions else -sign) * rest / length)
        if len(directions) == 2:
            break
    return center, np.array(directions)


def _limits(
    axes: Axes,
    flat: np.ndarray,
    center: np.ndarray,
    directions: np.ndarray,
    radius: float | None,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """What the panel shows: the path with a margin, or the whole domain in two dimensions."""
    if radius is not None and len(center) == 2:
        return (-radius, radius), (-radius, radius)
    low, high = flat.min(axis=0), flat.max(axis=0)
    middle = (low + high) / 2
    # Equal units on both axes, in the shape of the panel; never a needle-thin view.
    box = axes.get_position()
    aspect = (box.width * WIDTH) / (box.height * HEIGHT)
    half = max(0.62 * (high[1] - low[1]), 0.62 * (high[0] - low[0]) / aspect)
    half = max(half, 0.05 * float(np.linalg.norm(center)), 1.0 if len(flat) == 1 else 1e-9)
    return (
        (middle[0] - half * aspect, middle[0] + half * aspect),
        (middle[1] - half, middle[1] + half),
    )


def _values(problem: ProblemFamily, task: Task, points: np.ndarray) -> np.ndarray:
    """f [n] at points [n, d] of one task, finite."""
    tiled = {name: np.broadcast_to(a, (len(points), *a.shape[1:])) for name, a in task.items()}
    with np.errstate(all="ignore"):
        values = problem.value(tiled, points.astype(task["initial"].dtype)).astype(np.float64)
    return np.nan_to_num(values, nan=1e8, posinf=1e8, neginf=-1e8)


def _heights(values: np.ndarray) -> np.ndarray:
    """log10 of the values above the lowest, with a floor: an even spread of contours."""
    above = values - values.min()
    return np.log10(above + 0.01 * (np.median(above) or 1.0))


# -- style -----------------------------------------------------------------------------------------


def _plain(axes: Axes, spines: bool = True) -> None:
    axes.tick_params(colors=GREY, labelsize=8.5, length=0, which="both")
    for side, spine in axes.spines.items():
        spine.set_visible(spines and side in ("left", "bottom"))
        spine.set_color("#B9BEC4")


def _title(problem: ProblemFamily) -> str:
    """ "Logistic regression, d = 3" for a LogisticRegression of that dimension."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", getattr(problem, "name", ""))
    words = words or re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", type(problem).__name__)
    name = " ".join(word if word.isupper() else word.lower() for word in words) or "problem"
    return f"{name[0].upper()}{name[1:]}, d = {problem.dim}"


def _short(value: float) -> str:
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.1e}"
