"""LanguageModelEvaluator: how good a recurrent cell is at predicting the next symbol of a text.

The reward is Zoph & Le's (2017), c / perplexity² on validation data.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from metagym.architectures import make_space
from metagym.architectures.cache import Record, ResultCache, fingerprint
from metagym.architectures.children import (
    Child,
    ChildEvaluator,
    check_seed,
    child_seed,
    make_settings,
)
from metagym.architectures.evaluator import Evaluation
from metagym.architectures.recurrent import RecurrentSpace
from metagym.architectures.space import SearchSpace
from metagym.errors import (
    InvalidArgumentError,
    check_above_zero,
    check_bool,
    check_choice,
    check_positive,
    nearest,
)
from metagym.tasks.text import Text, load_ptb, load_sklearn, load_text

if TYPE_CHECKING:
    from metagym.architectures.recurrent_modules import RecurrentCell

OPTIMIZERS = ("adam", "sgd")
TEXTS: dict[str, Callable[..., Text]] = {
    "sklearn": load_sklearn,
    "ptb": functools.partial(load_ptb, None),
}
_VERSION = 1  # of what training does; part of the fingerprint


@dataclass(frozen=True)
class LanguageSettings:
    """How the child is made and trained; either ``width`` or ``parameters`` is given.

    Attributes:
        width: of the cell.
        parameters: of the whole child, to which the width is chosen that comes nearest.
        embedding: features of a symbol; of no account where ``tied``.
        tied: the softmax has the embedding's weights, which then has as many features as the cell.
        bias: whether found cells have biases, as torch's own have.
        optimizer: "adam" or "sgd".
        learning_rate: at the start; it falls linearly to 0.
        clip: the largest norm of a gradient.
        batch_size: columns of text that are read side by side.
        steps: symbols through which a gradient goes back.
        epochs: over the training text.
        max_symbols: of the training text that are read in all; None: as many as the epochs have.
        max_evaluation_symbols: of the validation and the test text, from their beginning; None:
            all.
        max_seconds: the time of one child; None: no limit. A child that takes longer scores 0,
            so that scores only depend on the machine where children come near the limit.
        max_parameters: a child with more scores 0; None: no limit.
        device: where children are trained: "cpu", "cuda", "cuda:1" and so on; "auto" is a GPU
            where there is one.
    """

    width: int | None = None
    parameters: int | None = None
    embedding: int = 32
    tied: bool = False
    bias: bool = True
    optimizer: str = "adam"
    learning_rate: float = 0.01
    clip: float = 1.0
    batch_size: int = 32
    steps: int = 35
    epochs: int = 1
    max_symbols: int | None = None
    max_evaluation_symbols: int | None = None
    max_seconds: float | None = None
    max_parameters: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if (self.width is None) == (self.parameters is None):
            raise InvalidArgumentError(
                f"Give either width or parameters, not width={self.width!r} and "
                f"parameters={self.parameters!r}."
            )
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_bool("tied", self.tied)
        check_bool("bias", self.bias)
        for name in ("embedding", "batch_size", "steps", "epochs"):
            check_positive(name, getattr(self, name))
        for name in (
            "width", "parameters", "max_symbols", "max_evaluation_symbols", "max_parameters",
        ):  # fmt: skip
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        for name in ("learning_rate", "clip", "max_seconds"):
            if getattr(self, name) is not None:
                check_above_zero(name, getattr(self, name))


DEFAULT_SETTINGS = LanguageSettings(
    width=32, learning_rate=0.02, steps=20, epochs=3, max_symbols=90_000,
    max_evaluation_symbols=20_000,
)  # fmt: skip


@dataclass(frozen=True)
class LanguageRecord:
    """What became of one child.

    Attributes:
        status: "trained", or why it scores 0: "diverged", "too slow", "too many parameters",
            "out of memory" or "killed" (of which nothing else is known).
        validation_perplexity: the best of its epochs; None where it was not trained to the end.
        test_perplexity: of the same weights.
        width: of the cell.
        parameters: of the whole child.
        symbols: of the training text that it read.
        seconds: that it took, evaluation included.
        curve: the validation perplexity after each epoch.
    """

    status: str
    validation_perplexity: float | None
    test_perplexity: float | None
    width: int
    parameters: int
    symbols: int
    seconds: float
    curve: tuple[float, ...]


class LanguageModelEvaluator(ChildEvaluator):
    """Trains recurrent cells as language models of a text.

    Isomorphic architectures are trained as one: their common representative. The same architecture
    and seed give the same perplexities, on one machine with one number of threads.

    Args:
        space: of the cells, or its name.
        text: "sklearn", the descriptions of scikit-learn's data sets (``load_sklearn``), which are
            on every machine; "ptb", the Penn Treebank in the folder METAGYM_DATA (``load_ptb``);
            the path of a text file, for ``load_text``, or of a folder, for ``load_ptb``; or a
            ``Text``.
        settings: of the children, or a dict of them, complete either way; None:
            ``DEFAULT_SETTINGS``, small children that take a second or two on one core.
        level: "character" or "word", of a text that is not a ``Text`` yet.
        constant: c of the reward c / perplexity²; None: the square of the perplexity of symbol
            frequencies alone (``Text.unigram_perplexity``), so that a child that has learnt
            no more than these has a reward of 1, and twice as low a perplexity gives 4.
        cache: a ``ResultCache`` or the path of one, which keeps records between processes; None:
            in memory only.
        seed: of initial weights, together with the architecture's key.
        workers, pool, address: who trains children at once; see ``TrainingEvaluator``.

    Attributes:
        fingerprint: of everything that the results depend on, but for the code that builds cells.

    Raises:
        InvalidArgumentError: an argument cannot work.
        DataError: the text or the cache cannot be read.
    """

    name = "language"
    reward_name = "c / validation perplexity²"
    test_name = "c / test perplexity²"

    def __init__(
        self,
        space: SearchSpace | str,
        text: Text | str | os.PathLike[str] = "sklearn",
        settings: LanguageSettings | Mapping[str, Any] | None = None,
        *,
        level: str = "character",
        constant: float | None = None,
        cache: ResultCache | str | os.PathLike[str] | None = None,
        seed: int = 0,
        workers: int = 0,
        pool: str = "processes",
        address: str | None = None,
    ) -> None:
        settings = DEFAULT_SETTINGS if settings is None else settings
        settings = make_settings("settings", LanguageSettings, settings)
        super().__init__(cache, workers, pool, address, settings.device)
        self.settings = settings = dataclasses.replace(settings, device=self.device)
        self.space: RecurrentSpace = _check_space(make_space(space))
        if constant is not None:
            check_above_zero("constant", constant)
        self.text = text = _text(text, level)
        self.constant = text.unigram_perplexity() ** 2 if constant is None else float(constant)
        self.seed = check_seed(seed)
        self.fingerprint = fingerprint(
            evaluator=self.name, version=_VERSION, text=text.digest, seed=self.seed,
            settings=dataclasses.asdict(settings),
        )  # fmt: skip

    def evaluate(self, tokens: np.ndarray, seeds: np.ndarray | None = None) -> Evaluation:
        """Train the architectures [B, length], or look them up; ``seeds`` are not used.

        The rewards are c / perplexity², 0 for a child that failed; ``test`` is the same of the
        test text. The cost is the seconds that a training took when it was done.
        """
        children = [self._child(row) for row in self.space.check(tokens)]
        self._train(children)
        records = [_record(self._known[child.key]) for child in children]
        return Evaluation(
            np.array([self.score(record.validation_perplexity) for record in records]),
            np.array([self.score(record.test_perplexity) for record in records]),
            np.array([record.seconds for record in records]),
        )

    @property
    def records(self) -> dict[str, LanguageRecord]:
        """The records of this evaluator's children, by key."""
        return {key: _record(record) for key, record in self._known.items()}

    def record(self, tokens: np.ndarray) -> LanguageRecord:
        """What became of one architecture [length], trained in this process if it is new."""
        child = self._child(tokens)
        return self.fit(child.key, functools.partial(_build, child.tokens, self._task()))

    def fit(self, key: str, make_cell: Callable[[int, int], RecurrentCell]) -> LanguageRecord:
        """Train any cell in this process, or look it up.

        Args:
            key: names the cell in ``records`` and in the cache.
            make_cell: ``make_cell(inputs, width)``.
        """
        if not self._knows(key):
            self._keep(key, _train(key, make_cell, self._task()))
        return _record(self._known[key])

    def score(self, perplexity: float | None) -> float:
        """c / perplexity²; 0 for None."""
        return 0.0 if perplexity is None else self.constant / perplexity**2

    def _child(self, tokens: np.ndarray) -> Child:
        """With the tokens that are trained for all that compute the same."""
        chosen = self.space.representative(tokens)
        string = self.space.to_string(chosen)
        return Child(f"{self.space.name}: {string}", chosen, string)

    def _task(self) -> _Task:
        return _Task(self.space, self.text, self.settings, self.seed)

    def _work(self) -> tuple[Callable[[Child, Any], Record], Any]:
        return _train_child, self._task()

    def _killed(self, child: Child) -> Record:
        return dataclasses.asdict(LanguageRecord("killed", None, None, 0, 0, 0, 0.0, ()))


class _Task(NamedTuple):
    """What the training of a child needs besides its architecture."""

    space: RecurrentSpace
    text: Text
    settings: LanguageSettings
    seed: int


def _train_child(child: Child, task: _Task) -> Record:
    return _train(child.key, functools.partial(_build, child.tokens, task), task)


def _train(key: str, make_cell: Callable[[int, int], RecurrentCell], task: _Task) -> Record:
    from metagym.architectures.language_modules import train

    record = train(make_cell, task.text, task.settings, child_seed(task.seed, key))
    return dataclasses.asdict(record)


def _build(tokens: np.ndarray, task: _Task, inputs: int, width: int) -> RecurrentCell:
    return task.space.build(tokens, inputs, width, task.settings.bias)


def _record(stored: Mapping[str, Any]) -> LanguageRecord:
    """Of what is kept, which a cache gives back as JSON holds it."""
    return LanguageRecord(**{**stored, "curve": tuple(stored["curve"])})


def _text(text: Text | str | os.PathLike[str], level: str) -> Text:
    if isinstance(text, Text):
        return text
    if isinstance(text, str) and text in TEXTS:
        return TEXTS[text](level)
    if not isinstance(text, str | os.PathLike) or not Path(text).exists():
        raise InvalidArgumentError(
            f"text={text!r} is neither one of {', '.join(map(repr, TEXTS))} nor the path of a text "
            f"file or of the Penn Treebank's folder.{nearest(str(text), TEXTS)}"
        )
    return load_ptb(text, level) if Path(text).is_dir() else load_text(text, level)


def _check_space(space: SearchSpace) -> RecurrentSpace:
    if not isinstance(space, RecurrentSpace):
        raise InvalidArgumentError(
            f"The space {space.name!r} is not one of recurrent cells, which language models are "
            "made of; use 'recurrent' or 'enas_recurrent', or score it with evaluator='train'."
        )
    return space
