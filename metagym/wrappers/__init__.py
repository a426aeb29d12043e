"""What sits between an environment and an agent: views of actions and observations, trials."""

from metagym.wrappers.gains import GainActions
from metagym.wrappers.rl2 import RL2VectorWrapper, RL2Wrapper
from metagym.wrappers.symlog import SymlogObservations

__all__ = ["GainActions", "RL2VectorWrapper", "RL2Wrapper", "SymlogObservations"]
