"""What several tests share: a small training run, and searches that score in microseconds."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from metagym.agents import reinforce
from metagym.architectures import PAD, Evaluation, Evaluator, SearchSpace
from metagym.architectures.cell201 import CONV_3X3, Cell201
from metagym.architectures.chain import Chain

CHAIN = Chain(4, shortest=2, heights=(1, 3), widths=(3,), filters=(8, 16))


class Toy(Evaluator):
    """The share of the tokens of one kind, among those that there are."""

    name = "toy"

    def __init__(self, space: SearchSpace, wanted: int) -> None:
        self.space, self.wanted = space, wanted

    def evaluate(self, tokens: np.ndarray, seeds: np.ndarray | None = None) -> Evaluation:
        tokens = self.space.check(tokens)
        share = (tokens == self.wanted).sum(axis=1) / (tokens != PAD).sum(axis=1)
        return Evaluation(share, share, np.ones(len(share)))


ENTRY = "metagym.envs.neural_architecture_search:NeuralArchitectureSearch"
for name, evaluator in (
    ("ToyCellSearch-v0", Toy(Cell201(), CONV_3X3)),
    ("ToyChainSearch-v0", Toy(CHAIN, CHAIN.vocabulary.index("skip"))),
):
    if name not in gym.registry:
        gym.register(
            name, f"{ENTRY}Env", vector_entry_point=f"{ENTRY}VectorEnv",
            kwargs={"evaluator": evaluator}, disable_env_checker=True,
        )  # fmt: skip


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short REINFORCE run on 2-d quadratics; do not write into it."""
    out = tmp_path_factory.mktemp("runs") / "reinforce"
    config = reinforce.Config(num_envs=8, hidden=(8,))
    kwargs = {"dim": 2, "horizon": 5}
    return reinforce.train(
        "LearnToOptimize-v0", out, config, steps=80, env_kwargs=kwargs, progress=False
    )
