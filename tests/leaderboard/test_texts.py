"""Names, agents and urls of rows: what can be, and what a board refuses."""

from __future__ import annotations

import pytest

from metagym.errors import InvalidArgumentError
from metagym.leaderboard.texts import fault_of_agent, fault_of_name, fault_of_url
from metagym.leaderboard.tuning import with_arguments


@pytest.mark.parametrize(
    "agent",
    [
        "adam", "adam:lr=0.5", "ppo:learning_rate=0.001,discount=0.99", "maml", "digits-net",
        "my_agents:Mine", "my.agents:Mine:depth=3", "runs/mine", "./mine", "sb3.zip",
        "runs/lr=0.1, again/a.zip",
    ],
)  # fmt: skip
def test_agents_that_can_be(agent):
    assert fault_of_agent(agent) == ""


@pytest.mark.parametrize(
    "agent",
    [
        "", "SGD", "../../x; rm -rf /", "../mine", "runs/../../mine", "/tmp/x/sb3.zip", "/", ".",
        "~/mine", "-rf/x", "runs//mine", "mine;ls:Mine", "my_agents:", ":Mine", "a:B:C", "a/b:C",
        "runs/$(ls)", "runs/mine\n", "m\u0456ne:Mine", "runs/m\u0456ne",
    ],
)  # fmt: skip
def test_agents_that_cannot_be(agent):
    assert "its agent" in fault_of_agent(agent)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("ppo, 5 seeds <b>", ""),
        ("x" * 80, ""),
        ("x" * 81, "has 81 characters, more than 80"),
        ("\u0440\u0440o", "not printable ASCII"),
        ("a\tb", "not printable ASCII"),
        ("", "neither a letter nor a digit"),
        ("../", "neither a letter nor a digit"),
    ],
)
def test_names(name, fault):
    assert fault in fault_of_name(name) and bool(fault) == bool(fault_of_name(name))


def test_urls():
    for url in ("", "https://example.org/a?b=1", "http://example.org"):
        assert fault_of_url(url) == ""
    for url in ("https://", "example.org", "javascript:alert()", "https://a b", "https://a\n"):
        assert "does not look like https://" in fault_of_url(url)


@pytest.mark.parametrize("setting", [{"lr": "a:b=1"}, {"x:y": 1}, {"lr": "a,b=1"}, {"a=b": 1}])
def test_settings_of_a_row_never_name_another_module(setting):
    """``adam:lr="a:b=1"`` would be read as the class ``lr="a`` of somebody's adam.py."""
    with pytest.raises(InvalidArgumentError, match="cannot be written as arguments"):
        with_arguments("adam", setting)
    assert (
        with_arguments("adam:lr=1", {"beta1": None, "x": "y z"}) == 'adam:lr=1,beta1=null,x="y z"'
    )
