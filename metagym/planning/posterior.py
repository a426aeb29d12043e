"""What is known of many tabular MDPs after some experience in each: the conjugate posterior.

Rows of transitions: Dirichlet prior, counts. Mean rewards: normal prior, normal rewards of unit
variance (Gelman et al., Bayesian data analysis, sections 2.5 and 3.4). With the defaults the prior
is the very distribution from which MetaTabularMDP draws its tasks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from metagym.errors import check_above_zero

ALL = slice(None)


class TabularPosterior:
    """Posteriors of B processes with S states and A actions; ``rows`` picks some of them.

    Args:
        rows: B.
        states: S.
        actions: A.
        prior_mean: of a mean reward.
        prior_precision: one over the variance of a mean reward.
        concentration: of the symmetric Dirichlet prior; 1 is flat.

    Raises:
        InvalidArgumentError: a prior that is no distribution.
    """

    def __init__(
        self,
        rows: int,
        states: int,
        actions: int,
        *,
        prior_mean: float = 1.0,
        prior_precision: float = 1.0,
        concentration: float = 1.0,
    ) -> None:
        self.prior_mean = float(prior_mean)
        self.prior_precision = check_above_zero("prior_precision", prior_precision)
        self.concentration = check_above_zero("concentration", concentration)
        self.transitions = np.zeros((rows, states, actions, states))  # how often seen
        self.visits = np.zeros((rows, states, actions))
        self.reward_sums = np.zeros((rows, states, actions))

    def forget(self, rows: Any) -> None:
        """Back to the prior."""
        self.transitions[rows] = 0.0
        self.visits[rows] = self.reward_sums[rows] = 0.0

    def observe(
        self,
        rows: np.ndarray,
        states: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        following: np.ndarray,
    ) -> None:
        """One step of each of ``rows`` (no row twice); all arguments are arrays [n]."""
        self.transitions[rows, states, actions, following] += 1.0
        self.visits[rows, states, actions] += 1.0
        self.reward_sums[rows, states, actions] += rewards

    def reward_precision(self, rows: Any = ALL) -> np.ndarray:
        """One over the posterior variance of the mean rewards, [n, S, A]."""
        return np.asarray(self.prior_precision + self.visits[rows])

    def reward_mean(self, rows: Any = ALL) -> np.ndarray:
        """The posterior mean of the mean rewards, [n, S, A]."""
        prior = self.prior_mean * self.prior_precision
        return np.asarray((prior + self.reward_sums[rows]) / self.reward_precision(rows))

    def transition_weight(self, rows: Any = ALL) -> np.ndarray:
        """The sum of the Dirichlet parameters, prior and counts, [n, S, A]."""
        return np.asarray(self.concentration * self.transitions.shape[-1] + self.visits[rows])

    def transition_mean(self, rows: Any = ALL) -> np.ndarray:
        """The posterior mean of the transitions, [n, S, A, S]."""
        parameters = self.concentration + self.transitions[rows]
        return np.asarray(parameters / self.transition_weight(rows)[..., None])

    def sample(self, rng: np.random.Generator, rows: Any = ALL) -> tuple[np.ndarray, np.ndarray]:
        """One process of each posterior: transitions [n, S, A, S] and mean rewards [n, S, A]."""
        # Independent gamma variables over their sum have the Dirichlet distribution.
        transitions = rng.standard_gamma(self.concentration + self.transitions[rows])
        transitions /= transitions.sum(axis=-1, keepdims=True)
        mean = self.reward_mean(rows)
        noise = rng.standard_normal(mean.shape) / np.sqrt(self.reward_precision(rows))
        return transitions, mean + noise
