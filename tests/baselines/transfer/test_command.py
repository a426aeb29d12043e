"""Deep transfer from the command line's side: train, resume, load, judge."""

import json

import numpy as np
import pytest

from metagym.baselines.transfer.command import (
    Face,
    evaluate_checkpoint,
    evaluate_domains,
    load_deep_method,
)
from metagym.baselines.transfer.deep_methods import DEEP_METHODS
from metagym.checkpoint import read_config, save_checkpoint
from metagym.errors import CheckpointError, InvalidArgumentError
from metagym.evaluation.results import Result
from metagym.tasks.domains import make_domains

KWARGS = {"examples": 60, "shift": 0.5}


def settings(name, **fields):
    return Face(name).Config(hidden=(8,), batch=8, iterations=10, **fields)


@pytest.fixture
def trained(tmp_path):
    face = Face("dann")
    face.check("Gaussians", KWARGS)
    return face.train(
        "Gaussians", tmp_path / "run", settings("dann"), env_kwargs=KWARGS, progress=False
    )


def test_train_resume_and_judge(trained):
    assert read_config(trained)["env_kwargs"] == KWARGS
    face = Face("dann")
    again = {"resume": True, "env_kwargs": KWARGS, "progress": False}
    face.train("Gaussians", trained, settings("dann"), **again)
    assert read_config(trained)["training"]["iterations"] == 10
    with pytest.raises(CheckpointError, match="laid out for 10 iterations, not 15"):
        face.train("Gaussians", trained, settings("dann"), steps=15, **again)
    result = evaluate_checkpoint(trained, "gaussians", seed=3)
    pair = make_domains("gaussians", **KWARGS)  # the arguments of training are the default
    right = face.load(trained).predict(pair.X_test) == pair.y_test
    assert result.scores == right.astype(float).tolist()
    assert result.mean == right.mean() and result.interval[0] <= result.mean <= result.interval[1]
    assert (result.metric, result.minimize, result.privileged) == ("accuracy", False, False)
    assert result.lengths == [20] * 60 and result.env_kwargs == KWARGS
    assert Result.from_json(result.to_json()).scores == result.scores
    assert evaluate_checkpoint(trained, "gaussians", count=7).scores == result.scores[:7]
    train = evaluate_checkpoint(trained, "gaussians", "train")
    assert train.mean == np.mean(face.load(trained).predict(pair.Xt) == pair.yt_all)
    other = evaluate_checkpoint(trained, "gaussians", shift=4.0)
    assert other.env_kwargs["shift"] == 4.0 and other.scores != result.scores
    with pytest.raises(InvalidArgumentError, match="validation"):
        evaluate_checkpoint(trained, "gaussians", "validation")


@pytest.mark.parametrize("name", ["importance_weighted", "transfer_fine_tuning", "l2_sp"])
def test_steps_are_those_of_all_phases(name, tmp_path):
    face, config = Face(name), settings(name, pretraining=6)
    given = {"env_kwargs": KWARGS, "progress": False}
    face.train("gaussians", tmp_path / "run", config, steps=10, **given)
    saved = read_config(tmp_path / "run")
    assert saved["training"]["iterations"] == 10 and saved["config"]["iterations"] == 4
    assert face.load(tmp_path / "run").training_["finished"]
    with pytest.raises(InvalidArgumentError, match="steps=6 leaves none after 6 of pretraining"):
        face.train("gaussians", tmp_path / "none", config, steps=6, **given)
    assert not (tmp_path / "none").exists()


def test_anything_that_predicts_is_judged():
    class Always:
        def predict(self, X):
            return np.zeros(len(X), dtype=int)

    pair = make_domains("gaussians", shots=0)
    result = evaluate_domains(Always(), pair, label="always 0", privileged=True, config={"a": 1})
    assert result.mean == np.mean(pair.y_test == 0) and set(result.lengths) == {0}
    assert (result.agent, result.privileged, result.agent_config) == ("always 0", True, {"a": 1})


@pytest.mark.parametrize("name", DEEP_METHODS)
def test_every_method_has_a_face(name):
    face = Face(name)
    assert isinstance(face.recipe("moons"), face.Config)
    text = face.Config.__doc__
    for field in face.Config.__dataclass_fields__:  # the command prints them
        described = any(f"{field}:" in (kind.__doc__ or "") for kind in face.Config.__mro__)
        assert described, f"{field} is not described in {text}"


def test_what_is_wrong_is_said_before_training():
    with pytest.raises(InvalidArgumentError, match="no argument 'shfit'"):
        Face("dann").check("gaussians", {"shfit": 1.0})
    with pytest.raises(InvalidArgumentError, match="shots=0"):
        Face("transfer_joint").check("gaussians", {"shots": 0})
    Face("dann").check("gaussians", {"shots": 0})
    with pytest.raises(InvalidArgumentError, match="source_only"):
        Face("source")


def test_other_and_damaged_checkpoints(trained, tmp_path):
    other = tmp_path / "other"
    save_checkpoint(other, {"agent": "ppo", "env_id": "X-v0", "env_kwargs": {}}, {})
    with pytest.raises(CheckpointError, match="no deep transfer method"):
        load_deep_method(other)
    config = json.loads((trained / "config.json").read_text())
    config["config"]["hidden"] = [9]
    (trained / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="does not describe"):
        load_deep_method(trained)
