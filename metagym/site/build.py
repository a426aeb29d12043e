"""``build_site``: Markdown out of the checkout, then Sphinx, then the whole folder into its place.

The source folder mirrors the repository where that has pages of its own (``experiments/``), so that
their links and figures hold as they are.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import metagym
from metagym.errors import DataError, InvalidArgumentError, MetagymError
from metagym.evaluation.suites import Suite
from metagym.leaderboard import Row
from metagym.leaderboard.submission import load_board
from metagym.site.agents import write_agents
from metagym.site.board import write_board
from metagym.site.environments import write_environments
from metagym.site.markdown import tree

CHECKOUT = Path(metagym.__file__).resolve().parent.parent
MARKER = "metagym-site.txt"  # in every site of ours; a folder with it may be replaced

_HERE = Path(__file__).parent
_SETTINGS: dict[str, Any] = {
    "project": "metagym",
    "html_title": "metagym",
    "extensions": "myst_parser",
    "myst_heading_anchors": 3,
    "html_theme": "furo",
    "html_static_path": "_static",
    "html_css_files": "site.css",
    "html_copy_source": 0,
    "html_show_copyright": 0,
    "html_show_search_summary": 0,  # they would be fetched, which a browser refuses local files
    "html_show_sourcelink": 0,
    "smartquotes": 0,
}
_LEARN_MORE = """## Go on

- [Guide](guide.md): install, train, evaluate, compare
- [Tutorials](tutorials/index.md): an agent, a problem, a search space, a training loop, a cluster
- [Environments](environments/index.md) and [agents](agents/index.md), each with a page of its own
- [Leaderboard](leaderboard/index.md): rows that a command makes again
- [Results](experiments/README.md), each with its command

"""


class SiteError(MetagymError, RuntimeError):
    """The site cannot be built; the message has what Sphinx says."""


def build_site(out: str | Path, board: str | Path) -> Path:
    """Build the whole site.

    Args:
        out: the folder to make. One that exists is replaced if this function made it.
        board: the folder of the leaderboard's rows, such as ``experiments/board``.

    Returns:
        The page to open.

    Raises:
        InvalidArgumentError: ``out`` exists and is no site of ours.
        SubmissionError: a row below ``board`` is not what it has to be.
        RowError: there is no such board, or a file below it is no row.
        DataError: this is not a checkout of the repository.
        SiteError: the extra ``docs`` is not installed, or Sphinx has a warning.
    """
    out = Path(out).resolve()
    check_out(out)
    for module in ("sphinx", "furo", "myst_parser", "plotly"):
        if importlib.util.find_spec(module) is None:
            raise SiteError(f"{module} is not installed: pip install -e '.[docs]' in the checkout.")
    if not (CHECKOUT / "experiments" / "README.md").is_file():
        raise DataError(
            f"{CHECKOUT} is no checkout of metagym's repository, out of which the site is built: "
            "git clone it, and pip install -e '.[docs]' there."
        )
    content = load_board(board)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        write_sources(source, content)
        return render(source, out)


def check_out(out: Path) -> None:
    """Refuse a path where something is that we did not make.

    Raises:
        InvalidArgumentError: it exists and is no site of ours.
    """
    if os.path.lexists(out) and not (out / MARKER).is_file():
        raise InvalidArgumentError(
            f"--out {out} exists and is no site that metagym built; choose another path."
        )


def write_sources(source: Path, content: Iterable[tuple[Suite, Sequence[Row]]]) -> None:
    """Write all pages as Markdown into ``source``; ``content`` is that of the board."""
    write_front(source)
    board = write_board(source / "leaderboard", content)
    experiments = CHECKOUT / "experiments"
    write_environments(source / "environments")
    write_agents(source / "agents", experiments, board)
    shutil.copytree(_HERE / "tutorials", source / "tutorials")
    (source / "experiments" / "board").mkdir(parents=True)
    for page in ("README.md", "SUPERVISED.md", "board/README.md"):
        shutil.copy(experiments / page, source / "experiments" / page)
    template = (experiments / "board" / "TEMPLATE.md").read_text()
    (source / "experiments" / "board" / "TEMPLATE.md").write_text(
        f"---\norphan: true\n---\n{template}"
    )
    shutil.copytree(experiments / "figures", source / "experiments" / "figures", dirs_exist_ok=True)


def write_front(source: Path) -> None:
    """The front page and the guide: the two halves of the repository's README."""
    front, head, guide = (CHECKOUT / "README.md").read_text().partition("## Install\n")
    pages = tree("guide", "tutorials/index", "environments/index", "agents/index", caption="Use")
    pages += tree(
        "leaderboard/index", "experiments/README", "experiments/SUPERVISED",
        "experiments/board/README", caption="Results",
    )  # fmt: skip
    (source / "index.md").write_text(front + _LEARN_MORE + pages)
    (source / "guide.md").write_text("# Guide\n\n" + head + guide)
    figure = Path("experiments/figures/demo.png")
    (source / figure).parent.mkdir(parents=True)
    shutil.copy(CHECKOUT / figure, source / figure)


def render(source: Path, out: Path) -> Path:
    """Make HTML of the Markdown in ``source``, and put it in the place of ``out`` when it is whole.

    Returns:
        The page to open.

    Raises:
        SiteError: Sphinx has a warning.
    """
    static = source / "_static"
    shutil.copytree(_HERE / "assets", static)
    shutil.copy(_plotly(), static)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        new, old = Path(folder) / "new", Path(folder) / "old"
        _run_sphinx(source, new)
        (new / MARKER).write_text(f"Built by metagym {metagym.__version__}; it may be replaced.\n")
        new.chmod(0o755)
        check_out(out)  # it may have come into being meanwhile
        if out.exists():
            out.rename(old)
        new.rename(out)
    return out / "index.html"


# -- the inside --------------------------------------------------------------------------------


def _run_sphinx(source: Path, out: Path) -> None:
    options = [f"-D{name}={value}" for name, value in _SETTINGS.items()]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-C", "-W", "-q", "-j", "auto", "-b", "html", *options,
         "-d", str(out.parent / "doctrees"), str(source), str(out)],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SiteError(f"Sphinx does not like the pages: {done.stderr.strip()}")


def _plotly() -> Path:
    """The charts' JavaScript, a file of the Python package plotly."""
    spec = importlib.util.find_spec("plotly")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "package_data" / "plotly.min.js"
