"""Mazes as data: what one is, random ones, and which ones cannot be.

A maze of ``size`` × ``size`` rooms is a picture of (2·size + 1)² tiles, ``walls`` (bool, True is a
wall): room (r, c) is the tile (2r + 1, 2c + 1), the tile between two rooms is a passage or a wall,
tiles at two even coordinates are pillars and the outer ring is closed. ``start`` is (row, column,
heading), ``target`` is (row, column), in rooms.
"""

from __future__ import annotations

import functools

import numpy as np

from metagym.core.task import SPLITS, Task
from metagym.errors import InvalidArgumentError

# Clockwise from north, as (row, column) steps; a heading is an index into it.
HEADINGS = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])
COUNT = 1000  # mazes per split of a frozen list


def generate_mazes(size: int, count: int, rng: np.random.Generator) -> Task:
    """Random mazes without loops: ``count`` depth-first searches at once.

    Each search begins in a random room and walks on to a random room that it has not visited, or
    back where there is none. Target, start and heading are uniform; the start is never the target.

    Returns:
        ``walls`` bool [count, 2·size + 1, 2·size + 1], ``start`` int64 [count, 3] and ``target``
        int64 [count, 2].
    """
    rooms, side = size * size, 2 * size + 1
    neighbours, between = _graph(size)
    every = np.arange(count)
    walls = np.ones((count, side * side), dtype=bool)
    walls[:, _room_tiles(size)] = False
    visited = np.zeros((count, rooms + 1), dtype=bool)
    visited[:, rooms] = True  # what lies outside
    place = _draw(rng, count, rooms)
    visited[every, place] = True
    stack, depth = np.zeros((count, rooms), dtype=np.int64), np.zeros(count, dtype=np.int64)
    for _ in range(2 * (rooms - 1)):  # every room but the first is entered once and left once
        fresh = ~visited[every[:, None], neighbours[place]]
        way = np.where(fresh, rng.random((count, 4)), -1.0).argmax(axis=1)
        on = np.flatnonzero(fresh.any(axis=1))
        back = np.flatnonzero(~fresh.any(axis=1))
        walls[on, between[place[on], way[on]]] = False
        stack[on, depth[on]] = place[on]
        depth[on] += 1
        place[on] = neighbours[place[on], way[on]]
        visited[on, place[on]] = True
        depth[back] = np.maximum(depth[back] - 1, 0)
        place[back] = stack[back, depth[back]]
    return {"walls": walls.reshape(count, side, side), **draw_places(rng, count, size)}


def draw_places(rng: np.random.Generator, count: int, size: int) -> Task:
    """Starts [count, 3] with headings, and other rooms as targets [count, 2], all uniform."""
    rooms = size * size
    target = _draw(rng, count, rooms)
    start = (target + 1 + _draw(rng, count, rooms - 1)) % rooms
    return {
        "start": np.stack([start // size, start % size, _draw(rng, count, 4)], axis=1),
        "target": np.stack([target // size, target % size], axis=1),
    }


def freeze(size: int) -> dict[str, Task]:
    """The lists of all splits, 1,000 mazes each: no layout twice in them, not even turned by 90°.

    Who has no compass cannot tell a maze from a turned one. Sizes below 5 have too few layouts for
    that; there none comes twice with the same start and target.
    """
    rng = np.random.default_rng([20161109, size])  # the day on which RL² appeared
    pool = generate_mazes(size, 2 * len(SPLITS) * COUNT, rng)
    if size >= 5:
        keys = [min(np.rot90(maze, k).tobytes() for k in range(4)) for maze in pool["walls"]]
    else:
        keys = [
            b"".join(map(np.ndarray.tobytes, maze)) for maze in zip(*pool.values(), strict=True)
        ]
    first: dict[bytes, int] = {}
    for i, key in enumerate(keys):
        first.setdefault(key, i)
    chosen = np.array(list(first.values())[: len(SPLITS) * COUNT]).reshape(len(SPLITS), COUNT)
    return {
        split: {name: values[index] for name, values in pool.items()}
        for split, index in zip(SPLITS, chosen, strict=True)
    }


def check_mazes(mazes: Task, size: int, what: str) -> None:
    """Raise for mazes that cannot be, naming the first.

    Raises:
        InvalidArgumentError: an open outer wall, a room or pillar that is not one, a start or
            target outside, both in the same room, or a target that cannot be reached.
    """
    walls, start, target = mazes["walls"], mazes["start"], mazes["target"]
    limits = np.array([size, size, 4])
    inner = np.ones(walls.shape[1:], dtype=bool)
    inner[1:-1, 1:-1] = False
    inner[::2, ::2] = True  # the outer ring and the pillars
    complaints = {
        "its outer wall or a pillar is open": ~walls[:, inner].all(axis=1),
        "a room is walled up": walls[:, 1::2, 1::2].any(axis=(1, 2)),
        f"its start is outside of {size} × {size} rooms and 4 headings": (
            (start < 0) | (start >= limits)
        ).any(axis=1),
        f"its target is outside of {size} × {size} rooms": ((target < 0) | (target >= size)).any(
            axis=1
        ),
        "its start is its target": (start[:, :2] == target).all(axis=1),
    }
    for complaint, wrong in complaints.items():
        if wrong.any():
            raise InvalidArgumentError(f"{what}: maze {int(wrong.argmax())}: {complaint}.")
    unreachable = ~_reachable(walls, start, target)
    if unreachable.any():
        raise InvalidArgumentError(
            f"{what}: maze {int(unreachable.argmax())}: no way leads from its start to its target."
        )


# -- the grid --------------------------------------------------------------------------------------


def _draw(rng: np.random.Generator, count: int, below: int) -> np.ndarray:
    """Uniform whole numbers, from the plainest of numpy's streams so that they stay the same."""
    return (rng.random(count) * below).astype(np.int64)


def _room_tiles(size: int) -> np.ndarray:
    """The flat tile of every room, [rooms]."""
    row, column = np.divmod(np.arange(size * size), size)
    return (2 * row + 1) * (2 * size + 1) + 2 * column + 1


@functools.cache
def _graph(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every room and heading: the next room (size² outside) and the flat tile between."""
    row, column = np.divmod(np.arange(size * size), size)
    steps = HEADINGS.T[:, None, :]
    to_row, to_column = row[:, None] + steps[0], column[:, None] + steps[1]
    inside = (to_row >= 0) & (to_row < size) & (to_column >= 0) & (to_column < size)
    neighbours = np.where(inside, to_row * size + to_column, size * size)
    between = _room_tiles(size)[:, None] + steps[0] * (2 * size + 1) + steps[1]
    return neighbours, between


def _reachable(walls: np.ndarray, start: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Whether a way leads from start to target, [n]: a flood from room to room."""
    every, size = np.arange(len(walls)), (walls.shape[1] - 1) // 2
    east, south = ~walls[:, 1::2, 2:-1:2], ~walls[:, 2:-1:2, 1::2]
    flooded = np.zeros((len(walls), size, size), dtype=bool)
    flooded[every, start[:, 0], start[:, 1]] = True
    rooms = -1
    while (now := int(flooded.sum())) != rooms:
        rooms = now
        flooded[:, :, 1:] |= flooded[:, :, :-1] & east
        flooded[:, :, :-1] |= flooded[:, :, 1:] & east
        flooded[:, 1:] |= flooded[:, :-1] & south
        flooded[:, :-1] |= flooded[:, 1:] & south
    reached: np.ndarray = flooded[every, target[:, 0], target[:, 1]]
    return reached
