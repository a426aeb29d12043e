"""Update rules as ``torch.optim.Optimizer``: what was learned, in anybody's training loop."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metagym.errors import InvalidArgumentError
from metagym.optim.base import UpdateRule
from metagym.optim.learned import DEFAULT, load_rule


class RuleOptimizer(torch.optim.Optimizer):
    """Any ``UpdateRule`` as an optimiser of torch parameters.

    All parameters of a group form one vector, as one problem of the environments does; each
    group runs a copy of the rule on its own gradients, all on the same loss. A parameter without
    a gradient counts with zeros, as in ``torch.optim.LBFGS``; a frozen one is left out. Vectors
    stay on the device of the parameters; only inner products leave it (a coordinatewise
    ``GainRule`` computes its features on the CPU).

    Args:
        params: parameters, or dicts of them with options, as for every torch optimiser.
        make_rule: makes one fresh rule.
        lr: multiplies the rule's step; a group may have its own.

    Raises:
        InvalidArgumentError: ``lr`` is not positive.
    """

    def __init__(
        self, params: Iterable[Any], make_rule: Callable[[], UpdateRule], lr: float = 1.0
    ) -> None:
        self._warned = False
        super().__init__(params, {"lr": _check_lr(lr)})
        self._make_rule = make_rule
        self._rules = [make_rule() for _ in self.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update, as ``torch.optim.LBFGS.step``.

        Args:
            closure: clears the gradients, computes the loss, calls ``backward`` and returns it.
                The rules read the loss, so it is required.

        Returns:
            The loss before the update. A step whose loss, gradient or update is not finite is
            skipped, with one warning.

        Raises:
            InvalidArgumentError: there is no closure, or it returns no loss.
        """
        if closure is None:
            raise InvalidArgumentError(
                "A learned optimiser reads the loss: pass step() a closure that clears the "
                "gradients, computes the loss, calls backward() and returns the loss."
            )
        with torch.enable_grad():
            loss = closure()
        if loss is None:
            raise InvalidArgumentError("The closure returned None; let it return the loss.")
        value = np.array([float(torch.as_tensor(loss).detach())])
        while len(self._rules) < len(self.param_groups):  # add_param_group
            self._rules.append(self._make_rule())
        for group, rule in zip(self.param_groups, self._rules, strict=True):
            parameters = [p for p in group["params"] if p.requires_grad]
            if any(p.grad is not None for p in parameters):
                self._update(group, rule, parameters, value)
        return loss

    def _update(
        self, group: dict[str, Any], rule: UpdateRule, parameters: list[Any], loss: np.ndarray
    ) -> None:
        gradient = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters]
        )[None]
        last = rule.state.get("last_update")
        if last is None or last.shape != gradient.shape:
            last = torch.zeros_like(gradient)
        if not (torch.isfinite(gradient).all() and np.isfinite(loss).all()):
            self._skip("loss or gradient")
            return
        with np.errstate(all="ignore"):  # float32 inner products overflow beyond 1e19
            update = rule.update(loss, gradient, last) * group["lr"]
        if not torch.isfinite(update).all():
            self._skip("update")
            return
        rule.scale_last_step(group["lr"])
        rule.state["last_update"] = update
        offset = 0
        for p in parameters:
            p.add_(update[0, offset : offset + p.numel()].view_as(p))
            offset += p.numel()

    def _skip(self, what: str) -> None:
        if not self._warned:
            warnings.warn(f"The {what} is not finite; such steps are skipped.", stacklevel=4)
            self._warned = True

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's; the group's ``lr``, if it has one, multiplies its rule's step."""
        _check_lr(param_group.get("lr", self.defaults["lr"]))
        super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Torch's own, with the rules' states under ``"rules"``; all tensors, so that
        ``torch.load(..., weights_only=True)`` reads it back."""
        state = super().state_dict()
        state["rules"] = []
        for rule in self._rules:
            kinds: dict[str, dict[str, Any]] = {"vectors": {}, "scalars": {}}
            for name, value in rule.state.items():
                kind = "vectors" if isinstance(value, torch.Tensor) else "scalars"
                kinds[kind][name] = torch.as_tensor(value).clone()
            state["rules"].append(kinds)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what ``state_dict`` returned.

        Raises:
            InvalidArgumentError: it is the state of another kind of optimiser.
        """
        if "rules" not in state_dict:
            raise InvalidArgumentError("The state has no 'rules': it is of another optimiser.")
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "rules"})
        device = self.param_groups[0]["params"][0].device
        self._rules = [self._make_rule() for _ in state_dict["rules"]]
        for rule, kinds in zip(self._rules, state_dict["rules"], strict=True):
            for name, value in kinds["vectors"].items():
                rule.state[name] = value.to(device, copy=True)
            for name, value in kinds["scalars"].items():
                rule.state[name] = value.cpu().numpy().copy()


class LearnedOptimizer(RuleOptimizer):
    """A trained policy of metagym as a torch optimiser.

        optimizer = LearnedOptimizer(model.parameters())
        def closure():
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            return loss
        loss = optimizer.step(closure)

    Args:
        params: parameters or groups of them.
        checkpoint: a folder that ``metagym train`` wrote, or the name of a shipped policy.
        lr: multiplies the learned step.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
    """

    def __init__(
        self, params: Iterable[Any], checkpoint: str | Path = DEFAULT, *, lr: float = 1.0
    ) -> None:
        if not isinstance(checkpoint, (str, Path)):
            raise InvalidArgumentError(
                f"The second argument is a checkpoint, not {checkpoint!r}; for a factor on the "
                "learned step pass lr=..."
            )
        rule = load_rule(checkpoint)
        super().__init__(params, lambda: copy.deepcopy(rule), lr)


def _check_lr(lr: float) -> float:
    if not isinstance(lr, (int, float)) or not 0.0 < lr < float("inf"):
        raise InvalidArgumentError(f"lr={lr!r} has to be positive and finite.")
    return float(lr)
