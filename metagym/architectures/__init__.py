"""Architectures as strings of tokens: search spaces, and how an architecture is scored.

``SearchSpace`` says which strings there are and what they mean; ``Evaluator`` says how good one
is. Neither needs torch until a module is built.
"""

from metagym.architectures.graph import Graph, Node
from metagym.architectures.space import PAD, SearchSpace

__all__ = ["PAD", "Graph", "Node", "SearchSpace"]
