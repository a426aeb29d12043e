"""Quadratics, and an optimiser's run on them, for the tests of the update rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metagym.agents import reinforce
from metagym.agents.validation import Validation
from metagym.optim import GainRule, UpdateRule
from metagym.optim.policy import MLPPolicy


class Quadratics:
    """f(x) = x'Ax/2 - b'x + c for B rows, with f >= 0 and known minima (float64)."""

    def __init__(self, rows: int = 3, dim: int = 5, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        root = rng.standard_normal((rows, dim, dim))
        self.a = root @ root.swapaxes(1, 2) / dim + 0.5 * np.eye(dim)
        self.minimum = rng.standard_normal((rows, dim))
        self.start = rng.standard_normal((rows, dim))

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gradient = np.einsum("bij,bj->bi", self.a, x - self.minimum)
        return 0.5 * np.vecdot(x - self.minimum, gradient), gradient

    def run(self, rule: UpdateRule, steps: int) -> np.ndarray:
        """The iterates [steps + 1, B, d] of a fresh rule."""
        x, last = self.start, np.zeros_like(self.start)
        iterates = [x]
        for _ in range(steps):
            last = rule.update(*self(x), last)
            x = x + last
            iterates.append(x)
        return np.array(iterates)


@pytest.fixture
def quadratics() -> type[Quadratics]:
    """The class; ``quadratics(rows, dim, seed)`` makes some."""
    return Quadratics


@pytest.fixture
def random_policy() -> Callable[..., MLPPolicy]:
    """Makes a small network with random weights: a policy whose gains depend on all features."""

    def make(inputs: int, seed: int = 0, size: float = 0.3) -> MLPPolicy:
        rng = np.random.default_rng(seed)
        shapes: dict[str, Any] = {
            "0.weight": (8, inputs), "0.bias": (8,), "1.weight": (2, 8), "1.bias": (2,),
        }  # fmt: skip
        return MLPPolicy(
            {k: (size * rng.standard_normal(s)).astype(np.float32) for k, s in shapes.items()}
        )

    return make


@pytest.fixture
def gain_rule(random_policy: Callable[..., MLPPolicy]) -> Callable[..., GainRule]:
    """Makes a GainRule with a random policy."""

    def make(per: str = "problem", **kwargs: Any) -> GainRule:
        features = GainRule(per).feature_shape(1)[-1]
        return GainRule(per, policy=random_policy(features), **kwargs)

    return make


@pytest.fixture(scope="session", params=["problem", "coordinate"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short REINFORCE run on 2-d quadratics, one for each kind of gains."""
    out = tmp_path_factory.mktemp("runs") / request.param
    config = reinforce.Config(view=request.param, num_envs=8, hidden=(8,))
    kwargs = {"dim": 2, "horizon": 5}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Validation, "look", lambda *_: None)
        return reinforce.train(
            "LearnToOptimize-v0", out, config, steps=80, env_kwargs=kwargs, progress=False
        )
