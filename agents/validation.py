"""How a run does so far on the validation split, beside what it has to beat and the ceiling."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from metagym.core import Agent
from metagym.evaluation.compare import Comparison, compare, figure
from metagym.evaluation.evaluate import make_vector_env
from metagym.loading import load_agent
from metagym.monitoring import RunLogger
from metagym.planning import Ceiling, ceiling

# By the environment's class; what takes a second or so, and is not so bad that it is all one sees.
BASELINES: dict[str, tuple[str, ...]] = {
    "LearnToOptimizeVectorEnv": ("sgd", "momentum", "adam", "barzilai_borwein"),
    "BlackBoxOptimizeVectorEnv": ("random_search", "one_plus_one_es"),
    "MetaBanditVectorEnv": ("ucb1", "thompson"),
    "MetaTabularMDPVectorEnv": ("psrl", "beb"),
    "MetaMazeVectorEnv": ("wall_follower", "nearest_frontier"),
    "MetaNavigation2DVectorEnv": ("trilateration",),
    "ArchitectureSearchTrialVectorEnv": ("random",),
}


class Validation:
    """Looks at the same validation tasks again and again.

    Args:
        env_id, env_kwargs: the environment.
        episodes: of each look, one task each.

    Attributes:
        ceiling: of the environment, where one is known.
    """

    def __init__(self, env_id: str, env_kwargs: dict[str, Any], episodes: int = 128) -> None:
        env = make_vector_env(env_id, 1, "validation", env_kwargs)
        self.ceiling: Ceiling | None = ceiling(env)
        self._names = BASELINES.get(type(env.unwrapped).__name__, ())
        self._env_id = env_id
        self._how: dict[str, Any] = {"split": "validation", "episodes": episodes, **env_kwargs}
        self._baselines: Comparison | None = None
        env.close()

    def look(
        self, agent: Agent, label: str, log: RunLogger, step: int, drawing: Figure | None = None
    ) -> None:
        """Evaluate ``agent`` and write what it scores beside what others do.

        Args:
            agent: the run so far.
            label: its name in the figure.
            log: of the run.
            step: environment steps so far.
            drawing: in place of the figure of all agents' curves, or of their mean scores.
        """
        if self._baselines is None and self._names:
            others = {name: load_agent(name) for name in self._names}
            self._baselines = compare(others, self._env_id, **self._how)
        beside = () if self._baselines is None else self._baselines.results
        (found,) = compare({label: agent}, self._env_id, **self._how).results
        log.evaluation(
            step,
            found.mean,
            ceiling=None if self.ceiling is None else self.ceiling.value,
            baselines={result.agent: result.mean for result in beside},
            figure=drawing or figure([Comparison((found, *beside))]),
        )
