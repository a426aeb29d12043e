"""Checkpoints: what is saved comes back, and every kind of damage has its typed error."""

from __future__ import annotations

import json

import numpy as np
import pytest

from metagym.checkpoint import load_checkpoint, read_config, save_checkpoint
from metagym.errors import CheckpointError

CONFIG = {"agent": "toy", "env_id": "LearnToOptimize-v0", "env_kwargs": {"dim": 3}, "lr": 0.1}
WEIGHTS = {
    "gains": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 4), np.int64),
}


@pytest.fixture
def folder(tmp_path):
    return save_checkpoint(tmp_path / "runs" / "toy", CONFIG, WEIGHTS)


def test_config_and_weights_come_back(folder):
    checkpoint = load_checkpoint(folder, agent="toy")
    assert {key: checkpoint.config[key] for key in CONFIG} == CONFIG
    assert checkpoint.config["format"] == 1
    assert checkpoint.config["metagym_version"]
    assert set(checkpoint.weights) == set(WEIGHTS)
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(checkpoint.weights[name], array)
        assert checkpoint.weights[name].dtype == array.dtype
        assert checkpoint.weights[name].shape == array.shape


def test_training_state_resumes_a_random_generator_exactly(tmp_path):
    rng = np.random.default_rng(5)
    rng.standard_normal(3)
    extra = {
        "rng": rng.bit_generator.state,
        "moments": [np.ones(2), np.zeros((2, 2), bool)],
        "pair": (1, None),
        "step": np.int64(7),
        "rate": 1e-300,
    }
    folder = save_checkpoint(tmp_path, CONFIG, WEIGHTS, extra)
    state = load_checkpoint(folder).extra()
    other = np.random.default_rng()
    other.bit_generator.state = state["rng"]
    np.testing.assert_array_equal(other.random(100), rng.random(100))
    np.testing.assert_array_equal(state["moments"][0], np.ones(2))
    assert state["moments"][1].dtype == bool
    assert (state["pair"], state["step"], state["rate"]) == ((1, None), 7, 1e-300)


def test_what_cannot_be_stored_is_named_and_leaves_the_old_checkpoint(folder):
    for config, extra, named in [
        (CONFIG, {"a": [object()]}, r"extra\.a\.0"),
        (CONFIG | {"lr": float("nan")}, None, "JSON: lr is nan"),
        (CONFIG | {"a": {"b": [1, {2}]}}, None, r"JSON: a\.b\.1 is of type set"),
        ({"agent": "toy"}, None, "env_id"),
    ]:
        with pytest.raises(CheckpointError, match=named):
            save_checkpoint(folder, config, {}, extra)
    assert set(load_checkpoint(folder).weights) == set(WEIGHTS)


def test_saving_again_replaces_and_leaves_no_temporary_file(folder):
    save_checkpoint(folder, CONFIG | {"lr": 0.2}, {"gains": np.zeros(2)})
    assert load_checkpoint(folder).config["lr"] == 0.2
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "weights.safetensors"]


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def _edit(**changes):
    def edit(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: _truncate(folder / "config.json"), "no JSON"),
        (lambda folder: _truncate(folder / "weights.safetensors"), "damaged"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "missing"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not the config"),
        (_edit(format=99, metagym_version="9.9"), r"format 99.*install metagym 9\.9"),
        (_edit(agent=None), "'agent'"),
        (_edit(env_kwargs=3), "'env_kwargs'"),
        (_edit(files={}), "was not saved with"),
    ],
)
def test_damage_is_a_typed_error(folder, damage, message):
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_a_weights_file_that_is_no_safetensors(folder):
    import hashlib

    (folder / "weights.safetensors").write_bytes(b"not one")
    _edit(files={"weights.safetensors": hashlib.sha256(b"not one").hexdigest()})(folder)
    with pytest.raises(CheckpointError, match="no safetensors"):
        load_checkpoint(folder)


def test_missing_folder_other_agent_and_no_training_state(folder, tmp_path):
    with pytest.raises(CheckpointError, match="is no folder"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="agent 'toy', not of 'ppo'"):
        load_checkpoint(folder, agent="ppo")
    with pytest.raises(CheckpointError, match="weights only"):
        load_checkpoint(folder).extra()


def test_another_version_is_refused_and_another_environment_is_not(folder):
    assert load_checkpoint(folder, env_id="LearnToOptimizeLogistic-v0")
    assert load_checkpoint(folder, env_id="metagym:LearnToOptimize-v0")
    with pytest.raises(CheckpointError, match=r"trained on LearnToOptimize-v0.*LearnToOptimize-v1"):
        load_checkpoint(folder, env_id="LearnToOptimize-v1")
    assert read_config(folder)["env_kwargs"] == {"dim": 3}
