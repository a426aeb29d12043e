"""How agents are measured: the protocol, its statistics, results files, comparisons."""

from metagym.evaluation.checks import ConformanceError, check_vector_env
from metagym.evaluation.compare import Comparison, compare
from metagym.evaluation.evaluate import evaluate
from metagym.evaluation.results import Result, ResultError
from metagym.evaluation.rl2_check import check_rl2_wrapper

__all__ = [
    "Comparison",
    "ConformanceError",
    "Result",
    "ResultError",
    "check_rl2_wrapper",
    "check_vector_env",
    "compare",
    "evaluate",
]
