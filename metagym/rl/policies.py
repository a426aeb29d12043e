"""SharedMLPPolicy: an SB3 actor-critic whose actor is one small MLP over the last axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from metagym.optim.policy import num_outputs
from metagym.rl.networks import MLP


class SharedMLPPolicy(ActorCriticPolicy):
    """An MLP over the last axis of the observation gives means, or the logits of discrete actions.

    With observations [F] and actions [A] it is the usual Gaussian policy, with one log std per
    action. With observations [d, F] and actions [d, A] it is a coordinatewise one: all d
    coordinates share its weights, so that it serves any d; the critic sees the mean of the
    features over the coordinates. With n discrete actions it is the usual categorical one.

    Args:
        hidden: the actor's hidden widths.
        critic_hidden: the critic's.
        log_std_init: where the exploration of a Gaussian starts.
    """

    def __init__(
        self,
        *args: Any,
        hidden: Sequence[int] = (32, 32),
        critic_hidden: Sequence[int] = (64, 64),
        **kwargs: Any,
    ) -> None:
        self.hidden, self.critic_hidden = tuple(hidden), tuple(critic_hidden)
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        assert self.observation_space.shape
        inputs, outputs = self.observation_space.shape[-1], num_outputs(self.action_space)
        self.actor = MLP((inputs, *self.hidden, outputs), output_gain=0.01)
        self.critic = MLP((inputs, *self.critic_hidden, 1))
        self.discrete = isinstance(self.action_space, gym.spaces.Discrete)
        if not self.discrete:  # SB3 logs a log_std that is there
            self.log_std = nn.Parameter(torch.full((outputs,), float(self.log_std_init)))
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def forward(
        self, obs: torch.Tensor, deterministic: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        distribution = self.get_distribution(obs)
        actions = distribution.get_actions(deterministic=deterministic)
        log_prob = distribution.log_prob(actions)
        return actions.reshape(-1, *self.action_space.shape), self.predict_values(obs), log_prob  # type: ignore[misc]

    def get_distribution(self, obs: Any) -> Distribution:
        means = self.actor(obs.float())
        if self.discrete:
            return self.action_dist.proba_distribution(means)  # type: ignore[call-arg]
        log_std = self.log_std.expand_as(means)
        return self.action_dist.proba_distribution(means.flatten(1), log_std.flatten(1))  # type: ignore[call-arg]

    def evaluate_actions(
        self, obs: Any, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        distribution = self.get_distribution(obs)
        log_prob = distribution.log_prob(actions if self.discrete else actions.flatten(1))
        return self.predict_values(obs), log_prob, distribution.entropy()

    def predict_values(self, obs: Any) -> torch.Tensor:
        obs = obs.float()
        values: torch.Tensor = self.critic(obs.mean(dim=1) if obs.ndim == 3 else obs)
        return values

    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        return self.get_distribution(observation).get_actions(deterministic=deterministic)
