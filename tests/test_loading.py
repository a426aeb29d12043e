"""Agents by name, by checkpoint and by module:Class; each mistake has its typed error."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from metagym import loading
from metagym.agents.random import RandomAgent
from metagym.checkpoint import save_checkpoint
from metagym.core import Agent
from metagym.errors import CheckpointError, InvalidArgumentError

CONFIG = {"agent": "toy", "env_id": "LearnToOptimize-v0", "env_kwargs": {}}


class Toy:
    name = "toy"

    def __init__(self, gain: float = 1.0) -> None:
        self.gain, self.config = gain, {"gain": gain}

    def reset(self, mask) -> None:
        pass

    def act(self, observations, action_masks=None):
        return np.zeros((len(observations), 10), np.float32)


@pytest.fixture(autouse=True)
def toy_module(monkeypatch):
    """A trainable agent called toy, and a module of a user's own."""
    module = types.ModuleType("toy_module")
    vars(module).update(Toy=Toy, ready=Toy(5.0), NotAnAgent=dict, number=3)
    module.load = lambda folder: Toy(7.0)
    monkeypatch.setitem(sys.modules, "toy_module", module)
    monkeypatch.setitem(loading.TRAINED, "toy", "toy_module")


@pytest.mark.parametrize("name", loading.agent_names())
def test_every_name_gives_an_agent(name):
    assert isinstance(loading.load_agent(name), Agent)


def test_names_take_arguments():
    agent = loading.load_agent("random:seed=4")
    assert isinstance(agent, RandomAgent) and agent.seed == 4
    assert loading.load_agent("adam:lr=0.25,beta1=0.8").config["lr"] == 0.25


def test_module_and_class():
    assert loading.load_agent("toy_module:Toy").gain == 1.0
    assert loading.load_agent("toy_module:Toy:gain=2.5").gain == 2.5
    assert loading.load_agent("toy_module:ready").gain == 5.0


def test_a_module_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("from metagym.agents.random import RandomAgent as Mine\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert isinstance(loading.load_agent("mine:Mine"), RandomAgent)


def test_checkpoint_with_its_training_cost(tmp_path):
    training = {"env_steps": 100, "wall_time_s": 2.0}
    folder = save_checkpoint(tmp_path / "run", CONFIG | {"training": training}, {"w": np.ones(2)})
    agent = loading.load_agent(str(folder), "LearnToOptimizeLogistic-v0")
    assert agent.gain == 7.0 and agent.training == training


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adm", r"no agent 'adm'\. Did you mean 'adam'"),
        ("toy", "has to be trained: metagym train toy ENV"),
        ("random:sed=4", "Did you mean 'seed'"),
        ("adam:lrr=4", "Did you mean 'lr'"),
        ("no_such_module:Agent", "cannot import no_such_module"),
        ("toy_module:Tay", "Did you mean 'Toy'"),
        ("toy_module:NotAnAgent", "dict, which is no agent"),
        ("toy_module:number", "cannot be called"),
    ],
)
def test_mistakes(text, message):
    with pytest.raises(InvalidArgumentError, match=message):
        loading.load_agent(text)


def test_bad_checkpoints(tmp_path):
    with pytest.raises(CheckpointError, match="is no folder"):
        loading.load_agent("runs/nowhere")
    folder = save_checkpoint(tmp_path / "run", CONFIG | {"agent": "other"}, {})
    with pytest.raises(CheckpointError, match="agent that this metagym does not have"):
        loading.load_agent(str(folder))
    folder = save_checkpoint(tmp_path / "v0", CONFIG, {})
    with pytest.raises(CheckpointError, match="LearnToOptimize-v1"):
        loading.load_agent(str(folder), "LearnToOptimize-v1")
    (folder / "weights.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match="damaged"):
        loading.load_agent(str(folder))


def test_trainer():
    assert loading.trainer("toy") is sys.modules["toy_module"]
    with pytest.raises(InvalidArgumentError, match="Did you mean 'ppo'"):
        loading.trainer("pppo")
