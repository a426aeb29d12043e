"""The one table of how few-shot methods are trained, by method, kind of tasks, ways and shots.

``recipe(name, kind, ways, shots)`` gives what the papers took, as far as it depends on the tasks;
``metagym train`` and experiments/few_shot.py both ask here. ``long=False`` is the recipe for
minutes on a CPU. What is not said is the default of the method and of ``TrainConfig``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from metagym.errors import check_choice

TASK_KINDS = ("images", "sinusoid")
MANY_WAYS = 20  # from here on MAML and Reptile learn with the settings of their 20-way tasks


@dataclass(frozen=True)
class Recipe:
    """How one row of a table is trained.

    Attributes:
        method: its name in ``make_method``.
        fields: of the method's config.
        loop: fields of ``TrainConfig``.
        tasks: arguments of ``ImageTasks`` in training, where they differ from those of the test.
        all_classes: train on ordinary classification of all training classes.
        long: what long training changes, by the names "fields", "loop" and "tasks".
        many_ways: what that changes besides for ``MANY_WAYS`` ways or more.
    """

    method: str
    fields: dict[str, Any] = field(default_factory=dict)
    loop: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)
    all_classes: bool = False
    long: dict[str, dict[str, Any]] = field(default_factory=dict)
    many_ways: dict[str, dict[str, Any]] = field(default_factory=dict)

    def changed(self, changes: dict[str, dict[str, Any]]) -> Recipe:
        """This recipe with the fields, settings of the loop and tasks in ``changes``."""
        merged: dict[str, Any] = {
            name: {**getattr(self, name), **new} for name, new in changes.items()
        }
        return replace(self, **merged)


# Of methods that embed all examples of a batch at once.
_COSINE = {"schedule": "cosine", "outer_lr": 2e-3, "amp": "auto"}
# Snell et al. (2017): many more ways in training than in the test, and as many shots as there.
# One task a step.
_MANY_WAYS = Recipe(
    "prototypical", {"pooling": "max"}, {**_COSINE, "meta_batch": 1},
    {"ways": 30, "shots": 1, "queries": 5},
    long={"tasks": {"ways": 60, "shots": None}, "loop": {"iterations": 40_000}},
)  # fmt: skip
_AS_TESTED = Recipe(
    "matching", {"pooling": "max"}, {**_COSINE, "meta_batch": 8}, {"queries": 5},
    long={"loop": {"iterations": 60_000, "meta_batch": 16}},
)  # fmt: skip
# Finn et al. (2017), appendix A.1: 64 strided filters; with 5 ways an inner rate of 0.4, one inner
# step and three for the test; with 20 ways a rate of 0.1, five steps in both, half the tasks.
_GRADIENT = Recipe(
    "maml", {"inner_lr": 0.4, "inner_steps": 1, "test_steps": 3},
    {"meta_batch": 16, "outer_lr": 2e-3, "schedule": "cosine", "max_grad_norm": 10.0},
    {"queries": 5},
    long={"loop": {"iterations": 60_000, "meta_batch": 32, "outer_lr": 1e-3}},
    many_ways={"fields": {"inner_lr": 0.1, "inner_steps": 5, "test_steps": 5},
               "loop": {"meta_batch": 16}},
)  # fmt: skip
_PRETRAINED = Recipe(
    "nearest_neighbour", {"pooling": "max"}, {**_COSINE, "meta_batch": 1}, all_classes=True,
    long={"loop": {"iterations": 40_000}},
)  # fmt: skip
# Nichol et al. (2018), table of hyperparameters for Omniglot.
_REPTILE = Recipe(
    "reptile", {"inner_lr": 1e-3, "inner_optimizer": "adam", "minibatch": 10, "norm": "support",
                "test_steps": 50},
    {"meta_batch": 5, "optimizer": "sgd", "outer_lr": 1.0, "schedule": "linear"},
    {"queries": 10},
    long={"loop": {"iterations": 100_000}},
    many_ways={"fields": {"inner_lr": 5e-4, "inner_steps": 10, "minibatch": 20},
               "loop": {"iterations": 200_000}},
)  # fmt: skip

# By row of the table of image tasks: the names of methods, and variants of some.
IMAGES: dict[str, Recipe] = {
    "nearest_neighbour": _PRETRAINED,
    "fine_tuning": replace(_PRETRAINED, method="fine_tuning"),
    "siamese": replace(_AS_TESTED, method="siamese"),
    "matching": _AS_TESTED,
    "matching_fce": replace(_AS_TESTED, fields={"pooling": "max", "full_context": True}),
    "prototypical": _MANY_WAYS,
    "relation": replace(_AS_TESTED, method="relation"),
    "lstm": replace(_AS_TESTED, method="lstm"),
    "snail": replace(_AS_TESTED, method="snail"),
    "meta_lstm": Recipe(
        "meta_lstm", {}, {"meta_batch": 4, "outer_lr": 1e-3, "max_grad_norm": 0.25},
        {"queries": 5}, long={"loop": {"iterations": 50_000}},
    ),
    "maml": _GRADIENT,
    "fomaml": replace(_GRADIENT, method="fomaml"),
    "anil": replace(_GRADIENT, method="anil"),
    "meta_sgd": replace(_GRADIENT, method="meta_sgd"),
    "maml_plus_plus": replace(
        _GRADIENT, method="maml_plus_plus", fields={"inner_lr": 0.1},
        many_ways={"loop": {"meta_batch": 16}},
    ),
    "reptile": _REPTILE,
    "reptile_transductive": replace(_REPTILE, fields={**_REPTILE.fields, "norm": "batch"}),
}  # fmt: skip

# By method; the others take the defaults, which are those of Finn et al. (2017) on sinusoids.
SINUSOID: dict[str, Recipe] = {
    # Without it 10-shot diverges.
    "maml_plus_plus": Recipe("maml_plus_plus", loop={"max_grad_norm": 10.0}),
    "reptile": Recipe("reptile", loop={"optimizer": "sgd", "outer_lr": 1.0, "schedule": "linear"}),
}


def recipe(
    row: str, kind: str = "images", ways: int = 5, shots: int = 1, *, long: bool = True
) -> Recipe:
    """How to train for tasks of a kind; the defaults where the table has no such row.

    Args:
        row: the name of a method, or of a variant in ``IMAGES``.
        kind: "images" (any image set) or "sinusoid".
        ways, shots: of the tasks to be judged on; of images only.
        long: as in the papers, stopping early by validation tasks; else for minutes, whatever
            the ways and shots.

    Raises:
        InvalidArgumentError: there is no such kind.
    """
    if check_choice("kind", kind, TASK_KINDS) == "sinusoid":
        return SINUSOID.get(row, Recipe(row))
    found = IMAGES.get(row, Recipe(row))
    if not long or row not in IMAGES:
        return found
    found = found.changed({"loop": {"patience": 10}}).changed(found.long)
    if ways >= MANY_WAYS:
        found = found.changed(found.many_ways)
    if "shots" in found.tasks:
        found = found.changed({"tasks": {"shots": shots}})
    return found
