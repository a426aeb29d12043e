"""Build the table of digits201: every class of cell201 trained for real on scikit-learn's digits.

    python experiments/build_digits_table.py --workers 2 --out results/digits201
    python experiments/build_digits_table.py --report results/digits201/digits201.npz

May be interrupted at any moment and started again, with another number of workers too: every
worker appends what is finished to a file of its own. The order is random, so that an unfinished
table is a random part of the whole. One class, all its seeds at once, takes about a second; the
same class gives the same numbers whoever trains it, as long as it is the same kind of machine.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import platform
import signal
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import nn

from metagym.architectures.cell201 import CLASSES, NONE, Cell201
from metagym.architectures.cell201_modules import CellNetwork
from metagym.architectures.counting import count
from metagym.architectures.digits201 import (
    MISSING,
    SECONDS,
    SECONDS_PER_FLOP,
    DigitsTable,
    checksum,
    load_table,
    save_table,
)
from metagym.errors import CheckpointError, check_positive
from metagym.files import write_atomically
from metagym.monitoring import progress_bar
from metagym.problems.datasets import load_dataset

CHUNK = 128  # images per call in evaluation; more would not stay in the processor's cache


@dataclass(frozen=True)
class Training:
    """What one entry of the table is; with other values it is another table.

    Args:
        train_images, validation_images: of the 1,797; the others test.
        noise: standard deviation of what is added to each pixel, once; pixels lie in [0, 1].
        channels, cells, stages: of the network around the cell.
        seeds: trainings per class.
        epochs, batch_size, learning_rate, weight_decay: of SGD with Nesterov momentum 0.9 and a
            cosine from the learning rate to 0.
        seed: of the data's order and noise, and of all trainings.
    """

    train_images: int = 500
    validation_images: int = 500
    noise: float = 0.1
    channels: int = 8
    cells: int = 2
    stages: int = 1
    seeds: int = 3
    epochs: int = 10
    batch_size: int = 50
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    seed: int = 0


@dataclass(frozen=True)
class Config:
    """The build.

    Args:
        out: folder of the work; the finished table and its card are written there, digits201.npz
            and digits201.md.
        workers: processes of one thread each.
        classes: only the first so many of the random order, for trying things out.
        report: only print what is in this table.
        training: what is trained.
    """

    out: Path = Path("results/digits201")
    workers: int = 1
    classes: int = CLASSES
    report: Path | None = None
    training: Training = field(default_factory=Training)


# -- one class -----------------------------------------------------------------------------------


def load_images(training: Training) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [1797, 8, 8] and labels [1797]: training ones first, then validation, then test."""
    digits = load_dataset("digits")
    rng = np.random.default_rng([training.seed, 0])
    order = rng.permutation(len(digits.labels))
    images = digits.inputs[order].reshape(-1, 8, 8)
    images = images + np.float32(training.noise) * rng.standard_normal(images.shape, np.float32)
    known = images[: training.train_images]
    images = (images - known.mean()) / known.std()
    return torch.from_numpy(images), torch.from_numpy(digits.labels[order])


def train_class(
    number: int, images: torch.Tensor, labels: torch.Tensor, training: Training
) -> tuple[np.ndarray, float]:
    """Train all seeds of a class side by side.

    Returns:
        Right answers [seeds, epochs, 2] on the validation and the test images after each epoch,
        and processor seconds of the training without the evaluations, all seeds together.
    """
    seeds, steps = training.seeds, training.train_images // training.batch_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(
            int(np.random.SeedSequence([training.seed, 1, number]).generate_state(1)[0])
        )
        network = make_network(number, training, seeds)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(
            network.parameters(), training.learning_rate, momentum=0.9, nesterov=True,
            weight_decay=training.weight_decay, fused=True,
        )  # fmt: skip
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps * training.epochs)
        unseen = images[training.train_images :, None].expand(-1, seeds, -1, -1)
        unseen = unseen.contiguous(memory_format=torch.channels_last)
        right = np.zeros((seeds, training.epochs, 2), dtype=np.int64)
        sizes = [training.validation_images, len(unseen) - training.validation_images]
        seconds = 0.0
        for epoch in range(training.epochs):
            start = time.process_time()
            network.train()
            orders = torch.rand(training.train_images, seeds).argsort(dim=0)  # one per seed
            for rows in orders[: steps * training.batch_size].split(training.batch_size):
                batch = images[rows].contiguous(memory_format=torch.channels_last)
                # The mean over the seeds, times their number: each has its own gradient.
                loss = seeds * nn.functional.cross_entropy(
                    network(batch).reshape(-1, 10), labels[rows].reshape(-1)
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            seconds += time.process_time() - start
            network.eval()
            with torch.inference_mode():
                logits = torch.cat([network(part) for part in unseen.split(CHUNK)])
            answers = logits.reshape(len(unseen), seeds, 10).argmax(dim=2).T
            hits = answers == labels[training.train_images :]
            for part, which in enumerate(hits.split(sizes, dim=1)):
                right[:, epoch, part] = which.sum(dim=1).numpy()
    return right, seconds


def make_network(number: int, training: Training, replicas: int = 1) -> CellNetwork:
    """The network of the first architecture of a class."""
    space = Cell201()
    tokens = space.tokens(representatives()[number : number + 1])
    return CellNetwork(
        np.where(space.live(tokens), tokens, NONE)[0].tolist(), (1, 8, 8), 10, replicas=replicas,
        channels=training.channels, cells=training.cells, stages=training.stages,
    )  # fmt: skip


def representatives() -> np.ndarray:
    """The numbers of the first architecture of every class [6466]."""
    return np.unique(Cell201().classes(), return_index=True)[1]


# -- all classes -----------------------------------------------------------------------------------


def read_shards(folder: Path) -> dict[int, dict[str, Any]]:
    """What is finished, by class; a line that a killed worker left unfinished is left out."""
    found: dict[int, dict[str, Any]] = {}
    for path in sorted(folder.glob("shard-*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            found.setdefault(record["class"], record)
    return found


def work(folder: Path, numbers: list[int], training: Training) -> None:
    """Train classes and append them, one line each, to a file that is this process's own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C, and ends us
    torch.set_num_threads(1)
    images, labels = load_images(training)
    parent = multiprocessing.parent_process()
    path = folder / f"shard-{time.time_ns()}-{os.getpid()}.jsonl"
    with path.open("x", encoding="utf-8") as file:
        for number in numbers:
            right, seconds = train_class(number, images, labels, training)
            record = {"class": number, "right": right.tolist(), "seconds": round(seconds, 4)}
            file.write(json.dumps(record, separators=(",", ":")) + "\n")
            file.flush()
            if parent is not None and not parent.is_alive():
                return


def build(config: Config) -> Path | None:
    """Train what is missing, with a progress bar, and write the table once nothing is.

    Raises:
        CheckpointError: the folder holds the work on another table.
    """
    check_positive("workers", config.workers)
    config.out.mkdir(parents=True, exist_ok=True)
    check_same(config.out / "training.json", config.training)
    order = np.random.default_rng(config.training.seed).permutation(CLASSES)[: config.classes]
    done = read_shards(config.out)
    missing = [int(number) for number in order if int(number) not in done]
    if missing:
        train_missing(config, missing, len(order))
        done = read_shards(config.out)
    if any(int(number) not in done for number in order):
        print(f"{len(done):,} of {len(order):,} classes are trained; the same command goes on.")
        return None
    path = config.out / "digits201.npz"
    table = pack(done, np.sort(order), config.training)
    save_table(path, table)
    path.with_suffix(".md").write_text(card(table, report(table)), encoding="utf-8")
    print(f"Written to {path} and .md: {path.stat().st_size:,} bytes, checksum {checksum(table)}.")
    return path


def train_missing(config: Config, missing: list[int], total: int) -> None:
    """Start the workers and watch their files grow until they are done or Ctrl-C is pressed."""
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(
            target=work,
            args=(config.out, missing[i :: config.workers], config.training),
            daemon=True,
        )
        for i in range(config.workers)
    ]
    before, start = total - len(missing), time.perf_counter()
    try:
        for process in processes:
            process.start()
        with progress_bar("classes", steps=total) as update:
            while any(process.is_alive() for process in processes):
                time.sleep(2)
                now = sum(p.read_bytes().count(b"\n") for p in config.out.glob("shard-*.jsonl"))
                rate = (now - before) / (time.perf_counter() - start)
                update(now, f"{rate:.2f} classes/s")
    except KeyboardInterrupt:
        print("Stopped; what is finished is kept.")
    finally:
        for process in processes:
            process.terminate()
            process.join()


def check_same(path: Path, training: Training) -> None:
    """Write the settings into a new folder; in an old one they have to be the same."""
    settings = json.dumps(asdict(training), indent=1)
    if not path.exists():
        write_atomically(path, settings.encode())
    elif path.read_text() != settings:
        raise CheckpointError(
            f"{path.parent} holds the work on a table with other settings, {path.read_text()}; "
            "choose another --out, or the same settings."
        )


def pack(done: dict[int, dict[str, Any]], numbers: np.ndarray, training: Training) -> DigitsTable:
    """The table of the classes ``numbers``, in this order."""
    rows = np.full(CLASSES, MISSING, dtype=np.uint16)
    rows[numbers] = np.arange(len(numbers))
    costs = [count(make_network(int(number), training), (1, 8, 8)) for number in numbers]
    labels = load_images(training)[1]
    known = training.train_images, training.validation_images
    return DigitsTable(
        rows=rows[Cell201().classes()],
        right=np.array([done[int(number)]["right"] for number in numbers], dtype=np.uint16),
        parameters=np.array([cost.parameters for cost in costs], dtype=np.uint32),
        flops=np.array([cost.flops for cost in costs], dtype=np.uint32),
        seconds=np.array(
            [done[int(number)]["seconds"] / training.seeds for number in numbers], dtype=np.float32
        ),
        images=np.array([*known, len(labels) - sum(known)], dtype=np.int64),
        training=json.dumps(asdict(training)),
    )


# -- what the table is worth -----------------------------------------------------------------------


def report(table: DigitsTable) -> dict[str, float]:
    """How well the table ranks architectures: quantities by name."""
    validation, test = table.accuracy("validation"), table.accuracy("test")
    seeds = test.shape[1]
    final, mean = test[:, :, -1], test[:, :, -1].mean(axis=1)
    noise = np.sqrt(final.var(axis=1, ddof=1).mean())
    upper = mean >= np.quantile(mean, 0.9)
    noise_upper = np.sqrt(final[upper].var(axis=1, ddof=1).mean())
    # Two means of `seeds` trainings differ by more than this in one of twenty cases, by noise.
    tied = 1.96 * noise_upper * np.sqrt(2 / seeds)
    work = table.flops.astype(np.float64) * table.images[0] * test.shape[2]
    slope, start = np.polyfit(work, table.seconds.astype(np.float64), 1)
    lines = {
        f"test accuracy, quantile {q}": float(np.quantile(mean, q))
        for q in (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
    }
    lines |= {
        "standard deviation between classes": float(mean.std()),
        "standard deviation between seeds": float(noise),
        "... of the best tenth": float(noise_upper),
        "reliability of one training": float(1 - noise**2 / final.var()),
        "share tied with the best": float((mean >= mean.max() - tied).mean()),
        "Spearman, validation of one training with mean test": spearman(validation[:, 0, -1], mean),
        "Spearman, mean validation with mean test": spearman(
            validation[:, :, -1].mean(axis=1), mean
        ),
        "... among the best tenth": spearman(validation[upper][:, :, -1].mean(axis=1), mean[upper]),
        "measured seconds, mean": float(table.seconds.mean()),
        "fit: seconds": float(start),
        "fit: seconds per FLOP, image and epoch": float(slope),
        "fit: correlation": float(np.corrcoef(work, table.seconds)[0, 1]),
    }
    lines |= {
        f"Spearman, validation after {epoch + 1} epochs with mean test": spearman(
            validation[:, 0, epoch], mean
        )
        for epoch in range(test.shape[2])
    }
    return lines


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """The rank correlation, NaN where one of both is constant, as it may be in tiny tables."""
    from scipy.stats import spearmanr

    if min(np.ptp(first), np.ptp(second)) == 0:
        return float("nan")
    return float(spearmanr(first, second)[0])


def card(table: DigitsTable, quality: dict[str, float]) -> str:
    """The data card: what is in the table, how and with what it was made, what it is worth."""
    versions = {"Python": platform.python_version()}
    versions |= {name: version(name) for name in ("torch", "numpy", "scikit-learn")}
    classes, seeds, epochs, _ = table.right.shape
    training, validation, test = table.images.tolist()
    facts = {
        "Entries": f"{classes:,} of {CLASSES:,} classes of cell201, {seeds} trainings each",
        "Observations": f"right answers on {validation} validation and {test} test images "
        f"after each of {epochs} epochs; parameters; multiply-adds; measured seconds",
        "Data": f"the 1,797 digits of scikit-learn (8×8, public), {training} of them for training",
        "Settings": table.training,
        "Architecture of a class": "its first member in the order of the numbers of cell201",
        "Checksum": f"{checksum(table)} (SHA-256 of all but the measured seconds)",
        "Charged seconds": f"{SECONDS} + {SECONDS_PER_FLOP} · multiply-adds · {training} · epochs",
        "Built": f"{datetime.now(UTC):%Y-%m-%d}, on {processor()}, one thread per training",
        "Versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "Built and described by": "`python experiments/build_digits_table.py`",
    }
    lines = [
        "# digits201: the data card", "",
        "Every cell of NAS-Bench-201 trained from scratch on small images of digits. The network "
        "is small and the training short, so that architectures differ; what ranks first here "
        "need not do so elsewhere. Two classes whose mean test accuracies differ by less than the "
        "noise of their seeds are tied.", "",
        *(f"- {name}: {fact}." for name, fact in facts.items()), "",
        "| quantity | value |", "|---|---|",
        *(f"| {name} | {value:.4g} |" for name, value in quality.items()), "",
    ]  # fmt: skip
    return "\n".join(lines)


def processor() -> str:
    """What the processor calls itself, where the system says so."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main(config: Config) -> None:
    """Report or build, and print what the table is worth."""
    path = config.report if config.report is not None else build(config)
    if path is not None:
        for name, value in report(load_table(path)).items():
            print(f"{name:<60} {value:.4g}")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
