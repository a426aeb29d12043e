"""Pools: the same results everywhere, and a killed worker costs its child a second try only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from metagym.architectures.cell201 import Cell201
from metagym.architectures.image_data import ImageData, load_images
from metagym.architectures.language import LanguageModelEvaluator
from metagym.architectures.pools import make_pool
from metagym.architectures.recurrent_tree import RecurrentTree
from metagym.architectures.training import TrainingEvaluator
from metagym.architectures.training_child import Recipe
from metagym.cluster import check_cpus, start_ray
from metagym.envs.neural_architecture_search import NeuralArchitectureSearchVectorEnv
from metagym.errors import InvalidArgumentError
from metagym.tasks.text import load_text

QUICK = Recipe(epochs=2, last=1)
KINDS = ["processes", "ray"]


@pytest.fixture(scope="module")
def ray():
    found = pytest.importorskip("ray", reason="Ray is an extra")
    start_ray(cpus=2)
    found.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers have no tests
    yield found
    found.shutdown()


@pytest.fixture(params=KINDS)
def kind(request):
    if request.param == "ray":
        request.getfixturevalue("ray")
    return request.param


@pytest.fixture(scope="module")
def small():
    """A hundred digits to train on, fifty each for validation and test."""
    sizes = (100, 100, 50, 50, 50, 50)
    return ImageData(*(a[:size] for a, size in zip(load_images("digits"), sizes, strict=True)))


def work(item, folder):
    """What the item says; the folder keeps a file of every call, named after item and process."""
    before = len(list(folder.glob(f"{item}.*")))
    (folder / f"{item}.{uuid.uuid4().hex}").write_text(str(os.getpid()))
    if item == "dies" or (item == "dies once" and not before):
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "waits" and not before:
        time.sleep(60)
    if item == "bug":
        raise ValueError("a bug of the space")
    if item.startswith("slow"):
        time.sleep(0.3)
    return item.upper()


def calls(folder):
    return Counter(path.name.partition(".")[0] for path in folder.iterdir())


def results(kind, items, folder, workers=2):
    pool = make_pool(kind, work, folder, workers)
    with contextlib.closing(pool):
        return dict(pool.run(items))


def test_a_killed_worker_costs_a_second_try_and_the_others_nothing(kind, tmp_path):
    items = ["slow 1", "dies once", "slow 2", "dies", "a", "b"]
    found = results(kind, items, tmp_path)
    assert found == {item: item.upper() for item in items} | {"dies": None}
    assert calls(tmp_path) == Counter(items) + Counter(["dies once", "dies"])


def test_a_worker_killed_from_outside(kind, tmp_path):
    def kill():
        for _ in range(600):
            for path in tmp_path.glob("waits.*"):
                if text := path.read_text():
                    os.kill(int(text), signal.SIGKILL)
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    found = results(kind, ["waits", "slow"], tmp_path)
    killer.join()
    assert found == {"waits": "WAITS", "slow": "SLOW"}
    assert calls(tmp_path) == {"waits": 2, "slow": 1}


def test_a_bug_is_raised_here(kind, tmp_path):
    with pytest.raises(ValueError, match="a bug of the space"):
        results(kind, ["a", "bug"], tmp_path)


def test_workers_are_kept_and_end_with_the_pool(tmp_path):
    pool = make_pool("processes", work, tmp_path, 2)
    for _ in range(2):
        assert len(dict(pool.run(["slow 1", "slow 2"]))) == 2
    pids = {int(path.read_text()) for path in tmp_path.iterdir()}
    assert len(pids) == 2  # of four calls
    idle = [worker.process for worker in pool._idle]
    results_ = pool.run(["a", "waits"])
    assert next(results_) == ("a", "A")
    results_.close()  # what is under way is given up
    assert not pool._idle and not any(process.is_alive() for process in idle)


def test_an_idle_worker_that_was_killed_is_replaced(tmp_path):
    pool = make_pool("processes", work, tmp_path, 1)
    assert dict(pool.run(["a"])) == {"a": "A"}
    pool._idle[0].process.kill()
    pool._idle[0].process.join()
    assert dict(pool.run(["b"])) == {"b": "B"}
    pool.close()


def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from metagym.architectures.pools import make_pool\n"
        "print(list(make_pool('processes', print, None, 1).run(['a'])))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "__name__ == '__main__'" in done.stderr.splitlines()[-1]


def test_the_same_child_gives_the_same_record_everywhere(small, ray):
    space = Cell201()
    tokens = space.sample(np.random.default_rng(0), 3)
    kwargs = {
        "recipe": QUICK,
        "build_kwargs": {"channels": 4, "cells": 1, "stages": 1},
        "device": "cpu",
    }
    expected = TrainingEvaluator(space, small, **kwargs).records(tokens)
    assert {record["status"] for record in expected} == {"trained"}
    for pool in KINDS:
        with TrainingEvaluator(space, small, workers=2, pool=pool, **kwargs) as evaluator:
            found = evaluator.records(tokens)
        for record, wanted in zip(found, expected, strict=True):
            assert record | {"seconds": 0} == wanted | {"seconds": 0}


def test_an_environment_trains_its_rows_at_once(small, ray):
    rewards = []
    for kwargs in ({}, {"pool": "ray", "workers": 2}):
        env = NeuralArchitectureSearchVectorEnv(
            2,
            evaluator="train",
            space="chain",
            evaluator_kwargs={"data": small, "recipe": QUICK, "device": "cpu", **kwargs},
        )
        env.reset(seed=0)
        rng, over, total = np.random.default_rng(1), np.zeros(2, bool), np.zeros(2)
        while not over.all():
            masks = env.action_masks()
            actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])
            _, reward, terminated, _, _ = env.step(actions)
            total += np.where(over, 0, reward)
            over |= terminated
        rewards.append(total.tolist())
    assert rewards[0] == rewards[1] and min(rewards[0]) > 0


def test_language_models_too(tmp_path, kind):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat.\n" * 60)
    text, space = load_text(path), RecurrentTree(2)
    tokens = space.sample(np.random.default_rng(0), 2)
    settings = {"width": 8, "batch_size": 4}
    expected = LanguageModelEvaluator(space, text, settings)
    evaluator = LanguageModelEvaluator(space, text, settings, workers=1, pool=kind)
    np.testing.assert_array_equal(
        evaluator.evaluate(tokens).reward, expected.evaluate(tokens).reward
    )
    evaluator.close()
    assert set(evaluator.records) == set(expected.records)


def test_what_cannot_be(small, tmp_path, monkeypatch):
    for kwargs, message in (
        ({"pool": "thread"}, "pool='thread' is not one of"),
        ({"address": "auto"}, "needs pool='ray'"),
        ({"workers": 1.5}, "workers=1.5"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            TrainingEvaluator(Cell201(), small, **kwargs)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidArgumentError, match=r"pip install -e '\.\[ray\]'"):
        make_pool("ray", work, Path(tmp_path), 1)


def test_ray_is_told_what_it_does_not_have(ray, tmp_path):
    with pytest.raises(InvalidArgumentError, match="needs 1000 CPUs"):
        check_cpus(ray, 1000, "replicas=1000")
    if not ray.cluster_resources().get("GPU"):
        with pytest.raises(InvalidArgumentError, match="no GPU"):
            make_pool("ray", work, tmp_path, 1, gpu=True)
