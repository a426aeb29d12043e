"""From font outlines to pen strokes: outline, filled raster, centre line, distance to it.

Arrays all the way and arithmetic only, with no rasteriser in between, so that the same fonts give
the same strokes with every version of the libraries.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metagym.errors import DataError

# The raster: a glyph's larger side is BOX of SIDE pixels, with an empty rim for distances.
SIDE, BOX = 56, 40
_SEGMENTS = 6  # straight pieces of a curve
# A pixel's neighbours in the order of the bits of its code, from north on clockwise.
_NEIGHBOURS = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


def covers(font: str, character: str) -> bool:
    """Whether a font of matplotlib (its file's stem) has ``character``."""
    return ord(character) in _open(font)[0]


def fill(glyphs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Filled glyphs, scaled to the box by their larger side and centred.

    A pixel is filled where the outline winds around its centre (the nonzero rule).

    Args:
        glyphs: (font, character) pairs.

    Returns:
        bool [glyphs, SIDE, SIDE].
    """
    lines = [_outline(font, character) for font, character in glyphs]
    numbers = np.repeat(np.arange(len(lines)), [len(line) for line in lines])
    x0, y0, x1, y1 = np.concatenate(lines).T
    # Row r has its centre at r + 0.5: a line crosses those from ceil(low - 0.5) on.
    first = np.ceil(np.minimum(y0, y1) - 0.5).astype(np.int64)
    crossed = np.ceil(np.maximum(y0, y1) - 0.5).astype(np.int64) - first
    line = np.repeat(np.arange(len(crossed)), crossed)
    row = first[line] + np.arange(len(line)) - np.repeat(np.cumsum(crossed) - crossed, crossed)
    share = (row + 0.5 - y0[line]) / (y1 - y0)[line]
    x = x0[line] + share * (x1 - x0)[line]
    column = np.clip(np.ceil(x - 0.5).astype(np.int64), 0, SIDE)
    place = (numbers[line] * SIDE + row) * (SIDE + 1) + column
    turns = np.bincount(place, np.sign(y1 - y0)[line], len(lines) * SIDE * (SIDE + 1))
    winding = turns.reshape(len(lines), SIDE, SIDE + 1).cumsum(-1)[..., :SIDE]
    return winding != 0


def thin(filled: np.ndarray) -> np.ndarray:
    """The centre lines of filled shapes, one pixel wide and connected as the shapes are.

    Border pixels go one side after the other (Rosenfeld 1975) if that neither breaks nor joins
    anything nor shortens the end of a line.

    Args:
        filled: bool [n, height, width] with an empty rim.
    """
    lines = filled.copy()
    active = np.arange(len(lines))  # those that still change
    while len(active):
        current = lines[active]
        before = current.sum((1, 2))
        for side in (0, 4, 2, 6):  # north, south, east, west
            current &= ~_removable()[side][_codes(current)]
        lines[active] = current
        active = active[current.sum((1, 2)) < before]
    return lines


def distances(pixels: np.ndarray) -> np.ndarray:
    """How far each pixel is from the nearest set one, float32 [n, height, width]."""
    from scipy.ndimage import distance_transform_edt

    return np.stack([distance_transform_edt(~image) for image in pixels]).astype(np.float32)


# -- the inside --------------------------------------------------------------------------------


@functools.cache
def _open(font: str) -> tuple[dict[int, str], Any]:
    """The names of a font's glyphs by code point, and the glyphs by name."""
    import matplotlib
    from fontTools.ttLib import TTFont, TTLibError

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")
    try:
        file = TTFont(path, lazy=True)
        return file.getBestCmap(), file.getGlyphSet()
    except (OSError, TTLibError) as error:
        raise DataError(
            f"matplotlib's font {path} cannot be read ({error}); install matplotlib again."
        ) from None


def _outline(font: str, character: str) -> np.ndarray:
    """The straight pieces (x0, y0, x1, y1) of a glyph's outline in pixels of the raster."""
    from fontTools.pens.recordingPen import DecomposingRecordingPen

    names, glyphs = _open(font)
    pen = DecomposingRecordingPen(glyphs)
    glyphs[names[ord(character)]].draw(pen)
    pieces = np.array(_straighten(pen.value), np.float64).reshape(-1, 4)
    if not len(pieces):
        raise DataError(f"The font {font} has no outline of {character!r}.")
    points = pieces.reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    scaled = (points - (low + high) / 2) * (BOX / (high - low).max())
    return (scaled * (1, -1) + SIDE / 2).reshape(-1, 4)  # fonts count upwards


def _straighten(commands: Sequence[tuple[str, Any]]) -> list[tuple[float, ...]]:
    from fontTools.pens.basePen import decomposeQuadraticSegment

    pieces: list[tuple[float, ...]] = []
    start = now = (0.0, 0.0)
    for command, points in commands:
        if command == "moveTo":
            start = now = points[0]
        elif command == "lineTo":
            pieces.append((*now, *points[0]))
            now = points[0]
        elif command == "qCurveTo":
            if points[-1] is None:  # a closed curve without a point on it begins half-way
                start = now = tuple((a + b) / 2 for a, b in zip(points[-2], points[0], strict=True))
                points = (*points[:-1], start)
            for control, end in decomposeQuadraticSegment(points):
                origin = now
                for t in np.arange(1, _SEGMENTS + 1) / _SEGMENTS:
                    x, y = (
                        (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
                        for a, b, c in zip(origin, control, end, strict=True)
                    )
                    pieces.append((*now, x, y))
                    now = (x, y)
        elif now != start:  # closePath
            pieces.append((*now, *start))
    return pieces


def _codes(images: np.ndarray) -> np.ndarray:
    """Which neighbours of each pixel are set, one bit each, uint8 [n, height, width]."""
    height, width = images.shape[1:]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1))).view(np.uint8)
    codes = np.zeros(images.shape, np.uint8)
    for bit, (down, right) in enumerate(_NEIGHBOURS):
        codes |= padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width] << bit
    return codes


@functools.cache
def _removable() -> dict[int, np.ndarray]:
    """By side (a bit): whether a border pixel there may go, bool [256] by its code.

    It may if its side is free, if Yokoi's connectivity number is 1, so that nothing breaks or
    joins, and if it has two neighbours, so that it is no end.
    """
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    free = 1 - bits
    connectivity = sum(
        free[:, k] - free[:, k] * free[:, k + 1] * free[:, (k + 2) % 8] for k in (0, 2, 4, 6)
    )
    may_go = (connectivity == 1) & (bits.sum(1) >= 2)
    return {side: may_go & (free[:, side] == 1) for side in (0, 2, 4, 6)}
