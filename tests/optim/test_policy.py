"""MLPPolicy: torch's network without torch, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metagym.errors import CheckpointError
from metagym.optim.policy import MLPPolicy
from metagym.rl.networks import MLP, to_arrays


@pytest.mark.parametrize("sizes", [(4, 2), (4, 8, 2), (4, 8, 8, 2)])
@pytest.mark.parametrize("lead", [(7,), (3, 5)])
def test_it_is_the_torch_network(sizes: tuple[int, ...], lead: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = MLP(sizes)
    for layer in network.layers:
        torch.nn.init.normal_(layer.bias)  # type: ignore[arg-type]
    arrays = {k.removeprefix("actor."): v for k, v in to_arrays(network, "actor").items()}
    policy = MLPPolicy(arrays)
    inputs = np.random.default_rng(0).standard_normal((*lead, 4)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.tensor(inputs)).numpy()
    np.testing.assert_allclose(policy(inputs), expected, rtol=1e-5, atol=1e-6)
    assert policy.num_inputs == 4


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "do not fit"),
        ({"0.weight": np.ones((2, 3)), "bias": np.ones(2)}, "0.bias"),
        (
            {
                "0.weight": np.ones((2, 3)),
                "0.bias": np.ones(2),
                "1.weight": np.ones((2, 5)),
                "1.bias": np.ones(2),
            },
            "do not fit",
        ),
    ],
)
def test_weights_that_are_no_network_are_refused(
    weights: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        MLPPolicy(weights)
