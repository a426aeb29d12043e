"""From what is typed on a command line to an Agent: a name, a checkpoint, ``module:Class``.

The table below holds strings: an agent's module, and torch with it, loads when it is asked for.

    adam                          a hand-designed agent with its defaults
    adam:lr=0.5,beta1=0.8         the same with arguments (JSON values)
    runs/ppo                      the checkpoint that training wrote
    my_package.agents:MyAgent     a class of yours, found from the current folder too
    my_package.agents:MyAgent:depth=3
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from metagym.baselines.few_shot import METHODS
from metagym.baselines.multitask.architectures import ARCHITECTURES
from metagym.baselines.transfer.deep_methods import DEEP_METHODS
from metagym.checkpoint import CONFIG, load_checkpoint, read_config
from metagym.core import Agent
from metagym.errors import CheckpointError, InvalidArgumentError, nearest
from metagym.named import import_object, load_named
from metagym.optim.learned import PRETRAINED, pretrained_names

# Modules with Config, train(...) and load(folder).
TRAINED: dict[str, str] = {
    "ppo": "metagym.agents.ppo",
    "reinforce": "metagym.agents.reinforce",
    "rl2": "metagym.agents.rl2",
    "controller": "metagym.agents.controller",
    "async_controller": "metagym.agents.async_controller",
    "l2l": "metagym.agents.learned_lstm",
    "black_box_rnn": "metagym.baselines.learned_optimizers.black_box",
}

# What learns from data sets in place of environments: its name, and the module of its commands
# (``Face(name)`` is what ``trainer`` gives, ``evaluate_checkpoint`` judges).
SUPERVISED: dict[str, str] = {
    **dict.fromkeys(METHODS, "metagym.baselines.few_shot.command"),
    **{f"multitask_{name}": "metagym.baselines.multitask.command" for name in ARCHITECTURES},
    **dict.fromkeys(DEEP_METHODS, "metagym.baselines.transfer.command"),
}

# Tables of names of tasks that those learn from: what they are, and a command that shows it.
TASK_TABLES: dict[str, tuple[str, str]] = {
    "metagym.tasks:TASKS": ("Few-shot tasks", "maml sinusoid"),
    "metagym.tasks.multitask:TASK_SETS": ("Sets of tasks", "multitask_hard digits_binary"),
    "metagym.tasks.domains:DOMAINS": ("Pairs of domains", "dann mnist_usps"),
}

UNTRAINED: dict[str, str] = {
    "random": "metagym.agents.random:RandomAgent",
    "random_search": "metagym.agents.black_box:RandomSearch",
    "one_plus_one_es": "metagym.agents.black_box:OnePlusOneES",
    "cma_es": "metagym.agents.black_box:CMAES",
    "value_iteration": "metagym.agents.tabular_base:ValueIteration",
    "shortest_path": "metagym.agents.mazes:ShortestPath",
    "wall_follower": "metagym.agents.mazes:WallFollower",
    "nearest_frontier": "metagym.agents.mazes:NearestFrontier",
    "straight_to_goal": "metagym.agents.navigation:StraightToGoal",
    "trilateration": "metagym.agents.navigation:Trilateration",
}

# Modules whose AGENTS map further names to what builds them.
_FAMILIES = (
    "metagym.agents.optimizers",
    "metagym.agents.bandits",
    "metagym.agents.tabular",
    "metagym.agents.search_agents",
)


def load_agent(text: str, env_id: str | None = None, seed: int | None = None) -> Agent:
    """The agent that ``text`` names, ready for ``evaluate``.

    Args:
        text: see the top of this file; a name shipped in ``metagym/pretrained`` works too.
        env_id: where it is going to act; a checkpoint of another version of it is refused.
        seed: of an agent that takes one, unless ``text`` has it.

    Raises:
        InvalidArgumentError: no such agent, module, class or argument.
        CheckpointError: the checkpoint is missing, damaged or does not fit.
    """
    if _is_checkpoint(text):
        return _load_trained(Path(text), env_id)
    if text in pretrained_names():
        shipped: Any = _load_trained(PRETRAINED / text, env_id)
        shipped.name = text
        return cast(Agent, shipped)
    target, arguments = split_arguments(text)
    if ":" in target:
        return _build(import_object(target), arguments, text, seed)
    if target in UNTRAINED:
        return _build(load_named("agent", target, UNTRAINED), arguments, text, seed)
    if target in TRAINED or target in SUPERVISED:
        raise InvalidArgumentError(
            f"The agent {target!r} has to be trained: metagym train {target} ENV --out "
            f"runs/{target}; then give that folder."
        )
    families = _families()
    if target in families:
        return _build(families[target], arguments, text, seed)
    names = agent_names()
    raise InvalidArgumentError(
        f"There is no agent {target!r}.{nearest(target, names)} Known: {', '.join(names)}; or give "
        "the folder of a checkpoint, or module:Class."
    )


def agent_names() -> list[str]:
    """All names that ``load_agent`` takes."""
    return [*UNTRAINED, *_families(), *pretrained_names()]


def trainer(name: str) -> Any:
    """What trains the agent or supervised method of a name: Config, train(...), load(folder).

    Raises:
        InvalidArgumentError: there is no such trainable agent.
    """
    if name in SUPERVISED:
        return importlib.import_module(SUPERVISED[name]).Face(name)
    if name not in TRAINED:
        known = [*TRAINED, *SUPERVISED]
        raise InvalidArgumentError(
            f"The agent {name!r} cannot be trained.{nearest(name, known)} "
            f"Trainable: {', '.join(known)}."
        )
    return importlib.import_module(TRAINED[name])


def split_arguments(text: str) -> tuple[str, dict[str, Any]]:
    """``("adam", {"lr": 0.5})`` of ``"adam:lr=0.5"``; the values are JSON, or else text."""
    target, colon, tail = text.rpartition(":")
    if not colon or "=" not in tail:
        return text, {}
    arguments: dict[str, Any] = {}
    for part in tail.split(","):
        key, _, value = part.partition("=")
        try:
            arguments[key.strip()] = json.loads(value)
        except ValueError:
            arguments[key.strip()] = value
    return target, arguments


# -- the inside --------------------------------------------------------------------------------


def _is_checkpoint(text: str) -> bool:
    looks_like_a_path = os.sep in text or text.startswith(".")
    return (Path(text) / CONFIG).is_file() or (looks_like_a_path and ":" not in text)


def _load_trained(folder: Path, env_id: str | None) -> Agent:
    config = read_config(folder)
    name = config["agent"]
    if name in SUPERVISED:
        raise CheckpointError(
            f"{folder} is a checkpoint of {name!r}, which learns from data and acts in no "
            f"environment; judge it on data: metagym evaluate {folder} {config['env_id']}."
        )
    if name not in TRAINED:
        raise CheckpointError(
            f"{folder} is a checkpoint of {name!r}, an agent that this metagym does not have; "
            f"it has {', '.join(TRAINED)}."
        )
    checkpoint = load_checkpoint(folder, name, env_id)  # damage is found before torch is loaded
    agent: Any = trainer(name).load(folder)
    if not hasattr(agent, "training"):
        agent.training = checkpoint.config.get("training")
    return agent


def _build(factory: Any, arguments: dict[str, Any], text: str, seed: int | None) -> Agent:
    """``factory(**arguments)``, or ``factory`` itself if it is an agent already."""
    is_agent = isinstance(factory, Agent) and not isinstance(factory, type)
    if seed is not None and not is_agent and "seed" in _parameters(factory):
        arguments = {"seed": seed, **arguments}
    agent = factory if is_agent and not arguments else _call(factory, arguments, text)
    if not isinstance(agent, Agent):
        raise InvalidArgumentError(
            f"{text} gives a {type(agent).__name__}, which is no agent: it needs reset(mask) and "
            "act(observations, action_masks)."
        )
    return agent


def _call(factory: Any, arguments: dict[str, Any], text: str) -> Any:
    if not callable(factory):
        raise InvalidArgumentError(f"{text} is a {type(factory).__name__}; it cannot be called.")
    known = _parameters(factory)
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        for name in arguments:
            if name not in known:
                raise InvalidArgumentError(
                    f"{text}: there is no argument {name!r}.{nearest(name, known)} "
                    f"Known: {', '.join(known) or 'none'}."
                )
    try:
        return factory(**arguments)
    except TypeError as error:
        raise InvalidArgumentError(f"{text}: {error}.") from None


def _parameters(factory: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some built-in types have none; other things cannot be called
        return inspect.signature(lambda **_: None).parameters


def _families() -> dict[str, Callable[..., Agent]]:
    tables: list[dict[str, Callable[..., Agent]]] = [
        importlib.import_module(module).AGENTS for module in _FAMILIES
    ]
    return {name: agent for table in tables for name, agent in table.items()}
