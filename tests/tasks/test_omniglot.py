"""Omniglot from zip files: the real ones, and small bad ones made here."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metagym.errors import DataError, InvalidArgumentError
from metagym.tasks import omniglot
from metagym.tasks.image_sets import cache_folder
from metagym.tasks.omniglot import FILES, load_omniglot, read_characters

DATA = Path(os.environ.get("METAGYM_DATA") or Path(__file__).parents[3] / "shared" / "data")
needs_omniglot = pytest.mark.skipif(
    not (DATA / "omniglot" / FILES[0]).is_file(), reason="the zip files of Omniglot are not here"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("METAGYM_CACHE", str(tmp_path / "cache"))


def png(size=(105, 105), seed=0):
    """A drawing as Omniglot's are: one bit a pixel, black on white, a thick line."""
    pixels = np.full(size[::-1], 255, np.uint8)
    row = np.random.default_rng(seed).integers(10, size[1] - 10)
    pixels[row : row + 8, 10:-10] = 0
    content = io.BytesIO()
    Image.fromarray(pixels).convert("1").save(content, "PNG")
    return content.getvalue()


def write_zip(path, alphabets, characters=2, drawings=3, extra=()):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{path.stem}/"), "")
        for alphabet in alphabets:
            for character in range(characters):
                for drawing in range(drawings):
                    name = f"{path.stem}/{alphabet}/character{character:02}/{drawing:04}.png"
                    archive.writestr(name, png(seed=zlib.crc32(name.encode())))
        for name, content in extra:
            archive.writestr(name, content)


def write_both(folder, **background):
    write_zip(folder / FILES[0], [f"A{i}" for i in range(7)], **background)
    write_zip(folder / FILES[1], ["B0", "B1"])


@pytest.mark.parametrize("below", ["", "omniglot"])
def test_small_files_in_the_official_layout(tmp_path, below, monkeypatch):
    write_both(tmp_path / below)
    monkeypatch.setenv("METAGYM_DATA", str(tmp_path))
    images = load_omniglot()
    assert images.images.shape == (9 * 2 * 3, 1, 28, 28)
    assert set(images.counts) == {3}
    assert images.classes[0] == "A0/character00" and images.classes[-1] == "B1/character01"
    # Ink is 255, and most of a drawing is paper.
    assert images.images.max() == 255 and np.median(images.images) == 0
    alphabets = {
        split: {images.classes[number].split("/")[0] for number in numbers}
        for split, numbers in images.split.items()
    }
    assert alphabets == {
        "train": {"A0", "A1", "A2", "A3", "A4", "A6"},
        "validation": {"A5"},
        "test": {"B0", "B1"},
    }


def test_other_files_do_not_meet_the_old_cache(tmp_path):
    write_both(tmp_path)
    first = load_omniglot(tmp_path)
    assert load_omniglot(tmp_path).digest == first.digest
    assert len(list(cache_folder().iterdir())) == 1
    write_both(tmp_path, drawings=4)
    assert set(load_omniglot(tmp_path).counts) == {3, 4}


def test_another_processing_does_not_meet_the_old_cache(tmp_path, monkeypatch):
    write_both(tmp_path)
    load_omniglot(tmp_path)
    monkeypatch.setattr(omniglot, "VERSION", omniglot.VERSION + 1)
    monkeypatch.setattr(omniglot, "SIDE", 14)
    assert load_omniglot(tmp_path).images.shape[2:] == (14, 14)


def test_nothing_is_unpacked(tmp_path):
    write_both(tmp_path / "data")
    load_omniglot(tmp_path / "data")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        [*FILES, *(path.name for path in cache_folder().iterdir())]
    )


def bomb():
    return b"\0" * 200_000


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("../../evil/character01/x.png", png()), "climbs out"),
        (("/etc/A/character01/x.png", png()), "climbs out"),
        (("images/..\\..\\A/character01/x.png", png()), "climbs out"),
        (("C:/A/character01/x.png", png()), "climbs out"),
        (("images_background/readme.txt", b"hello"), "no drawing of Omniglot"),
        (("images_background/A0/character00/x.png", bomb()), "no drawing of Omniglot"),
        (("images_background/A0/character00/x.png", b"no image"), "damaged image"),
        (("images_background/A0/character00/x.png", png()[:60]), "damaged image"),
        (("images_background/A0/character00/x.png", png((105, 104))), "105 × 104 pixels"),
    ],
)
def test_members_that_are_no_drawings(tmp_path, extra, message):
    write_both(tmp_path, extra=[extra])
    with pytest.raises(DataError, match=message) as error:
        load_omniglot(tmp_path)
    assert FILES[0] in str(error.value)
    assert not cache_folder().exists()


def test_a_zip_file_that_is_truncated_or_changed(tmp_path):
    write_both(tmp_path)
    path = tmp_path / FILES[1]
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], content[:-5], b"", b"no zip file"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="truncated or no zip file"):
            read_characters(path)
    # A byte of a picture: zip's own checksum tells.
    at = content.index(b"IDAT") + 10
    path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
    with pytest.raises(DataError, match="truncated or no zip file"):
        read_characters(path)


def test_every_changed_byte_is_a_data_error_or_harmless(tmp_path):
    path = tmp_path / FILES[0]
    write_zip(path, ["A"], characters=1, drawings=2)
    content = path.read_bytes()
    noticed = 0
    for at in range(0, len(content), 11):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        try:
            read_characters(path)
        except DataError:
            noticed += 1
    assert noticed > 20


def test_files_that_are_missing_or_empty(tmp_path):
    with pytest.raises(DataError, match=r"images_background.zip.*Set METAGYM_DATA"):
        load_omniglot(tmp_path)
    write_both(tmp_path)
    (tmp_path / FILES[1]).unlink()
    with pytest.raises(DataError, match=r"images_evaluation.zip cannot be read"):
        load_omniglot(tmp_path)
    write_zip(tmp_path / FILES[1], [])
    with pytest.raises(DataError, match="holds no drawings"):
        load_omniglot(tmp_path)
    write_zip(tmp_path / FILES[1], ["A0"])
    with pytest.raises(DataError, match="share characters"):
        load_omniglot(tmp_path)


def test_split_rules_that_do_not_work(tmp_path):
    with pytest.raises(InvalidArgumentError, match="split_rule='lake'"):
        load_omniglot(tmp_path, "lake")
    write_both(tmp_path)
    with pytest.raises(DataError, match=r"18 characters; .*vinyals.* needs more than 1200"):
        load_omniglot(tmp_path, "vinyals")


@needs_omniglot
def test_the_real_files():
    standard = load_omniglot(DATA)
    assert standard.images.shape == (32_460, 1, 28, 28) and set(standard.counts) == {20}
    sizes = {split: len(numbers) for split, numbers in standard.split.items()}
    assert sizes == {"train": 806, "validation": 158, "test": 659}
    alphabet = [name.split("/")[0] for name in standard.classes]
    by_split = [{alphabet[i] for i in standard.split[split]} for split in standard.split]
    assert [len(alphabets) for alphabets in by_split] == [25, 5, 20]
    assert len(set.union(*by_split)) == 50
    assert standard.split["test"].tolist() == list(range(964, 1623))
    # Drawings are thin lines: everywhere some ink, nowhere much.
    ink = standard.images.mean((1, 2, 3)) / 255
    assert ink.min() > 0.001 and ink.max() < 0.5 and 0.05 < ink.mean() < 0.2
    assert (standard.images.max((1, 2, 3)) > 128).all()

    vinyals = load_omniglot(DATA, "vinyals")
    np.testing.assert_array_equal(vinyals.images, standard.images)
    sizes = {split: len(numbers) for split, numbers in vinyals.split.items()}
    assert sizes == {"train": 1016, "validation": 184, "test": 423}
    of_test = {alphabet[i] for i in vinyals.split["test"]}
    of_others = {alphabet[i] for split in ("train", "validation") for i in vinyals.split[split]}
    assert of_test & of_others == {"Gurmukhi"} and len(of_test) == 13
