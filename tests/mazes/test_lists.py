"""Mazes as data: generation, the frozen lists, files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.errors import DataError, InvalidArgumentError
from metagym.mazes import lists as maze_lists
from metagym.mazes.grid import check_mazes, freeze, generate_mazes
from metagym.mazes.lists import CHECKSUMS, FOLDER, frozen_mazes, load_mazes, save_mazes

SPLITS = ("train", "validation", "test")


@pytest.fixture
def lists():
    rng = np.random.default_rng(0)
    return {split: generate_mazes(4, 3, rng) for split in SPLITS}


def _rooms_reached(walls):
    """How many rooms a walk from room (0, 0) reaches, by a plain search."""
    todo, found = [(1, 1)], {(1, 1)}
    while todo:
        row, column = todo.pop()
        for down, right in ((-1, 0), (0, 1), (1, 0), (0, -1)):
            room = (row + 2 * down, column + 2 * right)
            if not walls[row + down, column + right] and room not in found:
                found.add(room)
                todo.append(room)
    return len(found)


@settings(max_examples=20, deadline=None)
@given(size=st.integers(3, 15), seed=st.integers(0, 10**6))
def test_mazes_are_connected_and_have_no_loop(size, seed):
    mazes = generate_mazes(size, 2, np.random.default_rng(seed))
    check_mazes(mazes, size, "mazes")
    for walls in mazes["walls"]:
        assert walls.shape == (2 * size + 1, 2 * size + 1)
        assert _rooms_reached(walls) == size**2
        # A connected graph with one edge less than nodes is a tree.
        assert (~walls).sum() - size**2 == size**2 - 1


def test_starts_targets_and_headings_are_uniform():
    mazes = generate_mazes(3, 9000, np.random.default_rng(0))
    start, target = mazes["start"], mazes["target"]
    assert (start[:, :2] != target).any(axis=1).all()
    for rooms in (start[:, 0] * 3 + start[:, 1], target[:, 0] * 3 + target[:, 1]):
        np.testing.assert_allclose(np.bincount(rooms) / 1000, 1.0, atol=0.15)
    np.testing.assert_allclose(np.bincount(start[:, 2]) / 2250, 1.0, atol=0.1)


@pytest.mark.parametrize("size", [5, 9])
def test_the_frozen_lists_are_those_of_the_checksums_and_can_be_made_again(size):
    made = freeze(size)
    for split in SPLITS:
        frozen = frozen_mazes(size, split)
        assert len(frozen["walls"]) == 1000
        for name, values in frozen.items():
            np.testing.assert_array_equal(values, made[split][name])
            assert not values.flags.writeable
    with np.load(FOLDER / f"mazes_{size}.npz") as file:
        assert str(file["checksum"]) == CHECKSUMS[size]
    assert (FOLDER / f"mazes_{size}.npz").stat().st_size < 100_000


@pytest.mark.parametrize("size", [5, 9])
def test_no_layout_comes_twice_not_even_turned(size):
    walls = np.concatenate([frozen_mazes(size, split)["walls"] for split in SPLITS])
    turned = {min(np.rot90(maze, k).tobytes() for k in range(4)) for maze in walls}
    assert len(turned) == 3000


@pytest.mark.parametrize("size", [3, 4])
def test_small_sizes_have_disjoint_splits_too(size):
    tasks = [frozen_mazes(size, split) for split in SPLITS]
    keys = {
        b"".join(values[i].tobytes() for values in task.values())
        for task in tasks
        for i in range(1000)
    }
    assert len(keys) == 3000


def test_a_file_gives_back_what_was_saved(tmp_path, lists):
    path = tmp_path / "mine.npz"
    save_mazes(path, lists)
    loaded = load_mazes(path, 4)
    for split in SPLITS:
        for name in ("walls", "start", "target"):
            np.testing.assert_array_equal(loaded[split][name], lists[split][name])


def test_bad_files_are_data_errors(tmp_path, lists):
    path = tmp_path / "mine.npz"
    with pytest.raises(DataError, match=r"no list of mazes at .*save_mazes"):
        load_mazes(path, 4)
    with pytest.raises(DataError, match="no list of mazes"):
        load_mazes(tmp_path, 4)
    path.write_bytes(b"not an archive")
    with pytest.raises(DataError, match="damaged"):
        load_mazes(path, 4)
    np.savez(path, walls=np.zeros(3))
    with pytest.raises(DataError, match="no list of mazes"):
        load_mazes(path, 4)
    save_mazes(path, lists)
    with pytest.raises(DataError, match="4 × 4 rooms, not of 5 × 5"):
        load_mazes(path, 5)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"):
        load_mazes(path, 4)


def test_every_changed_byte_of_a_file_is_noticed_or_harmless(tmp_path, lists):
    path = tmp_path / "mine.npz"
    save_mazes(path, lists)
    content = bytearray(path.read_bytes())
    noticed = 0
    for at in range(0, len(content), 37):
        changed = content.copy()
        changed[at] ^= 0xFF
        path.write_bytes(changed)
        try:
            loaded = load_mazes(path, 4)
        except DataError:
            noticed += 1
        else:
            for split in SPLITS:
                np.testing.assert_array_equal(loaded[split]["walls"], lists[split]["walls"])
    assert noticed > 10


def test_a_file_that_was_changed_by_hand_is_noticed(tmp_path, lists):
    path = tmp_path / "mine.npz"
    save_mazes(path, lists)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["test_target"] = arrays["test_target"] ^ 1
    np.savez(path, **arrays)
    with pytest.raises(DataError, match="checksum"):
        load_mazes(path, 4)
    # A checksum that fits does not make a maze of it.
    del arrays["checksum"]
    arrays["test_target"] = arrays["test_start"][:, :2]
    np.savez(path, checksum=np.array(maze_lists._checksum(arrays)), **arrays)
    with pytest.raises(DataError, match=r"test: maze 0: its start is its target"):
        load_mazes(path, 4)
    arrays["test_target"] = arrays["test_target"].astype(np.float64)
    np.savez(path, checksum=np.array(maze_lists._checksum(arrays)), **arrays)
    with pytest.raises(DataError, match="<f8"):
        load_mazes(path, 4)


def test_another_list_in_the_packages_place_is_refused(tmp_path, monkeypatch):
    other = {split: {k: v[::-1] for k, v in frozen_mazes(5, split).items()} for split in SPLITS}
    save_mazes(tmp_path / "mazes_5.npz", other)
    monkeypatch.setattr(maze_lists, "FOLDER", tmp_path)
    maze_lists._frozen_lists.cache_clear()
    try:
        with pytest.raises(DataError, match="not the frozen list"):
            frozen_mazes(5, "train")
        with pytest.raises(DataError, match="no list of mazes at"):
            frozen_mazes(9, "train")
    finally:
        maze_lists._frozen_lists.cache_clear()


def test_what_cannot_be_saved(tmp_path, lists):
    with pytest.raises(InvalidArgumentError, match="split 'test'"):
        save_mazes(tmp_path / "mine.npz", {k: v for k, v in lists.items() if k != "test"})
    with pytest.raises(InvalidArgumentError, match="outer wall"):
        lists["train"]["walls"][1, 0, 3] = False
        save_mazes(tmp_path / "mine.npz", lists)
    assert not list(tmp_path.iterdir())


def _open_outer_wall(maze):
    maze["walls"][0, 0, 1] = False


def _open_pillar(maze):
    maze["walls"][0, 2, 2] = False


def _close_room(maze):
    maze["walls"][0, 3, 3] = True


def _close_all(maze):
    size = (maze["walls"].shape[1] - 1) // 2
    maze["walls"][:] = True
    maze["walls"][0, 1::2, 1::2] = np.zeros((size, size), dtype=bool)


def _start_outside(maze):
    maze["start"][0, 0] = -1


def _heading_outside(maze):
    maze["start"][0, 2] = 4


def _target_outside(maze):
    maze["target"][0, 1] = 4


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_open_outer_wall, "outer wall or a pillar"),
        (_open_pillar, "outer wall or a pillar"),
        (_close_room, "a room is walled up"),
        (_close_all, "no way leads"),
        (_start_outside, "start is outside"),
        (_heading_outside, "start is outside"),
        (_target_outside, "target is outside"),
    ],
)
def test_mazes_that_cannot_be_are_named(spoil, message):
    maze = generate_mazes(4, 1, np.random.default_rng(0))
    spoil(maze)
    with pytest.raises(InvalidArgumentError, match=f"mine: maze 0: .*{message}"):
        check_mazes(maze, 4, "mine")
