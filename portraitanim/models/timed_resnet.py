"""The resnet of a UNet: diffusers' own, with fewer passes over its maps."""

from __future__ import annotations

from typing import Any, cast

import torch.nn.functional as F
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor


class TimedResnet(ResnetBlock2D):
    """Diffusers' resnet as the UNets have it: no change of size, no dropout, the time step added between convolutions.

    Layers and names are diffusers'. A time step that holds for all rows is added to the bias of the first convolution,
    not to every pixel behind it, and nothing is divided by one.
    """

    def forward(self, input_tensor: Tensor, temb: Tensor) -> Tensor:
        """Change maps.

        Args:
            input_tensor: ``(rows, channels, height, width)``.
            temb: ``(rows or 1, time channels)``.

        Returns:
            ``(rows, out channels, height, width)``.
        """
        layers = cast("Any", self)
        conv, project = layers.conv1, layers.time_emb_proj
        hidden = F.silu(layers.norm1(input_tensor))
        if len(temb) == 1:
            time = F.linear(F.silu(temb), project.weight, project.bias + conv.bias)[0]
            hidden = F.conv2d(hidden, conv.weight, time, conv.stride, conv.padding)
        else:
            hidden = conv(hidden) + project(F.silu(temb))[:, :, None, None]
        hidden = layers.conv2(F.silu(layers.norm2(hidden)))
        if layers.conv_shortcut is not None:
            input_tensor = layers.conv_shortcut(input_tensor)
        return input_tensor + hidden
