"""What a board refuses, all of it at once, and what it takes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

import metagym
from metagym.errors import InvalidArgumentError
from metagym.evaluation import results, statistics
from metagym.evaluation.results import git_state
from metagym.evaluation.suites import Anchor, Suite, make_suite
from metagym.leaderboard import Failure, Row, RowError
from metagym.leaderboard.run import run_suite
from metagym.leaderboard.submission import (
    SubmissionError,
    add_rows,
    file_name,
    find_problems,
    load_board,
    unknown_commits,
)

BOARD = Path(__file__).parents[2] / "experiments" / "board"
COMMIT = "0123456789" * 4


@pytest.fixture
def make_row(make_row, monkeypatch):
    monkeypatch.setattr(results, "git_state", lambda: (COMMIT, False))
    return make_row


@pytest.fixture
def row(make_row) -> Row:
    return make_row()


def changed(row: Row, index: int = 3, **fields) -> Row:
    """The row whose result at ``index`` says something else."""
    results = list(row.results)
    result = dataclasses.replace(results[index].result, **fields)
    results[index] = dataclasses.replace(results[index], result=result)
    return dataclasses.replace(row, results=tuple(results))


def without(row: Row, *seeds: int) -> Row:
    return dataclasses.replace(row, results=tuple(e for e in row.results if e.seed not in seeds))


def test_a_finished_row_of_a_clean_tree_is_taken(row, suite, tmp_path):
    assert find_problems(row, suite=suite) == []
    failed = dataclasses.replace(row, results=row.results[:-1], failures=(
        Failure(row.results[-1].task, row.results[-1].seed, "it hung", 60.0),
    ))  # fmt: skip
    assert find_problems(failed, suite=suite) == []
    row.save(tmp_path / "runs" / "row.json")
    (tmp_path / "board").mkdir()
    written = add_rows([tmp_path / "runs"], tmp_path / "board", suite)
    assert written == [tmp_path / "board" / "tiny-v0" / "tests.leaderboard.agents-still.json"]
    assert Row.load(written[0]) == row


PLACE = r"results\[3\] \(narrow seed 13\)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: without(row, 12), "results of 4 seeds; a board needs 5"),
        (lambda row: without(row, 12), "lacks wide seed 12, narrow seed 12"),
        (lambda row: dataclasses.replace(row, results=row.results + row.results[:1]),
         "more than once narrow seed 10"),
        (lambda row: dataclasses.replace(row, failures=(Failure("narrow", 10, "no", 0.0),)),
         "more than once narrow seed 10"),
        (lambda row: dataclasses.replace(row, failures=(Failure("other", 10, "no", 0.0),)),
         "not in tiny-v0: other seed 10"),
        (lambda row: dataclasses.replace(row, suite_digest="0" * 64), "run the agent on it"),
        (lambda row: dataclasses.replace(row, ruleset="self-tuning"), "ruleset 'self-tuning'"),
        (lambda row: changed(row, finished=False), f"finished is not true in {PLACE}"),
        (lambda row: changed(row, git_dirty=True), f"git_dirty is not false .* in {PLACE}"),
        (lambda row: changed(row, git_dirty=None), f"git_dirty is not false .* in {PLACE}"),
        (lambda row: changed(row, versions={"metagym": "0.0.1"}),
         f"versions.metagym is not {metagym.__version__} in {PLACE}"),
        (lambda row: changed(row, split="train"), f"split is not 'test' in {PLACE}"),
        (lambda row: changed(row, seed=12), f"seed is not the evaluation's in {PLACE}"),
        (lambda row: changed(row, scores=[1.0]), f"number of episodes .* in {PLACE}"),
        (lambda row: changed(row, num_envs=4), f"num_envs is not the suite's in {PLACE}"),
        (lambda row: changed(row, group=1), f"group is not the suite's in {PLACE}"),
        (lambda row: changed(row, env_id="LearnToOptimizeGP-v0"), f"env_id .* in {PLACE}"),
        (lambda row: changed(row, env_kwargs={"dim": 1}), f"env_kwargs .* in {PLACE}"),
        (lambda row: changed(row, metric="return"), f"metric is not the suite's in {PLACE}"),
        (lambda row: changed(row, minimize=False), f"minimize is not the suite's in {PLACE}"),
        (lambda row: changed(row, git_commit="abc"), f"git_commit is no commit.* in {PLACE}"),
        (lambda row: changed(row, git_commit=None), f"git_commit is no commit.* in {PLACE}"),
        (lambda row: changed(row, git_commit="a" * 40), f"from 2 commits: {COMMIT}, aaa"),
        (lambda row: changed(row, interval=(-99.0, 99.0)), f"interval is not that .* in {PLACE}"),
        (lambda row: changed(row, extras={}), f"no steps_to_target.* in {PLACE}"),
        (lambda row: changed(row, scores=[-12.1] * 6), f"better than the ceiling.* in {PLACE}"),
        (lambda row: dataclasses.replace(row, agent="ppo"), r"training\.seed .* \(narrow seed 1"),
        (lambda row: dataclasses.replace(row, space={"lr": [1]}), "belongs to external-tuning"),
        (lambda row: dataclasses.replace(row, url="javascript:alert()"), "url 'java.* not look"),
        (lambda row: dataclasses.replace(row, agent="SGD"), "agent 'SGD' is neither a name"),
        (lambda row: dataclasses.replace(row, agent="/me/sb3.zip"), "below the working folder"),
        (lambda row: dataclasses.replace(row, name="pp\u043e"), r"name 'pp\\u043e' has .* ASCII"),
        (lambda row: dataclasses.replace(row, name="long" * 21), "84 characters, more than 80"),
        (lambda row: changed(row, extras={"steps_to_target": [4.1] * 6, "target_reached": [1] * 6}),
         f"more than horizon . 1 = 4 steps in {PLACE}"),
        (lambda row: dataclasses.replace(row, agent="a\u202eb"), "characters that cannot be seen"),
        (lambda row: dataclasses.replace(row, name="Suite"), "that of the suite's file"),
        (lambda row: dataclasses.replace(row, name=" ../"), "neither a letter nor a digit"),
    ],
)  # fmt: skip
def test_each_thing_that_is_wrong_is_named(row, suite, change, message):
    problems = find_problems(change(row), suite=suite)
    assert any(re.search(message, problem) for problem in problems), problems


def with_ceiling(row: Row, suite: Suite, shift: float, **fields) -> list[str]:
    """Problems of the row if the tasks' ceilings were its mean score plus ``shift``."""
    tasks, results = [], row.results
    for task in suite.tasks:
        own = [entry.result.mean for entry in row.results if entry.task == task.name]
        ceiling = Anchor("optimum, the task known", sum(own) / 5 + shift, exact=True)
        floor = Anchor("standing still", ceiling.value + 9)
        tasks.append(dataclasses.replace(task, ceiling=ceiling, floor=floor))
    suite = dataclasses.replace(suite, tasks=tuple(tasks))
    results = tuple(
        dataclasses.replace(e, result=dataclasses.replace(e.result, **fields)) for e in row.results
    )
    row = dataclasses.replace(row, suite_digest=suite.digest, results=results)
    return find_problems(row, suite=suite)


def test_who_beats_what_is_best_without_the_task_has_seen_it(make_row, suite):
    row = make_row("tests.leaderboard.agents:Unseeded")
    assert with_ceiling(row, suite, 0.01) == []  # smaller is better: within the noise
    problems = with_ceiling(row, suite, 8.0)
    assert len(problems) == 2 and "wide is better than the exact ceiling, optimum" in problems[0]
    assert "set privileged = True" in problems[0]
    assert with_ceiling(row, suite, 8.0, privileged=True) == []


def test_a_commit_that_is_not_here_is_said(row):
    if git_state()[0] is None:
        pytest.skip("no checkout")
    assert unknown_commits(row) == [COMMIT]
    results = [dataclasses.replace(e.result, git_commit=git_state()[0]) for e in row.results]
    entries = [dataclasses.replace(e, result=r) for e, r in zip(row.results, results, strict=True)]
    assert unknown_commits(dataclasses.replace(row, results=tuple(entries))) == []


def test_self_tuning_tunes_nothing(row, tuned_suite):
    row = dataclasses.replace(
        row, suite=tuned_suite.name, suite_digest=tuned_suite.digest, ruleset="self-tuning"
    )
    assert find_problems(row, suite=tuned_suite) == []
    tuned = changed(row, agent_config={"tuned_for": "LearnToOptimize-v0"})
    assert "was tuned for the task" in find_problems(tuned, suite=tuned_suite)[0]
    adam = dataclasses.replace(row, agent="adam")
    assert "not the field's defaults of adam" in find_problems(adam, suite=tuned_suite)[0]
    own = dataclasses.replace(row, agent="adam:lr=0.3")
    assert "adam:lr=0.3" in find_problems(own, suite=tuned_suite)[0]


def test_external_tuning_says_what_was_tried(tuned_suite, tmp_path, make_row):
    row = run_suite(
        "sgd", tuned_suite, tmp_path / "out", ruleset="external-tuning", progress=False,
        space={"lr": [0.01, 0.02, 0.03, 0.04]},
    )  # fmt: skip
    assert find_problems(row, suite=tuned_suite) == []
    index = next(i for i, e in enumerate(row.results) if (e.task, e.seed) == ("narrow", 13))
    tuning = row.results[index].result.agent_config["tuning"]
    other = next(t["setting"] for t in tuning["trials"] if t["setting"] != tuning["chosen"])
    forged = changed(row, index, agent_config={"tuning": {**tuning, "chosen": other}})
    (problem,) = find_problems(forged, suite=tuned_suite)
    assert problem.endswith(f"not the best of the trials in results[{index}] (narrow seed 13).")
    elsewhere = dataclasses.replace(row, space={"lr": [0.01]})
    assert "space is not the row's" in find_problems(elsewhere, suite=tuned_suite)[0]
    gone = dataclasses.replace(row, space=None, agent="my_agents:Mine")
    assert "lacks the space from which" in find_problems(gone, suite=tuned_suite)[0]


def test_a_row_that_fails_everywhere_has_five_seeds(make_row, suite):
    assert find_problems(make_row("tests.leaderboard.agents:Raises"), suite=suite) == []


def test_an_honest_interval_is_found_again_and_not_that_of_other_scores(row, suite):
    scores = row.results[3].result.scores
    low, high = statistics.bootstrap_interval(scores, seed=7)  # as another numpy may draw
    assert find_problems(changed(row, interval=(low, high)), suite=suite) == []
    narrow = changed(row, interval=(0.6 * low + 0.4 * high, 0.4 * low + 0.6 * high))
    assert "interval is not that of the scores" in find_problems(narrow, suite=suite)[0]


def test_a_board_keeps_the_suite_of_a_third_party(row, suite, tmp_path, make_row):
    board = tmp_path / "board"
    board.mkdir()
    row.save(tmp_path / "a.json")
    (written,) = add_rows([tmp_path / "a.json"], board, suite)
    assert make_suite(board / "tiny-v0" / "suite.json") == suite
    assert load_board(board) == [(suite, [row])]
    other = make_row("tests.leaderboard.agents:Still:step=0.5")
    other.save(tmp_path / "b.json")
    add_rows([tmp_path / "b.json"], board)  # which finds the suite there
    assert load_board(board) == [(suite, [other, row])]
    changed_suite = dataclasses.replace(suite, summary="Another.")
    with pytest.raises(RowError, match="another text of tiny-v0"):
        add_rows([tmp_path / "b.json"], board, changed_suite)
    old = changed(row, versions={"metagym": "0.0.1"})
    old.save(written)
    assert old in load_board(board)[0][1]  # of any version


def test_a_board_is_checked_whenever_it_is_read(row, suite, tmp_path):
    row.save(tmp_path / "a.json")
    (tmp_path / "board").mkdir()
    (written,) = add_rows([tmp_path / "a.json"], tmp_path / "board", suite)
    written.rename(written.with_name("b.json"))
    with pytest.raises(SubmissionError, match=r"b\.json: it belongs into tiny-v0/tests"):
        load_board(tmp_path / "board")
    changed(row, git_dirty=True).save(written.with_name("b.json"))
    with pytest.raises(SubmissionError, match="git_dirty is not false"):
        load_board(tmp_path / "board")
    with pytest.raises(InvalidArgumentError, match="or give --board a folder"):
        load_board(tmp_path / "none")


def test_a_board_has_no_two_rows_of_one_name_file_or_scores(row, suite, make_row, tmp_path):
    board = tmp_path / "board"
    board.mkdir()
    row.save(tmp_path / "a.json")
    add_rows([tmp_path / "a.json"], board, suite)
    other = make_row("tests.leaderboard.agents:Still:step=0.5")
    for name, entries, message in (
        (row.name, other.results, "has a row 'tests"),
        (row.name.upper(), other.results, "too close to that of"),
        ("mine", row.results, "all its scores are those of 'tests"),
    ):
        dataclasses.replace(other, name=name, results=entries).save(tmp_path / "b.json")
        with pytest.raises(SubmissionError, match=message):
            add_rows([tmp_path / "b.json"], board, suite)
    other.save(tmp_path / "b.json")
    twin = [changed(other, i, scores=[s * (1 + 1e-8) for s in entry.result.scores]).results[i]
            for i, entry in enumerate(other.results)]  # fmt: skip
    dataclasses.replace(other, name="twin", results=tuple(twin)).save(tmp_path / "c.json")
    with pytest.raises(SubmissionError, match=r"c\.json: all its scores are those of"):
        add_rows([tmp_path / "b.json", tmp_path / "c.json"], board, suite)
    assert len(load_board(board)[0][1]) == 1  # all or none
    add_rows([tmp_path / "b.json"], board, suite)
    assert len(load_board(board)[0][1]) == 2


def test_a_file_of_the_board_is_never_overwritten(row, suite, tmp_path):
    board = tmp_path / "board"
    moved = dataclasses.replace(row, name="moved", results=row.results[:-1])
    moved.save(board / suite.name / file_name(row))
    row.save(tmp_path / "a.json")
    with pytest.raises(InvalidArgumentError, match="exists and would be overwritten"):
        add_rows([tmp_path / "a.json"], board, suite)


def test_all_problems_are_said_at_once(row, suite, tmp_path):
    (tmp_path / "board").mkdir()
    bad = changed(changed(without(row, 14), git_dirty=True), index=0, split="train")
    bad.save(tmp_path / "bad.json")
    with pytest.raises(SubmissionError) as caught:
        add_rows([tmp_path / "bad.json"], tmp_path / "board", suite)
    assert len(caught.value.problems) == 4
    assert all(str(tmp_path / "bad.json") in problem for problem in caught.value.problems)


def test_suites_boards_and_files_that_are_not_there(row, tmp_path):
    assert "tiny-v0" in find_problems(row)[0]
    with pytest.raises(InvalidArgumentError, match="no board in"):
        add_rows([], tmp_path / "none")
    with pytest.raises(RowError, match=r"has no row\.json: give a folder"):
        add_rows([tmp_path], tmp_path)


def test_every_row_of_our_board_is_fit_for_it_and_can_be_shown():
    for suite, rows in load_board(BOARD):
        for row in rows:
            row.summary(suite)


def test_file_names_are_safe_everywhere():
    row = Row("s", "", "<script>/../Ünï, PPO (ours)</script>", "random")
    assert file_name(row) == "script-..-n-ppo-ours-script.json"
