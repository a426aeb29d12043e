"""Pages out of docstrings and tables: complete, and in Markdown that says what was meant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from metagym.loading import SUPERVISED, TRAINED, agent_names
from metagym.site.agents import Group, Sections, groups, write_agents
from metagym.site.animation import LARGEST, _save, animate
from metagym.site.build import CHECKOUT
from metagym.site.markdown import description, plain, settings, settings_table, table


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
        for page in group.pages:
            assert page.text and page.usage, page.name
            for setting in page.settings:  # rules say it in their equations
                assert setting.meaning or group.folder == "optimizers", (page.name, setting.name)


def test_pages_have_recipes_and_results(tmp_path: Path, all_groups: list[Group]) -> None:
    write_agents(tmp_path, CHECKOUT / "experiments", {"maml": ["- a row"]})
    maml = (tmp_path / "few-shot" / "maml.md").read_text()
    for part in ("(I - α ∇²L_support(θ))", "`inner_lr=0.4`", "- a row", "#what-reptile-learns"):
        assert part in maml
    rl2 = (tmp_path / "trained" / "rl2.md").read_text()
    assert "| `MetaMaze-v0` | `width=96`, " in rl2
    shipped = (tmp_path / "shipped" / "quadratics.md").read_text()
    assert "metagym train ppo LearnToOptimize-v0 --out runs/quadratics" in shipped


def test_sections_are_found_by_headings_and_tables() -> None:
    text = (
        "# Results\n\n## RL² on bandits\n\nwords of Adam\n\n| agent | score |\n|---|---|\n"
        "| ε-greedy / greedy | 2 |\n\n## Mazes\n\n| n | UCB1 | Gittins |\n|---|---|---|\n"
    )
    sections = Sections(text)
    assert sections.find("rl2") == [("RL² on bandits", "rl²-on-bandits")]
    assert sections.find("epsilon_greedy") == sections.find("rl2")
    assert [title for title, _ in sections.find("gittins")] == ["Mazes"]
    assert sections.find("adam") == []
    assert Sections(text, "bandit").find("gittins") == []


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


def test_an_environment_that_does_not_draw_itself_has_no_file(tmp_path: Path) -> None:
    path = tmp_path / "x.webp"
    assert animate("MetaTabularMDP-v0", path) is None
    assert not path.exists()
    assert animate("MetaBandit-v0", path) == "gittins"
    with Image.open(path) as animation:
        assert animation.n_frames == 11  # type: ignore[attr-defined]  # the start and ten pulls


def test_animations_are_small(tmp_path: Path) -> None:
    frames = [Image.effect_noise((960, 432), 80).convert("RGB") for _ in range(4)]
    _save(frames, tmp_path / "noise.webp", 10)
    assert (tmp_path / "noise.webp").stat().st_size <= LARGEST
