"""A policy that Stable-Baselines3 or sb3-contrib saved, as an Agent.

Such a zip file holds pickled Python objects: loading it can run any code that its author put in.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from metagym.errors import CheckpointError, InvalidArgumentError


class SB3Agent:
    """The policy of ``model.save(path)``, whichever algorithm it is of, acting deterministically.

    Recurrent policies keep their state over an episode, maskable ones are told the masks. What
    stood between the policy and the environment in training, such as VecNormalize, is not in the
    file: a policy that needs it takes part as ``module:Class``.

    Args:
        path: the zip file.
        trust: that whoever made the file is trusted; it is unpickled.

    Raises:
        InvalidArgumentError: ``trust`` is not True.
        CheckpointError: the file is missing or damaged, or needs a class that is not there.
    """

    def __init__(self, path: str | Path, *, trust: bool) -> None:
        refuse_untrusted(path, trust)
        self.name = Path(path).stem
        try:
            data, self._policy = _load(path)
        except Exception as error:  # what unpickling raises is anybody's guess
            raise CheckpointError(f"{path} cannot be loaded: {error}.") from error
        self.config: dict[str, Any] = {"policy": type(self._policy).__name__}
        self.training = {"steps": data.get("num_timesteps"), "seed": data.get("seed")}
        self._masks = "action_masks" in inspect.signature(self._policy.predict).parameters
        self._state: Any = None
        self._starts = np.zeros(0, dtype=bool)

    def bind(self, env: VectorEnv) -> None:
        """Check that the policy fits.

        Raises:
            CheckpointError: it was trained with other spaces.
        """
        for what in ("observation_space", "action_space"):
            trained, here = getattr(self._policy, what), getattr(env, f"single_{what}")
            if trained != here:
                raise CheckpointError(f"{self.name} has the {what} {trained}, not {here}.")
        self._state, self._starts = None, np.ones(env.num_envs, dtype=bool)

    def reset(self, mask: np.ndarray) -> None:
        """These rows begin with their next action."""
        self._starts |= mask

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        """The policy's most likely actions."""
        told = {"action_masks": action_masks} if self._masks else {}
        actions, self._state = self._policy.predict(
            observations, self._state, self._starts, deterministic=True, **told
        )
        self._starts = np.zeros_like(self._starts)
        return np.asarray(actions)


def refuse_untrusted(path: str | Path, trust: bool) -> None:
    """Raise unless ``trust`` is True.

    Raises:
        InvalidArgumentError: it is not.
    """
    if trust is not True:
        raise InvalidArgumentError(
            f"{path} is a file of Stable-Baselines3, and loading it runs whatever code its author "
            "pickled into it; add --trust if you trust them."
        )


def _load(path: str | Path) -> tuple[dict[str, Any], Any]:
    """What the file says of the model, and its policy."""
    from stable_baselines3.common.save_util import load_from_zip_file

    data, parameters, _ = load_from_zip_file(path, device="cpu")
    if data is None:
        raise ValueError("it holds weights alone")
    arguments = dict(data["policy_kwargs"])
    if data.get("use_sde"):
        arguments["use_sde"] = True
    policy = data["policy_class"](
        data["observation_space"], data["action_space"], lambda _: 0.0, **arguments
    )
    policy.load_state_dict(parameters["policy"])
    return data, policy
