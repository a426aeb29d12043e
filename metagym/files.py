"""How metagym writes files: whole or not at all, and never over what is already there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from metagym.errors import InvalidArgumentError


def refuse_existing(argument: str, path: str | Path | None, hint: str = "") -> None:
    """Raise if ``path`` exists, be it a file or a folder; ``argument`` names it in the message.

    Raises:
        InvalidArgumentError: the path exists.
    """
    if path is not None and os.path.lexists(path):
        raise InvalidArgumentError(
            f"{argument} {path} exists and would be overwritten; choose another path{hint}."
        )


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` holds, at any moment, all of the old or all of the new.

    Folders above ``path`` are made. The temporary file lies beside it, in the same file system.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
