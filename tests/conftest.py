"""What tests of several folders share."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metagym.architectures.chain import Chain
from metagym.architectures.enas_rnn import ENASRecurrent
from metagym.architectures.nasnet import NASNet
from metagym.architectures.recurrent_tree import RecurrentTree
from metagym.monitoring import RunLogger

# Before torch is imported: workers of pytest-xdist share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Rendered glyphs and packed images: one place for all workers, and not the user's.
os.environ.setdefault("METAGYM_CACHE", str(Path(tempfile.gettempdir()) / "metagym-tests"))

# Children that cost next to nothing: what is checked is the environment around them.
RNG = np.random.default_rng(0)
FEW_IMAGES = {
    "recipe": {"epochs": 1},
    "data": tuple(
        part
        for n in (32, 16, 16)
        for part in (RNG.random((n, 8, 8), dtype=np.float32), np.arange(n) % 4)
    ),
}
FEW_SYMBOLS = {"settings": {"width": 4, "max_symbols": 2000, "max_evaluation_symbols": 500}}
# By the beginning of the id: arguments that make an episode nine steps long, or about that.
SHORT: dict[str, dict[str, Any]] = {
    "MetaBandit": {"n": 9},
    "MetaTabularMDP": {"n": 3, "inner_horizon": 3},
    "MetaMaze": {"n": 3, "inner_horizon": 3},
    "MetaNavigation2D": {"n": 3, "inner_horizon": 3},
    "ArchitectureSearchTrial": {"n": 1},
    "NeuralArchitectureSearch": {},
    "ChainSearch": {"space": Chain(1, skips=False), "evaluator_kwargs": FEW_IMAGES},
    "NASNetSearch": {"space": NASNet(1), "evaluator_kwargs": FEW_IMAGES},
    "ENASCellSearch": {"space": ENASRecurrent(2), "evaluator_kwargs": FEW_SYMBOLS},
    "RecurrentCellSearch": {"space": RecurrentTree(2), "evaluator_kwargs": FEW_SYMBOLS},
    "": {"horizon": 9},
}


DRAW = RunLogger.figure


@pytest.fixture(scope="session", autouse=True)
def blank_figures() -> Iterator[None]:
    """What trainings look at is made, but not painted, which takes a quarter of a second each."""
    with pytest.MonkeyPatch.context() as patch:
        blank = np.zeros((2, 2, 3), np.uint8)
        patch.setattr(RunLogger, "figure", lambda self, tag, _, step: self.image(tag, blank, step))
        yield


@pytest.fixture
def painted_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for users."""
    monkeypatch.setattr(RunLogger, "figure", DRAW)


@pytest.fixture(scope="session")
def short() -> Callable[[str], dict[str, Any]]:
    """``short(env_id)``: arguments with which an episode of it takes at most ten steps."""
    return lambda env_id: next(kwargs for name, kwargs in SHORT.items() if env_id.startswith(name))


@pytest.fixture(scope="session")
def skipped_rules() -> Callable[[str], tuple[str, ...]]:
    """``skipped_rules(env_id)``: what our vector check cannot ask of it.

    The luck of a single architecture comes from the split, or from the architecture itself.
    """
    return lambda env_id: ("seeding",) if re.search("Search-v0$", env_id) else ()
