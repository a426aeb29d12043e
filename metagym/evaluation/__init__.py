"""How agents are measured: the protocol, its statistics, results files, comparisons."""

from metagym.evaluation.checks import ConformanceError, check_vector_env
from metagym.evaluation.compare import Comparison, compare
from metagym.evaluation.evaluate import evaluate
from metagym.evaluation.results import Result, ResultError

__all__ = [
    "Comparison",
    "ConformanceError",
    "Result",
    "ResultError",
    "check_vector_env",
    "compare",
    "evaluate",
]
