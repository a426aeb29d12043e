"""More tasks from few characters, and when to stop: prototypical networks on glyphs.

    python experiments/task_augmentation.py                              within ten minutes
    python experiments/task_augmentation.py --iterations 200 --seeds 0     a first look

Task augmentation turns every training character by 90°, 180° and 270° into further classes.
Development tasks, of validation characters, say which of the looks along the training had the best
weights; the control keeps the last. Both are measured with few training characters, where a
network overfits, and with all of them, by accuracy on 5-way 1-shot tasks of test characters that
are never turned. Intervals are over test tasks, of the mean over seeds, which also draw the few
characters; in brackets, the seeds' range.

Smaller than published: 1,000 iterations of one 10-way task (60-way, and until it stops getting
better, in Snell et al. 2017), 32 strided filters a block instead of 64 with max-pooling.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from few_shot_runs import OverSeeds, trained
from metagym.baselines.few_shot import make_method
from metagym.baselines.few_shot.base import FewShotMethod
from metagym.baselines.few_shot.judge import few_shot_scores
from metagym.baselines.few_shot.train import TrainConfig
from metagym.baselines.few_shot.training_tasks import TrainOn
from metagym.checkpoint import load_checkpoint
from metagym.errors import InvalidArgumentError
from metagym.evaluation.statistics import paired_difference
from metagym.files import write_atomically
from metagym.tasks.episodes import ImageTasks
from metagym.tasks.image_sets import ImageSet, load_image_set

WAYS, SHOTS = 5, 1
TRAINING_WAYS, TRAINING_QUERIES = 10, 5
ROTATIONS = ("none", "train")  # whose characters are turned
LAST, BEST = "last", "best by development tasks"
NEVER = 10**9  # looks to wait: the run goes on to its end, and its best weights are kept


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        out: folder for checkpoints with their charts, results.json and table.md.
        characters: how many to train on; 0 means all.
        iterations: of meta-training.
        looks: at development tasks.
        seeds: of training, and of the characters that are drawn.
        tasks: of the test.
        development: how many development tasks.
        images: the image set.
        threads: of torch.
        device: "auto" is a GPU where there is one.
    """

    out: Path = Path("results/task_augmentation")
    characters: tuple[int, ...] = (20, 0)
    iterations: int = 1000
    looks: int = 20
    seeds: tuple[int, ...] = (0, 1, 2)
    tasks: int = 1000
    development: int = 100
    images: str = "glyphs"
    threads: int = 1
    device: str = "cpu"


# (characters, rotations, which weights)
Key = tuple[int, str, str]


def main(config: Config) -> dict[Key, OverSeeds]:
    """Train what is missing, judge, print the tables; write them and results.json."""
    images = load_image_set(config.images)
    results: dict[Key, OverSeeds] = {}
    looks: dict[Key, list[int]] = {}
    for characters, rotations in itertools.product(config.characters, ROTATIONS):
        runs = [_run(images, characters, rotations, seed, config) for seed in config.seeds]
        for which in (LAST, BEST):
            key = characters, rotations, which
            results[key] = OverSeeds(np.stack([run.scores[which] for run in runs]))
            looks[key] = [run.iterations[which] for run in runs]
            print(_line(images, key, results[key], looks[key]), flush=True)
    text = f"{_table(images, results, looks)}\n\n{_effects(images, results)}\n"
    print(text)
    content = {
        "config": {name: str(value) for name, value in dataclasses.asdict(config).items()},
        "rows": [
            {"characters": characters, "rotations": rotations, "weights": which,
             "iterations": looks[characters, rotations, which], "accuracy": found.as_dict()}
            for (characters, rotations, which), found in results.items()
        ],
    }  # fmt: skip
    write_atomically(config.out / "results.json", (json.dumps(content) + "\n").encode())
    write_atomically(config.out / "table.md", text.encode())
    print(f"Written to {config.out}.")
    return results


# -- one run -----------------------------------------------------------------------------------


def fewer(images: ImageSet, characters: int, seed: int) -> ImageSet:
    """The set with that many of its training classes; 0 keeps all.

    Raises:
        InvalidArgumentError: there are not so many.
    """
    known = images.split["train"]
    if not 0 <= characters <= len(known):
        raise InvalidArgumentError(
            f"characters={characters}: {images.name} has {len(known)} to train on; 0 takes all."
        )
    if not characters:
        return images
    chosen = np.random.default_rng(seed).choice(known, characters, replace=False)
    return dataclasses.replace(images, split={**images.split, "train": np.sort(chosen)})


@dataclass(frozen=True)
class _Run:
    """A training of one seed.

    Attributes:
        scores: accuracies on the test tasks, by which weights.
        iterations: that those weights have seen.
    """

    scores: dict[str, np.ndarray]
    iterations: dict[str, int]


def _run(images: ImageSet, characters: int, rotations: str, seed: int, config: Config) -> _Run:
    judged = ImageTasks(images, WAYS, SHOTS, device=config.device)
    ways = min(TRAINING_WAYS, characters or TRAINING_WAYS)
    training = ImageTasks(
        fewer(images, characters, seed), ways, SHOTS, TRAINING_QUERIES, rotations,
        device=config.device,
    )  # fmt: skip
    tasks = TrainOn(training, judged)
    method = make_method("prototypical", tasks, seed=seed, pooling="stride", filters=32)
    loop = TrainConfig(
        iterations=config.iterations, meta_batch=1, outer_lr=2e-3, amp="auto", patience=NEVER,
        eval_every=max(1, config.iterations // config.looks), eval_tasks=config.development,
        eval_batch=25, threads=config.threads, device=config.device,
    )  # fmt: skip
    out = config.out / f"{characters or 'all'}-{rotations}-seed{seed}"
    best = trained(method, tasks, out, loop, seed)
    state = load_checkpoint(out, best.name).extra()
    scores = {BEST: _scores(best, judged, config)}
    # The checkpoint's weights are the best ones; the last are in what a resumed run would need.
    best.load_state_dict({name: torch.tensor(x) for name, x in state["model"].items()})
    scores[LAST] = _scores(best, judged, config)
    waited = int(state["run"]["waited"]) * loop.eval_every
    last = int(state["run"]["iteration"])
    return _Run(scores, {LAST: last, BEST: last - last % loop.eval_every - waited})


def _scores(method: FewShotMethod, judged: ImageTasks, config: Config) -> np.ndarray:
    return few_shot_scores(method, judged, "test", config.tasks, batch=25)


# -- what is shown -----------------------------------------------------------------------------


def _label(images: ImageSet, characters: int) -> str:
    return str(characters) if characters else f"all {len(images.split['train'])}"


def _line(images: ImageSet, key: Key, found: OverSeeds, iterations: list[int]) -> str:
    characters, rotations, which = key
    turned = "yes" if rotations == "train" else "no"
    return (
        f"| {_label(images, characters)} | {turned} | {which} | {found.cell(100.0, 2)} | "
        f"{'/'.join(map(str, iterations))} |"
    )


def _table(
    images: ImageSet, results: dict[Key, OverSeeds], iterations: dict[Key, list[int]]
) -> str:
    """Markdown: accuracies in percent."""
    lines = ["| characters | turned too | weights | accuracy, % | iterations |",
             "|--:|:--|:--|--:|--:|"]  # fmt: skip
    return "\n".join(
        [*lines, *(_line(images, key, found, iterations[key]) for key, found in results.items())]
    )


def _effects(images: ImageSet, results: dict[Key, OverSeeds]) -> str:
    """Markdown: differences in percent points, task by task, with intervals."""
    lines = ["| characters | effect of | with | points |", "|--:|:--|:--|--:|"]
    for characters in dict.fromkeys(key[0] for key in results):
        pairs = [
            ("turned characters", which, (ROTATIONS[1], which), (ROTATIONS[0], which))
            for which in (LAST, BEST)
        ] + [
            ("development tasks", "turned too" if r == "train" else "not turned",
             (r, BEST), (r, LAST))
            for r in ROTATIONS
        ]  # fmt: skip
        for what, given, one, other in pairs:
            found = paired_difference(
                results[(characters, *one)].per_task, results[(characters, *other)].per_task
            )
            value, low, high = (100 * x for x in found)
            lines.append(
                f"| {_label(images, characters)} | {what} | {given} | "
                f"{value:+.2f} [{low:+.2f}, {high:+.2f}] |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    start = time.perf_counter()
    main(tyro.cli(Config, description=__doc__))
    print(f"{time.perf_counter() - start:.0f} s in all.")
