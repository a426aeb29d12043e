"""Office + Caltech (Gong et al. 2012): ten classes of objects in four domains, as SURF features.

Amazon's pictures, Caltech-256, and photographs by a DSLR camera and by a webcam; each image is a
histogram of 800 visual words. The first benchmark of feature transfer, from files of MATLAB.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metagym.errors import DataError, check_choice
from metagym.tasks.image_sets import data_folder

DOMAINS = ("amazon", "caltech", "dslr", "webcam")
FEATURES, CLASSES = 800, 10
_FILE = "{}_SURF_L10.mat"
_FOLDER = "office_caltech"
_MAX_BYTES = 20_000_000  # the largest of the four files has 150,751


class Domain(NamedTuple):
    """Examples of one domain.

    Attributes:
        features: counts of visual words [n, 800], float64.
        labels: classes 0..9, [n], int64.
    """

    features: np.ndarray
    labels: np.ndarray


def load_office_caltech(folder: str | os.PathLike[str] | None = None) -> dict[str, Domain]:
    """The four domains by name, in the order of ``DOMAINS``.

    Args:
        folder: holds the four files, or a folder ``office_caltech`` with them; None: the folder
            that the environment variable METAGYM_DATA names.

    Raises:
        DataError: a file is missing, broken, or holds something else.
    """
    return {name: load_domain(name, folder) for name in DOMAINS}


def load_domain(name: str, folder: str | os.PathLike[str] | None = None) -> Domain:
    """One domain.

    Args:
        name: "amazon" (958 examples), "caltech" (1,123), "dslr" (157) or "webcam" (295).
        folder: see ``load_office_caltech``.

    Raises:
        InvalidArgumentError: there is no such domain.
        DataError: the file is missing, broken, or holds something else.
    """
    file = _FILE.format(check_choice("name", name, DOMAINS))
    named = data_folder(folder, f"the files of Office and Caltech, such as {file}")
    for place in (named / _FOLDER, named):
        if (place / file).is_file():
            return read_domain(place / file)
    raise DataError(
        f"{named} has no {file} (looked in {_FOLDER}/ and the folder itself). Set METAGYM_DATA, or "
        "pass folder=, to the folder that holds the four files."
    )


def read_domain(path: str | os.PathLike[str]) -> Domain:
    """The examples in a .mat file, version 5: ``fts`` [n, 800] of counts and ``labels`` 1..10.

    Raises:
        DataError: the file cannot be read or holds something else.
    """
    from scipy.io import loadmat
    from scipy.sparse import issparse

    path = Path(path)
    try:
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise DataError(f"{path} has {size} bytes, far more than any domain; use the original.")
        content = loadmat(path, variable_names=["fts", "labels"])
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from None
    except Exception as error:  # a damaged file raises whatever its bytes lead scipy's reader to
        raise DataError(
            f"{path} is truncated or no .mat file of version 5 ({error}); fetch the file again."
        ) from None
    if missing := [name for name in ("fts", "labels") if name not in content]:
        raise DataError(f"{path} has no variable {missing[0]!r}; use the original file.")
    features, labels = content["fts"], content["labels"]
    for name, array in (("fts", features), ("labels", labels)):
        if issparse(array) or array.dtype.kind not in "uif":
            raise DataError(f"{path}: {name} is not an array of numbers; use the original file.")
    if features.ndim != 2 or features.shape[1] != FEATURES or not len(features):
        raise DataError(
            f"{path}: fts has the shape {features.shape}; it has to be examples × {FEATURES}."
        )
    if labels.size != len(features) or labels.shape not in ((labels.size, 1), (1, labels.size)):
        raise DataError(
            f"{path}: labels of shape {labels.shape} do not fit {len(features)} examples."
        )
    labels = labels.ravel()
    if not np.isin(labels, np.arange(1, CLASSES + 1)).all():
        raise DataError(f"{path}: labels have to be whole numbers from 1 to {CLASSES}.")
    if not np.isfinite(features).all() or (features < 0).any():
        raise DataError(f"{path}: a count in fts is negative or no finite number.")
    return Domain(features.astype(np.float64), labels.astype(np.int64) - 1)
