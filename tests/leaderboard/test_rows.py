"""Rows as files: what is written is read, and what cannot be is refused by its path."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from metagym.errors import InvalidArgumentError
from metagym.leaderboard import Failure, Row, RowError, load_rows


@pytest.fixture
def row(make_row) -> Row:
    return make_row(note="<b>a note</b>")


def test_what_is_saved_is_loaded(row, tmp_path):
    row.save(tmp_path / "row.json")
    assert Row.load(tmp_path / "row.json") == row
    lines = (tmp_path / "row.json").read_text().splitlines()
    assert sum('"result":' in line for line in lines) == len(row.results) == 10
    (tmp_path / "board" / "tiny-v0").mkdir(parents=True)
    row.save(tmp_path / "board" / "tiny-v0" / "b.json")
    dataclasses.replace(row, name="first").save(tmp_path / "board" / "tiny-v0" / "a.json")
    assert [found.name for found in load_rows(tmp_path / "board")] == ["first", row.name]


def test_scores_are_runs_by_tasks(row, suite):
    raw, scores = row.raw_scores(suite), row.scores(suite)
    assert raw.shape == scores.shape == (5, 2)
    by_place = {(entry.task, entry.seed): entry.result.mean for entry in row.results}
    assert raw[3, 0] == by_place["wide", 13]
    np.testing.assert_allclose(scores, (2.0 - raw) / 14.0)


def test_a_failure_counts_with_the_floor_and_a_gap_not_at_all(row, suite):
    failed = dataclasses.replace(
        row, results=row.results[1:],
        failures=(Failure(row.results[0].task, row.results[0].seed, "it broke"),),
    )  # fmt: skip
    assert failed.scores(suite)[0].tolist() == [row.scores(suite)[0, 0], 0.0]
    summary = failed.summary(suite)
    assert summary["tasks"]["narrow"]["failed"] and not summary["tasks"]["wide"]["failed"]
    assert summary["failures"] == [{"task": "narrow", "seed": 10, "error": "it broke"}]
    with pytest.raises(RowError, match="unfinished: it lacks narrow, seed 10"):
        dataclasses.replace(row, results=row.results[1:]).scores(suite)


def test_another_suite_or_another_text_of_it_is_refused(row, suite):
    with pytest.raises(RowError, match="run the agent on it"):
        row.scores(dataclasses.replace(suite, summary="It says something else."))
    with pytest.raises(InvalidArgumentError, match="tiny-v0"):
        row.scores()


def test_the_summary_is_json_and_says_what_it_cost(row, suite):
    summary = json.loads(json.dumps(row.summary(suite), allow_nan=False))
    mean, low, high = summary["aggregate"]["mean"]
    assert mean == pytest.approx(row.scores(suite).mean()) and low <= mean <= high
    assert set(summary["aggregate"]) == {"mean", "median", "iqm", "optimality_gap"}
    assert len(summary["profile"]["thresholds"]) == len(summary["profile"]["fractions"])
    assert summary["env_steps"] == sum(entry.result.env_steps for entry in row.results) == 360
    assert summary["commit"] == "abc" and summary["note"] == "<b>a note</b>"
    assert summary["tasks"]["narrow"]["steps_to_target"] is not None
    assert summary["tasks"]["wide"]["steps_to_target"] is None
    assert summary["training_seconds"] == summary["training_steps"] == 0


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
        (put(9.0, "results", 3, "result", "scores", 2), r"results\[3\]\.result: .* not its scores"),
        (put("1", "results", 3, "result", "seed"), r"results\[3\]\.result: .*'seed' has a str"),
        (put(float("nan"), "results", 3, "result", "scores", 2), "no JSON: NaN is no number"),
        (put([{"task": "a", "seed": 1}], "failures"), r"failures\[0\]\.error is missing"),
        (put(99, "format"), "format 99; update metagym"),
        (delete("format"), "not a row of a metagym leaderboard"),
    ],
)
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
