"""Table 1 of RL² (Duan et al. 2016): bandits, all agents on the same trials, under their ceiling.

    python experiments/rl2_bandits.py --quick                   # minutes on a CPU
    python experiments/rl2_bandits.py --full                    # all nine cells; a GPU if there is
    python experiments/rl2_bandits.py --cells 100,5 --checkpoint runs/rl2

Every classical agent is tuned on the train split, cell by cell, and its grid printed; all agents
then meet the same test trials. A score is the expected reward of the arms pulled. What is in
--out already is not computed again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from metagym.agents import rl2
from metagym.agents.bandits import AGENTS, tune
from metagym.agents.random import RandomAgent
from metagym.checkpoint import CONFIG, read_config
from metagym.core import Agent
from metagym.errors import InvalidArgumentError, check_choice
from metagym.evaluation import Result, evaluate
from metagym.planning import Ceiling, ceiling

COLUMNS = (
    "random", "gittins", "thompson", "optimistic_thompson", "ucb1", "epsilon_greedy", "greedy",
    "rl2", "rl2 (snail)",
)  # fmt: skip
# The means of 1000 instances each: Duan et al. (2016), Table 1; the last of Mishra et al. (2018).
PUBLISHED: dict[str, tuple[float, ...]] = {
    "10,5": (5.0, 6.6, 5.7, 6.5, 6.7, 6.6, 6.6, 6.7, 6.6),
    "10,10": (5.0, 6.6, 5.5, 6.2, 6.7, 6.6, 6.6, 6.7, 6.7),
    "10,50": (5.1, 6.5, 5.2, 5.5, 6.6, 6.5, 6.5, 6.8, 6.7),
    "100,5": (49.9, 78.3, 74.7, 77.9, 78.0, 75.4, 74.8, 78.7, 79.1),
    "100,10": (49.9, 82.8, 76.7, 81.4, 82.4, 77.4, 77.1, 83.5, 83.5),
    "100,50": (49.8, 85.2, 64.5, 67.7, 84.3, 78.3, 78.0, 84.9, 85.1),
    "500,5": (249.8, 405.8, 402.0, 406.7, 405.8, 388.2, 380.6, 401.6, 408.1),
    "500,10": (249.0, 437.8, 429.5, 438.9, 437.1, 408.0, 395.0, 432.5, 432.4),
    "500,50": (249.6, 463.7, 427.2, 437.6, 457.6, 413.6, 402.8, 438.9, 442.6),
}
INSTANCES = 1000  # of a published number
QUICK = ("10,5", "10,10", "100,5")
TRIALS = {10: 1_000_000, 100: 100_000, 500: 100_000}  # of the test, by n
ROWS = {10: 10_000, 100: 2_500, 500: 1_000}  # at once
BOUND = {10: None, 100: 20_000, 500: 4_000}  # samples of the ceiling where it is a bound
TUNING = {10: 200_000, 100: 10_000, 500: 5_000}  # trials of each grid point
SECONDS = {  # of training, by n
    "quick": {10: 60.0, 100: 885.0, 500: 3600.0},
    "full": {10: 900.0, 100: 3 * 3600.0, 500: 8 * 3600.0},
}


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        quick: three cells, minutes of training (the default).
        full: all nine cells, hours of training.
        cells: n,k of the cells, in place of those.
        out: folder of the results and checkpoints.
        seconds: of training per cell, in place of the mode's; 0 leaves RL² out.
        checkpoint: a trained RL² policy to take in place of training one; it fits one cell.
        core: of the policy.
        trials: of the test, in place of a million at n = 10 and a hundred thousand beyond.
        tuning: trials of each grid point, in place of those by n.
        seed: of the training and of the test trials.
    """

    quick: bool = False
    full: bool = False
    cells: tuple[str, ...] = ()
    out: Path = Path("results/rl2_bandits")
    seconds: float | None = None
    checkpoint: Path | None = None
    core: Literal["gru", "lstm", "snail"] = "gru"
    trials: int | None = None
    tuning: int | None = None
    seed: int = 0


def main(config: Config) -> None:
    """Tune, train, evaluate, print the table and what of the published one it does not confirm."""
    if config.quick and config.full:
        raise InvalidArgumentError("Either --quick or --full, not both.")
    cells = config.cells or (tuple(PUBLISHED) if config.full else QUICK)
    for cell in cells:
        check_choice("cells", cell, PUBLISHED)
    lines = [
        "| n, k | agent | expected reward [95 %] | share of the ceiling | published |",
        "|---|---|---|---|---|",
    ]
    doubts: list[str] = []
    for cell in cells:
        print(f"== n, k = {cell}")
        results = _evaluate_cell(config, cell)
        top = ceiling(_env_id(cell), samples=BOUND[_pulls(cell)])
        assert top is not None
        lines += _rows(cell, top, results)
        doubts += _not_reproduced(cell, results)
    text = "\n".join([*lines, "", *_conclusion(doubts)])
    (config.out / "table.md").write_text(text + "\n")
    print(text)


def _evaluate_cell(config: Config, cell: str) -> dict[str, Result]:
    """The results of all agents, in the order of the table; new ones are saved."""
    n, env_id = _pulls(cell), _env_id(cell)
    folder = config.out / f"n{cell.replace(',', '-k')}"
    folder.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in ("bayes_optimal", *COLUMNS):
        if (name == "bayes_optimal" and n > 10) or name in _left_out(config):
            continue
        path = folder / f"{name.replace(' ', '_').replace('(', '').replace(')', '')}.json"
        trials = config.trials or TRIALS[n]
        if path.is_file() and (config.checkpoint is None or not name.startswith(rl2.NAME)):
            saved = Result.load(path)
            if (_trials(saved), saved.seed) == (trials, config.seed):
                results[name] = saved
                continue
        results[name] = evaluate(
            _agent(config, name, cell, folder), env_id, "test", trials, config.seed,
            num_envs=min(trials, ROWS[n]), group=INSTANCES if trials % INSTANCES == 0 else 1,
        )  # fmt: skip
        results[name].save(path)
        print(f"{name}: {results[name].mean:.4f}, {results[name].wall_time_s:.0f} s", flush=True)
    return results


def _agent(config: Config, name: str, cell: str, folder: Path) -> Agent:
    """The agent, tuned or trained for the cell."""
    if name == "random":
        return RandomAgent()
    if name in AGENTS:
        n = _pulls(cell)
        trials = config.tuning or TUNING[n]
        return AGENTS[name](**tune(name, _env_id(cell), trials, num_envs=min(trials, ROWS[n])))
    if config.checkpoint is not None:
        return rl2.load(config.checkpoint)
    run, env_id = folder / f"run_{config.core}", _env_id(cell)
    seconds = config.seconds or SECONDS["full" if config.full else "quick"][_pulls(cell)]
    trained = (run / CONFIG).is_file()
    left = seconds - (read_config(run)["training"]["seconds"] if trained else 0.0)
    if left > 1.0 or not trained:  # an interrupted training goes on for what is left of its time
        recipe = replace(rl2.recipe(env_id), core=config.core)
        rl2.train(env_id, run, recipe, seed=config.seed, seconds=left, resume=trained)
    return rl2.load(run)


def _rows(cell: str, top: Ceiling, results: dict[str, Result]) -> list[str]:
    """The cell's lines of the table: the ceiling, and each agent below it."""
    digits = 4 if _pulls(cell) == 10 else 2
    error = f" ± {top.standard_error:.{digits}f}" if top.standard_error else ""
    rows = [f"| {cell} | *ceiling ({top.kind})* | {top.value:.{digits}f}{error} | | |"]
    for name, result in results.items():
        published = _published(cell, name)
        low, high = result.interval
        at_least = "" if top.kind == "exact" else "≥ "  # nobody may reach an upper bound
        rows.append(
            f"| {cell} | {name} | {result.mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}] "
            f"| {at_least}{result.mean / top.value:.2%} "
            f"| {'' if published is None else published} |"
        )
    return rows


def _not_reproduced(cell: str, results: dict[str, Result]) -> list[str]:
    """The published numbers that lie outside of the noise of a mean of 1000 instances.

    A published number is a mean of rewards received, so that its noise is the spread of such
    means among ours, and it is rounded to one digit.
    """
    doubts = []
    for name, result in results.items():
        published = _published(cell, name)
        if published is None:
            continue
        noise = np.std(result.returns) * (result.group / INSTANCES) ** 0.5
        own = noise * (INSTANCES / _trials(result)) ** 0.5
        allowed = 1.96 * float(np.hypot(noise, own)) + 0.05
        if abs(result.mean - published) > allowed:
            doubts.append(f"- {cell}, {name}: {published} published, here {result.mean:.2f}; "
                          f"noise ± {allowed:.2f}")  # fmt: skip
    return doubts


def _conclusion(doubts: list[str]) -> list[str]:
    if not doubts:
        return ["Every published number here is reproduced within its noise."]
    return ["Not reproduced within the noise (95 %) of a mean of 1000 instances:", *doubts]


def _trials(result: Result) -> int:
    return len(result.scores) * result.group


def _published(cell: str, name: str) -> float | None:
    return dict(zip(COLUMNS, PUBLISHED[cell], strict=True)).get(name)


def _left_out(config: Config) -> tuple[str, ...]:
    if config.seconds == 0.0 and config.checkpoint is None:
        return "rl2", "rl2 (snail)"
    return ("rl2",) if config.core == "snail" else ("rl2 (snail)",)


def _pulls(cell: str) -> int:
    return int(cell.partition(",")[0])


def _env_id(cell: str) -> str:
    n, k = cell.split(",")
    return "MetaBandit-v0" if cell == "10,5" else f"MetaBandit-n{n}-k{k}-v0"


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
