"""Search spaces, and what is drawn from them."""

from __future__ import annotations

import pytest

from metagym.agents.optimizers import GRIDS, RULES
from metagym.errors import InvalidArgumentError
from metagym.leaderboard.tuning import (
    FIELD_DEFAULTS,
    check_space,
    draw_settings,
    with_arguments,
)
from metagym.loading import load_agent


def test_draws_are_different_seeded_and_at_most_all():
    space = {"lr": [1, 2, 3], "momentum": ["a", None]}
    drawn = draw_settings(space, 4, seed=0)
    assert len({tuple(setting.items()) for setting in drawn}) == 4
    assert drawn == draw_settings(space, 4, seed=0) != draw_settings(space, 4, seed=1)
    everything = draw_settings(space, 100, seed=0)
    assert len({tuple(setting.items()) for setting in everything}) == len(everything) == 6


@pytest.mark.parametrize("name", RULES)
def test_hand_designed_rules_have_one_setting_for_all_tasks_and_a_grid(name):
    agent = load_agent(with_arguments(name, FIELD_DEFAULTS[name]))
    assert FIELD_DEFAULTS[name].items() <= agent.config.items()
    for setting in draw_settings(GRIDS[name], 3, seed=0):
        assert setting.items() <= load_agent(with_arguments(name, setting)).config.items()


def test_arguments_join_those_that_are_there():
    assert with_arguments("adam", {}) == "adam"
    assert with_arguments("adam", {"lr": 0.1, "x": None}) == "adam:lr=0.1,x=null"
    assert with_arguments("a.b:Agent:depth=3", {"lr": 0.1}) == "a.b:Agent:depth=3,lr=0.1"
    assert with_arguments("a.b:Agent", {"lr": 0.1}) == "a.b:Agent:lr=0.1"


@pytest.mark.parametrize("space", [[], {}, {"lr": 0.1}, {"lr": []}, {"lr": [[1]]}, None])
def test_what_is_no_space_is_refused(space):
    with pytest.raises(InvalidArgumentError, match="search space"):
        check_space(space)
