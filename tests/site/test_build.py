"""The site as a whole: what it holds, what it refuses, and that it needs nobody else."""

from __future__ import annotations

import html
import importlib.util
import json
import re
from pathlib import Path

import pytest

from metagym.errors import InvalidArgumentError
from metagym.evaluation.suites import make_suite
from metagym.leaderboard import Row, RowError
from metagym.site import build
from metagym.site.board import data_script, write_board
from tests.site.conftest import SCRIPT


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


def test_the_data_of_a_suite_survive_their_escape(rows: list[Row]) -> None:
    suite = make_suite("core-v0")
    script = data_script(suite, [row.summary() for row in rows])
    assert script.count("<") == 2
    data = json.loads(script.split(">", 1)[1].removesuffix("</script>"))
    assert [row["name"] for row in data["rows"]] == [row.name for row in rows]
    assert [task["name"] for task in data["tasks"]] == [task.name for task in suite.tasks]


def test_rows_are_told_to_the_pages_of_their_agents(rows: list[Row], tmp_path: Path) -> None:
    mentions = write_board(tmp_path / "board", rows)
    assert sorted(mentions) == ["adam", "broken", "quadratics", "random"]
    assert "index.html#core-v0/adam" in mentions["adam"][0]
    assert "failures: 1" in mentions["broken"][0]
    assert "<script" not in mentions["random"][0]


def test_an_unfinished_row_is_refused(rows: list[Row], tmp_path: Path) -> None:
    half = Row(**{**vars(rows[0]), "results": rows[0].results[:-1]})
    with pytest.raises(RowError, match="unfinished"):
        write_board(tmp_path / "board", [half])


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
    with pytest.raises(build.SiteError, match=rf"{missing} is not installed: pip install .*\[docs"):
        build.build_site(tmp_path / "site", tmp_path)
