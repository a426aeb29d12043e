"""The site as a whole: what it holds, what it refuses, and that it needs nobody else."""

from __future__ import annotations

import dataclasses
import html
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from metagym.errors import InvalidArgumentError
from metagym.evaluation import aggregate
from metagym.evaluation.suites import SUITES, Suite, make_suite
from metagym.leaderboard import Row, RowError
from metagym.leaderboard.standings import standings
from metagym.leaderboard.submission import SubmissionError
from metagym.site import board, build
from metagym.site.board import data_script, titled, write_board
from tests.site.conftest import SCRIPT

Content = list[tuple[Suite, list[Row]]]


def page(site: Path, name: str) -> str:
    return (site / name).read_text()


def test_the_front_page_is_the_readme(site: Path) -> None:
    front = page(site, "index.html")
    words = html.unescape(re.sub(r"<[^>]*>", "", front))
    assert "make demo" in words and "demo.png" in front
    loop = re.findall(r"```python\n(.*?)```", (build.CHECKOUT / "README.md").read_text(), re.DOTALL)
    for line in loop[0].splitlines():
        assert line.strip() in words
    assert "pip install -e ." in re.sub(r"<[^>]*>", "", page(site, "guide.html"))


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r"""(?:src=|<link[^>]*href=|url\()["']?((?:https?:)?//[^"')\s]+)""")
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        assert loaded.findall(path.read_text()) == [], path


def test_only_the_leaderboard_loads_the_charts(site: Path) -> None:
    loading = [path for path in site.rglob("*.html") if "plotly.min.js" in path.read_text()]
    assert loading == [site / "leaderboard" / "index.html"]


def test_a_page_of_an_environment(site: Path) -> None:
    text = page(site, "environments/meta-navigation.html")
    for heading in ("Observation Space", "Registered Configurations", "Spaces, as made"):
        assert heading in text
    assert "<td><p><code" in text  # tables are tables
    (animation,) = re.findall(r'src="../(_images/[\w-]+\.webp)"', text)
    assert 10_000 < (site / animation).stat().st_size <= 200_000


def test_names_of_rows_are_text_everywhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert SCRIPT not in path.read_text(), path
    assert "&lt;script&gt;window" in page(site, "leaderboard/core-v0.html")


def data_of(suite: Suite, rows: list[Row]) -> dict[str, Any]:
    tables = {rules: titled(rules, found) for rules, found in standings(rows, suite).items()}
    script = data_script(suite, rows, tables)
    assert script.count("<") == 2
    data: dict[str, Any] = json.loads(script.split(">", 1)[1].removesuffix("</script>"))
    return data


def test_the_data_of_a_suite_survive_their_escape(content: Content) -> None:
    suite, rows = content[0]
    data = data_of(suite, rows)
    assert [row["name"] for row in data["rows"]] == [SCRIPT, "quadratics", "adam", "broken"]
    assert [row["rank"] for row in data["rows"]] == [None, 1, 2, 3]
    assert [task["name"] for task in data["tasks"]] == [task.name for task in suite.tasks]


def test_each_ruleset_is_a_table_of_its_own(content: Content) -> None:
    suite, rows = content[1]
    tables = standings(rows, suite)
    assert {rules: [row["name"] for row in found] for rules, found in tables.items()} == {
        "self-tuning": ["as it is", "worse, self-tuning"], "external-tuning": ["searched"],
    }  # fmt: skip
    assert [row["rank"] for found in tables.values() for row in found] == [1, 2, 1]
    data = data_of(suite, rows)
    better = {row["name"]: row["better"] for row in data["rows"]}
    found = aggregate.probability_of_improvement_interval(*(row.scores() for row in rows[:2]))
    assert better["as it is"] == {"worse, self-tuning": pytest.approx(found, abs=1e-4)}
    value, low, high = better["as it is"]["worse, self-tuning"]
    assert better["worse, self-tuning"]["as it is"] == pytest.approx([1 - value, 1 - high, 1 - low])
    assert better["searched"] == {}


def test_the_space_of_external_tuning_is_told(content: Content) -> None:
    suite, rows = content[1]
    own = {row["name"]: row["space"] for row in data_of(suite, rows)["rows"]}
    assert list(own.values()) == [None, None, rows[2].space]
    grid = dataclasses.replace(rows[2], space=None)
    assert "lr" in data_of(suite, [grid])["rows"][0]["space"]  # that of rmsprop


def test_titles_leave_out_the_ruleset_unless_two_rows_were_one() -> None:
    rows = [{"name": name} for name in ("adam", "adam, self-tuning", "sgd, self-tuning", "x, y")]
    titles = [row["title"] for row in titled("self-tuning", rows)]
    assert titles == ["adam", "adam, self-tuning", "sgd", "x, y"]
    assert titled(None, [{"name": "x, None"}]) == [{"name": "x, None", "title": "x, None"}]


def test_tags_say_what_scores_do_not(content: Content) -> None:
    suite, rows = content[0]
    (table,) = standings(rows, suite).values()
    assert {row["name"]: list(row["tags"]) for row in table} == {
        SCRIPT: ["sees the task", "hand-designed"],
        "quadratics": ["trained", "1 training", "own budget"],
        "adam": ["hand-designed"],
        "broken": ["origin unknown"],
    }


def test_a_plain_page_has_a_table_for_each_ruleset_and_targets(site: Path) -> None:
    text = page(site, "leaderboard/optimize-v0.html")
    order = [text.index(part) for part in (
        "Rows: self-tuning", "as it is", "worse", "Rows: external-tuning", "searched", ">target<",
    )]  # fmt: skip
    assert order == sorted(order)
    assert ">worse</a>" in text and "worse, self-tuning<" not in text
    core = page(site, "leaderboard/core-v0.html")
    cells = re.findall(r"<td>(?:<p>)?(.*?)(?:</p>)?</td>", core)
    at = cells.index("sees the task, hand-designed")
    assert cells[at - 2] == "" and "&lt;script&gt;" in cells[at - 1]  # no rank
    assert "34/40" in cells and "unknown" in cells  # broken, and what it cost


def test_a_plain_page_says_which_files_are_needed_and_who_may_pass_its_ceilings(site: Path) -> None:
    texts = {
        name: html.unescape(re.sub(r"<[^>]*>", "", page(site, f"leaderboard/{name}.html")))
        for name in ("search-v0", "few-shot-v0", "adapt-v0", "optimize-v0")
    }
    assert (
        "needed by cells_nasbench201 and searches_nasbench201: nb2_cf10_hp12_info.p (RoBoT, in its "
        "data/) and nats_bench.csv (landscapes), in the folder that METAGYM_DATA names or in its "
        "nasbench201/."
    ) in texts["search-v0"]
    assert "images_background.zip and images_evaluation.zip" in texts["few-shot-v0"]
    assert (
        "The ceiling of bandit, bandit_wide and bandit_long is what can be had without knowing the "
        "task: a row that sees it may pass 1 there."
    ) in texts["adapt-v0"]
    assert not re.search("METAGYM_DATA|may pass 1", texts["optimize-v0"])


def test_every_need_of_our_suites_has_its_files_named() -> None:
    needs = {task.needs for name in SUITES for task in make_suite(name).tasks}
    assert needs - {None} == set(board._FILES)


def test_rows_are_told_to_the_pages_of_their_agents(content: Content, tmp_path: Path) -> None:
    mentions = write_board(tmp_path / "board", content)
    assert sorted(mentions) == ["adam", "mine:Broken", "quadratics", "random", "rmsprop", "sgd"]
    first, second = mentions["adam"]
    assert "index.html#core-v0/adam" in first and "rank 2, mean 0.5" in first
    assert "on optimize-v0, self-tuning: rank 1" in second
    assert "34 of 40 runs played" in mentions["mine:Broken"][0]
    assert "<script" not in mentions["random"][0] and "sees the task" in mentions["random"][0]


def test_an_unfinished_row_is_refused(content: Content, tmp_path: Path) -> None:
    suite, rows = content[0]
    half = dataclasses.replace(rows[0], results=rows[0].results[:-1])
    with pytest.raises(RowError, match="unfinished"):
        write_board(tmp_path / "board", [(suite, [half])])


def test_a_board_is_checked_before_anything_is_built(content: Content, tmp_path: Path) -> None:
    for module in ("sphinx", "furo", "myst_parser", "plotly"):
        pytest.importorskip(module, reason="the site needs the extra docs")
    (row, *_) = content[0][1]
    (tmp_path / "board" / row.suite).mkdir(parents=True)
    row.save(tmp_path / "board" / row.suite / "adam.json")
    with pytest.raises(SubmissionError, match="episodes"):  # four, and not the suite's
        build.build_site(tmp_path / "site", tmp_path / "board")
    assert not (tmp_path / "site").exists()


def test_a_folder_that_is_no_site_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidArgumentError, match="no site that metagym built"):
        build.build_site(tmp_path, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_site_is_replaced_as_a_whole_or_not_at_all(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, source = tmp_path / "site", tmp_path / "source"
    out.mkdir()
    (out / build.MARKER).write_text("")
    (out / "old.html").write_text("old")
    source.mkdir()
    (source / "index.md").write_text("# Title\n\n[gone](gone.md)\n")
    with pytest.raises(build.SiteError, match=r"gone\.md"):
        build.render(source, out)
    assert (out / "old.html").read_text() == "old"

    def succeed(source: Path, new: Path) -> None:
        new.mkdir()
        (new / "index.html").write_text("new")

    monkeypatch.setattr(build, "_run_sphinx", succeed)
    (source / "_static").rename(tmp_path / "used")
    assert build.render(source, out).read_text() == "new"
    assert sorted(path.name for path in out.iterdir()) == ["index.html", build.MARKER]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site", "source", "used"]


@pytest.mark.parametrize("missing", ["furo", "plotly"])
def test_what_is_not_installed_is_said(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else find(name)
    )
    for module in {"sphinx", "furo", "myst_parser"} - {missing}:
        pytest.importorskip(module, reason="the site needs the extra docs")
    with pytest.raises(
        build.SiteError, match=rf"{missing} is not installed: pip install -e '\.\[docs"
    ):
        build.build_site(tmp_path / "site", tmp_path)
