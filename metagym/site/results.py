"""What ``experiments/*.md`` has of one agent or baseline: rows and columns of tables, sentences."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from metagym.errors import DataError
from metagym.site.markdown import table


class Table(NamedTuple):
    """A Markdown table: the paragraph above it, the cells of its head, and those of its rows."""

    lead: str
    head: list[str]
    rows: list[list[str]]

    def parts(self) -> Iterator[Table]:
        """The table, or the tables of two columns that stand in it side by side.

        Those have names in every other column, and say only once what the numbers are.
        """
        width = len(self.head)
        if width < 6 or width % 2 or any(self.head[3::2]):
            yield self
            return
        for i in range(0, width, 2):
            rows = [row[i : i + 2] for row in self.rows]
            head = [self.head[i], self.head[1]]
            yield self._replace(head=head, rows=[row for row in rows if row[0]])

    def about(self, label: str) -> Table | None:
        """The rows with a cell that is ``label``, or the column under it; None without any."""
        rows = [row for row in self.rows if label in map(_plain, row)]
        if rows:
            return self._replace(rows=rows)
        if label in (heads := [_plain(cell) for cell in self.head]):
            columns = sorted({0, heads.index(label)})
            head, *rows = ([row[i] for i in columns] for row in [self.head, *self.rows])
            return self._replace(head=head, rows=rows)
        return None


class Results:
    """The sections of pages of results, by their headings.

    Args:
        files: Markdown with ``## headings``; none of these is there twice.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._sections: dict[str, tuple[str, list[Table], list[str]]] = {}
        for file in files:
            for part in re.split(r"^## ", file.read_text(), flags=re.MULTILINE)[1:]:
                title, _, body = part.partition("\n")
                self._sections[title] = file.name, list(_tables(body)), list(_sentences(body))

    def about(self, title: str, labels: Sequence[str], folder: str) -> str:
        """What a section has of ``labels``, as Markdown below a link to it.

        Args:
            title: the section's heading.
            labels: whole cells, without the marks of bold and of code; or, where no table has
                them, whole words of the text.
            folder: where the files are, as seen from the page.

        Raises:
            DataError: there is no such section, or neither tables nor text have one of the labels.
        """
        if title not in self._sections:
            raise DataError(
                f"There is no section {title!r} in the results, of which a page in metagym.site "
                f"speaks. They have: {', '.join(self._sections)}."
            )
        file, tables, sentences = self._sections[title]
        missing, copied = set(labels), []
        for part in (part for whole in tables for part in whole.parts()):
            found = {label: part.about(label) for label in labels}
            missing -= {label for label, hit in found.items() if hit}
            copied += _merged([hit for hit in found.values() if hit])
        told = {label: _saying(sentences, label) for label in labels if label in missing}
        if missing := {label for label, found in told.items() if not found}:
            raise DataError(
                f"The section {title!r} of {file} has no row, no column and no sentence with "
                f"{sorted(missing)}, of which a page in metagym.site speaks."
            )
        anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        parts, lead = [f"### [{title}]({folder}/{file}#{anchor})"], ""
        for hit in copied:
            if hit.lead != lead:
                parts.append(lead := hit.lead)
            parts.append(table(hit.head, hit.rows).strip())
        parts += dict.fromkeys(itertools.chain.from_iterable(told.values()))
        return "\n\n".join(parts)


def _merged(hits: Sequence[Table]) -> list[Table]:
    """One table of all rows in place of one for each label; columns stay for themselves."""
    merged: list[Table] = []
    for hit in hits:
        if merged and merged[-1].head == hit.head:
            known = merged[-1].rows
            rows = known + [row for row in hit.rows if row not in known]
            merged[-1] = hit._replace(rows=rows)
        else:
            merged.append(hit)
    return merged


def _sentences(body: str) -> Iterator[str]:
    """Those of the text, without tables, figures and code."""
    for block in re.split(r"\n\s*\n", body.strip()):
        if not block.startswith(("|", "![", "`")):
            yield from re.split(r"(?<=[.!?])\s+(?=[A-Z`*\[])", block)


def _saying(sentences: Sequence[str], label: str) -> list[str]:
    words = re.compile(rf"(?<!\w){re.escape(label)}(?!\w)")
    return [sentence for sentence in sentences if words.search(" ".join(sentence.split()))]


def _tables(body: str) -> Iterator[Table]:
    lead = ""
    for block in re.split(r"\n\s*\n", body.strip()):
        if not block.startswith("|"):
            lead = block
            continue
        head, _, *rows = (_cells(line) for line in block.splitlines())
        for before, row in itertools.pairwise(rows):
            row[0] = row[0] or before[0]  # an empty first cell says the same as that above
        yield Table(lead, head, rows)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def _plain(cell: str) -> str:
    return re.sub(r"[*`]", "", cell)
