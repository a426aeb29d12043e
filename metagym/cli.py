"""The ``metagym`` command: envs, train, evaluate, compare, monitor, leaderboard.

Errors that metagym raises on purpose end in one line on stderr and exit code 2; nothing that
exists is ever overwritten. torch and the agents load inside the commands that need them.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import gymnasium as gym
import tyro
from tyro.conf import Positional

from metagym.checkpoint import CONFIG, load_checkpoint, read_config
from metagym.errors import CheckpointError, InvalidArgumentError, MetagymError
from metagym.files import refuse_existing
from metagym.loading import SUPERVISED, TASK_TABLES, load_agent, trainer
from metagym.registration import ENVIRONMENTS

_STYLE = (tyro.conf.OmitArgPrefixes, tyro.conf.PositionalMetavarFromFieldName)
_Names = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="AGENT... ENV...")]
_JsonPath = Annotated[Path | None, tyro.conf.arg(name="json")]


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point; ``argv`` is without the program's name.

    Raises:
        SystemExit: 2 for a wrong argument, 130 after Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        if argv[:1] == ["train"] and len(argv) > 1 and not argv[1].startswith("-"):
            _train(argv[1], argv[2:])
        elif argv[:1] == ["leaderboard"]:
            leaderboard(argv[1:])
        else:
            tyro.extras.subcommand_cli_from_dict(
                {
                    "envs": envs, "train": train, "evaluate": evaluate, "compare": compare,
                    "monitor": monitor, "leaderboard": leaderboard,
                },
                args=argv, prog="metagym", config=_STYLE,
                description="Environments in which an episode is an act of learning.",
            )  # fmt: skip
    except (MetagymError, gym.error.Error, OSError) as error:
        print("metagym: error:", " ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("metagym: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


# -- envs --------------------------------------------------------------------------------------


def envs() -> None:
    """List the ids of the environments, one line each, and the names of all tasks."""
    width = max(len(row.id) for row in ENVIRONMENTS)
    for row in ENVIRONMENTS:
        print(f"{row.id:{width}}  {row.summary}")
    for table, (what, example) in TASK_TABLES.items():
        module, name = table.split(":")
        names = getattr(importlib.import_module(module), name)
        print(f"\n{what}, such as metagym train {example}:\n  {', '.join(names)}")


# -- train -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """What every training run is told.

    Args:
        env: id of the environment, such as LearnToOptimize-v0.
        out: folder for checkpoints and TensorBoard files; it must not exist.
        seed: of the whole run; 0 by default, or that of the run that is resumed.
        steps: stop after so many environment steps, all rows together.
        seconds: stop after so many, those before a resume included.
        resume: go on from the checkpoint in --out.
        env_kwargs: arguments of the environment, as JSON.
    """

    env: Positional[str]
    out: Path
    seed: int | None = None
    steps: int | None = None
    seconds: float | None = None
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    env_kwargs: str | None = None


@dataclasses.dataclass(frozen=True)
class TaskOptions(TrainOptions):
    """What every training run on tasks is told.

    Args:
        env: name of the tasks, such as sinusoid; `metagym envs` lists them.
        out: folder for checkpoints and TensorBoard files; it must not exist.
        seed: of the whole run; 0 by default, or that of the run that is resumed.
        steps: stop after so many steps of the optimiser (in few-shot learning of the outer one),
            those before a resume included.
        seconds: stop after so many, those before a resume included.
        resume: go on from the checkpoint in --out.
        env_kwargs: arguments of the tasks, as JSON.
    """


def train(agent: Positional[str], run: TrainOptions) -> None:
    """Train an agent: metagym train AGENT ENV --out DIR.

    Agents: ppo, reinforce, rl2, controller, async_controller, l2l; few-shot methods such as maml,
    on tasks such as sinusoid; multitask_hard and its like on digits_binary; dann and other methods
    of transfer on mnist_usps. What can be set of one: metagym train AGENT --help. Ctrl-C saves;
    --resume goes on.

    Args:
        agent: which one, always first.
        run: what every training run is told.
    """
    raise InvalidArgumentError(f"Name the agent first: metagym train {agent} ENV --out DIR.")


# What a resumed run cannot change.
_FIXED = (
    "view", "step_size", "memory", "hidden", "critic_hidden", "core", "width", "interactions",
    "inputs", "network", "filters", "pooling", "norm", "widths", "weighting", "alpha",
    "image_shape", "domain_hidden", "new_head", "start", "optimizer", "inner_optimizer",
)  # fmt: skip


def _train(agent: str, argv: list[str]) -> None:
    from metagym.evaluation.evaluate import make_vector_env

    module = trainer(agent)
    options, config = _parse_train(agent, module.Config(), argv)
    if hasattr(module, "recipe"):  # whose defaults depend on the environment
        options, config = _parse_train(agent, _recipe(module, options), argv)
    for name, value in (("--steps", options.steps), ("--seconds", options.seconds)):
        if value is not None and not value > 0:
            raise InvalidArgumentError(f"{name} {value} has to be positive.")
    if options.resume:
        saved = _check_resume(agent, options)
        env_kwargs = saved["env_kwargs"]
        default = _config_from(module.Config, saved.get("config", {}))
        options, config = _parse_train(agent, default, argv)
        for name in _FIXED:
            if getattr(config, name, None) != getattr(default, name, None):
                raise CheckpointError(
                    f"{options.out} was trained with {name}={getattr(default, name)!r}; what its "
                    "weights mean depends on it: leave it as it was."
                )
        seed = saved.get("training", {}).get("seed", 0) if options.seed is None else options.seed
    else:
        seed = options.seed or 0
        refuse_existing("--out", options.out, ", or add --resume to go on from it")
        env_kwargs = _kwargs(options.env_kwargs or "{}")
        # What cannot be made fails before --out exists.
        if hasattr(module, "check"):  # it learns from tasks, not in an environment
            module.check(options.env, env_kwargs)
        else:
            make_vector_env(options.env, 1, "train", env_kwargs).close()
    try:
        module.train(
            options.env, options.out, config, seed=seed, steps=options.steps,
            seconds=options.seconds, resume=options.resume, env_kwargs=env_kwargs, progress=True,
        )  # fmt: skip
    except KeyboardInterrupt:
        if not (options.out / CONFIG).is_file():
            raise
        again = [part for part in argv if part != "--resume"]
        print(
            f"\nmetagym: interrupted; saved to {options.out}. To go on: "
            + shlex.join(["metagym", "train", agent, *again, "--resume"]),
            file=sys.stderr,
        )
        raise SystemExit(130) from None
    print(f"Saved to {options.out}. Next: metagym evaluate {options.out} {options.env}")


def _recipe(module: Any, options: TrainOptions) -> Any:
    """The settings for an environment, or for tasks, where their arguments may count too."""
    if "tasks_kwargs" in inspect.signature(module.recipe).parameters:
        return module.recipe(options.env, _kwargs(options.env_kwargs or "{}"))
    return module.recipe(options.env)


def _parse_train(agent: str, default: Any, argv: list[str]) -> tuple[TrainOptions, Any]:
    """The options of the run and the agent's config, whose defaults are ``default``."""
    kind, taken = type(default), {entry.name for entry in dataclasses.fields(TrainOptions)}
    types = get_type_hints(kind, include_extras=True)
    settings = dataclasses.make_dataclass(
        kind.__name__,
        [
            (entry.name, types[entry.name], dataclasses.field(default=getattr(default, entry.name)))
            for entry in dataclasses.fields(kind)
            if entry.name not in taken  # such as steps: the option of the run overrides it
        ],
        namespace={"__doc__": kind.__doc__},
    )
    run, where = (TaskOptions, "on the tasks") if agent in SUPERVISED else (TrainOptions, "in")
    parsed: Any = tyro.cli(
        dataclasses.make_dataclass("Train", [("run", run), (agent, settings)]),
        args=argv, prog=f"metagym train {agent}", description=f"Train {agent} {where} ENV.",
        config=_STYLE,
    )  # fmt: skip
    return parsed.run, dataclasses.replace(default, **vars(getattr(parsed, agent)))


def _check_resume(agent: str, options: TrainOptions) -> dict[str, Any]:
    """The config of the checkpoint in ``options.out``, which has to be of the same run."""
    saved = load_checkpoint(options.out, agent, options.env).config
    same = saved["env_id"] == options.env
    if agent in SUPERVISED:  # names of tasks are taken in any case
        same = saved["env_id"].lower() == options.env.lower()
    if not same:
        raise CheckpointError(
            f"{options.out} was trained on {saved['env_id']}; resume it there, "
            f"not on {options.env}."
        )
    if options.env_kwargs is not None and _kwargs(options.env_kwargs) != saved["env_kwargs"]:
        raise CheckpointError(
            f"{options.out} was trained with --env-kwargs '{json.dumps(saved['env_kwargs'])}'; "
            "resume it with the same, or leave them out."
        )
    return saved


def _config_from(kind: Any, saved: dict[str, Any]) -> Any:
    """The agent's config that JSON turned into a dict, its tuples into lists."""
    known = {entry.name for entry in dataclasses.fields(kind)}
    return kind(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in saved.items()
            if name in known
        }
    )


# -- evaluate ----------------------------------------------------------------------------------


def evaluate(
    agent: Positional[str],
    env: Positional[str],
    split: str = "test",
    episodes: int | None = None,
    seed: int = 0,
    num_envs: int | None = None,
    env_kwargs: str = "{}",
    json_path: _JsonPath = None,
) -> None:
    """Run an agent on held-out tasks and print how it did.

    Args:
        agent: a name (adam, or adam:lr=0.5), a checkpoint's folder, or module:Class.
        env: id of the environment, such as LearnToOptimize-v0, or name of the tasks.
        split: which tasks: train, validation or test.
        episodes: how many, one task each: 100 by default, few-shot tasks 1,000, data sets whole.
        seed: of tasks and noise.
        num_envs: episodes that run side by side; at most 1024 by default.
        env_kwargs: arguments of the environment or of the tasks, as JSON; tasks that the checkpoint
            was trained on have those of training, where none are given.
        json_path: write the whole result there; it must not exist.
    """
    from metagym.evaluation import Comparison
    from metagym.evaluation import evaluate as run
    from metagym.evaluation.table import print_table

    refuse_existing("--json", json_path)
    how: dict[str, Any] = {"num_envs": num_envs, **_kwargs(env_kwargs)}
    name = read_config(Path(agent))["agent"] if (Path(agent) / CONFIG).is_file() else None
    if name in SUPERVISED:
        if episodes is not None:
            how["count"] = episodes
        judge = importlib.import_module(SUPERVISED[name])
        result = judge.evaluate_checkpoint(agent, env, split, seed=seed, **how)
    else:
        count = 100 if episodes is None else episodes
        result = run(load_agent(agent, env), env, split, count, seed, **how)
    print_table(Comparison((result,)))
    if json_path is not None:
        result.save(json_path)


# -- compare -----------------------------------------------------------------------------------


def compare(
    names: _Names,
    split: str = "test",
    episodes: int = 100,
    seed: int = 0,
    num_envs: int | None = None,
    env_kwargs: str = "{}",
    json_path: _JsonPath = None,
    png: Path | None = None,
) -> None:
    """Compare agents on the same tasks: metagym compare adam momentum runs/ppo LearnToOptimize-v0.

    The first agent is the reference of the differences.

    Args:
        names: agents (as for evaluate) and ids of environments, in any order; an id ends in -v0.
        split: which tasks: train, validation or test.
        episodes: how many, one task each.
        seed: of tasks and noise.
        num_envs: episodes that run side by side; at most 1024 by default.
        env_kwargs: arguments of the environments, as JSON.
        json_path: write all results there; it must not exist.
        png: draw the optimisation curves there; it must not exist.
    """
    from metagym.evaluation import compare as run
    from metagym.evaluation.compare import save_figure
    from metagym.evaluation.table import print_table
    from metagym.files import write_atomically

    refuse_existing("--json", json_path)
    refuse_existing("--png", png)
    env_ids = [name for name in names if _is_env(name)]
    agents = [name for name in names if not _is_env(name)]
    if not env_ids or not agents:
        raise InvalidArgumentError(
            f"compare needs at least one agent and one environment id; got agents {agents}, "
            f"environments {env_ids}. `metagym envs` lists the ids."
        )
    comparisons = []
    for env_id in env_ids:
        loaded = {name: load_agent(name, env_id) for name in agents}
        comparisons.append(
            run(loaded, env_id, split, episodes, seed, num_envs=num_envs, **_kwargs(env_kwargs))
        )
        print_table(comparisons[-1])
    if json_path is not None:
        content = json.dumps([comparison.as_dict() for comparison in comparisons], indent=1)
        write_atomically(json_path, (content + "\n").encode())
    if png is not None:
        save_figure(comparisons, png)


# -- monitor -----------------------------------------------------------------------------------


def monitor(folder: Positional[Path], port: int | None = None) -> None:
    """Watch runs in TensorBoard, until Ctrl-C; it prints the address to open.

    Args:
        folder: the --out of a run, or a folder that holds several.
        port: of this machine; 6006 by default, or the next one that is free.
    """
    from metagym.tensorboard import serve

    serve(folder, port)


# -- leaderboard -------------------------------------------------------------------------------


def leaderboard(arguments: Positional[Sequence[str]] = ()) -> None:
    """Rows of a leaderboard: run, add, verify, list, build (metagym leaderboard --help).

    Args:
        arguments: those of ``metagym.leaderboard.command``.
    """
    from metagym.leaderboard import command

    command.main(arguments)


# -- the inside --------------------------------------------------------------------------------


def _is_env(name: str) -> bool:
    return re.search(r"-v\d+$", name) is not None and not (Path(name) / CONFIG).is_file()


def _kwargs(text: str) -> dict[str, Any]:
    try:
        kwargs = json.loads(text)
    except ValueError as error:
        raise InvalidArgumentError(
            f"--env-kwargs {text!r} is no JSON ({error}); write for example '{{\"dim\": 20}}'."
        ) from None
    if not isinstance(kwargs, dict):
        raise InvalidArgumentError(
            f"--env-kwargs {text!r} has to be a JSON object such as '{{\"dim\": 20}}'."
        )
    return kwargs
