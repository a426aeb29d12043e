"""metagym leaderboard: what it prints and writes, and exit code 2 where something is wrong."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from pathlib import Path

import pytest

from metagym import cli
from metagym.evaluation import results
from metagym.leaderboard import Failure, Row, submission
from metagym.leaderboard.outlook import warnings_of
from metagym.leaderboard.run import run_suite

STILL = "tests.leaderboard.agents:Still"
HERE = Path(__file__).parent


@pytest.fixture
def clean_tree(monkeypatch, here) -> None:
    monkeypatch.setattr(results, "git_state", lambda: ("0" * 40, False))


def leaderboard(*argv) -> None:
    cli.main(["leaderboard", *map(str, argv)])


def fails(capsys, *argv) -> str:
    with pytest.raises(SystemExit) as stop:
        leaderboard(*argv)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_help_of_metagym_names_it(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "leaderboard" in capsys.readouterr().out


def test_run_add_list_verify(suite_file, tmp_path, capsys, clean_tree):
    out, board = tmp_path / "out", tmp_path / "board"
    board.mkdir()
    leaderboard("run", STILL, suite_file, "--out", out, "--name", "<b>still</b> [red]")
    text = capsys.readouterr().out
    assert "<b>still</b> [red] on tiny-v0" in text and "optimality gap" in text
    assert f"metagym leaderboard add {out} --suite {suite_file}" in text
    leaderboard("add", out, "--board", board, "--suite", suite_file)
    (path,) = (board / "tiny-v0").glob("b-still*.json")
    assert str(path) in capsys.readouterr().out
    leaderboard("verify", path, "--trust", "--tasks", "1")  # with the suite that the board keeps
    assert "equal" in capsys.readouterr().out
    assert "already" in fails(capsys, "add", out, "--board", board)
    leaderboard("list", "--board", board)
    text = capsys.readouterr().out
    assert "<b>still</b> [red] (origin unknown)" in text and "10/10" in text
    assert "metagym leaderboard run" not in text
    leaderboard("list", "--board", board, "--commands")
    name, command = capsys.readouterr().out.removesuffix("\n").split("\t")
    assert name == "<b>still</b> [red]" and "\n" not in command
    assert command.endswith(" --name '<b>still</b> [red]'")


def test_a_list_has_a_table_for_each_ruleset_and_no_rank_for_oracles(
    tuned_suite, tmp_path, capsys, clean_tree
):
    board = tmp_path / "board"
    board.mkdir()
    (tmp_path / "tuned.json").write_text(tuned_suite.to_json())
    runs = {
        "none": (STILL, "self-tuning", None),
        "seer": ("tests.leaderboard.agents:Sees", "self-tuning", None),
        "tuned": (STILL, "external-tuning", {"step": [0.25, 0.5]}),
    }
    for name, (agent, ruleset, space) in runs.items():
        out = tmp_path / name
        run_suite(agent, tuned_suite, out, ruleset=ruleset, space=space, name=name, progress=False)
    leaderboard(
        "add", *(tmp_path / n for n in runs), "--board", board, "--suite", tmp_path / "tuned.json"
    )
    capsys.readouterr()
    leaderboard("list", "--board", board)
    text = capsys.readouterr().out
    assert text.index("tuned-v0, self-tuning") < text.index("tuned-v0, external-tuning")
    lines = {line.split("(")[0].strip(): line for line in text.splitlines() if "(" in line}
    assert {"seer", "1   none", "1   tuned"} <= set(lines), lines
    assert "sees the task" in lines["seer"]


def test_a_board_that_was_tampered_with_is_not_listed(suite_file, tmp_path, capsys, clean_tree):
    out, board = tmp_path / "out", tmp_path / "board"
    board.mkdir()
    leaderboard("run", STILL, suite_file, "--out", out)
    leaderboard("add", out, "--board", board, "--suite", suite_file)
    (path,) = set((board / "tiny-v0").glob("*.json")) - {board / "tiny-v0" / "suite.json"}
    path.write_text(path.read_text().replace('"split": "test"', '"split": "train"', 1))
    capsys.readouterr()
    lines = fails(capsys, "list", "--board", board).splitlines()
    assert str(path) in lines[0] and "split" in lines[0]
    assert lines[-1] == "metagym: error: the board is not as it has to be"


def test_failures_are_listed_once_and_the_exit_code_is_2(suite_file, tmp_path, capsys, here):
    err = fails(
        capsys, "run", "tests.leaderboard.agents:Raises", suite_file, "--out", tmp_path / "out"
    )
    lines = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert len(lines) == 2
    assert lines[0].startswith("failed: narrow (seed 10, 11, 12, 13, 14): ZeroDivisionError")
    assert len(Row.load(tmp_path / "out" / "row.json").failures) == 10


def test_part_of_a_run_says_what_is_missing(suite_file, tmp_path, capsys, here):
    leaderboard(
        "run", STILL, suite_file, "--out", tmp_path / "out", "--tasks", "narrow", "--seeds", 10, 11
    )
    out = capsys.readouterr().out
    assert "Not yet fit for a board" in out and "results of 2 seeds" in out


def test_what_keeps_a_row_from_a_board_is_said_before_it_is_run(
    suite_file, tmp_path, capsys, here, monkeypatch
):
    monkeypatch.setattr(results, "git_state", lambda: ("0" * 40, True))
    arguments = ("run", STILL, suite_file, "--seeds", 10, "--name", "Ünï", "--out")
    leaderboard(*arguments, tmp_path / "a")
    first, second = capsys.readouterr().err.splitlines()[:2]
    assert first.startswith("metagym: warning: no board will take the row: its name")
    assert "has changes or untracked files; commit or move them" in second
    monkeypatch.setattr(results, "git_state", lambda: (None, None))
    leaderboard(*arguments, tmp_path / "b")
    assert "metagym does not run from a git checkout" in capsys.readouterr().err


def test_data_that_is_not_there_is_said_with_its_tasks(suite, tmp_path, monkeypatch):
    tasks = [dataclasses.replace(task, needs="omniglot") for task in suite.tasks]
    monkeypatch.setattr(results, "git_state", lambda: ("0" * 40, False))
    monkeypatch.delenv("METAGYM_DATA", raising=False)
    (line,) = warnings_of("adam", tasks)
    assert line.startswith("wide, narrow will fail: METAGYM_DATA, which is not set, has to be")
    assert line.endswith("holds images_background.zip and images_evaluation.zip.")
    monkeypatch.setenv("METAGYM_DATA", str(tmp_path))
    (tmp_path / "omniglot").mkdir()
    for name in ("images_background.zip", "images_evaluation.zip"):
        assert str(tmp_path) in warnings_of("adam", tasks)[0]
        (tmp_path / "omniglot" / name).touch()
    assert warnings_of("adam", tasks) == []


def test_a_commit_of_elsewhere_is_a_warning(make_row, clean_tree, suite_file, tmp_path, capsys):
    (tmp_path / "board").mkdir()
    make_row().save(tmp_path / "row.json")
    leaderboard("add", tmp_path / "row.json", "--board", tmp_path / "board", "--suite", suite_file)
    added, *warnings = capsys.readouterr().out.splitlines()
    assert added.startswith("Added ")
    if submission.git_state()[0] is not None:  # else nobody here knows any commit
        assert warnings == [
            f"warning: its commit {'0' * 40} is not known here: fetch it, or ask for the fork."
        ]


def test_verify_says_what_it_did_not_try_and_which_suite_is_lacking(
    make_row, suite_file, tmp_path, capsys
):
    row = make_row("adam")
    failures = tuple(
        Failure(e.task, e.seed, "not through after 9 s", 9.0) for e in row.results
        if e.task == "wide"
    )  # fmt: skip
    kept = tuple(e for e in row.results if e.task == "narrow")
    path = tmp_path / "row.json"
    dataclasses.replace(row, results=kept, failures=failures).save(path)
    assert "give the file of another with --suite" in fails(capsys, "verify", path)
    leaderboard("verify", path, "--suite", suite_file)
    assert "5 runs that failed in the row were not tried." in capsys.readouterr().out


def test_a_space_comes_from_a_file(tuned_suite, tmp_path, capsys, here):
    (tmp_path / "tuned.json").write_text(tuned_suite.to_json())
    (tmp_path / "space.json").write_text('{"step": [0.0, 0.5]}')
    arguments = ("run", STILL, tmp_path / "tuned.json", "--out", tmp_path / "out", "--seeds", 10)
    rules = ("--ruleset", "external-tuning", "--space")
    leaderboard(*arguments, *rules, tmp_path / "space.json")
    config = Row.load(tmp_path / "out" / "row.json").results[0].result.agent_config
    assert len(config["tuning"]["trials"]) == 2
    (tmp_path / "space.json").write_text("{")
    assert "no file of JSON" in fails(capsys, *arguments, *rules, tmp_path / "space.json")


def test_what_a_board_refuses_is_a_line_each(make_row, clean_tree, suite_file, tmp_path, capsys):
    row = make_row(seeds=[10])
    row.save(tmp_path / "row.json")
    (tmp_path / "board").mkdir()
    err = fails(
        capsys, "add", tmp_path / "row.json", "--board", tmp_path / "board", "--suite", suite_file
    )
    lines = err.splitlines()
    assert len(lines) == 3 and lines[-1] == "metagym: error: nothing was added"
    assert "results of 1 seeds" in lines[0] and "unfinished" in lines[1]


def test_a_forged_row_is_not_reproduced(make_row, suite_file, tmp_path, capsys):
    values = json.loads(make_row("adam").to_json())
    result = values["results"][0]["result"]
    for name in ("scores", "mean", "iqm"):
        value = result[name]
        result[name] = [s - 1 for s in value] if name == "scores" else value - 1
    (tmp_path / "forged.json").write_text(json.dumps(values))
    with pytest.raises(SystemExit) as stop:
        leaderboard("verify", tmp_path / "forged.json", "--suite", suite_file)
    assert stop.value.code == 2
    assert "not reproduced" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("run", "adam", "core-v9", "--out", "x"), "core-v9"),
        (("run", "pppo", "core-v0", "--out", "x"), "Did you mean 'ppo'"),
        (("add", "--board", "."), "Name at least one run"),
        (("add", "nowhere", "--board", "nowhere"), "no board in nowhere"),
        (("verify", "nowhere"), "nowhere"),
        (("list", "--board", "nowhere"), "or give --board a folder"),
        (("add", HERE, "--board", HERE), "has no row.json: give a folder"),
        (("verify", HERE), "has no row.json: give a folder"),
    ],
)
def test_wrong_arguments_are_one_line(argv, message, capsys):
    err = fails(capsys, *argv)
    assert err.startswith("metagym: error: ") and err.count("\n") == 1
    assert message in err


def test_build_hands_over_to_the_site(monkeypatch, tmp_path, capsys):
    built = []
    module = types.ModuleType("metagym.site.build")
    module.build_site = lambda out, board: built.append((out, board)) or out / "index.html"
    monkeypatch.setitem(sys.modules, "metagym.site", types.ModuleType("metagym.site"))
    monkeypatch.setitem(sys.modules, "metagym.site.build", module)
    leaderboard("build", "--out", tmp_path / "site", "--board", tmp_path)
    assert built == [(tmp_path / "site", tmp_path)]
    assert str(tmp_path / "site" / "index.html") in capsys.readouterr().out
