"""Advantages against their definition, written out."""

from __future__ import annotations

import numpy as np
import pytest

from metagym.rl.gae import gae


def by_definition(rewards, values, length, final_value, discount, lam):
    """A_t = Σ_l (γλ)^l δ_{t+l} for one episode."""
    following = [*values[1:length], final_value]
    delta = [rewards[t] + discount * following[t] - values[t] for t in range(length)]
    return [
        sum((discount * lam) ** (later - t) * delta[later] for later in range(t, length))
        for t in range(length)
    ]


@pytest.mark.parametrize(("discount", "lam"), [(1.0, 1.0), (0.9, 0.7), (0.99, 0.0)])
def test_is_the_weighted_sum_of_temporal_differences(discount, lam):
    rng = np.random.default_rng(0)
    lengths = np.array([6, 1, 4, 6])
    rewards, values = rng.standard_normal((2, 6, 4))
    final_values = np.array([0.0, 3.0, 0.0, -1.0])
    alive = np.arange(6)[:, None] < lengths
    found = gae(rewards, values, alive, final_values, discount=discount, lam=lam)
    for row, length in enumerate(lengths):
        expected = by_definition(
            rewards[:, row], values[:, row], length, final_values[row], discount, lam
        )
        assert found[:length, row] == pytest.approx(expected, rel=1e-5)
        assert (found[length:, row] == 0).all()


def test_what_stands_behind_an_episodes_end_does_not_matter():
    rewards, values = np.ones((2, 3, 1))
    alive = np.array([[True], [True], [False]])
    garbage_rewards, garbage_values = rewards.copy(), values.copy()
    garbage_rewards[2] = garbage_values[2] = 1e9
    clean = gae(rewards, values, alive, np.zeros(1), discount=1.0, lam=0.9)
    dirty = gae(garbage_rewards, garbage_values, alive, np.zeros(1), discount=1.0, lam=0.9)
    assert np.array_equal(clean, dirty)


def test_with_no_values_it_is_the_return_to_go():
    rewards = np.arange(5.0)[:, None]
    nothing = np.zeros((5, 1))
    found = gae(rewards, nothing, nothing == 0, np.zeros(1), discount=1.0, lam=1.0)
    assert found[:, 0].tolist() == [10, 10, 9, 7, 4]
