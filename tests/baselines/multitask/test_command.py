"""Multi-task networks by name: flat settings, a run with its twins, judging a checkpoint."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import r2_score

from metagym.baselines.multitask.architectures import ARCHITECTURES
from metagym.baselines.multitask.command import Face, evaluate_checkpoint
from metagym.baselines.multitask.saving import PREFIX, load_learner
from metagym.baselines.multitask.train import TrainConfig
from metagym.checkpoint import read_config
from metagym.errors import CheckpointError, InvalidArgumentError
from metagym.evaluation.results import Result
from metagym.tasks.multitask import make_task_set


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_settings_are_flat_with_the_defaults_of_their_parts(name):
    face = Face(PREFIX + name)
    config = face.Config()
    for field in dataclasses.fields(TrainConfig):
        assert getattr(config, field.name) == field.default
    assert config.weighting == "uniform"
    names = [field.name for field in dataclasses.fields(config)]
    described = [line.split(":")[0].strip() for line in face.Config.__doc__.splitlines()]
    assert [field for field in names if not any(field in text for text in described)] == []


def test_a_run_by_names_with_its_twins(tmp_path, capsys):
    face = Face("multitask_hard")
    config = face.Config(widths=(8,), weighting="pcgrad", eval_every=5, device="cpu")
    out, kwargs = tmp_path / "run", {"train": 20}
    face.train("mixed", out, config, steps=6, env_kwargs=kwargs, seed=2, progress=True)
    assert "breast cancer (accuracy)" in capsys.readouterr().out
    saved = read_config(out)
    assert (saved["agent"], saved["env_id"], saved["env_kwargs"]) == (
        "multitask_hard", "mixed", kwargs,
    )  # fmt: skip
    assert saved["config"]["weighting"] == "pcgrad"
    for number, name in enumerate(["breast cancer", "diabetes"]):
        folder = out / "twins" / f"task{number}"
        twin = load_learner(folder, "cpu")
        assert (twin.names, twin.architecture.config.widths) == ((name,), (8,))
        assert read_config(folder)["training"]["step"] == 6
    results = [Result.from_values(x) for x in json.loads((out / "gains.json").read_text())]
    assert [result.env_kwargs["task"] for result in results] == ["breast cancer", "diabetes"]
    assert {result.seed for result in results} == {2}
    # On from there: both go on.
    face.train("mixed", out, config, steps=9, env_kwargs=kwargs, seed=2, resume=True,
               progress=False)  # fmt: skip
    assert read_config(out)["training"]["step"] == 9
    assert read_config(out / "twins" / "task1")["training"]["step"] == 9

    result = evaluate_checkpoint(out, "Mixed")
    assert result.env_kwargs == kwargs
    assert result.extras["task"] == ["breast cancer", "diabetes"]
    learner = face.load(out)
    assert result.scores == list(learner.score(make_task_set("mixed").test).values())
    assert result.metric == "accuracy or R²"
    assert Result.from_json(result.to_json()) == result


def test_a_run_without_twins(tmp_path):
    face = Face("multitask_soft")
    config = face.Config(twins=False, strength=0.5, device="cpu")
    face.train("related", tmp_path, config, steps=2, env_kwargs={"tasks": 2}, progress=False)
    assert not (tmp_path / "twins").exists()
    assert face.load(tmp_path).architecture.config.strength == 0.5


def test_a_network_of_several_sources_is_judged_with_one_missing(tmp_path):
    face = Face("multitask_multi_source")
    config = face.Config(twins=False, device="cpu", sources=(30, 10))
    face.train("mixed", tmp_path, config, steps=2, progress=False)
    whole = evaluate_checkpoint(tmp_path, "mixed")
    parted = evaluate_checkpoint(tmp_path, "mixed", present=[True, False])
    assert parted.env_kwargs == {"present": [True, False]}
    # Diabetes fills the columns of the second source: without it all its answers are the same.
    answer = face.load(tmp_path).predict("diabetes", np.zeros((1, 40)), [True, False])
    test = make_task_set("mixed").test[1].y
    assert parted.scores[1] == pytest.approx(r2_score(test, np.full(len(test), answer[0])))
    assert parted.scores != whole.scores


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidArgumentError, match="Did you mean 'hard'"):
        Face("multitask_hart")
    face = Face("multitask_hard")
    with pytest.raises(InvalidArgumentError, match="digits_three"):
        face.check("digits_thre", {})
    with pytest.raises(InvalidArgumentError, match="align"):
        face.check("mixed", {"alin": "blocks"})
    with pytest.raises(CheckpointError, match="no checkpoint"):
        evaluate_checkpoint(tmp_path / "nothing", "mixed")
    face.train("mixed", tmp_path / "run", face.Config(twins=False, device="cpu"), steps=1,
               progress=False)  # fmt: skip
    with pytest.raises(InvalidArgumentError, match="split"):
        evaluate_checkpoint(tmp_path / "run", "mixed", "tests")
    with pytest.raises(InvalidArgumentError, match="'hard' takes no present"):
        evaluate_checkpoint(tmp_path / "run", "mixed", present=[True, False])
    with pytest.raises(InvalidArgumentError, match="task="):
        evaluate_checkpoint(tmp_path / "run", "digits_three")
