"""The two rulesets of optimisation suites, after AlgoPerf's (Dahl et al. 2023).

Self-tuning: an agent meets every task as it is. A hand-designed rule has one setting for all of
them, the field's defaults below, and not those that were tuned for the environment. External
tuning: a stated number of settings is drawn from a stated space for each task and run, and the
best on the train split is scored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metagym.errors import InvalidArgumentError
from metagym.loading import split_arguments

# SGD, Adam and RMSprop as in torch.optim, momentum the usual 0.9; the first step of the
# quasi-Newton rules, which have no such default, as long as Adam's.
FIELD_DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 1e-3},
    "momentum": {"lr": 1e-3, "momentum": 0.9},
    "nag": {"lr": 1e-3, "momentum": 0.9},
    "rmsprop": {"lr": 1e-2, "decay": 0.99},
    "adam": {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999},
    "barzilai_borwein": {"lr": 1e-3, "variant": 1, "growth": None},
    "lbfgs": {"lr": 1.0, "first_lr": 1e-3, "memory": 10},
}

Space = Mapping[str, Sequence[Any]]


def check_space(space: Any) -> dict[str, list[Any]]:
    """``space`` if it maps names to lists of values, else an error.

    Raises:
        InvalidArgumentError: it is no such thing, a list is empty, or a value is not a number,
            text, true, false or null.
    """
    if not isinstance(space, Mapping) or not space:
        raise InvalidArgumentError(
            f"The search space {space!r:.60} has to be a JSON object of lists, such as "
            '{"lr": [0.01, 0.1]}.'
        )
    for name, values in space.items():
        scalars = isinstance(values, (list, tuple)) and all(
            value is None or isinstance(value, (bool, int, float, str)) for value in values
        )
        if not scalars or not values:
            raise InvalidArgumentError(
                f"The search space's {name}={values!r:.60} has to be a list of numbers, texts, "
                "true, false or null."
            )
    return {name: list(values) for name, values in space.items()}


def check_untuned(agent: str) -> None:
    """Refuse arguments of a hand-designed optimiser, for where nothing may be tuned.

    Raises:
        InvalidArgumentError: ``agent`` is such as "adam:lr=0.3".
    """
    name, colon, _ = agent.partition(":")
    if colon and name in FIELD_DEFAULTS:
        raise InvalidArgumentError(
            f"Under self-tuning {name} has the field's defaults, {FIELD_DEFAULTS[name]}, and "
            f"{agent!r} has its own: leave them out, or play under external-tuning."
        )


def fault_of(record: Any, space: Space, trials: int, run: int, minimize: bool) -> str:
    """What is wrong with the record of tuning for one task, or "".

    Args:
        record: ``agent_config["tuning"]`` of a result, whatever that is.
        space: from which the settings had to be drawn.
        trials: as many of them, or all, where there are fewer.
        run: number of the run.
        minimize: True where a smaller score is better.
    """
    if not _is_record(record):
        return "agent_config.tuning is missing or no record of trials"
    count = min(trials, math.prod(map(len, space.values())))
    settings = [trial["setting"] for trial in record["trials"]]
    distinct = {json.dumps(setting, sort_keys=True) for setting in settings}
    drawn = all(
        setting.keys() == space.keys() and all(setting[name] in space[name] for name in space)
        for setting in settings
    )
    sign = 1 if minimize else -1
    scored = [trial for trial in record["trials"] if "score" in trial]
    best = min((sign * trial["score"] for trial in scored), default=None)
    winners = [trial["setting"] for trial in scored if sign * trial["score"] == best]
    faults = {
        "agent_config.tuning.space is not the row's": record["space"] != check_space(space),
        "agent_config.tuning.split is not 'train'": record["split"] != "train",
        "agent_config.tuning.seed is not the number of the run": record["seed"] != run,
        f"agent_config.tuning.trials are not {count} different settings": not (
            len(distinct) == len(settings) == count
        ),
        "agent_config.tuning.trials has a setting that is not in the space": not drawn,
        "agent_config.tuning.chosen is not the best of the trials": record["chosen"] not in winners,
    }
    return next((fault for fault, is_there in faults.items() if is_there), "")


def draw_settings(space: Space, count: int, seed: int) -> list[dict[str, Any]]:
    """``count`` different settings, uniformly from all of the space; all, where there are fewer.

    Args:
        space: {argument: values}.
        count: how many.
        seed: of the drawing.
    """
    sizes = [len(values) for values in space.values()]
    total = math.prod(sizes)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(total, size=min(count, total), replace=False)
    return [
        {
            name: values[index]
            for (name, values), index in zip(
                space.items(), np.unravel_index(number, sizes), strict=True
            )
        }
        for number in chosen
    ]


def with_arguments(agent: str, setting: Mapping[str, Any]) -> str:
    """The text of an agent with further arguments: ``adam`` and an lr give ``adam:lr=0.1``.

    Raises:
        InvalidArgumentError: the text would be read as something else, another module even: a
            setting has a colon or a comma in it.
    """
    if not setting:
        return agent
    arguments = ",".join(f"{name}={json.dumps(value)}" for name, value in setting.items())
    text = f"{agent}{',' if '=' in agent.rpartition(':')[2] else ':'}{arguments}"
    target, own = split_arguments(agent)
    if split_arguments(text) != (target, {**own, **setting}):
        raise InvalidArgumentError(
            f"The setting {dict(setting)!r:.80} of {agent} cannot be written as arguments; leave "
            "colons, commas and equals signs out of its names and texts."
        )
    return text


# -- the inside --------------------------------------------------------------------------------


def _is_record(record: Any) -> bool:
    """Whether it has the fields of a record and they are of the right types."""
    fields = {"space": dict, "split": str, "seed": int, "trials": list, "chosen": dict}
    if not isinstance(record, dict) or record.keys() != fields.keys() | {"seconds", "steps"}:
        return False
    costs = all(_is_number(record[name]) and record[name] >= 0 for name in ("seconds", "steps"))
    return costs and all(type(record[name]) is kind for name, kind in fields.items()) and all(
        isinstance(trial, dict)
        and type(trial.get("setting")) is dict
        and _is_number(trial.get("score", 0.0))
        for trial in record["trials"]
    )  # fmt: skip


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)
