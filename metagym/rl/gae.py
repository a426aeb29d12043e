"""Generalised advantage estimation (Schulman et al. 2016) over batches of whole episodes."""

from __future__ import annotations

import numpy as np


def gae(
    rewards: np.ndarray,
    values: np.ndarray,
    alive: np.ndarray,
    final_values: np.ndarray,
    *,
    discount: float,
    lam: float,
) -> np.ndarray:
    """The advantages [T, B] (float32) of B episodes that began together.

    δ_t = r_t + γ V_{t+1} - V_t and A_t = δ_t + γ λ A_{t+1}, where V_{t+1} behind the last step of
    an episode is its entry of ``final_values``. The inner episodes of a trial are no ends: credit
    flows across them, which is what makes exploring in the first one pay.

    Args:
        rewards: [T, B].
        values: [T, B], V of the state in which each step was taken.
        alive: [T, B] bool, False behind an episode's last step; what stands there is ignored.
        final_values: [B], 0 where the episode terminated, V of its last observation where it was
            truncated.
        discount: γ.
        lam: λ.
    """
    advantages = np.zeros(rewards.shape, np.float32)
    following = np.zeros(rewards.shape[1])
    next_values = np.asarray(final_values, dtype=np.float64)
    for t in range(len(rewards) - 1, -1, -1):
        delta = rewards[t] + discount * next_values - values[t]
        following = np.where(alive[t], delta + discount * lam * following, 0.0)
        next_values = np.where(alive[t], values[t], next_values)
        advantages[t] = following
    return advantages
