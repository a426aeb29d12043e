"""What a run shows while it runs: TensorBoard event files and a progress bar.

Tags are Stable-Baselines3's, so that its models and ours share their charts: ``rollout/...``,
``train/...``, ``time/...``; what ``eval/...`` holds, ``metagym.tensorboard`` says. torch and
TensorBoard load at first use.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metagym.errors import DataError
from metagym.tensorboard import EVENTS, prefix, tag_name, write_hparams, write_layout

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter


BY_COST = "by_cost"  # the folder, below a run's, of charts over cost


class RunLogger:
    """Writes the event file of one run; a context manager that closes it.

    Args:
        folder: where TensorBoard finds it (``metagym monitor folder``).
        settings: a table below TEXT and the run's row in HPARAMS: the config, and what else tells
            runs apart (``agent``, ``env``, ``seed``).
        resume_step: the step from which a resumed run goes on; what an earlier file says of
            later steps is hidden. None for a new run.
        resume_cost: the same for charts over cost.
        tasks: those that ``evaluation`` is going to name.
    """

    def __init__(
        self,
        folder: str | Path,
        settings: Mapping[str, Any],
        *,
        resume_step: int | None = None,
        resume_cost: float | None = None,
        tasks: Sequence[str] = (),
    ) -> None:
        self.folder = Path(folder)
        # First, since TensorBoard follows the newest file of a folder.
        write_hparams(self.folder, settings)
        self._writer = _writer(self.folder, resume_step)
        rows = ["|name|value|", "|-|-|", *(f"|{name}|{value}|" for name, value in settings.items())]
        first = 0 if resume_step is None else resume_step + 1
        self._writer.add_text("hyperparameters", "\n".join(rows), first)
        if resume_step is None:
            write_layout(self._writer, tasks)
        self._resume_cost = None if resume_cost is None else round(resume_cost)
        self._cost_writer: SummaryWriter | None = None
        self._start: tuple[float, int] | None = None

    def scalar(self, tag: str, value: float, step: int) -> None:
        """One point of the chart ``tag``; ``step`` counts environment steps."""
        self._writer.add_scalar(tag, float(value), step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """One point each of several charts."""
        for tag, value in values.items():
            self.scalar(tag, value, step)

    def by_cost(self, tag: str, value: float, seconds: float) -> None:
        """One point of a chart whose x axis is cost, in whole seconds.

        TensorBoard hides what a resumed run replaces by x, whatever x is of, so that charts over
        steps and over seconds stand in files of their own: these in the folder ``by_cost``.
        """
        if self._cost_writer is None:
            self._cost_writer = _writer(self.folder / BY_COST, self._resume_cost)
        self._cost_writer.add_scalar(tag, float(value), round(seconds))

    def rollout(
        self, returns: np.ndarray, lengths: np.ndarray, step: int, **more: np.ndarray
    ) -> None:
        """What SB3 says of finished episodes: means of returns and lengths, and the speed.

        Args:
            returns, lengths: [episodes], of the episodes that ended since the last call.
            step: environment steps so far, all rows together.
            **more: further values per episode: ``diverged`` becomes ``rollout/diverged``.
        """
        now = time.perf_counter()
        if self._start is None:
            self._start = now, step
        elapsed, steps = now - self._start[0], step - self._start[1]
        if elapsed > 0:
            self.scalar("time/fps", steps / elapsed, step)
        self.scalar("time/time_elapsed", elapsed, step)
        self.scalar("time/total_timesteps", step, step)
        if len(returns):
            self.scalar("rollout/ep_rew_mean", np.mean(returns), step)
            self.scalar("rollout/ep_len_mean", np.mean(lengths), step)
            for name, values in more.items():
                self.scalar(f"rollout/{name}", np.mean(values), step)

    def evaluation(
        self,
        step: int,
        score: float,
        *,
        ceiling: float | None = None,
        baselines: Mapping[str, float] | None = None,
        figure: Figure | None = None,
        task: str | None = None,
    ) -> None:
        """One look at held-out tasks: a point of every line in the chart of scores.

        Args:
            step: steps so far.
            score: of what is trained.
            ceiling: the best score that there can be.
            baselines: by name, scores on the same tasks.
            figure: what is to be seen of this look.
            task: which one of ``tasks``, where there are several.
        """
        start = prefix(task)
        lines = {"score": score} if ceiling is None else {"score": score, "ceiling": ceiling}
        lines |= {f"baseline_{tag_name(k)}": value for k, value in (baselines or {}).items()}
        self.scalars({start + name: value for name, value in lines.items()}, step)
        if figure is not None:
            self.figure(start + "figure", figure, step)

    def figure(self, tag: str, figure: Figure, step: int) -> None:
        """A matplotlib figure, below IMAGES; it need not come from pyplot."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        self.image(tag, np.asarray(canvas.buffer_rgba())[..., :3], step)

    def image(self, tag: str, frame: np.ndarray, step: int) -> None:
        """A picture [height, width, 3] (uint8), below IMAGES."""
        self._writer.add_image(tag, frame, step, dataformats="HWC")

    def text(self, tag: str, text: str, step: int) -> None:
        """A line, below TEXT."""
        self._writer.add_text(tag, text, step)

    def flush(self) -> None:
        """Put everything on the disk."""
        for writer in self._writers():
            writer.flush()

    def close(self) -> None:
        """Flush, and end the event file."""
        for writer in self._writers():
            writer.close()

    def _writers(self) -> list[SummaryWriter]:
        return [self._writer] if self._cost_writer is None else [self._writer, self._cost_writer]

    def __enter__(self) -> RunLogger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_scalars(folder: str | Path) -> dict[str, list[tuple[int, float]]]:
    """All charts in the event files of ``folder``: (step, value) pairs by tag.

    Charts over cost have seconds for steps.

    Raises:
        DataError: there is no event file.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = Path(folder)
    if not any(folder.glob(EVENTS)):
        raise DataError(f"{folder} holds no TensorBoard event file; give the folder of a run.")
    charts: dict[str, list[tuple[int, float]]] = {}
    for place in (folder, folder / BY_COST):
        if place.is_dir():
            events = EventAccumulator(str(place), size_guidance={"scalars": 0}).Reload()
            for tag in events.Tags()["scalars"]:
                charts[tag] = [(event.step, event.value) for event in events.Scalars(tag)]
    return charts


def _writer(folder: Path, resume: int | None) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=None if resume is None else resume + 1)


@contextlib.contextmanager
def progress_bar(
    label: str,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    before: float = 0.0,
    shown: bool = True,
) -> Iterator[Callable[[int, str], None]]:
    """A progress bar on stderr; yields ``update(steps_done, note)``.

    Args:
        label: what stands before the bar.
        steps, seconds: the budget, of which whichever is used up more is drawn; with neither it
            only pulses.
        before: seconds of the budget that were used up earlier.
        shown: False draws nothing, so that a training loop needs no second path.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    start = time.perf_counter()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not shown, refresh_per_second=4) as progress:
        limited = steps is not None or seconds is not None
        task = progress.add_task(label, total=1.0 if limited else None, note="")

        def update(steps_done: int, note: str = "") -> None:
            shares = [0.0]
            if steps:
                shares.append(steps_done / steps)
            if seconds:
                shares.append((before + time.perf_counter() - start) / seconds)
            progress.update(
                task, completed=min(1.0, max(shares)), note=f"{steps_done:,} steps  {note}"
            )

        yield update
        if limited:  # not after Ctrl-C: what is done is done, also a little early
            progress.update(task, completed=1.0)
