"""The asynchronous controller: the synchronous one's steps with one replica, and what may die."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from metagym.agents import async_controller, controller
from metagym.checkpoint import load_checkpoint
from metagym.cluster import start_ray
from metagym.errors import CheckpointError, InvalidArgumentError, MetagymError
from metagym.evaluation import evaluate
from metagym.loading import load_agent, trainer
from metagym.monitoring import read_scalars
from metagym.rl.architecture_reinforce import Critic
from metagym.rl.parameter_servers import ParameterServer

CELL = "ToyCellSearch-v0"  # see conftest.py
TOY: Any = type(gym.spec(CELL).kwargs["evaluator"])
# Every actor is a process that imports torch: no more of them than a test needs.
FAST = async_controller.Config(num_envs=8, learning_rate=2e-2, width=16, servers=1)
ENTRY = gym.spec(CELL).entry_point


@pytest.fixture(scope="module")
def ray():
    found = pytest.importorskip("ray", reason="Ray is an extra")
    start_ray(cpus=2)
    for name in (__name__, TOY.__module__):  # replicas have no tests
        if name in sys.modules:
            found.cloudpickle.register_pickle_by_value(sys.modules[name])
    yield found
    found.shutdown()


class Deadly(TOY):
    """Kills its process as often as it is told to."""

    def __init__(self, folder, times):
        toy = gym.spec(CELL).kwargs["evaluator"]
        super().__init__(toy.space, toy.wanted)
        self.folder, self.times = folder, times

    def evaluate(self, tokens, seeds=None):
        died = len(list(self.folder.iterdir()))
        if died < self.times:
            try:
                (self.folder / str(died)).touch(exist_ok=False)
            except FileExistsError:  # another was faster, and it dies
                return super().evaluate(tokens, seeds)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().evaluate(tokens, seeds)


def train(out, steps, config=FAST, **kwargs):
    return async_controller.train(CELL, out, config, steps=steps, progress=False, **kwargs)


def weights(folder):
    return load_checkpoint(folder).weights


def test_a_server_is_adam_and_counts_what_came_between():
    rng = np.random.default_rng(0)
    start = rng.normal(size=5).astype(np.float32)
    zeros = np.zeros_like(start)
    state = {"weights": start, "exp_avg": zeros, "exp_avg_sq": zeros, "updates": 0}
    server = ParameterServer(state, 0.1, Critic(memory=0.5))
    parameter = torch.nn.Parameter(torch.tensor(start))
    adam = torch.optim.Adam([parameter], lr=0.1)
    for step in range(4):
        gradient = rng.normal(size=5).astype(np.float32)
        assert server.push(gradient, 0) == step  # one who fetched before all of them
        parameter.grad = torch.tensor(gradient)
        adam.step()
        np.testing.assert_array_equal(server.fetch()[0], parameter.detach().numpy())
        server = ParameterServer(server.get_state(), 0.1, server.critic)
    assert server.fetch()[1] == 4
    assert server.advantages(np.array([1.0, 3.0]))[0].tolist() == [-1.0, 1.0]
    assert server.advantages(np.array([2.0]))[0].tolist() == [0.0]


def test_one_replica_takes_the_steps_of_the_controller(ray, tmp_path):
    shared = controller.Config(num_envs=8, learning_rate=2e-2, width=16)
    expected = controller.train(CELL, tmp_path / "sync", shared, steps=480, progress=False)
    out = train(tmp_path / "async", 480, replace(FAST, replicas=1, servers=2))
    for name, value in weights(expected).items():
        np.testing.assert_allclose(weights(out)[name], value, atol=1e-6)
    of = [load_checkpoint(folder).extra()["best"]["architecture"] for folder in (expected, out)]
    assert of[0] == of[1]
    assert {value for _, value in read_scalars(out)["async/staleness"]} == {0.0}


def test_two_replicas_learn_from_stale_gradients_and_go_on(ray, tmp_path):
    out = train(tmp_path / "run", 6000)
    assert max(value for _, value in read_scalars(out)["async/staleness"]) >= 1
    steps, before = load_checkpoint(out).config["training"]["steps"], load_checkpoint(out).extra()
    assert before["updates"] == before["best"]["count"] / 8 == steps / 48 >= 6000 / 48
    out = train(out, 7200, resume=True)
    after = load_checkpoint(out).extra()
    assert after["updates"] == after["best"]["count"] / 8 > before["updates"]
    assert after["starts"] == 4 and after["best"]["reward"] >= before["best"]["reward"]
    agent = load_agent(str(out), CELL)
    assert isinstance(agent, controller.ControllerAgent) and agent.name == "async_controller"
    assert evaluate(agent, CELL, episodes=100).mean > 0.6  # 0.2 by chance
    with pytest.raises(CheckpointError, match="config of training"):
        train(out, 9999, replace(FAST, width=8), resume=True)


def test_a_replica_that_dies_is_replaced(ray, tmp_path):
    (tmp_path / "deaths").mkdir()
    kwargs = {"env_kwargs": {"evaluator": Deadly(tmp_path / "deaths", 1)}}
    async_save = async_controller.save_checkpoint
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:  # an evaluator of one's own is no JSON
        patch.setattr(
            async_controller, "save_checkpoint",
            lambda folder, config, *rest: async_save(folder, {**config, "env_kwargs": {}}, *rest),
        )  # fmt: skip
        train(out, 480, replace(FAST, replicas=1), **kwargs)
        assert load_checkpoint(out).extra()["starts"] == 2
        assert read_scalars(out)["async/replaced"][-1][1] == 1.0
        patch.setattr(async_controller, "DEATHS", 2)
        (tmp_path / "more").mkdir()
        kwargs = {"env_kwargs": {"evaluator": Deadly(tmp_path / "more", 99)}}
        with pytest.raises(MetagymError, match="died 2 times in a row"):
            train(tmp_path / "hopeless", 480, replace(FAST, replicas=1), **kwargs)


def test_ctrl_c_saves(ray, tmp_path, monkeypatch):
    note, calls = async_controller.note, []

    def interrupted(*args):
        note(*args)
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(async_controller, "note", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 10_000)
    saved = load_checkpoint(tmp_path)
    assert saved.config["training"]["steps"] == 3 * 8 * 6 and saved.extra()["updates"] >= 3
    for _ in range(100):  # the replicas are gone
        if ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]:
            return
        time.sleep(0.1)
    pytest.fail("replicas live on")


@pytest.mark.parametrize("change", [{"servers": 0}, {"replicas": 0}, {"cpus": -1}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(InvalidArgumentError, match=next(iter(change))):
        replace(FAST, **change)


def test_it_has_a_name(ray, tmp_path):
    assert trainer("async_controller") is async_controller
    with pytest.raises(InvalidArgumentError, match="replicas=1000 needs 1000 CPUs"):
        train(tmp_path, 48, replace(FAST, replicas=1000))
    with pytest.raises(InvalidArgumentError, match="no architecture search"):
        async_controller.train("MetaBandit-v0", Path(tmp_path), FAST, steps=10)
