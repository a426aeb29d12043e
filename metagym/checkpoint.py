"""Checkpoints: a folder with ``config.json`` and ``weights.safetensors``, and nothing pickled.

``config.json`` says whose weights they are and how they were trained. What only resuming needs
(optimiser moments, states of random generators and environments) lies in ``training.json`` and
``training.safetensors``. Each file is replaced whole; ``config.json`` comes last and holds the
digests of the others, so that a half-written or damaged checkpoint is recognised.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import metagym
from metagym.errors import CheckpointError
from metagym.files import write_atomically

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "weights.safetensors"
TRAINING, TRAINING_ARRAYS = "training.json", "training.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What ``load_checkpoint`` read.

    Attributes:
        config: "format", "agent", "env_id", "env_kwargs", "metagym_version" and what the agent
            added, JSON-able.
        weights: named arrays.
        folder: where they came from.
    """

    config: dict[str, Any]
    weights: dict[str, np.ndarray]
    folder: Path

    def extra(self) -> dict[str, Any]:
        """The training state that was given to ``save_checkpoint``.

        Raises:
            CheckpointError: it was saved without one, or its files are damaged.
        """
        if TRAINING not in self.config["files"]:
            raise CheckpointError(
                f"{self.folder} holds weights only; training cannot resume from it."
            )
        tree = _parse(self.folder / TRAINING, _read(self.folder, TRAINING, self.config["files"]))
        content = _read(self.folder, TRAINING_ARRAYS, self.config["files"])
        state: dict[str, Any] = _unpack(tree, _load_arrays(self.folder / TRAINING_ARRAYS, content))
        return state


def save_checkpoint(
    folder: str | Path,
    config: dict[str, Any],
    weights: dict[str, np.ndarray],
    extra: dict[str, Any] | None = None,
) -> Path:
    """Write a checkpoint, in place of the one that may be in ``folder``.

    Args:
        folder: made where it is missing.
        config: JSON-able, with at least "agent", "env_id" and "env_kwargs"; "format",
            "metagym_version" and "files" are added here.
        weights: named numpy arrays.
        extra: the training state: a tree of dicts (with string keys), lists and tuples whose
            leaves are numpy arrays, numbers, strings, booleans and None. Integers may be of any
            size, so numpy's ``bit_generator.state`` fits.

    Returns:
        The folder.

    Raises:
        CheckpointError: the config lacks a key, or a value cannot be stored.
    """
    folder = Path(folder)
    for key in ("agent", "env_id", "env_kwargs"):
        if key not in config:
            raise CheckpointError(f"The config of a checkpoint needs the key {key!r}.")
    contents = {WEIGHTS: _dump_arrays(weights)}
    if extra is not None:
        arrays: dict[str, np.ndarray] = {}
        tree = _pack(extra, "extra", arrays)
        contents[TRAINING_ARRAYS] = _dump_arrays(arrays)
        contents[TRAINING] = json.dumps(tree).encode()
    complete = {
        "format": FORMAT,
        "metagym_version": metagym.__version__,
        **config,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    try:
        contents[CONFIG] = (json.dumps(complete, indent=2, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"The config of a checkpoint has to be JSON: {_not_json(config) or error}. Numbers, "
            "text, lists and dicts can be stored. Give what has a name by its name, such as a "
            "space with its space_kwargs; an object of your own belongs into the kwargs of an id "
            "that you register with gymnasium.register."
        ) from None
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return folder


def load_checkpoint(
    folder: str | Path, agent: str | None = None, env_id: str | None = None
) -> Checkpoint:
    """Read a checkpoint; torch is not needed.

    Args:
        folder: what ``save_checkpoint`` wrote.
        agent: whose checkpoint it has to be; None accepts any.
        env_id: where it is going to act. Another environment is fine (that is transfer), another
            version of the same one is not: its dynamics differ.

    Raises:
        CheckpointError: it is missing, damaged, of a newer format, of another agent, or of
            another version of the environment.
    """
    folder = Path(folder)
    config = read_config(folder)
    if agent is not None and config["agent"] != agent:
        raise CheckpointError(
            f"{folder} is a checkpoint of the agent {config['agent']!r}, not of {agent!r}."
        )
    if env_id is not None:
        _check_version(folder, config["env_id"], env_id)
    weights = _load_arrays(folder / WEIGHTS, _read(folder, WEIGHTS, config["files"]))
    return Checkpoint(config, weights, folder)


def read_config(folder: str | Path) -> dict[str, Any]:
    """The config of a checkpoint alone, checked.

    Raises:
        CheckpointError: it is missing, no JSON, lacks a key, or is of a newer format.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        what = f"has no {CONFIG}" if Path(folder).is_dir() else "is no folder"
        raise CheckpointError(f"{folder} is no checkpoint: it {what}.")
    config = _parse(path, path.read_bytes())
    if not isinstance(config, dict) or not isinstance(config.get("format"), int):
        raise CheckpointError(f"{path} is not the config of a metagym checkpoint.")
    if config["format"] > FORMAT:
        raise CheckpointError(
            f"{path} has format {config['format']}, this metagym ({metagym.__version__}) reads up "
            f"to {FORMAT}; install metagym {config.get('metagym_version', 'of a newer version')}."
        )
    for key, kind in {"agent": str, "env_id": str, "env_kwargs": dict, "files": dict}.items():
        if not isinstance(config.get(key), kind):
            raise CheckpointError(f"{path} is damaged: {key!r} is missing or no {kind.__name__}.")
    return config


# -- the inside --------------------------------------------------------------------------------


def _check_version(folder: Path, trained: str, asked: str) -> None:
    trained_name, trained_version = _split_id(trained)
    name, version = _split_id(asked)
    if name == trained_name and version != trained_version:
        raise CheckpointError(
            f"{folder} was trained on {trained}, whose dynamics are not those of {asked}; use "
            f"{trained} or train anew."
        )


def _split_id(env_id: str) -> tuple[str, str | None]:
    """``("Name", "0")`` of ``"module:Name-v0"``."""
    match = re.fullmatch(r"(?:[^:]*:)?(.*?)(?:-v(\d+))?", env_id)
    assert match is not None
    return match[1], match[2]


def _read(folder: Path, name: str, digests: dict[str, str]) -> bytes:
    path = folder / name
    if not path.is_file():
        raise CheckpointError(f"{folder} is damaged: {name} is missing; use another checkpoint.")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digests.get(name):
        raise CheckpointError(
            f"{path} is damaged or was not saved with its {CONFIG}; use another checkpoint."
        )
    return content


def _parse(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: it is no JSON ({error}).") from None


def _not_json(value: Any, path: str = "") -> str:
    """Where there is something that JSON cannot hold, and what it is; "" if it is in no value."""
    if isinstance(value, dict):
        parts = [
            _not_json(item, f"{path}.{key}" if path else str(key)) for key, item in value.items()
        ]
        return next(filter(None, parts), "")
    if isinstance(value, (list, tuple)):
        return next(filter(None, (_not_json(v, f"{path}.{i}") for i, v in enumerate(value))), "")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        what = value if isinstance(value, float) else f"of type {type(value).__name__}"
        return f"{path} is {what}"
    return ""


def _dump_arrays(arrays: dict[str, np.ndarray]) -> bytes:
    from safetensors import SafetensorError
    from safetensors.numpy import save

    try:
        # Only contiguous arrays are stored right; asarray keeps the shape () of scalars.
        content: bytes = save({k: np.asarray(v, order="C") for k, v in arrays.items()})
    except (KeyError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"An array of the checkpoint cannot be stored: {error}.") from None
    return content


def _load_arrays(path: Path, content: bytes) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays: dict[str, np.ndarray] = load(content)
    except (KeyError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged: it is no safetensors ({error}).") from None
    return arrays


def _pack(tree: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """``tree`` as JSON; its arrays go into ``arrays`` and leave their name behind."""
    if isinstance(tree, np.ndarray) and tree.dtype.kind in "biuf":
        arrays[path] = tree
        return {"array": path}
    if isinstance(tree, dict) and all(isinstance(key, str) for key in tree):
        return {"dict": {key: _pack(tree[key], f"{path}.{key}", arrays) for key in tree}}
    if isinstance(tree, (list, tuple)):
        items = [_pack(item, f"{path}.{i}", arrays) for i, item in enumerate(tree)]
        return {"list" if isinstance(tree, list) else "tuple": items}
    if isinstance(tree, np.generic):
        tree = tree.item()
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise CheckpointError(
        f"The training state {path} is a {type(tree).__name__}; arrays, numbers, strings, dicts "
        "with string keys and lists can be stored."
    )


def _unpack(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, value),) = tree.items()
    if kind == "array":
        return arrays[value]
    if kind == "dict":
        return {key: _unpack(item, arrays) for key, item in value.items()}
    items = [_unpack(item, arrays) for item in value]
    return items if kind == "list" else tuple(items)
