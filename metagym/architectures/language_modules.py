"""A language model around a recurrent cell, and its training.

Embedding, cell, softmax; truncated backpropagation through time: the text stands in
``batch_size`` columns that are read side by side, ``steps`` symbols at a time, and the state goes
on from one window to the next without its gradient.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from metagym.architectures.children import out_of_memory
from metagym.architectures.language import LanguageRecord, LanguageSettings
from metagym.architectures.recurrent_modules import RecurrentCell, State
from metagym.rl.training import one_thread
from metagym.tasks.text import Text

_LARGEST = 700.0  # nats; the exponential of more is no finite number
MakeCell = Callable[[int, int], RecurrentCell]  # (inputs, width)


class LanguageModel(nn.Module):
    """Symbols in, logits of the next symbols out.

    Args:
        make_cell: ``make_cell(inputs, width)``.
        symbols: how many there are.
        width: of the cell.
        embedding: features of a symbol; None ties the softmax's weights to the embedding's, of
            ``width`` features.
    """

    def __init__(
        self, make_cell: MakeCell, symbols: int, width: int, embedding: int | None = None
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, width if embedding is None else embedding)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.cell = make_cell(self.embedding.embedding_dim, width)
        self.softmax = nn.Linear(width, symbols)
        if embedding is None:
            self.softmax.weight = self.embedding.weight

    def forward(self, symbols: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Symbols [T, batch] and a state to logits [T, batch, symbols] and the state behind."""
        outputs, state = self.cell(self.embedding(symbols), state)
        return self.softmax(outputs), state


def count_parameters(
    make_cell: MakeCell, symbols: int, width: int, embedding: int | None = None
) -> int:
    """Parameters of the ``LanguageModel``, without making room for them."""
    with torch.device("meta"):
        model = LanguageModel(make_cell, symbols, width, embedding)
    return sum(parameter.numel() for parameter in model.parameters())


def solve_width(count: Callable[[int], int], parameters: int) -> int:
    """The width, at least 1, whose ``count(width)``, a growing function, is nearest."""
    low, high = 1, 2
    while count(high) < parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < parameters else (low, middle)
    return min(low, high, key=lambda width: abs(count(width) - parameters))


def perplexity(
    model: LanguageModel, columns: Tensor, steps: int, deadline: float = math.inf
) -> float:
    """exp of the mean negative log-likelihood of columns [N, batch], each read from state zero.

    Raises:
        _DivergedError: it is not finite.
        TimeoutError: ``time.perf_counter()`` passes the deadline.
    """
    state: State | None = None
    total, count = 0.0, 0
    with torch.inference_mode():
        for symbols, following in _windows(columns, steps):
            logits, state = model(symbols, state)
            total += float(_loss(logits, following)) * following.numel()
            count += following.numel()
            _check_time(deadline)
    if not total / count < _LARGEST:
        raise _DivergedError
    return math.exp(total / count)


def train(make_cell: MakeCell, text: Text, settings: LanguageSettings, seed: int) -> LanguageRecord:
    """Train a language model on one thread; what became of it.

    The learning rate falls linearly to 0. The model is scored on validation data after each epoch
    and at the end, and the best of these scores counts, with the test score of the same weights.
    A model that diverges or exceeds a limit is a record too, with the status that says so.
    """
    start = time.perf_counter()
    deadline = math.inf if settings.max_seconds is None else start + settings.max_seconds
    embedding = None if settings.tied else settings.embedding

    def count(width: int) -> int:
        return count_parameters(make_cell, len(text.symbols), width, embedding)

    width = settings.width
    if width is None:
        width = solve_width(count, settings.parameters or 1)
    size = count(width)
    curve: list[float] = []
    test: float | None = None
    symbols = 0
    status = "too many parameters"
    if settings.max_parameters is None or size <= settings.max_parameters:
        try:
            with one_thread(), torch.random.fork_rng(devices=[]):
                # torch initialises from its global generator.
                torch.manual_seed(seed)
                model = LanguageModel(make_cell, len(text.symbols), width, embedding)
                for seen, validation, held_out in _epochs(model, text, settings, deadline):
                    symbols = seen
                    curve.append(validation)
                    if validation == min(curve):
                        test = held_out()
            status = "trained"
        except _DivergedError:
            status = "diverged"
        except TimeoutError:
            status = "too slow"
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            status = "out of memory"
    good = status == "trained"
    seconds = time.perf_counter() - start
    return LanguageRecord(
        status, min(curve) if good else None, test if good else None, width, size, symbols, seconds,
        tuple(curve),
    )  # fmt: skip


class _DivergedError(Exception):
    """A number is not finite."""


def _epochs(
    model: LanguageModel, text: Text, settings: LanguageSettings, deadline: float
) -> Iterator[tuple[int, float, Callable[[], float]]]:
    """Train; after each epoch and at the end: symbols read, validation perplexity, and a function
    for the test perplexity.

    Raises:
        _DivergedError, TimeoutError: training cannot go on.
    """
    model.to(settings.device)
    limit = settings.max_evaluation_symbols
    validation, held_out = (
        functools.partial(perplexity, model, _columns(part[:limit], settings), settings.steps)
        for part in (text.validation, text.test)
    )
    windows = list(_windows(_columns(text.train, settings), settings.steps))
    updates = settings.epochs * len(windows)
    if settings.max_symbols is not None:
        updates = min(updates, -(-settings.max_symbols // windows[0][0].numel()))
    kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    optimizer = kinds[settings.optimizer](model.parameters(), lr=settings.learning_rate)
    state: State | None = None
    seen = 0
    for update in range(updates):
        symbols, following = windows[update % len(windows)]
        if update % len(windows) == 0:
            state = None
            model.train()
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (1 - update / updates)
        logits, state = model(symbols, state)
        state = tuple(part.detach() for part in state)
        loss = _loss(logits, following)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        if not math.isfinite(loss.item() + norm.item()):
            raise _DivergedError
        optimizer.step()
        seen += symbols.numel()
        _check_time(deadline)
        if (update + 1) % len(windows) == 0 or update + 1 == updates:
            model.eval()
            yield seen, validation(deadline), functools.partial(held_out, deadline)


def _columns(part: np.ndarray, settings: LanguageSettings) -> Tensor:
    """[N, batch]: as many columns of equal length as the part has room for, at most batch_size."""
    batch = max(1, min(settings.batch_size, len(part) // 2))
    cut = len(part) // batch * batch
    return torch.from_numpy(part[:cut].reshape(batch, -1).T.copy()).to(settings.device)


def _windows(columns: Tensor, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Symbols [steps, batch] and those that follow them; the last window may be shorter."""
    for start in range(0, len(columns) - 1, steps):
        end = min(start + steps, len(columns) - 1)
        yield columns[start:end], columns[start + 1 : end + 1]


def _loss(logits: Tensor, following: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), following.flatten())


def _check_time(deadline: float) -> None:
    if time.perf_counter() > deadline:
        raise TimeoutError
