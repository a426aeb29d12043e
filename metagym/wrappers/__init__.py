"""What sits between an environment and an agent: views of actions and observations."""

from metagym.wrappers.gains import GainActions
from metagym.wrappers.symlog import SymlogObservations

__all__ = ["GainActions", "SymlogObservations"]
