"""The leaderboard in Chromium, from a local folder and without a network."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.site.conftest import SCRIPT

webdriver: Any = pytest.importorskip("selenium.webdriver", reason="the browser is driven by it")
Select: Any = pytest.importorskip("selenium.webdriver.support.select").Select
WebDriverWait: Any = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait
PROGRAMS = [shutil.which(name) for name in ("chromium", "chromedriver")]
if not all(PROGRAMS):
    pytest.skip("there is no chromium with its chromedriver", allow_module_level=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = PROGRAMS[0]
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1400,1000",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(PROGRAMS[1]))
    yield driver
    driver.quit()


@pytest.fixture
def board(browser: Any, site: Path) -> Iterator[Any]:
    """The page, open; afterwards its console is empty and it has asked for local files only."""
    browser.get("about:blank")
    browser.get((site / "leaderboard" / "index.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.cracked") is None
    asked = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"].split(":")[0])
    assert set(asked) <= {"file", "about", "data", "blob"} and asked


def find(browser: Any, selector: str) -> list[Any]:
    return list(browser.find_elements("css selector", selector))


def numbers(text: str) -> list[float]:
    """Of an estimate and its interval."""
    return [float(number) for number in re.findall(r"-?\d+\.\d{3}", text)]


def names(browser: Any) -> list[str]:
    return [link.text for link in find(browser, "#board-table tbody th a")]


def show(browser: Any, view: str) -> None:
    Select(find(browser, "select[name=view]")[0]).select_by_value(view)


def sort_by(browser: Any, title: str) -> None:
    (button,) = [b for b in find(browser, "#board-table thead button") if b.text.startswith(title)]
    button.click()


def test_tables_sort_by_any_column(board: Any) -> None:
    assert names(board) == [SCRIPT, "quadratics", "adam", "broken"]  # by mean
    ranks = [cell.text for cell in find(board, "#board-table tbody td:first-child")]
    assert ranks == ["–", "1", "2", "3"]
    sort_by(board, "row")
    assert names(board) == sorted(names(board), key=str.lower)
    sort_by(board, "row")
    assert names(board)[-1] == SCRIPT
    sort_by(board, "played")
    (head,) = find(board, "#board-table th[aria-sort]")
    assert head.get_attribute("aria-sort") == "descending" and names(board)[-1] == "broken"


def test_smaller_gaps_come_first_and_unknown_costs_last(board: Any) -> None:
    show(board, "aggregates")
    sort_by(board, "optimality gap")
    assert names(board) == [SCRIPT, "quadratics", "adam", "broken"]
    show(board, "overview")
    sort_by(board, "time")
    cheap = names(board)
    sort_by(board, "time")
    assert cheap[-1] == names(board)[-1] == "broken" and cheap[0] != names(board)[0]
    last = find(board, "#board-table tbody tr:last-child td")
    assert [cell.text for cell in last[-2:]] == ["34/40", "unknown"]
    assert "not drawn: broken." in find(board, "#board-charts")[0].text


def test_rows_are_filtered_by_text_and_by_tags(board: Any) -> None:
    (text,) = find(board, "#board input[name=filter]")
    text.send_keys("KINGMA")
    assert names(board) == ["adam"]
    text.clear()
    text.send_keys("nobody")
    assert names(board) == [] and "No row is like that" in find(board, "#board-table")[0].text
    text.send_keys(webdriver.Keys.BACKSPACE * 6)
    assert len(names(board)) == 4
    find(board, "[data-tag=trained]")[0].click()
    assert names(board) == ["quadratics"]
    find(board, "[data-tag='sees the task']")[0].click()
    assert names(board) == [SCRIPT, "quadratics"]


def test_a_permalink_opens_its_row_with_the_command(board: Any, content: Any) -> None:
    find(board, "a[href='#core-v0/broken']")[0].click()
    (row,) = find(board, "#board-row")
    (command,) = [broken.command for broken in content[0][1] if broken.name == "broken"]
    select = "getSelection().selectAllChildren(document.querySelector('.board-command pre'));"
    assert board.execute_script(f"{select} return getSelection().toString()") == command
    assert "maze (seed 0, 1, 2, 3, 4): not through after <b>60</b> s" in row.text  # as text
    tasks = {line.text.split()[0]: line.text for line in find(board, "#board-row tr")}
    assert tasks["maze"] == "maze failed 5/5"  # and no score
    assert tasks["quadratics"].count("failed 1/5") == 1
    assert board.current_url.endswith("#core-v0/broken")
    url = board.current_url.replace("broken", "%3Cscript%3Ewindow.cracked%20%3D%201%3C%2Fscript%3E")
    board.get("about:blank")
    board.get(url)
    (row,) = find(board, "#board-row")
    assert row.find_element("css selector", "h2").text == SCRIPT
    assert "<img src=x" in row.text
    links = [link.get_attribute("href") for link in find(board, "#board-row a")]
    assert not any(link.startswith("javascript") for link in links)
    find(board, ".board-close")[0].click()
    assert not row.is_displayed()


def test_each_task_and_the_cost_are_views(board: Any) -> None:
    from metagym.evaluation.suites import make_suite

    show(board, "tasks")
    heads = [head.text.rstrip(" ▾▴") for head in find(board, "#board-table thead button")]
    assert heads == ["#", "row", *(task.name for task in make_suite("core-v0").tasks)]
    intervals = find(board, "#board-table td svg.board-interval")
    assert len(intervals) == 4 * (len(heads) - 2) - 1
    assert "failed 5/5" in find(board, "#board-table")[0].text
    show(board, "cost")
    assert "24.0 M" in find(board, "#board-table")[0].text


def test_intervals_are_words_and_bars_on_the_scale_of_their_column(board: Any) -> None:
    Select(find(board, "select[name=suite]")[0]).select_by_value("optimize-v0")
    estimates = find(board, "#board-table tbody .board-estimate")
    (value, low, high), (least, *_) = (numbers(estimate.text) for estimate in estimates)
    left, right = (float(end.text) for end in find(board, "#board-table .board-axis span"))
    assert least - 0.1 < left <= least < low < value < high <= right < high + 0.1
    box = "return arguments[0].getBoundingClientRect().toJSON()"
    svg, bar = (
        board.execute_script(box, estimates[0].find_element("css selector", part))
        for part in ("svg", "rect")
    )
    assert bar["width"] == pytest.approx(svg["width"] * (high - low) / (right - left), rel=0.1)
    middle = left + (right - left) * (bar["x"] + bar["width"] / 2 - svg["x"]) / svg["width"]
    assert middle == pytest.approx((low + high) / 2, abs=0.01)


def test_far_outliers_are_arrows(board: Any) -> None:
    Select(find(board, "select[name=suite]")[0]).select_by_value("optimize-v0")
    show(board, "tasks")
    cells = find(board, "#board-table tbody .board-estimate")
    arrows = {numbers(cell.text)[0] < -1: "«" in cell.text for cell in cells}
    assert arrows == {True: True, False: False}


def test_each_ruleset_is_a_table(board: Any) -> None:
    Select(find(board, "select[name=suite]")[0]).select_by_value("optimize-v0")
    assert names(board) == ["as it is", "worse"]
    find(board, "[data-ruleset=external-tuning]")[0].click()
    assert names(board) == ["searched"]
    find(board, "#board-table tbody th a")[0].click()
    (row,) = find(board, "#board-row")
    assert "lr: 0.01, 0.1; decay: null" in row.text
    board.get(board.current_url.split("#")[0] + "#optimize-v0/worse%2C%20self-tuning")
    assert names(board) == ["as it is", "worse"]  # the table says which ruleset
    (better,) = find(board, "#board-row .board-better tbody tr")
    assert better.text.startswith("as it is\n0.0") or better.text.startswith("as it is 0.0")


def test_steps_to_the_target_are_a_view_of_suites_that_have_one(board: Any) -> None:
    views = "select[name=view] option"
    assert "target" not in [option.get_attribute("value") for option in find(board, views)]
    Select(find(board, "select[name=suite]")[0]).select_by_value("optimize-v0")
    show(board, "target")
    heads = [head.text for head in find(board, "#board-table thead th")]
    assert "rosenbrock" in heads and "gaussian_process" not in heads
    cells = [cell.text for cell in find(board, "#board-table tbody tr:first-child td")]
    assert cells[1] == "40, 40 %"


def test_charts_are_drawn_and_a_point_leads_to_its_row(board: Any) -> None:
    assert len(find(board, "#board-profile .scatterlayer .trace")) == 4
    assert len(find(board, "#board-cost .scatterlayer .points path")) == 3  # one is unknown
    board.execute_script(
        "document.getElementById('board-cost').emit('plotly_click',"
        " {points: [{customdata: '#core-v0/adam'}]})"
    )
    assert find(board, "#board-row h2")[0].text == "adam"
    assert len(find(board, "#board-profile .scatterlayer .trace")) == 5  # with the row's band


def test_the_search_works_in_a_local_folder(board: Any, site: Path) -> None:
    board.get((site / "search.html").as_uri() + "?q=tolerance")
    WebDriverWait(board, 10).until(lambda _: find(board, "#search-results li a"))
    assert find(board, "#search-results li a")[0].text == "MetaNavigation2D"


def test_another_suite_has_other_rows(board: Any) -> None:
    suite = Select(find(board, "select[name=suite]")[0])
    suite.select_by_value("adapt-v0")
    assert "No rows yet" in find(board, "#board-table")[0].text
    assert board.current_url.endswith("#adapt-v0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_in_both_themes(board: Any, scheme: str) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    board.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    board.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        board.get(board.current_url.split("#")[0] + "#core-v0/broken")
        board.refresh()
        wide = "return document.documentElement.scrollWidth"
        assert board.execute_script(wide) == 390
        boxes = find(board, ".board-scroll")
        overflows = [
            board.execute_script("return arguments[0].scrollWidth > 390", box) for box in boxes
        ]
        assert any(overflows)  # what is wide scrolls in its own box
        for cell in find(board, "#board-table tbody td:last-child"):  # the time, with its unit
            assert cell.rect["x"] + cell.rect["width"] <= 390
        colour = "return getComputedStyle(document.querySelector('#board-cost text')).fill"
        red = int(board.execute_script(colour).split("(")[1].split(",")[0])
        assert (red > 128) == (scheme == "dark")  # the charts' letters follow the theme
    finally:
        board.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        board.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
