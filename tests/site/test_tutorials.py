"""The tutorials' Python, run page by page as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import gymnasium as gym
import pytest

import metagym

FOLDER = Path(metagym.__file__).parent / "site" / "tutorials"
PAGES = sorted(page.stem for page in FOLDER.glob("*.md") if page.stem != "index")


def run(page: str) -> dict[str, object]:
    blocks = re.findall(r"```python\n(.*?)```", (FOLDER / f"{page}.md").read_text(), re.DOTALL)
    names: dict[str, object] = {"__name__": page}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    return names


def test_the_index_lists_every_page() -> None:
    index = (FOLDER / "index.md").read_text()
    assert sorted(re.findall(r"\((.*?)\.md\)", index)) == PAGES
    assert sorted(re.findall(r"^[a-z-]+$", index, re.MULTILINE)) == PAGES  # of the side bar


@pytest.mark.parametrize("page", PAGES)
def test_a_tutorial_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if page == "ray-cluster":
        pytest.importorskip("ray", reason="Ray is an extra")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    names = run(page)
    assert capsys.readouterr().out
    if page == "write-an-agent":
        assert names["result"].mean < 0.0  # type: ignore[attr-defined]  # it starts at 1.9
    if page == "learned-optimizer":
        loss, accuracy = names["learned"]  # type: ignore[misc]
        assert loss < 0.1 and accuracy > 0.8
        assert names["loss"].item() < 0.2  # type: ignore[attr-defined]
