"""Frames of trials: mazes, walks in the plane and slot machines.

One frame shows the whole trial so far: the earlier inner episodes are there, faintly. All frames
have one size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metagym.mazes.grid import HEADINGS
from metagym.rendering.canvas import (
    BLUE,
    FAINT,
    GREY,
    HEIGHT,
    INK,
    ORANGE,
    PAPER,
    RED,
    SKY,
    WIDTH,
    Box,
    Canvas,
    Point,
)

_BOX = (16.0, 16.0, 496.0, 496.0)  # of the picture; the words stand to its right
_WORDS = 520.0
_WALL, _FLOOR, _LIT, _UNSEEN, _UNSEEN_WALL = "#3A4754", "#FFFFFF", "#FFF0C2", "#DAD8D2", "#8D959D"
_ROOM_SHARE = 0.86  # of the distance between two rooms; the rest is the wall's
_LISTED = 7  # inner episodes whose outcomes are told


def draw_maze(
    walls: np.ndarray,
    target: np.ndarray,
    trails: Sequence[np.ndarray],
    view: np.ndarray,
    *,
    lit: np.ndarray,
    explored: np.ndarray,
    finished: int,
    success: np.ndarray,
    returns: np.ndarray,
    inner_horizon: int,
) -> np.ndarray:
    """The maze from above, and what the agent sees of it.

    Args:
        walls: tiles [side, side], bool; see ``metagym.mazes.grid``.
        target: row and column of its room.
        trails: of each inner episode the poses so far, those of the start included; empty for
            episodes to come. A pose is 4 · (row · size + column) + heading.
        view: what the agent sees, [3, 5, 5]; see ``metagym.mazes.view``.
        lit: the tiles that it sees now, bool [side, side].
        explored: the tiles that it has seen in this trial; the others are grey.
        finished: how many inner episodes are over.
        success: of each inner episode, whether the target was found.
        returns: of each inner episode, so far.
        inner_horizon: the most steps of an inner episode.

    Returns:
        The frame [512, 832, 3] (uint8).
    """
    canvas = Canvas()
    size = (len(walls) - 1) // 2
    pitch = (_BOX[2] - _BOX[0]) / (size + 1 - _ROOM_SHARE)
    edges = _edges(len(walls), pitch, _BOX[0])
    for row, column in np.ndindex(*walls.shape):
        if walls[row, column]:
            colour = _WALL if explored[row, column] else _UNSEEN_WALL
        else:
            colour = _LIT if lit[row, column] else _FLOOR if explored[row, column] else _UNSEEN
        canvas.box((edges[column], edges[row], edges[column + 1], edges[row + 1]), colour)

    def middle(poses: np.ndarray, shift: float = 0.0) -> list[Point]:
        rows, columns = np.divmod(poses // 4, size)
        return [
            (_BOX[0] + pitch * (c + shift + 1 - _ROOM_SHARE / 2),
             _BOX[1] + pitch * (r + shift + 1 - _ROOM_SHARE / 2))
            for r, c in zip(rows.tolist(), columns.tolist(), strict=True)
        ]  # fmt: skip

    current = min(finished, len(trails) - 1)
    for poses in trails[max(0, current - 2) : current]:
        canvas.line(middle(poses, 0.13), SKY, 0.05 * pitch)
    start = middle(trails[0][:1])[0]
    canvas.square(start, 0.26 * pitch, BLUE)
    canvas.line(middle(trails[current]), BLUE, 0.07 * pitch)
    canvas.star(middle(4 * np.array([target @ [size, 1]]))[0], 0.3 * pitch, RED)
    last = trails[current][-1:]
    canvas.arrow(middle(last)[0], HEADINGS[int(last[0]) % 4], 0.24 * pitch)

    canvas.words(_WORDS, 16, f"Maze of {size} × {size} rooms", 19, bold=True)
    lengths = [max(len(poses) - 1, 0) for poses in trails]
    y = _outcomes(canvas, lengths, finished, success, returns, inner_horizon)
    top = HEIGHT - 16.0 - 140
    canvas.words(_WORDS, top - 26, "what the agent sees", 14, GREY)
    _draw_view(canvas, view, (_WORDS, top, _WORDS + 140, top + 140))
    marks = (
        ("square", "start"), ("star", "target"), ("line", "this episode"), ("faint", "earlier"),
        (_LIT, "seen now"), (_UNSEEN, "never seen"),
    )  # fmt: skip
    for i, (mark, name) in enumerate(marks):
        _legend(canvas, (_WORDS + 176, top + 10 + 24 * i), mark, name)
    assert y < top - 26
    return canvas.frame()


def draw_navigation(
    goal: np.ndarray,
    trails: Sequence[np.ndarray],
    *,
    goal_range: float,
    tolerance: float,
    finished: int,
    success: np.ndarray,
    returns: np.ndarray,
    inner_horizon: int,
) -> np.ndarray:
    """The plane from above: the goal, the square that goals come from, and the walks.

    Args:
        goal: x and y.
        trails: of each inner episode the positions [steps + 1, 2] so far, or [0, 2].
        goal_range: half the side of the square of goals.
        tolerance: distance at which the goal is reached.
        finished: how many inner episodes are over.
        success: of each inner episode, whether the goal was reached.
        returns: of each inner episode, so far.
        inner_horizon: the most steps of an inner episode.

    Returns:
        The frame [512, 832, 3] (uint8).
    """
    canvas = Canvas()
    points = np.concatenate([*trails, [[goal_range, goal_range]]])
    reach = 1.2 * goal_range
    while reach < np.abs(points).max() * 1.05:  # in steps, so that the picture does not breathe
        reach *= 1.5
    half = (_BOX[2] - _BOX[0]) / 2

    def at(place: np.ndarray) -> Point:
        return _BOX[0] + half * (1 + place[0] / reach), _BOX[1] + half * (1 - place[1] / reach)

    canvas.box(_BOX, _UNSEEN)
    (left, top), (right, bottom) = (at(goal_range * np.array(c)) for c in ((-1, 1), (1, -1)))
    canvas.box((left, top, right, bottom), _FLOOR)
    middle = at(goal)
    for radius in np.arange(1, 9) * goal_range / 4:
        canvas.ring(middle, half * radius / reach, FAINT, _BOX)
    current = min(finished, len(trails) - 1)
    for places in trails[max(0, current - 2) : current]:
        canvas.line([at(p) for p in places], SKY, 2.5)
    canvas.square(at(np.zeros(2)), 9, BLUE)
    walk = [at(p) for p in trails[current]]
    canvas.line(walk, BLUE, 2.5)
    for place in walk:
        canvas.dot(place, 3, BLUE)
    canvas.star(middle, 14, RED)
    canvas.ring(middle, half * tolerance / reach, INK, _BOX)
    canvas.dot(walk[-1], 6, ORANGE, INK)
    canvas.box((0, 0, WIDTH, _BOX[1]), PAPER)

    canvas.words(_WORDS, 16, "Navigation in the plane", 19, bold=True)
    lengths = [max(len(places) - 1, 0) for places in trails]
    _outcomes(canvas, lengths, finished, success, returns, inner_horizon)
    marks = (
        ("square", "start"), ("star", "goal, not shown to the agent"),
        (_FLOOR, "where goals may lie"), ("line", "this episode"), ("faint", "earlier"),
    )  # fmt: skip
    for i, (mark, name) in enumerate(marks):
        _legend(canvas, (_WORDS + 8, HEIGHT - 28 - 30 * (len(marks) - 1 - i)), mark, name)
    return canvas.frame()


def draw_bandit(means: np.ndarray, trace: np.ndarray, n: int) -> np.ndarray:
    """One row per arm: its mean as a bar, how often it was pulled, and when.

    Args:
        means: of the arms, [k].
        trace: the arm of each pull, int [n]; -1 for pulls to come.
        n: pulls of a trial.

    Returns:
        The frame [512, 832, 3] (uint8).
    """
    canvas = Canvas()
    pulls = trace[trace >= 0]
    counts = np.bincount(pulls, minlength=len(means))
    best = int(means.argmax())
    left, zero, right, top, bottom = 66.0, 66.0, 296.0, 92.0, HEIGHT - 26.0
    low, high = min(0.0, float(means.min())), max(1.0, float(means.max()))
    unit = (right - left) / (high - low)
    zero = left - low * unit
    height = (bottom - top) / len(means)
    first, last = 372.0, WIDTH - 24.0
    step = (last - first) / n
    letters = min(15.0, 0.8 * height)

    canvas.words(16, 16, f"Bandit of {len(means)} arms", 19, bold=True)
    canvas.words(last, 18, f"pull {len(pulls)} of {n}", 15, GREY, anchor="ra")
    canvas.words(left, 64, "mean, hidden from the agent", 13, GREY)
    canvas.words(352, 64, "pulls", 13, GREY, anchor="ra")
    canvas.words(first, 64, "one after the other", 13, GREY)
    for arm, mean in enumerate(means.tolist()):
        y = top + height * (arm + 0.5)
        thick = 0.62 * height
        bar = sorted((zero, zero + mean * unit))
        colour = ORANGE if arm == best else SKY
        canvas.box((left, y - thick / 2, right, y + thick / 2), FAINT)
        canvas.box((bar[0], y - thick / 2, bar[1], y + thick / 2), colour)
        if letters >= 6:
            name = f"arm {arm}"
            weight = len(pulls) > 0 and int(pulls[-1]) == arm
            canvas.words(left - 8, y, name, letters * 0.9, INK, anchor="rm", bold=weight)
            if height > 20:
                outside = bar[1] < right - 44
                place, anchor = (bar[1] + 6, "lm") if outside else (bar[1] - 6, "rm")
                canvas.words(place, y, f"{mean:.2f}", letters * 0.8, INK, anchor=anchor)
            canvas.words(352, y, str(counts[arm]), letters, INK, anchor="rm")
        canvas.box((first, y - 0.5, last, y + 0.5), FAINT)
    radius = float(np.clip(0.4 * min(step, height), 1.2, 9.0))
    for t, arm in enumerate(pulls.tolist()):
        place = (first + step * (t + 0.5), top + height * (arm + 0.5))
        newest = t == len(pulls) - 1
        canvas.dot(place, radius, ORANGE if arm == best else BLUE, INK if newest else None)
    canvas.box((zero - 0.5, top, zero + 0.5, bottom), GREY)
    return canvas.frame()


# -- parts -----------------------------------------------------------------------------------------


def _outcomes(
    canvas: Canvas,
    lengths: Sequence[int],
    finished: int,
    success: np.ndarray,
    returns: np.ndarray,
    inner_horizon: int,
) -> float:
    """The lines on where the trial stands and how each inner episode went; the next free y."""
    current = min(finished, len(lengths) - 1)
    over = finished == len(lengths)
    canvas.words(_WORDS, 52, f"episode {current + 1} of {len(lengths)}", 16)
    canvas.words(_WORDS, 76, f"step {lengths[current]} of {inner_horizon}", 16)
    total = float(np.sum(returns[: current + 1]))
    canvas.words(_WORDS, 100, f"reward of the trial {_number(total)}", 16)
    y = 140.0
    shown = range(max(0, current + 1 - _LISTED), current + 1)
    for column, heading in ((_WORDS, "episode"), (_WORDS + 90, "outcome"), (WIDTH - 16, "reward")):
        canvas.words(column, y, heading, 12, GREY, anchor="ra" if column > 800 else "la")
    for episode in shown:
        y += 21
        outcome = f"{lengths[episode]} steps so far"
        if episode < finished:
            found = "found after {} steps" if success[episode] else "not found in {} steps"
            outcome = found.format(lengths[episode])
        bold = episode == current and not over
        canvas.words(_WORDS, y, str(episode + 1), 14, bold=bold)
        canvas.words(_WORDS + 90, y, outcome, 14, bold=bold)
        canvas.words(WIDTH - 16, y, _number(returns[episode]), 14, anchor="ra", bold=bold)
    return y + 21


def _draw_view(canvas: Canvas, view: np.ndarray, box: Box) -> None:
    """The window of 5 × 5 tiles, the agent at its bottom; black is what is not seen."""
    wall, way, target = view > 0
    pitch = (box[2] - box[0]) / (2 + _ROOM_SHARE)
    # The window begins and ends with a room, where a maze begins and ends with a wall.
    lines = _edges(7, pitch, box[0] - pitch * (1 - _ROOM_SHARE))[1:-1]
    canvas.box(box, INK)
    for row, column in np.ndindex(*wall.shape):
        if wall[row, column] or way[row, column]:
            x, y = lines[column], box[1] - box[0] + lines[row]
            across, down = (lines[i + 1] - lines[i] for i in (column, row))
            colour = "#8D959D" if wall[row, column] else _LIT
            canvas.box((x, y, x + across, y + down), colour)
    room = pitch * _ROOM_SHARE / 2
    for row, column in zip(*np.nonzero(target), strict=True):
        place = (box[0] + room + pitch * column / 2, box[1] + room + pitch * row / 2)
        canvas.star(place, 0.3 * pitch, RED)
    canvas.arrow((box[0] + room + pitch, box[1] + room + 2 * pitch), HEADINGS[0], 0.24 * pitch)


def _legend(canvas: Canvas, place: Point, mark: str, name: str) -> None:
    x, y = place
    if mark == "square":
        canvas.square(place, 8, BLUE)
    elif mark == "star":
        canvas.star(place, 10, RED)
    elif mark.startswith("#"):
        canvas.box((x - 9, y - 9, x + 9, y + 9), GREY)
        canvas.box((x - 8, y - 8, x + 8, y + 8), mark)
    else:
        canvas.line([(x - 10, y), (x + 10, y)], BLUE if mark == "line" else SKY, 4)
    canvas.words(x + 20, y, name, 13, GREY, anchor="lm")


def _edges(tiles: int, pitch: float, first: float) -> list[float]:
    """Where the tiles of a line begin and end: wall, room, wall, ... [tiles + 1]."""
    widths = np.where(np.arange(tiles) % 2 == 1, _ROOM_SHARE, 1 - _ROOM_SHARE) * pitch
    return [first, *(first + np.cumsum(widths)).tolist()]


def _number(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
