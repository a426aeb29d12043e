"""A page for each agent and baseline: what it is, how it is called, its settings, its numbers.

Everything comes from the tables by which names are looked up and from docstrings; results are the
rows of the board and the sections of ``experiments/`` that have the name in a table or a heading.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from metagym.baselines.few_shot import METHODS
from metagym.baselines.few_shot.recipes import TASK_KINDS, recipe
from metagym.baselines.multitask.architectures import ARCHITECTURES
from metagym.baselines.transfer.deep_methods import DEEP_METHODS
from metagym.checkpoint import read_config
from metagym.loading import TRAINED, UNTRAINED, trainer
from metagym.optim.learned import PRETRAINED, pretrained_names
from metagym.site.markdown import (
    Setting,
    code,
    description,
    settings,
    settings_table,
    table,
    tree,
)


@dataclass(frozen=True)
class Page:
    """What one page says.

    Attributes:
        name: as it is typed.
        text: Markdown.
        usage: a command or a line of Python.
        settings: arguments with their defaults.
        details: further Markdown, such as recipes.
    """

    name: str
    text: str
    usage: str
    settings: Sequence[Setting] = ()
    details: str = ""

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-").lower()


@dataclass(frozen=True)
class Group:
    """Pages that belong together.

    Attributes:
        folder: of the pages.
        title: of the group.
        text: Markdown that stands above the list.
        pages: in their order.
        results: the file in ``experiments/`` that has results of them.
        about: what the headings of those results say, a regular expression.
    """

    folder: str
    title: str
    text: str
    pages: Sequence[Page]
    results: str = "README.md"
    about: str = ""


def write_agents(folder: Path, experiments: Path, board: dict[str, list[str]]) -> None:
    """Write ``index.md``, a page for each group and one for each agent into ``folder``.

    Args:
        folder: is made.
        experiments: holds README.md and SUPERVISED.md.
        board: lines of Markdown about an agent's rows on the leaderboard, by its name.
    """
    index = ["# Agents and baselines", "", "What learns, and what it has to beat.", ""]
    names = []
    for group in groups():
        (folder / group.folder).mkdir(parents=True)
        sections = Sections((experiments / group.results).read_text(), group.about)
        for page in group.pages:
            found = [
                f"- [{title}](../../experiments/{group.results}#{anchor})"
                for title, anchor in sections.find(page.name)
            ]
            path = folder / group.folder / f"{page.slug}.md"
            path.write_text(_page(page, board.get(page.name, []), found))
        (folder / group.folder / "index.md").write_text(_group(group))
        listed = ", ".join(
            f"[{code(page.name)}]({group.folder}/{page.slug}.md)" for page in group.pages
        )
        index += [f"**[{group.title}]({group.folder}/index.md)**: {listed}", ""]
        names.append(f"{group.folder}/index")
    (folder / "index.md").write_text("\n".join(index) + "\n" + tree(*names))


def groups() -> list[Group]:
    """All groups, with the pages of everything that the package calls by name."""
    optimizers = importlib.import_module("metagym.agents.optimizers")
    bandits = importlib.import_module("metagym.agents.bandits")
    tabular = importlib.import_module("metagym.agents.tabular")
    search_agents = importlib.import_module("metagym.agents.search_agents")
    by_module: dict[str, dict[str, Any]] = {}
    for name, target in UNTRAINED.items():
        by_module.setdefault(target.split(":")[0].rpartition(".")[2], {})[name] = _load(target)
    return [
        Group("trained", "Agents that learn", _TRAINED, [_trained(name) for name in TRAINED]),
        Group(
            "shipped", "Policies that come along", _SHIPPED, [*map(_shipped, pretrained_names())]
        ),
        Group(
            "optimizers", "Hand-designed optimisers", _module(optimizers.hand_designed),
            [_rule(name, rule, optimizers) for name, rule in optimizers.RULES.items()],
        ),
        Group(
            "black-box", "Black-box search", "For `BlackBoxOptimize-v0` and its relatives.",
            _acting(by_module["black_box"], "BlackBoxOptimize-v0"), about="black",
        ),
        Group(
            "bandits", "Bandits", _module(bandits),
            _acting(bandits.AGENTS, "MetaBandit-v0", bandits), about="bandit",
        ),
        Group(
            "mdps", "Unknown MDPs", _module(tabular),
            _acting(by_module["tabular_base"] | tabular.AGENTS, "MetaTabularMDP-v0", tabular),
            about="mdp",
        ),
        Group(
            "mazes", "Mazes and navigation", _WALKS,
            _acting(by_module["mazes"], "MetaMaze-v0")
            + _acting(by_module["navigation"], "MetaNavigation2D-v0")
            + _acting(by_module["random"], "MetaMaze-v0"),
            about="maze|navigation",
        ),
        Group(
            "search", "Architecture search", _SEARCH,
            [*map(_search_agent, search_agents.AGENTS), *map(_searcher, _SEARCHERS)],
            about="architecture|searcher|cells|chains",
        ),
        Group(
            "few-shot", "Few-shot learning", _package("metagym.baselines.few_shot"),
            [_method(name, target) for name, target in METHODS.items()],
            "SUPERVISED.md", "few-shot|reptile|tasks",
        ),
        Group(
            "multitask", "Multi-task learning", _package("metagym.baselines.multitask"),
            [
                _supervised(f"multitask_{name}", target, "digits_binary")
                for name, target in ARCHITECTURES.items()
            ]
            + _estimators("metagym.baselines.multitask"),
            "SUPERVISED.md", "multi-task",
        ),
        Group(
            "transfer", "Transfer learning", _package("metagym.baselines.transfer"),
            [
                _supervised(name, target, "mnist_usps") for name, target in DEEP_METHODS.items()
            ]
            + _estimators("metagym.baselines.transfer"),
            "SUPERVISED.md", "transfer|weights|auctions",
        ),
    ]  # fmt: skip


_TRAINED = (
    "`metagym train NAME ENV --out DIR` trains each of them; `metagym train NAME --help` lists\
 its settings."
)
_SHIPPED = "Folders of `metagym/pretrained/`: a few kilobytes of weights, and how they came about."
_WALKS = "Explorers that were written, oracles that see the task, and random actions."
_SEARCH = "Names in small letters are agents, for `ArchitectureSearchTrial-v0`; the classes propose\
 architectures to `search` in `metagym.agents.architecture_search`."
_SEARCHERS = (
    "metagym.agents.architecture_search:RandomSearch",
    "metagym.agents.architecture_search:RegularizedEvolution",
    "metagym.agents.architecture_search:LocalSearch",
    "metagym.agents.architecture_search:ReinforceLogits",
    "metagym.agents.randomized_values:RandomizedValues",
)
_FIRST_ENV = {
    "rl2": "MetaBandit-v0",
    "controller": "NeuralArchitectureSearch-v0",
    "async_controller": "ChainSearch-v0",
    "black_box_rnn": "BlackBoxOptimize-v0",
}


# -- pages of each kind ------------------------------------------------------------------------


def _trained(name: str) -> Page:
    face = trainer(name)
    env_id = _FIRST_ENV.get(name, "LearnToOptimize-v0")
    return Page(
        name,
        _module(face),
        f"metagym train {name} {env_id} --out runs/{name}",
        settings(face.Config),
        _recipes(face),
    )


def _recipes(face: Any) -> str:
    """What the recipes of environments change, where a module has any."""
    default = face.Config()
    rows = [
        (code(env_id), ", ".join(code(f"{k}={v!r}") for k, v in _changes(config, default).items()))
        for env_id, config in getattr(face, "RECIPES", {}).items()
    ]
    return "## Recipes\n\n" + table(("id", "other than the defaults"), rows) if rows else ""


def _changes(config: Any, default: Any) -> dict[str, Any]:
    return {k: v for k, v in vars(config).items() if v != getattr(default, k)}


def _shipped(name: str) -> Page:
    config = read_config(PRETRAINED / name)
    training = config["training"]
    kind: Any = trainer(config["agent"]).Config
    known = {k: tuple(v) if isinstance(v, list) else v for k, v in config["config"].items()}
    arguments = f" with `{json.dumps(config['env_kwargs'])}`" if config["env_kwargs"] else ""
    cost = f"{training['steps']:,} steps, {training['seconds']:,.0f} s"
    return Page(
        name,
        f"A policy that `{config['agent']}` learned on `{config['env_id']}`{arguments}: {cost}, "
        f"seed {training['seed']}.\n\n```bash\n{training['command']}\n```",
        f"metagym evaluate {name} LearnToOptimize-v0",
        settings(kind, kind(**known)),
    )


def _rule(name: str, rule: type, module: Any) -> Page:
    return Page(
        name,
        description(rule),
        f"metagym evaluate {name} LearnToOptimize-v0",
        settings(rule),
        _grid(name, module),
    )


def _acting(classes: dict[str, Any], env_id: str, module: Any = None) -> list[Page]:
    return [
        Page(
            name,
            description(kind),
            f"metagym evaluate {name} {env_id}",
            settings(kind),
            "" if module is None else _grid(name, module),
        )
        for name, kind in classes.items()
    ]


def _grid(name: str, module: Any) -> str:
    """The values among which an agent's settings are tuned on the train split."""
    grid = module.GRIDS.get(name)
    if grid is None:
        return ""
    rows = [(code(argument), code(repr(tuple(values)))) for argument, values in grid.items()]
    return "## Tuned on the train split\n\n" + table(("name", "among"), rows)


def _search_agent(name: str) -> Page:
    """A searcher as an agent: its own settings and their values there, and the agent's seed."""
    module = importlib.import_module("metagym.agents.search_agents")
    make = module.AGENTS[name]
    kind, values = make.args[0], SimpleNamespace(**make().config)
    seed = [setting for setting in settings(module.SearchAgent) if setting.name == "seed"]
    return Page(
        name,
        description(kind),
        f"metagym evaluate {name} ArchitectureSearchTrial-v0",
        [*settings(kind, values), *seed],
    )


def _searcher(target: str) -> Page:
    kind = _load(target)
    module, name = target.split(":")
    return Page(name, description(kind), f"from {module} import {name}", settings(kind))


def _method(name: str, target: str) -> Page:
    """A few-shot method; its recipes say how the papers trained it on each kind of tasks."""
    page = _supervised(name, target, "glyphs")
    rows = []
    for kind in TASK_KINDS:
        changes = recipe(name, kind, long=False)
        row = ", ".join(
            code(f"{k}={v!r}") for k, v in (changes.fields | changes.loop | changes.tasks).items()
        )
        rows.append((kind, row or "the defaults"))
    recipes = "## Recipes for minutes on a CPU\n\n" + table(("tasks", "settings"), rows)
    return Page(page.name, page.text, page.usage, page.settings, recipes)


def _supervised(name: str, target: str, tasks: str) -> Page:
    kind = _load(target)
    return Page(
        name,
        description(kind) + "\n\n" + _module(importlib.import_module(kind.__module__)),
        f"metagym train {name} {tasks} --out runs/{name}",
        settings(trainer(name).Config),
    )


def _estimators(package: str) -> list[Page]:
    """The classes of a package that have ``fit``, other than networks."""
    module = importlib.import_module(package)
    pages = []
    for name in module.__all__:
        kind = getattr(module, name)
        if isinstance(kind, type) and hasattr(kind, "fit"):
            text = description(kind) + "\n\n" + _module(importlib.import_module(kind.__module__))
            pages.append(Page(name, text, f"from {package} import {name}", settings(kind)))
    return pages


# -- results -----------------------------------------------------------------------------------


class Sections:
    """The sections of a page of results, to be found by a name in a heading or in a table.

    Args:
        text: Markdown with ``## headings``.
        about: a regular expression; a section whose heading has nothing of it is left out.
    """

    def __init__(self, text: str, about: str = "") -> None:
        self._sections = []
        for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
            title, _, body = part.partition("\n")
            if not re.search(about, title, re.IGNORECASE):
                continue
            rows = [line for line in body.splitlines() if line.startswith("|")]
            # First cells say who, and so does the first line of a table.
            cells = [cell for line in rows for cell in line.strip("|").split("|")[:2]]
            heads = [rows[0]] if rows else []
            self._sections.append((title, _words(" | ".join([title, *heads, *cells]))))

    def find(self, name: str) -> list[tuple[str, str]]:
        """Titles and anchors of the sections that speak of ``name``."""
        wanted = re.compile(rf"\b{re.escape(_words(name))}\b")
        return [
            (title, re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-"))
            for title, words in self._sections
            if wanted.search(words)
        ]


def _words(text: str) -> str:
    """Lower case, with one spelling for what is written in several ways."""
    text = (
        re.sub(r"([a-z])([A-Z])", r"\1 \2", text).lower().replace("²", "2").replace("ε", "epsilon")
    )
    text = text.replace("randomised", "randomized").replace("regularised", "regularized")
    return re.sub(r"[\s_*`-]+", " ", text).removeprefix("multitask ").removeprefix("mdp ")


# -- Markdown ----------------------------------------------------------------------------------


def _page(page: Page, board: Iterable[str], sections: Sequence[str]) -> str:
    language = "python" if page.usage.startswith("from ") else "bash"
    parts = [f"# {page.name}", page.text, f"```{language}\n{page.usage}\n```"]
    if page.settings:
        parts += ["## Settings", settings_table(page.settings)]
    if page.details:
        parts.append(page.details)
    if rows := list(board):
        parts += ["## On the leaderboard", "\n".join(rows)]
    if sections:
        parts += ["## Results", "\n".join(sections)]
    return "\n\n".join(parts) + "\n"


def _group(group: Group) -> str:
    listed = "\n".join(
        f"- [{code(page.name)}]({page.slug}.md): {_first_line(page.text)}" for page in group.pages
    )
    pages = tree(*(page.slug for page in group.pages))
    return f"# {group.title}\n\n{group.text}\n\n{listed}\n\n{pages}"


def _first_line(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


def _module(module: Any) -> str:
    return description(module)


def _package(name: str) -> str:
    return _module(importlib.import_module(name))


def _load(target: str) -> Any:
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)
