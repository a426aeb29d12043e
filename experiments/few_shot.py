"""Few-shot classification: methods × ways and shots, beside the published numbers of Omniglot.

    python experiments/few_shot.py                           # glyphs, 5w1s, no download
    python experiments/few_shot.py --data omniglot           # ≤ 10 minutes a method on a CPU
    python experiments/few_shot.py --data omniglot --targets # within an hour each on 2 cores
    python experiments/few_shot.py --data omniglot --full    # long recipes, for a GPU

Every method is trained on the training classes and judged on tasks of test classes that nobody
has seen, all methods on the same tasks, with 95 % intervals over tasks. In the full mode training
stops early by validation tasks; elsewhere the final weights count. What is in --out already is
not computed again, and an interrupted training goes on.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from metagym.baselines.few_shot import make_method
from metagym.baselines.few_shot.base import FewShotMethod
from metagym.baselines.few_shot.judge import evaluate_few_shot
from metagym.baselines.few_shot.train import TrainConfig, load_method, train_few_shot
from metagym.baselines.few_shot.training_tasks import AllClasses, TrainOn
from metagym.checkpoint import CONFIG, read_config
from metagym.core.task import SPLITS
from metagym.errors import InvalidArgumentError, check_choice
from metagym.evaluation import Result
from metagym.files import write_atomically
from metagym.tasks.episodes import ImageTasks
from metagym.tasks.few_shot import TaskDistribution
from metagym.tasks.image_sets import ImageSet, load_image_set

SETTINGS = ("5w1s", "5w5s", "20w1s", "20w5s")
DIGIT_SETTINGS = ("3w1s", "3w5s")  # scikit-learn's digits leave three classes for the test
# Accuracy on Omniglot in percent, in the order of SETTINGS, by the label of the method. Not all
# papers use the same split of the characters.
PUBLISHED: dict[str, tuple[float, ...]] = {
    "maml (transductive)": (98.7, 99.9, 95.8, 98.9),
    "fomaml (transductive)": (98.3, 99.2, 89.4, 97.9),
    "reptile": (95.39, 98.90, 88.14, 96.65),
    "reptile (transductive)": (97.68, 99.48, 89.43, 97.12),
    "prototypical": (98.8, 99.7, 96.0, 98.9),
    "matching": (98.1, 98.9, 93.8, 98.5),
    "relation": (99.6, 99.8, 97.6, 99.1),
}
# What two cores have to reach within an hour: row and setting.
TARGETS = {("prototypical", "5w1s"): 98.0, ("prototypical", "5w5s"): 99.3, ("maml", "5w1s"): 94.0}
QUICK_SECONDS, TARGET_SECONDS = 540.0, 3300.0  # of training, so that judging fits in as well


@dataclass(frozen=True)
class Recipe:
    """How one row of the table is trained.

    Attributes:
        method: its name in ``make_method``.
        fields: of the method's config.
        loop: fields of ``TrainConfig``.
        tasks: arguments of ``ImageTasks`` in training, where they differ from those of the test.
        all_classes: train on ordinary classification.
        full: what the full mode changes, by the names above.
    """

    method: str
    fields: dict[str, Any] = field(default_factory=dict)
    loop: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)
    all_classes: bool = False
    full: dict[str, dict[str, Any]] = field(default_factory=dict)


# Of methods that embed all examples of a batch at once.
_COSINE = {"schedule": "cosine", "outer_rate": 2e-3, "amp": "auto"}
# Many ways in training, one task a step.
_MANY_WAYS = Recipe(
    "prototypical", {"pooling": "max"}, {**_COSINE, "meta_batch": 1},
    {"ways": 30, "shots": 1, "queries": 5},
    full={"tasks": {"ways": 60}, "loop": {"iterations": 40_000}},
)  # fmt: skip
_AS_TESTED = Recipe(
    "matching", {"pooling": "max"}, {**_COSINE, "meta_batch": 8}, {"queries": 5},
    full={"loop": {"iterations": 60_000, "meta_batch": 16}},
)  # fmt: skip
# MAML's recipe: 64 strided filters, inner rate 0.4, one inner step and three for the test.
_GRADIENT = Recipe(
    "maml", {"inner_rate": 0.4, "inner_steps": 1, "test_steps": 3},
    {"meta_batch": 16, "outer_rate": 2e-3, "schedule": "cosine", "max_grad_norm": 10.0},
    {"queries": 5},
    full={"loop": {"iterations": 60_000, "meta_batch": 32, "outer_rate": 1e-3}},
)  # fmt: skip
_PRETRAINED = Recipe(
    "nearest_neighbour", {"pooling": "max"}, {**_COSINE, "meta_batch": 1}, all_classes=True,
    full={"loop": {"iterations": 40_000}},
)  # fmt: skip
_REPTILE = Recipe(
    "reptile", {"inner_rate": 1e-3, "inner_optimizer": "adam", "minibatch": 10, "norm": "support",
                "test_steps": 50},
    {"meta_batch": 5, "optimizer": "sgd", "outer_rate": 1.0, "schedule": "linear"},
    {"queries": 10},
    full={"loop": {"iterations": 100_000}},
)  # fmt: skip

RECIPES: dict[str, Recipe] = {
    "nearest_neighbour": _PRETRAINED,
    "fine_tuning": replace(_PRETRAINED, method="fine_tuning"),
    "siamese": replace(_AS_TESTED, method="siamese"),
    "matching": _AS_TESTED,
    "matching_fce": replace(_AS_TESTED, fields={"pooling": "max", "full_context": True}),
    "prototypical": _MANY_WAYS,
    "relation": replace(_AS_TESTED, method="relation"),
    "lstm": replace(_AS_TESTED, method="lstm"),
    "snail": replace(_AS_TESTED, method="snail"),
    "meta_lstm": Recipe(
        "meta_lstm", {}, {"meta_batch": 4, "outer_rate": 1e-3, "max_grad_norm": 0.25},
        {"queries": 5}, full={"loop": {"iterations": 50_000}},
    ),
    "maml": _GRADIENT,
    "fomaml": replace(_GRADIENT, method="fomaml"),
    "anil": replace(_GRADIENT, method="anil"),
    "meta_sgd": replace(_GRADIENT, method="meta_sgd"),
    "maml_plus_plus": replace(_GRADIENT, method="maml_plus_plus", fields={"inner_rate": 0.1}),
    "reptile": _REPTILE,
    "reptile_transductive": replace(_REPTILE, fields={**_REPTILE.fields, "norm": "batch"}),
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        data: the images; "omniglot" needs its two zip files, see ``load_omniglot``.
        quick: 5-way 1-shot, minutes a method (the default).
        targets: the named targets of Omniglot, within an hour each on two cores.
        full: all settings, for a GPU.
        split_rule: of Omniglot's characters, see ``load_omniglot``; most papers take "vinyals".
        methods: rows of the table, in place of all.
        settings: such as "5w1s", in place of those of the mode.
        out: folder of the results and checkpoints.
        seconds: of training for each entry, in place of the mode's.
        iterations: outer steps for each entry, in place of seconds.
        tasks: of the test.
        rotations: whether turned characters are classes of their own, as in most papers.
        threads: of torch, on a CPU.
        device: "auto" is a GPU where there is one.
        seed: of training; the test tasks are always the same.
    """

    data: Literal["omniglot", "glyphs", "digits"] = "glyphs"
    quick: bool = False
    targets: bool = False
    full: bool = False
    split_rule: Literal["standard", "vinyals"] = "vinyals"
    methods: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    out: Path = Path("results/few_shot")
    seconds: float | None = None
    iterations: int | None = None
    tasks: int = 1000
    rotations: Literal["none", "train", "all"] = "all"
    threads: int = 2
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.quick + self.targets + self.full > 1:
            raise InvalidArgumentError("Give one of --quick, --targets and --full.")

    @property
    def mode(self) -> str:
        """ "quick", "targets" or "full"."""
        return "full" if self.full else "targets" if self.targets else "quick"


def main(config: Config) -> dict[tuple[str, str], Result]:
    """Train, judge, print; write results.json and table.md. Returns results by row and setting."""
    folder = config.out / f"{config.data}-{config.mode}"
    results = {}
    for row, setting in _entries(config):
        place = folder / setting / f"{row}-seed{config.seed}"
        results[row, setting] = _result(config, row, setting, place)
    text = "\n".join([*_table(config, results), "", *_verdicts(config, results)]).rstrip() + "\n"
    summary = {
        "config": {name: str(value) for name, value in asdict(config).items()},
        "rows": [_summary(config, row, setting, r) for (row, setting), r in results.items()],
    }
    write_atomically(folder / "results.json", (json.dumps(summary, indent=1) + "\n").encode())
    write_atomically(folder / "table.md", text.encode())
    print(text)
    return results


# -- one entry of the table --------------------------------------------------------------------


def _result(config: Config, row: str, setting: str, folder: Path) -> Result:
    """What was saved for this entry, or else its training (what is left of it) and judging."""
    path = folder / "result.json"
    if path.is_file():
        saved = Result.load(path)
        if (len(saved.scores), saved.env_kwargs) == (config.tasks, _record(config, setting)):
            return saved
    judged = make_tasks(config, setting)
    method = _trained(config, row, setting, judged, folder / "run")
    result = evaluate_few_shot(
        method, judged, "test", config.tasks, batch=25, tasks_kwargs=_record(config, setting)
    )
    result.save(path)
    low, high = result.interval
    print(f"{setting} {method.label}: {result.mean:.2%} [{low:.2%}, {high:.2%}]", flush=True)
    return result


def _trained(
    config: Config, row: str, setting: str, judged: ImageTasks, run: Path
) -> FewShotMethod:
    recipe = _recipe(config, row)
    tasks = _training_tasks(recipe, config, setting, judged)
    fields = dict(recipe.fields)
    if isinstance(tasks, TrainOn) and isinstance(tasks.train, AllClasses):
        fields["classes"] = tasks.train.classes
    loop = TrainConfig(**recipe.loop, threads=config.threads, device=config.device)
    iterations = config.iterations
    seconds = None if iterations else config.seconds or _seconds(config.mode)
    resume = (run / CONFIG).is_file()
    if resume and seconds is not None:  # an interrupted training goes on for what is left
        seconds -= read_config(run)["training"]["seconds"]
        if seconds < 1.0:
            return load_method(run, config.device)
    return train_few_shot(
        make_method(recipe.method, tasks, seed=config.seed, **fields), tasks, run, loop,
        seed=config.seed, iterations=iterations, seconds=seconds, resume=resume,
        tasks_name=config.data, tasks_kwargs=_record(config, setting),
    )  # fmt: skip


def make_tasks(config: Config, setting: str, **changes: Any) -> ImageTasks:
    """The tasks of a setting such as "5w1s", with other arguments where ``changes`` says so."""
    kwargs = {**_tasks_kwargs(config, setting), **changes}
    return ImageTasks(_images(config.data, **_rule(config)), **kwargs, device=config.device)


@functools.cache
def _images(data: str, **kwargs: str) -> ImageSet:
    return load_image_set(data, **kwargs)


def all_classes(tasks: ImageTasks, batch: int = 64) -> AllClasses:
    """Ordinary classification of the training classes of ``tasks``, turned ones included."""
    source = tasks.images
    parts, labels = [], []
    for label, number in enumerate(source.split["train"]):
        start, count = int(source.starts[number]), int(source.counts[number])
        parts.append(torch.from_numpy(source.images[start : start + count].copy()))
        labels.append(torch.full((count,), label))
    examples, classes = torch.cat(parts), torch.cat(labels)
    if tasks.rotations in ("train", "all"):
        turned = [torch.rot90(examples, k, (-2, -1)) for k in range(4)]
        examples = torch.cat(turned)
        classes = torch.cat([classes + k * len(parts) for k in range(4)])
    return AllClasses(examples.to(tasks.device), classes.to(tasks.device), batch)


def _training_tasks(
    recipe: Recipe, config: Config, setting: str, judged: ImageTasks
) -> TaskDistribution:
    if recipe.all_classes:
        return TrainOn(all_classes(judged), judged)
    changes = dict(recipe.tasks)
    if "ways" in changes:  # small sets have few classes to train on
        most = min(judged.classes(split) for split in SPLITS)
        changes["ways"] = max(judged.ways, min(changes["ways"], most))
    return TrainOn(make_tasks(config, setting, **changes), judged) if changes else judged


def _recipe(config: Config, row: str) -> Recipe:
    recipe = RECIPES[row]
    if config.mode != "full":
        return recipe
    loop = {"patience": 10, **recipe.loop, **recipe.full.get("loop", {})}
    return replace(recipe, loop=loop, tasks={**recipe.tasks, **recipe.full.get("tasks", {})})


def _seconds(mode: str) -> float | None:
    return {"quick": QUICK_SECONDS, "targets": TARGET_SECONDS, "full": None}[mode]


def _tasks_kwargs(config: Config, setting: str) -> dict[str, Any]:
    match = re.fullmatch(r"([1-9]\d*)w([1-9]\d*)s", setting)
    if match is None:
        raise InvalidArgumentError(f"settings: {setting!r} is not of the form '5w1s'.")
    # A turned digit is no new class: a 6 becomes a 9.
    rotations = "none" if config.data == "digits" else config.rotations
    return {
        "ways": int(match[1]), "shots": int(match[2]), "queries": 15, "rotations": rotations,
    }  # fmt: skip


def _rule(config: Config) -> dict[str, str]:
    return {"split_rule": config.split_rule} if config.data == "omniglot" else {}


def _record(config: Config, setting: str) -> dict[str, Any]:
    """What a checkpoint and a result say of the tasks of the test."""
    return {**_rule(config), **_tasks_kwargs(config, setting)}


def _entries(config: Config) -> list[tuple[str, str]]:
    """Rows and settings to run, in the order of the table."""
    for row in config.methods:
        check_choice("methods", row, RECIPES)
    for setting in config.settings:
        _tasks_kwargs(config, setting)
    if config.mode == "targets" and not (config.methods or config.settings):
        if config.data == "omniglot":
            return list(TARGETS)
        raise InvalidArgumentError("The targets are those of --data omniglot.")
    every = DIGIT_SETTINGS if config.data == "digits" else SETTINGS
    settings = config.settings or (every if config.mode == "full" else every[:1])
    return [(row, s) for s in settings for row in config.methods or RECIPES]


# -- the table ---------------------------------------------------------------------------------


def _table(config: Config, results: dict[tuple[str, str], Result]) -> list[str]:
    beside = config.data == "omniglot"
    lines = [
        f"| {config.data} | method | accuracy, % [95 %] | training |" + " published |" * beside,
        "|---|---|---|---|" + "---|" * beside,
    ]
    for (row, setting), result in results.items():
        low, high = result.interval
        trained = (result.training or {}).get("seconds")
        line = (
            f"| {setting} | {_label(row, result)} "
            f"| {100 * result.mean:.2f} [{100 * low:.2f}, {100 * high:.2f}] "
            f"| {'' if trained is None else f'{trained:.0f} s'} |"
        )
        published = _published(config, result.agent, setting)
        lines.append(line + (f" {'' if published is None else published} |" if beside else ""))
    return lines


def _verdicts(config: Config, results: dict[tuple[str, str], Result]) -> list[str]:
    """For each named target among the results, if it was reached."""
    if config.data != "omniglot":
        return []
    lines = []
    for entry, target in TARGETS.items():
        if entry in results:
            mean = 100 * results[entry].mean
            said = "reached" if mean >= target else f"missed by {target - mean:.2f}"
            lines.append(f"- target {entry[0]} {entry[1]} ≥ {target}: {said} ({mean:.2f})")
    return lines


def _summary(config: Config, row: str, setting: str, result: Result) -> dict[str, Any]:
    return {
        "row": row, "setting": setting, "method": result.agent, "accuracy": result.mean,
        "interval": list(result.interval), "tasks": len(result.scores),
        "training": result.training, "published": _published(config, result.agent, setting),
        "device": result.device,
    }  # fmt: skip


def _published(config: Config, label: str, setting: str) -> float | None:
    if config.data != "omniglot" or setting not in SETTINGS:
        return None
    numbers = PUBLISHED.get(label)
    return None if numbers is None else numbers[SETTINGS.index(setting)]


def _label(row: str, result: Result) -> str:
    return result.agent.replace("maml", "maml, second order", 1) if row == "maml" else result.agent


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
