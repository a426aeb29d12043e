"""Texts for language models: files of characters or words as arrays of symbols.

The symbols are those of the training part alone; symbol 0, ``<unk>``, stands for all others.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metagym.errors import DataError, InvalidArgumentError, check_choice, check_positive

LEVELS = ("character", "word")
UNKNOWN = "<unk>"
END_OF_LINE = "<eos>"


@dataclass(frozen=True, eq=False)
class Text:
    """A text in three parts.

    Attributes:
        level: "character" or "word".
        symbols: what each number stands for; the first is ``<unk>``.
        train, validation, test: the parts in order of reading, int64 [N] each.
    """

    level: str
    symbols: tuple[str, ...]
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @functools.cached_property
    def digest(self) -> str:
        """A checksum of symbols and parts."""
        hasher = hashlib.sha256("\0".join(self.symbols).encode())
        for part in (self.train, self.validation, self.test):
            hasher.update(len(part).to_bytes(8, "little") + part.astype("<i8").tobytes())
        return hasher.hexdigest()

    def unigram_perplexity(self) -> float:
        """Perplexity on the validation part of knowing how frequent each symbol is in training.

        Every symbol counts once more than it is there, so that none is impossible.
        """
        counts = np.bincount(self.train, minlength=len(self.symbols)) + 1.0
        return float(np.exp(-np.log(counts / counts.sum())[self.validation].mean()))


def make_text(
    train: str, validation: str, test: str, level: str = "character", min_count: int = 1
) -> Text:
    """A text from three strings.

    White space at both ends of a line or part is dropped. Of words, each line ends in ``<eos>``.

    Args:
        train, validation, test: the parts.
        level: "character" or "word"; words stand between white space.
        min_count: symbols that are rarer in ``train`` become ``<unk>``.

    Raises:
        InvalidArgumentError: an unknown level, or a bad ``min_count``.
        DataError: a part has fewer than two symbols.
    """
    check_choice("level", level, LEVELS)
    check_positive("min_count", min_count)
    parts = [_symbols(part, level) for part in (train, validation, test)]
    for name, part in zip(("train", "validation", "test"), parts, strict=True):
        if len(part) < 2:
            raise DataError(f"The {name} part of the text has fewer than two {level}s.")
    counts = Counter(parts[0])
    kept = sorted(symbol for symbol, n in counts.items() if n >= min_count and symbol != UNKNOWN)
    numbers = {symbol: number for number, symbol in enumerate(kept, 1)}
    arrays = [np.array([numbers.get(symbol, 0) for symbol in part], np.int64) for part in parts]
    for array in arrays:
        array.flags.writeable = False
    return Text(level, (UNKNOWN, *kept), *arrays)


def load_text(
    path: str | os.PathLike[str],
    level: str = "character",
    min_count: int = 1,
    shares: tuple[float, float] = (0.8, 0.1),
) -> Text:
    """A text file (UTF-8), cut into three parts between lines.

    Args:
        path: the file.
        level, min_count: see ``make_text``.
        shares: of the lines that train and validate, in this order; the rest tests.

    Raises:
        InvalidArgumentError: the shares are not positive or leave no rest.
        DataError: the file cannot be read or is too short.
    """
    if len(shares) != 2 or min(shares) <= 0 or sum(shares) >= 1:
        raise InvalidArgumentError(f"shares={shares!r} have to be two above 0 with a sum below 1.")
    lines = _read(Path(path)).strip().splitlines()
    first, second = (int(len(lines) * share) for share in (shares[0], sum(shares)))
    train, validation, test = (
        "\n".join(part) for part in (lines[:first], lines[first:second], lines[second:])
    )
    return make_text(train, validation, test, level, min_count)


def load_sklearn(level: str = "character", min_count: int = 1) -> Text:
    """Scikit-learn's own descriptions of its data sets: English with tables, on every machine.

    The descriptions follow each other in the order of their names. Of every seven paragraphs five
    train, the sixth validates and the seventh tests, so that the three parts are about the same
    things. The texts are those of the installed scikit-learn and may change with its version
    (``Text.digest`` tells).

    Args:
        level, min_count: see ``make_text``.

    Raises:
        DataError: scikit-learn comes without them.
    """
    # Found without an import of scikit-learn, which takes a second.
    package = importlib.util.find_spec("sklearn")
    places = () if package is None else package.submodule_search_locations or ()
    files = [file for place in places for file in Path(place).glob("datasets/descr/*.rst")]
    if not files:
        raise DataError("The installed scikit-learn has no descriptions of data sets.")
    texts = [_read(file).strip() for file in sorted(files, key=lambda file: file.name)]
    paragraphs = re.split(r"\n\s*\n", "\n\n".join(texts))
    parts: tuple[list[str], ...] = ([], [], [])
    for number, paragraph in enumerate(paragraphs):
        parts[max(0, number % 7 - 4)].append(paragraph)
    train, validation, test = ("\n\n".join(part) for part in parts)
    return make_text(train, validation, test, level, min_count)


def load_ptb(
    folder: str | os.PathLike[str] | None = None, level: str = "character", min_count: int = 1
) -> Text:
    """The Penn Treebank without its training text, which many mirrors leave out.

    ``ptb.valid.txt`` is trained on; of the lines of ``ptb.test.txt`` the first half validates and
    the second half tests. Perplexities are so far from those of the literature, which trains on
    the twelve times longer training text and, for characters, writes unknown words in another way.

    Args:
        folder: holds the two files, or a folder ``ptb`` with them; None: the folder that the
            environment variable METAGYM_DATA names.
        level, min_count: see ``make_text``.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    named = folder if folder is not None else os.environ.get("METAGYM_DATA")
    wanted = "ptb.valid.txt and ptb.test.txt"
    if not named:
        raise DataError(f"Set METAGYM_DATA, or pass folder=, to the folder that holds {wanted}.")
    places = [Path(named).expanduser() / "ptb", Path(named).expanduser()]
    found = [place for place in places if (place / "ptb.valid.txt").is_file()]
    if not found:
        raise DataError(
            f"{named} has no ptb.valid.txt (looked in ptb/ and the folder itself). Set "
            f"METAGYM_DATA, or pass folder=, to the folder that holds {wanted}."
        )
    lines = _read(found[0] / "ptb.test.txt").strip().splitlines()
    half = len(lines) // 2
    validation, test = ("\n".join(part) for part in (lines[:half], lines[half:]))
    return make_text(_read(found[0] / "ptb.valid.txt"), validation, test, level, min_count)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is no text in UTF-8 ({error.reason}, byte {error.start})."
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path.") from None


def _symbols(text: str, level: str) -> list[str]:
    lines = [line.strip() for line in text.strip().splitlines()]
    if level == "character":
        return list("\n".join(lines))
    return [word for line in lines for word in (*line.split(), END_OF_LINE)]
