"""metagym leaderboard: what it prints and writes, and exit code 2 where something is wrong."""

from __future__ import annotations

import json
import sys
import types

import pytest

from metagym import cli
from metagym.evaluation import results
from metagym.leaderboard import Row
from metagym.leaderboard.run import run_suite

STILL = "tests.leaderboard.agents:Still"


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
        (("list", "--board", "nowhere"), "no folder of rows"),
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
