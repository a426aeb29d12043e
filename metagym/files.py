"""How metagym writes files: whole or not at all, and never over what is already there."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from metagym.errors import InvalidArgumentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


@contextlib.contextmanager
def alone_in(folder: str | Path) -> Iterator[None]:
    """Keep other processes that ask for the same out of ``folder``, where the system can do that.

    Raises:
        InvalidArgumentError: another process is at work there.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (Path(folder) / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InvalidArgumentError(
                f"Another process is at work in {folder}; wait for it, or choose another folder."
            ) from None
        yield


def write_figure(path: str | Path, figure: Figure, dpi: float | None = None) -> None:
    """Write a matplotlib figure as a PNG, whole or not at all.

    Args:
        path: of the PNG.
        figure: made with ``matplotlib.figure.Figure``, so that no window is needed.
        dpi: dots per inch; the figure's own by default.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi="figure" if dpi is None else dpi)
    write_atomically(path, buffer.getvalue())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
