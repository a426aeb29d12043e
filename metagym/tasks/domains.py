"""Two domains with the same features and classes: a labelled source, and a target with few labels.

``make_domains(name)`` builds a pair by name; ``DOMAINS`` is the one table of names. Two of them are
drawn from a formula and need no file: Gaussian classes that move, and the two moons that turn, on
which Ganin et al. (2016) show what their method does.

Lecture topic: transfer learning, source and target domain.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from metagym.errors import InvalidArgumentError, check_choice, check_positive
from metagym.named import make_named

DOMAINS: dict[str, str] = {
    "gaussians": "metagym.tasks.domains:gaussians",
    "moons": "metagym.tasks.domains:moons",
    "mnist_usps": "metagym.tasks.mnist_usps:mnist_usps",
    "usps_mnist": "metagym.tasks.mnist_usps:usps_mnist",
    "office_caltech": "metagym.tasks.domains:office_caltech",
}

_TEST_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class DomainPair:
    """What a transfer method is given, and what it is judged on.

    Attributes:
        name: of the pair.
        X, y: the source: examples [n, d] and their classes [n].
        Xt: the target's training part [m, d]; its first rows are the labelled ones.
        yt: classes of the first rows of ``Xt``; None: no label is given away.
        X_test, y_test: the target's test part, disjoint from ``Xt``.
        yt_all: the classes of all of ``Xt``. No method of transfer may see them; they are for
            skylines, which are named so.
        image_shape: (height, width) or (channels, height, width) of a row that is an image; None
            for other features.
    """

    name: str
    X: np.ndarray
    y: np.ndarray
    Xt: np.ndarray
    yt: np.ndarray | None
    X_test: np.ndarray
    y_test: np.ndarray
    yt_all: np.ndarray
    image_shape: tuple[int, ...] | None = None


def make_domains(name: str = "gaussians", **kwargs: Any) -> DomainPair:
    """The pair of domains called ``name``.

    Args:
        name: one of ``DOMAINS``.
        **kwargs: its arguments; all have ``shots`` and ``seed``, see ``split_target``.

    Raises:
        InvalidArgumentError: no such name or argument, or a bad value.
        DataError: files are missing or malformed.
    """
    made: DomainPair = make_named("domains", name, DOMAINS, kwargs)
    return made


def split_target(
    name: str,
    source: tuple[np.ndarray, np.ndarray],
    target: tuple[np.ndarray, np.ndarray],
    shots: int,
    seed: int,
    image_shape: tuple[int, ...] | None = None,
) -> DomainPair:
    """The pair of a source and a target of which half is kept for testing.

    The test part is the same for every seed, so that what is tuned on other seeds cannot have seen
    it; the seed says which rows of the training part have labels.

    Args:
        name: of the pair.
        source, target: examples [n, d] and classes [n] each, with the same classes.
        shots: labels per class of the target; 0: none at all.
        seed: of their choice.
        image_shape: see ``DomainPair``.

    Raises:
        InvalidArgumentError: a negative ``shots``, or more than a class has in the training part.
    """
    (X, y), (x, labels) = source, target
    if isinstance(shots, bool) or not isinstance(shots, (int, np.integer)) or shots < 0:
        raise InvalidArgumentError(f"shots={shots!r} has to be a whole number of at least 0.")
    order = np.random.default_rng(0).permutation(len(labels))
    test, train = np.split(order, [int(_TEST_SHARE * len(order))])
    rng = np.random.default_rng(seed)
    train = rng.permutation(train)
    found = labels[train]
    # How many of its class come before each row: the first ``shots`` of every class are labelled.
    earlier = np.zeros(len(train), dtype=np.int64)
    for value in np.unique(found):
        earlier[found == value] = np.arange((found == value).sum())
    known = earlier < shots
    scarce = np.unique(found, return_counts=True)[1].min()
    if shots > scarce:
        raise InvalidArgumentError(
            f"shots={shots!r}: the target's training part has only {scarce} examples of a class."
        )
    train = np.concatenate([train[known], train[~known]])
    return DomainPair(
        name, X, y, x[train], labels[train[: known.sum()]] if shots else None,
        x[test], labels[test], labels[train], image_shape,
    )  # fmt: skip


# -- drawn from a formula ----------------------------------------------------------------------


def gaussians(
    shift: float = 2.0,
    rotation: float = 0.0,
    classes: int = 4,
    dim: int = 2,
    examples: int = 400,
    noise: float = 0.5,
    shots: int = 5,
    seed: int = 0,
) -> DomainPair:
    """Gaussian classes about the corners of a regular polygon, all of which move in the target.

    Args:
        shift: how far the target's means lie from the source's, along a random direction in all
            ``dim`` axes that is the same for all classes. 0 and a rotation of 0: one domain.
        rotation: of the polygon in the target, in degrees about the origin.
        classes: corners; the polygon has radius 2 and lies in the first two axes.
        dim: features; those beyond two are noise, but for the shift.
        examples: of the source; the target has as many for training and as many for testing.
        noise: standard deviation in every direction.
        shots, seed: see ``split_target``; the seed draws the examples too, never the means.

    Raises:
        InvalidArgumentError: a bad value.
    """
    if check_positive("classes", classes) < 2 or check_positive("dim", dim) < 2:
        raise InvalidArgumentError(
            f"gaussians need two classes and two dimensions at least; got {classes} and {dim}."
        )
    _check_finite(shift=shift, rotation=rotation, noise=noise)
    direction = np.random.default_rng(0).normal(size=dim)
    offset = shift * direction / np.linalg.norm(direction)

    def draw(rng: np.random.Generator, count: int, turn: float) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.permutation(np.arange(count) % classes)
        angle = 2 * np.pi * labels / classes + np.deg2rad(turn)
        x = rng.normal(scale=noise, size=(count, dim))
        x[:, :2] += 2.0 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return x, labels

    source, (x, labels) = _draw_both(draw, rotation, examples, seed)
    return split_target("gaussians", source, (x + offset, labels), shots, seed)


def moons(
    rotation: float = 35.0,
    examples: int = 300,
    noise: float = 0.05,
    shots: int = 5,
    seed: int = 0,
) -> DomainPair:
    """Two interleaved half circles that turn in the target (Ganin et al. 2016, figure 2: 35°).

    Args:
        rotation: of the target, in degrees about the middle of the moons; 0: one domain.
        examples: of the source; the target has as many for training and as many for testing.
        noise: standard deviation about the circles, whose radius is 1.
        shots, seed: see ``split_target``; the seed draws the examples too.

    Raises:
        InvalidArgumentError: a bad value.
    """
    _check_finite(rotation=rotation, noise=noise)

    def draw(rng: np.random.Generator, count: int, turn: float) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.permutation(np.arange(count) % 2)
        angle = rng.uniform(0.0, np.pi, count)
        sign = 1.0 - 2.0 * labels
        # Centred: the first moon opens downwards, the second is its half turn.
        x = sign[:, None] * np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], axis=1)
        cosine, sine = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
        x = x @ np.array([[cosine, sine], [-sine, cosine]])
        return x + rng.normal(scale=noise, size=x.shape), labels

    return split_target("moons", *_draw_both(draw, rotation, examples, seed), shots, seed)


# -- from files --------------------------------------------------------------------------------


def office_caltech(
    source: str = "caltech",
    target: str = "amazon",
    shots: int = 3,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> DomainPair:
    """Two of the four domains of Office+Caltech, 800 SURF features and ten classes.

    Args:
        source, target: names of ``load_office_caltech``, such as "caltech" and "amazon".
        shots, seed: see ``split_target``.
        folder: of the files, see ``load_office_caltech``.

    Raises:
        InvalidArgumentError: there is no such domain, or source and target are the same.
        DataError: files are missing or malformed.
    """
    from metagym.tasks.office_caltech import load_office_caltech

    found = load_office_caltech(folder)
    for argument, value in (("source", source), ("target", target)):
        check_choice(argument, value, found)
    if source == target:
        raise InvalidArgumentError(f"source and target are both {source!r}; give two domains.")
    return split_target(f"{source}_{target}", found[source], found[target], shots, seed)


# -- the inside --------------------------------------------------------------------------------


def _draw_both(
    draw: Callable[[np.random.Generator, int, float], tuple[np.ndarray, np.ndarray]],
    rotation: float,
    examples: int,
    seed: int,
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Source and target, of streams of their own."""
    check_positive("examples", examples)
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2)]
    return draw(streams[0], examples, 0.0), draw(streams[1], 2 * examples, rotation)


def _check_finite(**values: float) -> None:
    for name, value in values.items():
        if not math.isfinite(value) or (name == "noise" and value < 0.0):
            raise InvalidArgumentError(f"{name}={value!r} has to be finite, and noise at least 0.")
