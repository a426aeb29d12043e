"""Glyphs: outlines, centre lines, handwriting, and which characters there are."""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from metagym.errors import DataError, InvalidArgumentError
from metagym.tasks import glyphs, strokes
from metagym.tasks.glyphs import ALPHABETS, FONTS, distinct, draw, load_glyphs, make_glyphs
from metagym.tasks.strokes import BOX, SIDE, covers, distances, fill, thin

# Of ``draw("Aßשⵣ", 3)``; if it changes, so have all glyphs: count VERSION up.
CHECKSUM = "15e9c56585cd3920badeca1ab7a8995fc66c3b6f040161397ef082dbda5ad4fb"
SMALL = {
    "train": {"Latin": ((0x41, 0x44),), "Greek": ((0x391, 0x394),)},
    "validation": {"Hebrew": ((0x5D0, 0x5D2),)},
    "test": {"Tifinagh": ((0x2D30, 0x2D33),)},
}
EIGHT = np.ones((3, 3), bool)


def pieces(image):
    """Connected pieces of ink (8 neighbours) and of paper (4 neighbours)."""
    return ndimage.label(image, EIGHT)[1], ndimage.label(~image)[1]


# -- strokes -----------------------------------------------------------------------------------


def test_filled_glyphs_have_the_shape_of_the_letter():
    letters = "IOB8il"
    filled = fill([("DejaVuSans", letter) for letter in letters])
    assert filled.shape == (6, SIDE, SIDE)
    # Holes: none, one, two; pieces: the dot of an i is one of its own.
    assert [pieces(image) for image in filled] == [
        (1, 1), (1, 2), (1, 3), (1, 3), (2, 1), (1, 1),
    ]  # fmt: skip
    for image in filled:
        rows, columns = np.nonzero(image)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert BOX - 1 <= max(height, width) <= BOX
        assert abs(rows.min() + rows.max() - (SIDE - 1)) <= 1  # centred
        assert abs(columns.min() + columns.max() - (SIDE - 1)) <= 1


@pytest.mark.parametrize("font", FONTS)
def test_filled_glyphs_are_those_of_matplotlib(font):
    """An independent implementation: matplotlib's own outlines and its own test of points."""
    from matplotlib import get_data_path
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    properties = FontProperties(fname=f"{get_data_path()}/fonts/ttf/{font}.ttf")
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    for letter in "g%Ω":
        path = TextPath((0, 0), letter, size=100, prop=properties)
        low, high = path.get_extents().get_points()
        scale = (high - low).max() / BOX
        points = np.stack([x.ravel() - SIDE / 2, SIDE / 2 - y.ravel()], 1) * scale
        points += (low + high) / 2
        # Winding numbers of the pieces add up: holes run the other way round.
        winding = np.zeros(len(points), int)
        for polygon in path.to_polygons(closed_only=True):
            winding += _winding(polygon, points)
        expected = (winding != 0).reshape(SIDE, SIDE)
        differ = fill([(font, letter)])[0] != expected
        assert differ.mean() < 0.004  # pixels whose centre lies on the outline


def _winding(polygon, points):
    (x0, y0), (x1, y1) = polygon[:-1].T[:, :, None], polygon[1:].T[:, :, None]
    px, py = points.T
    left = (x1 - x0) * (py - y0) - (px - x0) * (y1 - y0)
    return ((y0 <= py) & (y1 > py) & (left > 0)).sum(0) - ((y0 > py) & (y1 <= py) & (left < 0)).sum(
        0
    )


@settings(max_examples=60, deadline=None)
@given(arrays(bool, (14, 14)))
def test_thinning_keeps_what_is_connected_and_every_hole(image):
    padded = np.pad(image, 1)
    lines = thin(padded[None])[0]
    assert not (lines & ~padded).any()
    assert pieces(lines) == pieces(padded)
    # Thin: another round would take nothing more.
    np.testing.assert_array_equal(thin(lines[None])[0], lines)


def test_thick_lines_become_thin_ones():
    bars = np.zeros((2, 20, 20), bool)
    bars[0, 8:13, 2:18] = True  # a bar
    bars[1, 4:16, 4:16] = True
    bars[1, 7:13, 7:13] = False  # a ring
    bar, ring = thin(bars)
    assert bar.sum(0).max() == 1 and 10 <= bar.sum() <= 16
    assert set(np.nonzero(bar)[0]) <= {9, 10, 11}
    neighbours = ndimage.convolve(ring.astype(int), np.ones((3, 3), int), mode="constant")
    assert ring.sum() < 0.4 * bars[1].sum() and (neighbours[ring] >= 3).all()  # it has no ends


def test_distances():
    pixels = np.zeros((1, 9, 9), bool)
    pixels[0, 4, 2] = True
    expected = np.hypot(*(np.mgrid[:9, :9] - np.array([4, 2])[:, None, None]))
    np.testing.assert_allclose(distances(pixels)[0], expected, rtol=1e-6)


def test_fonts_that_are_not_there(monkeypatch):
    with pytest.raises(DataError, match="install matplotlib again"):
        covers("NoSuchFont", "A")
    with pytest.raises(DataError, match="no outline of ' '"):
        fill([("DejaVuSans", " ")])


# -- handwriting -------------------------------------------------------------------------------


def test_drawings_are_the_same_everywhere():
    ink = draw("Aßשⵣ", 3)
    assert hashlib.sha256(ink.tobytes()).hexdigest() == CHECKSUM


def test_a_drawing_depends_on_its_character_and_number_alone():
    many = draw("AßשB", 4)
    assert many.shape == (4, 4, 28, 28) and many.dtype == np.uint8
    np.testing.assert_array_equal(draw("ש", 2)[0], many[2, :2])


def test_drawings_of_a_character_differ_but_less_than_those_of_others():
    """One nearest neighbour in pixels tells characters far above chance, and not perfectly."""
    ink = draw("AGKgהⵣფ", 20).astype(float)
    flat = ink.reshape(7, 20, -1)
    assert len({drawing.tobytes() for drawing in flat.reshape(140, -1)}) == 140
    known, asked = flat[:, :10].reshape(70, -1), flat[:, 10:].reshape(70, -1)
    nearest = ((asked[:, None] - known[None]) ** 2).sum(-1).argmin(1)
    right = (nearest // 10 == np.arange(70) // 10).mean()
    assert 0.4 < right < 1.0  # chance is 0.14


def test_ink_is_a_line_inside_the_picture():
    ink = draw("AGKgהⵣფ", 20).reshape(140, 28, 28) / 255
    assert (ink.max((1, 2)) > 0.8).all()
    assert ink.mean((1, 2)).min() > 0.03 and ink.mean((1, 2)).max() < 0.35
    rim = np.ones((28, 28), bool)
    rim[1:-1, 1:-1] = False
    assert ink[:, rim].sum() < 0.02 * ink.sum()


def test_drawings_keep_the_holes_of_a_character_mostly():
    """Distortion leaves letters legible: most drawings of O have one hole, of C none."""
    holes = {
        letter: np.mean([pieces(drawing > 100)[1] == expected for drawing in draw(letter, 40)[0]])
        for letter, expected in (("O", 2), ("C", 1), ("B", 3))
    }
    assert min(holes.values()) > 0.7, holes


# -- the set -----------------------------------------------------------------------------------


def test_look_alikes_are_left_out():
    # Greek Α, Cyrillic А and a small c look like earlier ones; Г and L, Q and O do not.
    characters = "ACOLQАΑcГЖ"
    assert [characters[i] for i in distinct(characters)] == list("ACOLQГЖ")
    # Dots make a letter: four of Arabic that share a base.
    assert distinct("بتثن") == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "pair",
    [
        *("ꓶר", "bხ", "םߛ", "Ժժ", "მߥ"),  # once thin, though not when filled
        "O0",  # in another font than the first
        *("Tז", "aმ", "Φ𐌘"),  # one taller for its width than the other
    ],
)
def test_what_is_drawn_alike_is_one_character(pair):
    assert distinct(pair) == distinct(pair[::-1]) == [0]


@pytest.mark.parametrize("stretch", [0.8, 1.25])
def test_stretched_lines(stretch):
    lines = glyphs._centre_lines("OLⵣ")[0]
    stretched = glyphs._stretched(lines, stretch)
    np.testing.assert_array_equal(stretched.sum((1, 2)), lines.sum((1, 2)))
    for before, after in zip(lines, stretched > 0, strict=True):
        sizes = [[np.ptp(at) + 1 for at in np.nonzero(image)] for image in (before, after)]
        assert abs(max(sizes[0]) - max(sizes[1])) <= 1
        ratio = sizes[1][0] / sizes[1][1] / (sizes[0][0] / sizes[0][1])
        assert ratio == pytest.approx(stretch, rel=0.08)
    np.testing.assert_array_equal(glyphs._stretched(lines, 1.0), lines)


def test_a_small_set_from_the_beginning(tmp_path, monkeypatch):
    monkeypatch.setenv("METAGYM_CACHE", str(tmp_path))
    images = make_glyphs(SMALL, 3)
    assert images.images.shape == (3 * len(images.classes), 1, 28, 28)
    by_split = {
        split: [images.classes[i] for i in numbers] for split, numbers in images.split.items()
    }
    assert by_split["train"] == [*("Latin/" + c for c in "ABCD"), "Greek/Γ", "Greek/Δ"]
    assert by_split["validation"] == [f"Hebrew/{c}" for c in "אבג"]
    assert {name.split("/")[0] for name in by_split["test"]} == {"Tifinagh"}
    assert images.digest == make_glyphs(SMALL, 3).digest
    np.testing.assert_array_equal(images.images[3:6, 0], draw("B", 3)[0])


def test_loading_keeps_the_set_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("METAGYM_CACHE", str(tmp_path))
    monkeypatch.setattr(glyphs, "ALPHABETS", SMALL)
    first = load_glyphs(2)
    monkeypatch.setattr(glyphs, "make_glyphs", None)
    assert load_glyphs(2).digest == first.digest
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(InvalidArgumentError, match="drawings=0"):
        load_glyphs(0)


def test_alphabets_are_in_one_split_and_the_fonts_have_them():
    names = [name for alphabets in ALPHABETS.values() for name in alphabets]
    assert len(set(names)) == len(names)
    codes = [
        code
        for alphabets in ALPHABETS.values()
        for ranges in alphabets.values()
        for first, last in ranges
        for code in range(first, last + 1)
    ]
    assert len(set(codes)) == len(codes)
    for alphabets in ALPHABETS.values():
        for name, ranges in alphabets.items():
            found = [
                any(covers(f, chr(c)) for f in FONTS) for a, b in ranges for c in range(a, b + 1)
            ]
            assert np.mean(found) > 0.6, name


def test_no_script_is_in_two_splits():
    """By the names of Unicode: FRAKTUR SMALL B is LATIN SMALL LETTER B once normalised."""
    scripts = {
        split: {
            unicodedata.name(unicodedata.normalize("NFKC", chr(code))).split()[0]
            for ranges in alphabets.values()
            for first, last in ranges
            for code in range(first, last + 1)
            if any(covers(font, chr(code)) for font in FONTS)
        }
        for split, alphabets in ALPHABETS.items()
    }
    assert {"LATIN", "GREEK", "CYRILLIC", "ARABIC"} <= scripts["train"]
    assert scripts["validation"] == {"HEBREW", "OGHAM", "ARMENIAN"}
    assert scripts["test"] == {"GEORGIAN", "TIFINAGH", "NKO", "LAO"}
    assert not scripts["train"] & (scripts["validation"] | scripts["test"])


def test_the_whole_set():
    images = load_glyphs()
    sizes = {split: len(numbers) for split, numbers in images.split.items()}
    assert sizes == {"train": 406, "validation": 71, "test": 170}
    assert set(images.counts) == {20}
    # Look-alikes across splits fall where they do not train.
    names = {name.split("/")[1] for name in images.classes}
    assert names >= set("ꓶbם") and not names & set("רხߛ")


def test_strokes_are_read_from_the_fonts_of_matplotlib():
    assert strokes.covers("DejaVuSans", "ⵣ") and not strokes.covers("STIXGeneral", "ⵣ")
