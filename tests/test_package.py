"""The package as a newcomer meets it: what an import loads, what is installed, what ids say."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import gymnasium as gym
import pytest

import metagym
from metagym.errors import InvalidArgumentError
from metagym.registration import ENVIRONMENTS, register_environments

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "sklearn", "scipy", "stable_baselines3", "matplotlib", "tensorboard", "tyro")


def run(code: str) -> str:
    """What a fresh interpreter, started away from the repository, prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tempfile.gettempdir(),
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_nothing_heavy() -> None:
    code = f"import sys, metagym; print([name for name in {HEAVY} if name in sys.modules])"
    assert run(code) == "[]"


@pytest.mark.parametrize(
    "package",
    [
        "tasks",
        "problems",
        "optim",
        "baselines.few_shot",
        "baselines.learned_optimizers",
        "baselines.multitask",
        "baselines.transfer",
    ],
)
def test_every_name_that_loads_late_is_there(package: str) -> None:
    module = importlib.import_module(f"metagym.{package}")
    assert all(getattr(module, name).__name__ == name for name in module._LAZY)
    with pytest.raises(AttributeError, match=f"{module.__name__}.*nonsense"):
        _ = module.nonsense


def test_make_by_module_and_id_needs_no_import_and_nothing_heavy() -> None:
    code = (
        "import sys, gymnasium as gym\n"
        "env = gym.make('metagym:LearnToOptimize-v0')\n"
        "observation, _ = env.reset(seed=0)\n"
        f"heavy = [name for name in {HEAVY} if name in sys.modules]\n"
        "print(env.observation_space.contains(observation), heavy)"
    )
    assert run(code) == "True []"


def test_packages_on_disk_equal_the_list_in_pyproject() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    on_disk = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "metagym").rglob("__init__.py")
    }
    on_disk |= {
        name
        for name, folder in setuptools["package-dir"].items()
        if (ROOT / folder / "__init__.py").is_file()
    }
    assert sorted(setuptools["packages"]) == sorted(on_disk)


def test_every_module_lies_in_a_package() -> None:
    folders = {path.parent for path in (ROOT / "metagym").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


@pytest.mark.parametrize("row", ENVIRONMENTS, ids=lambda row: row.id)
def test_every_id_can_be_made_single_and_batched(row: metagym.registration.Registration) -> None:
    env = gym.make(row.id)
    assert env.spec is not None and env.spec.id == row.id
    batch = gym.make_vec(row.id, num_envs=2)
    assert batch.num_envs == 2
    assert batch.single_observation_space == env.observation_space
    assert batch.single_action_space == env.action_space
    assert row.summary and "\n" not in row.summary
    env.close()
    batch.close()


def test_ids_are_unique_and_registering_twice_changes_nothing() -> None:
    ids = [row.id for row in ENVIRONMENTS]
    assert len(set(ids)) == len(ids)
    before = {name: gym.registry[name] for name in ids}
    register_environments()
    assert all(gym.registry[name] is spec for name, spec in before.items())


def test_a_wrong_id_names_the_nearest() -> None:
    with pytest.raises(gym.error.NameNotFound, match="Did you mean: `LearnToOptimize`"):
        gym.make("LearnToOptimise-v0")


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_a_wrong_argument_names_the_nearest(make) -> None:
    with pytest.raises(InvalidArgumentError, match=r"'horizn'. Did you mean 'horizon'"):
        make("LearnToOptimize-v0", horizn=3)


@pytest.mark.filterwarnings("ignore:.*render_mode")
@pytest.mark.parametrize(
    "kwargs",
    [
        {"horizon": 0},
        {"dim": -1},
        {"history": 2.5},
        {"problem": "quadratc"},
        {"reward": "loss"},
        {"split": "tst"},
        {"dtype": "banana"},
        {"noise": -1.0},
        {"noise": "much"},
        {"action_scale": 0.0},
        {"action_scale": "x"},
        {"render_mode": "ansi"},
        {"num_envs": 3},
        {"autoreset_mode": "SameStep"},
    ],
    ids=lambda kwargs: "-".join(map(str, *kwargs.items())),
)
def test_a_bad_argument_of_a_single_environment_is_a_typed_error_in_one_line(kwargs) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        gym.make("LearnToOptimize-v0", **kwargs)
    message = str(caught.value)
    assert next(iter(kwargs)) in message
    assert "\n" not in message
    # It never suggests what was written.
    assert f"Did you mean {next(iter(kwargs))!r}" not in message


def test_a_bad_autoreset_mode_lists_the_choices() -> None:
    with pytest.raises(InvalidArgumentError, match="'NextStep', 'SameStep', 'Disabled'"):
        gym.make_vec("LearnToOptimize-v0", autoreset_mode="Never")
