"""Batched ReLU networks on flat parameters: n networks of one shape as one array program.

The layout of the flat vector is torch's: for each layer the weights [out, in], then the biases
[out], so that x can be copied into an ``nn.Sequential`` of Linear and ReLU and back.
"""

from __future__ import annotations

import itertools

import numpy as np

from metagym.errors import check_positive


class Network:
    """A fully connected net with ReLU between the layers, and its cross-entropy.

    Args:
        sizes: widths, from the inputs to the classes; two numbers make a linear model.
    """

    def __init__(self, *sizes: int) -> None:
        self.sizes = tuple(check_positive("a layer's width", size) for size in sizes)
        self._layers: list[tuple[slice, slice, int, int]] = []  # weights, biases, out, in
        start = 0
        for fan_in, fan_out in itertools.pairwise(sizes):
            middle, stop = start + fan_in * fan_out, start + (fan_in + 1) * fan_out
            self._layers.append((slice(start, middle), slice(middle, stop), fan_out, fan_in))
            start = stop
        self.dim = start

    def initial(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Weights ~ N(0, 2 / fan_in) (He et al. 2015), biases 0: [n, dim]."""
        x = np.zeros((n, self.dim))
        for weights, _, fan_out, fan_in in self._layers:
            scale = np.sqrt(2 / fan_in)
            x[:, weights] = scale * rng.standard_normal((n, fan_in * fan_out))
        return x

    def logits(self, x: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """Class scores [n, classes, m] of parameters x [n, dim] at inputs [n, m, features]."""
        return self._forward(x, inputs)[-1]

    def loss(self, x: np.ndarray, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The cross-entropy [n], *summed* over the m examples.

        Args:
            x: parameters [n, dim].
            inputs: features [n, m, features]; the computation is in the dtype of x.
            labels: classes [n, m], integers.
        """
        return _cross_entropy(self.logits(x, inputs), labels)[0]

    def loss_and_grad(
        self, x: np.ndarray, inputs: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """``loss`` and its gradient [n, dim]."""
        activations = self._forward(x, inputs)
        loss, delta = _cross_entropy(activations.pop(), labels)  # delta [n, classes, m]
        gradient = np.empty_like(x)
        for weights, biases, fan_out, fan_in in reversed(self._layers):
            below = activations.pop()  # [n, fan_in, m]
            np.matmul(
                delta, below.mT, out=gradient[:, weights].reshape(-1, fan_out, fan_in, copy=False)
            )
            delta.sum(axis=2, out=gradient[:, biases])
            if activations:
                W = x[:, weights].reshape(-1, fan_out, fan_in)
                delta = np.matmul(W.mT, delta)
                delta *= below > 0
        return loss, gradient

    def _forward(self, x: np.ndarray, inputs: np.ndarray) -> list[np.ndarray]:
        """What enters each layer, and the logits: [n, width, m], examples last.

        With the examples last, the sums over classes run over contiguous memory.
        """
        activations = [inputs.astype(x.dtype, copy=False).mT]
        for weights, biases, fan_out, fan_in in self._layers:
            if len(activations) > 1:
                np.maximum(activations[-1], 0, out=activations[-1])
            W = x[:, weights].reshape(-1, fan_out, fan_in)
            z = np.matmul(W, activations[-1])
            z += x[:, biases, None]
            activations.append(z)
        return activations


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The summed cross-entropy [n] and its derivative [n, classes, m]; overwrites the logits."""
    index = labels[:, None, :]
    logits -= logits.max(axis=1, keepdims=True)
    losses = -np.take_along_axis(logits, index, axis=1)[:, 0]
    delta = np.exp(logits, out=logits)
    total = delta.sum(axis=1)
    losses += np.log(total)
    delta /= total[:, None]
    np.put_along_axis(delta, index, np.take_along_axis(delta, index, axis=1) - 1, axis=1)
    return losses.sum(axis=1), delta
