"""The lectures' comparison: optimisers learned by RL, learned by supervision, and designed by hand.

    python experiments/l2l.py --out results/l2l            # minutes of training a learner
    python experiments/l2l.py --full --out results/l2l     # hours

Three parts, each in and beyond the horizon of training (100 steps), on held-out problems:

- ``quadratics``: Gaussian, 10-d, float64, 100 and 1,000 steps. "quadratics" is the shipped policy
  that PPO trained; "l2l" the LSTM with our inputs and log loss, then trained with runs that grow,
  then with exact gradients; "l2l as published" is the one of Andrychowicz et al. (2016): gradient
  alone, absolute steps, the sum of f.
- ``net``: 48-48-10 networks on projected images; trained on one network, then ten times the
  horizon, other widths and other images. "digits-net" and "minibatch" were trained by RL.
- ``mnist``: the learning curves of Andrychowicz et al., section 3.2: a network of 20 sigmoid units
  on images, minibatches of 128, steps 1-100 and 100-200.

Images are MNIST's where METAGYM_DATA holds them, else scikit-learn's digits; the table says which.
The policies of RL met digits: on MNIST everything that they do is transfer.

Hand-designed rules are tuned on the train split of the same problem. Metric: mean over problems of
log10(f + 1e-12) at the last step, where f is the full loss; diverged runs count with f = 1e8.

A second call goes on where the first one stopped: trained checkpoints, tuned hyperparameters and
results of the same settings are read back from --out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import tyro
from matplotlib.figure import Figure

from metagym.agents import learned_lstm, trained
from metagym.agents.optimizers import GRIDS, HandDesigned, tune
from metagym.baselines.learned_optimizers.train import PUBLISHED
from metagym.baselines.learned_optimizers.train import Config as LSTMConfig
from metagym.checkpoint import CONFIG, read_config
from metagym.core import Agent
from metagym.errors import DataError, InvalidArgumentError, check_choice
from metagym.evaluation import Result
from metagym.evaluation.compare import Comparison, compare
from metagym.files import write_atomically, write_figure
from metagym.optim.learned import find_checkpoint
from metagym.problems.datasets import load_dataset, split_indices
from metagym.problems.torch_problem import TorchProblem

HORIZON = 100
RULES = ("sgd", "momentum", "nag", "rmsprop", "adam")
CURVATURE = ("barzilai_borwein",)  # estimates it: in the table, outside the claim
NET = "LearnToOptimizeNet-v0"
MNIST = "L2LClassifier-v0"  # registered here


@dataclass(frozen=True)
class Place:
    """Where optimisers are compared.

    Attributes:
        kwargs: of the environment, ``horizon`` among them.
        split: of its tasks.
        episodes: how many, in the full mode.
    """

    kwargs: dict[str, Any]
    split: str = "test"
    episodes: int = 64


@dataclass(frozen=True)
class Part:
    """One comparison: where all learn and are tuned, and where they are compared.

    Attributes:
        env_id: the environment.
        home: its arguments in training and tuning.
        places: by name.
        learners: name -> config of the LSTM.
        shipped: policies that RL trained, from the package.
        rules: hand-designed ones.
        tuning: episodes of a grid point.
        seconds: of training a learner in the quick mode.
    """

    env_id: str
    home: dict[str, Any]
    places: dict[str, Place]
    learners: dict[str, LSTMConfig]
    shipped: tuple[str, ...] = ()
    rules: tuple[str, ...] = RULES
    tuning: int = 8
    seconds: float = 300.0


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        quick: minutes of training, a quarter of the problems (the default).
        full: hours of training.
        parts: which.
        out: folder of results, checkpoints, table and figures.
        seconds: of training a learner, in place of the mode's; 0 leaves the learners out.
        episodes: of every comparison, in place of the mode's.
        data: "mnist", "digits", or "auto": MNIST where its files are.
        seed: of training and of the test problems.
    """

    quick: bool = False
    full: bool = False
    parts: tuple[str, ...] = ("quadratics", "net", "mnist")
    out: Path = Path("results/l2l")
    seconds: float | None = None
    episodes: int | None = None
    data: str = "auto"
    seed: int = 0


FULL_SECONDS = 7200.0
NET_SECONDS = 600.0  # a step on networks costs more
# The step on networks, of Adam's unit: the default is far below the best of tuned SGD there. Of
# .02, .2 and 1 this one is best on validation networks.
NET_SCALE = 1.0


def quadratics(data: str) -> Part:
    """Held-out quadratics, to ten times the horizon."""
    home = {"horizon": HORIZON, "history": 1, "dtype": "float64"}
    return Part(
        "LearnToOptimize-v0", home,
        {
            "100 steps": Place(home, episodes=4000),
            "1,000 steps": Place({**home, "horizon": 10 * HORIZON}, episodes=2000),
        },
        {
            "l2l": LSTMConfig(),
            "l2l, curriculum": LSTMConfig(curriculum=0.5),
            "l2l, second derivatives": LSTMConfig(second_derivatives=True),
            "l2l as published": PUBLISHED,
        },
        shipped=("quadratics", "quadratics-reinforce"), rules=RULES + CURVATURE, tuning=512,
    )  # fmt: skip


def net(data: str) -> Part:
    """48-48-10 networks, beyond the horizon, the width and the images of training."""

    def kwargs(horizon: int = HORIZON, **more: Any) -> dict[str, Any]:
        problem = {"dataset": data, "fixed": 0, **more}
        return {"horizon": horizon, "history": 1, "problem_kwargs": problem}

    few = LSTMConfig(num_envs=8, validation_problems=16, random_scaling=1.0, scale=NET_SCALE)
    places = {
        "training network": Place(kwargs(), "train"),
        "ten times the horizon": Place(kwargs(10 * HORIZON), "train", 16),
        "held-out images, other projection": Place(kwargs(fixed=1)),
        "width 24": Place(kwargs(hidden=24), "train"),
        "width 96": Place(kwargs(hidden=96), "train"),
    }
    if data == "mnist":
        places["digits"] = Place(kwargs(dataset="digits"), "train")
    published = replace(PUBLISHED, num_envs=8, validation_problems=16)
    return Part(
        NET, kwargs(), places, {"l2l": few, "l2l as published": published},
        shipped=("digits-net", "minibatch"), seconds=NET_SECONDS,
    )  # fmt: skip


def mnist(data: str) -> Part:
    """Andrychowicz et al., figure 4: one hidden layer of 20 sigmoid units."""
    register_classifier(data)
    home = {"horizon": HORIZON, "history": 1}
    # A row is thousands of coordinates: two at a time fit a small machine's memory.
    few = LSTMConfig(num_envs=2, validation_problems=4, random_scaling=1.0, scale=NET_SCALE)
    published = replace(PUBLISHED, num_envs=2, validation_problems=4)
    return Part(
        MNIST, home,
        {
            "steps 1-100": Place(home, "train", 32),
            "steps 100-200": Place({**home, "horizon": 2 * HORIZON}, "train", 32),
        },
        {"l2l": few, "l2l as published": published},
        shipped=("minibatch",), rules=("sgd", "nag", "rmsprop", "adam"), tuning=2,
        seconds=NET_SECONDS,
    )  # fmt: skip


PARTS: dict[str, Callable[[str], Part]] = {"quadratics": quadratics, "net": net, "mnist": mnist}


@cache
def register_classifier(data: str) -> None:
    """Register the problem of the ``mnist`` part as an environment."""
    import torch
    from torch import nn

    images = load_dataset(data)
    tensors = {
        split: (torch.tensor(images.inputs[rows]), torch.tensor(images.labels[rows]))
        for split, rows in split_indices(len(images.labels)).items()
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Linear(images.inputs.shape[1], 20), nn.Sigmoid(), nn.Linear(20, images.classes)
        )
    problem = TorchProblem(
        module, nn.functional.cross_entropy, *tensors["train"], batch_size=128,
        validation=tensors["validation"], test=tensors["test"],
    )  # fmt: skip
    entry = "metagym.envs.learn_to_optimize:LearnToOptimize"
    gym.register(
        MNIST, f"{entry}Env", vector_entry_point=f"{entry}VectorEnv",
        kwargs={"problem": problem}, disable_env_checker=True,
    )  # fmt: skip


def main(config: Config) -> dict[str, dict[str, Comparison]]:
    """Train, tune, compare; write table.md, results.json and curves.png."""
    if config.quick and config.full:
        raise InvalidArgumentError("Either --quick or --full, not both.")
    for name in config.parts:
        check_choice("parts", name, PARTS)
    data = choose_data(config.data)
    found = {}
    lines = [f"Images: {data}. Mean of log10(f + 1e-12) at the last step [95 % interval].", ""]
    parts = {name: PARTS[name](data) for name in config.parts}
    for name, part in parts.items():
        folder = config.out / f"{name}-{data}"
        if name == "quadratics":
            folder = config.out / name
        agents = make_agents(config, part, folder)
        found[name] = {
            place: compare_at(config, part, folder, agents, place) for place in part.places
        }
        lines += table(name, part, found[name])
    config.out.mkdir(parents=True, exist_ok=True)
    write_figure(config.out / "curves.png", draw(found, parts))
    content = {
        name: {place: comparison.as_dict() for place, comparison in comparisons.items()}
        for name, comparisons in found.items()
    }
    write_atomically(config.out / "results.json", json.dumps(content).encode())
    text = "\n".join(lines)
    write_atomically(config.out / "table.md", (text + "\n").encode())
    print(text)
    return found


def choose_data(data: str) -> str:
    """ "mnist" or "digits"."""
    if check_choice("data", data, ("auto", "mnist", "digits")) != "auto":
        return data
    try:
        load_dataset("mnist")
    except DataError as error:
        print(f"digits in place of MNIST: {error}")
        return "digits"
    return "mnist"


def make_agents(config: Config, part: Part, folder: Path) -> dict[str, Agent]:
    """All agents of a part; those that learn or are tuned here are kept in ``folder``."""
    agents: dict[str, Agent] = {name: trained.load(find_checkpoint(name)) for name in part.shipped}
    for name, settings in part.learners.items():
        seconds = FULL_SECONDS if config.full else part.seconds
        seconds = seconds if config.seconds is None else config.seconds
        if seconds > 0:
            agents[name] = learn(config, part, folder / name.replace(" ", "_"), settings, seconds)
    for rule in part.rules:
        agents[rule] = HandDesigned(rule, **tuned(part, folder, rule))
    return agents


def learn(config: Config, part: Part, run: Path, settings: LSTMConfig, seconds: float) -> Agent:
    """The trained LSTM; an interrupted training goes on for what is left of its time.

    Raises:
        InvalidArgumentError: the run that is there has other settings.
    """
    done = 0.0
    there = (run / CONFIG).is_file()
    if there:
        saved = read_config(run)
        done = saved["training"]["seconds"]
        asked = json.loads(json.dumps(asdict(settings) | {"env_kwargs": part.home}))
        kept = saved["config"] | {"env_kwargs": saved["env_kwargs"]}
        other = [name for name in asked if name != "device" and asked[name] != kept.get(name)]
        if other or saved["training"]["seed"] != config.seed or done > 1.1 * seconds + 60.0:
            raise InvalidArgumentError(
                f"{run} was trained otherwise ({', '.join(other) or 'seed or seconds'}); choose "
                "another --out or remove it."
            )
    if not there or done < seconds - 1.0:
        learned_lstm.train(
            part.env_id, run, settings, seed=config.seed, seconds=seconds, resume=there,
            env_kwargs=part.home,
        )  # fmt: skip
    return learned_lstm.load(run)


def tuned(part: Part, folder: Path, rule: str) -> dict[str, Any]:
    """The rule's hyperparameters for the part's home."""
    path = folder / "tuned" / f"{rule}.json"
    record = {"episodes": part.tuning, "env_kwargs": part.home, "grid": GRIDS[rule]}
    record = json.loads(json.dumps(record))
    if path.is_file():
        saved: dict[str, Any] = json.loads(path.read_text())
        best: dict[str, Any] = saved.pop("best", {})
        if saved == record:
            return best
    best = tune(rule, part.env_id, part.tuning, **part.home)
    write_atomically(path, json.dumps(record | {"best": best}).encode())
    return best


def compare_at(
    config: Config, part: Part, folder: Path, agents: dict[str, Agent], name: str
) -> Comparison:
    """Every agent at one place; results of the same settings are read back."""
    place = part.places[name]
    episodes = config.episodes or (place.episodes if config.full else max(8, place.episodes // 4))
    results = []
    for label, agent in agents.items():
        file = f"{label}-{name}-n{episodes}-s{config.seed}.json"
        path = folder / "results" / file.replace(" ", "_").replace(",", "")
        cost = (getattr(agent, "config", {}).get("training") or {}).get("seconds")
        saved = Result.load(path) if path.is_file() else None
        if saved is None or (saved.training or {}).get("seconds") != cost:
            comparison = compare(
                {label: agent}, part.env_id, place.split, episodes, config.seed,
                num_envs=min(episodes, 512 if part.env_id == "LearnToOptimize-v0" else 8),
                **place.kwargs,
            )  # fmt: skip
            saved = comparison.results[0]
            saved.save(path)
            print(f"{name}: {label} {saved.mean:.3f}", flush=True)
        results.append(saved)
    return Comparison(tuple(results))


def table(name: str, part: Part, comparisons: dict[str, Comparison]) -> list[str]:
    """One row per agent, one column per place, and what of the claims holds."""
    places = list(comparisons)
    lines = [f"## {name}", "", "| optimiser | learned by | " + " | ".join(places) + " |"]
    lines.append("|---|---|" + "---|" * len(places))
    for i, result in enumerate(comparisons[places[0]].results):
        kind = "hand"
        if result.agent in part.shipped:
            kind = "RL"
        elif result.agent in part.learners:
            kind = "supervision"
        cells = []
        for place in places:
            at = comparisons[place].results[i]
            cell = f"{at.mean:.2f} [{at.interval[0]:.2f}, {at.interval[1]:.2f}]"
            cells.append(cell + (f", {at.diverged:.1%} diverged" if at.diverged else ""))
        lines.append(f"| {result.agent} | {kind} | " + " | ".join(cells) + " |")
    return [*lines, "", *claims(part, comparisons), ""]


def claims(part: Part, comparisons: dict[str, Comparison]) -> list[str]:
    """For every learner and place: how it stands to the best rule that estimates no curvature."""
    lines = []
    for place, comparison in comparisons.items():
        by_name = {result.agent: result for result in comparison.results}
        best = min((by_name[rule] for rule in part.rules if rule not in CURVATURE),
                   key=lambda result: result.mean)  # fmt: skip
        for learner in part.learners:
            if learner in by_name:
                difference = Comparison((best, by_name[learner])).difference(by_name[learner])
                lines.append(
                    f"- {place}: {learner} minus {best.agent}, the best first-order rule: "
                    f"{difference.value:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]."
                )
    return lines


def draw(found: dict[str, dict[str, Comparison]], parts: dict[str, Part]) -> Figure:
    """One panel for each place of each part; the horizon of training is dotted."""
    shown = [(name, place) for name, places in found.items() for place in places]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    drawing = Figure(figsize=(6.5 * columns, 4 * rows), dpi=80, layout="constrained")
    panels = list(drawing.subplots(rows, columns, squeeze=False).flat)
    for axes, (name, place) in zip(panels, shown, strict=False):
        found[name][place].draw(axes)
        axes.set_title(f"{name}: {place}", fontsize=10)
        horizon = parts[name].places[place].kwargs["horizon"]
        if horizon > HORIZON:
            axes.axvline(HORIZON, color="0.4", linestyle=":", linewidth=1)
        if horizon == 2 * HORIZON:
            axes.set_xlim(HORIZON, horizon)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    return drawing


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
