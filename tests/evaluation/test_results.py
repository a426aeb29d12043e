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
        ({"scores": []}, "at least one number"),
        ({"scores": ["1"] * 5}, "at least one number"),
        ({"scores": [1.0] * 4}, "not a list of 4"),
        ({"mean": 1e3}, "not its scores'"),
        ({"iqm": "high"}, "'iqm' has a str"),
        ({"lengths": [1]}, "'lengths' is not a list of 5"),
        ({"privileged": 1}, "'privileged'"),
    ],
)
def test_damage_is_a_typed_error(result, change, message):
    values = json.loads(result.to_json()) | change
    with pytest.raises(ResultError, match=message):
        Result.from_json(json.dumps(values))


def test_missing_keys_and_files(result, tmp_path):
    values = json.loads(result.to_json())
    del values["seed"]
    with pytest.raises(ResultError, match="lacks 'seed'"):
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
