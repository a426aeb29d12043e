"""What is known before a run, so that no hours go into a row that no board takes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from metagym.evaluation import results
from metagym.evaluation.suites import SuiteTask
from metagym.leaderboard.play import shown
from metagym.leaderboard.rows import default_name
from metagym.leaderboard.texts import fault_of_agent, fault_of_name


def warnings_of(
    agent: str, tasks: Sequence[SuiteTask], *, name: str | None = None, ruleset: str | None = None
) -> list[str]:
    """What would keep the row of a run from a board, or a task from being played, one line each.

    Args:
        agent, name, ruleset: as for ``run_suite``.
        tasks: which ones are going to be played.
    """
    text = shown(agent)
    faults = [fault_of_name(name or default_name(text, ruleset)), fault_of_agent(text)]
    if results.git_state()[1] is None:
        faults.append("metagym does not run from a git checkout, which a row has to name.")
    elif results.git_state()[1]:
        faults.append("metagym's checkout has changes or untracked files; commit or move them.")
    refused = [f"no board will take the row: {fault}" for fault in faults if fault]
    return [*refused, *_missing_data(tasks)]


# -- the inside --------------------------------------------------------------------------------


def _missing_data(tasks: Sequence[SuiteTask]) -> Iterator[str]:
    """One line for each kind of data that tasks need and that is not where it is looked for."""
    from metagym.architectures import nasbench201
    from metagym.tasks import omniglot

    root = os.environ.get("METAGYM_DATA", "")
    folder = Path(root).expanduser()
    for need, files in (
        ("nasbench201", (nasbench201.VALIDATION, nasbench201.TEST)),
        ("omniglot", omniglot.FILES),
    ):
        names = [task.name for task in tasks if task.needs == need]
        places = (folder / need, folder) if root else ()
        found = any(all((place / file).is_file() for file in files) for place in places)
        if names and not found:
            yield (
                f"{', '.join(names)} will fail: METAGYM_DATA, which is {root or 'not set'}, has to "
                f"be the folder that holds {' and '.join(files)}."
            )
