"""Image sets from folders, and scikit-learn's digits."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from metagym.errors import DataError, InvalidArgumentError
from metagym.problems.datasets import load_dataset
from metagym.tasks.image_folder import load_digits, load_folder


def write(path, value=0, size=(6, 6), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode == "L" else (value, 10, 20)
    Image.new(mode, size, colour).save(path)


def write_classes(root, names, count=2, **kwargs):
    for number, name in enumerate(names):
        for image in range(count):
            write(root / name / f"{image}.png", 10 * number + image, **kwargs)


def by_name(images):
    return {split: [images.classes[i] for i in numbers] for split, numbers in images.split.items()}


def test_classes_in_a_flat_folder(tmp_path):
    write_classes(tmp_path, "abcdefghij")
    images = load_folder(tmp_path)
    assert images.images.shape == (20, 1, 6, 6) and images.name == tmp_path.name
    assert images.images[:, 0, 0, 0].tolist() == [10 * i + j for i in range(10) for j in (0, 1)]
    found = by_name(images)
    assert [len(names) for names in found.values()] == [6, 2, 2]
    assert sorted(name for names in found.values() for name in names) == list("abcdefghij")
    assert by_name(load_folder(tmp_path)) == found
    assert [len(v) for v in by_name(load_folder(tmp_path, shares=(0.2, 0.3))).values()] == [2, 3, 5]


def test_groups_of_classes_are_not_divided(tmp_path):
    write_classes(tmp_path, [f"alphabet{a}/letter{i}" for a in range(5) for i in range(3)])
    found = by_name(load_folder(tmp_path))
    assert [len(names) for names in found.values()] == [9, 3, 3]
    groups = [{name.split("/")[0] for name in names} for names in found.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 5


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_folders_that_are_called_like_the_splits_are_the_splits(tmp_path, validation):
    write_classes(tmp_path, ["train/x", "train/y", f"{validation}/z", "test/w"])
    assert by_name(load_folder(tmp_path)) == {
        "train": ["train/x", "train/y"], "validation": [f"{validation}/z"], "test": ["test/w"],
    }  # fmt: skip


def test_colours_sizes_and_inversion(tmp_path):
    for number, name in enumerate("abcde"):
        write(tmp_path / name / "0.JPG", 200, (6, 6 + number), "RGB")
    with pytest.raises(DataError, match=r"mixed sizes: .* 6 × 6 pixels, .* 6 × 7; pass size="):
        load_folder(tmp_path)
    images = load_folder(tmp_path, size=8, colour="rgb")
    assert images.images.shape == (5, 3, 8, 8)
    # JPEG is not exact.
    np.testing.assert_allclose(images.images.mean((0, 2, 3)), [200, 10, 20], atol=3)
    inverted = load_folder(tmp_path, size=8, colour="rgb", invert=True)
    np.testing.assert_array_equal(inverted.images, 255 - images.images)
    assert load_folder(tmp_path, size=8).images.shape == (5, 1, 8, 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("colour", ["grey", "rgb"])
def test_a_transparent_ground_is_white(tmp_path, mode, colour):
    drawing = np.zeros((6, 6, 4), np.uint8)  # black ink, and a ground that is black as well
    drawing[1:3, 2:5, 3] = 255
    drawing[4, 4, 3] = 128
    image = Image.fromarray(drawing)
    if mode == "LA":
        image = image.convert("LA")
    elif mode == "P":  # colour 0 of the palette is see-through; nothing is half so
        image = Image.new("P", (6, 6))
        image.putpalette([0] * 768)
        image.putdata((drawing[..., 3] > 0).astype(int).ravel().tolist())
    for name in "abc":
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "0.png", **({"transparency": 0} if mode == "P" else {}))
    expected = 255 - (np.where(drawing[..., 3] > 0, 255, 0) if mode == "P" else drawing[..., 3])
    images = load_folder(tmp_path, colour=colour)
    for channel in images.images[0]:
        np.testing.assert_allclose(channel, expected, atol=1)
    np.testing.assert_array_equal(load_folder(tmp_path, colour=colour, invert=True).images,
                                  255 - images.images)  # fmt: skip


def test_sixteen_bits_are_scaled(tmp_path):
    values = np.linspace(0, 65535, 36).reshape(6, 6).astype(np.uint16)
    for name in "abc":
        (tmp_path / name).mkdir()
        Image.fromarray(values).save(tmp_path / name / "0.png")
    images = load_folder(tmp_path)
    np.testing.assert_array_equal(images.images[0, 0], np.rint(values / 257))
    rgb = load_folder(tmp_path, colour="rgb", size=6)
    np.testing.assert_array_equal(rgb.images[0], np.repeat(images.images[0], 3, 0))
    for name in "abc":  # black is see-through
        Image.fromarray(values).save(tmp_path / name / "0.png", transparency=0)
    expected = np.where(values == 0, 255, np.rint(values / 257))
    np.testing.assert_array_equal(load_folder(tmp_path).images[0, 0], expected)


def test_what_systems_and_archivers_leave_behind_does_not_count(tmp_path):
    write_classes(tmp_path, "abc")
    expected = load_folder(tmp_path).digest
    (tmp_path / "a" / "._0.png").write_bytes(b"\0\5\x16\7 of a Mac")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"of Windows")
    for name in ("__MACOSX/a", ".cache", "b/.thumbnails"):
        write(tmp_path / name / "0.png")
    assert load_folder(tmp_path).digest == expected


def test_the_folder_itself_may_be_hidden(tmp_path):
    write_classes(tmp_path / ".images", "abc")
    assert load_folder(tmp_path / ".images").classes == ("a", "b", "c")


def test_folders_that_do_not_work(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        load_folder(tmp_path / "nowhere")
    write(tmp_path / "loose.png")
    with pytest.raises(DataError, match="no folders with images"):
        load_folder(tmp_path)
    write_classes(tmp_path, "ab")
    with pytest.raises(DataError, match=r"2 folders, which leaves none for test"):
        load_folder(tmp_path)
    write_classes(tmp_path, "abc")
    assert [len(names) for names in by_name(load_folder(tmp_path)).values()] == [1, 1, 1]
    (tmp_path / "c" / "bad.png").write_bytes(b"no image")
    for size in (None, 8):
        with pytest.raises(DataError, match=r"bad.png is no image"):
            load_folder(tmp_path, size=size)
    content = (tmp_path / "a" / "0.png").read_bytes()
    (tmp_path / "c" / "bad.png").write_bytes(content[:40])
    with pytest.raises(DataError, match=r"bad.png is no image, or a damaged one"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size=0"),
        ({"colour": "cmyk"}, "colour='cmyk'"),
        ({"invert": 1}, "invert=1"),
        ({"shares": (0.5, 0.5)}, "sum below 1"),
        ({"shares": (0.5,)}, "sum below 1"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        load_folder(tmp_path, **arguments)


def test_digits():
    images = load_digits(8)
    data = load_dataset("digits")
    assert images.images.shape == (1797, 1, 8, 8)
    assert images.counts.tolist() == np.bincount(data.labels).tolist()
    for digit in range(10):
        rows = slice(images.starts[digit], images.starts[digit] + images.counts[digit])
        expected = data.inputs[data.labels == digit].reshape(-1, 8, 8)
        np.testing.assert_allclose(images.images[rows, 0] / 255, expected, atol=0.5 / 255 + 1e-6)
    assert images.split["train"].tolist() == [0, 1, 2, 3]
    assert load_digits().images.shape == (1797, 1, 28, 28)
    with pytest.raises(InvalidArgumentError, match="size=0"):
        load_digits(0)
