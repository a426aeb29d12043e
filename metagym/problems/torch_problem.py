"""TorchProblem: any torch module, loss and tensors as a problem family, batched with torch.func."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.func import functional_call, grad_and_value, vmap

from metagym.core.task import SPLITS, Task
from metagym.errors import InvalidArgumentError, check_positive
from metagym.problems.base import ProblemFamily

Tensors = tuple[torch.Tensor, torch.Tensor]


class TorchProblem(ProblemFamily):
    """f(x) = loss(module(inputs), targets), where x is the module's parameters in one vector.

        problem = TorchProblem(nn.Linear(4, 2), nn.functional.cross_entropy, inputs, targets)
        env = gym.make("LearnToOptimize-v0", problem=problem)

    - Task: ``split`` [n] (int64), an index into ("train", "validation", "test"): which tensors.
      Episodes differ in their initial parameters (and minibatches).
    - x: the parameters that require a gradient, in the order of ``named_parameters``, each
      flattened row by row; ``flatten`` and ``unflatten`` translate.
    - Start: every submodule's ``reset_parameters``, seeded from the generator; the global torch
      generator is left as it was. Parameters of submodules without that method start at their
      present values.
    - Splits: the tensors that are given for them; without ``validation`` or ``test`` that split
      uses the training tensors, and only the initial parameters are new.
    - The module is copied. It is called under ``vmap``, so that it must not draw random numbers or
      update buffers: put dropout and batch normalisation into ``eval()`` first.
    - The full loss holds the activations of all rows and examples at once: with many
      environments, give few examples.

    Args:
        module: anything whose forward takes ``inputs``.
        loss: ``loss(output, targets)`` -> a scalar, a mean over the examples.
        inputs: [m, ...].
        targets: [m, ...].
        batch_size: minibatch drawn with replacement, or None for the full batch (no noise).
        validation: ``(inputs, targets)`` of the validation split.
        test: ``(inputs, targets)`` of the test split.
        lower: a lower bound of the loss.

    Raises:
        InvalidArgumentError: the module has no parameters, the lengths differ, or the loss is not
            a scalar.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        loss: Callable[[Any, torch.Tensor], torch.Tensor],
        inputs: torch.Tensor,
        targets: torch.Tensor,
        *,
        batch_size: int | None = None,
        validation: Tensors | None = None,
        test: Tensors | None = None,
        lower: float = 0.0,
    ) -> None:
        self._module = copy.deepcopy(module).cpu()
        self._loss = loss
        self._shapes = {
            name: parameter.shape
            for name, parameter in self._module.named_parameters()
            if parameter.requires_grad
        }
        self.dim = sum(shape.numel() for shape in self._shapes.values())
        if self.dim == 0:
            raise InvalidArgumentError("module has no parameter that requires a gradient.")
        train = (inputs, targets)
        splits = zip(SPLITS, (train, validation or train, test or train), strict=True)
        self._data = [_check_tensors(name, *given) for name, given in splits]
        self._cast: dict[torch.dtype, tuple[list[Tensors], dict[str, torch.Tensor]]] = {}
        self.batch_size = None if batch_size is None else check_positive("batch_size", batch_size)
        self.stochastic = batch_size is not None
        self._lower = float(lower)
        self._check_loss()

    def flatten(self, module: torch.nn.Module) -> np.ndarray:
        """The vector x [d] of a module of the same architecture."""
        parameters = dict(module.named_parameters())
        return torch.cat([parameters[name].detach().flatten() for name in self._shapes]).numpy()

    def unflatten(self, x: np.ndarray) -> dict[str, torch.Tensor]:
        """The parameters [..., *shape] by name of vectors x [..., d].

        For one x [d] they are what ``module.load_state_dict(..., strict=False)`` takes.
        """
        return self._split(torch.from_numpy(np.array(x)))

    def sample(self, rng: np.random.Generator, n: int, split: str) -> Task:
        return {"split": np.full(n, SPLITS.index(split))}

    def initial(self, task: Task, rng: np.random.Generator) -> np.ndarray:
        # Modules initialise themselves in place, so that this (and only this) goes one by one.
        starts = np.empty((len(task["split"]), self.dim))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**63)))
            for start in starts:
                for part in self._module.modules():
                    if callable(reset := getattr(part, "reset_parameters", None)):
                        reset()
                start[:] = self.flatten(self._module)
        return starts

    def value(self, task: Task, x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self._evaluate(vmap(self._loss_at, (0, None, None, None)), task, x, None)[0]

    def value_and_grad(
        self, task: Task, x: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        batch = 0 if rng is not None and self.batch_size is not None else None
        function = vmap(grad_and_value(self._loss_at), (0, None, batch, batch))
        value, gradient = self._evaluate(function, task, x, rng)
        return value, gradient

    def lower(self, task: Task) -> np.ndarray:
        return np.full(len(task["split"]), self._lower)

    # -- the inside ----------------------------------------------------------------------------

    def _evaluate(
        self, function: Callable[..., Any], task: Task, x: np.ndarray, rng: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """``function`` at x, once per split that occurs; returns f [n] and, if asked, g [n, d]."""
        value, gradient = np.empty(len(x), x.dtype), np.empty_like(x)
        points = torch.from_numpy(np.array(x))
        data, buffers = self._data_as(points.dtype)
        draws = self._draws(rng, len(x))
        for split in np.unique(task["split"]):
            rows = np.flatnonzero(task["split"] == split)
            inputs, targets = data[split]
            if draws is not None:
                # One uniform number per example and row, whatever the split's size.
                index = torch.from_numpy((draws[rows] * len(inputs)).astype(np.int64))
                inputs, targets = inputs[index], targets[index]
            result = function(points[rows], buffers, inputs, targets)
            if isinstance(result, tuple):
                gradient[rows], value[rows] = (part.detach().numpy() for part in result)
            else:
                value[rows] = result.numpy()
        return value, gradient

    def _draws(self, rng: np.random.Generator | None, n: int) -> np.ndarray | None:
        if rng is None or self.batch_size is None:
            return None
        return rng.random((n, self.batch_size))

    def _loss_at(
        self, x: torch.Tensor, buffers: dict[str, torch.Tensor], *data: torch.Tensor
    ) -> torch.Tensor:
        output = functional_call(self._module, self._split(x) | buffers, (data[0],))
        return self._loss(output, data[1])

    def _split(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        parts = x.split([shape.numel() for shape in self._shapes.values()], dim=-1)
        return {
            name: part.reshape(*x.shape[:-1], *shape)
            for part, (name, shape) in zip(parts, self._shapes.items(), strict=True)
        }

    def _data_as(self, dtype: torch.dtype) -> tuple[list[Tensors], dict[str, torch.Tensor]]:
        """The tensors of the splits, and what else the module holds, in the dtype of x."""
        if dtype not in self._cast:
            rest = dict(self._module.named_buffers()) | {
                name: parameter.detach()
                for name, parameter in self._module.named_parameters()
                if name not in self._shapes
            }
            self._cast[dtype] = (
                [(_as(inputs, dtype), _as(targets, dtype)) for inputs, targets in self._data],
                {name: _as(tensor, dtype) for name, tensor in rest.items()},
            )
        return self._cast[dtype]

    def _check_loss(self) -> None:
        x = torch.from_numpy(self.flatten(self._module))
        data, buffers = self._data_as(x.dtype)
        with torch.no_grad():
            shape = tuple(self._loss_at(x, buffers, *(part[:2] for part in data[0])).shape)
        if shape != ():
            raise InvalidArgumentError(
                f"loss returns shape {shape}; a scalar is needed (reduction='mean')."
            )


def _as(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _check_tensors(split: str, inputs: Any, targets: Any) -> Tensors:
    inputs, targets = torch.as_tensor(inputs).cpu(), torch.as_tensor(targets).cpu()
    if inputs.ndim == 0 or targets.ndim == 0 or not 0 < len(inputs) == len(targets):
        raise InvalidArgumentError(
            f"The {split} tensors need the same number of examples, at least one; inputs have shape"
            f" {tuple(inputs.shape)}, targets {tuple(targets.shape)}."
        )
    return inputs, targets
