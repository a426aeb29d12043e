"""A small training run that several tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from metagym.agents import reinforce


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short REINFORCE run on 2-d quadratics; do not write into it."""
    out = tmp_path_factory.mktemp("runs") / "reinforce"
    config = reinforce.Config(num_envs=8, hidden=(8,))
    kwargs = {"dim": 2, "horizon": 5}
    return reinforce.train(
        "LearnToOptimize-v0", out, config, steps=80, env_kwargs=kwargs, progress=False
    )
