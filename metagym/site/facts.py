"""What pages of agents and baselines say beside docstrings: equation, papers, places in tables.

Equations are TeX, which would be no good reading in a docstring; ``agent_facts`` and
``baseline_facts`` are the two tables, by the name of the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Facts:
    """What one page says.

    Attributes:
        equation: Markdown; TeX stands between dollar signs, two of them for a line of its own.
        papers: authors (year), title; of a task where a method is nobody's.
        measured: the headings of sections of ``experiments/*.md``, and in each the cells of its
            tables that stand for this page: rows begin with them, or columns have them for a head;
            or words of sentences that do, where there is no such table.
        measure: Markdown, a command that measures what those sections do not have.
    """

    equation: str
    papers: Sequence[str]
    measured: Mapping[str, Sequence[str]] = field(default_factory=dict)
    measure: str = ""
