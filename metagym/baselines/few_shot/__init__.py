"""Few-shot learning, meta-trained by gradient descent through tasks (no reinforcement learning).

``make_method(name, distribution)`` builds a method by name; ``METHODS`` is the one table of
names. ``train.train_few_shot`` meta-trains any of them and ``judge.evaluate_few_shot`` judges it.
Modules load when they are asked for.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from metagym.errors import InvalidArgumentError, reject_unknown_kwargs
from metagym.named import import_object, lazy_attribute, load_named

if TYPE_CHECKING:
    from metagym.baselines.few_shot.base import FewShotMethod, TaskShape
    from metagym.tasks.few_shot import TaskDistribution

_HERE = "metagym.baselines.few_shot"

METHODS: dict[str, str] = {
    "maml": f"{_HERE}.gradient:MAML",
    "fomaml": f"{_HERE}.gradient:FOMAML",
    "anil": f"{_HERE}.gradient:ANIL",
    "meta_sgd": f"{_HERE}.gradient:MetaSGD",
    "maml_plus_plus": f"{_HERE}.maml_plus_plus:MAMLPlusPlus",
    "reptile": f"{_HERE}.reptile:Reptile",
    "joint": f"{_HERE}.reptile:Joint",
    "prototypical": f"{_HERE}.metric:PrototypicalNetwork",
    "matching": f"{_HERE}.metric:MatchingNetwork",
    "siamese": f"{_HERE}.metric:SiameseNetwork",
    "relation": f"{_HERE}.relation:RelationNetwork",
    "meta_lstm": f"{_HERE}.meta_lstm:MetaLSTM",
    "lstm": f"{_HERE}.sequence:LSTMMethod",
    "snail": f"{_HERE}.sequence:SNAILMethod",
    "nearest_neighbour": f"{_HERE}.controls:NearestNeighbour",
    "fine_tuning": f"{_HERE}.controls:FineTuning",
}

# What ``from metagym.baselines.few_shot import ...`` finds; each loads with its first use.
_LAZY = {path.split(":")[1]: path.split(":")[0] for path in METHODS.values()} | {
    "Clonable": f"{_HERE}.clone",
    "FewShotMethod": f"{_HERE}.base",
    "TaskShape": f"{_HERE}.base",
    "evaluate_few_shot": f"{_HERE}.judge",
    "train_few_shot": f"{_HERE}.train",
}

__all__ = ["METHODS", "make_method", "method_class"]


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, name, _LAZY)


def method_class(name: str) -> type[FewShotMethod]:
    """The class of the method called ``name``, or ``module:Class``: one of your own.

    Raises:
        InvalidArgumentError: there is no such method, or the class is no ``FewShotMethod`` with a
            ``name`` of its own and a ``Config``.
    """
    found: type[FewShotMethod]
    if ":" not in name:
        found = load_named("method", name, METHODS)
        return found
    from metagym.baselines.few_shot.base import FewShotMethod

    found = import_object(name)
    if not (isinstance(found, type) and issubclass(found, FewShotMethod)):
        raise InvalidArgumentError(
            f"{name} is no subclass of metagym.baselines.few_shot.FewShotMethod."
        )
    _check_own(name, found)
    return found


def make_method(
    name: str | type[FewShotMethod],
    tasks: TaskDistribution | TaskShape,
    config: Any = None,
    *,
    seed: int = 0,
    **fields: Any,
) -> FewShotMethod:
    """The method called ``name`` for the tasks of a distribution, with fresh weights.

    Args:
        name: one of ``METHODS``, ``module:Class``, or a class.
        tasks: a distribution, or what is to be known of it.
        config: of the method's ``Config``; its defaults by default.
        seed: of the weights; the global generator is left as it was.
        **fields: of a new config, instead of ``config``.

    Raises:
        InvalidArgumentError: no such method or field, both ``config`` and ``fields``, or a value
            that cannot work.
    """
    import torch

    from metagym.baselines.few_shot.base import TaskShape

    method = method_class(name) if isinstance(name, str) else name
    if fields and config is not None:
        raise InvalidArgumentError(f"Give a config or its fields ({', '.join(fields)}), not both.")
    if fields:
        known = {field.name for field in dataclasses.fields(method.Config)}
        reject_unknown_kwargs(method.Config, {k: v for k, v in fields.items() if k not in known})
        config = method.Config(**fields)
    shape = tasks if isinstance(tasks, TaskShape) else TaskShape.of(tasks)
    with torch.random.fork_rng(devices=[]):  # torch initialises from its global generator
        torch.manual_seed(seed)
        return method(shape, config)


def _check_own(text: str, method: type[FewShotMethod]) -> None:
    """Refuse a class of somebody's that could not be told from ours, or not be configured."""
    from metagym.baselines.few_shot.recipes import IMAGES
    from metagym.baselines.few_shot.train import TrainConfig
    from metagym.loading import SUPERVISED, TRAINED

    own, config = getattr(method, "name", None), getattr(method, "Config", None)
    if not isinstance(own, str) or own in ("", *METHODS, *IMAGES, *SUPERVISED, *TRAINED):
        raise InvalidArgumentError(
            f"{text} has the name {own!r}; it needs one that nothing of metagym has: set "
            f"{method.__name__}.name."
        )
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise InvalidArgumentError(f"{text} needs a Config, a dataclass of its hyperparameters.")
    ours = {field.name for field in dataclasses.fields(TrainConfig)}
    if both := [field.name for field in dataclasses.fields(config) if field.name in ours]:
        raise InvalidArgumentError(
            f"{text}: its Config cannot have {', '.join(both)}; the training loop has."
        )
