"""How a controller learns from the architectures that it wrote: REINFORCE, piece by piece.

Zoph & Le (2017), section 3.2: the gradient of Σ_t log P(a_t | a_<t) · (R - b), averaged over m
architectures, where b is a moving average of past rewards. One process may do all of it, or
replicas write and differentiate while servers apply (section 3.2's asynchronous scheme).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import nn

from metagym.architectures import PAD, SearchSpace
from metagym.errors import InvalidArgumentError
from metagym.monitoring import RunLogger
from metagym.rl.controller import Controller

RANKED = 256  # rewards that ranks are taken among


class Critic:
    """What rewards are compared with: an average of past ones, or all of the last ones.

    Args:
        baseline: "ema" or "window".
        memory: the weight of what the average was, or the number of rewards in the window.
        advantage: "raw" or "rank".
    """

    def __init__(self, baseline: str = "ema", memory: float = 0.95, advantage: str = "raw") -> None:
        self.baseline, self.memory, self.advantage = baseline, memory, advantage
        self.average: float | None = None
        self.past = np.zeros(0)

    def advantages(self, rewards: np.ndarray) -> np.ndarray:
        """Of the newest rewards [B], before they are taken into account."""
        if self.advantage == "rank":
            known = np.concatenate([self.past[-RANKED:], rewards])
            below, upto = ((known[None] < rewards[:, None]), (known[None] <= rewards[:, None]))
            return np.asarray(below.mean(axis=1) + upto.mean(axis=1) - 1.0)
        return rewards - (rewards.mean() if self.average is None else self.average)

    def update(self, rewards: np.ndarray) -> None:
        """Take rewards [B] into account, in their order."""
        longest = max(RANKED, int(self.memory))
        self.past = np.concatenate([self.past, rewards])[-longest:]
        if self.baseline == "window":
            self.average = float(self.past[-int(self.memory) :].mean())
            return
        for reward in rewards:
            before = reward if self.average is None else self.average
            self.average = float(self.memory * before + (1.0 - self.memory) * reward)

    def get_state(self) -> dict[str, Any]:
        return {"average": self.average, "past": self.past}

    def set_state(self, state: dict[str, Any]) -> None:
        self.average, self.past = state["average"], state["past"]


@dataclass
class Best:
    """The best architecture so far by reward, and what the search has cost."""

    reward: float = -np.inf
    test: float = np.nan
    architecture: str = ""
    tokens: np.ndarray | None = None
    cost: float = 0.0
    count: int = 0
    # Whenever there was a better one: the number of architectures until then, and its score.
    history: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class Written:
    """The architectures of one iteration."""

    tokens: torch.Tensor  # [B, length]
    allowed: torch.Tensor  # bool [B, length, V]
    rewards: np.ndarray  # [B]
    infos: dict[str, Any]  # of their ends


def make_policy(space: SearchSpace, width: int, layers: int, seed: int) -> Controller:
    """A new controller, whose weights come from ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):  # torch initialises from its global generator
        torch.manual_seed(seed)
        return Controller(space, width=width, layers=layers)


def next_tokens(
    policy: Controller, tokens: np.ndarray, allowed: np.ndarray, generator: torch.Generator | None
) -> np.ndarray:
    """``Controller.next_token`` of arrays."""
    return policy.next_token(torch.as_tensor(tokens), torch.as_tensor(allowed), generator).numpy()


def write(
    env: VectorEnv, policy: Controller, generator: torch.Generator, depth: int | None = None
) -> Written:
    """One architecture in every row.

    Args:
        env: an architecture search, with autoreset off.
        policy, generator: whose tokens are drawn.
        depth: of the layers of a space of chains, the same in every row; None: the policy decides.
    """
    base: Any = env.unwrapped
    space: Any = base.space
    env.reset()
    tokens = space.empty(env.num_envs)
    masks = np.ones((env.num_envs, space.length, len(space.vocabulary)), dtype=bool)
    rewards, over = np.zeros(env.num_envs), np.zeros(env.num_envs, dtype=bool)
    infos: dict[str, Any] = {}
    for t in range(space.length):
        allowed = base.action_masks()
        if depth is not None:
            allowed = np.where(over[:, None], True, space.depth_mask(tokens, depth))
        # Rows that are over write on behind their end; nobody looks at it.
        actions = next_tokens(policy, tokens[:, :t], allowed, generator)
        masks[:, t] = allowed
        tokens[~over, t] = actions[~over]
        _, reward, terminated, _, infos = env.step(actions)
        rewards += reward
        over = terminated
        if over.all():
            break
    return Written(torch.as_tensor(tokens), torch.as_tensor(masks), rewards, infos)


def differentiate(
    policy: Controller,
    written: Written,
    advantages: np.ndarray,
    *,
    entropy_coefficient: float,
    max_grad_norm: float,
) -> dict[str, float]:
    """Put the clipped gradient of one minibatch into the policy's ``grad``; what to log of it."""
    gains = torch.as_tensor(advantages, dtype=torch.float32)
    alive = written.tokens != PAD
    log_probs = policy.log_probs(written.tokens, written.allowed)
    chosen = log_probs.gather(2, written.tokens.clamp(min=0)[..., None])[..., 0]
    entropies = -(log_probs.exp() * log_probs * written.allowed).sum(dim=2)
    gain = ((chosen * alive).sum(dim=1) * gains).mean()
    entropy = (entropies * alive).sum() / alive.sum()
    policy.zero_grad()
    (-gain - entropy_coefficient * entropy).backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(policy.parameters(), max_grad_norm)
    by_position = ((entropies * alive).sum(dim=0) / alive.sum(dim=0).clamp(min=1)).detach()
    return {
        "train/policy_gradient_loss": -gain.item(), "train/entropy": entropy.item(),
        "train/grad_norm": norm.item(),
        **{f"tokens/entropy_{t:02}": float(value) for t, value in enumerate(by_position)
           if alive[:, t].any()},
    }  # fmt: skip


def note(
    log: RunLogger,
    written: Written,
    numbers: dict[str, float],
    best: Best,
    space: SearchSpace,
    steps_done: int,
) -> None:
    """Keep the best so far and write the charts; a new best is drawn."""
    infos, tokens = written.infos, written.tokens.numpy()
    best.count += len(tokens)
    best.cost += float(infos["cost"].sum())
    row = int(np.argmax(written.rewards))
    if written.rewards[row] > best.reward:
        from metagym.rendering.graphs import draw_graph

        best.reward, best.tokens = float(written.rewards[row]), tokens[row]
        best.test = float(infos["test"][row]) if "test" in infos else float("nan")
        best.architecture = str(infos["architecture"][row])
        best.history.append((best.count, float(infos["score"][row])))
        log.text("search/best_architecture", best.architecture, steps_done)
        frame = draw_graph(space.graph(tokens[row]), f"reward {best.reward:.4f}", best.architecture)
        log.image("search/best_architecture", frame, steps_done)
    lengths = (tokens != PAD).sum(axis=1)
    log.rollout(written.rewards, lengths, steps_done, score_mean=infos["score"])
    log.scalars(
        {**numbers, "search/best_reward": best.reward, "search/best_test": best.test,
         "search/architectures": best.count}, steps_done,
    )  # fmt: skip
    log.by_cost("search/best_reward_by_cost", best.reward, best.cost)


def space_of(env: VectorEnv, env_id: str) -> SearchSpace:
    """The space in which an environment searches.

    Raises:
        InvalidArgumentError: it is no architecture search.
    """
    space = getattr(env.unwrapped, "space", None)
    if not isinstance(space, SearchSpace) or not isinstance(
        env.single_observation_space, gym.spaces.MultiDiscrete
    ):
        raise InvalidArgumentError(
            f"{env_id} is no architecture search; the controller writes architectures in "
            "NeuralArchitectureSearch-v0 and its kin."
        )
    return space


def describe(space: SearchSpace) -> dict[str, Any]:
    """What a checkpoint says of the space that its weights belong to."""
    return {"name": space.name, "length": space.length, "vocabulary": list(space.vocabulary)}
