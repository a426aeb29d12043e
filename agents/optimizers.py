"""Update rules as agents, and the one routine by which every hand-designed one is tuned."""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

import metagym
from metagym.core.optimization import acts_by_updates
from metagym.errors import InvalidArgumentError, check_choice, nearest
from metagym.evaluation import evaluate
from metagym.optim import hand_designed
from metagym.optim.base import UpdateRule
from metagym.wrappers.gains import newest_entry

RULES: dict[str, type[UpdateRule]] = {
    rule.name: rule
    for rule in (
        hand_designed.SGD,
        hand_designed.Momentum,
        hand_designed.NAG,
        hand_designed.RMSprop,
        hand_designed.Adam,
        hand_designed.BarzilaiBorwein,
        hand_designed.LBFGS,
    )
}

_RATES = tuple(float(f"{digit}e{power}") for power in range(-4, 1) for digit in (1, 2, 3, 5))
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "sgd": {"lr": _RATES},
    "momentum": {"lr": _RATES, "momentum": (0.5, 0.8, 0.9, 0.95, 0.99)},
    "nag": {"lr": _RATES, "momentum": (0.5, 0.8, 0.9, 0.95, 0.99)},
    "rmsprop": {"lr": _RATES, "decay": (0.9, 0.99)},
    "adam": {"lr": _RATES, "beta2": (0.99, 0.999)},
    "barzilai_borwein": {
        "lr": (1e-3, 1e-2, 2e-2, 1e-1), "variant": (1, 2), "growth": (None, 2.0, 5.0, 10.0),
    },
    "lbfgs": {"lr": (0.5, 1.0), "first_lr": (1e-3, 1e-2, 1e-1), "memory": (5, 10)},
}  # fmt: skip

# {environment id: {rule: hyperparameters}}, written by experiments/tune_baselines.py.
TUNED_FILE = Path(metagym.__file__).parent / "optim" / "tuned.json"


class RuleAgent:
    """An update rule that acts in LearnToOptimize: its step is the action.

    Args:
        rule: hand-designed or learned.
        name: for tables; the rule's own by default.
    """

    def __init__(self, rule: UpdateRule, name: str | None = None) -> None:
        self.rule, self.name = rule, name or rule.name
        self.config: dict[str, Any] = dict(rule.config)
        self._dim, self._scale = 0, 1.0

    def bind(self, env: VectorEnv) -> None:
        """Read the dimension and the action scale.

        Raises:
            InvalidArgumentError: the environment's action is not a parameter update.
        """
        base: Any = env.unwrapped
        if not acts_by_updates(base):
            raise InvalidArgumentError(
                f"{self.name} is an update rule; it acts in LearnToOptimize environments, not in "
                f"{env.spec.id if env.spec else env}."
            )
        self._dim, self._scale = base.dim, base.action_scale
        self.rule.state.clear()

    def reset(self, mask: np.ndarray) -> None:
        """The rule forgets these rows."""
        self.rule.reset(mask)

    def act(self, observations: np.ndarray, action_masks: np.ndarray | None = None) -> np.ndarray:
        """The rule's Δx [B, d], divided by the action scale; what is not finite becomes 0."""
        with np.errstate(all="ignore"):
            update = self.rule.update(*newest_entry(observations, self._dim))
            return np.nan_to_num(update / self._scale, posinf=1.0, neginf=-1.0)


class HandDesigned(RuleAgent):
    """A hand-designed rule, with the hyperparameters tuned for the environment it meets.

    Args:
        name: one of ``RULES``.
        **hyperparameters: fixed ones; without any, ``bind`` takes those that were tuned for the
            environment's id on its train split, or the rule's defaults if none were.
    """

    def __init__(self, name: str, **hyperparameters: Any) -> None:
        make = RULES[check_choice("rule", name, RULES)]
        known = list(inspect.signature(make).parameters)
        for argument in hyperparameters:
            if argument not in known:
                raise InvalidArgumentError(
                    f"{name} has no hyperparameter {argument!r}.{nearest(argument, known)}"
                    f" It has: {', '.join(known)}."
                )
        self._make, self._fixed = make, bool(hyperparameters)
        super().__init__(make(**hyperparameters))

    def bind(self, env: VectorEnv) -> None:
        """As RuleAgent, after choosing the hyperparameters."""
        if not self._fixed and env.spec is not None:
            tuned = tuned_hyperparameters(env.spec.id).get(self.name)
            self.rule = self._make(**(tuned or {}))
            self.config = {**self.rule.config, "tuned_for": env.spec.id if tuned else None}
        super().bind(env)


AGENTS: dict[str, Callable[..., HandDesigned]] = {
    name: partial(HandDesigned, name) for name in RULES
}


def tuned_hyperparameters(env_id: str) -> dict[str, dict[str, Any]]:
    """{rule: hyperparameters} that were tuned for this id with its registered arguments."""
    if not TUNED_FILE.is_file():
        return {}
    table: dict[str, dict[str, dict[str, Any]]] = json.loads(TUNED_FILE.read_text())
    return table.get(env_id.rpartition(":")[2], {})


def tune(
    name: str,
    env_id: str,
    episodes: int = 512,
    seed: int = 1_000_000,
    grid: dict[str, tuple[Any, ...]] | None = None,
    report: Callable[[str], None] = print,
    **env_kwargs: Any,
) -> dict[str, Any]:
    """The hyperparameters with the best mean score on the train split, by grid search.

    Args:
        name: one of ``RULES``.
        env_id: the environment.
        episodes: of each grid point; all points meet the same tasks.
        seed: of the tasks.
        grid: {hyperparameter: values}; ``GRIDS[name]`` by default.
        report: receives the grid and the result as lines of text.
        **env_kwargs: of the environment.
    """
    grid = grid or GRIDS[check_choice("rule", name, GRIDS)]
    report(f"{name}: " + ", ".join(f"{key} in {list(values)}" for key, values in grid.items()))
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    results = [
        evaluate(HandDesigned(name, **point), env_id, "train", episodes, seed, **env_kwargs)
        for point in points
    ]
    sign = 1 if results[0].minimize else -1
    best = min(range(len(points)), key=lambda i: sign * results[i].mean)
    report(f"{name}: best of {len(points)}: {points[best]} -> {results[best].mean:.3f} (train)")
    return points[best]
