"""The README's Python, run as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def block(word: str) -> str:
    """The one block in which ``word`` occurs."""
    (found,) = (text for text in BLOCKS if word in text)
    return found


def run(text: str, **names: Any) -> dict[str, Any]:
    names["__name__"] = "readme"
    exec(compile(text, str(README), "exec"), names)
    return names


def test_every_block_is_run_here() -> None:
    known = (
        'problem="logistic"',
        "LearnedOptimizer",
        "class SignDescent",
        "TorchProblem",
        "class Bowl",
        "RL2Wrapper",
        "NeuralArchitectureSearch-v0",
        "Clonable",
    )
    assert sorted(BLOCKS) == sorted(block(word) for word in known)


def test_the_agent_loop_optimises(capsys: pytest.CaptureFixture[str]) -> None:
    names = run(block('problem="logistic"'))
    assert names["info"]["loss"] < 0.7  # log 2, where the weights are 0
    assert names["info"]["loss"] == names["info"]["best_loss"]
    assert capsys.readouterr().out


def test_the_learned_optimizer_trains() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    inputs = torch.randn(64, 4)
    targets = inputs @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]])
    names = run(
        block("LearnedOptimizer"),
        model=model,
        loss_of=lambda net: ((net(inputs) - targets) ** 2).mean(),
    )
    assert float(names["loss"].detach()) < 1e-6


def test_the_agent_of_ones_own_runs() -> None:
    from metagym.evaluation import evaluate

    agent = run(block("class SignDescent"))["SignDescent"]()
    result = evaluate(agent, "LearnToOptimize-v0", episodes=32)
    assert result.agent == "sign descent"
    assert result.mean < 1.0  # the start is at 1.9


def test_the_torch_problem_is_an_environment() -> None:
    import gymnasium as gym

    env = run(
        block("TorchProblem"),
        gym=gym,
        torch=torch,
        model=torch.nn.Linear(6, 3),
        images=torch.randn(100, 6),
        labels=torch.randint(3, (100,)),
    )["env"]
    observations, _ = env.reset(seed=0)
    assert observations.shape == (16, 5 * (1 + 2 * 21))
    assert env.unwrapped.problem.stochastic


def test_the_family_of_ones_own_is_an_environment() -> None:
    import gymnasium as gym

    env = run(block("class Bowl"), gym=gym, np=np)["env"]
    observation, info = env.reset(seed=0)
    newest = observation[-7:]
    away = info["task"]["initial"] - info["task"]["centre"]
    np.testing.assert_allclose(newest[1:4], 2 * away, rtol=1e-5)


def test_any_environment_is_a_trial() -> None:
    names = run(block("RL2Wrapper"), gym=gym)
    env = names["env"]
    env.reset(seed=0)
    steps, over = 0, False
    while not over:
        observation, _, over, _, info = env.step(env.action_space.sample())
        steps += 1
    assert info["inner_episode"] == 3 and steps > 24
    assert observation.shape == (4 + 2 + 2 + 4,)


def test_a_chain_is_written_and_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = run(block("NeuralArchitectureSearch-v0"), gym=gym)
    assert names["info"]["architecture"] in capsys.readouterr().out
    assert names["reward"] > 0.1 and (tmp_path / "children.db").is_file()


def test_maml_learns_sinusoids_and_a_clone_adapts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = run(block("Clonable"), torch=torch)
    assert (tmp_path / "runs/sinusoid/weights.safetensors").is_file()
    low, high = names["evaluate_few_shot"](names["method"], names["tasks"], steps=10).interval
    assert 0.1 < low < high < 2.0  # the best constant has about 4
    assert names["learner"].steps == 1
