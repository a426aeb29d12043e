"""Every registered id and its variants: Gymnasium's check, our vector check, the docstrings."""

from __future__ import annotations

import importlib
import inspect
import re
import warnings
from enum import Enum

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import metagym  # noqa: F401
from metagym.evaluation import check_vector_env
from metagym.registration import ENVIRONMENTS

IDS = [row.id for row in ENVIRONMENTS]
CLASSES = sorted({row.entry_point for row in ENVIRONMENTS})
VARIANTS = [
    *[("LearnToOptimize-v0", kwargs) for kwargs in (
        {"reward": "log_improvement"}, {"dtype": "float64"}, {"noise": 0.1}, {"dim": 1},
        {"history": 1}, {"action_scale": 1.0}, {"split": "test"},
        {"problem_kwargs": {"variant": "uniform"}},
    )],
    *[("LearningRateControl-v0", kwargs) for kwargs in (
        {"reward": "log_improvement"}, {"dtype": "float64"}, {"noise": 0.1}, {"dim": 1},
        {"optimizer": "adam"}, {"observation": "summary"}, {"lr_range": (1e-6, 1e-2)},
        {"optimizer": "adam", "observation": "summary", "dtype": "float64"},
    )],
    *[("BlackBoxOptimize-v0", kwargs) for kwargs in (
        {"reward": "observed_improvement"}, {"dtype": "float64"}, {"noise": 0.1}, {"dim": 1},
        {"problem": "quadratic"}, {"problem": "softmax", "problem_kwargs": {"dataset": "wine"}},
    )],
    *[("MetaBandit-v0", kwargs) for kwargs in (
        {"k": 1}, {"arms": "gaussian", "noise": 0.1}, {"alpha": 0.5, "beta": 2.0},
    )],
    *[("MetaMaze-v0", kwargs) for kwargs in ({"observation": "image"}, {"size": 3})],
    *[("NeuralArchitectureSearch-v0", kwargs) for kwargs in (
        {"evaluator_kwargs": {"epochs": 1}}, {"split": "test"}, {"reward": "rarity"},
    )],
    *[("ArchitectureSearchTrial-v0", {"n": 2, **kwargs}) for kwargs in (
        {"reward": "rarity", "scores": "rank"}, {"reward": "validation"}, {"scores": "rank"},
        {"budget_seconds": 1.0, "free_duplicates": True},
    )],
]  # fmt: skip

HEADINGS = [
    "Description",
    "Action Space",
    "Observation Space",
    "Rewards",
    "Starting State",
    "Task Distribution",
    "Episode End",
    "Information",
    "Arguments",
    "Registered Configurations",
    "References",
    "Version History",
]


@pytest.mark.parametrize(
    ("env_id", "kwargs"), [*((i, {}) for i in IDS), *VARIANTS], ids=lambda v: str(v)
)
def test_passes_gymnasiums_check_without_a_warning(env_id, kwargs):
    env = gym.make(env_id, **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Rendering has tests of its own; here it would cost a figure per id.
        check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        *((i, {}) for i in IDS if "Net-" not in i and "MLP" not in i),
        *((i, kwargs) for i, kwargs in VARIANTS if "split" not in kwargs),
    ],
    ids=lambda v: str(v),
)
def test_passes_our_vector_check(env_id, kwargs, short, skipped_rules):
    kwargs = {**short(env_id), **kwargs}
    env = gym.make_vec(env_id, num_envs=3, **kwargs)
    check_vector_env(
        env, steps=30, make_single=lambda: gym.make(env_id, **kwargs).unwrapped,
        skip=skipped_rules(env_id),
    )  # fmt: skip


@pytest.mark.parametrize("env_id", IDS)
def test_every_episode_ends_with_finite_values_inside_the_spaces(env_id, short):
    env = gym.make(env_id, **short(env_id))
    env.action_space.seed(0)
    observation, info = env.reset(seed=0)
    steps, terminated, truncated = 0, False, False
    while not (terminated or truncated):
        assert steps < 10
        assert env.observation_space.contains(observation)
        action = env.action_space.sample(info.get("action_mask"))
        if isinstance(env.action_space, gym.spaces.Box):
            action *= np.float32(0.01)
        observation, reward, terminated, truncated, info = env.step(action)
        assert np.isfinite(reward)
        steps += 1
    assert steps == 9 or "Search" in env_id
    assert env.observation_space.contains(observation)
    assert np.isfinite(info["score"])
    # A horizon cuts an endless process; queries, pulls and inner episodes are what the task is.
    assert terminated == (env_id.startswith(("BlackBox", "Meta")) or "Search" in env_id)


def _batched(entry_point):
    module, name = entry_point.split(":")
    return getattr(importlib.import_module(module), name).batched


def _sections(cls):
    text = inspect.cleandoc(cls.__doc__)
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _rows(section):
    """The cells of a markdown table's rows, its header and rule left out."""
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


@pytest.mark.parametrize("entry_point", CLASSES)
def test_docstring_has_the_headings_in_order(entry_point):
    sections = _sections(_batched(entry_point))
    assert list(sections) == HEADINGS
    assert all(text.strip() for text in sections.values())
    assert re.findall(r"^### (.+)$", sections["Episode End"], re.MULTILINE) == [
        "Termination",
        "Truncation",
    ]


@pytest.mark.parametrize("entry_point", CLASSES)
def test_docstring_tells_every_argument_and_its_default(entry_point):
    cls = _batched(entry_point)
    told = {row[0].strip("`"): row[2].strip("`") for row in _rows(_sections(cls)["Arguments"])}
    parameters = inspect.signature(cls.__init__).parameters
    expected = {
        name: str(p.default) if isinstance(p.default, Enum) else repr(p.default).replace("'", '"')
        for name, p in parameters.items()
        if name != "self" and p.kind is not p.VAR_KEYWORD
    }
    assert told == expected


@pytest.mark.parametrize("entry_point", CLASSES)
def test_docstring_lists_every_id_of_the_class(entry_point):
    rows = _rows(_sections(_batched(entry_point))["Registered Configurations"])
    told = [row[0].strip("`") for row in rows]
    assert told == [row.id for row in ENVIRONMENTS if row.entry_point == entry_point]


@pytest.mark.parametrize("env_id", IDS)
def test_docstring_shape_is_the_observation_spaces(env_id):
    env = gym.make(env_id).unwrapped
    if env_id.startswith(("Meta", "ArchitectureSearchTrial")):
        assert env.observation_space.shape == (env.layout.size,)
        return
    if "Search" in env_id:
        assert env.observation_space.shape == (env.space.length + 1,)
        assert set(env.observation_space.nvec) == {len(env.space.vocabulary) + 2}
        return
    d, k = env.problem.dim, env.action_space.shape[0]
    width = {
        "LearnToOptimizeEnv": 1 + 2 * d,
        "BlackBoxOptimizeEnv": d + 2,
        "LearningRateControlEnv": (
            4 + k if getattr(env, "observation", "") == "summary" else 1 + 2 * d + k
        ),
    }[type(env).__name__]
    assert env.observation_space.shape == (env.history * width,)
