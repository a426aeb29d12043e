"""What the training loops of supervised methods write into checkpoints and read back from them."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from metagym.errors import CheckpointError


def copy_tensors(tensors: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Copies on the same device; whatever is not a tensor is left away."""
    return {n: x.detach().clone() for n, x in tensors.items() if isinstance(x, torch.Tensor)}


def copy_moments(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, torch.Tensor]]:
    """The optimiser's state, by the number of the parameter."""
    state = optimizer.state_dict()["state"]
    return {str(index): copy_tensors(moments) for index, moments in state.items()}


def load_moments(optimizer: torch.optim.Optimizer, moments: Mapping[str, Any]) -> None:
    """Give the optimiser a state that ``copy_moments`` made, of tensors or of arrays."""
    whole = optimizer.state_dict()
    whole["state"] = {
        int(index): {name: torch.as_tensor(value).clone() for name, value in found.items()}
        for index, found in moments.items()
    }
    optimizer.load_state_dict(whole)


def load_generator(generator: torch.Generator, state: np.ndarray) -> None:
    """Give the generator the state of a checkpoint.

    Raises:
        CheckpointError: it is of a generator on another kind of device.
    """
    try:
        generator.set_state(torch.tensor(state))
    except RuntimeError:
        raise CheckpointError(
            "The checkpoint was trained on another kind of device than "
            f"{generator.device.type!r}, whose random numbers differ: resume it there."
        ) from None


def load_weights(module: nn.Module, weights: Mapping[str, np.ndarray]) -> None:
    """Give the module the weights of a checkpoint.

    Raises:
        CheckpointError: they are of another network.
    """
    try:
        module.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    except RuntimeError as error:
        raise CheckpointError(f"Use the config and the data of training: {error}.") from None


def arrays(tree: Any) -> Any:
    """The tree with numpy arrays for tensors."""
    if isinstance(tree, torch.Tensor):
        return tree.cpu().numpy()
    if isinstance(tree, dict):
        return {name: arrays(value) for name, value in tree.items()}
    return tree


def digest(data: Iterable[torch.Tensor | np.ndarray | None]) -> str:
    """A hash of all numbers that are learned from, so that a resumed run meets the same."""
    found = hashlib.sha256()
    for each in data:
        if each is not None:
            array = np.ascontiguousarray(arrays(each))
            found.update(str(array.shape).encode())
            found.update(array.tobytes())
    return found.hexdigest()


def tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON turned into lists, as tuples again."""
    return {name: tuple(x) if isinstance(x, list) else x for name, x in values.items()}


def run_record(seed: int) -> dict[str, Any]:
    """What a checkpoint says of how it came about."""
    return {
        "seed": seed,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
