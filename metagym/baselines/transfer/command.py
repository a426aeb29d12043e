"""Deep transfer on the command line: ``metagym train dann mnist_usps --out runs/dann``.

``Face(name)`` has what the command asks of a module that trains: ``Config``, ``recipe``, ``check``,
``train`` and ``load``. ``evaluate_domains`` judges whatever predicts on the target's test part.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metagym.baselines.transfer.chart import TargetChart
from metagym.baselines.transfer.deep import DeepTransfer
from metagym.baselines.transfer.deep_methods import DEEP_METHODS, deep_method_class
from metagym.baselines.transfer.train_deep import Model
from metagym.checkpoint import load_checkpoint, read_config
from metagym.errors import CheckpointError, InvalidArgumentError, check_choice, check_positive
from metagym.evaluation.results import Result, machine
from metagym.tasks.domains import DomainPair, make_domains
from metagym.tasks.streams import choose_device

SPLITS = ("train", "test")


class Face:
    """What ``metagym train`` needs to know of one deep transfer method.

    Args:
        name: one of ``DEEP_METHODS``.

    Attributes:
        Config: a frozen dataclass of all settings.

    Raises:
        InvalidArgumentError: there is no such method.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.method = deep_method_class(name)
        self.Config: Any = self.method.Config

    def recipe(self, domains_name: str) -> Any:
        """The settings for these domains: the defaults."""
        return self.Config()

    def check(self, domains_name: str, domains_kwargs: dict[str, Any]) -> None:
        """Raise now what would be wrong with the domains later."""
        pair = make_domains(domains_name.lower(), **domains_kwargs)
        if pair.yt is None and self.method().needs_labels:
            raise InvalidArgumentError(
                f"{self.name} learns from labels of the target, and shots=0 gives none."
            )

    def train(
        self,
        domains_name: str,
        out: str | Path,
        config: Any = None,
        *,
        seed: int = 0,
        steps: int | None = None,
        seconds: float | None = None,
        resume: bool = False,
        env_kwargs: dict[str, Any] | None = None,
        progress: bool = True,
        device: str = "auto",
    ) -> Path:
        """Train on the domains called ``domains_name``; arguments as of any ``train`` of ours.

        Args:
            domains_name: one of ``metagym.tasks.domains.DOMAINS``, in any case.
            out: the folder.
            config: of ``Config``; ``recipe(domains_name)`` by default.
            seed: of weights and minibatches; that of the domains is one of their arguments.
            steps: gradient steps in all, those of pretraining and before a resume included; the
                config's ``iterations`` are what pretraining leaves of them.
            seconds: stop after so many, those before a resume included.
            resume: go on from the checkpoint in ``out``.
            env_kwargs: of the domains.
            progress: show a progress bar.
            device: "auto" is a GPU where there is one.

        Returns:
            ``out``.

        Raises:
            InvalidArgumentError: ``steps`` leaves none after pretraining; and see
                ``DeepTransfer.fit``.
            CheckpointError: see there.
        """
        pair = make_domains(domains_name.lower(), **(env_kwargs or {}))
        chosen = self.recipe(domains_name) if config is None else config
        changes: dict[str, Any] = {}
        if steps is not None:
            before = sum(phase.iterations for phase in self.method(chosen).phases()[:-1])
            if steps <= before:
                raise InvalidArgumentError(
                    f"steps={steps} leaves none after {before} of pretraining; give more steps, or "
                    "a smaller pretraining."
                )
            changes["iterations"] = steps - before
        if chosen.image_shape is None and pair.image_shape is not None:
            changes["image_shape"] = pair.image_shape
        method = self.method(
            dataclasses.replace(chosen, **changes), seed=seed, device=device, out=out,
            resume=resume, progress=progress,
        )  # fmt: skip
        method.fit_named(
            pair.X, pair.y, pair.Xt, pair.yt, data_name=domains_name, data_kwargs=env_kwargs,
            seconds=seconds, look=TargetChart(pair).look,
        )  # fmt: skip
        return Path(out)

    def load(self, folder: str | Path) -> DeepTransfer:
        """The method of a checkpoint; it is judged by ``evaluate_domains``."""
        return load_deep_method(folder)


def load_deep_method(folder: str | Path, device: str = "auto") -> DeepTransfer:
    """The method of a checkpoint that ``fit`` wrote; it predicts.

    Raises:
        CheckpointError: it is missing, damaged, or not of a method of ``DEEP_METHODS``.
    """
    saved = load_checkpoint(folder)
    name = saved.config["agent"]
    if name not in DEEP_METHODS:
        raise CheckpointError(
            f"{folder} is a checkpoint of {name!r}, which is no deep transfer method; those are "
            f"{', '.join(DEEP_METHODS)}."
        )
    kind = deep_method_class(name)
    try:
        known = {entry.name for entry in dataclasses.fields(kind.Config)}
        chosen: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in saved.config["config"].items()
            if key in known
        }
        config = kind.Config(**chosen)
        training = saved.config.get("training") or {}
        method = kind(config, seed=training.get("seed", 0), device=device)
        method.classes_ = np.asarray(saved.config["classes"])
        method.n_features_in_ = int(saved.config["inputs"])
        network = method.make_network(method.n_features_in_, len(method.classes_))
        network.load_state_dict({k: torch.tensor(v) for k, v in saved.weights.items()})
    except (KeyError, TypeError, RuntimeError, InvalidArgumentError) as error:
        raise CheckpointError(f"{folder} does not describe a {name}: {error}.") from None
    method.model_ = Model(network, 0).to(choose_device(device))
    method.network_, method.training_ = method.model_.network, training
    return method


def evaluate_domains(
    method: Any,
    pair: DomainPair,
    split: str = "test",
    count: int | None = None,
    *,
    label: str | None = None,
    privileged: bool = False,
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
    pair_kwargs: dict[str, Any] | None = None,
) -> Result:
    """How a fitted method does on the target, with a 95 % bootstrap interval over examples.

    Args:
        method: anything with ``predict(X)``; its ``label``, ``settings`` and ``training_`` go on
            record where it has them.
        pair: of the domains.
        split: "test", or "train" for the target's training part, which the method has seen.
        count: judge on the first so many examples; None: on all.
        label: of the method, in place of its own.
        privileged: it saw what no method of transfer may see: a skyline.
        config: in place of the method's own.
        seed: of the training, for the record; there is no chance in the judging.
        pair_kwargs: of ``make_domains``, for the record.

    Returns:
        A ``Result`` whose episodes are examples: a score is 1 where the prediction is right and 0
        where it is not, and a length is the number of labelled target examples.

    Raises:
        InvalidArgumentError: no such split, or a bad ``count``.
    """
    is_test = check_choice("split", split, SPLITS) == "test"
    x, y = (pair.X_test, pair.y_test) if is_test else (pair.Xt, pair.yt_all)
    if count is not None:
        x, y = x[: check_positive("count", count)], y[:count]
    start = time.perf_counter()
    found = (np.asarray(method.predict(x)) == y).astype(np.float64)
    elapsed = time.perf_counter() - start
    if config is None:
        settings = getattr(method, "settings", None)
        config = {} if settings is None else dataclasses.asdict(settings)
    network = getattr(method, "network_", None)
    device = "cpu" if network is None else str(network.shift.device)
    shots = 0 if pair.yt is None else len(pair.yt)
    return Result.of_scores(
        found, env_id=pair.name, env_kwargs=dict(pair_kwargs or {}), split=split,
        agent=label or str(getattr(method, "label", type(method).__name__)),
        agent_config=dict(config),
        privileged=privileged, training=getattr(method, "training_", None), seed=seed,
        num_envs=len(y), metric="accuracy", minimize=False, lengths=[shots] * len(y),
        env_steps=len(y), wall_time_s=elapsed, device=f"{device}, {machine()}",
    )  # fmt: skip


def evaluate_checkpoint(
    folder: str | Path,
    domains_name: str,
    split: str = "test",
    count: int | None = None,
    seed: int = 0,
    *,
    num_envs: int | None = None,
    **domains_kwargs: Any,
) -> Result:
    """``evaluate_domains`` for the command line: a checkpoint on the domains of a name.

    Args:
        folder: of the checkpoint.
        domains_name: one of ``metagym.tasks.domains.DOMAINS``, in any case.
        split, count: as of ``evaluate_domains``.
        seed: for the record; the domains have one among their own arguments.
        num_envs: says nothing here.
        **domains_kwargs: of the domains; on those of training, its arguments are the default.
    """
    saved = read_config(folder)
    if domains_name.lower() == saved["env_id"].lower():
        domains_kwargs = {**saved["env_kwargs"], **domains_kwargs}
    pair = make_domains(domains_name.lower(), **domains_kwargs)
    return evaluate_domains(
        load_deep_method(folder), pair, split, count, seed=seed, pair_kwargs=domains_kwargs
    )
