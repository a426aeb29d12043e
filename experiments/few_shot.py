"""Few-shot classification: methods × ways and shots, beside the published numbers of Omniglot.

    python experiments/few_shot.py                           # glyphs, 5w1s, no download
    python experiments/few_shot.py --data omniglot           # ≤ 10 minutes a method on a CPU
    python experiments/few_shot.py --data omniglot --targets # within an hour each on 2 cores
    python experiments/few_shot.py --data omniglot --full    # long recipes, for a GPU

Every method is trained on the training classes and judged on tasks of test classes that nobody
has seen, all methods on the same tasks, with 95 % intervals over tasks. In the full mode training
stops early by validation tasks; elsewhere the final weights count. What is in --out already is
not computed again, and an interrupted training goes on; what was trained with other settings is
refused. The recipes are those of ``metagym.baselines.few_shot.recipes``.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from few_shot_runs import trained
from kept_runs import refuse_other
from metagym.baselines.few_shot import make_method
from metagym.baselines.few_shot.base import FewShotMethod
from metagym.baselines.few_shot.judge import evaluate_few_shot
from metagym.baselines.few_shot.recipes import IMAGES, Recipe, recipe
from metagym.baselines.few_shot.train import TrainConfig
from metagym.baselines.few_shot.training_tasks import AllClasses, TrainOn, training_tasks
from metagym.checkpoint import CONFIG
from metagym.errors import InvalidArgumentError, check_choice
from metagym.evaluation import Result
from metagym.files import write_atomically
from metagym.tasks.episodes import ImageTasks
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
HOW = "how_trained.json"  # in the folder of each entry


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        data: the images; "omniglot" needs its two zip files, see ``load_omniglot``.
        quick: 5-way 1-shot, minutes a method (the default).
        targets: the named targets of Omniglot, within an hour each on two cores.
        full: all settings, for a GPU.
        split_rule: of Omniglot; "vinyals": as many characters as in that paper, in file order.
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
    """What was saved for this entry, or else its training (what is left of it) and judging.

    Raises:
        InvalidArgumentError: what is there was trained in another way.
    """
    _check_same(config, row, setting, folder)
    path = folder / "result.json"
    if path.is_file():
        saved = Result.load(path)
        if len(saved.scores) == config.tasks:
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


def _check_same(config: Config, row: str, setting: str, folder: Path) -> None:
    """Write down how this entry is trained; where something lies already, compare with that."""
    asked = how_trained(config, row, setting)
    path = folder / HOW
    if path.is_file():
        refuse_other(folder, asked, json.loads(path.read_text()))
    elif (folder / "result.json").is_file() or (folder / "run" / CONFIG).is_file():
        raise InvalidArgumentError(
            f"{folder} does not say how it was trained ({HOW} is missing); choose another --out "
            "or remove it."
        )
    else:
        write_atomically(path, (json.dumps(asked, indent=1) + "\n").encode())


def how_trained(config: Config, row: str, setting: str) -> dict[str, Any]:
    """All that the weights of an entry depend on, but for its seed, as JSON."""
    found = _recipe(config, row, setting)
    told = {name: getattr(found, name) for name in ("method", "fields", "loop", "all_classes")}
    made = {
        **told, "training_tasks": found.tasks, "judged": _record(config, setting),
        "seconds": _seconds(config), "iterations": config.iterations,
    }  # fmt: skip
    how: dict[str, Any] = json.loads(json.dumps(made))
    return how


def _trained(
    config: Config, row: str, setting: str, judged: ImageTasks, run: Path
) -> FewShotMethod:
    found = _recipe(config, row, setting)
    tasks = training_tasks(found, judged)
    fields = dict(found.fields)
    if isinstance(tasks, TrainOn) and isinstance(tasks.train, AllClasses):
        fields["classes"] = tasks.train.classes
    told = {} if config.iterations is None else {"iterations": config.iterations}
    loop = TrainConfig(**{**found.loop, **told, "threads": config.threads, "device": config.device})
    return trained(
        make_method(found.method, tasks, seed=config.seed, **fields), tasks, run, loop,
        config.seed, seconds=_seconds(config), tasks_name=config.data,
        tasks_kwargs=_record(config, setting),
    )  # fmt: skip


def make_tasks(config: Config, setting: str) -> ImageTasks:
    """The tasks of a setting such as "5w1s"."""
    kwargs = _tasks_kwargs(config, setting)
    return ImageTasks(_images(config.data, **_rule(config)), **kwargs, device=config.device)


@functools.cache
def _images(data: str, **kwargs: str) -> ImageSet:
    return load_image_set(data, **kwargs)


def _recipe(config: Config, row: str, setting: str) -> Recipe:
    kwargs = _tasks_kwargs(config, setting)
    return recipe(row, "images", kwargs["ways"], kwargs["shots"], long=config.mode == "full")


def _seconds(config: Config) -> float | None:
    """Of training, resumes included; None where iterations decide."""
    if config.iterations is not None:
        return None
    mode = {"quick": QUICK_SECONDS, "targets": TARGET_SECONDS, "full": None}[config.mode]
    return mode if config.seconds is None else config.seconds


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
        check_choice("methods", row, IMAGES)
    for setting in config.settings:
        _tasks_kwargs(config, setting)
    if config.mode == "targets" and not (config.methods or config.settings):
        if config.data == "omniglot":
            return list(TARGETS)
        raise InvalidArgumentError("The targets are those of --data omniglot.")
    every = DIGIT_SETTINGS if config.data == "digits" else SETTINGS
    settings = config.settings or (every if config.mode == "full" else every[:1])
    return [(row, s) for s in settings for row in config.methods or IMAGES]


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
