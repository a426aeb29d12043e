"""A comparison as a table in the terminal."""

from __future__ import annotations

import math
import sys

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metagym.evaluation.compare import Comparison
from metagym.evaluation.results import Result


def print_table(comparison: Comparison) -> None:
    """Print one row per agent; the best mean is bold."""
    first, *others = comparison.results
    better = "smaller is better" if first.minimize else "larger is better"
    table = Table(
        title=f"{first.env_id}, {first.split or 'no'} split, {len(first.scores)} episodes",
        caption=Text(f"{first.metric}; {better}; [95 % interval]"),  # brackets, no markup
        box=box.SIMPLE,
        pad_edge=False,
    )
    table.add_column("agent", overflow="fold")
    headings = ["mean", "IQM", "diverged"]
    for heading in headings + ([f"minus {first.agent}", "P(win)"] if others else []):
        table.add_column(heading, justify="right", no_wrap=True)
    means = [result.mean for result in comparison.results]
    best = min(means) if first.minimize else max(means)
    for result in comparison.results:
        style = "bold" if others and result.mean == best else None
        table.add_row(*(Text(cell) for cell in _cells(comparison, result)), style=style)
    # A file or a pipe has no width of its own.
    Console(width=None if sys.stdout.isatty() else 100).print(table)


def _cells(comparison: Comparison, result: Result) -> list[str]:
    digits = _digits(comparison)

    def interval(value: float, low: float, high: float) -> str:
        return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    cells = [
        result.agent + (" (sees the task)" if result.privileged else ""),
        interval(result.mean, *result.interval),
        f"{result.iqm:.{digits}f}",
        "" if result.diverged is None else f"{result.diverged:.1%}",
    ]
    if result is not comparison.results[0]:
        cells.append(interval(*comparison.difference(result)))
        cells.append(f"{comparison.improvement(result):.2f}")
    return cells


def _digits(comparison: Comparison) -> int:
    """Decimals that show two significant digits of the narrowest interval, at most six."""
    widths = [result.interval[1] - result.interval[0] for result in comparison.results]
    narrowest = min((width for width in widths if width > 0), default=0.1)
    return min(6, max(0, 1 - math.floor(math.log10(narrowest))))
