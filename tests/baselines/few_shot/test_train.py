"""The training loop: it learns, resumes bit for bit, stops early, survives Ctrl-C; judging."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from metagym.baselines.few_shot import make_method
from metagym.baselines.few_shot import train as module
from metagym.baselines.few_shot.command import Face, evaluate_checkpoint
from metagym.baselines.few_shot.judge import evaluate_few_shot, few_shot_scores, memory_hint
from metagym.baselines.few_shot.train import TrainConfig, load_method, train_few_shot
from metagym.checkpoint import CONFIG, load_checkpoint, read_config
from metagym.errors import CheckpointError, InvalidArgumentError
from metagym.evaluation.results import Result
from metagym.monitoring import read_scalars
from metagym.tasks.few_shot import Tasks
from metagym.tasks.sinusoid import Sinusoid

QUICK = TrainConfig(iterations=8, meta_batch=4, eval_every=3, eval_tasks=6, log_every=2)
TASKS = Sinusoid(5, 5, device="cpu")


def _make(name="maml", seed=0, **fields):
    return make_method(name, TASKS, hidden=(8,), seed=seed, **fields)


def _train(out, method=None, config=QUICK, **kwargs):
    kwargs = {"progress": False, **kwargs}
    return train_few_shot(method or _make(), TASKS, out, config, **kwargs)


def _same(one, two):
    return all(torch.equal(one.state_dict()[name], x) for name, x in two.state_dict().items())


@pytest.mark.parametrize("name", ["maml", "reptile", "maml_plus_plus", "meta_sgd"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_resumed_run_is_bit_for_bit_the_unbroken_one(tmp_path, name, optimizer):
    config = dataclasses.replace(QUICK, optimizer=optimizer, patience=5)
    whole = _train(tmp_path / "whole", _make(name), config)
    broken = _make(name)
    steps, original = 0, broken.meta_loss

    def interrupted(tasks, generator):
        nonlocal steps
        steps += 1
        if steps == 5:
            raise KeyboardInterrupt
        return original(tasks, generator)

    broken.meta_loss = interrupted
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "broken", broken, config)
    assert read_config(tmp_path / "broken")["training"]["iteration"] == 4
    again = _train(tmp_path / "broken", _make(name, seed=9), config, resume=True)
    assert _same(whole, again)
    one, two = (load_checkpoint(tmp_path / n).extra() for n in ("whole", "broken"))
    np.testing.assert_equal(one["optimizer"], two["optimizer"])
    np.testing.assert_equal(one["generator"], two["generator"])


def test_a_run_of_so_many_seconds_goes_on_with_its_schedule(tmp_path, monkeypatch):
    """The clock counts what was trained before the break, for the rate and for ``progress``."""
    now, seen = [0.0], []
    monkeypatch.setattr("metagym.rl.training.time.perf_counter", lambda: now[0])

    def second(method, stop_at):
        original = method.meta_loss

        def one(tasks, generator):
            now[0] += 1.0
            seen.append(method.progress)
            if len(seen) == stop_at:
                raise KeyboardInterrupt
            return original(tasks, generator)

        method.meta_loss = one
        return method

    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, second(_make(), 6), seconds=10.0)
    again = second(_make(), None)
    _train(tmp_path, again, seconds=10.0, resume=True)
    assert seen[:6] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert seen[6:] == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])  # what broke is done again
    assert read_config(tmp_path)["training"]["seconds"] == pytest.approx(10.0)


def test_what_is_measured_besides_is_in_the_charts(tmp_path):
    def measure(method):
        return {"largest": max(float(p.detach().abs().max()) for p in method.parameters())}

    method = _train(tmp_path, measure=measure)
    chart = read_scalars(tmp_path)["validation/largest"]
    assert [step for step, _ in chart] == [3, 6]
    plain = _train(tmp_path / "plain")
    assert _same(method, plain)


def test_training_learns_and_the_checkpoint_gives_the_method_back(tmp_path):
    config = TrainConfig(iterations=150, meta_batch=10, outer_lr=1e-2, eval_every=75)
    untrained = few_shot_scores(_make(), TASKS, "test", 100).mean()
    method = _train(tmp_path, config=config)
    trained = few_shot_scores(method, TASKS, "test", 100)
    assert trained.mean() < 0.9 * untrained
    loaded = load_method(tmp_path, "cpu")
    assert loaded.config == method.config
    assert loaded.shape == method.shape
    assert not loaded.training
    assert loaded.training_record["iteration"] == 150
    np.testing.assert_array_equal(few_shot_scores(loaded, TASKS, "test", 100), trained)
    charts = read_scalars(tmp_path)
    assert {"train/loss", "train/mse", "train/grad_norm", "eval/score"} <= charts.keys()
    assert [step for step, _ in charts["eval/score"]] == [75, 150]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("inner_lr", None, "it lacks 'inner_lr'"), ("innner_lr", 0.1, "it has no innner_lr")],
)
def test_a_checkpoint_whose_config_is_of_another_version_is_refused(
    tmp_path, field, value, message
):
    _train(tmp_path)
    path = tmp_path / CONFIG
    saved = json.loads(path.read_text())
    if value is None:
        del saved["config"][field]
    else:
        saved["config"][field] = value
    path.write_text(json.dumps(saved))
    with pytest.raises(CheckpointError, match=message):
        load_method(tmp_path, "cpu")


def test_early_stopping_keeps_the_weights_that_were_best_on_validation_tasks(tmp_path, monkeypatch):
    seen, scores = [], iter([3.0, 1.0, 2.0, 1.5])

    def scored(method, tasks, config):
        seen.append({name: x.clone() for name, x in method.state_dict().items()})
        return next(scores)

    monkeypatch.setattr(module, "_validation_score", scored)
    config = dataclasses.replace(QUICK, iterations=100, eval_every=2, patience=2)
    method = _train(tmp_path, config=config)
    assert len(seen) == 4
    for weights in (method.state_dict(), load_method(tmp_path, "cpu").state_dict()):
        assert all(torch.equal(weights[name], x) for name, x in seen[1].items())
    assert not torch.equal(seen[1]["network.head.weight"], seen[3]["network.head.weight"])
    # Resuming a run that has stopped changes nothing.
    assert _same(_train(tmp_path, config=config, resume=True), method)
    assert len(seen) == 4


def test_training_looks_at_no_test_task(tmp_path):
    splits = set()

    class Watched(Sinusoid):
        def sample(self, count, split, generator):
            splits.add(split)
            return super().sample(count, split, generator)

    train_few_shot(_make(), Watched(5, 5, device="cpu"), tmp_path, QUICK, progress=False)
    assert splits == {"train", "validation"}


def test_progress_of_the_run_reaches_the_method_and_the_schedule_the_optimizer(tmp_path):
    method, seen = _make(), []
    original = method.meta_loss

    def watched(tasks, generator):
        seen.append(method.progress)
        assert method.training
        return original(tasks, generator)

    method.meta_loss = watched
    config = dataclasses.replace(QUICK, iterations=4, schedule="linear", log_every=1)
    _train(tmp_path, method, config)
    assert seen == [0.0, 0.25, 0.5, 0.75]
    assert method.progress == 1.0
    rates = [value for _, value in read_scalars(tmp_path)["train/learning_rate"]]
    np.testing.assert_allclose(rates, 1e-3 * (1.0 - np.array(seen)), rtol=1e-6)


def test_mixed_precision_trains_in_bfloat16_and_keeps_float32_weights(tmp_path):
    seen = {}
    for amp in ("on", "off"):
        method, seen[amp] = _make(), set()
        hook = method.network.layers[0].register_forward_hook(
            lambda module, given, out, amp=amp: seen[amp].add((module.training, out.dtype))
        )
        _train(tmp_path / amp, method, dataclasses.replace(QUICK, amp=amp))
        hook.remove()
    assert (True, torch.bfloat16) in seen["on"]
    assert (False, torch.bfloat16) not in seen["on"]  # validation is exact
    assert seen["off"] == {(True, torch.float32), (False, torch.float32)}
    method = load_method(tmp_path / "on", "cpu")
    assert all(p.dtype == torch.float32 for p in method.parameters())
    assert not _same(method, _make())


def test_divergence_is_an_error_that_says_what_to_lower(tmp_path):
    method = _make()
    with torch.no_grad():
        method.network.head.weight.fill_(float("nan"))
    with pytest.raises(InvalidArgumentError, match="outer_lr"):
        _train(tmp_path, method, iterations=20)


@pytest.mark.parametrize("wild", [3, 20])
def test_a_few_wild_batches_are_skipped_and_many_are_divergence(tmp_path, wild):
    method, calls = _make(), []
    original = method.meta_loss

    def loss(tasks, generator):
        calls.append(1)
        value, numbers = original(tasks, generator)
        return (value * float("inf") if 4 <= len(calls) < 4 + wild else value), numbers

    method.meta_loss = loss
    if wild == 3:
        assert not _same(_train(tmp_path, method, iterations=20), _make())
    else:
        with pytest.raises(InvalidArgumentError, match="diverged in iteration 14"):
            _train(tmp_path, method, iterations=30)
    assert read_config(tmp_path)["training"]["iteration"] == (20 if wild == 3 else 13)
    kept = load_method(tmp_path, "cpu")
    assert all(bool(torch.isfinite(x).all()) for x in kept.state_dict().values())


def test_a_validation_score_that_is_no_number_is_never_the_best(tmp_path, monkeypatch):
    scores = iter([math.nan, 0.5, math.inf])
    monkeypatch.setattr(
        "metagym.baselines.few_shot.train._validation_score", lambda *_: next(scores)
    )
    _train(tmp_path, config=dataclasses.replace(QUICK, patience=5), iterations=9)
    assert read_config(tmp_path)["training"]["best"] == 0.5


@pytest.mark.parametrize(
    "fields",
    [{"iterations": 0}, {"meta_batch": -1}, {"outer_lr": 0.0}, {"optimizer": "adm"},
     {"schedule": "step"}, {"patience": 0}, {"max_grad_norm": -1.0}, {"eval_tasks": 1.5}],
)  # fmt: skip
def test_bad_settings_are_named(fields):
    with pytest.raises(InvalidArgumentError, match=next(iter(fields))):
        TrainConfig(**fields)


def test_checkpoints_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(CheckpointError):
        _train(tmp_path / "none", resume=True)
    _train(tmp_path / "maml")
    with pytest.raises(CheckpointError, match="'maml', not of 'reptile'"):
        _train(tmp_path / "maml", _make("reptile"), resume=True)
    wider = make_method("maml", TASKS, hidden=(9,))
    with pytest.raises(CheckpointError, match="config"):
        _train(tmp_path / "maml", wider, resume=True)


# -- judging -----------------------------------------------------------------------------------


def test_a_result_is_of_test_tasks_and_survives_its_json():
    method = _make(test_steps=2)
    result = evaluate_few_shot(method, TASKS, count=30, seed=3, batch=8)
    assert (result.env_id, result.split, result.agent) == (TASKS.name, "test", "maml")
    assert (result.metric, result.minimize, len(result.scores)) == ("mse", True, 30)
    assert result.interval[0] < result.mean < result.interval[1]
    assert result.lengths == [5] * 30
    assert Result.from_json(result.to_json()).scores == result.scores
    again = evaluate_few_shot(method, TASKS, count=30, seed=3, batch=8)
    assert again.scores == result.scores
    more = evaluate_few_shot(method, TASKS, count=30, seed=3, batch=8, steps=0)
    assert more.scores != result.scores
    assert more.agent_config["test_steps"] == 0


def test_scores_equal_a_plain_computation_and_leave_the_mode_alone():
    method = _make().train()
    found = few_shot_scores(method, TASKS, "validation", 4, seed=7)
    assert method.training
    tasks = TASKS.sample(4, "validation", torch.Generator().manual_seed(7))
    expected = ((method.predict(tasks) - tasks.query_y) ** 2).mean((1, 2))
    np.testing.assert_allclose(found, expected.double().numpy(), rtol=1e-6)


def test_steps_for_a_method_without_steps_are_refused():
    tasks = Tasks(*(torch.zeros(1, 2, 1) for _ in range(4)))
    method = _make()
    method.predict = lambda tasks: torch.zeros_like(tasks.query_y)
    assert method.predict(tasks).shape == (1, 2, 1)
    with pytest.raises(InvalidArgumentError, match="does not adapt in steps"):
        few_shot_scores(method, TASKS, "test", 2, steps=3)


def test_a_batch_larger_than_memory_says_what_to_lower():
    message = "a meta_batch of 9 tasks; lower it"
    with (
        pytest.raises(InvalidArgumentError, match=message),
        memory_hint("a meta_batch of 9 tasks"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(InvalidArgumentError, match="lower it"), memory_hint("the batch"):
        torch.empty(2**50)
    with pytest.raises(RuntimeError, match="something else"), memory_hint("the batch"):
        raise RuntimeError("something else")


# -- the command line's face -------------------------------------------------------------------


def test_the_face_trains_by_names_and_its_config_is_flat(tmp_path):
    face = Face("maml")
    config = face.Config(hidden=(8,), iterations=3, meta_batch=2, inner_steps=2)
    assert "inner_lr" in (face.Config.__doc__ or "")
    assert "meta_batch" in (face.Config.__doc__ or "")
    out = face.train(
        "Sinusoid", tmp_path / "run", config, env_kwargs={"shots": 4}, seed=2, progress=False
    )
    saved = read_config(out)
    assert (saved["agent"], saved["env_id"], saved["env_kwargs"]) == (
        "maml", "Sinusoid", {"shots": 4},
    )  # fmt: skip
    method = face.load(out)
    assert (method.config.inner_steps, method.shape.support) == (2, 4)
    result = evaluate_checkpoint(out, "sinusoid", "validation", 5, shots=4)
    assert (len(result.scores), result.split, result.env_kwargs) == (5, "validation", {"shots": 4})
    assert result.training["iteration"] == 3
    face.train("Sinusoid", out, config, env_kwargs={"shots": 4}, seed=2, steps=5, resume=True,
               progress=False)  # fmt: skip
    assert read_config(out)["training"]["iteration"] == 5


def test_a_checkpoint_is_judged_on_the_tasks_of_its_training_but_for_what_is_given(tmp_path):
    config = Face("maml").Config(hidden=(8,), meta_batch=2)
    Face("maml").train("sinusoid", tmp_path / "run", config, steps=1, progress=False,
                       env_kwargs={"shots": 4, "queries": 3})  # fmt: skip
    for given, expected in (({}, 4), ({"shots": 2}, 2)):
        result = evaluate_checkpoint(tmp_path / "run", "SINUSOID", count=3, **given)
        assert result.env_kwargs == {"shots": expected, "queries": 3}
        assert result.lengths == [expected] * 3


def test_the_face_refuses_what_is_not_there():
    with pytest.raises(InvalidArgumentError, match="Did you mean 'maml'"):
        Face("mamll")
    with pytest.raises(InvalidArgumentError, match="sinusoid"):
        Face("maml").check("Sinusoids", {})
