"""Frames of Markov decision processes: where a trial went, and what it can know of the next step.

What is true and hidden from the agent stands behind what the trial has shown so far, in grey.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from metagym.rendering.canvas import (
    BLUE,
    FAINT,
    GREY,
    HEIGHT,
    INK,
    ORANGE,
    SKY,
    WIDTH,
    Canvas,
    Point,
)

_MIDDLE, _REACH = (210.0, 210.0), 158.0  # of the circle of states
_WORDS, _RIGHT = 440.0, WIDTH - 16.0
_ROWS = (190.0, 366.0)  # of the actions, from top to bottom
_REWARDS = (540.0, 636.0)
_CHANCES = (656.0, _RIGHT)
_RETURNS = (430.0, HEIGHT - 18.0)
_TRUE = "#C4C0B6"


def draw_process(
    transitions: np.ndarray,
    reward_means: np.ndarray,
    states: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    finished: int,
) -> np.ndarray:
    """The states on a circle with the steps of the trial, and each action of the current state.

    Args:
        transitions: probabilities of the next states, [states, actions, states].
        reward_means: of states and actions, [states, actions].
        states: of each inner episode, its start included, int [n, inner_horizon + 1]; -1 for those
            to come.
        actions: taken in them, int [n, inner_horizon]; -1 for those to come.
        rewards: that those earned, [n, inner_horizon]; 0 for those to come.
        finished: how many inner episodes are over.

    Returns:
        The frame [512, 832, 3] (uint8).
    """
    canvas = Canvas()
    current = min(finished, len(states) - 1)
    walk = states[current][states[current] >= 0].tolist()
    _draw_circle(canvas, len(transitions), states[:current], walk)

    taken = int((actions[current] >= 0).sum())
    title = f"Process of {len(transitions)} state{'s' * (len(transitions) > 1)}"
    canvas.words(_WORDS, 16, title, 19, bold=True)
    canvas.words(_WORDS, 50, f"episode {current + 1} of {len(states)}", 16)
    canvas.words(_WORDS, 74, f"step {taken} of {actions.shape[1]}", 16)
    canvas.words(_WORDS, 98, f"reward of the trial {_number(rewards.sum())}", 16)
    here = walk[-1]
    at, after = (states[:, :-1] == here) & (actions >= 0), states[:, 1:]
    takings = [at & (actions == action) for action in range(reward_means.shape[1])]
    known = [(rewards[these], after[these]) for these in takings]
    _draw_actions(canvas, here, transitions[here], reward_means[here], known)
    usual = actions.shape[1] * float(reward_means.max(axis=1).mean())
    _draw_returns(canvas, rewards.sum(axis=1), current, usual)
    return canvas.frame()


# -- parts -----------------------------------------------------------------------------------------


def _draw_circle(canvas: Canvas, count: int, earlier: np.ndarray, walk: list[int]) -> None:
    angles = 2 * np.pi * np.arange(count) / count - np.pi / 2
    x, y = _MIDDLE[0] + _REACH * np.cos(angles), _MIDDLE[1] + _REACH * np.sin(angles)
    places = list(zip(x.tolist(), y.tolist(), strict=True))
    radius = float(np.clip(2.2 * _REACH / count, 3.0, 17.0))
    steps = earlier[:, :-1] * count + earlier[:, 1:]
    seen, counts = np.unique(steps[earlier[:, 1:] >= 0], return_counts=True)
    widths = 0.8 + 3.2 * counts / counts.max(initial=8)
    for step, width in zip(seen.tolist(), widths.tolist(), strict=True):
        _draw_step(canvas, places, step // count, step % count, radius, SKY, width)
    for before, after in pairwise(walk):
        _draw_step(canvas, places, before, after, radius, BLUE, 2.5)
    canvas.dot(places[0], radius + 4, BLUE)
    for state, place in enumerate(places):
        here = state == walk[-1]
        canvas.dot(place, radius, ORANGE if here else FAINT, INK if here else GREY)
        if radius > 8:
            canvas.words(*place, str(state), 0.8 * radius, INK, anchor="mm", bold=here)
    for i, (colour, name) in enumerate(((BLUE, "this episode"), (SKY, "earlier"))):
        canvas.line([(16.0, 380.0 + 20 * i), (36.0, 380.0 + 20 * i)], colour, 4)
        canvas.words(44, 380 + 20 * i, name, 13, GREY, anchor="lm")
    canvas.dot((358.0, 400.0), 9, BLUE)
    canvas.dot((358.0, 400.0), 6, FAINT)
    canvas.words(374, 400, "start", 13, GREY, anchor="lm")


def _draw_step(
    canvas: Canvas,
    places: list[Point],
    before: int,
    after: int,
    radius: float,
    colour: str,
    width: float,
) -> None:
    """An arrow that bends to one side, so that the way back is another; or a loop outside."""
    start, end = np.array(places[before]), np.array(places[after])
    if before == after:
        out = (start - _MIDDLE) / _REACH
        turn = np.linspace(0.3, 2 * np.pi - 0.3, 25)[:, None]
        across = np.array([-out[1], out[0]])
        curve = start + radius * (out * (1.3 - np.cos(turn)) + 0.8 * across * np.sin(turn))
        canvas.line(_points(curve), colour, width)
        return
    along, tip = end - start, 5 + width
    bend = (start + end) / 2 + 0.14 * np.array([along[1], -along[0]])
    share = np.linspace(0.0, 1.0, 61)[:, None]
    curve = (1 - share) ** 2 * start + 2 * share * (1 - share) * bend + share**2 * end
    curve = curve[np.linalg.norm(curve - end, axis=1) > radius + tip]
    if len(curve):
        to = end - curve[-1]
        head = end - to * (radius + 1) / np.linalg.norm(to)
        canvas.line(_points(curve), colour, width)
        canvas.tip(_points([head])[0], tip + 2, colour, _points([to])[0])


def _points(array: Iterable[np.ndarray]) -> list[Point]:
    return [(float(x), float(y)) for x, y in array]


def _draw_actions(
    canvas: Canvas,
    state: int,
    transitions: np.ndarray,
    means: np.ndarray,
    known: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    """Of each action of a state: how often it was taken, what it earned, and where it led."""
    top, bottom = _ROWS
    height = min((bottom - top) / len(means), 44.0)
    letters = min(15.0, 0.8 * height)
    estimates = [float(earned.mean()) for earned, _ in known if len(earned)]
    low, high = min(0.0, *means, *estimates), max(1.0, *means, *estimates)
    unit = (_REWARDS[1] - _REWARDS[0]) / (high - low)
    zero = _REWARDS[0] - low * unit
    width = (_CHANCES[1] - _CHANCES[0]) / transitions.shape[1]
    canvas.words(_WORDS, 138, f"state {state}, action by action", 14, bold=True)
    headings = ((_WORDS, "taken"), (_REWARDS[0], "reward"), (_CHANCES[0], "next state"))
    for x, heading in headings:
        canvas.words(x, 164, heading, 13, GREY)
    for action, (earned, led) in enumerate(known):
        y = top + height * (action + 0.5)
        half = 0.36 * height
        if letters >= 6:
            often = f"{len(earned)} ×" if len(earned) else "never"
            canvas.words(_WORDS, y, f"{action}", letters, INK, anchor="lm", bold=True)
            canvas.words(_WORDS + 30, y, often, letters * 0.9, INK, anchor="lm")
        ends = sorted((zero, zero + unit * float(means[action])))
        canvas.box((ends[0], y - half, ends[1], y + half), _TRUE)
        if len(earned):
            ends = sorted((zero, zero + unit * float(earned.mean())))
            canvas.box((ends[0], y - half / 2, ends[1], y + half / 2), BLUE)
        shares = np.bincount(led, minlength=transitions.shape[1]) / max(len(led), 1)
        floor = y + 1.2 * half
        canvas.box((_CHANCES[0], floor, _CHANCES[1], floor + 1), _TRUE)
        for i, (chance, share) in enumerate(zip(transitions[action], shares, strict=True)):
            x = _CHANCES[0] + width * (i + 0.5)
            for size, thick, colour in ((chance, 0.4, _TRUE), (share, 0.2, BLUE)):
                high_end = floor - 2.3 * half * float(size)
                canvas.box((x - thick * width, high_end, x + thick * width, floor), colour)
    canvas.box((zero - 0.5, top, zero + 0.5, bottom), GREY)
    if width >= 11:
        for i in range(transitions.shape[1]):
            x = _CHANCES[0] + width * (i + 0.5)
            canvas.words(x, bottom + 3, str(i), 10, GREY, anchor="ma")
    for x, colour, name in (
        (_WORDS, BLUE, "seen so far"),
        (_WORDS + 110, _TRUE, "true, hidden from the agent"),
    ):
        canvas.box((x, 390, x + 12, 402), colour)
        canvas.words(x + 20, 396, name, 13, GREY, anchor="lm")


def _draw_returns(canvas: Canvas, returns: np.ndarray, current: int, usual: float) -> None:
    """A bar for each inner episode so far, on a scale that ``usual`` sets."""
    top, bottom = _RETURNS
    low, high = min(0.0, float(returns.min())), max(1.0, usual, float(returns.max()))
    unit = (bottom - top) / (high - low)
    zero = bottom + low * unit
    first = 148.0
    step = (_RIGHT - first) / len(returns)
    canvas.words(16, top, "reward of", 13, GREY)
    canvas.words(16, top + 18, "each episode", 13, GREY)
    for episode, total in enumerate(returns[: current + 1].tolist()):
        x = first + step * (episode + 0.5)
        ends = sorted((zero, zero - unit * total))
        colour = BLUE if episode == current else SKY
        canvas.box((x - 0.38 * step, ends[0], x + 0.38 * step, ends[1]), colour)
        if step > 40 and total != 0.0:  # it is where no step was taken
            canvas.words(x, ends[0] - 2, f"{total:.1f}".replace("-", "−"), 12, INK, anchor="md")
    canvas.box((first, zero - 0.5, _RIGHT, zero + 0.5), GREY)


def _number(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
