"""The networks of deep transfer: features and a linear head, and what is added to them.

``Network`` is a small multi-layer perceptron, or for images a small convolutional net in the manner
of LeNet. ``coral_distance`` and
``mmd_distance`` are what deep CORAL (Sun & Saenko 2016) and DAN (Long et al. 2015) add to the loss.

Lecture topic: feature transfer with deep networks.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from metagym.errors import InvalidArgumentError, check_positive

MMD_BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # in units of the mean squared distance


class Network(nn.Module):
    """Inputs are standardised, mapped to features, and read by a linear head.

    Args:
        inputs: features of an example.
        classes: outputs of the head.
        image_shape: (height, width) or (channels, height, width) for the convolutional net; None:
            the perceptron.
        filters: of the convolutions of 5 × 5, each followed by max-pooling by 2.
        hidden: widths of the layers of the perceptron, or of those after the convolutions; the
            last one is the width of the features.

    Attributes:
        blocks: the layers before the head, each with its weights, from the input upwards.
        head: the linear one.
        width: of the features.

    Raises:
        InvalidArgumentError: an image of another number of pixels, or too small to pool.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        inputs: int,
        classes: int,
        image_shape: tuple[int, ...] | None = None,
        filters: tuple[int, ...] = (8, 16),
        hidden: tuple[int, ...] = (64,),
    ) -> None:
        super().__init__()
        if not hidden:
            raise InvalidArgumentError("hidden=() leaves no features; give one width at least.")
        for name, values in (("filters", filters), ("hidden", hidden)):
            for value in values:
                check_positive(name, value)
        blocks: list[nn.Module] = []
        self.image_shape, width = None, inputs
        if image_shape is not None:
            self.image_shape = _as_image(image_shape, inputs, len(filters))
            channels, height, side = self.image_shape
            for before, after in pairwise((channels, *filters)):
                blocks.append(
                    nn.Sequential(
                        nn.Conv2d(before, after, 5, padding=2), nn.MaxPool2d(2), nn.ReLU()
                    )
                )
                channels, height, side = after, height // 2, side // 2
            width = channels * height * side
        for before, after in pairwise((width, *hidden)):
            blocks.append(nn.Sequential(nn.Flatten(), nn.Linear(before, after), nn.ReLU()))
        self.blocks = nn.ModuleList(blocks)
        self.width = hidden[-1]
        self.head = nn.Linear(self.width, classes)
        # Images keep one mean and scale for all pixels, so that flat borders stay flat.
        shape = (inputs,) if image_shape is None else ()
        self.register_buffer("shift", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    def standardise(self, x: torch.Tensor) -> None:
        """Take shift and scale from the examples ``x`` [n, inputs]."""
        axes = (0,) if self.shift.ndim else (0, 1)
        deviation, mean = torch.std_mean(x, dim=axes, correction=0)
        self.shift.copy_(mean)
        self.scale.copy_(torch.where(deviation > 1e-8, 1.0 / deviation.clamp_min(1e-8), 1.0))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """[n, inputs] to [n, width]."""
        x = (x - self.shift) * self.scale
        if self.image_shape is not None:
            x = x.unflatten(1, self.image_shape)
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, inputs] to logits [n, classes]."""
        logits: torch.Tensor = self.head(self.features(x))
        return logits


class DomainHead(nn.Module):
    """Features to the logit of "from the target", through one hidden layer."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[n, width] to [n]."""
        logits: torch.Tensor = self.layers(features).squeeze(1)
        return logits


def domain_strength(progress: float, gamma: float = 10.0) -> float:
    """λ_p = 2 / (1 + exp(−γ p)) − 1 for the share p of training that is done: from 0 to 1.

    Source: Ganin et al. (2016), section 5.2.2.
    """
    return 2.0 / (1.0 + math.exp(-gamma * progress)) - 1.0


def coral_distance(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """‖C_S − C_T‖²_F / (4 d²) of the covariances of two batches [n, d] and [m, d].

    Source: Sun & Saenko (2016), equations 1 to 3. A batch of one has the covariance 0.
    """
    difference = _covariance(source) - _covariance(target)
    return difference.square().sum() / (4.0 * source.shape[1] ** 2)


def mmd_distance(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The squared maximum mean discrepancy of two batches [n, d] and [m, d].

    The kernel is a mean of five Gaussians, whose bandwidths are multiples of the mean squared
    distance of the joint batch; the estimate is the biased one, which is never negative.

    Source: Gretton et al. (2012), equation 5, with kernels as in Long et al. (2015).
    """
    joint = torch.cat([source, target])
    distances = torch.cdist(joint, joint, compute_mode="donot_use_mm_for_euclid_dist").square()
    scale = distances.detach().mean().clamp_min(1e-12)
    kernel = torch.stack([torch.exp(-distances / (b * scale)) for b in MMD_BANDWIDTHS]).mean(0)
    n = len(source)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2.0 * kernel[:n, n:].mean()


def weighted_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """The mean of w_i · cross-entropy_i over the batch; the weights have the mean 1 over all data.

    Not divided by the weights of the batch: that would be biased in every batch.
    """
    losses = F.cross_entropy(logits, labels, reduction="none")
    return losses.mean() if weights is None else (weights * losses).mean()


# -- the inside --------------------------------------------------------------------------------


def _covariance(x: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(0)
    return centred.T @ centred / max(1, len(x) - 1)


def _as_image(shape: tuple[int, ...], inputs: int, pools: int) -> tuple[int, int, int]:
    """(channels, height, width), checked."""
    channels, height, width = (1, *shape) if len(shape) == 2 else (*shape, 0, 0, 0)[:3]
    if len(shape) not in (2, 3) or channels * height * width != inputs:
        raise InvalidArgumentError(
            f"image_shape={shape} does not fit examples of {inputs} features; it is (height, width)"
            " or (channels, height, width)."
        )
    if min(height, width) < 2**pools:
        raise InvalidArgumentError(
            f"Images of {height} × {width} pixels are too small to be halved {pools} times; give "
            "fewer filters."
        )
    return int(channels), int(height), int(width)
