"""What may stand on a board as a row's name, its agent and its url; anybody writes them.

Each function says what is wrong, or "".
"""

from __future__ import annotations

import re

from metagym.leaderboard.play import is_foreign, known_names
from metagym.loading import split_arguments

LONGEST = 80  # characters of a name
_URL = re.compile(r"https?://[!-~]+")
_PART = r"(?!\.\.(/|$))[\w.][\w.+,=@ -]*"
_PATH = re.compile(rf"{_PART}(/{_PART})*", re.ASCII)
_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", re.ASCII)


def fault_of_name(name: str) -> str:
    """Of a row's name: no two rows may look alike, and a table has to have room for it."""
    if len(name) > LONGEST:
        return f"its name {name[:LONGEST]!r}... has {len(name)} characters, more than {LONGEST}."
    if not name.isascii() or not name.isprintable():
        return f"its name {name!a} has characters that are not printable ASCII."
    if not any(map(str.isalnum, name)):
        return f"its name {name!r} has neither a letter nor a digit."
    return ""


def fault_of_agent(agent: str) -> str:
    """Of a row's agent: it is a name of metagym's, ``module:Class`` or a path as runs show them."""
    target, _ = split_arguments(agent)
    is_path = "/" in agent or agent.endswith(".zip")
    if not agent.isprintable():
        return f"its agent {agent!a} has characters that cannot be seen."
    if is_foreign(agent):
        known = _TARGET.fullmatch(target) is not None
    else:
        known = target in known_names() or (is_path and _PATH.fullmatch(agent) is not None)
    if known:
        return ""
    return (
        f"its agent {agent!r:.80} is neither a name that metagym has, nor module:Class, nor a path "
        "below the working folder (letters, digits and ._+-,=@) such as runs/mine or ./mine."
    )


def fault_of_url(url: str) -> str:
    """Of a row's url, which may be empty."""
    if not url or _URL.fullmatch(url):
        return ""
    return f"its url {url!r:.80} does not look like https://example.org/mine."
