"""Zoph & Le (2017) in miniature: a controller that writes chains, each trained for real on digits.

    python experiments/zoph_chain.py             # 5 seeds
    python experiments/zoph_chain.py --spread    # do architectures differ by more than luck?
    python experiments/zoph_chain.py --tune      # learning rates of the controller

Children are chains of 6 convolutions with strides and skip connections, trained for 5 epochs on 400
of scikit-learn's digits; 600 others validate, which is all that a search sees, and 797 test. So
little training makes the task hard: most random chains are far from the best. The controller
(agents/controller.py) is compared with random search at equal numbers of children. In one seed both
train a chain with the same luck; another seed has other luck.

The published learning rate, 6e-4, is for 12,800 children and rewards as they are. Here rewards
become ranks, in batches of 10, and the learning rate was chosen by ``--tune``: by the validation
accuracy of the last children of one search each, with a seed that is not in the table.

The best by validation is best by luck too: "trained anew" is what its architecture scores on the
test images in 5 more trainings that had no part in choosing it.

All trained children are kept in cache.db in the output folder. A run that was interrupted is made
again, fast, with what is there, and prints the same table.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tyro
from matplotlib.figure import Figure

from metagym.agents import controller
from metagym.architectures.cache import ResultCache
from metagym.architectures.chain import Chain
from metagym.architectures.evaluator import Evaluation, Evaluator
from metagym.architectures.image_data import ImageData
from metagym.architectures.training import TrainingEvaluator
from metagym.architectures.training_child import Recipe
from metagym.envs.neural_architecture_search import NeuralArchitectureSearchVectorEnv
from metagym.errors import InvalidArgumentError, check_positive
from metagym.evaluation.results import command_line, git_state, machine, versions
from metagym.evaluation.statistics import Estimate, estimate, paired_difference
from metagym.files import write_atomically, write_figure
from metagym.monitoring import progress_bar
from metagym.problems.datasets import load_dataset

SPACE = Chain(6, filters=(4, 8, 16, 32), strides=(1, 2, 3))
RECIPE = Recipe(epochs=5, batch_size=32, learning_rate=0.05, last=5)
CUTS = (400, 1000)  # images before the first train, between the two validate, and the rest test
CONTROLLER = controller.Config(num_envs=10, learning_rate=0.015, advantage="rank")
RATES = (0.006, 0.015)  # that were tried
TUNING_SEED = 100
WINDOW = 100  # children of a mean
ANEW = 5  # further trainings of the best
ID = "ZophChain-v0"


@dataclass(frozen=True)
class Config:
    """The experiment.

    Args:
        out: folder of the cache, the results, the controllers and the figure.
        seeds: how many; they are 0, 1, …
        children: of each search, a multiple of the controller's batch.
        workers: processes that train them; 0 trains in this one.
        spread: print how much architectures and seeds differ, and nothing else.
        samples: random architectures for that.
        tune: print what each learning rate reaches, and nothing else.
    """

    out: Path = Path("results/zoph_chain")
    seeds: int = 5
    children: int = 400
    workers: int = 2
    spread: bool = False
    samples: int = 60
    tune: bool = False

    def __post_init__(self) -> None:
        check_positive("seeds", self.seeds)
        if check_positive("children", self.children) % CONTROLLER.num_envs:
            raise InvalidArgumentError(
                f"children={self.children} has to be a multiple of {CONTROLLER.num_envs}, the "
                "controller's batch."
            )


class Children(Evaluator):
    """Chains trained on digits; what it was asked is kept in order.

    Args:
        seed: the luck of all children.
        cache: where they are looked up first.
        workers: processes that train them.

    Attributes:
        history: by name ("validation", "test", "seconds", "architecture"), a value for each child.
    """

    name = "digits"

    def __init__(self, seed: int, cache: ResultCache, workers: int) -> None:
        self.space = SPACE
        self._trained = TrainingEvaluator(
            SPACE, images(), recipe=dataclasses.replace(RECIPE, seed=seed), cache=cache,
            workers=workers, device="cpu",
        )  # fmt: skip
        self.fingerprint = self._trained.fingerprint
        self.history: dict[str, list[Any]] = {
            name: [] for name in ("validation", "test", "seconds", "architecture")
        }

    def evaluate(self, tokens: np.ndarray, seeds: np.ndarray | None = None) -> Evaluation:
        found = self._trained.evaluate(tokens)
        values = (*(column.tolist() for column in found), list(self.space.strings(tokens)))
        for column, more in zip(self.history.values(), values, strict=True):
            column += more
        return found

    def close(self) -> None:
        self._trained.close()


def images() -> ImageData:
    """The digits, [N, 1, 8, 8], divided by ``CUTS`` in an order that is always the same."""
    digits = load_dataset("digits")
    pictures = digits.inputs.reshape(-1, 1, 8, 8)
    parts = np.split(np.random.default_rng(0).permutation(len(pictures)), CUTS)
    return ImageData(*(array[part] for part in parts for array in (pictures, digits.labels)))


# -- the two searches ------------------------------------------------------------------------------


def search_at_random(
    children: Children, seed: int, config: Config, learner: controller.Config
) -> None:
    """Chains whose every token is uniform."""
    tokens = SPACE.sample(np.random.default_rng(seed), config.children)
    with progress_bar(f"random search, seed {seed}", steps=config.children) as show:
        for done in range(0, config.children, CONTROLLER.num_envs):
            children.evaluate(tokens[done : done + CONTROLLER.num_envs])
            show(done + CONTROLLER.num_envs, f"best {max(children.history['validation']):.3f}")


def search_with_controller(
    children: Children, seed: int, config: Config, learner: controller.Config
) -> None:
    """REINFORCE; its checkpoint and charts are kept in a folder of ``out``."""

    class Search(NeuralArchitectureSearchVectorEnv):
        """With ``children``, which no configuration file could name."""

        def __init__(self, num_envs: int = 1, **kwargs: Any) -> None:
            super().__init__(num_envs, evaluator=children, **kwargs)

    folder = config.out / f"controller-{learner.learning_rate:g}-seed{seed}"
    for chart in folder.glob("events.out.tfevents.*"):  # of an interrupted run
        chart.unlink()
    gym.register(ID, vector_entry_point=Search)
    try:
        controller.train(ID, folder, learner, seed=seed, steps=config.children * SPACE.length)
    finally:
        del gym.registry[ID]


METHODS: dict[str, Callable[[Children, int, Config, controller.Config], None]] = {
    "random search": search_at_random,
    "controller": search_with_controller,
}


def run(
    method: str, seed: int, config: Config, learner: controller.Config = CONTROLLER
) -> dict[str, Any]:
    """One search, or what is known of it from an earlier run."""
    cache = ResultCache(config.out / "cache.db")
    name = "random" if method == "random search" else f"controller-{learner.learning_rate:g}"
    file = config.out / f"{name}-seed{seed}.json"
    with contextlib.closing(Children(seed, cache, config.workers)) as children:
        setting = {
            "method": method, "seed": seed, "children": config.children,
            "fingerprint": children.fingerprint,
            "controller": dataclasses.asdict(learner) if method == "controller" else None,
        }  # fmt: skip
        if file.is_file():
            saved: dict[str, Any] = json.loads(file.read_text())
            if saved["setting"] == setting:
                return saved
        start = time.perf_counter()
        METHODS[method](children, seed, config, learner)
    wall = time.perf_counter() - start
    architecture = children.history["architecture"][int(np.argmax(children.history["validation"]))]
    result = {
        "setting": setting, "wall_seconds": wall, "best": architecture,
        "anew": train_anew(architecture, seed, cache), **children.history,
    }  # fmt: skip
    write_atomically(file, json.dumps(result).encode())
    print(f"seed {seed}, {method}: {wall:.0f} s", flush=True)
    return result


def tune(config: Config) -> None:
    """What each learning rate reaches with a seed of its own; test accuracies are not looked at."""
    for rate in RATES:
        learner = dataclasses.replace(CONTROLLER, learning_rate=rate)
        found = np.array(run("controller", TUNING_SEED, config, learner)["validation"])
        last, middle = found[-WINDOW:].mean(), found[len(found) // 2 :].mean()
        print(
            f"learning rate {rate:g}: mean validation accuracy of the last {WINDOW} children "
            f"{last:.4f}, of the second half {middle:.4f}"
        )


def train_anew(architecture: str, seed: int, cache: ResultCache) -> list[float]:
    """Test accuracies of an architecture in ``ANEW`` trainings with luck of their own."""
    tokens = SPACE.from_string(architecture)[None]
    found = (Children(1000 + ANEW * seed + i, cache, 0).evaluate(tokens) for i in range(ANEW))
    return [float(evaluation.test[0]) for evaluation in found]


# -- the table -------------------------------------------------------------------------------------


def summary(result: dict[str, Any]) -> dict[str, float]:
    """The columns of the table for one search."""
    validation, window = np.array(result["validation"]), min(WINDOW, len(result["validation"]))
    best = int(np.argmax(validation))
    return {
        f"validation, first {WINDOW}": float(validation[:window].mean()),
        f"validation, last {WINDOW}": float(validation[-window:].mean()),
        "validation of the best": float(validation[best]),
        "test of the best": result["test"][best],
        "test, trained anew": float(np.mean(result["anew"])),
        "training seconds": float(np.sum(result["seconds"])),
    }


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Every column's mean over the seeds with its interval, and the paired differences."""
    columns = {name: [summary(result) for result in found] for name, found in results.items()}
    names = list(columns["controller"][0])
    lines = [f"| | {' | '.join(names)} |", f"|---|{'--:|' * len(names)}"]
    for method, rows in columns.items():
        cells = [_cell(name, estimate([row[name] for row in rows])) for name in names]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    cells = []
    for name in names:
        ours, theirs = ([row[name] for row in columns[m]] for m in ("controller", "random search"))
        ahead = sum(a > b for a, b in zip(ours, theirs, strict=True))
        cell = _cell(name, paired_difference(ours, theirs), "+")
        cells.append(f"{cell}, higher in {ahead} of {len(ours)}")
    return "\n".join([*lines, f"| controller - random search, paired | {' | '.join(cells)} |"])


def _cell(name: str, value: Estimate, sign: str = "") -> str:
    scale, digits = (1, 0) if name.endswith("seconds") else (100, 2)
    mean, low, high = (f"{scale * number:{sign}.{digits}f}" for number in value)
    return f"{mean} [{low}, {high}]"


def plot(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Validation accuracy by child: mean of the last 50 with its range over seeds, and the best."""
    drawing = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    axes = drawing.subplots()
    for colour, (method, found) in zip(("C7", "C0"), results.items(), strict=True):
        validation = 100 * np.array([result["validation"] for result in found])
        width = min(50, validation.shape[1])
        sums = np.cumsum(np.pad(validation, ((0, 0), (1, 0))), axis=1)
        moving = (sums[:, width:] - sums[:, :-width]) / width
        count = np.arange(width, validation.shape[1] + 1)
        axes.fill_between(count, moving.min(0), moving.max(0), color=colour, alpha=0.2, lw=0)
        axes.plot(count, moving.mean(0), color=colour, label=method)
        best = np.maximum.accumulate(validation, axis=1).mean(axis=0)
        axes.plot(np.arange(len(best)) + 1, best, color=colour, ls=":", label=f"{method}, best")
    axes.set_xlabel("children trained")
    axes.set_ylabel(f"validation accuracy in %, mean of the last {width}")
    axes.grid(alpha=0.25)
    drawing.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=4)
    write_figure(path, drawing)


def spread(config: Config) -> dict[str, float]:
    """How much random architectures differ, and how much the seeds of one do; printed."""
    cache = ResultCache(config.out / "cache.db")
    tokens = SPACE.sample(np.random.default_rng(0), config.samples)
    with contextlib.closing(Children(0, cache, config.workers)) as children:
        found = children.evaluate(tokens)
    repeated = tokens[np.argsort(found.reward)[:: max(1, len(tokens) // 5)]][:5]  # of all quality
    trainings = []
    for seed in range(1, 1 + ANEW):
        with contextlib.closing(Children(seed, cache, config.workers)) as children:
            trainings.append(children.evaluate(repeated).reward)
    numbers = {
        "mean": found.reward.mean(), "lowest": found.reward.min(), "highest": found.reward.max(),
        "standard deviation over architectures": found.reward.std(ddof=1),
        "standard deviation over seeds": np.var(trainings, axis=0, ddof=1).mean() ** 0.5,
        "correlation of validation and test": np.corrcoef(found.reward, found.test)[0, 1],
        "seconds a child": found.cost.mean(), "longest": found.cost.max(),
    }  # fmt: skip
    print(f"Validation accuracy of {len(tokens)} random chains:")
    for name, number in numbers.items():
        print(f"  {name}: {number:.3f}")
    return {name: float(number) for name, number in numbers.items()}


def main(config: Config) -> None:
    """Search, print; write results.json, table.md and curves.png."""
    if config.spread:
        spread(config)
        return
    if config.tune:
        tune(config)
        return
    results: dict[str, list[dict[str, Any]]] = {
        method: [run(method, seed, config) for seed in range(config.seeds)] for method in METHODS
    }
    printed = table(results)
    commit, dirty = git_state()
    content = {
        "config": {k: str(v) for k, v in vars(config).items()},
        "controller": dataclasses.asdict(CONTROLLER), "recipe": RECIPE.as_dict(),
        "command": command_line(sys.argv), "git_commit": commit, "git_dirty": dirty,
        "versions": versions(), "device": f"cpu, {machine()}", "results": results,
    }  # fmt: skip
    write_atomically(config.out / "results.json", json.dumps(content).encode())
    write_atomically(config.out / "table.md", (printed + "\n").encode())
    plot(results, config.out / "curves.png")
    print(f"\n{printed}\n")
    print(
        f"Accuracies in percent; [95 % interval of the mean over {config.seeds} seeds]; "
        f"{config.children} children a search."
    )
    for method, found in results.items():
        best = max(found, key=lambda result: max(result["validation"]))
        print(f"{method}: {best['best']}")
    print(f"Written to {config.out}.")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
