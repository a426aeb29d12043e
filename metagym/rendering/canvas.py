"""A canvas for frames: boxes, lines, stars and words, drawn with pillow.

Everything is drawn at twice its size and reduced, which smooths lines and letters.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 832, 512  # pixels; both are multiples of 16, which video codecs want
# Okabe and Ito's colours, as in metagym.rendering.optimization.
BLUE, ORANGE, SKY, RED, GREY = "#0072B2", "#E69F00", "#56B4E9", "#D55E00", "#5F6B76"
INK, PAPER, FAINT = "#1B2733", "#FBFAF7", "#E3E1DB"
_SCALE = 2

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom


class Canvas:
    """A frame in the making; all coordinates are those of the finished one."""

    def __init__(self) -> None:
        self._image = Image.new("RGB", (_SCALE * WIDTH, _SCALE * HEIGHT), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def frame(self) -> np.ndarray:
        """The pixels [512, 832, 3] (uint8)."""
        return np.array(self._image.reduce(_SCALE))

    def box(self, corners: Box, colour: str) -> None:
        """A filled box."""
        left, top, right, bottom = (round(_SCALE * c) for c in corners)
        if right > left and bottom > top:
            self._draw.rectangle((left, top, right - 1, bottom - 1), fill=colour)

    def rounded(
        self, corners: Box, radius: float, colour: str, outline: str, width: float = 1.5
    ) -> None:
        """A filled box with round corners and a border."""
        left, top, right, bottom = (round(_SCALE * c) for c in corners)
        self._draw.rounded_rectangle(
            (left, top, right, bottom), round(_SCALE * radius), colour, outline,
            max(1, round(_SCALE * width)),
        )  # fmt: skip

    def curve(self, points: Sequence[Point], colour: str, width: float, *, down: bool) -> None:
        """A smooth line through all points, which leaves each of them downwards (or rightwards)."""
        smooth = [points[0]]
        for (x0, y0), (x1, y1) in pairwise(points):
            bend = abs(x1 - x0) if down else abs(y1 - y0)
            share = np.linspace(0.0, 1.0, int(np.clip(bend / 3, 1, 16)) + 1)[1:]
            turn = share * share * (3 - 2 * share)  # along it grows evenly, across it ends flat
            x = x0 + (x1 - x0) * (turn if down else share)
            y = y0 + (y1 - y0) * (share if down else turn)
            smooth += zip(x.tolist(), y.tolist(), strict=True)
        self._draw.line(
            [(_SCALE * x, _SCALE * y) for x, y in smooth],
            fill=colour,
            width=max(1, round(_SCALE * width)),
        )

    def tip(self, place: Point, size: float, colour: str, direction: Point) -> None:
        """The head of an arrow that ends at ``place``, pointing in ``direction`` (x, y)."""
        x, y = _SCALE * place[0], _SCALE * place[1]
        back = _SCALE * size / math.hypot(*direction)
        dx, dy = back * direction[0], back * direction[1]
        sides = [(x - dx - 0.55 * dy, y - dy + 0.55 * dx), (x - dx + 0.55 * dy, y - dy - 0.55 * dx)]
        self._draw.polygon([(x, y), *sides], fill=colour)

    def line(self, points: Sequence[Point], colour: str, width: float) -> None:
        """A line through all points, with round ends."""
        scaled = [(_SCALE * x, _SCALE * y) for x, y in points]
        if len(scaled) > 1:
            self._draw.line(scaled, fill=colour, width=max(1, round(_SCALE * width)), joint="curve")
        for place in (points[0], points[-1]) if points else ():
            self.dot(place, width / 2, colour)

    def dot(self, place: Point, radius: float, colour: str, outline: str | None = None) -> None:
        """A filled circle."""
        x, y = _SCALE * place[0], _SCALE * place[1]
        r = _SCALE * radius
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour, outline=outline, width=3)

    def ring(self, place: Point, radius: float, colour: str, inside: Box) -> None:
        """A thin circle, cut off at the borders of ``inside``."""
        angles = np.linspace(0.0, 2 * np.pi, 181)
        x = place[0] + radius * np.cos(angles)
        y = place[1] + radius * np.sin(angles)
        kept = (x > inside[0]) & (x < inside[2]) & (y > inside[1]) & (y < inside[3])
        for i in np.flatnonzero(kept[1:] & kept[:-1]):
            ends = [(_SCALE * x[j], _SCALE * y[j]) for j in (i, i + 1)]
            self._draw.line(ends, fill=colour, width=2)

    def square(self, place: Point, half: float, colour: str) -> None:
        """A frame around a place."""
        x, y = place
        corners = tuple(_SCALE * c for c in (x - half, y - half, x + half, y + half))
        self._draw.rectangle(corners, outline=colour, width=max(2, round(_SCALE * half / 4)))

    def star(self, place: Point, radius: float, colour: str) -> None:
        """A star with five points."""
        angles = np.pi * (np.arange(10) / 5 - 0.5)
        reach = radius * np.where(np.arange(10) % 2 == 0, 1.0, 0.45)
        self._polygon(place, reach * np.cos(angles), reach * np.sin(angles), colour)

    def arrow(self, place: Point, direction: np.ndarray, length: float) -> None:
        """The agent: a dart that points in ``direction`` (row, column)."""
        along = length * np.array([1.25, -1.0, -0.45, -1.0])
        across = length * np.array([0.0, 0.85, 0.0, -0.85])
        row, column = direction.tolist()
        self._polygon(place, along * column - across * row, along * row + across * column, ORANGE)

    def _polygon(self, place: Point, x: np.ndarray, y: np.ndarray, colour: str) -> None:
        points = [
            (_SCALE * (place[0] + a), _SCALE * (place[1] + b))
            for a, b in zip(x.tolist(), y.tolist(), strict=True)
        ]
        self._draw.polygon(points, fill=colour, outline=INK, width=2)

    def words(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        colour: str = INK,
        *,
        anchor: str = "la",
        bold: bool = False,
    ) -> None:
        """Text of a height in pixels; ``anchor`` is pillow's."""
        font = _font(max(4, round(_SCALE * size)), bold)
        self._draw.text((_SCALE * x, _SCALE * y), text, fill=colour, font=font, anchor=anchor)


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Pixels that a line of ``Canvas.words`` takes."""
    return _font(max(4, round(_SCALE * size)), bold).getlength(text) / _SCALE


@functools.cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    from matplotlib import get_data_path  # it brings a font with it, systems may have none

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/{name}", size)
