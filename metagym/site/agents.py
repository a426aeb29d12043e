"""A page for each agent and baseline: what it is, equation, papers, topic, recipe, numbers.

Names come from the tables by which they are looked up; what it is, the lecture topic and the
settings from docstrings; equations and papers from ``agent_facts`` and ``baseline_facts``; numbers
from the tables of ``experiments/`` and the rows of the board.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
from metagym.site.agent_facts import AGENT_FACTS
from metagym.site.baseline_facts import BASELINE_FACTS
from metagym.site.facts import Facts
from metagym.site.markdown import (
    Setting,
    code,
    description,
    mathematics,
    settings,
    settings_table,
    table,
    topic,
    tree,
)
from metagym.site.results import Results

FACTS = {**AGENT_FACTS, **BASELINE_FACTS}


@dataclass(frozen=True)
class Page:
    """What one page says.

    Attributes:
        name: as it is typed.
        text: Markdown.
        topic: of the lectures.
        usage: a command or a line of Python.
        settings: arguments with their defaults.
        details: further Markdown, such as recipes.
    """

    name: str
    text: str
    topic: str
    usage: str
    settings: Sequence[Setting] = ()
    details: str = ""

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-").lower()

    @property
    def facts(self) -> Facts:
        return FACTS[self.name]


@dataclass(frozen=True)
class Group:
    """Pages that belong together.

    Attributes:
        folder: of the pages.
        title: of the group.
        text: Markdown that stands above the list.
        pages: in their order.
    """

    folder: str
    title: str
    text: str
    pages: Sequence[Page]


def write_agents(folder: Path, experiments: Path, board: dict[str, list[str]]) -> None:
    """Write ``index.md``, a page for each group and one for each agent into ``folder``.

    Args:
        folder: is made.
        experiments: holds README.md and SUPERVISED.md.
        board: lines of Markdown about an agent's rows on the leaderboard, by its name.

    Raises:
        DataError: the results lack a row or a column that a page is to have.
    """
    results = Results([experiments / name for name in ("README.md", "SUPERVISED.md")])
    index = ["# Agents and baselines", "", "What learns, and what it has to beat.", ""]
    names = []
    for group in groups():
        (folder / group.folder).mkdir(parents=True)
        for page in group.pages:
            path = folder / group.folder / f"{page.slug}.md"
            path.write_text(_page(page, results, board.get(page.name, [])))
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
            _acting(by_module["black_box"], "BlackBoxOptimize-v0"),
        ),
        Group(
            "bandits", "Bandits", _module(bandits),
            _acting(bandits.AGENTS, "MetaBandit-v0", bandits),
        ),
        Group(
            "mdps", "Unknown MDPs", _module(tabular),
            _acting(by_module["tabular_base"] | tabular.AGENTS, "MetaTabularMDP-v0", tabular),
        ),
        Group(
            "mazes", "Mazes and navigation", _WALKS,
            _acting(by_module["mazes"], "MetaMaze-v0")
            + _acting(by_module["navigation"], "MetaNavigation2D-v0")
            + _acting(by_module["random"], "MetaMaze-v0"),
        ),
        Group(
            "search", "Architecture search", _SEARCH,
            [*map(_search_agent, search_agents.AGENTS), *map(_searcher, _SEARCHERS)],
        ),
        Group(
            "few-shot", "Few-shot learning", _package("metagym.baselines.few_shot"),
            [_method(name, target) for name, target in METHODS.items()],
        ),
        Group(
            "multitask", "Multi-task learning", _package("metagym.baselines.multitask"),
            [
                _supervised(f"multitask_{name}", target, "digits_binary")
                for name, target in ARCHITECTURES.items()
            ]
            + _estimators("metagym.baselines.multitask"),
        ),
        Group(
            "transfer", "Transfer learning", _package("metagym.baselines.transfer"),
            [
                _supervised(name, target, "mnist_usps") for name, target in DEEP_METHODS.items()
            ]
            + _estimators("metagym.baselines.transfer"),
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
        topic(face),
        f"metagym train {name} {env_id} --out runs/{name}",
        settings(face.Config),
        _recipes(face),
    )


def _recipes(face: Any) -> str:
    """What the recipes of environments change, where a module has any."""
    default = face.Config()
    alike: dict[str, list[str]] = {}
    for env_id, config in getattr(face, "RECIPES", {}).items():
        changes = ", ".join(code(f"{k}={v!r}") for k, v in _changes(config, default).items())
        alike.setdefault(changes, []).append(code(env_id))
    rows = [(", ".join(env_ids), changes) for changes, env_ids in alike.items()]
    head = ("environments", "other than the defaults")
    return "With an environment comes its recipe:\n\n" + table(head, rows) if rows else ""


def _changes(config: Any, default: Any) -> dict[str, Any]:
    return {k: v for k, v in vars(config).items() if v != getattr(default, k)}


def _shipped(name: str) -> Page:
    config = read_config(PRETRAINED / name)
    training = config["training"]
    kind: Any = trainer(config["agent"]).Config
    known = {k: tuple(v) if isinstance(v, list) else v for k, v in config["config"].items()}
    arguments = f" with `{json.dumps(config['env_kwargs'])}`" if config["env_kwargs"] else ""
    cost = f"{training['steps']:,} steps, {training['seconds']:,.0f} s"
    command = training["command"]
    if not command.startswith("metagym "):
        command = f"python experiments/{command}"
    return Page(
        name,
        f"A policy that `{config['agent']}` learned on `{config['env_id']}`{arguments}: {cost}, "
        f"seed {training['seed']}. The first command below trained it, the second one plays it.",
        topic(trainer(config["agent"])),
        f"{command}\nmetagym evaluate {name} {config['env_id']}",
        settings(kind, kind(**known)),
    )


def _rule(name: str, rule: type, module: Any) -> Page:
    return Page(
        name,
        description(rule),
        _topic(rule),
        f"metagym evaluate {name} LearnToOptimize-v0",
        settings(rule),
        _grid(name, module),
    )


def _acting(classes: dict[str, Any], env_id: str, module: Any = None) -> list[Page]:
    return [
        Page(
            name,
            description(kind),
            _topic(kind),
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
    return "Tuned on the train split, among:\n\n" + table(("name", "values"), rows)


def _search_agent(name: str) -> Page:
    """A searcher as an agent: its own settings and their values there, and the agent's seed."""
    module = importlib.import_module("metagym.agents.search_agents")
    make = module.AGENTS[name]
    kind, values = make.args[0], SimpleNamespace(**make().config)
    seed = [setting for setting in settings(module.SearchAgent) if setting.name == "seed"]
    return Page(
        name,
        description(kind),
        _topic(kind),
        f"metagym evaluate {name} ArchitectureSearchTrial-v0",
        [*settings(kind, values), *seed],
    )


def _searcher(target: str) -> Page:
    kind = _load(target)
    module, name = target.split(":")
    usage = f"from {module} import {name}"
    return Page(name, description(kind), _topic(kind), usage, settings(kind))


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
    recipes = "For minutes on a CPU:\n\n" + table(("tasks", "settings"), rows)
    return replace(page, details=recipes)


def _supervised(name: str, target: str, tasks: str) -> Page:
    kind = _load(target)
    return Page(
        name,
        description(kind) + "\n\n" + _module(importlib.import_module(kind.__module__)),
        _topic(kind),
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
            usage = f"from {package} import {name}"
            pages.append(Page(name, text, _topic(kind), usage, settings(kind)))
    return pages


# -- Markdown ----------------------------------------------------------------------------------


def _page(page: Page, results: Results, board: Iterable[str]) -> str:
    language = "python" if page.usage.startswith("from ") else "bash"
    parts = [
        f"# {page.name}",
        page.text,
        f"Lecture topic: {page.topic}.",
        "## Equation",
        mathematics(page.facts.equation.strip()),
        "## Papers",
        "\n".join(f"- {paper}." for paper in page.facts.papers),
        "## Recipe",
        f"```{language}\n{page.usage}\n```",
    ]
    if page.settings:
        parts.append(settings_table(page.settings).strip())
    if page.details:
        parts.append(page.details)
    parts += ["## Measured", *_measured(page, results, list(board))]
    return "\n\n".join(parts) + "\n"


def _measured(page: Page, results: Results, board: Sequence[str]) -> list[str]:
    """Its rows on the board and in the tables of results; without any, how to get some."""
    parts = ["### On the leaderboard", "\n".join(board)] if board else []
    for title, labels in page.facts.measured.items():
        parts.append(results.about(title, labels, "../../experiments"))
    return parts or [f"No table of ours has it. To measure it: {page.facts.measure}."]


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


def _topic(kind: type) -> str:
    """The lecture topic of a class: its docstring's, or that of its module."""
    return topic(kind, importlib.import_module(kind.__module__))


def _package(name: str) -> str:
    return _module(importlib.import_module(name))


def _load(target: str) -> Any:
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)
