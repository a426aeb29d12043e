"""SearchSpace: the strings that are architectures, one token after the other.

A space of your own needs ``vocabulary``, ``length``, ``mask``, ``to_string``, ``from_string`` and
``build``; sampling, mutation, neighbours and the checks of tokens follow from the masks. Its
``name`` is that of the class in lower case, unless it says another. For one hidden layer:

    >>> from metagym.architectures import PAD, SearchSpace
    >>> class Hidden(SearchSpace):
    ...     vocabulary, length = ("16", "64", "tanh", "relu"), 2
    ...
    ...     def mask(self, tokens):
    ...         table = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]], dtype=bool)
    ...         return table[(tokens != PAD).sum(axis=1)]
    ...
    ...     def to_string(self, tokens):
    ...         return " ".join(self.vocabulary[token] for token in tokens if token != PAD)
    ...
    ...     def from_string(self, text):
    ...         words = [self.vocabulary.index(word) for word in text.split()]
    ...         return self.check(np.array([words]))[0]
    ...
    ...     def build(self, tokens, input_shape, outputs):
    ...         from torch import nn
    ...
    ...         width, activation = self.to_string(tokens).split()
    ...         act = {"tanh": nn.Tanh, "relu": nn.ReLU}[activation]()
    ...         hidden = nn.Linear(int(np.prod(input_shape)), int(width))
    ...         return nn.Sequential(nn.Flatten(), hidden, act, nn.Linear(int(width), outputs))
    >>> space = Hidden()
    >>> space.name
    'hidden'
    >>> [space.to_string(row) for row in space.neighbours(space.from_string("16 relu"))]
    ['64 relu', '16 tanh']
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from metagym.architectures.graph import Graph, Node
from metagym.errors import InvalidArgumentError

if TYPE_CHECKING:
    from torch import nn

PAD = -1  # a token that has not been chosen


class SearchSpace(ABC):
    """Which token may follow which, and what the finished strings mean.

    Tokens are int64 arrays [B, length] (or [length] where one architecture is meant), filled from
    the left, PAD behind the last token.

    Attributes:
        name: of the space; the class's own name in lower case where it gives none.
        vocabulary: what each of the V tokens means.
        length: the most tokens of an architecture.
    """

    name: str
    vocabulary: tuple[str, ...]
    length: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            cls.name = cls.__name__.lower()

    @abstractmethod
    def mask(self, tokens: np.ndarray) -> np.ndarray:
        """The tokens that may come next, bool [B, V]; none where an architecture is complete.

        Every string that follows the masks ends in a valid architecture.
        """

    @abstractmethod
    def to_string(self, tokens: np.ndarray) -> str:
        """The architecture [length] in the notation of its literature; a partial one too."""

    @abstractmethod
    def from_string(self, text: str) -> np.ndarray:
        """The tokens [length] of a complete architecture.

        Raises:
            InvalidArgumentError: the text is no architecture of this space; it says where.
        """

    @abstractmethod
    def build(self, tokens: np.ndarray, *args: Any, **kwargs: Any) -> nn.Module:
        """The module of a complete architecture; what it is given besides is the space's affair."""

    def strings(self, tokens: np.ndarray) -> np.ndarray:
        """``to_string`` of many rows [B, length]: an object array [B]."""
        strings = np.empty(len(tokens), dtype=object)
        strings[:] = [self.to_string(row) for row in tokens]
        return strings

    def canonical(self, tokens: np.ndarray) -> str:
        """A key that is the same for two complete architectures that compute the same.

        Two keys may differ for equal functions, never the other way round, unless a space follows
        a published rule and says so. The string itself, unless a space knows better.
        """
        return self.to_string(tokens)

    def graph(self, tokens: np.ndarray) -> Graph:
        """What to draw; partial architectures too. The tokens in a row, unless a space has more."""
        nodes = tuple(Node(self.vocabulary[token]) for token in tokens if token != PAD)
        return Graph(nodes, tuple((i, i + 1, "") for i in range(len(nodes) - 1)))

    # -- what follows from the masks -----------------------------------------------------------

    def empty(self, count: int) -> np.ndarray:
        """Strings without a token, [count, length]."""
        return np.full((count, self.length), PAD, dtype=np.int64)

    def finished(self, tokens: np.ndarray) -> np.ndarray:
        """Which strings are complete, bool [B]."""
        return np.logical_not(self.mask(tokens).any(axis=1))

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Complete architectures [count, length].

        Every token is uniform among those allowed, which is uniform over strings where the number
        of choices does not depend on the choices before. A space where it does says so, or draws
        in another way.
        """
        tokens = self.empty(count)
        self._complete(tokens, rng, None)
        return tokens

    def mutate(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Each architecture [B, length] with one token changed to another that is allowed there.

        Behind the change, old tokens stay where the masks still allow them and are drawn anew
        where they do not. Rows where no token has an alternative stay as they are.
        """
        tokens = self.check(tokens)
        used = tokens != PAD
        choices = np.zeros((len(tokens), self.length), dtype=bool)
        allowed = np.zeros((len(tokens), self.length, len(self.vocabulary)), dtype=bool)
        prefix = self.empty(len(tokens))
        for t in range(self.length):
            allowed[:, t] = self.mask(prefix)
            choices[:, t] = used[:, t] & (allowed[:, t].sum(axis=1) > 1)
            prefix[:, t] = tokens[:, t]
        changes = np.asarray(choices.any(axis=1))
        places = _draw(choices | ~changes[:, None], rng)
        rows = np.arange(len(tokens))
        others = allowed[rows, places]
        others[rows, tokens[rows, places]] = False
        drawn = _draw(others | ~changes[:, None], rng)
        kept = ~changes[:, None] | (np.arange(self.length) < places[:, None])
        mutated = np.where(kept, tokens, PAD)
        mutated[rows[changes], places[changes]] = drawn[changes]
        self._complete(mutated, rng, tokens)
        return mutated

    def neighbours(self, tokens: np.ndarray) -> np.ndarray:
        """The architectures [N, length] around one [length], each once and without itself.

        There is one for every token that could be another: behind the change, old tokens stay
        where the masks still allow them, and the first token that is allowed comes where they do
        not. So every architecture is within ``length`` such steps of every other one. A space
        whose layers come and go may know better neighbours, but must keep the ways open.
        """
        tokens = self.check(np.asarray(tokens)[None])[0]
        changed, places = self._with_one_token_changed(tokens)
        near = np.where(np.arange(self.length) <= places[:, None], changed, PAD)
        self._complete(near, None, changed)
        return near

    def _with_one_token_changed(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[length] with one token changed to another that is allowed there, and where [N].

        The tokens behind the change are the old ones, whether or not they may follow.
        """
        used = np.flatnonzero(tokens != PAD)
        before = np.where(np.arange(self.length) < used[:, None], tokens, PAD)
        allowed = np.array(self.mask(before))
        allowed[np.arange(len(used)), tokens[used]] = False
        places, others = np.nonzero(allowed)
        changed = np.repeat(tokens[None], len(places), axis=0)
        changed[np.arange(len(places)), used[places]] = others
        return changed, used[places]

    def valid(self, tokens: np.ndarray) -> np.ndarray:
        """Which rows [B, length] are complete architectures, bool [B]."""
        tokens = np.asarray(tokens)
        good = np.ones(len(tokens), dtype=bool)
        prefix = self.empty(len(tokens))
        rows = np.arange(len(tokens))
        for t in range(self.length):
            allowed = self.mask(prefix)
            chosen = (tokens[:, t] >= 0) & (tokens[:, t] < len(self.vocabulary))
            follows = chosen & allowed[rows, np.where(chosen, tokens[:, t], 0)]
            good &= np.where(allowed.any(axis=1), follows, tokens[:, t] == PAD)
            # A row that went wrong ends there: masks are only asked about strings without gaps.
            prefix[:, t] = np.where(follows & good, tokens[:, t], PAD)
        return np.logical_and(good, self.finished(prefix))

    def check(self, tokens: np.ndarray) -> np.ndarray:
        """``tokens`` [B, length] as int64.

        Raises:
            InvalidArgumentError: the shape or type is wrong, or a row is no complete architecture.
        """
        array = np.asarray(tokens)
        if array.ndim != 2 or array.shape[1] != self.length or array.dtype.kind not in "iu":
            raise InvalidArgumentError(
                f"Architectures of the space {self.name!r} are whole numbers [B, {self.length}], "
                f"not {array.dtype} {list(array.shape)}."
            )
        if len(wrong := np.flatnonzero(~self.valid(array))):
            row = int(wrong[0])
            raise InvalidArgumentError(
                f"Row {row} is no complete architecture of the space {self.name!r}: "
                f"{array[row].tolist()}."
            )
        return array.astype(np.int64)

    def _complete(
        self, tokens: np.ndarray, rng: np.random.Generator | None, wish: np.ndarray | None
    ) -> None:
        """Fill the strings from their first PAD on, with the tokens of ``wish`` where allowed.

        Elsewhere a token is drawn; without ``rng`` the first one that is allowed is taken.
        """
        rows = np.arange(len(tokens))
        for t in range(self.length):
            allowed = self.mask(tokens)
            due = (tokens[:, t] == PAD) & allowed.any(axis=1)
            drawn = allowed.argmax(axis=1) if rng is None else _draw(allowed | ~due[:, None], rng)
            if wish is not None:
                wanted = np.where(wish[:, t] >= 0, wish[:, t], 0)
                drawn = np.where((wish[:, t] >= 0) & allowed[rows, wanted], wanted, drawn)
            tokens[:, t] = np.where(due, drawn, tokens[:, t])


def _draw(allowed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One index per row, uniform among those that are allowed: [B]."""
    return np.asarray(np.where(allowed, rng.random(allowed.shape), -1.0).argmax(axis=1))
