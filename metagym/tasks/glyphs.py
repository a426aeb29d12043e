"""Glyphs: characters of many alphabets in many handwritings, made of matplotlib's own fonts.

Like Omniglot, and without a download: a character's outline becomes a centre line, which each of
twenty hands draws in its own size, slant and proportions, with a shaky pen of its own width.
Alphabets, not characters, are divided into train, validation and test, and those that took over
letters from one another keep to one split: the kin of Latin and Greek train, the three Georgian
alphabets test. A character is left out if its centre line in any font lies close to that of an
earlier one (a Greek Α and a Latin A), and those that train come first. Close is a matter of pixels
(``distinct``): a few pairs that a reader could take for one another stay, such as C and Ⴚ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from metagym.core.task import SPLITS
from metagym.errors import check_positive
from metagym.monitoring import progress_bar
from metagym.tasks.image_sets import ImageSet, cached, pack
from metagym.tasks.strokes import BOX, covers, distances, fill, thin
from metagym.tasks.strokes import SIDE as RASTER

VERSION = 2  # of characters and drawings; a change makes caches anew
SIDE = 28
FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral")

Ranges = tuple[tuple[int, int], ...]


def _each(letters: str) -> Ranges:
    return tuple((ord(letter), ord(letter)) for letter in letters)


# (first, last) code points, ends included; the order decides which of two look-alikes stays.
ALPHABETS: dict[str, dict[str, Ranges]] = {
    "train": {
        "Latin": ((0x41, 0x5A), (0x61, 0x7A)),
        "Greek": ((0x391, 0x3A9), (0x3B1, 0x3C9)),
        "Cyrillic": ((0x410, 0x42F), (0x430, 0x44F), (0x402, 0x40B), (0x460, 0x481)),
        "Phonetic": ((0x250, 0x2AF),),
        "Coptic": ((0x3E2, 0x3EF),),
        "Old Italic": ((0x10300, 0x1031E),),
        "Lisu": ((0xA4D0, 0xA4F7),),
        "Arabic": ((0x621, 0x63A), (0x641, 0x64A), (0x671, 0x6D3)),
        "Script": ((0x1D4D0, 0x1D503),),
        "Fraktur": ((0x1D56C, 0x1D59F),),
        "Canadian syllabics": _each(
            "ᐁᐃᐅᐊᐯᐱᐳᐸᑌᑎᑐᑕᑫᑭᑯᑲᒉᒋᒍᒐᒣᒥᒧᒪᓀᓂᓄᓇᓓᓕᓗᓚᓭᓯᓱᓴᔐᔑᔓᔕᔦᔨᔪᔭᕂᕆᕈᕋᕓᕕᕗᕙᕞᕠᕤᕦᕴᕵᕷᕹᖊᖋᖌᖍᖠᖢᖤ"
        ),
    },
    "validation": {
        "Hebrew": ((0x5D0, 0x5EA),),
        "Ogham": ((0x1681, 0x169A),),
        "Armenian": ((0x531, 0x556), (0x561, 0x586)),
    },
    "test": {
        "Mkhedruli": ((0x10D0, 0x10F6),),
        "Asomtavruli": ((0x10A0, 0x10C5),),
        "Nuskhuri": ((0x2D00, 0x2D25),),
        "Tifinagh": ((0x2D30, 0x2D65),),
        "N'Ko": ((0x7C0, 0x7EA),),
        "Lao": ((0xE81, 0xEAE), (0xEB0, 0xEB0), (0xEC0, 0xEC4), (0xED0, 0xED9)),
    },
}

# Two centre lines are one character if, at one of the stretches, at most this share of either lies
# farther than that many pixels of the raster from the other: hands write tall and wide.
_SAME_SHARE, _SAME_DISTANCE = 0.05, 3.0
_STRETCHES = (0.8, 1.0, 1.25)  # each with its inverse
_CHUNK = 32  # characters drawn at once


def load_glyphs(drawings: int = 20) -> ImageSet:
    """Characters of many alphabets, 28 × 28 pixels; made within seconds and kept in the cache.

    406 train, 71 validate and 170 test.

    Args:
        drawings: of each character. The first drawings do not depend on how many there are.

    Raises:
        InvalidArgumentError: drawings below 1.
        DataError: matplotlib's fonts are not where they should be.
    """
    check_positive("drawings", drawings)
    return cached(f"glyphs-v{VERSION}-{drawings}", lambda: make_glyphs(ALPHABETS, drawings))


def make_glyphs(alphabets: Mapping[str, Mapping[str, Ranges]], drawings: int) -> ImageSet:
    """An image set of the characters of ``alphabets`` (ranges of code points by split and name)."""
    found = [
        (split, name, chr(code))
        for split in SPLITS
        for name, ranges in alphabets[split].items()
        for first, last in ranges
        for code in range(first, last + 1)
        if any(covers(font, chr(code)) for font in FONTS)
    ]
    kept = distinct([character for _, _, character in found])
    found = [found[number] for number in kept]
    characters = [character for _, _, character in found]
    names = [f"{name}/{character}" for _, name, character in found]
    chunks = []
    with progress_bar("glyphs", steps=len(characters)) as update:
        for start in range(0, len(characters), _CHUNK):
            chunks.append(draw(characters[start : start + _CHUNK], drawings))
            update(min(start + _CHUNK, len(characters)), "characters")
    images = np.concatenate(chunks)
    split = {part: [i for i, row in enumerate(found) if row[0] == part] for part in SPLITS}
    return pack("glyphs", dict(zip(names, images, strict=True)), split)


def distinct(characters: Sequence[str]) -> list[int]:
    """The characters that look like no earlier one, in order.

    Centre lines are compared in all fonts that are drawn from, at the same larger side, as they are
    and with one a quarter taller or wider for its size.
    """
    lines, starts = _centre_lines(characters)
    far = (distances(lines) > _SAME_DISTANCE).reshape(len(lines), -1).astype(np.float32)
    there = []
    for stretch in _STRETCHES:
        ink = _stretched(lines, stretch).reshape(len(lines), -1)
        # Counts of pixels, so that float32 is exact: of i's line, the share that is far from j's.
        there.append((ink @ far.T) / ink.sum(1)[:, None])
    pairs = zip(there, reversed(there), strict=True)
    unlike = np.min([np.maximum(one, inverse.T) for one, inverse in pairs], axis=0)
    for axis in (0, 1):  # the most alike of all fonts
        unlike = np.minimum.reduceat(unlike, starts, axis)
    same = unlike <= _SAME_SHARE
    kept: list[int] = []
    for number in range(len(characters)):
        if not same[number, kept].any():
            kept.append(number)
    return kept


def draw(characters: Sequence[str], drawings: int) -> np.ndarray:
    """Handwritten variants of characters; each depends on its character and number alone.

    Returns:
        Ink, uint8 [characters, drawings, SIDE, SIDE].
    """
    lines, starts = _centre_lines(characters)
    fields = distances(lines)
    counts = np.diff(starts, append=len(lines))
    # One generator per drawing, so that more drawings leave the first ones as they are.
    uniform = np.stack([
        np.random.default_rng([VERSION, ord(character), number]).random(_Hand.NUMBERS)
        for character in characters for number in range(drawings)
    ])  # fmt: skip
    hand = _Hand(uniform)
    field = np.repeat(starts, drawings) + (hand.style * np.repeat(counts, drawings)).astype(int)
    down, right = hand.places()
    ink = hand.ink(_interpolate(fields, field, down, right))
    return ink.reshape(len(characters), drawings, SIDE, SIDE)


class _Hand:
    """How n drawings are drawn, from uniform numbers [n, NUMBERS].

    Lengths are in pixels of the drawing; ``places`` looks up, for each of its pixels, where on
    the raster of the centre line its ink comes from.
    """

    COARSE, FINE = 4, 7  # knots a side: proportions of a hand, and the shaking of its pen
    NUMBERS = 9 + 2 * COARSE**2 + 2 * FINE**2

    def __init__(self, uniform: np.ndarray) -> None:
        (self.style, size, aspect, turn, slant, down, right, width, dark) = uniform[:, :9].T
        self._knots = 2 * uniform[:, 9:] - 1
        size = 17.0 + 6.0 * size  # of the larger side
        stretch = np.exp(0.5 * (aspect - 0.5))  # 0.78 to 1.28, height over width
        self._scale = size / BOX
        self._stretch = np.sqrt(stretch)
        self._turn = np.deg2rad(24.0) * (turn - 0.5)
        self._slant = 0.6 * (slant - 0.5)
        self._offset = np.stack([down - 0.5, right - 0.5]) * 3.0
        self._half_width = 0.6 + 0.45 * width
        self._dark = 0.85 + 0.15 * dark

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns on the raster, float32 [n, SIDE, SIDE] each."""
        n, (coarse, fine) = len(self._knots), (self.COARSE, self.FINE)
        cut = 2 * coarse**2
        waves = 2.4 * _smooth(self._knots[:, :cut].reshape(n, 2, coarse, coarse), SIDE)
        waves += 0.7 * _smooth(self._knots[:, cut:].reshape(n, 2, fine, fine), SIDE)
        middle = np.arange(SIDE) - (SIDE - 1) / 2
        offset = self._offset[..., None, None]
        y = middle[:, None] + waves[:, 0] - offset[0]
        x = middle + waves[:, 1] - offset[1]
        cos, sin = np.cos(self._turn)[:, None, None], np.sin(self._turn)[:, None, None]
        y, x = cos * y - sin * x, sin * y + cos * x
        x = x + self._slant[:, None, None] * y
        scale, stretch = self._scale[:, None, None], self._stretch[:, None, None]
        middle_of_raster = (RASTER - 1) / 2
        rows = y / (scale * stretch) + middle_of_raster
        columns = x * stretch / scale + middle_of_raster
        return rows.astype(np.float32), columns.astype(np.float32)

    def ink(self, distance: np.ndarray) -> np.ndarray:
        """uint8 ink where the pen's centre line is ``distance`` raster pixels away."""
        scale, half, dark = (
            values.astype(np.float32)[:, None, None]
            for values in (self._scale, self._half_width, self._dark)
        )
        covered = np.clip(half + np.float32(0.5) - distance * scale, 0, 1)
        return np.rint(255 * dark * covered).astype(np.uint8)


def _fonts(character: str) -> list[str]:
    return [font for font in FONTS if covers(font, character)]


def _centre_lines(characters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """bool [n, RASTER, RASTER] of each character in each of its fonts, and where each begins."""
    variants = [(font, character) for character in characters for font in _fonts(character)]
    counts = np.array([len(_fonts(character)) for character in characters])
    return thin(fill(variants)), np.cumsum(counts) - counts


def _stretched(lines: np.ndarray, stretch: float) -> np.ndarray:
    """Pixels of lines ``stretch`` times as tall for their width, larger sides as they were.

    Returns:
        How many pixels went to each place, float32 [n, RASTER, RASTER].
    """
    number, *place = np.nonzero(lines)
    middle = (RASTER - 1) / 2
    before = np.stack(place, 1) - middle
    after = before * (stretch, 1.0)
    sizes = np.zeros((2, len(lines)))
    for size, values in zip(sizes, (before, after), strict=True):
        np.maximum.at(size, number, np.abs(values).max(1))
    after *= (sizes[0] / sizes[1])[number, None]
    down, right = np.rint(after + middle).astype(np.int64).T
    flat = (number * RASTER + down) * RASTER + right
    return np.bincount(flat, minlength=lines.size).reshape(lines.shape).astype(np.float32)


def _smooth(knots: np.ndarray, side: int) -> np.ndarray:
    """Values at knots [..., k, k] as a smooth surface [..., side, side] (cosine interpolation)."""
    k = knots.shape[-1]
    place = np.arange(side) * (k - 1) / side
    left = place.astype(int)
    share = (1 - np.cos(np.pi * (place - left))) / 2
    weights = np.zeros((side, k))
    weights[np.arange(side), left] = 1 - share
    weights[np.arange(side), left + 1] = share
    return weights @ knots @ weights.T


def _interpolate(
    fields: np.ndarray, field: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Bilinear look-up in fields [f, h, w]: drawing i reads field[i] at rows[i], columns[i]."""
    height, width = fields.shape[1:]
    rows = np.clip(rows, 0, height - np.float32(1.001))
    columns = np.clip(columns, 0, width - np.float32(1.001))
    up, left = rows.astype(np.int64), columns.astype(np.int64)
    a, b = rows - up, columns - left
    start = (field[:, None, None] * height + up) * width + left
    flat = fields.ravel()
    upper = flat[start] * (1 - b) + flat[start + 1] * b
    lower = flat[start + width] * (1 - b) + flat[start + width + 1] * b
    return upper * (1 - a) + lower * a
