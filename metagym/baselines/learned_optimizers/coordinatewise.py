"""The coordinatewise LSTM optimiser of Andrychowicz et al. (2016), as an update rule.

One small LSTM, the same for every coordinate, reads what happens to its own coordinate and
answers with its step; only the memories differ. It serves any number of parameters.

Its published form reads the gradient alone, as log and sign (appendix A), and takes 0.1 times its
linear output for the step. Such a step has one absolute length scale, while losses and gradients
fall by orders of magnitude. ``step="relative"`` measures it in units of the coordinate's recent
gradients instead, after which the network has only to know a learning rate; further ``inputs``
show it its own last step, momentum (as RNNprop, Lv et al. 2017) and the change of the loss.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from metagym.errors import check_choice, check_positive
from metagym.optim.base import UpdateRule
from metagym.problems.checks import check_scale

# What a coordinate can read, and how many numbers each is.
INPUTS = {"gradient": 2, "update": 2, "momentum": 3, "loss": 1}
STEPS = ("absolute", "relative")
DECAYS = (0.5, 0.9, 0.99)  # of the running means behind "momentum"
_EPS = 1e-16  # keeps 0 / sqrt(0) at 0 and leaves gradients of 1e-6 as they are


def log_and_sign(values: torch.Tensor, p: float = 10.0) -> torch.Tensor:
    """The two numbers [..., 2] by which a network sees a value of any size [...].

    (log|v| / p, sign v) where |v| >= e^-p, and (-1, e^p v) below: Andrychowicz et al. (2016),
    appendix A.
    """
    size = values.abs()
    large = size >= np.exp(-p)
    log = size.clamp(min=float(np.exp(-p))).log() / p
    small = values * float(np.exp(p))
    return torch.stack(
        [torch.where(large, log, -torch.ones_like(log)), torch.where(large, values.sign(), small)],
        dim=-1,
    )


class CoordinatewiseLSTM(nn.Module):
    """LSTM layers and a linear output, applied to every coordinate of every problem alike.

    Args:
        features: numbers that a coordinate reads per step.
        width: units of a layer.
        layers: how many.
    """

    def __init__(self, features: int, width: int = 20, layers: int = 2) -> None:
        super().__init__()
        self.width, self.layers = check_positive("width", width), check_positive("layers", layers)
        self.lstm = nn.LSTM(features, width, layers)
        self.output = nn.Linear(width, 1)
        with torch.no_grad():  # begins near standing still: a random walk teaches nothing
            self.output.weight.mul_(0.1)
            self.output.bias.zero_()

    @property
    def memory_size(self) -> int:
        """Numbers that one coordinate remembers."""
        return 2 * self.layers * self.width

    def forward(
        self, features: torch.Tensor, memory: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs [T, B, d] and the memory after them, for T steps of d coordinates of B problems.

        Args:
            features: [T, B, d, F].
            memory: [B, d, memory_size]; zeros at the start of an episode.
        """
        T, B, d, F = features.shape
        state = memory.reshape(B * d, 2, self.layers, self.width).permute(1, 2, 0, 3).contiguous()
        hidden, (h, c) = self.lstm(features.reshape(T, B * d, F), (state[0], state[1]))
        after = torch.stack([h, c]).permute(2, 0, 1, 3).reshape(B, d, self.memory_size)
        return self.output(hidden).reshape(T, B, d), after


class Observation(NamedTuple):
    """What one step of the rule depends on, apart from the network.

    Attributes:
        features: [B, d, F].
        unit: [B, d], what an output of 1 means as a step.
    """

    features: torch.Tensor
    unit: torch.Tensor


class LSTMRule(UpdateRule):
    """Δx = unit · LSTM(features), coordinate by coordinate.

    Computes in the network's precision, on its device, whatever it is given; a torch gradient on
    another device takes the network there. State is tensors whose leading axis is the row.

    Args:
        inputs: what a coordinate reads, of

            | name | numbers |
            |---|---|
            | gradient | log and sign of g |
            | update | log and sign of the last step |
            | momentum | running means of g over the root of those of g^2, at ``DECAYS`` |
            | loss | (f' - f) / (abs f' + abs f), the same for all coordinates |

        step: the unit: ``"absolute"``: ``scale``; ``"relative"``: ``scale`` times the root of the
            mean of g^2 over the last few steps (decay 0.5).
        scale: see ``step``; None is the published 0.1 for absolute steps and 0.02 for relative.
        p: of log and sign.
        width, layers: of the LSTM.
        network: a trained one; by default one with fresh weights (torch's global generator).

    Raises:
        InvalidArgumentError: an argument has an impossible value.
    """

    name = "l2l"

    def __init__(
        self,
        inputs: tuple[str, ...] = ("gradient",),
        step: str = "absolute",
        scale: float | None = None,
        p: float = 10.0,
        width: int = 20,
        layers: int = 2,
        network: CoordinatewiseLSTM | None = None,
    ) -> None:
        for name in inputs:
            check_choice("inputs", name, INPUTS)
        check_choice("step", step, STEPS)
        if scale is None:
            scale = 0.1 if step == "absolute" else 0.02
        self.scale, self.p = check_scale("scale", scale), check_scale("p", p)
        super().__init__(
            inputs=list(inputs), step=step, scale=self.scale, p=self.p, width=width, layers=layers
        )
        self.inputs, self.step = tuple(inputs), step
        if network is None:
            network = CoordinatewiseLSTM(sum(INPUTS[name] for name in inputs), width, layers)
        self.network = network

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.output.weight.device

    @torch.no_grad()
    def update(self, loss: np.ndarray, gradient: Any, last_update: Any) -> Any:
        if isinstance(gradient, torch.Tensor) and gradient.device != self.device:
            self.network.to(gradient.device)
        step = self.act(self.observe(loss, gradient, last_update))
        if isinstance(gradient, torch.Tensor):
            return step.to(gradient.dtype)
        return step.cpu().numpy().astype(gradient.dtype)

    def act(self, seen: Observation) -> torch.Tensor:
        """The step [B, d] at the iterate seen last."""
        memory = self.memory(seen.unit)
        output, self.state["memory"] = self.network(seen.features[None], memory)
        return output[0] * seen.unit

    def memory(self, like: torch.Tensor) -> torch.Tensor:
        """What the LSTM remembers [B, d, memory_size] of coordinates ``like`` [B, d]."""
        wanted = like[..., None].expand(*like.shape, self.network.memory_size)
        memory: torch.Tensor = self._get("memory", wanted)
        return memory

    def observe(self, loss: Any, gradient: Any, last_update: Any) -> Observation:
        """Take in a new iterate; see ``update`` for the arguments. Tensors keep their graph."""
        g, last = self._tensor(gradient), self._tensor(last_update)
        self.state["count"] = count = self._get("count", g[:, :1]) + 1
        square = self._mean("square 0.5", g.square(), 0.5)
        root = (square / (1 - 0.5**count) + _EPS**2).sqrt()
        parts = []
        for name in self.inputs:
            if name == "gradient":
                parts.append(log_and_sign(g, self.p))
            elif name == "update":
                parts.append(log_and_sign(last, self.p))
            elif name == "momentum":
                parts.append(torch.stack([self._momentum(g, count, b) for b in DECAYS], dim=-1))
            else:
                parts.append(self._change(loss, count)[..., None].expand(*g.shape, 1))
        unit = self.scale * (root if self.step == "relative" else torch.ones_like(g))
        return Observation(torch.cat(parts, dim=-1), unit)

    def _momentum(self, g: torch.Tensor, count: torch.Tensor, decay: float) -> torch.Tensor:
        """The mean of g over the root mean square, both over the last 1 / (1 - decay) steps."""
        mean = self._mean(f"mean {decay}", g, decay)
        square = self.state["square 0.5"]
        if decay != 0.5:
            square = self._mean(f"square {decay}", g.square(), decay)
        correction = 1 - decay**count
        return (mean / correction) / (square / correction + _EPS**2).sqrt()

    def _mean(self, name: str, values: torch.Tensor, decay: float) -> torch.Tensor:
        mean: torch.Tensor = self._get(name, values) * decay + values * (1 - decay)
        self.state[name] = mean
        return mean

    def _change(self, loss: Any, count: torch.Tensor) -> torch.Tensor:
        """How the loss fell [B, 1], in [-1, 1]; 0 at the start."""
        now = self._tensor(loss)[:, None].clone()  # reset() writes into state
        before = self._get("loss", now)
        change = (before - now) / (before.abs() + now.abs() + _EPS)
        self.state["loss"] = now
        return torch.where(count > 1, change, torch.zeros_like(change))

    def _tensor(self, values: Any) -> torch.Tensor:
        return torch.as_tensor(values).to(self.network.output.weight)
