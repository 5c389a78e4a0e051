"""Diffusers' gated feed-forward layers, whose two halves are computed one by one."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.models.activations import GEGLU
from diffusers.models.attention import FeedForward
from torch import Tensor


class HalvedGEGLU(GEGLU):
    """Diffusers' ``GEGLU`` with the same parameters and numbers.

    One product gives halves that lie between each other, and all that follows takes twice as long on them. Apart they
    are also changed in place, which halves the memory; in training they are kept, and so together.
    """

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``(..., channels)`` → ``(..., inner channels)``."""
        if torch.is_grad_enabled():
            return super().forward(hidden_states, *args, **kwargs)
        weights, biases = self.proj.weight.chunk(2), self.proj.bias.chunk(2)
        gate = self.gelu(F.linear(hidden_states, weights[1], biases[1]))
        return gate.mul_(F.linear(hidden_states, weights[0], biases[0]))


def feed_forward(channels: int) -> FeedForward:
    """Feed-forward layer of ``(..., channels)`` tokens."""
    return halve_gate(FeedForward(channels, activation_fn="geglu"))


def halve_gate(layer: FeedForward) -> FeedForward:
    """Have a new feed-forward layer of diffusers compute its halves one by one."""
    old = cast("GEGLU", layer.net[0])
    layer.net[0] = HalvedGEGLU(old.proj.in_features, old.proj.out_features // 2)
    return layer
