"""The controller's network: distributions over strings, and attention to earlier layers."""

from __future__ import annotations

import numpy as np
import torch

from metagym.architectures.cell201 import Cell201
from metagym.architectures.chain import Chain
from metagym.rl.controller import Controller


def masks(space, tokens):
    """[B, T, V], of all positions of finished strings."""
    found = []
    prefix = space.empty(len(tokens))
    for t in range(space.length):
        found.append(space.mask(prefix))
        prefix[:, t] = tokens[:, t]
    return torch.as_tensor(np.stack(found, axis=1))


def test_probabilities_of_all_strings_sum_to_one():
    torch.manual_seed(0)
    space = Chain(2, heights=(1, 3), widths=(1,), filters=(4, 8))
    tokens = np.unique(space.sample(np.random.default_rng(0), 2000), axis=0)
    assert len(tokens) == 4**2 * 2
    policy = Controller(space, width=8)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(10)  # far from uniform
        log_probs = policy.log_probs(torch.as_tensor(tokens), masks(space, tokens))
    chosen = log_probs.gather(2, torch.as_tensor(tokens)[..., None])[..., 0].sum(dim=1)
    assert chosen.std() > 0.1
    np.testing.assert_allclose(float(chosen.exp().sum()), 1.0, rtol=1e-5)


def test_a_token_does_not_see_what_follows():
    torch.manual_seed(0)
    space = Chain(4)
    policy = Controller(space, width=8)
    tokens = space.sample(np.random.default_rng(0), 2)
    free = torch.ones(2, space.length, len(space.vocabulary), dtype=torch.bool)
    whole = policy.log_probs(torch.as_tensor(tokens), free)
    for t in (1, 8, space.length):
        part = policy.log_probs(torch.as_tensor(tokens[:, :t]), free[:, :t])
        torch.testing.assert_close(part, whole[:, :t])


def test_skips_are_chosen_by_attention_between_layers():
    """P(skip) = σ(vᵀ tanh(W_prev h_j + W_curr h_i)), by hand."""
    torch.manual_seed(0)
    space = Chain(3)
    policy = Controller(space, width=8)
    tokens = torch.as_tensor(space.sample(np.random.default_rng(0), 4))
    allowed = masks(space, tokens.numpy())
    states = policy.lstm(
        policy.embed(torch.cat([torch.full((4, 1), len(space.vocabulary)), tokens[:, :-1]], 1))
    )[0]
    last = space.length - 1  # layer 2 about layer 1
    i, j = space.anchors[last]
    score = policy.attention.weight[0] @ torch.tanh(
        policy.previous.weight @ states[0, j] + policy.current.weight @ states[0, i]
    )
    log_probs = policy.log_probs(tokens, allowed)[0, last]
    skip = space.vocabulary.index("skip")
    torch.testing.assert_close(log_probs[skip].exp(), torch.sigmoid(score))
    torch.testing.assert_close(log_probs.exp().sum(), torch.tensor(1.0))


def test_draws_have_the_probabilities():
    torch.manual_seed(0)
    space = Cell201()
    policy = Controller(space, width=8)
    tokens = torch.zeros(20_000, 0, dtype=torch.int64)
    allowed = torch.ones(20_000, 5, dtype=torch.bool)
    allowed[:, 2] = False
    drawn = policy.next_token(tokens, allowed, torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = policy.log_probs(torch.zeros(1, 1, dtype=torch.int64), allowed[:1, None])[0, 0]
    counts = torch.bincount(drawn, minlength=5) / 20_000
    torch.testing.assert_close(counts, expected.exp(), atol=0.02, rtol=0)
    assert counts[2] == 0
    assert (policy.next_token(tokens, allowed) == expected.argmax()).all()
