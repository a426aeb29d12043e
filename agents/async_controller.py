"""The controller of Zoph & Le (2017) trained as they did: asynchronously, on many machines.

Section 3.2 there: S parameter servers hold the controller in shards; K replicas each fetch it,
write m architectures, have them trained, and send the servers the gradient of that minibatch,
which is applied as it comes, however many updates of others it has missed. Servers and replicas
are actors of Ray (``pip install -e '.[ray]'`` in a checkout).

One baseline serves all replicas, and the first server keeps it: a replica would see K times fewer
rewards, so that its average would lag behind a policy that all of them move, and it would be lost
with the replica. What learns is the same as in ``metagym.agents.controller``; with one replica and
one seed it takes the same steps.

A replica that dies is replaced, and its minibatch is lost. Ctrl-C saves; a resumed run has the
weights, Adam's moments, baseline and counts of the old one, but new random numbers: who comes when
is chance in any case.

Lecture topic: neural architecture search, by reinforcement learning.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from metagym.agents import controller
from metagym.agents.controller import ControllerAgent, check_schedule, depth_of
from metagym.architectures import PAD
from metagym.checkpoint import load_checkpoint, save_checkpoint
from metagym.cluster import check_cpus, start_ray
from metagym.core import Agent
from metagym.errors import CheckpointError, InvalidArgumentError, MetagymError, check_positive
from metagym.evaluation.evaluate import make_vector_env
from metagym.monitoring import RunLogger, progress_bar
from metagym.rl.architecture_reinforce import (
    Best,
    Critic,
    Written,
    describe,
    differentiate,
    make_policy,
    note,
    space_of,
    write,
)
from metagym.rl.controller import Controller
from metagym.rl.parameter_servers import PARTS, Servers
from metagym.rl.search_chart import SearchChart
from metagym.rl.training import Budget, Looks, Saver, training_record

NAME = "async_controller"
DEATHS = 3  # of a replica in a row that end the run


@dataclass(frozen=True)
class Config(controller.Config):
    """The controller's settings, and who shares the work.

    Zoph & Le have 20 servers and 100 replicas of 8 architectures.

    Args:
        width: units of each layer of the LSTM.
        layers: of the LSTM.
        steps: tokens of all replicas, unless the command line says how long.
        num_envs: m, the architectures of a replica's minibatch.
        learning_rate: of the servers' Adam.
        baseline, memory, advantage, entropy: see ``metagym.agents.controller.Config``.
        schedule: whether chains grow with the number of architectures of all replicas.
        max_grad_norm: each minibatch's gradient is clipped to this norm.
        servers: S, among which the parameters are divided.
        replicas: K, each a process that writes and differentiates.
        cpus: what a replica takes of Ray's; 0 where its children are trained by Ray themselves
            (``--env-kwargs '{"evaluator_kwargs": {"pool": "ray"}}'``) and it only waits.
        address: of a Ray cluster, such as "auto"; None: a Ray of our own on this machine.
    """

    servers: int = 2
    replicas: int = 2
    cpus: float = 1.0
    address: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("servers", self.servers)
        check_positive("replicas", self.replicas)
        if not 0 <= self.cpus < float("inf"):
            raise InvalidArgumentError(f"cpus={self.cpus!r} has to be at least 0 and finite.")


def train(
    env_id: str,
    out: str | Path,
    config: Config | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    seconds: float | None = None,
    resume: bool = False,
    env_kwargs: dict[str, Any] | None = None,
    progress: bool = True,
) -> Path:
    """Train and keep checkpoints and TensorBoard logs in ``out``.

    Args and returns: see ``metagym.agents.controller.train``. What replicas have begun when the
    budget is used up is finished and counts.

    Raises:
        KeyboardInterrupt: after saving.
        InvalidArgumentError: ``env_id`` is no architecture search, or has no depth to schedule;
            Ray is missing or has too few CPUs.
        CheckpointError: there is nothing to resume from, or ``env_kwargs`` cannot be stored.
        MetagymError: a replica died again and again.
    """
    out, env_kwargs, config = Path(out), env_kwargs or {}, config or Config()
    if steps is None and seconds is None:
        steps = config.steps
    env = make_vector_env(env_id, 1, "train", env_kwargs)
    space = space_of(env, env_id)
    check_schedule(config, space, env_id)
    policy = make_policy(space, config.width, config.layers, seed)
    weights = parameters_to_vector(policy.parameters()).detach().numpy().copy()
    state: dict[str, Any] = {"weights": weights, "updates": 0}
    state |= {name: np.zeros_like(weights) for name in PARTS[1:]}
    critic = Critic(config.baseline, config.memory, config.advantage)
    best, starts, steps_done, seconds_before = Best(), 0, 0, 0.0
    if resume:
        saved = load_checkpoint(out, NAME)
        state = saved.extra()
        if state["weights"].shape != weights.shape:
            raise CheckpointError(
                f"Resume with the config of training: {out} has {len(state['weights'])} weights, "
                f"this config {len(weights)}."
            )
        critic.set_state(state["critic"])
        best, starts = Best(**state["best"]), state["starts"]
        steps_done, seconds_before = (saved.config["training"][k] for k in ("steps", "seconds"))
    ray = start_ray(config.address, config.replicas)
    check_cpus(ray, config.replicas * config.cpus, f"replicas={config.replicas}")
    budget = Budget(steps, seconds, seconds_before)
    servers = Servers.start(ray, config.servers, state, config.learning_rate, critic)
    replicas = _Replicas(ray, config, gym.spec(env_id.rpartition(":")[2]), env_kwargs, servers,
                         seed, starts)  # fmt: skip

    def save() -> None:
        state = {**servers.get_state(), "best": asdict(best), "starts": replicas.starts}
        _put(policy, state["weights"])
        model = {name: tensor.numpy() for name, tensor in policy.state_dict().items()}
        config_json = {
            "agent": NAME, "env_id": env_id, "env_kwargs": env_kwargs, "config": asdict(config),
            "space": describe(space),
            "training": training_record(env, steps_done, budget.elapsed, seed),
        }  # fmt: skip
        save_checkpoint(out, config_json, model, state)

    before: dict[str, Any] = {"resume_step": steps_done, "resume_cost": best.cost} if resume else {}
    chart = SearchChart(env.unwrapped.evaluator)  # type: ignore[attr-defined]
    settings = {"agent": NAME, "env": env_id, "seed": seed, **asdict(config)}
    with contextlib.ExitStack() as ends:
        for end in (env.close, servers.stop, replicas.stop):
            ends.callback(end)
        saver = Saver(save)
        log = ends.enter_context(RunLogger(out, settings, **before))
        show = ends.enter_context(
            progress_bar(
                f"{NAME} {env_id}",
                steps=steps,
                seconds=seconds,
                before=budget.before,
                shown=progress,
            )
        )
        looks, count_before = Looks(budget.used(steps_done)), best.count
        try:
            while True:
                if budget.used(steps_done) < 1.0:
                    replicas.go_on(depth_of(config, space, best.count))
                if not replicas.busy:
                    if best.count > count_before:
                        chart.look(best, log, steps_done)
                    break
                for written, numbers in replicas.finished():
                    steps_done += int((written.tokens != PAD).sum())
                    note(log, written, numbers, best, space, steps_done)
                    used = budget.used(steps_done)
                    if used < 1.0 and looks.due(used):
                        chart.look(best, log, steps_done)
                    show(steps_done, f"reward {written.rewards.mean():.4f}, best {best.reward:.4f}")
                saver.now_and_then()
        finally:
            replicas.stop()  # so that nothing moves while it is saved
            saver.now()
    return out


def load(folder: str | Path) -> Agent:
    """The agent of a checkpoint folder: a ``ControllerAgent``, as if one process had trained it."""
    return ControllerAgent(folder)


class Replica:
    """Writes minibatches and sends their gradients, as an actor of Ray.

    Args:
        spec: of the environment, which only the one who started us may have registered.
        env_kwargs: of the environment.
        config: of the run.
        servers: where parameters come from and gradients go.
        seed: of this replica's environment and of its draws.
    """

    def __init__(
        self,
        spec: Any,
        env_kwargs: dict[str, Any],
        config: Config,
        servers: Servers,
        seed: int,
    ) -> None:
        torch.set_num_threads(1)
        gym.registry.setdefault(spec.id, spec)
        self.config, self.servers = config, servers
        self.env = make_vector_env(spec.id, config.num_envs, "train", env_kwargs)
        self.env.reset(seed=seed)
        self.policy = make_policy(space_of(self.env, spec.id), config.width, config.layers, seed)
        self.generator = torch.Generator().manual_seed(seed)

    def minibatch(self, depth: int | None) -> tuple[Written, dict[str, float]]:
        """Fetch, write, differentiate, push; what was written and what to log."""
        vector, seen = self.servers.fetch()
        _put(self.policy, vector)
        written = write(self.env, self.policy, self.generator, depth)
        advantages, baseline = self.servers.advantages(written.rewards)
        numbers = differentiate(
            self.policy, written, advantages,
            entropy_coefficient=self.config.entropy, max_grad_norm=self.config.max_grad_norm,
        )  # fmt: skip
        gradient = torch.cat([
            (torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1)
            for p in self.policy.parameters()
        ])  # fmt: skip
        stale = self.servers.push(gradient.numpy(), seen)
        return written, {**numbers, "train/baseline": baseline, "async/staleness": stale}


# -- the inside --------------------------------------------------------------------------------


class _Replicas:
    """The replicas that there are, and what they are at."""

    def __init__(
        self,
        ray: Any,
        config: Config,
        spec: Any,
        env_kwargs: dict[str, Any],
        servers: Servers,
        seed: int,
        starts: int,
    ) -> None:
        self.starts = starts  # each has numbers of its own, those before a resume included
        self.replaced = 0
        self._ray, self._seed = ray, seed
        self._arguments = spec, env_kwargs, config, servers
        self._remote = ray.remote(num_cpus=config.cpus, scheduling_strategy="SPREAD")(Replica)
        self._actors = [self._start() for _ in range(config.replicas)]
        self._deaths = [0] * config.replicas
        self._running: dict[Any, int] = {}

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def go_on(self, depth: int | None) -> None:
        """Give those that wait a minibatch to write."""
        for index in sorted(set(range(len(self._actors))) - set(self._running.values())):
            self._running[self._actors[index].minibatch.remote(depth)] = index

    def finished(self) -> list[tuple[Written, dict[str, float]]]:
        """Wait for somebody; what has been written, nothing by one that died."""
        done, _ = self._ray.wait(list(self._running), num_returns=1)
        found = []
        for call in done:
            index = self._running.pop(call)
            try:
                written, numbers = self._ray.get(call)
            except self._ray.exceptions.RayTaskError:  # a bug, or a server that is no more
                raise
            except self._ray.exceptions.RayActorError as error:
                self._replace(index, error)
                continue
            self._deaths[index] = 0
            found.append((written, {**numbers, "async/replaced": float(self.replaced)}))
        return found

    def stop(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)

    def _start(self) -> Any:
        self.starts += 1
        return self._remote.remote(*self._arguments, self._seed + self.starts - 1)

    def _replace(self, index: int, error: Exception) -> None:
        self._deaths[index] += 1
        if self._deaths[index] == DEATHS:
            raise MetagymError(f"Replica {index} died {DEATHS} times in a row: {error}") from error
        self.replaced += 1
        self._actors[index] = self._start()


def _put(policy: Controller, vector: np.ndarray) -> None:
    vector_to_parameters(torch.tensor(vector), policy.parameters())
