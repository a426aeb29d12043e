"""Parameter servers: actors of Ray that hold a network in shards and apply gradients as they come.

The scheme of Dean et al. (2012), Large scale distributed deep networks, which Zoph & Le (2017),
section 3.2, train their controller with. The parameters are one long vector, cut into S equal
parts; each server holds a part with its moments of Adam, which works number by number, so that S
changes nothing but who does it. Nobody waits for anybody: between a replica's fetch and its push
others may have pushed, and the number of their updates is how stale its gradient is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from metagym.rl.architecture_reinforce import Critic

PARTS = ("weights", "exp_avg", "exp_avg_sq")  # of a server's state, each [n]


class ParameterServer:
    """A shard [n] of the parameters, as an actor of Ray or in this process.

    Args:
        state: ``PARTS`` and the number of ``updates`` so far.
        learning_rate: of Adam.
        critic: where all replicas have one baseline, the one server that keeps it.
    """

    def __init__(
        self, state: dict[str, Any], learning_rate: float, critic: Critic | None = None
    ) -> None:
        torch.set_num_threads(1)
        self.critic = critic
        self.updates = int(state["updates"])
        parts = {name: torch.tensor(state[name]) for name in PARTS}
        self._weights = torch.nn.Parameter(parts.pop("weights"))
        self._adam = torch.optim.Adam([self._weights], lr=learning_rate)
        self._adam.state[self._weights] = {"step": torch.tensor(float(self.updates)), **parts}

    def fetch(self) -> tuple[np.ndarray, int]:
        """The weights [n] and the number of updates that made them."""
        return self._weights.detach().numpy().copy(), self.updates

    def push(self, gradient: np.ndarray, seen: int) -> int:
        """Apply a gradient [n] taken after ``seen`` updates; by how many it comes too late."""
        self._weights.grad = torch.tensor(gradient)
        self._adam.step()
        self.updates += 1
        return self.updates - 1 - seen

    def advantages(self, rewards: np.ndarray) -> tuple[np.ndarray, float]:
        """Of new rewards [B], which the baseline then takes into account; and the baseline."""
        if self.critic is None:
            raise RuntimeError("Another server keeps the baseline.")
        found = self.critic.advantages(rewards)
        self.critic.update(rewards)
        return found, float(self.critic.average or 0.0)

    def get_state(self) -> dict[str, Any]:
        """What another server could go on from."""
        moments = self._adam.state[self._weights]
        return {
            "weights": self._weights.detach().numpy().copy(), "updates": self.updates,
            **{name: moments[name].numpy().copy() for name in PARTS[1:]},
            "critic": None if self.critic is None else self.critic.get_state(),
        }  # fmt: skip


class Servers:
    """All servers as one; it can be sent to the replicas.

    Args:
        actors: of ``ParameterServer``, in the order of their shards; the first has the critic.
    """

    def __init__(self, actors: list[Any]) -> None:
        self.actors = actors

    @classmethod
    def start(
        cls, ray: Any, count: int, state: dict[str, Any], learning_rate: float, critic: Critic
    ) -> Servers:
        """``count`` servers for the parameters of ``state``, whose ``PARTS`` are whole vectors."""
        remote = ray.remote(num_cpus=0, scheduling_strategy="SPREAD")(ParameterServer)
        shards = [np.array_split(state[name], count) for name in PARTS]
        return cls([
            remote.remote(
                {**dict(zip(PARTS, parts, strict=True)), "updates": state["updates"]},
                learning_rate, None if index else critic,
            )
            for index, parts in enumerate(zip(*shards, strict=True))
        ])  # fmt: skip

    def fetch(self) -> tuple[np.ndarray, list[int]]:
        """The whole vector of parameters, and what each server had seen."""
        shards, seen = zip(*self._ask("fetch", [()] * len(self.actors)), strict=True)
        return np.concatenate(shards), list(seen)

    def push(self, gradient: np.ndarray, seen: list[int]) -> float:
        """Send every server its part; the mean of how stale they found it."""
        parts = np.array_split(gradient, len(self.actors))
        return float(np.mean(self._ask("push", list(zip(parts, seen, strict=True)))))

    def advantages(self, rewards: np.ndarray) -> tuple[np.ndarray, float]:
        """See ``ParameterServer.advantages``."""
        found: tuple[np.ndarray, float] = _ray().get(self.actors[0].advantages.remote(rewards))
        return found

    def get_state(self) -> dict[str, Any]:
        """``PARTS`` as whole vectors, ``updates`` (the most of any server) and ``critic``."""
        states = self._ask("get_state", [()] * len(self.actors))
        whole: dict[str, Any] = {n: np.concatenate([s[n] for s in states]) for n in PARTS}
        updates = max(state["updates"] for state in states)
        return {**whole, "updates": updates, "critic": states[0]["critic"]}

    def stop(self) -> None:
        for actor in self.actors:
            _ray().kill(actor)

    def _ask(self, method: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
        calls = [
            getattr(actor, method).remote(*given)
            for actor, given in zip(self.actors, arguments, strict=True)
        ]
        answers: list[Any] = _ray().get(calls)
        return answers


def _ray() -> Any:
    import ray

    return ray
