"""What every transfer method checks first: a labelled source, a target, few or no target labels.

All methods have scikit-learn's face with the target beside it: ``fit(X, y, Xt=..., yt=None)``,
then ``predict`` and ``score`` on the target. Labels of the target belong to its first rows, so
that few labels among many examples need no marker for "unknown".
"""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from metagym.errors import DataError, InvalidArgumentError

_CLASS_KINDS = (str, Integral, np.bool_)


class Domains(NamedTuple):
    """Checked arguments of ``fit``.

    Attributes:
        X: source examples [n, d].
        y: their labels or values [n].
        Xt: target examples [m, d].
        yt: labels or values of the first rows of ``Xt``, [≤ m]; None: there are none.
    """

    X: np.ndarray
    y: np.ndarray
    Xt: np.ndarray
    yt: np.ndarray | None


def check_domains(
    X: Any, y: Any, Xt: Any, yt: Any = None, *, classify: bool = True, labelled: bool = False
) -> Domains:
    """The arguments of ``fit`` as arrays, float64 but for labels.

    Args:
        X, y, Xt, yt: see ``Domains``.
        classify: ``y`` holds classes, of which there have to be two at least.
        labelled: the method cannot do without ``yt``.

    Raises:
        InvalidArgumentError: no target, other features there than in the source, lengths that do
            not fit, one class only, classes of the target that the source does not have, or no
            ``yt`` where it is needed.
        DataError: a value is not a finite number.
    """
    source, target = check_pair(X, Xt)
    labels = check_labels("y", y, len(source), classify=classify)
    if classify and len(np.unique(labels)) < 2:
        raise InvalidArgumentError(
            f"All {len(labels)} labels in y are {labels[:1].tolist()[0]!r}; learning to tell "
            "classes apart needs two of them."
        )
    if yt is None:
        if labelled:
            raise InvalidArgumentError(
                "This method learns from labels of the target: give those of the first rows of Xt "
                "as yt."
            )
        return Domains(source, labels, target, None)
    known = check_labels("yt", yt, None, classify=classify)
    if len(known) > len(target):
        raise InvalidArgumentError(
            f"yt has {len(known)} labels for {len(target)} examples in Xt; it labels the first "
            "rows of Xt."
        )
    if classify and (foreign := np.setdiff1d(known, labels)).size:
        raise InvalidArgumentError(
            f"yt has the class {foreign[:1].tolist()[0]!r}, which y does not have; its classes are "
            f"{', '.join(map(repr, np.unique(labels)[:10].tolist()))}."
        )
    return Domains(source, labels, target, known)


def check_pair(X: Any, Xt: Any) -> tuple[np.ndarray, np.ndarray]:
    """Examples of two domains, [n, d] and [m, d] of float64.

    Raises:
        InvalidArgumentError: no target, or other features there than in the source.
        DataError: a value is not a finite number.
    """
    if Xt is None:
        raise InvalidArgumentError("Xt is missing: examples of the target domain have to be given.")
    source, target = check_examples("X", X), check_examples("Xt", Xt)
    if source.shape[1] != target.shape[1]:
        raise InvalidArgumentError(
            f"The source has {source.shape[1]} features and the target {target.shape[1]}. The "
            "methods here transfer between domains of the same features; map both to common ones "
            "first."
        )
    return source, target


def check_examples(argument: str, value: Any) -> np.ndarray:
    """[n, d] of finite float64, n and d at least 1.

    Raises:
        InvalidArgumentError: another shape, or not numbers.
        DataError: NaN or infinity.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"{argument} has to be an array of numbers: {error}.") from None
    if array.ndim != 2 or 0 in array.shape:
        raise InvalidArgumentError(
            f"{argument} has to be examples × features, at least one of each; its shape is "
            f"{array.shape}."
        )
    if not (finite := np.isfinite(array)).all():
        row, column = np.argwhere(~finite)[0]
        raise DataError(
            f"{argument}[{row}, {column}] is {array[row, column]}; impute or drop such rows, for "
            "example with sklearn.impute."
        )
    return array


def check_new(model: Any, X: Any) -> np.ndarray:
    """Examples [n, d] for a fitted model, which says by ``n_features_in_`` what d has to be.

    Raises:
        InvalidArgumentError: other features than those of ``fit``.
        DataError: a value is not a finite number.
    """
    examples = check_examples("X", X)
    if examples.shape[1] != model.n_features_in_:
        raise InvalidArgumentError(
            f"X has {examples.shape[1]} features; {type(model).__name__} was fitted on "
            f"{model.n_features_in_}."
        )
    return examples


def check_labels(argument: str, value: Any, count: int | None, *, classify: bool) -> np.ndarray:
    """[n], float64 unless they are classes.

    Args:
        argument: its name.
        value: the labels.
        count: how many there have to be; None: any number but none.
        classify: they are classes: strings, truth values or whole numbers, not a mixture.

    Raises:
        InvalidArgumentError: another shape or length, values that are no numbers, or classes that
            are none.
        DataError: NaN or infinity.
    """
    try:
        array = np.asarray(value) if classify else np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"{argument} has to be an array of numbers: {error}.") from None
    if array.ndim != 1 or not array.size or (count is not None and len(array) != count):
        wanted = "at least one label" if count is None else f"{count} labels, one per row"
        raise InvalidArgumentError(f"{argument} has to be {wanted}; its shape is {array.shape}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array)))
        raise DataError(f"{argument}[{row}] is {array[row]}; drop such rows.")
    if classify:
        _check_classes(argument, array)
    return array


def _check_classes(argument: str, array: np.ndarray) -> None:
    """Classes can be sorted and told apart, as scikit-learn demands of them."""
    if array.dtype.kind == "O" and not any(
        all(isinstance(value, kind) for value in array) for kind in _CLASS_KINDS
    ):
        found = sorted({type(value).__name__ for value in array})
        raise InvalidArgumentError(
            f"{argument} holds {' and '.join(found)}; classes are all strings or all whole "
            "numbers. Drop rows whose class is unknown."
        )
    if array.dtype.kind == "f" and (parted := array != np.floor(array)).any():
        row = int(np.argmax(parted))
        raise InvalidArgumentError(
            f"{argument}[{row}] is {array[row]}, a measurement and no class. Number the classes, "
            "or take a regressor."
        )


def check_weights(argument: str, value: Any, count: int) -> np.ndarray:
    """[n] of finite numbers of at least 0, not all of them 0.

    Raises:
        InvalidArgumentError: another shape, a negative weight, or nothing but zeros.
        DataError: NaN or infinity.
    """
    array = check_labels(argument, value, count, classify=False)
    if (array < 0.0).any():
        row = int(np.argmin(array))
        raise InvalidArgumentError(
            f"{argument}[{row}] is {array[row]}; a weight cannot be negative. Estimates of ratios "
            "have to be clipped at 0."
        )
    if not array.any():
        raise InvalidArgumentError(f"All {count} weights in {argument} are 0.")
    return array
