"""What an agent sees in a maze: the rooms ahead and beside it, as far as the walls let it.

The view is a window of 5 × 5 tiles, 3 × 3 rooms, in the agent's own frame: the agent stands in the
middle of the bottom row and looks up. It sees a room if a straight corridor ahead and at most one
turn off it lead there, and of each room that it sees the walls, the openings and the pillars.

Twelve walls lie between the nine rooms, so that there are 4,096 views. ``view_codes`` finds the one
of every pose of a maze, once per trial; a step is then two look-ups.
"""

from __future__ import annotations

import functools

import numpy as np

from metagym.mazes.grid import HEADINGS

DEPTH, WIDTH = 5, 5  # tiles
CHANNELS = ("wall", "open", "target")  # all 0: not seen
# The tiles between the rooms, as (ahead, to the right) of the agent's: those one passes going
# ahead, then those one passes going sideways. The bit of each is 1 where it is open.
_AHEAD = [(1, 0), (3, 0), (1, -2), (3, -2), (1, 2), (3, 2)]
_BESIDE = [(ahead, side) for ahead in (0, 2, 4) for side in (-1, 1)]
_EDGES = _AHEAD + _BESIDE
_ROOMS = [(ahead, side) for ahead in (0, 2, 4) for side in (-2, 0, 2)]
OPEN_AHEAD = 1  # bit of a code: nothing blocks the way
_CODE_BITS = 12  # above them: 1 + the index of the room in which the target is seen, or 0


def view_codes(walls: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The code of the view from every pose.

    Args:
        walls: bool [n, side, side], see ``metagym.mazes.grid``.
        target: rooms [n, 2].

    Returns:
        uint16 [n, poses]; pose = 4 · (row · size + column) + heading.
    """
    size = (walls.shape[1] - 1) // 2
    closed = np.ones((len(walls), walls[0].size + 1), dtype=bool)  # what lies outside is wall
    closed[:, :-1] = walls.reshape(len(walls), -1)
    opened = ~closed[:, _window_tiles(size, tuple(_EDGES))]  # [n, poses, 12]
    codes = opened.astype(np.float32) @ 2.0 ** np.arange(_CODE_BITS, dtype=np.float32)
    codes = codes.astype(np.uint16)
    room = _room_of_target(size)[target[:, 0] * size + target[:, 1]]  # [n, poses]
    seen = _views()[1][codes, room]
    codes |= (room * seen).astype(np.uint16) << _CODE_BITS
    return codes


def views(codes: np.ndarray) -> np.ndarray:
    """The views [n, 75] (float32, [3, 5, 5] flattened) of codes [n]."""
    pictures = _views()[0].take(codes & ((1 << _CODE_BITS) - 1), axis=0)
    room = codes >> _CODE_BITS
    hit = np.flatnonzero(room)
    pictures[hit, _TARGET_PIXEL[room[hit]]] = 1.0
    return pictures


@functools.cache
def window(size: int) -> np.ndarray:
    """The flat tile of every pixel of the view of every pose, [poses, 5, 5]; side² is outside."""
    pixels = [(DEPTH - 1 - i, j - WIDTH // 2) for i in range(DEPTH) for j in range(WIDTH)]
    return _window_tiles(size, tuple(pixels)).reshape(-1, DEPTH, WIDTH)


def _pixel(ahead: int, side: int) -> int:
    return (DEPTH - 1 - ahead) * WIDTH + side + WIDTH // 2


# Of a room's index + 1: where in the flat view a target in it is drawn.
_TARGET_PIXEL = np.array([0] + [2 * DEPTH * WIDTH + _pixel(*room) for room in _ROOMS])


def _window_tiles(size: int, offsets: tuple[tuple[int, int], ...]) -> np.ndarray:
    """The flat tiles at ``offsets`` (ahead, right) of every pose, [poses, offsets]."""
    side = 2 * size + 1
    row, column, heading = np.unravel_index(np.arange(4 * size * size), (size, size, 4))
    forward = HEADINGS[heading][:, None]  # [poses, 1, 2]
    right = HEADINGS[(heading + 1) % 4][:, None]
    ahead, beside = np.array(offsets).T[:, None, :, None]
    at = np.stack([2 * row + 1, 2 * column + 1], axis=1)[:, None]
    tile = at + ahead * forward + beside * right
    inside = ((tile >= 0) & (tile < side)).all(axis=2)
    return np.where(inside, tile[..., 0] * side + tile[..., 1], side * side)


@functools.cache
def _room_of_target(size: int) -> np.ndarray:
    """Of a target's room and a pose: 1 + the index in _ROOMS of where it lies, or 0; [rooms, P]."""
    tiles = _window_tiles(size, tuple(_ROOMS))  # [poses, 9]
    row, column = np.divmod(np.arange(size * size), size)
    room_tile = (2 * row + 1) * (2 * size + 1) + 2 * column + 1
    same = tiles[None] == room_tile[:, None, None]  # [rooms, poses, 9]
    found: np.ndarray = np.where(same.any(axis=2), same.argmax(axis=2) + 1, 0)
    return found.astype(np.uint8)


@functools.cache
def _views() -> tuple[np.ndarray, np.ndarray]:
    """Of every code: its view [4096, 75] (float32), and what is seen of the rooms [4096, 10].

    Column 0 of the second, which stands for no room, is False.
    """
    codes = np.arange(1 << _CODE_BITS)
    opened = {edge: (codes >> bit) & 1 == 1 for bit, edge in enumerate(_EDGES)}
    seen = {(0, 0): np.ones(len(codes), dtype=bool)}
    for ahead in (0, 2, 4):
        if ahead:
            seen[ahead, 0] = seen[ahead - 2, 0] & opened[ahead - 1, 0]
        for side in (-1, 1):
            seen[ahead, 2 * side] = seen[ahead, 0] & opened[ahead, side]
    pictures = np.zeros((len(codes), len(CHANNELS), DEPTH * WIDTH), np.float32)
    wall, way = pictures[:, 0], pictures[:, 1]
    for ahead in range(DEPTH):
        for side in range(-2, 3):
            pixel = _pixel(ahead, side)
            if (ahead, side) in seen:
                way[:, pixel] = seen[ahead, side]
                continue
            around = [
                is_seen
                for (a, s), is_seen in seen.items()
                if abs(a - ahead) <= 1 and abs(s - side) <= 1
            ]
            visible = np.any(around, axis=0)
            passable = opened.get((ahead, side), np.zeros(len(codes), dtype=bool))
            way[:, pixel], wall[:, pixel] = visible & passable, visible & ~passable
    rooms = np.stack([np.zeros(len(codes), dtype=bool), *(seen[room] for room in _ROOMS)], axis=1)
    return pictures.reshape(len(codes), -1), rooms
