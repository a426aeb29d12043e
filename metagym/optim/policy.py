"""MLPPolicy: a small trained network in numpy, so that using one needs no torch."""

from __future__ import annotations

from itertools import pairwise

import gymnasium as gym
import numpy as np

from metagym.errors import CheckpointError


class MLPPolicy:
    """tanh layers and a linear last one, over the last axis.

    Args:
        weights: ``"0.weight"`` [out, in], ``"0.bias"`` [out], ``"1.weight"``, ... in order.

    Raises:
        CheckpointError: a layer is missing or does not fit the one before.
    """

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.layers = []
        for i in range(len(weights) // 2):
            try:
                self.layers.append((weights[f"{i}.weight"].T, weights[f"{i}.bias"]))
            except KeyError as error:
                raise CheckpointError(f"The policy's weights lack the array {error}.") from None
        shapes = [weight.shape for weight, _ in self.layers]
        if not shapes or any(a[1] != b[0] for a, b in pairwise(shapes)):
            raise CheckpointError(f"The policy's layers do not fit: shapes {shapes}.")

    @property
    def num_inputs(self) -> int:
        """The length of the last axis that it takes."""
        return int(self.layers[0][0].shape[0])

    @property
    def num_outputs(self) -> int:
        """The length of the last axis that it gives."""
        return int(self.layers[-1][0].shape[1])

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Outputs [..., out] for inputs [..., in]."""
        hidden = inputs
        for weight, bias in self.layers[:-1]:
            hidden = np.tanh(hidden @ weight + bias)
        weight, bias = self.layers[-1]
        return np.asarray(hidden @ weight + bias)


def num_outputs(actions: gym.Space) -> int:
    """How many numbers a policy gives: logits of discrete actions, or the last axis of a Box."""
    if isinstance(actions, gym.spaces.Discrete):
        return int(actions.n)
    assert actions.shape
    return actions.shape[-1]
