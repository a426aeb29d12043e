"""What a checkpoint of a recurrent policy becomes in an environment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from metagym.checkpoint import load_checkpoint
from metagym.errors import CheckpointError, ResetNeededError
from metagym.rl.actor_critic import RecurrentActorCritic, describe_space
from metagym.rl.memory import Memory
from metagym.rl.training import one_thread


class RecurrentAgent:
    """A trained policy with its memory: one row of it per row of the environment.

    Args:
        folder: what the training wrote.
        agent: whose checkpoint it has to be, such as "rl2".
        stochastic: draw actions instead of taking the likeliest.
        seed: of the draws.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, or another agent's.
    """

    def __init__(
        self, folder: str | Path, agent: str, *, stochastic: bool = False, seed: int = 0
    ) -> None:
        checkpoint = load_checkpoint(folder, agent)
        self.name = agent
        self.training = checkpoint.config["training"]
        self.config = {**checkpoint.config["config"], "checkpoint": Path(folder).name}
        self._made_for = {name: checkpoint.config[name] for name in ("observations", "actions")}
        self._checkpoint = checkpoint
        self._generator = torch.Generator().manual_seed(seed) if stochastic else None
        self._policy: RecurrentActorCritic | None = None
        self._memory: Memory = {}

    def bind(self, env: VectorEnv) -> None:
        """Make the policy for ``env``.

        Raises:
            CheckpointError: it was trained on other observations or actions.
        """
        spaces = {
            "observations": env.single_observation_space,
            "actions": env.single_action_space,
        }
        for name, space in spaces.items():
            if describe_space(space) != self._made_for[name]:
                raise CheckpointError(
                    f"{self._checkpoint.folder} was trained on {name} {self._made_for[name]}, "
                    f"this environment has {describe_space(space)}; make it with the arguments "
                    f"of training ({self._checkpoint.config['env_id']}, "
                    f"{self._checkpoint.config['env_kwargs']})."
                )
        config = self._checkpoint.config
        interacts = config["config"].get("interactions", False)
        self._policy = RecurrentActorCritic(
            spaces["observations"], spaces["actions"], core=config["config"]["core"],
            width=config["config"]["width"], length=config["length"],
            layout=getattr(env.unwrapped, "layout", None) if interacts else None,
        )  # fmt: skip
        weights = {k: torch.tensor(v) for k, v in self._checkpoint.weights.items()}
        self._policy.load_state_dict(weights)

    def reset(self, mask: np.ndarray) -> None:
        """Forget the trials of the rows in ``mask``."""
        fresh = self._bound().memory(len(mask))
        rows = torch.as_tensor(mask)
        if not self._memory or len(next(iter(self._memory.values()))) != len(mask):
            self._memory = fresh
            return
        for name, value in self._memory.items():
            value[rows] = fresh[name][rows] if value.shape == fresh[name].shape else 0

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        """The policy's actions, by default its likeliest."""
        with one_thread():
            decision = self._bound().act(
                torch.as_tensor(observations), self._memory, self._generator
            )
        self._memory = decision.memory
        return decision.actions.numpy()

    def _bound(self) -> RecurrentActorCritic:
        if self._policy is None:
            raise ResetNeededError("Call bind(env) first, as metagym.evaluation.evaluate does.")
        return self._policy
