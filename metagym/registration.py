"""The one table of environment ids.

Each row is an id, its single class, its keyword arguments and the line that ``metagym envs``
prints. Entry points are strings: an environment's module loads when it is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import gymnasium as gym


class Registration(NamedTuple):
    """One id: ``entry_point`` names the single environment; its batched twin has Vector in it."""

    id: str
    entry_point: str
    summary: str
    kwargs: Mapping[str, Any] = MappingProxyType({})


_LTO = "metagym.envs.learn_to_optimize:LearnToOptimizeEnv"
_LRC = "metagym.envs.learning_rate_control:LearningRateControlEnv"
_BBO = "metagym.envs.black_box_optimize:BlackBoxOptimizeEnv"
_BANDIT = "metagym.envs.meta_bandit:MetaBanditEnv"
_MDP = "metagym.envs.meta_tabular_mdp:MetaTabularMDPEnv"
_MAZE = "metagym.envs.meta_maze:MetaMazeEnv"
_NAS = "metagym.envs.neural_architecture_search:NeuralArchitectureSearchEnv"
_NAS_TRIAL = "metagym.envs.architecture_search_trial:ArchitectureSearchTrialEnv"
_NAVIGATION = "metagym.envs.meta_navigation:MetaNavigation2DEnv"


def _softmax(dataset: str) -> dict[str, Any]:
    return {"problem": "softmax", "problem_kwargs": {"dataset": dataset}}


def _function(name: str) -> dict[str, Any]:
    return {"problem": "test_function", "problem_kwargs": {"name": name}}


ENVIRONMENTS: tuple[Registration, ...] = (
    Registration("LearnToOptimize-v0", _LTO, "be the optimiser of random quadratics"),
    Registration(
        "LearnToOptimizeLogistic-v0",
        _LTO,
        "optimise logistic regressions",
        {"problem": "logistic", "horizon": 40},
    ),
    Registration(
        "LearnToOptimizeRobust-v0",
        _LTO,
        "optimise robust regressions with several minima",
        {"problem": "robust", "horizon": 40},
    ),
    Registration(
        "LearnToOptimizeSmallNet-v0",
        _LTO,
        "optimise a 2-2-2 network",
        {"problem": "small_net", "horizon": 40},
    ),
    Registration(
        "LearnToOptimizeNet-v0",
        _LTO,
        "optimise one 48-48-10 network on projected digit images",
        {"problem": "digits_net", "problem_kwargs": {"fixed": 0}, "horizon": 400, "history": 5},
    ),
    Registration(
        "LearnToOptimizeDigits-v0",
        _LTO,
        "optimise softmax regression on digit images",
        _softmax("digits") | {"history": 5},
    ),
    Registration(
        "LearnToOptimizeBreastCancer-v0",
        _LTO,
        "optimise softmax regression on breast cancer data",
        _softmax("breast_cancer"),
    ),
    Registration(
        "LearnToOptimizeWine-v0", _LTO, "optimise softmax regression on wine data", _softmax("wine")
    ),
    Registration(
        "LearnToOptimizeMLP-v0",
        _LTO,
        "optimise a 64-20-10 network on digit images",
        {"problem": "mlp", "history": 5},
    ),
    Registration("LearnToOptimizeSphere-v0", _LTO, "optimise shifted spheres", _function("sphere")),
    Registration(
        "LearnToOptimizeRosenbrock-v0",
        _LTO,
        "optimise in Rosenbrock's valley",
        _function("rosenbrock"),
    ),
    Registration(
        "LearnToOptimizeRastrigin-v0", _LTO, "optimise Rastrigin's function", _function("rastrigin")
    ),
    Registration(
        "LearnToOptimizeAckley-v0", _LTO, "optimise Ackley's function", _function("ackley")
    ),
    Registration(
        "LearnToOptimizeGriewank-v0", _LTO, "optimise Griewank's function", _function("griewank")
    ),
    Registration(
        "LearnToOptimizeStyblinskiTang-v0",
        _LTO,
        "optimise Styblinski and Tang's function",
        _function("styblinski_tang"),
    ),
    Registration(
        "LearnToOptimizeGP-v0",
        _LTO,
        "optimise samples of a Gaussian process",
        {"problem": "gaussian_process"},
    ),
    Registration("LearningRateControl-v0", _LRC, "set SGD's learning rate and momentum"),
    Registration(
        "LearningRateControlAdam-v0",
        _LRC,
        "set Adam's learning rate and betas",
        {"optimizer": "adam"},
    ),
    Registration(
        "LearningRateControlLogistic-v0",
        _LRC,
        "set SGD's hyperparameters on logistic regressions",
        {"problem": "logistic", "horizon": 40},
    ),
    Registration(
        "LearningRateControlDigits-v0",
        _LRC,
        "set SGD's hyperparameters on digit images",
        _softmax("digits") | {"observation": "summary"},
    ),
    Registration(
        "LearningRateControlAdamDigits-v0",
        _LRC,
        "set Adam's hyperparameters on digit images",
        _softmax("digits") | {"observation": "summary", "optimizer": "adam"},
    ),
    Registration("BlackBoxOptimize-v0", _BBO, "minimise a shifted sphere by queries"),
    Registration(
        "BlackBoxOptimizeGP-v0",
        _BBO,
        "minimise a Gaussian process's sample by queries",
        {"problem": "gaussian_process"},
    ),
    Registration(
        "BlackBoxOptimizeRosenbrock-v0",
        _BBO,
        "minimise Rosenbrock's valley by queries",
        _function("rosenbrock"),
    ),
    Registration(
        "BlackBoxOptimizeRastrigin-v0",
        _BBO,
        "minimise Rastrigin's function by queries",
        _function("rastrigin"),
    ),
    Registration(
        "BlackBoxOptimizeAckley-v0",
        _BBO,
        "minimise Ackley's function by queries",
        _function("ackley"),
    ),
    Registration(
        "BlackBoxOptimizeGriewank-v0",
        _BBO,
        "minimise Griewank's function by queries",
        _function("griewank"),
    ),
    Registration(
        "BlackBoxOptimizeStyblinskiTang-v0",
        _BBO,
        "minimise Styblinski and Tang's function by queries",
        _function("styblinski_tang"),
    ),
    Registration("MetaBandit-v0", _BANDIT, "learn to explore 5 arms in 10 pulls"),
    *(
        Registration(
            f"MetaBandit-n{n}-k{k}-v0",
            _BANDIT,
            f"learn to explore {k} arms in {n} pulls",
            {"n": n, "k": k},
        )
        for n in (10, 100, 500)
        for k in (5, 10, 50)
        if (n, k) != (10, 5)
    ),
    Registration("MetaTabularMDP-v0", _MDP, "learn a 10-state process in 10 episodes of 10 steps"),
    *(
        Registration(
            f"MetaTabularMDP-n{n}-v0",
            _MDP,
            f"learn a 10-state process in {n} episodes of 10 steps",
            {"n": n},
        )
        for n in (25, 50, 75, 100)
    ),
    Registration("MetaMaze-v0", _MAZE, "find a target twice in an unknown maze of 5x5 rooms"),
    Registration(
        "MetaMaze-9x9-v0", _MAZE, "find a target twice in an unknown maze of 9x9 rooms", {"size": 9}
    ),
    Registration("MetaNavigation2D-v0", _NAVIGATION, "walk three times to a goal that is hidden"),
    Registration("NeuralArchitectureSearch-v0", _NAS, "write a cell of NAS-Bench-201's space"),
    Registration(
        "ChainSearch-v0",
        _NAS,
        "write a chain of convolutions, which is trained on digits",
        {"evaluator": "train", "space": "chain"},
    ),
    Registration(
        "NASNetSearch-v0",
        _NAS,
        "write normal and reduction cells, which are trained on digits",
        {"evaluator": "train", "space": "nasnet"},
    ),
    Registration(
        "RecurrentCellSearch-v0",
        _NAS,
        "write a recurrent cell, which is trained on text",
        {"evaluator": "language", "space": "recurrent"},
    ),
    Registration(
        "ENASCellSearch-v0",
        _NAS,
        "write a recurrent cell of ENAS's space, which is trained on text",
        {"evaluator": "language", "space": "enas_recurrent"},
    ),
    Registration(
        "ArchitectureSearchTrial-v0",
        _NAS_TRIAL,
        "search for an architecture, 32 tries a trial",
        {"shuffle": "tokens"},
    ),
)


def register_environments() -> None:
    """Register every id of the table with Gymnasium; a second call changes nothing."""
    for row in ENVIRONMENTS:
        if row.id not in gym.registry:
            gym.register(
                row.id,
                entry_point=row.entry_point,
                vector_entry_point=row.entry_point.removesuffix("Env") + "VectorEnv",
                kwargs=dict(row.kwargs),
            )
