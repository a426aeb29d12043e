"""What tests of several folders share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

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
