"""Markdown out of docstrings, signatures and texts that nobody has checked."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import docstring_parser
from docstring_parser import DocstringStyle


class Setting(NamedTuple):
    """One argument: its name, type and default as Python writes them, and what it means."""

    name: str
    type: str
    default: str
    meaning: str


def description(documented: Any) -> str:
    """What the docstring of a module or class says above its arguments.

    Its tables, between lines of ``=``, are left as they are drawn. Its lecture topic is left to
    ``topic``. A class without a docstring of its own says nothing: that of its base is about the
    base.
    """
    text, drawn = _TOPIC.sub("", _prose(documented)), False
    lines = []
    for line, following in itertools.pairwise([*text.splitlines(), ""]):
        rule = _RULE.fullmatch(line) is not None
        if rule and not drawn:
            lines.append("```text")
        lines.append(line)
        if rule and drawn and not following:
            lines.append("```")
        drawn = (drawn or rule) and not (rule and not following)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def topic(*documented: Any) -> str:
    """The lecture topic that the first docstring names that has one; nothing if none has."""
    found = (_TOPIC.search(_prose(one)) for one in documented)
    return next((" ".join(match[1].split()) for match in found if match), "")


def mathematics(text: str) -> str:
    """Markdown with TeX between dollar signs as Markdown with MathML, which needs no script.

    Two dollar signs make a line of its own.
    """
    from docutils.utils.math.latex2mathml import tex2mathml

    def block(match: re.Match[str]) -> str:
        line = tex2mathml(match[1].strip(), as_block=True)
        return f'<div class="math-wrapper" style="{_ROOM}">\n{line}\n</div>'

    def within(match: re.Match[str]) -> str:
        return "".join(part.strip() for part in tex2mathml(match[1]).splitlines())

    text = re.sub(r"\$\$(.+?)\$\$", block, text, flags=re.DOTALL)
    return re.sub(r"\$([^$]+)\$", within, text)


def settings(kind: type, values: Any = None) -> list[Setting]:
    """The arguments of a class, in its order.

    Args:
        kind: the class. Where it or a base describes an argument, the nearest description counts.
        values: an instance of a dataclass whose values stand in place of the defaults.
    """
    meanings = _meanings(kind)
    found = []
    for argument in inspect.signature(kind).parameters.values():
        if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
            continue
        default = argument.default if values is None else getattr(values, argument.name)
        found.append(
            Setting(
                argument.name,
                _type_name(argument.annotation),
                "" if default is argument.empty else repr(default),
                meanings.get(argument.name, ""),
            )
        )
    return found


def settings_table(rows: Sequence[Setting]) -> str:
    """A table of arguments."""
    return table(
        ("name", "type", "default", "meaning"),
        [(code(s.name), code(s.type), code(s.default), s.meaning) for s in rows],
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells are Markdown and may hold ``|``."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "---|" * len(head)
    return "\n".join([line(head), rule, *map(line, rows)]) + "\n"


def code(text: str) -> str:
    """``text`` in the type of code; nothing for nothing."""
    return f"`{text}`" if text else ""


def plain(text: str) -> str:
    """``text`` as it stands: every character that Markdown or HTML could read is an entity."""
    return "".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in text)


def tree(*pages: str, caption: str = "") -> str:
    """The pages below this one, for the side bar."""
    options = [f":caption: {caption}"] if caption else []
    return "\n".join(["```{toctree}", ":hidden:", *options, "", *pages, "```", ""])


# -- the inside --------------------------------------------------------------------------------

_TOPIC = re.compile(r" ?\bLecture topics?: ([^.]+)\.(?:\n(?!\n))?")
_ROOM = "padding: 0.6em 0; overflow-y: hidden"  # a wide line scrolls, a tall one does not
_RULE = re.compile(r"={2,}(?: +={2,})+")


def _prose(documented: Any) -> str:
    text = vars(documented).get("__doc__") or ""
    return docstring_parser.parse(text, DocstringStyle.GOOGLE).description or ""


def _meanings(kind: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say of their arguments."""
    meanings: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        parsed = docstring_parser.parse(vars(base).get("__doc__") or "", DocstringStyle.GOOGLE)
        for parameter in parsed.params:
            for name in parameter.arg_name.split(","):
                meanings[name.strip()] = " ".join((parameter.description or "").split())
    return meanings


def _type_name(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return text.replace("typing.", "").replace("collections.abc.", "")
