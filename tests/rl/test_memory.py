"""Every core reads a sequence the same way in one go and step by step, and only backwards."""

from __future__ import annotations

import pytest
import torch

from metagym.rl.memory import make_core

KINDS = ("gru", "lstm", "snail")
STEPS, ROWS, INPUTS = 37, 5, 4  # more steps than a SNAIL's first cache holds


@pytest.fixture(params=KINDS)
def core(request):
    torch.manual_seed(0)
    return make_core(request.param, INPUTS, 8, length=20)


@pytest.fixture
def inputs():
    return torch.randn(STEPS, ROWS, INPUTS, generator=torch.Generator().manual_seed(1))


def step_by_step(core, inputs):
    memory, features = core.initial(inputs.shape[1], torch.device("cpu")), []
    for observation in inputs:
        feature, memory = core.step(observation, memory)
        features.append(feature)
    return torch.stack(features), memory


@torch.no_grad()
def test_a_sequence_equals_its_steps(core, inputs):
    whole = core.sequence(inputs)
    assert whole.shape == (STEPS, ROWS, core.outputs)
    torch.testing.assert_close(step_by_step(core, inputs)[0], whole, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_ragged_episodes_equal_their_own_sequences(core, inputs):
    lengths = torch.tensor([37, 3, 20, 1, 36])
    together = core.sequence(inputs)
    for row, length in enumerate(lengths):
        alone = core.sequence(inputs[:length, row : row + 1])
        torch.testing.assert_close(together[:length, row], alone[:, 0], rtol=1e-4, atol=1e-5)


def test_no_feature_sees_the_future(core, inputs):
    inputs.requires_grad_()
    core.sequence(inputs)[10].sum().backward()
    assert (inputs.grad[11:] == 0).all()
    assert (inputs.grad[10] != 0).any()


def test_the_past_is_remembered(core, inputs):
    inputs.requires_grad_()
    core.sequence(inputs)[10].sum().backward()
    assert (inputs.grad[2].abs().sum(-1) > 0).all()


@torch.no_grad()
def test_rows_of_a_memory_can_be_picked_and_started_over(core, inputs):
    _, memory = step_by_step(core, inputs[:5])
    picked = {name: value[[3, 1]].clone() for name, value in memory.items()}
    expected, _ = core.step(inputs[5], memory)
    found, _ = core.step(inputs[5][[3, 1]], picked)
    torch.testing.assert_close(found, expected[[3, 1]])


@torch.no_grad()
def test_rows_of_a_memory_may_be_at_different_steps(core, inputs):
    """A row that starts over behaves as a new one, whatever its neighbours have behind them."""
    _, memory = step_by_step(core, inputs[:5])
    fresh = core.initial(ROWS, torch.device("cpu"))
    for name, value in memory.items():
        value[0] = fresh[name][0]
    features, memory = core.step(inputs[5], memory)
    features, _ = core.step(inputs[6], memory)
    alone = core.sequence(inputs[5:7, :1])[1, 0]
    torch.testing.assert_close(features[0], alone, rtol=1e-4, atol=1e-5)
