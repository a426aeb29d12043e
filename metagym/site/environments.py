"""A page for each class of environments: its docstring, its ids as made, and an episode."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from metagym.evaluation.suites import SUITES, make_suite
from metagym.registration import ENVIRONMENTS, Registration
from metagym.site.animation import animate
from metagym.site.markdown import code, table, tree

_ANIMATED = """
![An episode of {env_id}]({file})

*A test episode of `{env_id}`; {agent} acts.*
"""

_INDEX = """# Environments

`metagym envs` prints this list. A page says of its class what an agent sees, what it may do and
what that earns: the docstring of the class.

"""


def write_environments(folder: Path) -> None:
    """Write ``index.md`` and a page for each class into ``folder``, which is made."""
    folder.mkdir(parents=True)
    pages = classes()
    rows = [
        (f"[{code(row.id)}]({slug(row.entry_point)}.md)", row.summary)
        for ids in pages.values()
        for row in ids
    ]
    for entry_point, ids in pages.items():
        write_environment(folder, entry_point, ids)
    index = _INDEX + table(("id", "what an agent learns to do"), rows) + "\n"
    (folder / "index.md").write_text(index + tree(*map(slug, pages)))


def classes() -> dict[str, list[Registration]]:
    """The ids of each class, by entry point, in the order of the table."""
    found: dict[str, list[Registration]] = {}
    for row in ENVIRONMENTS:
        found.setdefault(row.entry_point, []).append(row)
    return found


def slug(entry_point: str) -> str:
    """The page of a class: ``learn-to-optimize``."""
    return entry_point.split(":")[0].rpartition(".")[2].replace("_", "-")


def write_environment(folder: Path, entry_point: str, ids: list[Registration]) -> None:
    """Write the page of one class, and its animation, into ``folder``."""
    single: Any = load_env_creator(entry_point)
    name = slug(entry_point)
    player = animate(ids[0].id, folder / f"{name}.webp")
    shown = code(player) if player.isidentifier() else player
    text = [
        f"# {single.__name__.removesuffix('Env')}",
        _ANIMATED.format(env_id=ids[0].id, file=f"{name}.webp", agent=shown),
        inspect.getdoc(single.batched) or "",
        "\n## Spaces, as made\n",
        _spaces(ids),
    ]
    if tasks := _in_suites({row.id for row in ids}):
        text += ["\n## On the leaderboard\n", tasks]
    (folder / f"{name}.md").write_text("\n".join(text) + "\n")


# -- the inside --------------------------------------------------------------------------------


def _spaces(ids: list[Registration]) -> str:
    rows = []
    for row in ids:
        env = gym.make(row.id)
        rows.append(
            (
                code(row.id),
                ", ".join(code(f"{name}={value!r}") for name, value in row.kwargs.items()),
                code(_space(env.action_space)),
                code(_space(env.observation_space)),
            )
        )
        env.close()
    return table(("id", "arguments", "actions", "observations"), rows)


def _space(space: gym.Space) -> str:
    """A space in one line, whatever the size of its arrays."""
    if isinstance(space, gym.spaces.Box):
        low, high = float(space.low.min()), float(space.high.max())
        return f"Box({low:g}, {high:g}, {space.shape}, {space.dtype})"
    if isinstance(space, gym.spaces.MultiDiscrete) and len(set(space.nvec.tolist())) == 1:
        return f"MultiDiscrete([{space.nvec[0]}] * {len(space.nvec)})"
    return str(space)


def _in_suites(ids: set[str]) -> str:
    """The tasks of our suites that are played in these environments."""
    rows = [
        (f"[{suite}](../leaderboard/{suite}.md)", task.name, code(task.env_id))
        for suite in SUITES
        for task in make_suite(suite).tasks
        if task.env_id in ids
    ]
    return table(("suite", "task", "id"), rows) if rows else ""
