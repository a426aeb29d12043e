"""Pages out of docstrings and tables: complete, and in Markdown that says what was meant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gymnasium.envs.registration import load_env_creator
from PIL import Image

from metagym.core.batch import BatchedEnv
from metagym.errors import DataError
from metagym.loading import SUPERVISED, TRAINED, agent_names
from metagym.site.agents import FACTS, Group, groups, write_agents
from metagym.site.animation import LARGEST, _save, animate
from metagym.site.build import CHECKOUT
from metagym.site.environments import classes
from metagym.site.markdown import (
    Setting,
    description,
    mathematics,
    plain,
    settings,
    settings_table,
    table,
    topic,
)
from metagym.site.results import Results


@pytest.fixture(scope="module")
def all_groups() -> list[Group]:
    return groups()


def test_everything_with_a_name_has_one_page(all_groups: list[Group]) -> None:
    names = [page.name for group in all_groups for page in group.pages]
    assert {*agent_names(), *TRAINED, *SUPERVISED} <= set(names)
    assert {"TCA", "MultiTaskRegressor", "LocalSearch"} <= set(names)
    for group in all_groups:
        slugs = [page.slug for page in group.pages]
        assert len(set(slugs)) == len(slugs)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("docutils", reason="equations need the extra docs")
    folder = tmp_path_factory.mktemp("agents")
    write_agents(folder, CHECKOUT / "experiments", {"maml": ["- a row"], "cma_es": ["- a row"]})
    return folder


def test_every_page_has_its_five_parts(pages: Path, all_groups: list[Group]) -> None:
    for group in all_groups:
        for page in group.pages:
            text = (pages / group.folder / f"{page.slug}.md").read_text()
            top, *parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
            titles, bodies = parts[::2], parts[1::2]
            assert titles == ["Equation", "Papers", "Recipe", "Measured"], page.name
            equation, papers, recipe, measured = bodies
            assert re.match(r"# \S+\n\n\w.{10}", top), page.name
            assert re.search(r"^Lecture topic: \w[^.]+\.$", top, re.MULTILINE), page.name
            assert 'display="block"' in equation and "$" not in equation, page.name
            assert re.search(r"\b(with|where)\b", equation), f"{page.name}: no symbol is explained"
            for paper in papers.strip().splitlines():
                assert re.match(r"- .* \((18|19|20)\d\d\), \S.*\.$", paper), (page.name, paper)
            assert re.search(r"```(bash\n(metagym|python)|python\nfrom) ", recipe), page.name
            for setting in page.settings:
                assert setting.meaning, (page.name, setting.name)
                assert f"| `{setting.name}` |" in recipe, (page.name, setting.name)
            if page.facts.measured:
                assert measured.count("### [") >= len(page.facts.measured), page.name
            elif "- a row" not in measured:
                assert re.search(
                    r"To measure it: `(METAGYM_DATA=\S+ )?(metagym|python) \S+", measured
                ), page.name


def test_facts_are_of_pages(all_groups: list[Group]) -> None:
    assert set(FACTS) == {page.name for group in all_groups for page in group.pages}


def test_pages_have_what_their_sources_say(pages: Path) -> None:
    maml = (pages / "few-shot" / "maml.md").read_text()
    for part in ("(I - α ∇²L_support(θ))", "`inner_lr=0.4`", "- a row", "#what-reptile-learns"):
        assert part in maml
    adam = (pages / "optimizers" / "adam.md").read_text()
    assert "| Adam, tuned | -1.54 [-1.58, -1.51] |" in adam
    assert "\n| width 24 | -2.34 |\n" in adam
    assert "momentum, tuned" not in adam
    rl2 = (pages / "trained" / "rl2.md").read_text()
    assert "| `MetaMaze-v0`, `MetaMaze-9x9-v0` | `width=96`, " in rl2
    shipped = (pages / "shipped" / "quadratics.md").read_text()
    assert "metagym train ppo LearnToOptimize-v0 --out runs/quadratics" in shipped
    assert "No table of ours" in (pages / "black-box" / "one-plus-one-es.md").read_text()
    assert "No table of ours" not in (pages / "black-box" / "cma-es.md").read_text()


_RESULTS = """# Results

## RL² on bandits

Of 10 pulls:

| n | UCB1 | Adam, tuned |
|---|---|---|
| 10 | 6.6 | 1 |

| | agent | score |
|---|---|---|
| first | **Adam** | 2 |
| | `UCB1` | 3 |
| | greedy / UCB1 | 4 |

Over 5 draws no form of
TCA is better (-.51 [-.82, -.20]). Its settings are published.

What three minutes buy:

| to compare | accuracy | to initialise | | controls | |
|---|---|---|---|---|---|
| Adam | 5 | UCB1 | 6 | random | 7 |
"""


def test_a_page_without_results_is_in_no_results(all_groups: list[Group]) -> None:
    files = [CHECKOUT / "experiments" / name for name in ("README.md", "SUPERVISED.md")]
    text = re.sub(r"[\s_-]+", " ", "\n".join(file.read_text() for file in files)).lower()
    for page in (page for group in all_groups for page in group.pages):
        if page.facts.measured or page.name == "random_search":  # there that of architectures
            continue
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", page.name).lower().replace("epsilon", "ε")
        assert not re.search(rf"\b{re.escape(words)}\b", text), page.name


def test_rows_and_columns_are_those_of_whole_cells(tmp_path: Path) -> None:
    file = tmp_path / "X.md"
    file.write_text(_RESULTS)
    results = Results([file])
    found = results.about("RL² on bandits", ["UCB1"], "..")
    link, *blocks = found.split("\n\n")
    assert link == "### [RL² on bandits](../X.md#rl²-on-bandits)"
    assert blocks == [
        "Of 10 pulls:",
        "| n | UCB1 |\n|---|---|\n| 10 | 6.6 |",
        "|  | agent | score |\n|---|---|---|\n| first | `UCB1` | 3 |",
        "What three minutes buy:",
        "| to initialise | accuracy |\n|---|---|\n| UCB1 | 6 |",
    ]
    assert results.about("RL² on bandits", ["TCA"], "..").split("\n\n") == [
        link, "Over 5 draws no form of\nTCA is better (-.51 [-.82, -.20])."
    ]  # fmt: skip
    assert "1 |" not in results.about("RL² on bandits", ["Adam"], "..")
    both = results.about("RL² on bandits", ["UCB1", "greedy / UCB1"], "..")
    assert "| first | `UCB1` | 3 |\n| first | greedy / UCB1 | 4 |" in both
    with pytest.raises(DataError, match=r"no sentence with \['tuned'\]"):
        results.about("RL² on bandits", ["UCB1", "tuned"], "..")
    with pytest.raises(DataError, match=r"no section 'Mazes' .* RL² on bandits"):
        results.about("Mazes", ["UCB1"], "..")


def test_topics_and_drawn_tables_of_docstrings() -> None:
    class Documented:
        """A line that is
        two lines.

        ====  ====
        name  what
        ====  ====
        hard  W
        ====  ====

        Text. Lecture topic: sharing,
        hard and soft. More text.
        """

    for asked in ((Documented,), (Setting, Documented)):
        assert topic(*asked) == "sharing, hard and soft"
    assert topic(Setting) == ""
    table_lines = "====  ====\nname  what\n====  ====\nhard  W\n====  ===="
    assert description(Documented) == (
        f"A line that is\ntwo lines.\n\n```text\n{table_lines}\n```\n\nText. More text."
    )


def test_mathematics_is_mathml() -> None:
    pytest.importorskip("docutils")
    text = mathematics("so $x_t$ and\n\n$$\\frac{a}{b}$$\n\nwith `a`")
    assert re.fullmatch(
        r"so <math [^>]*><msub>.*</msub></math> and\n\n<div [^>]*>\n<math [^>]*display=\"block\">"
        r"\s*<mfrac>.*</math>\n</div>\n\nwith `a`",
        text,
        re.DOTALL,
    )


def test_settings_are_those_of_the_class_and_its_bases() -> None:
    @dataclass(frozen=True)
    class Base:
        """What all have.

        Args:
            width, depth: of the network; a | b.
        """

        width: int = 3
        depth: int | None = None

    @dataclass(frozen=True)
    class Derived(Base):
        """More.

        With an equation:

            y = a|x|

        Args:
            depth: another one.
        """

    assert description(Derived) == "More.\n\nWith an equation:\n\n    y = a|x|"
    width, depth = settings(Derived, Derived(width=7))
    assert (width.default, width.meaning) == ("7", "of the network; a | b.")
    assert (depth.type, depth.meaning) == ("int | None", "another one.")
    assert "| `width` | `int` | `7` | of the network; a \\| b. |" in settings_table([width, depth])


def test_plain_text_is_text() -> None:
    markdown = pytest.importorskip("markdown_it")
    nasty = "<b>*x*</b> [a](b) `c` | # <script>\n\n- d &amp; {e}`f`"
    html = markdown.MarkdownIt().enable("table").render(table(("x",), [(plain(nasty),)]))
    (cell,) = re.findall(r"<td>(.*?)</td>", html, re.DOTALL)
    escaped = nasty.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert cell.split() == escaped.split()


def test_an_animation_shows_an_episode(tmp_path: Path) -> None:
    path = tmp_path / "x.webp"
    assert animate("MetaBandit-v0", path) == "gittins"
    with Image.open(path) as animation:
        assert animation.n_frames == 11  # type: ignore[attr-defined]  # the start and ten pulls


def test_every_environment_draws_itself() -> None:
    for entry_point in classes():
        batched: Any = load_env_creator(entry_point).batched  # type: ignore[attr-defined]
        assert "rgb_array" in batched.metadata["render_modes"], entry_point
        assert batched._render_row is not BatchedEnv._render_row, entry_point


def test_animations_are_small(tmp_path: Path) -> None:
    frames = [Image.effect_noise((960, 432), 80).convert("RGB") for _ in range(4)]
    _save(frames, tmp_path / "noise.webp", 10)
    assert (tmp_path / "noise.webp").stat().st_size <= LARGEST
