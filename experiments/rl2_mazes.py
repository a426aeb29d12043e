"""Table 3 of RL² (Duan et al. 2016): does the second walk through a maze use the first?

    python experiments/rl2_mazes.py --quick                 # trains on 5 × 5, 44 minutes on a CPU
    python experiments/rl2_mazes.py --full                  # and on 9 × 9, hours; better on a GPU
    python experiments/rl2_mazes.py --checkpoint runs/maze  # a policy that was trained before

Training is on the 1,000 frozen layouts with starts and targets drawn anew for every trial: on the
frozen ones it learns them by heart. All agents walk
through the same 1,000 test mazes, each maze once. As in the paper, the policy that
was trained on 5 × 5 is tested on 9 × 9 too. The published lengths are of a three-dimensional world
in which a turn takes several steps: they are printed for their pattern, not to be compared.
What is in --out already is not computed again, and a training goes on where it was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from metagym.agents import rl2
from metagym.agents.mazes import NearestFrontier, ShortestPath, WallFollower
from metagym.agents.random import RandomAgent
from metagym.checkpoint import CONFIG, read_config
from metagym.core import Agent
from metagym.errors import InvalidArgumentError
from metagym.evaluation import Result, evaluate

IDS = {5: "MetaMaze-v0", 9: "MetaMaze-9x9-v0"}
MAZES = 1000  # of the test split
SECONDS = {"quick": {5: 2640.0}, "full": {5: 2 * 3600.0, 9: 8 * 3600.0}}
WRITTEN: dict[str, Callable[[], Agent]] = {
    "random": RandomAgent,
    "wall_follower": WallFollower,
    "nearest_frontier": NearestFrontier,
    "shortest_path": ShortestPath,
}
# Success in percent, length of successful trajectories (episodes 1 to 5), percent improved.
PUBLISHED: dict[int, dict[str, tuple[tuple[float, ...], tuple[float, ...], float | None]]] = {
    5: {
        "RL², Duan et al. (2016)": (
            (99.3, 99.6, 99.7, 99.4, 99.6), (52.4, 39.1, 42.6, 43.5, 43.9), 91.7,
        ),
        "SNAIL, Mishra et al. (2018)": ((), (50.3, 34.8), None),
    },
    9: {
        "RL², Duan et al. (2016)": (
            (97.1, 96.7, 95.8, 95.6, 96.1), (180.1, 151.8, 169.3, 162.3, 169.3), 71.4,
        ),
        "SNAIL, Mishra et al. (2018)": ((), (140.5, 105.9), None),
    },
}  # fmt: skip

NOTE = """\
Success and length are given by inner episode, 1 / 2 / …; lengths are means of the successful ones
with 95 % intervals. Improved: the second episode is not longer than the first, two failures
included. Published rows are of a 3-D world: compare their pattern, not their lengths."""


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        quick: trains on 5 × 5 for less than an hour (the default).
        full: trains on both sizes for hours.
        out: folder of the results and checkpoints.
        seconds: of each training, in place of the mode's.
        checkpoint: a trained policy to take in place of training one.
        core: of the policy.
        n: inner episodes of a test trial; training is on 2, published are up to 5.
        seed: of the training and of the order of the test mazes.
    """

    quick: bool = False
    full: bool = False
    out: Path = Path("results/rl2_mazes")
    seconds: float | None = None
    checkpoint: Path | None = None
    core: Literal["gru", "lstm", "snail"] = "gru"
    n: int = 2
    seed: int = 0


def main(config: Config) -> None:
    """Train, evaluate, print and write the tables."""
    if config.quick and config.full:
        raise InvalidArgumentError("Either --quick or --full, not both.")
    policies = _policies(config)
    lines: list[str] = []
    for size in IDS:
        results = {name: _evaluate(config, size, name, make) for name, make in WRITTEN.items()}
        for name, folder in policies.items():
            results[name] = _evaluate(config, size, name, partial(rl2.load, folder), folder)
        lines += [f"### {size} × {size} rooms, {MAZES} test mazes", "", *_table(size, results), ""]
    text = "\n".join([*lines, NOTE])
    (config.out / "table.md").write_text(text + "\n")
    print(text)


def _policies(config: Config) -> dict[str, Path]:
    """The folders of the trained policies by the name of their row."""
    if config.checkpoint is not None:
        return {f"rl2 ({config.checkpoint.name})": config.checkpoint}
    mode = "full" if config.full else "quick"
    folders = {}
    for size, seconds in SECONDS[mode].items():
        run = config.out / f"run_{size}x{size}_{config.core}"
        trained = (run / CONFIG).is_file()
        spent = read_config(run)["training"]["seconds"] if trained else 0.0
        left = (config.seconds or seconds) - spent
        if left > 1.0 or not trained:  # an interrupted training goes on for what is left
            recipe = replace(rl2.recipe(IDS[size]), core=config.core)
            rl2.train(
                IDS[size], run, recipe, seed=config.seed, seconds=left, resume=trained,
                env_kwargs={"augment": True},
            )  # fmt: skip
        folders[f"rl2 (trained on {size} × {size})"] = run
    return folders


def _evaluate(
    config: Config, size: int, name: str, make: Callable[[], Agent], folder: Path | None = None
) -> Result:
    """The result of one agent, from its file if it is there and of the same policy."""
    label = name if folder is None else f"rl2_{folder.name}"
    path = config.out / f"{size}x{size}" / f"{label}-n{config.n}.json"
    training = None if folder is None else read_config(folder)["training"]
    if path.is_file():
        saved = Result.load(path)
        if (saved.training, saved.seed) == (training, config.seed):
            return saved
    result = evaluate(make(), IDS[size], "test", MAZES, config.seed, num_envs=MAZES, n=config.n)
    result.save(path)
    print(f"{size} × {size}, {name}: {result.mean:.3f}, {result.wall_time_s:.0f} s", flush=True)
    return result


# -- the table -------------------------------------------------------------------------------------


def _table(size: int, results: dict[str, Result]) -> list[str]:
    lines = [
        "| agent | return of a trial [95 %] | success, % | length if successful | improved, % |",
        "|---|---|---|---|---|",
    ]
    for name, result in results.items():
        outcome = summary(result)
        oracle = " (sees the maze)" if result.privileged else ""
        low, high = result.interval
        lines.append(
            f"| {name}{oracle} | {result.mean:.2f} [{low:.2f}, {high:.2f}] | "
            f"{_join(outcome['success'], '.1f')} | "
            f"{' / '.join(f'{m:.1f} ± {h:.1f}' for m, h in outcome['lengths'])} | "
            f"{outcome['improved']:.1f} |"
        )
    n = np.shape(next(iter(results.values())).extras["inner_lengths"])[1]
    for name, (success, lengths, improved) in PUBLISHED[size].items():
        shown = "" if improved is None else f"{improved:.1f}"
        lines.append(
            f"| *published:* {name} | | {_join(success[:n], '.1f')} | "
            f"{_join(lengths[:n], '.1f')} | {shown} |"
        )
    return lines


def summary(result: Result) -> dict[str, Any]:
    """Of a result's trials, by inner episode: success in percent, lengths with half-widths of
    their 95 % intervals, and the percentage whose second episode is not longer than the first."""
    success = np.array(result.extras["inner_success"], dtype=bool)
    lengths = np.array(result.extras["inner_lengths"], dtype=np.float64)
    successful = [lengths[ok, i] for i, ok in enumerate(success.T)]
    return {
        "success": (100.0 * success.mean(axis=0)).tolist(),
        "lengths": [
            (float(x.mean()), float(1.96 * x.std() / len(x) ** 0.5)) if len(x) else (np.nan, np.nan)
            for x in successful
        ],
        "improved": float(100.0 * (lengths[:, 1:2] <= lengths[:, :1]).mean()),
    }


def _join(values: Any, form: str) -> str:
    return " / ".join(f"{value:{form}}" for value in values)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
