"""Planning in many tabular MDPs at once, over a finite horizon: the ceiling of MetaTabularMDP.

Value iteration (Bellman 1957) and its optimistic form, extended value iteration (Jaksch, Ortner
and Auer 2010, section 3.1.2), by backward induction over the T steps of an inner episode. All in
float64, all for B processes at once; S states, A actions:

    Q_t(s, a) = r(s, a) + γ Σ_j P(j | s, a) V_{t+1}(j),   V_t(s) = max_a Q_t(s, a),   V_T = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from metagym.errors import InvalidArgumentError, check_positive


class Plan(NamedTuple):
    """What value iteration finds."""

    values: np.ndarray  # [B, T + 1, S]: the expected reward of the steps t, ..., T - 1
    policy: np.ndarray  # [B, T, S]: the best action, the lowest of equals


def action_values(
    transitions: np.ndarray, rewards: np.ndarray, horizon: int, discount: float = 1.0
) -> np.ndarray:
    """Q [B, T, S, A], the best expected reward from step t on after one given action.

    Args:
        transitions: P [B, S, A, S].
        rewards: mean rewards [B, S, A], or [B, T, S, A] where they differ by step.
        horizon: T.
        discount: γ.

    Raises:
        InvalidArgumentError: shapes that do not belong together, or no horizon.
    """
    transitions, rewards = _check(transitions, rewards, check_positive("horizon", horizon))
    batch, states, actions = rewards.shape[0], rewards.shape[-2], rewards.shape[-1]
    flat = transitions.swapaxes(1, 2).reshape(batch, actions * states, states)

    def expectation(values: np.ndarray) -> np.ndarray:
        return (flat @ values[:, :, None]).reshape(batch, actions, states)

    return _backward(expectation, rewards, horizon, discount)


def optimistic_action_values(
    transitions: np.ndarray, rewards: np.ndarray, radius: np.ndarray, horizon: int
) -> np.ndarray:
    """Q [B, T, S, A] where, at every step, nature chooses the best transitions it is allowed.

    Args:
        transitions: P [B, S, A, S].
        rewards: optimistic rewards [B, S, A], or [B, T, S, A].
        radius: [B, S, A]; allowed are all distributions whose L1 distance from P is at most it.
        horizon: T.

    Raises:
        InvalidArgumentError: shapes that do not belong together, or no horizon.
    """
    transitions, rewards = _check(transitions, rewards, check_positive("horizon", horizon))

    def expectation(values: np.ndarray) -> np.ndarray:
        return best_expectation(transitions, radius, values).swapaxes(1, 2)

    return _backward(expectation, rewards, horizon, 1.0)


def best_expectation(transitions: np.ndarray, radius: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The largest Σ_j p(j) V(j) over distributions p with |p - P|₁ <= radius, [B, S, A].

    Half of the radius is added to the best state, as far as its probability allows, and taken
    from the worst ones.

    Args:
        transitions: P [B, S, A, S].
        radius: [B, S, A].
        values: V [B, S].
    """
    batch, states, actions = radius.shape
    order = np.argsort(values, axis=1)
    ranks = np.argsort(order, axis=1)
    among_worst = (ranks[:, :, None] <= np.arange(states - 1)).astype(np.float64)
    # P(one of the j + 1 worst), before and after the removal; summation by parts gives Σ p V.
    mass = transitions.reshape(batch, states * actions, states) @ among_worst
    mass -= np.minimum(radius.reshape(batch, -1, 1) / 2, mass[..., -1:])
    steps = np.diff(np.take_along_axis(values, order, axis=1), axis=1)
    lost = np.maximum(mass, 0.0, out=mass) @ steps[:, :, None]
    return np.asarray(values.max(axis=1)[:, None, None] - lost.reshape(radius.shape))


def value_iteration(
    transitions: np.ndarray, rewards: np.ndarray, horizon: int, discount: float = 1.0
) -> Plan:
    """The optimal values [B, T + 1, S] and policy [B, T, S]; arguments as ``action_values``."""
    q = action_values(transitions, rewards, horizon, discount)
    return Plan(_append_zeros(q.max(axis=-1)), q.argmax(axis=-1))


def evaluate_policy(
    transitions: np.ndarray, rewards: np.ndarray, policy: np.ndarray, discount: float = 1.0
) -> np.ndarray:
    """The values [B, T + 1, S] of a policy.

    Args:
        transitions: P [B, S, A, S].
        rewards: mean rewards [B, S, A].
        policy: actions [B, T, S].
        discount: γ.

    Raises:
        InvalidArgumentError: shapes that do not belong together.
    """
    policy = np.asarray(policy)
    transitions, rewards = _check(transitions, rewards, 1)
    if policy.ndim != 3 or policy.shape[::2] != rewards.shape[:2]:
        raise InvalidArgumentError(
            f"policy has shape {policy.shape}; expected [B, T, S] with B, S = {rewards.shape[:2]}."
        )
    rows, states = np.arange(len(policy))[:, None], np.arange(policy.shape[2])
    values = np.zeros((len(policy), policy.shape[1] + 1, policy.shape[2]))
    for t in reversed(range(policy.shape[1])):
        chosen = rows, states, policy[:, t]
        following = (transitions[chosen] @ values[:, t + 1, :, None])[..., 0]
        values[:, t] = rewards[chosen] + discount * following
    return values


def trial_optimum(task: Mapping[str, Any], inner_horizon: int, n: int) -> np.ndarray:
    """The most that a trial of MetaTabularMDP can make in expectation, the process known: [B].

    Args:
        task: ``transitions`` [B, S, A, S] and ``reward_means`` [B, S, A].
        inner_horizon: steps of an inner episode.
        n: inner episodes; each starts in state 0.
    """
    plan = value_iteration(task["transitions"], task["reward_means"], inner_horizon)
    return check_positive("n", n) * plan.values[:, 0, 0]


def _backward(
    expectation: Callable[[np.ndarray], np.ndarray],
    rewards: np.ndarray,
    horizon: int,
    discount: float,
) -> np.ndarray:
    """Backward induction; ``expectation`` maps V_{t+1} [B, S] to that of the next, [B, A, S].

    Within, actions come before states: the maximum over a few actions is then one over rows that
    lie in one piece.
    """
    rewards = rewards.swapaxes(-1, -2)
    q = np.empty((len(rewards), horizon, *rewards.shape[-2:]))
    q[:] = rewards if rewards.ndim == 4 else rewards[:, None]
    for t in reversed(range(horizon - 1)):
        q[:, t] += discount * expectation(q[:, t + 1].max(axis=1))
    return q.swapaxes(-1, -2)


def _append_zeros(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, np.zeros_like(values[:, :1])], axis=1)


def _check(
    transitions: np.ndarray, rewards: np.ndarray, horizon: int
) -> tuple[np.ndarray, np.ndarray]:
    transitions = np.asarray(transitions, dtype=np.float64)
    rewards = np.asarray(rewards, dtype=np.float64)
    pairs = transitions.shape[:3]
    by_step = (*pairs[:1], horizon, *pairs[1:])
    if transitions.ndim != 4 or pairs[1] != transitions.shape[3]:
        raise InvalidArgumentError(
            f"transitions has shape {transitions.shape}; expected [B, S, A, S]."
        )
    if rewards.shape not in (pairs, by_step):
        raise InvalidArgumentError(
            f"rewards has shape {rewards.shape}; expected {pairs} or {by_step} as of transitions "
            "and horizon."
        )
    return transitions, rewards
