"""What TensorBoard shows of every run: one layout of charts, hyperparameters; and starting it.

A trainer reports each look at held-out tasks by ``RunLogger.evaluation``, under these tags:

    eval/score             of what is trained, in the metric of the environment or the tasks
    eval/ceiling           the best score that there can be, or a bound of it, where one is known
    eval/baseline_NAME     of what it has to beat, on the same tasks
    eval/figure            a picture of this look, below IMAGES
    eval/TASK/score …      the same for one of several tasks

CUSTOM SCALARS puts score, ceiling and baselines into one chart, and one more for each task. A
chart holds all runs that are ticked: tick those of one environment. HPARAMS has a row for every
run with its settings and its last ``eval/score``; the columns are those of the first run that
TensorBoard finds, so that runs of one agent compare best in a folder of their own.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metagym.errors import DataError, InvalidArgumentError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SCORE = "eval/score"
LINES = r"(score|ceiling|baseline_\w+)$"  # of a chart, as TensorBoard matches tags
EVENTS = "*tfevents*"  # the names of event files
_HPARAMS = ".hparams"  # how the name of the file ends that holds them


def prefix(task: str | None = None) -> str:
    """How the tags of an evaluation begin; ``task`` is one of several."""
    return "eval/" if task is None else f"eval/{tag_name(task)}/"


def tag_name(name: str) -> str:
    """``name`` with nothing in it that has a meaning in tags: letters, digits and underscores."""
    return re.sub(r"\W+", "_", name).strip("_")


def write_layout(writer: SummaryWriter, tasks: Sequence[str] = ()) -> None:
    """Write the layout of CUSTOM SCALARS: the chart of the run, and one for each of ``tasks``."""
    charts = {"score, ceiling and baselines": ["Multiline", [prefix() + LINES]]}
    charts |= {task: ["Multiline", [prefix(task) + LINES]] for task in tasks}
    writer.add_custom_scalars({"Evaluation": charts})


def write_hparams(folder: Path, config: Mapping[str, Any]) -> None:
    """Write what HPARAMS shows of the run in ``folder``: its settings, and which chart is judged.

    Of several such records TensorBoard believes the first, so that a resumed run, whose settings
    may be others, replaces the file of the earlier one.
    """
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    for old in folder.glob(EVENTS + _HPARAMS):
        old.unlink()
    values = {
        name: value if isinstance(value, (bool, int, float, str)) else str(value)
        for name, value in config.items()
    }
    experiment, start, _ = hparams(values, {SCORE: 0.0})
    with SummaryWriter(str(folder), filename_suffix=_HPARAMS) as writer:
        for summary in (experiment, start):
            writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]


def serve(folder: str | Path, port: int | None = None) -> None:
    """Run TensorBoard on ``folder`` until Ctrl-C; it prints its address when it can be opened.

    Args:
        folder: of one run, or one below which there are several.
        port: where it listens, on this machine only; None: 6006, or the next one that is free.

    Raises:
        DataError: there is no event file in ``folder`` or below it.
        InvalidArgumentError: TensorBoard could not start, such as on a port that is taken.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}; give the --out of a run, or one above it.")
    if not any(folder.rglob(EVENTS)):
        raise DataError(
            f"No event file ({EVENTS}) is in {folder} or below it; give the --out of a run, or a "
            "folder above it."
        )
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder)]
    if port is not None:
        command += ["--port", str(port)]
    with subprocess.Popen(command) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:  # which the terminal sends to both
            process.terminate()
            return
    if status > 0:
        raise InvalidArgumentError(f"TensorBoard ended with code {status}; it says why above.")
