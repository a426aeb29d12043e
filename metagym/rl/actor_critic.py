"""RecurrentActorCritic: a core with a memory, a policy head and a value head."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import nn

from metagym.core.trial import TrialLayout
from metagym.errors import InvalidArgumentError
from metagym.rl.memory import Memory, make_core

SYMLOG_ABOVE = 1e3  # observations that may be larger are compressed


class Decision(NamedTuple):
    """What a policy did for B rows in one step."""

    actions: torch.Tensor  # [B] (integers) or [B, A]
    log_probs: torch.Tensor  # [B]
    values: torch.Tensor  # [B]
    memory: Memory


class RecurrentActorCritic(nn.Module):
    """The policy π(a | history) and the value V(history) on one core.

    Discrete actions: a softmax. Box actions: a normal around a mean, with a learned standard
    deviation per coordinate that does not depend on the history.

    Args:
        observation_space: a Box; it is flattened.
        action_space: Discrete or Box.
        core: "gru", "lstm" or "snail".
        width: of the core.
        length: steps of an episode, which a SNAIL core is built for.
        layout: the blocks of a trial's observation, to let them multiply (Jayakumar et al. 2020,
            Multiplicative interactions and where to find them): the core is shown, besides the
            observation, the outer product of the last state and action, plain and times the
            reward, and the heads read its memory by the state that they are in. A table of what
            was seen where needs to be learned no longer. Where trials have no states, the action
            times the reward is all there is to add. None: the observation as it is.

    Raises:
        InvalidArgumentError: other spaces.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        *,
        core: str,
        width: int,
        length: int,
        layout: TrialLayout | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(observation_space, gym.spaces.Box):
            raise InvalidArgumentError(f"Observations {observation_space} are no Box.")
        self.symlog = float(abs(observation_space.high).max(initial=0.0)) > SYMLOG_ABOVE
        self.discrete = isinstance(action_space, gym.spaces.Discrete)
        if isinstance(action_space, gym.spaces.Discrete):
            actions = int(action_space.n)
        elif isinstance(action_space, gym.spaces.Box):
            actions = math.prod(action_space.shape)
        else:
            raise InvalidArgumentError(f"Actions {action_space} are neither Discrete nor a Box.")
        self.action_shape = action_space.shape or ()
        self.layout = layout
        inputs, keys = math.prod(observation_space.shape), 1
        if layout is not None:
            inputs += (2 * layout.state or 1) * layout.action
            keys += layout.state
        self.core = make_core(core, inputs, width, length)
        self.policy = nn.Linear(self.core.outputs, actions * keys)
        self.value = nn.Linear(self.core.outputs, keys)
        self.log_std = nn.Parameter(torch.full((0 if self.discrete else actions,), -0.5))
        # Values are predicted in units of the returns' size; see ``set_value_scale``.
        self.register_buffer("value_scale", torch.ones(()))
        self.value_scale: torch.Tensor
        nn.init.orthogonal_(self.policy.weight, 0.01)
        nn.init.orthogonal_(self.value.weight, 0.1)
        for head in (self.policy, self.value):
            nn.init.zeros_(head.bias)

    def set_value_scale(self, scale: float) -> None:
        """The unit of the value head's output, such as the first returns' root mean square."""
        self.value_scale.fill_(scale)

    @torch.no_grad()
    def act(
        self,
        observations: torch.Tensor,
        memory: Memory,
        generator: torch.Generator | None = None,
    ) -> Decision:
        """One step: observations [B, ...]; without a generator the likeliest action is taken."""
        seen = self._prepare(observations, 1)
        inputs = seen
        if self.layout is not None:
            inputs = self._interact(seen, memory["state"])
            memory = {**memory, "state": self.layout.split(seen).state}
        features, memory = self._step(inputs, memory)
        heads, values = self._heads(features, seen)
        values = values * self.value_scale
        if self.discrete:
            log_probs = torch.log_softmax(heads, dim=1)
            if generator is None:
                actions = heads.argmax(dim=1)
            else:  # argmax of log p + Gumbel noise is a sample of p
                exponential = torch.empty_like(heads).exponential_(generator=generator)
                actions = (log_probs - exponential.log()).argmax(dim=1)
            chosen = log_probs.gather(1, actions[:, None])[:, 0]
            return Decision(actions, chosen, values, memory)
        normal = torch.distributions.Normal(heads, self.log_std.exp())
        actions = heads
        if generator is not None:
            noise = torch.empty_like(heads).normal_(generator=generator)
            actions = heads + normal.stddev * noise
        chosen = normal.log_prob(actions).sum(1)
        return Decision(actions.reshape(-1, *self.action_shape), chosen, values, memory)

    def judge(
        self, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Whole episodes: log-probabilities, entropies and values (over ``value_scale``), [T, B].

        Args:
            observations: [T, B, ...].
            actions: [T, B] or [T, B, A].

        Behind the end of a shorter episode the numbers mean nothing.
        """
        seen = self._prepare(observations, 2)
        inputs = seen
        if self.layout is not None:
            states = self.layout.split(seen).state
            inputs = self._interact(seen, nn.functional.pad(states[:-1], (0, 0, 0, 0, 1, 0)))
        heads, values = self._heads(self.core.sequence(inputs), seen)
        if self.discrete:
            log_probs = torch.log_softmax(heads, dim=2)
            chosen = log_probs.gather(2, actions[..., None])[..., 0]
            return chosen, -(log_probs.exp() * log_probs).sum(2), values
        normal = torch.distributions.Normal(heads, self.log_std.exp())
        chosen = normal.log_prob(actions.flatten(2)).sum(2)
        return chosen, normal.entropy().sum(2), values

    def memory(self, rows: int) -> Memory:
        """The memory of ``rows`` episodes that have not begun."""
        device = self.value.weight.device
        memory = self.core.initial(rows, device)
        if self.layout is not None:
            memory["state"] = torch.zeros(rows, self.layout.state, device=device)
        return memory

    def _step(self, inputs: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        """The core's step; what is remembered beside it stays."""
        own = {name: value for name, value in memory.items() if name != "state"}
        features, own = self.core.step(inputs, own)
        return features, {**memory, **own}

    def _interact(self, seen: torch.Tensor, last_states: torch.Tensor) -> torch.Tensor:
        """The observation, the last state ⊗ the last action, and that times the reward."""
        assert self.layout is not None
        view = self.layout.split(seen)
        if not self.layout.state:  # then the pair is the action, which is there already
            return torch.cat([seen, view.action * view.reward[..., None]], dim=-1)
        pairs = (last_states[..., :, None] * view.action[..., None, :]).flatten(-2)
        return torch.cat([seen, pairs, pairs * view.reward[..., None]], dim=-1)

    def _heads(
        self, features: torch.Tensor, seen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the policy's distribution is made of [..., A], and values [...] without scale."""
        heads, values = self.policy(features), self.value(features)
        if self.layout is None:
            return heads, values[..., 0]
        keys = nn.functional.pad(self.layout.split(seen).state, (1, 0), value=1.0)
        heads = heads.unflatten(-1, (-1, keys.shape[-1]))
        return (heads * keys[..., None, :]).sum(-1), (values * keys).sum(-1)

    def _prepare(self, observations: torch.Tensor, batch_axes: int) -> torch.Tensor:
        flat = observations.flatten(batch_axes)
        return flat.sign() * flat.abs().log1p() if self.symlog else flat


def describe_space(space: gym.Space) -> dict[str, Any]:
    """A space as JSON, so that a checkpoint can say what its policy was made for."""
    if isinstance(space, gym.spaces.Discrete):
        return {"discrete": int(space.n)}
    return {"box": list(space.shape or ())}
