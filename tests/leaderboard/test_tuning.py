"""Search spaces, and what is drawn from them."""

from __future__ import annotations

import pytest

from metagym.agents.optimizers import GRIDS, RULES
from metagym.errors import InvalidArgumentError
from metagym.leaderboard.tuning import (
    FIELD_DEFAULTS,
    check_space,
    check_untuned,
    draw_settings,
    fault_of,
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


def test_what_has_defaults_takes_no_arguments_where_nothing_may_be_tuned():
    for agent in ("adam", "ppo:learning_rate=0.1", "my_agents:Mine:lr=0.1"):
        check_untuned(agent)
    with pytest.raises(InvalidArgumentError, match=r"adam has the field's defaults, {'lr': 0\.001"):
        check_untuned("adam:lr=0.3")


SPACE = {"lr": [0.1, 0.2, 0.3]}
RECORD = {
    "space": SPACE, "split": "train", "seed": 4, "steps": 10, "seconds": 0.5,
    "trials": [
        {"setting": {"lr": 0.3}, "score": 2.0}, {"setting": {"lr": 0.1}, "score": 1.0},
        {"setting": {"lr": 0.2}, "error": "it broke"},
    ],
    "chosen": {"lr": 0.1},
}  # fmt: skip


def fault(record, *, trials=5, minimize=True) -> str:
    return fault_of(record, SPACE, trials, 4, minimize)


def test_a_record_says_what_was_tried_and_that_the_best_was_taken():
    assert fault(RECORD) == ""
    assert "chosen is not the best" in fault(RECORD, minimize=False)
    assert fault({**RECORD, "chosen": {"lr": 0.3}}, minimize=False) == ""
    assert "not 2 different settings" in fault(RECORD, trials=2)
    assert "not 3 different settings" in fault({**RECORD, "trials": RECORD["trials"][:2]})
    assert "not 3 different settings" in fault({**RECORD, "trials": RECORD["trials"][:1] * 3})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("space", {"lr": [0.1]}, "space is not the row's"),
        ("split", "test", "split is not 'train'"),
        ("seed", 3, "seed is not the number of the run"),
        ("chosen", {"lr": 0.2}, "chosen is not the best"),
        ("trials", [{"setting": {"lr": lr}, "score": 1.0} for lr in (0.1, 0.2, 7)],
         "not in the space"),
        ("trials", [{"setting": {"lr": 0.1}, "score": "1"}], "missing or no record"),
        ("trials", [7], "missing or no record"),
        ("trials", "all", "missing or no record"),
        ("seconds", -1.0, "missing or no record"),
        ("extra", 1, "missing or no record"),
    ],
)  # fmt: skip
def test_each_fault_of_a_record_is_named(field, value, message):
    assert message in fault({**RECORD, field: value})


@pytest.mark.parametrize("record", [None, [], "tuned", {}])
def test_what_is_no_record_is_said_to_be_none(record):
    assert "missing or no record" in fault(record)
