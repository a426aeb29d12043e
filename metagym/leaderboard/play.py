"""One task and seed of a suite: tune, train, score. ``play(job)`` is what runs in a process.

What ``AGENT`` of ``metagym leaderboard run`` may be:

    a name           random, adam, quadratics: scored as it is
    a trainable      ppo, rl2, maml: trained for each task, as long as the suite says, by its
                     recipe; with other settings as ppo:learning_rate=0.001,discount=0.99
    a folder         a checkpoint, or one for each task in FOLDER/TASK, or FOLDER/TASK/seedN
    a zip file       of Stable-Baselines3, or such files in such a folder: FOLDER/TASK.zip
    module:Class     an Agent of yours; for few-shot tasks a FewShotMethod of yours, which is
                     trained like ours
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import math
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metagym.baselines.few_shot import METHODS, method_class
from metagym.checkpoint import CONFIG, WEIGHTS, read_config
from metagym.errors import CheckpointError, InvalidArgumentError, check_choice, nearest
from metagym.evaluation import Result, evaluate
from metagym.evaluation.statistics import estimate, iqm
from metagym.evaluation.suites import SuiteTask
from metagym.leaderboard.child import one_line
from metagym.leaderboard.sb3_zip import SB3Agent, refuse_untrusted
from metagym.leaderboard.tuning import Space, draw_settings, with_arguments
from metagym.loading import TRAINED, agent_names, load_agent, split_arguments, trainer

LENGTHS = ("steps", "iterations")  # of training


@dataclass(frozen=True)
class Job:
    """One task and seed for one agent.

    Attributes:
        agent: see the top of this file.
        task: what is scored.
        base: what is learned from: the task itself, or that of which it is a held-out variant.
        seed: of the evaluation.
        run: number of the run, which is the seed of training and tuning.
        checkpoints: the folder below which training leaves its own.
        trials: of external tuning; 0 without.
        space: of external tuning.
        setting: what was chosen for the base, where the task is a variant.
        trust: whether zip files may be unpickled.
        method: the few-shot method (module:Class) whose checkpoints ``agent`` holds, if it is
            somebody's.
    """

    agent: str
    task: SuiteTask
    base: SuiteTask
    seed: int
    run: int
    checkpoints: Path
    trials: int = 0
    space: Space = field(default_factory=dict)
    setting: Mapping[str, Any] = field(default_factory=dict)
    trust: bool = False
    method: str | None = None

    @property
    def checkpoint(self) -> Path:
        """The folder of what was trained for the base and this seed."""
        return self.checkpoints / self.base.name / f"seed{self.seed}"

    @property
    def trains(self) -> bool:
        """Whether what plays is trained for it."""
        return trains(self.agent, self.task)

    @property
    def place(self) -> str:
        """Which one it is, for people."""
        return f"{self.task.name}, seed {self.seed}"


def trains(agent: str, task: SuiteTask | None = None) -> bool:
    """Whether it is something that is trained for each task, whatever that is, or for this one."""
    if is_class(agent):
        return task is not None and task.kind == "few_shot"
    return split_arguments(agent)[0] in (*TRAINED, *METHODS)


def is_foreign(agent: str) -> bool:
    """Whether ``load_agent`` imports a module that the text names: ``module:Class``.

    A name of ours before the colon makes no difference: ``greedy:Mine`` is in somebody's greedy.py.
    """
    return ":" in split_arguments(agent)[0]


def is_class(agent: str) -> bool:
    """Whether it is ``module:Class`` and no file or folder of that name."""
    return is_foreign(agent) and not is_path(agent)


def is_path(agent: str) -> bool:
    """Whether it is a file or folder that is there; a name of ours is none, ``./adam`` is one."""
    return agent not in ("", *known_names()) and Path(agent).exists()


def check_agent(agent: str) -> None:
    """Refuse now what would fail in every process: a name that nobody has.

    Raises:
        InvalidArgumentError: there is no such agent, or it has no such argument.
    """
    if is_foreign(agent) or is_path(agent):
        return
    name, arguments = split_arguments(agent)
    if trains(agent):
        if arguments:  # else its module, and torch with it, need not be loaded
            check_settings(name, arguments, trainer(name).Config())
        return
    known = known_names()
    if name not in known:
        raise InvalidArgumentError(
            f"There is no agent {agent!r}.{nearest(agent, known)} Known: {', '.join(known)}; or "
            "give the folder of checkpoints, a zip file of Stable-Baselines3, or module:Class."
        )
    load_agent(agent)


def known_names() -> list[str]:
    """What an agent may be called, trained by the run or not."""
    return [*TRAINED, *METHODS, *agent_names()]


def check_trust(jobs: Iterable[Job]) -> None:
    """Refuse to unpickle what nobody trusts, before anything is played.

    Raises:
        InvalidArgumentError: a zip file of Stable-Baselines3 is to play a job that has no trust.
    """
    for job in jobs:
        with contextlib.suppress(CheckpointError):  # that nothing plays this job is its failure
            trained = None if job.trains else _find(job)
            if trained is not None and trained.suffix == ".zip":
                refuse_untrusted(trained, job.trust)


def shown(agent: str) -> str:
    """What a row says of its agent, which others have elsewhere.

    A file or folder is named from the working folder, as ``runs/mine`` or ``./mine``, or by its
    last part alone if it lies elsewhere; a name or a class is itself.
    """
    if not is_path(agent):
        return agent
    path, here = Path(os.path.abspath(agent)), Path.cwd()
    is_below = here in path.parents
    text = (path.relative_to(here) if is_below else Path(path.name)).as_posix()
    return text if "/" in text or path.suffix == ".zip" else f"./{text}"


def check_settings(name: str, settings: Mapping[str, Any], config: Any) -> None:
    """Refuse settings that the config of a trainable does not have, and those that the suite has.

    Raises:
        InvalidArgumentError: there is one.
    """
    for setting in settings:
        if setting in LENGTHS:
            raise InvalidArgumentError(f"{name}: the suite says how long; leave {setting!r} out.")
        check_choice(f"the setting of {name}", setting, vars(config))


def play(job: Job) -> Result:
    """The Result of a job.

    What was tuned has all trials in ``agent_config["tuning"]``; what was trained for a task has
    the task's name in ``training``.

    Raises:
        Exception: whatever the agent raised, or a ``MetagymError`` that says why it cannot play.
    """
    setting, tuning = dict(job.setting), dict[str, Any]()
    if job.task.held_out:
        pass  # what there is to learn was learned for the base
    elif job.trials:
        setting, tuning = _tune(job)
    elif job.trains:
        _train(job, setting, job.checkpoint)
    trained = job.checkpoint if job.trains else _find(job)
    result = _score(job, setting, trained, job.task, "test")
    config, training = dict(result.agent_config), result.training
    if tuning:
        config["tuning"] = tuning
    if trained is not None:
        config["weights"] = _digest(trained)
    if source := _source(job.method or job.agent):
        config["source"] = source
    if job.trains:
        training = {**(training or {}), "task": job.base.name}
    return dataclasses.replace(result, agent_config=config, training=training)


# -- the inside --------------------------------------------------------------------------------


def _tune(job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    """The setting with the best mean score on the train split, and the record of all trials.

    What was trained with it is left in ``job.checkpoint``.
    """
    start, sign = time.perf_counter(), 1 if job.task.minimize else -1
    trials: list[dict[str, Any]] = []
    steps, best = 0, math.inf
    trial_folder = job.checkpoint.with_name(f"{job.checkpoint.name}-trial")
    trained = trial_folder if job.trains else _find(job)
    for setting in draw_settings(job.space, job.trials, job.run):
        try:
            if job.trains:
                _train(job, setting, trial_folder)
            result = _score(job, setting, trained, job.task, "train")
        except Exception as error:  # a setting at which the agent fails is not the best
            trials.append({"setting": setting, "error": one_line(error)})
            continue
        trials.append({"setting": setting, "score": result.mean})
        steps += result.env_steps + int((result.training or {}).get("steps", 0))
        if sign * result.mean < best:
            best, chosen = sign * result.mean, setting
            if job.trains:
                shutil.rmtree(job.checkpoint, ignore_errors=True)
                os.replace(trial_folder, job.checkpoint)
    if best == math.inf:
        raise InvalidArgumentError(
            f"None of the {len(trials)} settings could be scored; the first: {trials[0]['error']}"
        )
    shutil.rmtree(trial_folder, ignore_errors=True)
    return chosen, {
        "space": {name: list(values) for name, values in job.space.items()},
        "split": "train", "seed": job.run, "trials": trials, "chosen": chosen,
        "steps": steps, "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip


def _train(job: Job, setting: Mapping[str, Any], folder: Path) -> None:
    """Train from the beginning, by the recipe for as many steps as the suite gives."""
    task, (name, arguments) = job.task, split_arguments(job.agent)
    if not is_class(job.agent) and (name in METHODS) != (task.kind == "few_shot"):
        raise InvalidArgumentError(
            f"{name} learns {'few-shot tasks' if name in METHODS else 'environments'}; "
            f"{task.name} is not one of them."
        )
    kwargs = dict(task.kwargs)
    module: Any
    if task.kind == "few_shot":
        from metagym.baselines.few_shot.command import Face

        module = Face(name)
        config = module.recipe(task.env_id, kwargs)
    else:
        module = trainer(name)
        config = module.Config()
        if hasattr(module, "recipe"):
            config = module.recipe(task.env_id, task.training_steps, kwargs)
    settings = {**arguments, **setting}
    check_settings(name, settings, config)
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut short
    module.train(
        task.env_id, folder, dataclasses.replace(config, **settings),
        seed=job.run, steps=task.training_steps, env_kwargs=kwargs, progress=False,
    )  # fmt: skip


def _score(
    job: Job, setting: Mapping[str, Any], folder: Path | None, task: SuiteTask, split: str
) -> Result:
    """The Result of the task's episodes, with what lies in ``folder`` if the agent is trained."""
    if folder is not None and setting and not job.trains:
        raise InvalidArgumentError(f"{job.agent} is trained already; there is nothing to tune.")
    if task.kind == "few_shot":
        return _score_few_shot(job, folder, split)
    if folder is None:
        agent: Any = load_agent(with_arguments(job.agent, setting), task.env_id, seed=job.run)
    elif folder.suffix == ".zip":
        agent = SB3Agent(folder, trust=job.trust)
    else:
        agent = load_agent(str(folder), task.env_id)
    return evaluate(
        agent, task.env_id, split, task.episodes, job.seed,
        num_envs=task.num_envs, group=task.group, target=task.target, **task.kwargs,
    )  # fmt: skip


def _score_few_shot(job: Job, folder: Path | None, split: str) -> Result:
    from metagym.baselines.few_shot.command import evaluate_checkpoint

    if folder is None or folder.suffix == ".zip":
        raise InvalidArgumentError(
            f"{job.agent} acts in environments; {job.task.name} is learned from few examples, by "
            f"one of {', '.join(METHODS)}, by the folder of its checkpoint or by module:Class."
        )
    task = job.task
    method = split_arguments(job.agent)[0] if is_class(job.agent) else job.method
    result = evaluate_checkpoint(
        folder, task.env_id, split, task.episodes, job.seed, num_envs=task.num_envs,
        of=None if method is None else method_class(method), **task.kwargs,
    )  # fmt: skip
    # The result's own name of the tasks says ways and shots as well, which are in env_kwargs.
    return dataclasses.replace(_grouped(result, task.group), env_id=task.env_id)


def _digest(trained: Path) -> str:
    """SHA-256 of the weights in a folder or of a zip file, so that a row says which it was."""
    if trained.suffix == ".zip":
        return hashlib.sha256(trained.read_bytes()).hexdigest()
    digest: str = read_config(trained)["files"][WEIGHTS]
    return digest


def _source(agent: str) -> str | None:
    """SHA-256 of the file that defines somebody's class, where that can be found.

    It has been imported; code that it imports in turn is not covered.
    """
    if not is_class(agent):
        return None
    module, _, name = split_arguments(agent)[0].partition(":")
    found = getattr(sys.modules[module], name)
    if not (isinstance(found, type) or inspect.isroutine(found)):
        found = type(found)  # it is an agent already
    try:
        file = inspect.getsourcefile(found)
        return None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except (OSError, TypeError):  # it was compiled
        return None


def _grouped(result: Result, group: int) -> Result:
    """The same with the means of so many consecutive scores, as ``evaluate`` groups episodes."""

    def means(values: list[Any]) -> list[Any]:
        by_group = np.asarray(values, dtype=np.float64).reshape(-1, group)
        return [float(mean) for mean in by_group.mean(axis=1)]

    scores = np.array(means(result.scores))
    center, middle = estimate(scores), estimate(scores, iqm)
    return dataclasses.replace(
        result, group=group, scores=scores.tolist(), returns=means(result.returns),
        lengths=means(result.lengths), extras={k: means(v) for k, v in result.extras.items()},
        mean=center.value, interval=(center.low, center.high),
        iqm=middle.value, iqm_interval=(middle.low, middle.high),
    )  # fmt: skip


def _find(job: Job) -> Path | None:
    """The checkpoint or zip file that is to play the job, or None for a name or a class."""
    root = Path(job.agent)
    if not is_path(job.agent):
        return None
    if root.suffix == ".zip":
        return root
    below = Path(job.base.name)
    for place in (below / f"seed{job.seed}", below):
        if (root / place / CONFIG).is_file():
            return root / place
        if (root / f"{place}.zip").is_file():
            return root / f"{place}.zip"
    if (root / CONFIG).is_file():
        return root
    raise CheckpointError(
        f"{root} holds no checkpoint for {job.base.name}: neither {below / f'seed{job.seed}'} nor "
        f"{below} nor the folder itself has a {CONFIG}, and there is no {below}.zip."
    )
