"""experiments/linear_multitask.py in miniature: its gains are what they say, work is not redone."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from metagym.baselines.multitask.data import TaskData
from metagym.baselines.multitask.linear import MultiTaskClassifier, MultiTaskRegressor
from metagym.baselines.multitask.stacked import stack_tasks
from metagym.errors import InvalidArgumentError

FOLDER = Path(__file__).parent.parent / "experiments"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("linear_mtl", FOLDER / "linear_multitask.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_sharing_helps_the_same_task_and_hurts_unrelated_ones(
    script, tmp_path, capsys, monkeypatch
):
    config = script.Config(
        out=tmp_path, similarities=(0.0, 1.0), digits=(4,), methods=("pooled",), seeds=(0, 1)
    )
    scores = script.main(config)
    assert scores["regression 1"]["pooled"].shape == (2, 6)
    assert scores["digits 4"]["pooled"].shape == (2, 10)
    for kind in ("regression", "binary"):
        gains = [
            (scores[f"{kind} {s}"]["pooled"] - scores[f"{kind} {s}"][script.TWIN]).mean()
            for s in (0, 1)
        ]
        assert gains[0] < 0.0 < gains[1]
    printed = capsys.readouterr().out
    assert "| regression, by cosine | 0 | 1 |" in printed
    stored = json.loads((tmp_path / "results.json").read_text())["scores"]
    np.testing.assert_array_equal(stored["digits 4"]["pooled"], scores["digits 4"]["pooled"])
    assert (tmp_path / "table.md").read_text().strip() in printed
    assert (tmp_path / "linear_multitask.png").stat().st_size > 10_000

    monkeypatch.setattr(script, "judged", None)  # nothing is left to do
    again = script.main(config)
    np.testing.assert_array_equal(again["binary 0"]["pooled"], scores["binary 0"]["pooled"])


def test_measures(script):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 3))
    tasks = [
        TaskData("a", "regression", x[:10], x[:10, 0]),
        TaskData("b", "regression", x, x[:, 1] + rng.normal(size=30)),
    ]
    model = MultiTaskRegressor("none", ridge=0.1).fit(*stack_tasks(tasks))
    for m, task in enumerate(tasks):
        answer = task.x @ model.coef_[m] + model.intercept_[m]
        error = ((answer - task.y) ** 2).mean()
        assert script.measured(model, tasks, loss=True)[m] == pytest.approx(error, rel=1e-4)
        r2 = 1 - error / task.y.var()
        assert script.measured(model, tasks, loss=False)[m] == pytest.approx(r2, rel=1e-4)
    classes = [TaskData(task.name, "binary", task.x, task.y > 0) for task in tasks]
    model = MultiTaskClassifier("mean", ridge=0.1).fit(*stack_tasks(classes))
    for m, task in enumerate(classes):
        p = 1 / (1 + np.exp(-(task.x @ model.coef_[m] + model.intercept_[m])))
        loss = -np.log(np.where(task.y == 1, p, 1 - p)).mean()
        assert script.measured(model, classes, loss=True)[m] == pytest.approx(loss, rel=1e-4)
        right = ((p > 0.5) == task.y).mean()
        assert script.measured(model, classes, loss=False)[m] == pytest.approx(right)


def test_all_methods_have_candidates_and_others_are_named(script):
    for method in (script.TWIN, *script.Config().methods):
        for classify in (False, True):
            models = script.candidates(method, classify)
            kinds = {hasattr(model, "predict_proba") for model in models}
            assert kinds == {classify}
    with pytest.raises(InvalidArgumentError, match="'relationship'"):
        script.candidates("relation", False)


def test_digits_are_divided(script):
    train, validation, test = script.digits(6, 0)
    assert len(train) == len(validation) == len(test) == 10
    for one, other in zip(train, validation, strict=True):
        assert one.y.sum() == other.y.sum() == 3
        assert len(one.y) == len(other.y) == 6
        assert not {row.tobytes() for row in one.x} & {row.tobytes() for row in other.x}
