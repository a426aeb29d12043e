"""Table 2 of Duan et al. (2016), RL², on random MDPs: their columns, ours, and the exact ceiling.

    python experiments/rl2_mdps.py --quick --out results/rl2_mdps
    python experiments/rl2_mdps.py --full --out results/rl2_mdps_full

--quick is n = 10, with RL² trained for --seconds; --full is all five n, with RL²'s own recipes (on
a GPU if there is one). Classical agents are tuned for each n on the train split, the grids are
printed; all meet the same test trials. A second run with the same --out does what is missing.

Every classical agent but UCRL2 comes with two priors: that of the code behind the published
numbers, to reproduce them, and that of the tasks, which is what Bayesian agents are for. SNAIL
(Mishra et al. 2018) published scores over "value iteration": the last table says whose.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from matplotlib.figure import Figure

from metagym.agents import rl2
from metagym.agents.random import RandomAgent
from metagym.agents.tabular import AGENTS, tune
from metagym.agents.tabular_base import BayesianAgent, ValueIteration
from metagym.checkpoint import CONFIG
from metagym.core import Agent
from metagym.errors import InvalidArgumentError, check_positive
from metagym.evaluation import Result, evaluate
from metagym.files import write_figure
from metagym.monitoring import read_scalars
from metagym.planning.mdp import evaluate_policy, value_iteration

NS = (10, 25, 50, 75, 100)
PUBLISHED: dict[str, tuple[float, ...]] = {
    "random": (100.1, 250.2, 499.7, 749.9, 999.4),
    "psrl": (138.1, 408.8, 904.4, 1417.1, 1939.5),
    "opsrl": (144.1, 425.2, 930.7, 1449.2, 1973.9),
    "ucrl2": (146.6, 424.1, 918.9, 1427.6, 1942.1),
    "beb": (150.2, 427.8, 917.8, 1422.6, 1935.1),
    "mdp_epsilon_greedy": (132.8, 377.3, 823.3, 1293.9, 1778.2),
    "mdp_greedy": (134.8, 368.8, 769.3, 1172.9, 1578.5),
    "rl2": (156.2, 445.7, 936.1, 1428.8, 1913.7),
}
INSTANCES = 1000  # processes behind each published number, the same for all agents and n
SNAIL = {10: (0.752, 0.766), 25: (0.859, 0.862), 50: (0.902, 0.908), 100: (0.922, 0.941)}
GROUP = 10  # trials to a score
PRIORS = ("published", "tasks")
PUBLISHED_GRIDS = {"mdp_epsilon_greedy": {"epsilon": (0.1, 0.2, 0.3)}}  # theirs began at 0.1


@dataclass(frozen=True)
class Config:
    """The table.

    Args:
        quick: n = 10; the default.
        full: n = 10, 25, 50, 75 and 100, and RL² trained as long as its recipe says.
        out: folder for the JSON of every result, the checkpoints and the table.
        seconds: of RL²'s training, each; with --full its recipe decides unless this is given, and
            0 leaves RL² out.
        checkpoint: a trained RL² agent for n = 10; training is skipped.
        trials: of the test split.
        tuning_trials: of the train split, for each grid point.
        seed: of the test trials and of RL²'s training.
    """

    quick: bool = False
    full: bool = False
    out: Path = Path("results/rl2_mdps")
    seconds: float | None = None
    checkpoint: Path | None = None
    trials: int = 10_000
    tuning_trials: int = 1024
    seed: int = 0

    @property
    def ns(self) -> tuple[int, ...]:
        """The inner episodes of the trials in the table."""
        return NS if self.full else NS[:1]


def env_id(n: int) -> str:
    """The registered id with n inner episodes."""
    return "MetaTabularMDP-v0" if n == 10 else f"MetaTabularMDP-n{n}-v0"


def classical(n: int, config: Config) -> list[Result]:
    """Random, the oracle, and every learner with every prior it can have, tuned for n."""
    results = [
        test(RandomAgent, "random", n, config),
        test(ValueIteration, "value_iteration", n, config),
    ]
    file = config.out / "tuned.json"
    for name, make in AGENTS.items():
        bayesian = isinstance(make, type) and issubclass(make, BayesianAgent)
        for prior in PRIORS if bayesian else (None,):
            label = name if prior is None else f"{name}-{prior}"
            tuned = json.loads(file.read_text()) if file.is_file() else {}
            key = f"n{n} {label}, {config.tuning_trials} trials"
            if key not in tuned:
                fixed = {} if prior is None else {"prior": prior}
                grid = PUBLISHED_GRIDS.get(name) if prior == "published" else None
                tuned[key] = tune(name, env_id(n), config.tuning_trials, grid=grid, **fixed)
                file.write_text(json.dumps(tuned, indent=1) + "\n")
            results.append(test(lambda: make(**tuned[key]), label, n, config))  # noqa: B023
    return results


def trained(n: int, config: Config) -> list[Result]:
    """RL², trained here unless a checkpoint is given or there; none with ``seconds`` of 0."""
    folder = config.out / f"rl2-n{n}"
    if config.checkpoint is not None and n == 10:
        folder = config.checkpoint
    elif config.seconds == 0:
        return []
    elif not (folder / CONFIG).is_file():
        seconds = config.seconds if config.full or config.seconds is not None else 900.0
        rl2.train(env_id(n), folder, seconds=seconds, seed=config.seed)
    return [test(lambda: rl2.load(folder), "rl2", n, config)]


def test(make: Callable[[], Agent], label: str, n: int, config: Config) -> Result:
    """The agent on the test trials, or what is known of that from an earlier run."""
    file = config.out / f"n{n}-{label}.json"
    if file.is_file():
        result = Result.load(file)
        if (len(result.scores) * GROUP, result.seed) == (config.trials, config.seed):
            return result
    rows = min(1000, config.trials)
    result = evaluate(
        make(), env_id(n), episodes=config.trials, seed=config.seed, num_envs=rows, group=GROUP
    )
    result.save(file)
    print(f"{env_id(n)} {label}: {result.mean:.1f} ({result.wall_time_s:.0f} s)", flush=True)
    return result


# -- the ceiling, and SNAIL's ------------------------------------------------------------------


def _optimum(task: dict[str, np.ndarray]) -> np.ndarray:
    return value_iteration(task["transitions"], task["reward_means"], 10).values[:, 0, 0]


def _discounted(task: dict[str, np.ndarray]) -> np.ndarray:
    return value_iteration(task["transitions"], task["reward_means"], 10, 0.99).values[:, 0, 0]


def _short(task: dict[str, np.ndarray]) -> np.ndarray:
    model = task["transitions"], task["reward_means"]
    policy = value_iteration(*model, 9).policy
    policy = np.concatenate([policy, np.zeros_like(policy[:, :1])], axis=1)
    return evaluate_policy(*model, policy)[:, 0, 0]


def _stationary(task: dict[str, np.ndarray]) -> np.ndarray:
    model = task["transitions"], task["reward_means"]
    first = value_iteration(*model, 200, 0.99).policy[:, :1]
    return evaluate_policy(*model, np.repeat(first, 10, axis=1))[:, 0, 0]


def _myopic(task: dict[str, np.ndarray]) -> np.ndarray:
    model = task["transitions"], task["reward_means"]
    return evaluate_policy(*model, np.repeat(model[1].argmax(-1)[:, None], 10, axis=1))[:, 0, 0]


# What "value iteration" may have been: its expected reward in one inner episode.
NORMALISERS: dict[str, Callable[[dict[str, np.ndarray]], np.ndarray]] = {
    "the optimum of 10 steps": _optimum,
    "the same, discounted by 0.99 a step": _discounted,
    "the optimum of 9 steps, then any action": _short,
    "the stationary policy that is best with 0.99, undiscounted": _stationary,
    "the best next reward": _myopic,
}


class Normalisers(ValueIteration):
    """The oracle; it notes what every candidate would make of the tasks that it is shown."""

    name = "normalisers"

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[np.ndarray]] = {name: [] for name in NORMALISERS}

    def observe_task(self, task: dict[str, Any], mask: np.ndarray) -> None:
        """As ValueIteration."""
        super().observe_task(task, mask)
        for name, value in NORMALISERS.items():
            self.found[name].append(value(task))


def normalisers(config: Config) -> dict[str, np.ndarray]:
    """Each candidate on the tasks of the test trials, which are those of every n: [trials]."""
    agent = Normalisers()
    rows = min(1000, config.trials)
    evaluate(
        agent, env_id(10), episodes=config.trials, seed=config.seed, num_envs=rows, group=GROUP
    )
    return {name: np.concatenate(v)[: config.trials] for name, v in agent.found.items()}


def normaliser_table(found: dict[str, np.ndarray]) -> str:
    """Each candidate, and by how many standard errors of 1,000 processes SNAIL's is off it."""
    implied = [PUBLISHED["rl2"][NS.index(n)] / ratio / n for n, (ratio, _) in SNAIL.items()]
    lines = [
        "SNAIL's normaliser, by the published RL² scores over its ratios, per inner episode: "
        + ", ".join(f"{value:.2f} (n = {n})" for n, value in zip(SNAIL, implied, strict=True)),
        "",
        "| what one inner episode makes | mean | standard error | SNAIL's is off by |",
        "|---|---|---|---|",
    ]
    for name, values in found.items():
        error = values.std() / len(values) ** 0.5
        off = (np.mean(implied) - values.mean()) / (values.std() / INSTANCES**0.5)
        lines.append(
            f"| {name} | {values.mean():.3f} | {error:.3f} "
            f"| {off:+.1f} standard errors of {INSTANCES} processes |"
        )
    return "\n".join(lines)


# -- the table ---------------------------------------------------------------------------------


def deviation(result: Result, published: float) -> float:
    """Ours minus the published mean, in standard errors of the difference."""
    group_error = np.std(result.scores, ddof=1)
    trial_error = group_error * GROUP**0.5
    error = np.hypot(group_error / len(result.scores) ** 0.5, trial_error / INSTANCES**0.5)
    return float((result.mean - published) / error)


def table(results: dict[int, list[Result]], ceiling: float) -> tuple[str, list[str]]:
    """The Markdown table, and the cells that are off by more than two standard errors."""
    lines = [
        "| n | agent | published | ours, published prior | off by, in standard errors "
        "| ours, the tasks' prior | of the ceiling | published by SNAIL |",
        "|---|---|---|---|---|---|---|---|",
    ]
    off = []
    for n, of_n in results.items():
        cells = {(r.agent, r.agent_config.get("prior")): r for r in of_n}
        for name, numbers in PUBLISHED.items():
            ours = cells.get((name, "tasks")) or cells.get((name, None))
            if ours is None:
                continue
            same = cells.get((name, "published"), ours)
            published = numbers[NS.index(n)]
            z = deviation(same, published)
            if abs(z) > 2 and name != "rl2":
                off.append(f"n = {n}, {name}: {same.mean:.1f}, published {published}, {z:+.1f}")
            ratio = SNAIL.get(n, (None,))[0] if name == "rl2" else None
            lines.append(
                f"| {n} | {name} | {published} | {'' if same is ours else _cell(same)} | {z:+.1f} "
                f"| {_cell(ours)} | {ours.mean / (n * ceiling):.3f} | {ratio or ''} |"
            )
        if n in SNAIL:
            lines.append(f"| {n} | SNAIL | | | | | | {SNAIL[n][1]} |")
        oracle = cells["value_iteration", None]
        lines.append(f"| {n} | value iteration, played | | | | {_cell(oracle)} | | |")
        lines.append(f"| {n} | ceiling, exact for these trials | | | | {n * ceiling:.1f} | 1 | |")
    return "\n".join(lines), off


def _cell(result: Result) -> str:
    low, high = result.interval
    return f"{result.mean:.1f} ± {(high - low) / 2:.1f}"


def plot(folder: Path, results: list[Result], path: Path) -> None:
    """How RL² got better as it was trained, beside where the others are without training."""
    points = read_scalars(folder).get("rollout/score_mean", [])
    if not points:  # it was interrupted before the end of its first iteration
        return
    step, score = np.array(points).T
    width = max(1, len(score) // 100)
    parts = [x[: len(x) // width * width].reshape(-1, width).mean(axis=1) for x in (step, score)]
    drawing = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    axes = drawing.subplots()
    axes.plot(parts[0] / 1e6, parts[1], label="RL², while it explores")
    for i, result in enumerate(results):
        if result.agent in ("random", "psrl", "ucrl2", "beb", "rl2"):
            prior = result.agent_config.get("prior")
            label = result.agent if prior is None else f"{result.agent}, {prior} prior"
            axes.axhline(result.mean, color=f"C{i % 9 + 1}", lw=1, ls="--", label=label)
    axes.set_xlabel("million environment steps")
    axes.set_ylabel("expected reward of a trial, n = 10")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    write_figure(path, drawing)


def main(config: Config) -> None:
    """Tune, train, test, print; write everything to ``out``."""
    if config.quick and config.full:
        raise InvalidArgumentError("--quick and --full are two sizes of one table: choose one.")
    if check_positive("trials", config.trials) % GROUP:
        raise InvalidArgumentError(f"trials={config.trials} has to be a multiple of {GROUP}.")
    config.out.mkdir(parents=True, exist_ok=True)
    results = {n: [*classical(n, config), *trained(n, config)] for n in config.ns}
    found = normalisers(config)
    text, off = table(results, float(next(iter(found.values())).mean()))
    cells = (len(PUBLISHED) - 1) * len(results)
    text += (
        f"\n\n± is half a 95 % interval over {config.trials} test trials. Published means are of "
        f"{INSTANCES} processes, the same ones in every cell: they are off together. Of {cells} "
        f"classical cells, off by more than two standard errors: {'; '.join(off) or 'none'}.\n\n"
    )
    text += normaliser_table(found) + "\n"
    folder = config.checkpoint or config.out / "rl2-n10"
    if any(folder.glob("*tfevents*")):
        plot(folder, results[10], config.out / "curve.png")
    print("\n" + text)
    (config.out / "table.md").write_text(text)
    print(f"Written to {config.out}.")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
