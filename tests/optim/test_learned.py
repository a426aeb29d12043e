"""Checkpoints as update rules: found by name or folder, refused when they are something else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metagym.checkpoint import save_checkpoint
from metagym.errors import CheckpointError
from metagym.optim import GainRule, learned, load_rule

CONFIG = {"agent": "ppo", "env_id": "LearnToOptimize-v0", "env_kwargs": {}}


def save(folder: Path, inputs: int = 20, **more: Any) -> Path:
    weights = {
        "actor.0.weight": np.full((2, inputs), 0.01, np.float32),
        "actor.0.bias": np.array([0.1, -0.2], np.float32),
        "log_std": np.zeros(2, np.float32),
    }
    return save_checkpoint(folder, {**CONFIG, **more}, weights)


def test_a_folder_becomes_a_rule(tmp_path: Path) -> None:
    rule = load_rule(save(tmp_path / "mine", rule={"per": "problem", "memory": 0.9}))
    assert isinstance(rule, GainRule) and rule.memory == 0.9
    assert rule.config["checkpoint"] == "mine"
    assert rule.policy is not None
    np.testing.assert_allclose(rule.policy(np.ones((1, 20))), [[0.3, 0.0]], atol=1e-6)
    json.dumps(rule.config)


def test_a_checkpoint_of_training_becomes_a_rule(checkpoint: Path) -> None:
    rule = load_rule(checkpoint)
    assert rule.config["per"] == checkpoint.name
    loss, gradient = np.ones(4), np.ones((4, 7))  # trained in two dimensions, used in seven
    assert rule.update(loss, gradient, np.zeros((4, 7))).shape == (4, 7)


def test_shipped_policies_are_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "quadratics", rule={"per": "problem"})
    save(tmp_path / "networks", rule={"per": "problem"})
    (tmp_path / "notes").mkdir()
    monkeypatch.setattr(learned, "PRETRAINED", tmp_path)
    assert learned.pretrained_names() == ["networks", "quadratics"]
    assert load_rule().config["checkpoint"] == "quadratics"
    assert load_rule("networks").config["checkpoint"] == "networks"
    with pytest.raises(CheckpointError, match="Did you mean 'quadratics'"):
        load_rule("quadratic")
    # A folder of that name that is no checkpoint does not hide the shipped one.
    monkeypatch.chdir(tmp_path / "notes")
    (tmp_path / "notes" / "networks").mkdir()
    assert load_rule("networks").config["checkpoint"] == "networks"
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        load_rule(tmp_path / "notes")


def test_without_shipped_policies_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learned, "PRETRAINED", tmp_path / "missing")
    with pytest.raises(CheckpointError, match="none"):
        load_rule()


def test_every_shipped_policy_loads() -> None:
    for name in learned.pretrained_names():
        assert load_rule(name).policy is not None, name


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "not an update rule"),
        ({"rule": None}, "not an update rule"),
        ({"rule": {"per": "problem", "depth": 3}}, "depth"),
        ({"rule": {"per": "row"}}, "row"),
        ({"rule": {"per": "coordinate"}}, "takes 20 features, the rule gives 25"),
    ],
)
def test_what_is_no_rule_is_refused(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_rule(save(tmp_path, **more))


def test_a_rule_loads_without_torch(tmp_path: Path) -> None:
    save(tmp_path, rule={"per": "problem"})
    code = (
        "import sys; from metagym.optim import load_rule; load_rule(sys.argv[1]); "
        "assert 'torch' not in sys.modules and 'stable_baselines3' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
