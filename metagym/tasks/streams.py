"""Where tasks are drawn and where they lie: a stream of random numbers per split, a device."""

from __future__ import annotations

import torch

from metagym.core.task import SPLITS
from metagym.errors import InvalidArgumentError, check_choice


def split_stream(generator: torch.Generator, split: str) -> torch.Generator:
    """A new generator, seeded from one draw of ``generator``, that no other split ever gets.

    The split is in the two lowest bits of the seed, so that generators in the same state give
    each split a stream of its own. Only 32 bits of a seed count on a CPU. With a generator on a
    GPU, the draw is waited for.

    Raises:
        InvalidArgumentError: there is no such split.
    """
    number = SPLITS.index(check_choice("split", split, SPLITS))
    seed = torch.randint(2**30, (), generator=generator, device=generator.device)
    return torch.Generator(generator.device).manual_seed(4 * int(seed) + number)


def choose_device(name: str | torch.device) -> torch.device:
    """The device called ``name``; "auto" is a GPU where there is one.

    Raises:
        InvalidArgumentError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidArgumentError(
            f"device={name!r} cannot be used here ({reason}); 'auto' and 'cpu' always can."
        ) from None
    return device
