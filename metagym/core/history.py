"""A ring buffer of the last ``length`` steps of every row, read as an ordered window.

Each entry is written twice, ``length`` apart, so that the window from oldest to newest is always
one contiguous slice: no roll, no concatenation, no allocation that grows with the history.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class History:
    """The last ``length`` entries of ``width`` floats, for each of ``rows`` rows (float32)."""

    def __init__(self, rows: int, length: int, width: int) -> None:
        self.length = length
        self._twice = np.zeros((rows, 2, length, width), dtype=np.float32)
        self._cursor = 0

    def push(self, entries: np.ndarray) -> None:
        """Append one entry [rows, width] to every row."""
        self._twice[:, :, self._cursor] = entries[:, None]
        self._cursor = (self._cursor + 1) % self.length

    def restart(self, rows: Any, entries: np.ndarray) -> None:
        """Clear the given rows, then make ``entries`` their newest."""
        self._twice[rows] = 0.0
        self._twice[rows, :, self._cursor - 1] = entries[:, None]

    def window(self, rows: Any = slice(None)) -> np.ndarray:
        """A copy [rows, length, width], oldest first; zeros where there was no step yet."""
        # Reshaped here, never kept: a deep copy would make an array of its own of a kept view.
        flat = self._twice.reshape(len(self._twice), 2 * self.length, -1)
        return flat[rows, self._cursor : self._cursor + self.length].copy()

    def get_state(self) -> dict[str, Any]:
        """A copy of the entries and the place of the newest."""
        return {"entries": self._twice.copy(), "cursor": self._cursor}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what ``get_state`` returned."""
        self._twice[...] = state["entries"]
        self._cursor = int(state["cursor"])
