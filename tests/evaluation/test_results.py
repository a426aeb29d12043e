"""Results: what is written comes back, holds its provenance, and is checked when it is read."""

from __future__ import annotations

import dataclasses
import json
import subprocess

import numpy as np
import pytest

from metagym.agents.random import RandomAgent
from metagym.evaluation import Result, ResultError, evaluate, results


@pytest.fixture(scope="module")
def result() -> Result:
    return evaluate(RandomAgent(), "LearnToOptimize-v0", episodes=5, curves=True, dim=2, horizon=3)


def test_json_round_trip(result, tmp_path):
    assert Result.from_json(result.to_json()) == result
    result.save(tmp_path / "deep" / "result.json")
    assert Result.load(tmp_path / "deep" / "result.json") == result
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["result.json"]


def test_provenance(result):
    assert result.env_kwargs == {"dim": 2, "horizon": 3}
    assert {"python", "metagym", "numpy", "gymnasium"} <= set(result.versions)
    assert result.versions["numpy"] == np.__version__
    assert result.device.startswith("cpu, ") and result.wall_time_s > 0
    assert result.training is None and result.command


def test_no_nan_in_the_file(result):
    odd = dataclasses.replace(
        result, extras={"loss": [np.nan, np.inf, 1.0, 2.0, 3.0]}, agent_config={"f": np.inf}
    )
    text = odd.to_json()
    assert "NaN" not in text and "Infinity" not in text
    read = Result.from_json(text)
    assert read.extras["loss"] == [None, None, 1.0, 2.0, 3.0]


def test_objects_in_the_arguments_are_named():
    from metagym.problems import make_problem

    family = make_problem("quadratic", 2)
    result = evaluate(RandomAgent(), "LearnToOptimize-v0", episodes=2, problem=family, horizon=2)
    assert "Quadratic" in Result.from_json(result.to_json()).env_kwargs["problem"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "format 99"),
        ({"format": None}, "not a result"),
        ({"scors": []}, "Did you mean 'scores'"),
        ({"scores": []}, "scores has to hold at least one number"),
        ({"scores": ["1"] * 5}, r"scores\[0\] has to be a number, not '1'"),
        ({"scores": [1.0] * 4}, "not a list of 4"),
        ({"scores": [10**400] * 5}, r"scores\[0\] has to be a finite number, not 1000"),
        ({"mean": float("inf")}, "mean has to be a finite number, not inf"),
        ({"mean": 1e3}, "not its scores'"),
        ({"iqm": "high"}, "iqm has to be a number, not 'high'"),
        ({"interval": [0.0]}, "interval is not a list of 2"),
        ({"interval": [1.0, 0.0]}, "interval ends before it begins"),
        ({"lengths": [1]}, "lengths is not a list of 5"),
        ({"lengths": list("abcde")}, r"lengths\[0\] has to be a number"),
        ({"returns": [0.0] * 4 + ["x"]}, r"returns\[4\] has to be a number or null"),
        ({"extras": {"steps_to_target": ["1"] * 5}}, r"extras\.steps_to_target\[0\] has to be"),
        ({"extras": {"task": ["a"]}}, r"extras\.task is not a list of 5"),
        ({"versions": {"x": [1]}}, r"versions\.x has to be text, not \[1\]"),
        ({"wall_time_s": -1.0}, r"wall_time_s has to be at least 0, not -1\.0"),
        ({"env_steps": -1}, "env_steps has to be at least 0"),
        ({"training": {"seconds": -1}}, r"training\.seconds has to be at least 0"),
        ({"training": {"steps": "many"}}, r"training\.steps has to be a number"),
        ({"privileged": 1}, "privileged has to be true or false, not 1"),
        ({"split": 1}, "split has to be text or null"),
        ({"seed": True}, "seed has to be a whole number"),
        ({"agent_config": [[[]]]}, "agent_config has to be an object"),
    ],
)  # fmt: skip
def test_damage_is_a_typed_error(result, change, message):
    values = json.loads(result.to_json()) | change
    with pytest.raises(ResultError, match=message):
        Result.from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[" * 200 + "]" * 200, "nested too deeply"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' is there twice"),
        ('{"a": [{"b": -1e999}]}', r"a\[0\]\.b has to be a finite number"),
        ("9" * 10_000, "no JSON"),
    ],
)
def test_what_json_allows_and_a_file_does_not(text, message):
    with pytest.raises(ResultError, match=message):
        results.read_json(text)


def test_texts_may_stand_where_nothing_is_computed(result):
    named = dataclasses.replace(result, extras={"task": list("abcde")})
    assert Result.from_json(named.to_json()) == named


def test_missing_keys_and_files(result, tmp_path):
    values = json.loads(result.to_json())
    del values["seed"]
    with pytest.raises(ResultError, match="seed is missing"):
        Result.from_json(json.dumps(values))
    (tmp_path / "cut.json").write_text(result.to_json()[:-20])
    with pytest.raises(ResultError, match=r"cut\.json.*no JSON"):
        Result.load(tmp_path / "cut.json")
    with pytest.raises(ResultError, match="none"):
        Result.load(tmp_path / "none.json")


def test_git_state_is_none_without_git(monkeypatch):
    def no_git(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", no_git)
    assert results.git_state.__wrapped__() == (None, None)


def test_command_line_quotes_and_leaves_folders_out():
    argv = ["/somewhere/bin/metagym", "evaluate", "adam", "--env-kwargs", '{"dim": 3}']
    assert results.command_line(argv) == "metagym evaluate adam --env-kwargs '{\"dim\": 3}'"
