"""What every environment and every agent is made of."""

from metagym.core.agent import Agent
from metagym.core.batch import BatchedEnv
from metagym.core.single import SingleEnv
from metagym.core.task import SPLITS, Task

__all__ = ["SPLITS", "Agent", "BatchedEnv", "SingleEnv", "Task"]
