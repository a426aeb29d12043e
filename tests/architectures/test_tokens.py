"""Notations of all spaces refuse what no string of theirs can hold."""

from __future__ import annotations

import numpy as np
import pytest

from metagym.architectures import PAD, SPACES, make_space
from metagym.errors import InvalidArgumentError


@pytest.mark.parametrize("name", ["cell201", "nasnet", "recurrent", "enas_recurrent"])
def test_what_no_notation_can_write_is_refused(name):
    space = make_space(name)
    (tokens,) = space.sample(np.random.default_rng(0), 1)
    assert space.to_string(tokens)
    for place, token in ((0, 99), (space.length - 1, len(space.vocabulary)), (0, PAD - 1)):
        wrong = tokens.copy()
        wrong[place] = token
        with pytest.raises(InvalidArgumentError, match=f"the space {name!r}"):
            space.to_string(wrong)
    for wrong in (tokens[:-1], np.append(tokens, 0), tokens[None], tokens + 0.5):
        with pytest.raises(InvalidArgumentError, match=f"the space {name!r} is whole numbers"):
            space.to_string(wrong)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("wrong", [None, 3, np.zeros(6)])
def test_what_is_no_text_is_no_architecture(name, wrong):
    with pytest.raises(InvalidArgumentError, match="read from a text, not from"):
        make_space(name).from_string(wrong)
