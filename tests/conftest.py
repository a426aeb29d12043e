"""What tests of several folders share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Before torch is imported: workers of pytest-xdist share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Rendered glyphs and packed images: one place for all workers, and not the user's.
os.environ.setdefault("METAGYM_CACHE", str(Path(tempfile.gettempdir()) / "metagym-tests"))

# By the beginning of the id: arguments that make an episode nine steps long, or at most that.
SHORT: dict[str, dict[str, Any]] = {
    "MetaBandit": {"n": 9},
    "MetaTabularMDP": {"n": 3, "inner_horizon": 3},
    "MetaMaze": {"n": 3, "inner_horizon": 3},
    "MetaNavigation2D": {"n": 3, "inner_horizon": 3},
    "": {"horizon": 9},
}


@pytest.fixture(scope="session")
def short() -> Callable[[str], dict[str, Any]]:
    """``short(env_id)``: arguments with which an episode of it takes at most nine steps."""
    return lambda env_id: next(kwargs for name, kwargs in SHORT.items() if env_id.startswith(name))
