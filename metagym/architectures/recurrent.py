"""RecurrentSpace: what the spaces of recurrent cells share.

Their strings have one length, and what may stand at a place depends on the place alone. So masks
are rows of a table, and the sampling of the base class is uniform over architectures.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from metagym.architectures.space import PAD, SearchSpace
from metagym.architectures.tokens import check_text
from metagym.errors import InvalidArgumentError, nearest

if TYPE_CHECKING:
    from metagym.architectures.recurrent_modules import RecurrentCell


class RecurrentSpace(SearchSpace):
    """Recurrent cells of one length, whose choices depend on the place alone.

    Args:
        vocabulary: what each token means.
        allowed: the tokens that may stand at each place, bool [length, V].
        words: how each token is written; None: as in the vocabulary. Two tokens that are allowed
            at the same place need different words.
        template: the notation: None for each token, and the words that stand between them.
    """

    def __init__(
        self,
        vocabulary: tuple[str, ...],
        allowed: np.ndarray,
        words: tuple[str, ...] | None = None,
        template: tuple[str | None, ...] | None = None,
    ) -> None:
        self.vocabulary = vocabulary
        self.length = len(allowed)
        self._allowed = np.concatenate([allowed, np.zeros_like(allowed[:1])])
        self._words = words if words is not None else vocabulary
        self._template = template if template is not None else (None,) * self.length

    @abstractmethod
    def build(
        self, tokens: np.ndarray, inputs: int, width: int, bias: bool = True
    ) -> RecurrentCell:
        """The cell of a complete architecture [length], with fresh weights.

        Args:
            tokens: the architecture.
            inputs: features of x(t).
            width: features of h(t).
            bias: with biases, as torch's cells have; the papers have none.
        """

    def representative(self, tokens: np.ndarray) -> np.ndarray:
        """One architecture [length] for all that compute the same up to an order of the weights.

        The architecture itself, unless a space knows better.
        """
        return np.asarray(self.check(np.asarray(tokens)[None])[0])

    def canonical(self, tokens: np.ndarray) -> str:
        """The string of the representative."""
        return self.to_string(self.representative(tokens))

    def mask(self, tokens: np.ndarray) -> np.ndarray:
        places = np.count_nonzero(np.asarray(tokens) != PAD, axis=1)
        return np.asarray(self._allowed[places])

    def to_string(self, tokens: np.ndarray) -> str:
        given = iter(self._given(tokens))
        written, between = [], []
        for literal in self._template:
            if literal is not None:
                between.append(literal)
                continue
            token = next(given, None)
            if token is None:
                break
            written += [*between, self._words[token]]
            between = []
        return " ".join(written).replace(" ,", ",")

    def from_string(self, text: str) -> np.ndarray:
        words = re.findall(r"[,/]|[^\s,/]+", check_text(text))
        tokens: list[int] = []
        for number, literal in enumerate(self._template):
            word = words[number] if number < len(words) else ""
            if literal is not None:
                choices = {literal: PAD}
            else:
                here = np.flatnonzero(self._allowed[len(tokens)])
                choices = {self._words[token]: int(token) for token in here}
            if word not in choices:
                raise InvalidArgumentError(
                    f"{text!r} is no architecture of the space {self.name!r}: "
                    + (f"{word!r} stands" if word else "it ends")
                    + f" where word {number + 1} has to be one of "
                    f"{', '.join(map(repr, choices))}.{nearest(word, choices)}"
                )
            if literal is None:
                tokens.append(choices[word])
        if len(words) > len(self._template):
            raise InvalidArgumentError(
                f"{text!r} is no architecture of the space {self.name!r}: it goes on with "
                f"{words[len(self._template)]!r} behind its {self.length} tokens."
            )
        return np.array(tokens, dtype=np.int64)

    def _given(self, tokens: np.ndarray) -> list[int]:
        """The tokens before the first PAD, each of them checked."""
        array = np.asarray(tokens)
        if array.shape != (self.length,) or array.dtype.kind not in "iu":
            raise InvalidArgumentError(
                f"An architecture of the space {self.name!r} is whole numbers [{self.length}], "
                f"not {array.dtype} {list(array.shape)}."
            )
        count = int(np.argmax(array == PAD)) if (array == PAD).any() else self.length
        for place, token in enumerate(array.tolist()):
            inside = 0 <= token < len(self.vocabulary) and self._allowed[place, token]
            if not (inside if place < count else token == PAD):
                choices = np.flatnonzero(self._allowed[place]).tolist()
                raise InvalidArgumentError(
                    f"Token {token} at place {place} is not allowed in the space {self.name!r}; "
                    f"allowed are {choices}, or {PAD} there and at all places behind."
                )
        return [int(token) for token in array[:count]]
