"""How large a module is and how much it computes, whatever space it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn


class Cost(NamedTuple):
    """The size of a module.

    Attributes:
        parameters: trainable numbers; one that is used twice counts once.
        flops: multiply-adds of a forward pass of one example, each counted once, as NAS-Bench-201
            and most of the literature count them.
    """

    parameters: int
    flops: int


def count(module: nn.Module, input_shape: Sequence[int]) -> Cost:
    """Count the parameters and multiply-adds of ``module`` on one example.

    The module runs once on a batch of one, all zeros, in evaluation mode; it is left as it was.
    Counted, at every call of the layer and wherever in the module it is:

    - convolutions, linear maps and other matrix products, of layers or of functions in a forward
      pass: one per weight and output position; a bias is no more, since a sum may start from it;
    - normalisations: one per number, a scale and a shift;
    - average pooling: one per number of a window; max pooling compares, and adds nothing;
    - recurrent layers and cells of torch: one per weight and time step.

    Activations, sums of branches and whatever else a forward pass does without a layer are not
    counted.

    Args:
        module: takes one float tensor.
        input_shape: of one example, without the axis of the batch.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    products = FlopCounterMode(display=False)  # of matrices, two for a multiply-add
    total = twice = before = 0

    def begin(*_: Any) -> None:
        nonlocal before
        before = products.get_total_flops()

    def note(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal total, twice
        total += _multiply_adds(layer, inputs[0], output)
        twice += products.get_total_flops() - before  # what the layer is made of

    handles = [
        handle
        for layer in module.modules()
        if _is_counted(layer)
        for handle in (layer.register_forward_pre_hook(begin), layer.register_forward_hook(note))
    ]
    modes = {layer: layer.training for layer in module.modules()}
    parameters = [value for value in module.parameters() if value.requires_grad]
    like = next(module.parameters(), torch.empty(0))
    try:
        module.eval()
        with torch.no_grad(), products:
            module(torch.zeros(1, *input_shape, device=like.device, dtype=like.dtype))
    finally:
        for handle in handles:
            handle.remove()
        for layer, mode in modes.items():
            layer.training = mode
    total += (products.get_total_flops() - twice) // 2
    return Cost(sum(value.numel() for value in parameters), total)


def _is_counted(layer: nn.Module) -> bool:
    return isinstance(layer, tuple(kind for kinds in _kinds().values() for kind in kinds))


def _multiply_adds(layer: nn.Module, inputs: torch.Tensor, output: Any) -> int:
    kinds: Any = _kinds()
    weight: Any = getattr(layer, "weight", None)
    if isinstance(layer, kinds["transposed"]):  # every input meets every weight of its channel
        return int(inputs.numel() * weight[0].numel())
    if isinstance(layer, kinds["convolution"]):
        return int(output.numel() * weight[0].numel())
    if isinstance(layer, kinds["linear"]):
        return int(output.numel() * weight.shape[1])
    if isinstance(layer, kinds["normalisation"]):
        return int(output.numel())
    if isinstance(layer, kinds["pooling"]):
        return _window(layer, inputs, output)
    matrices = sum(value.numel() for value in layer.parameters() if value.ndim == 2)
    steps = inputs.numel() // inputs.shape[-1]  # time steps × batch, 1 for a cell
    return int(matrices * steps)


def _window(layer: Any, inputs: torch.Tensor, output: torch.Tensor) -> int:
    size = getattr(layer, "kernel_size", None)
    if size is None:  # adaptive pooling: the windows tile the input
        return int(inputs.numel())
    return int(output.numel() * np.prod(np.broadcast_to(size, inputs.ndim - 2)))


def _kinds() -> dict[str, tuple[type, ...]]:
    from torch import nn

    return {
        "transposed": (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        "convolution": (nn.Conv1d, nn.Conv2d, nn.Conv3d),
        "linear": (nn.Linear,),
        "normalisation": (
            nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm,
        ),
        "pooling": (
            nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
            nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
        ),
        "recurrent": (nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell),
    }  # fmt: skip
