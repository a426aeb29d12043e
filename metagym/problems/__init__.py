"""What gets optimised: families of functions with a batched value and gradient.

``make_problem(name)`` builds one by name; ``FAMILIES`` is the one table of names. Families load
when they are asked for, so that a quadratic does not wait for scikit-learn or torch.
"""

from __future__ import annotations

from typing import Any

from metagym.errors import InvalidArgumentError
from metagym.named import lazy_attribute, make_named
from metagym.problems.base import ProblemFamily

FAMILIES: dict[str, str] = {
    "quadratic": "metagym.problems.quadratic:Quadratic",
    "logistic": "metagym.problems.regression:LogisticRegression",
    "robust": "metagym.problems.regression:RobustRegression",
    "small_net": "metagym.problems.small_net:SmallNet",
    "digits_net": "metagym.problems.digits_net:ProjectedDigitsNet",
    "softmax": "metagym.problems.classification:SoftmaxRegression",
    "mlp": "metagym.problems.classification:MLPClassifier",
    "test_function": "metagym.problems.functions:TestFunction",
    "gaussian_process": "metagym.problems.gaussian_process:GaussianProcess",
}

# What ``from metagym.problems import ...`` finds besides; each loads with its first use.
_LAZY = {path.split(":")[1]: path.split(":")[0] for path in FAMILIES.values()} | {
    "TorchProblem": "metagym.problems.torch_problem"
}

__all__ = ["FAMILIES", "ProblemFamily", "make_problem"]


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, name, _LAZY)


def make_problem(
    problem: str | ProblemFamily, dim: int | None = None, /, **kwargs: Any
) -> ProblemFamily:
    """The family called ``problem``, or ``problem`` itself if it is a family already.

    Args:
        problem: a name of ``FAMILIES`` or a ``ProblemFamily``.
        dim: number of parameters, for families that leave it open; None is their default.
        **kwargs: the family's other arguments; ``dim`` may be among them.

    Raises:
        InvalidArgumentError: no such family or argument, or an argument for a finished family.
    """
    if dim is not None:
        if kwargs.get("dim", dim) != dim:
            raise InvalidArgumentError(
                f"dim={dim} and problem_kwargs['dim']={kwargs['dim']} differ."
            )
        kwargs = {**kwargs, "dim": dim}
    if isinstance(problem, ProblemFamily):
        if kwargs.get("dim", problem.dim) != problem.dim or set(kwargs) - {"dim"}:
            raise InvalidArgumentError(
                f"problem is a {type(problem).__name__} of dim {problem.dim} already; {kwargs} "
                "belongs into its constructor."
            )
        return problem
    if not isinstance(problem, str):
        raise InvalidArgumentError(
            f"problem={problem!r} has to be a ProblemFamily or one of {', '.join(FAMILIES)}."
        )
    made: ProblemFamily = make_named("problem", problem, FAMILIES, kwargs)
    return made
