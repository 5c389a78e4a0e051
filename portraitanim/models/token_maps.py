"""Between maps ``(rows, channels, height, width)`` and tokens ``(rows, positions, channels)``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LARGE_POSITIONS = 1024
"""Maps of so many positions lie channels-last on a CPU: torch normalizes smaller ones ten times as slowly there."""


def lay_suited(maps: Tensor, scale: int = 1) -> Tensor:
    """``maps`` ``(rows, channels, height, width)`` as a CPU convolves them fastest; elsewhere as they are.

    Measured in bfloat16: 1.15 times as fast channels-last, and enlarged ten times as fast. Not in training, whose
    normalization needs plain layout (see `motion_module`).

    Args:
        maps: maps.
        scale: factor by which their sides will be enlarged before they are convolved.
    """
    if maps.device.type != "cpu" or torch.is_grad_enabled():
        return maps
    is_large = maps.shape[-2] * maps.shape[-1] * scale**2 >= _LARGE_POSITIONS
    return maps.contiguous(memory_format=torch.channels_last if is_large else torch.contiguous_format)


def as_tokens(maps: Tensor) -> Tensor:
    """Tokens that lie one after another: ``(rows, channels, height, width)`` → ``(rows, height · width, channels)``.

    Layer normalization and sums are several times as slow on a CPU where tokens are a turned view of maps.
    """
    return maps.flatten(2).transpose(1, 2).contiguous()


def project_tokens(layer: nn.Conv2d | nn.Linear, tokens: Tensor) -> Tensor:
    """What a 1x1 convolution, or a linear layer, makes of ``(rows, positions, channels)``.

    Published weights have convolutions here; the product of matrices is the same numbers, without turning the tokens.
    """
    return F.linear(tokens, layer.weight.flatten(1), layer.bias)


def add_tokens(maps: Tensor, tokens: Tensor) -> Tensor:
    """``maps`` ``(rows, channels, height, width)`` and tokens of the same positions, added."""
    turned = tokens.transpose(1, 2)
    if maps.is_contiguous():
        turned = turned.contiguous()  # a sum of two layouts is slower than this copy
    return maps + turned.unflatten(2, maps.shape[-2:])
