"""Runs that are written: resumed bit for bit, saved by Ctrl-C, refused where they do not fit."""

import numpy as np
import pytest
import torch

from metagym.baselines.transfer.command import load_deep_method
from metagym.baselines.transfer.deep_controls import SourceOnly
from metagym.baselines.transfer.deep_methods import make_deep_method
from metagym.checkpoint import load_checkpoint
from metagym.errors import CheckpointError, InvalidArgumentError
from metagym.monitoring import read_scalars
from metagym.tasks.domains import gaussians

SMALL = {"hidden": (8,), "batch": 8, "iterations": 20, "save_every": 7, "log_every": 5}


@pytest.fixture(scope="module")
def pair():
    return gaussians(examples=60)


def run(name, pair, out, resume=False, **fields):
    method = make_deep_method(name, device="cpu", out=out, resume=resume, **{**SMALL, **fields})
    return method.fit(pair.X, pair.y, pair.Xt, pair.yt)


def interrupt_at(monkeypatch, call):
    """Ctrl-C in the middle of gradient step ``call``, whichever method trains."""
    counted = iter(range(10_000))
    step = torch.optim.Optimizer.zero_grad

    def zero_grad(self, *args, **kwargs):
        if next(counted) == call:
            raise KeyboardInterrupt
        step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", zero_grad)


PHASED = {"pretraining": 15}


@pytest.mark.parametrize(
    ("name", "fields", "at"),
    [
        ("dann", {}, 13),
        ("deep_coral", {"schedule": "cosine"}, 6),
        ("transfer_fine_tuning", PHASED, 9),  # in the first phase
        ("transfer_fine_tuning", {**PHASED, "tuned_layers": 1}, 15),  # between the two
        ("l2_sp", {**PHASED, "new_head": True}, 27),  # in the second
        ("importance_weighted", PHASED, 21),
        ("source_only", {}, 0),  # before anything
    ],
)
def test_resumed_is_uninterrupted(name, fields, at, pair, tmp_path, monkeypatch):
    whole = run(name, pair, tmp_path / "whole", **fields)
    with monkeypatch.context() as patch:
        interrupt_at(patch, at)
        with pytest.raises(KeyboardInterrupt):
            run(name, pair, tmp_path / "parts", **fields)
    assert load_checkpoint(tmp_path / "parts").config["training"]["iterations"] == at
    with monkeypatch.context() as patch:  # and once more, before it has made a step
        interrupt_at(patch, 0)
        with pytest.raises(KeyboardInterrupt):
            run(name, pair, tmp_path / "parts", resume=True, **fields)
    resumed = run(name, pair, tmp_path / "parts", resume=True, **fields)
    for key, value in whole.model_.state_dict().items():
        assert torch.equal(value, resumed.model_.state_dict()[key]), key
    assert (
        resumed.training_["finished"]
        and resumed.training_["iterations"] == (whole.training_["iterations"])
    )


def test_a_finished_run_is_only_loaded(pair, tmp_path, monkeypatch):
    whole = run("dann", pair, tmp_path)
    interrupt_at(monkeypatch, 0)  # would be raised by the first step
    again = run("dann", pair, tmp_path, resume=True)
    np.testing.assert_array_equal(again.predict_proba(pair.X), whole.predict_proba(pair.X))


def test_more_iterations_go_on_where_nothing_depends_on_their_number(pair, tmp_path, monkeypatch):
    """What comes out is what so many from the start would have given."""
    name, steady = "transfer_fine_tuning", {**PHASED, "schedule": "constant"}
    run(name, pair, tmp_path / "steady", **steady)
    more = run(name, pair, tmp_path / "steady", True, **steady, iterations=25)
    assert more.training_["iterations"] == 40
    whole = run(name, pair, None, **steady, iterations=25)
    np.testing.assert_array_equal(more.predict_proba(pair.X), whole.predict_proba(pair.X))
    # A phase that has not begun may have any length.
    with monkeypatch.context() as patch:
        interrupt_at(patch, 9)
        with pytest.raises(KeyboardInterrupt):
            run(name, pair, tmp_path / "first", **PHASED)
    more = run(name, pair, tmp_path / "first", True, **PHASED, iterations=25)
    whole = run(name, pair, None, **PHASED, iterations=25)
    np.testing.assert_array_equal(more.predict_proba(pair.X), whole.predict_proba(pair.X))


@pytest.mark.parametrize(
    ("name", "fields", "change", "said"),
    [
        ("source_only", {}, {"iterations": 30}, "laid out for 20 iterations, not 30"),
        ("dann", {"schedule": "constant"}, {"iterations": 30}, "laid out for 20"),
        ("source_only", {"schedule": "constant"}, {"iterations": 19}, "has done 20 iterations"),
        ("transfer_fine_tuning", PHASED, {"pretraining": 16}, "pretraining was 15, not 16"),
        ("source_only", {}, {"optimizer": "sgd"}, "optimizer was 'adam', not 'sgd'"),
        ("dann", {}, {"hidden": (9,), "gamma": 5.0}, "hidden was .*; gamma was 10.0, not 5.0"),
        ("source_only", {}, {"seed": 1}, "seed was 0, not 1"),
    ],
)
def test_other_settings_are_refused(name, fields, change, said, pair, tmp_path):
    run(name, pair, tmp_path, **fields)
    run(name, pair, tmp_path, True, **fields, log_every=1, save_every=1)
    with pytest.raises(CheckpointError, match=said):
        run(name, pair, tmp_path, True, **{**fields, **change})


def test_other_weights_of_examples_are_refused(pair, tmp_path):
    def fit(weights, resume=True):
        method = make_deep_method("importance_weighted", device="cpu", out=tmp_path, resume=resume,
                                  **SMALL)  # fmt: skip
        return method.fit(pair.X, pair.y, pair.Xt, sample_weight=weights)

    first = np.linspace(0.0, 2.0, len(pair.X))
    fit(first, resume=False)
    np.testing.assert_allclose(fit(first).weights_, first, atol=1e-6)
    with pytest.raises(CheckpointError, match="other data"):
        fit(first[::-1])
    with pytest.raises(CheckpointError, match="other data"):
        fit(None)


def test_writing_changes_nothing(pair, tmp_path):
    written = run("dann", pair, tmp_path / "run")
    silent = run("dann", pair, None)
    np.testing.assert_array_equal(written.predict_proba(pair.X), silent.predict_proba(pair.X))
    charts = read_scalars(tmp_path / "run")
    assert {"train/source_loss", "train/domain_loss", "train/learning_rate"} <= set(charts)
    assert [step for step, _ in charts["train/loss"]] == [5, 10, 15, 20]


@pytest.mark.parametrize("labels", [np.array(["a", "b", "c", "d"]), np.array([1.0, 2.0, 8.0, 9.0])])
def test_loaded_is_what_was_saved(labels, pair, tmp_path):
    method = make_deep_method("dann", out=tmp_path, device="cpu", **SMALL)
    method.fit(pair.X, labels[pair.y], pair.Xt)
    loaded = load_deep_method(tmp_path, "cpu")
    np.testing.assert_array_equal(loaded.predict(pair.Xt), method.predict(pair.Xt))
    np.testing.assert_array_equal(loaded.predict_proba(pair.Xt), method.predict_proba(pair.Xt))
    assert loaded.settings == method.settings and loaded.classes_.dtype == labels.dtype


def test_what_does_not_fit_is_refused(pair, tmp_path):
    with pytest.raises(CheckpointError):  # nothing is there
        run("dann", pair, tmp_path / "none", resume=True)
    run("dann", pair, tmp_path / "run")
    with pytest.raises(InvalidArgumentError, match="exists"):
        run("dann", pair, tmp_path / "run")
    with pytest.raises(CheckpointError, match="other data"):
        run("dann", gaussians(examples=60, seed=1), tmp_path / "run", resume=True)
    with pytest.raises(CheckpointError, match="not of 'deep_coral'"):
        run("deep_coral", pair, tmp_path / "run", resume=True)


def test_seconds_stop_and_a_resume_goes_on(pair, tmp_path):
    def train(seconds, resume):
        method = make_deep_method("source_only", device="cpu", out=tmp_path, resume=resume, **SMALL)
        return method.fit_named(pair.X, pair.y, pair.Xt, seconds=seconds)

    stopped = train(1e-9, False)
    assert stopped.training_["iterations"] == 0 and not stopped.training_["finished"]
    assert train(None, True).training_["finished"]
    assert isinstance(stopped, SourceOnly)


def test_divergence_leaves_weights_that_are_numbers(pair, tmp_path):
    method = make_deep_method(
        "source_only", device="cpu", out=tmp_path, **{**SMALL, "rate": 1e30, "log_every": 10**6}
    )
    with pytest.raises(InvalidArgumentError, match="diverged"):
        method.fit(pair.X, pair.y, Xt=pair.Xt)
    weights = load_checkpoint(tmp_path).weights
    assert all(np.isfinite(value).all() for value in weights.values())
