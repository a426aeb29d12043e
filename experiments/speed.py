"""How fast everything is: ratios taken in one run on one machine.

    python experiments/speed.py --out results/speed
    python experiments/speed.py --parts search few_shot

**environments** (one thread, no network)

1. ``gym.make_vec("LearnToOptimize-v0", num_envs=1024)`` against the bare array kernel: value,
   gradient, history write and one copy of the observation, with no environment around it;
   and against a SyncVectorEnv of singles.
2. ``gym.make("LearnToOptimize-v0")`` against ``gym.make("CartPole-v1")``.
3. ``gym.make_vec("MetaBandit-v0", num_envs=1024)`` against CartPole-v1's own vector environment.
4. Throughput and memory from 1 to 65,536 environments, as a table and a plot.
5. Resident memory over ten million steps.

**training**: RL²'s training on MetaBandit-v0 against sb3-contrib's RecurrentPPO: one LSTM of 48
units for policy and value, 4 epochs; the number of environments and the minibatch are the fastest
of a grid for each. RecurrentPPO runs twice: as SB3 makes environments, ``make_vec_env``, and on our
batch through ``SB3VecEnv``.

**search**: tokens per second of ``gym.make_vec("NeuralArchitectureSearch-v0", num_envs=1024)``, and
children trained per minute with two workers and with one, in processes and by Ray.

**few_shot**: MAML's meta-gradients by vmap, in chunks and in a loop over tasks, on sinusoids and
with convolutions; on a GPU, too, where there is one.

Contestants take turns within every repetition, so a change of the machine's speed meets all of
them; each ratio is the median over the repetitions, with the smallest and the largest.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

import metagym  # noqa: F401
from speed_parts import environments, few_shot, search, training

Part = Literal["environments", "training", "search", "few_shot"]


@dataclass(frozen=True)
class Config:
    """What to measure.

    Args:
        parts: which parts, in this order.
        out: folder for speed.json, which holds the parts of this run, and speed.png.
        repetitions: of each comparison.
        training_repetitions: of the comparisons of training, which take longer.
        search_repetitions: of those of search, which take longer still.
        few_shot_repetitions: of those of few-shot learning.
        growth_steps: environment steps of the memory test.
        max_envs: the largest batch of the table.
        children: to train in each repetition, at most 6.
        child_seconds: the least that one of them should take.
    """

    parts: tuple[Part, ...] = ("environments", "training", "search", "few_shot")
    out: Path = Path("results/speed")
    repetitions: int = 7
    training_repetitions: int = 5
    search_repetitions: int = 3
    few_shot_repetitions: int = 5
    growth_steps: int = 10_000_000
    max_envs: int = 65_536
    children: int = 4
    child_seconds: float = 5.0


def main(config: Config) -> None:
    """Measure and print part after part; write speed.json and speed.png."""
    measures: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[dict[str, Any]], str]]] = {
        "environments": (
            lambda: environments.measure(config.repetitions, config.growth_steps, config.max_envs),
            environments.show,
        ),
        "training": (lambda: training.measure(config.training_repetitions), training.show),
        "search": (
            lambda: search.measure(
                config.search_repetitions, config.children, config.child_seconds
            ),
            search.show,
        ),
        "few_shot": (lambda: few_shot.measure(config.few_shot_repetitions), few_shot.show),
    }
    config.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"config": {**asdict(config), "out": str(config.out)}}
    for part in config.parts:
        print(f"{part}:", flush=True)
        measure, show = measures[part]
        found = measure()
        print(show(found) + "\n", flush=True)
        results |= found
        (config.out / "speed.json").write_text(json.dumps(results, indent=2) + "\n")
    if "table" in results:
        environments.plot(results["table"], config.out / "speed.png")
    print(f"Written to {config.out}.")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
