"""The training loop: batches, gradients, learning, resuming bit for bit, early stopping, Ctrl-C."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import r2_score

from metagym.baselines.multitask import train as module
from metagym.baselines.multitask.architectures import ARCHITECTURES
from metagym.baselines.multitask.data import TaskData
from metagym.baselines.multitask.network import MultiTaskNetwork, make_learner
from metagym.baselines.multitask.sampling import TaskBatches
from metagym.baselines.multitask.saving import load_learner
from metagym.baselines.multitask.train import TrainConfig, train_multitask
from metagym.baselines.multitask.weighting import WEIGHTINGS
from metagym.checkpoint import load_checkpoint, read_config, save_checkpoint
from metagym.errors import CheckpointError, DataError, InvalidArgumentError
from metagym.monitoring import read_scalars

SMALL = {"widths": (8,)}
QUICK = TrainConfig(steps=8, batch=4, eval_every=3, log_every=2, device="cpu")


def _tasks(seed=0, sizes=(30, 20, 10), unit=1.0):
    """Three tasks of one hidden direction, a loss of another kind each."""
    rng, found = np.random.default_rng(seed), []
    for kind, size in zip(("regression", "binary", "multiclass"), sizes, strict=True):
        x = rng.normal(size=(size, 3))
        z = x @ [1.0, -1.0, 0.5]
        y = {"regression": unit * z, "binary": z > 0, "multiclass": np.digitize(z, (-0.5, 0.5))}
        found.append(TaskData(kind, kind, x, y[kind], 3 if kind == "multiclass" else None))
    return found


def _one_class(number):
    task = _tasks()[number]
    return dataclasses.replace(task, y=np.zeros(len(task.y)))


def _learner(architecture="hard", weighting="uniform", tasks=None, seed=0, **kwargs):
    kwargs = {"architecture_kwargs": SMALL, **kwargs}
    alpha = (1, 2, 0.5) if weighting == "fixed" else None
    return make_learner(tasks or _tasks(), architecture, weighting, alpha=alpha, seed=seed,
                        **kwargs)  # fmt: skip


def _same(one, two):
    return all(torch.equal(one.state_dict()[name], x) for name, x in two.state_dict().items())


# -- batches -----------------------------------------------------------------------------------


def test_batches_take_as_many_of_each_task_and_go_round_without_replacement():
    batches = TaskBatches([7, 50, 3], batch=4, seed=1)
    drawn = [batches.next() for _ in range(49)]
    assert all([len(rows) for rows in step] == [4, 4, 3] for step in drawn)
    for task, size in enumerate([7, 50, 3]):
        stream = np.concatenate([step[task] for step in drawn])
        for start in range(0, len(stream) - size + 1, size):
            assert sorted(stream[start : start + size]) == list(range(size))


def test_batches_go_on_from_what_was_drawn():
    one = TaskBatches([7, 50, 3], batch=4, tasks_per_step=2, seed=1)
    for _ in range(9):
        one.next()
    two = TaskBatches([7, 50, 3], batch=4, tasks_per_step=2, seed=1)
    two.step, two.drawn = one.step, list(one.drawn)
    for _ in range(9):
        for a, b in zip(one.next(), two.next(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_subsets_of_tasks_are_drawn_evenly():
    batches = TaskBatches([9] * 5, batch=2, tasks_per_step=3, seed=0)
    present = np.array([[len(rows) > 0 for rows in batches.next()] for _ in range(2000)])
    assert (present.sum(1) == 3).all()
    np.testing.assert_allclose(present.mean(0), 0.6, atol=0.05)


def test_examples_with_several_labels_meet_them_in_one_step():
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    tasks = [TaskData("a", "regression", x, x[:, 0]), TaskData("b", "regression", x, x[:, 1])]
    batches = module._Batches(_learner(tasks=tasks), tasks, QUICK, seed=0)
    inputs, _, present = batches.next()
    assert present == [0, 1]
    assert inputs[0] is inputs[1]
    # That they are equal decides, not that they are one array.
    tasks[1] = dataclasses.replace(tasks[1], x=x.copy())
    inputs, _, _ = module._Batches(_learner(tasks=tasks), tasks, QUICK, seed=0).next()
    assert inputs[0] is inputs[1]


def test_a_task_meets_its_examples_in_the_same_order_whoever_is_beside_it():
    tasks = _tasks()
    together = module._Batches(_learner(), tasks, QUICK, seed=3)
    alone = module._Batches(_learner(tasks=tasks[1:2]), tasks[1:2], QUICK, seed=3)
    for _ in range(12):
        (_, x, _), (_, y, _), _ = together.next()
        (x_alone,), (y_alone,), _ = alone.next()
        assert torch.equal(x, x_alone) and torch.equal(y, y_alone)


# -- a step ------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["single", "soft"])
@pytest.mark.parametrize("weighting", ["pcgrad", "mgda"])
def test_weightings_of_gradients_need_shared_parameters(architecture, weighting):
    with pytest.raises(InvalidArgumentError, match=f"{weighting}.*{architecture}.*'uniform'"):
        _learner(architecture, weighting)
    with pytest.raises(InvalidArgumentError, match="has none"):
        MultiTaskNetwork(architecture, weighting, config=QUICK).fit(_tasks())


def test_gradient_weightings_get_the_jacobian_of_what_is_shared(monkeypatch):
    tasks, seen = _tasks(), []
    learner = _learner(weighting="pcgrad")
    kind = type(learner.weighting)

    def direction(self, jacobian, generator):
        seen.append(jacobian.clone())
        return torch.full_like(jacobian[0], 7.0)

    monkeypatch.setattr(kind, "direction", direction)
    config = dataclasses.replace(QUICK, steps=1, batch=100)
    train_multitask(learner, tasks, config=config)
    # The same by plain backward passes, one per task, of an equal network.
    twin = _learner(weighting="pcgrad")
    shared = twin.architecture.shared_parameters()
    rows, own = [], {}
    for number, task in enumerate(tasks):
        outputs = twin.architecture([torch.tensor(t.x) for t in tasks]).predictions[number]
        twin.zero_grad()
        twin.loss(number, outputs, twin.targets(number, task.y)).backward()
        rows.append(torch.cat([p.grad.flatten() for p in shared]))
        for name, p in twin.architecture.named_parameters():
            if name.startswith("own.") and p.grad is not None and p.grad.any():
                own[name] = p.grad.clone()
    torch.testing.assert_close(seen[0], torch.stack(rows))
    for name, p in learner.architecture.named_parameters():
        torch.testing.assert_close(p.grad, own.get(name, torch.full_like(p, 7.0)))
    assert len(own) == 6  # the weight and the bias of three heads


def test_penalties_reach_the_gradient_under_every_weighting():
    for weighting in ("uniform", "mgda"):
        spreads = []
        for strength in (0.0, 100.0):
            learner = _learner("deep_relationship", weighting,
                               architecture_kwargs={**SMALL, "strength": strength})  # fmt: skip
            train_multitask(learner, _tasks(), config=dataclasses.replace(QUICK, steps=30))
            spreads.append(sum(w.square().sum().item() for w in learner.architecture.weights()))
        assert spreads[1] < spreads[0]


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in ("single", "soft")])
def test_gradients_of_every_architecture_can_be_weighted(name, monkeypatch):
    """With the sum for a direction, a step is that of the uniform weighting."""
    learners = [_learner(name, weighting) for weighting in ("pcgrad", "uniform")]
    monkeypatch.setattr(type(learners[0].weighting), "direction", lambda _, rows, __: rows.sum(0))
    for learner in learners:
        train_multitask(learner, _tasks(), config=dataclasses.replace(QUICK, steps=1))
    for one, two in zip(*(x.architecture.parameters() for x in learners), strict=True):
        torch.testing.assert_close(_gradient(one), _gradient(two))


def _gradient(parameter):
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


# -- learning ----------------------------------------------------------------------------------


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_every_weighting_learns_tasks_of_different_kinds(weighting):
    learner = _learner(weighting=weighting, tasks=_tasks(unit=1000.0))
    config = TrainConfig(steps=250, batch=16, learning_rate=0.02, device="cpu")
    train_multitask(learner, _tasks(unit=1000.0), config=config)
    score = learner.score(_tasks(seed=1, sizes=(200, 200, 200), unit=1000.0))
    assert score["regression"] > 0.8
    assert score["binary"] > 0.8
    assert score["multiclass"] > 0.6


def test_answers_are_in_the_units_of_the_targets():
    config = dataclasses.replace(QUICK, steps=50)
    found = []
    for unit in (1.0, 1000.0):
        tasks = _tasks(unit=unit)
        found.append(MultiTaskNetwork(config=config).fit(tasks).predict("regression", tasks[0].x))
    np.testing.assert_allclose(found[1], 1000 * found[0], rtol=1e-3, atol=0.1)


def test_scores_are_those_of_scikit_learn():
    tasks = _tasks()
    network = MultiTaskNetwork(config=QUICK).fit(tasks)
    score = network.score(tasks)
    answers = {task.name: network.predict(task.name, task.x) for task in tasks}
    assert score["regression"] == pytest.approx(r2_score(tasks[0].y, answers["regression"]))
    assert score["binary"] == (answers["binary"] == tasks[1].y).mean()
    assert network.score(tasks[2:]) == {"multiclass": (answers["multiclass"] == tasks[2].y).mean()}


def test_the_network_is_deterministic_and_can_be_cloned():
    network = MultiTaskNetwork("cross_stitch", "mgda", config=QUICK, seed=3)
    again = clone(network).fit(_tasks())
    network.fit(_tasks())
    assert _same(network.learner_, again.learner_)
    other = clone(network).set_params(seed=4).fit(_tasks())
    assert not _same(network.learner_, other.learner_)


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    MultiTaskNetwork("hard", "pcgrad", config=QUICK).fit(_tasks())
    assert torch.equal(before, torch.get_rng_state())


# -- saving ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "weighting", "per_step"),
    [("hard", "uncertainty", 2), ("mmoe", "pcgrad", 2), ("hard", "mgda", None),
     *((name, "uniform", None) for name in ARCHITECTURES)],
)  # fmt: skip
def test_a_resumed_run_is_bit_for_bit_the_unbroken_one(
    tmp_path, monkeypatch, architecture, weighting, per_step
):
    config = dataclasses.replace(QUICK, patience=5, tasks_per_step=per_step)
    validation = _tasks(seed=1)
    whole = train_multitask(
        _learner(architecture, weighting), _tasks(), validation, tmp_path / "whole", config
    )
    broken = _learner(architecture, weighting)
    calls, original = 0, broken.loss

    def interrupted(*arguments):
        nonlocal calls
        calls += 1
        if broken.training and calls > 4 * (per_step or 3):
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(broken, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_multitask(broken, _tasks(), validation, tmp_path / "broken", config)
    assert read_config(tmp_path / "broken")["training"]["step"] == 4
    again = train_multitask(
        _learner(architecture, weighting, seed=9), _tasks(), validation, tmp_path / "broken",
        config, resume=True,
    )  # fmt: skip
    assert _same(whole, again)
    assert _same(whole, load_learner(tmp_path / "broken", "cpu"))


def test_checkpoints_and_charts(tmp_path):
    network = MultiTaskNetwork("hard", "fixed", alpha=(1, 2, 3), architecture_kwargs=SMALL,
                               config=QUICK, out=tmp_path / "run")  # fmt: skip
    network.fit(_tasks(), _tasks(seed=1))
    loaded = MultiTaskNetwork.load(tmp_path / "run", "cpu")
    assert loaded.score(_tasks()) == network.score(_tasks())
    assert (loaded.architecture, loaded.weighting) == ("hard", "fixed")
    charts = read_scalars(tmp_path / "run")
    assert {"train/loss", "train/loss_binary", "eval/score", "eval/binary/score"} <= {*charts}
    assert [step for step, _ in charts["train/loss"]] == [1, 2, 4, 6, 8]
    with pytest.raises(InvalidArgumentError, match="resume=True"):
        network.fit(_tasks())
    longer = network.set_params(config=dataclasses.replace(QUICK, steps=11))
    assert longer.fit(_tasks(), resume=True).learner_.training_record["step"] == 11


def test_early_stopping_keeps_the_weights_that_were_best_on_validation(monkeypatch):
    scores, seen = iter([0.1, 0.5, 0.4, 0.3, 0.9]), []
    learner = _learner()

    def score(tasks):
        seen.append({k: v.clone() for k, v in learner.state_dict().items()})
        return {"a": next(scores)}

    monkeypatch.setattr(learner, "score", score)
    config = dataclasses.replace(QUICK, steps=100, patience=2)
    train_multitask(learner, _tasks(), _tasks(seed=1), config=config)
    assert len(seen) == 4
    assert learner.training_record["step"] == 12
    assert all(torch.equal(x, seen[1][name]) for name, x in learner.state_dict().items())


# -- what cannot work --------------------------------------------------------------------------


def test_divergence_is_an_error_that_says_what_to_lower():
    for weighting in ("uniform", "mgda"):
        config = dataclasses.replace(QUICK, steps=60, learning_rate=1e30)
        with pytest.raises(InvalidArgumentError, match="Lower learning_rate"):
            train_multitask(_learner(weighting=weighting), _tasks(), config=config)


def test_divergence_leaves_weights_that_are_numbers(tmp_path):
    config = dataclasses.replace(QUICK, steps=60, learning_rate=1e30, log_every=1000)
    with pytest.raises(InvalidArgumentError, match="diverged"):
        train_multitask(_learner(), _tasks(), out=tmp_path, config=config)
    kept = load_learner(tmp_path, "cpu")
    assert all(bool(torch.isfinite(x).all()) for x in kept.state_dict().values())


@pytest.mark.parametrize(
    "fields",
    [{"steps": 0}, {"batch": 0}, {"learning_rate": -1}, {"weight_decay": -1}, {"patience": 0},
     {"max_grad_norm": 0}, {"tasks_per_step": 0}, {"log_every": 0.5}],
)  # fmt: skip
def test_bad_settings_are_named(fields):
    with pytest.raises(InvalidArgumentError, match=next(iter(fields))):
        TrainConfig(**fields)


@pytest.mark.parametrize(
    ("kwargs", "config", "words"),
    [
        ({"tasks": _tasks()[:2]}, {}, "was made for the tasks"),
        ({"validation": _tasks()[::-1]}, {}, "was made for the tasks"),
        ({}, {"patience": 3}, "needs validation"),
        ({}, {"tasks_per_step": 4}, "more than the 3"),
        ({"resume": True}, {}, "needs out"),
        ({}, {"device": "tpu"}, "cannot be used"),
        ({"tasks": [*_tasks()[:1], _one_class(1), *_tasks()[2:]]}, {}, "'binary' are of class 0"),
        ({"tasks": [*_tasks()[:2], _one_class(2)]}, {}, "'multiclass' are of class 0"),
    ],
)
def test_runs_that_cannot_work_are_refused(kwargs, config, words):
    kwargs = {"tasks": _tasks(), **kwargs}
    with pytest.raises(InvalidArgumentError, match=words):
        train_multitask(_learner(), config=dataclasses.replace(QUICK, **config), **kwargs)


def test_networks_refuse_what_they_cannot_answer():
    network = MultiTaskNetwork(config=QUICK)
    with pytest.raises(InvalidArgumentError, match="not fitted"):
        network.predict("binary", np.zeros((1, 3)))
    network.fit(_tasks())
    with pytest.raises(InvalidArgumentError, match="Did you mean 'binary'"):
        network.predict("binarx", np.zeros((1, 3)))
    with pytest.raises(InvalidArgumentError, match="3 features"):
        network.predict("binary", np.zeros((1, 4)))
    for bad in (np.nan, np.inf):
        with pytest.raises(DataError, match="x has NaN or infinity"):
            network.predict("binary", [[0.0, bad, 0.0]])
    with pytest.raises(InvalidArgumentError, match="array of numbers"):
        network.predict("binary", [["a", "b", "c"]])
    with pytest.raises(InvalidArgumentError, match="targets that differ"):
        network.score([TaskData("regression", "regression", np.zeros((2, 3)), [1, 1])])
    with pytest.raises(InvalidArgumentError, match="was trained as binary"):
        network.score([TaskData("binary", "regression", np.zeros((2, 3)), [1, 2])])


def test_bad_choices_are_named():
    with pytest.raises(InvalidArgumentError, match="Did you mean 'hard'"):
        MultiTaskNetwork("hart").fit(_tasks())
    with pytest.raises(InvalidArgumentError, match="widths"):
        MultiTaskNetwork(architecture_kwargs={"width": (8,)}).fit(_tasks())


def test_checkpoints_that_do_not_fit_are_refused(tmp_path):
    train_multitask(_learner(), _tasks(), out=tmp_path / "run", config=QUICK)
    with pytest.raises(CheckpointError, match="not of 'multitask_soft'"):
        train_multitask(_learner("soft"), _tasks(), out=tmp_path / "run", config=QUICK, resume=True)
    with pytest.raises(CheckpointError, match="of training"):
        wide = _learner(architecture_kwargs={"widths": (9,)})
        train_multitask(wide, _tasks(), out=tmp_path / "run", config=QUICK, resume=True)
    saved = load_checkpoint(tmp_path / "run")
    renamed = [dataclasses.replace(task, name=task.name + "!") for task in _tasks()]
    with pytest.raises(CheckpointError, match="was trained on the tasks"):
        train_multitask(_learner(tasks=renamed), renamed, out=tmp_path / "run", config=QUICK,
                        resume=True)  # fmt: skip
    moved = [dataclasses.replace(task, x=task.x + 1.0) for task in _tasks()]
    with pytest.raises(CheckpointError, match="other examples"):
        train_multitask(_learner(tasks=moved), moved, out=tmp_path / "run", config=QUICK,
                        resume=True)  # fmt: skip
    save_checkpoint(tmp_path / "b", {**saved.config, "shape": {}}, saved.weights)
    with pytest.raises(CheckpointError, match="does not describe"):
        load_learner(tmp_path / "b")
    save_checkpoint(tmp_path / "c", {**saved.config, "agent": "maml"}, saved.weights)
    with pytest.raises(CheckpointError, match="no multi-task network"):
        load_learner(tmp_path / "c")
